# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The names of the release's files, and what they say of a map.

A file of the release is called ``{family}_map_{field}_{band}_{mode}.npy``,
with ``_{aperture}`` behind the mode for the photometric families.
"""

import re
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field

from ks4_ccd._arguments import one_of
from ks4_ccd.exceptions import KS4Error

__all__ = [
    "APERTURES",
    "BANDS",
    "FAMILIES",
    "MODES",
    "MODE_ALIASES",
    "MapKey",
    "normalize_field",
    "parts_of",
]

BANDS = ("B", "V", "R", "I")
MODES = ("single", "dual")
APERTURES = ("FWHM", "APER3", "APER5", "APER10", "AUTO")

# family: (the map that it is part of, its part there)
FAMILIES = {
    "zp": ("zeropoint", "values"),
    "zperr": ("zeropoint", "error"),
    "pstar": ("zeropoint", "count"),
    "align": ("misalignment", "values"),
    "alerr": ("misalignment", "error"),
    "astar": ("misalignment", "count"),
    # Not of the release, but of maps that are built from its star tables.
    "dra": ("offset", "dra"),
    "ddec": ("offset", "ddec"),
    "offerr": ("offset", "error"),
    "offstar": ("offset", "count"),
    "zpedge": ("zeropoint", "edges"),
    "offedge": ("offset", "edges"),
}

# The release writes `Idual` where it means `dual`.
MODE_ALIASES = {"single": "single", "dual": "dual", "Idual": "dual"}

_TILE = r"[0-9]{3}[+-][0-9]{2}"
_FIELD = re.compile(rf"(?P<number>[0-9]{{1,4}})(?:\.(?P<tile>{_TILE}))?")
_FILE_NAME = re.compile(
    rf"(?P<family>[a-z]+)_map_(?P<field>[0-9]{{4}}(?:\.{_TILE})?)_(?P<band>[A-Z])"
    r"_(?P<mode>[A-Za-z]+)(?:_(?P<aperture>[A-Z]+\d*))?\.npy"
)


def normalize_field(name):
    """
    Return the four-digit number of a field, and its tile name if given.

    Parameters
    ----------
    name : str or int
        A field as the release or a header writes it: ``"0403"``, ``403`` or
        ``"0403.122-72"``.

    Returns
    -------
    number : str
        The number of the field, four digits.
    tile : str or `None`
        The tile name (RA and declination in degrees), if ``name`` has it.

    Raises
    ------
    KS4Error
        If ``name`` is not the name of a field.

    Examples
    --------
    >>> from ks4_ccd.release.names import normalize_field
    >>> normalize_field("0403.122-72")
    ('0403', '122-72')
    """
    match = _FIELD.fullmatch(str(name).strip())
    if match is None:
        msg = f"field {name!r} is not a field name: expected '0403' or '0403.122-72'"
        raise KS4Error(msg)
    return f"{int(match['number']):04d}", match["tile"]


def parts_of(kind):
    """
    Return the arrays that a map consists of, and their families.

    Parameters
    ----------
    kind : str
        The kind of the map, such as ``"zeropoint"``.

    Returns
    -------
    needed : dict
        By their names, the families of the arrays that no such map lacks.
    optional : dict
        Those of its error, its count and the edges of its grid.
    """
    families = {part: f for f, (own_kind, part) in FAMILIES.items() if own_kind == kind}
    optional = {
        part: families.pop(part)
        for part in ("error", "count", "edges")
        if part in families
    }
    return families, optional


@dataclass(frozen=True, order=True)
class MapKey:
    """
    What identifies one array of the release.

    Parameters
    ----------
    family : {"zp", "zperr", "pstar", "align", "alerr", "astar", "dra", "ddec", \
"offerr", "offstar"}
        What the array holds: the first part of its file name. The last four
        are not of the release, but of an `~ks4_ccd.OffsetMap`.
    field : str or int
        The field, ``"0403"`` or ``"0403.122-72"``.
    band : {"B", "V", "R", "I"}
        The filter.
    mode : {"single", "dual", "Idual"}
        How the stars were detected; ``"Idual"`` is stored as ``"dual"``.
    aperture : {"FWHM", "APER3", "APER5", "APER10", "AUTO"}, optional
        The aperture of the photometric families; the astrometric ones have
        none.
    tile : str, optional
        The name of the tile, such as ``"122-72"``. Two keys that differ in
        nothing else are equal.

    Raises
    ------
    KS4Error
        If a part is not one of the allowed values.

    Examples
    --------
    >>> from ks4_ccd import MapKey
    >>> key = MapKey.from_filename("zp_map_0403.122-72_R_Idual_APER5.npy")
    >>> key.field, key.band, key.mode, key.aperture
    ('0403', 'R', 'dual', 'APER5')
    >>> key.with_family("zperr").filename
    'zperr_map_0403.122-72_R_dual_APER5.npy'
    """

    family: str
    field: str
    band: str
    mode: str = "single"
    aperture: str | None = None
    tile: str | None = dataclass_field(default=None, compare=False)

    def __post_init__(self):
        one_of("family", self.family, tuple(FAMILIES))
        one_of("band", self.band, BANDS)
        one_of("mode", self.mode, tuple(MODE_ALIASES))
        allowed = APERTURES if self.kind == "zeropoint" else (None,)
        one_of(f"aperture of a {self.family} map", self.aperture, allowed)
        number, tile = normalize_field(self.field)
        if self.tile is not None and not re.fullmatch(_TILE, str(self.tile)):
            msg = (
                f"tile must be the name of a tile, such as '122-72', got {self.tile!r}"
            )
            raise KS4Error(msg)
        object.__setattr__(self, "field", number)
        object.__setattr__(self, "tile", tile or self.tile)
        object.__setattr__(self, "mode", MODE_ALIASES[self.mode])

    @classmethod
    def from_filename(cls, filename):
        """
        Read a key from the base name of a file.

        Parameters
        ----------
        filename : str
            The base name, without folders.

        Returns
        -------
        key : `MapKey`

        Raises
        ------
        KS4Error
            If the name is not one of the release's.
        """
        match = _FILE_NAME.fullmatch(filename)
        if match is None:
            msg = (
                f"{filename!r} is not the name of a map: expected "
                "'{family}_map_{field}_{band}_{mode}[_{aperture}].npy'"
            )
            raise KS4Error(msg)
        return cls(**match.groupdict())

    @property
    def kind(self):
        """The map that the array is part of, such as ``"zeropoint"``."""
        return FAMILIES[self.family][0]

    @property
    def part(self):
        """The array's part in its map, such as ``"values"``, ``"error"``."""
        return FAMILIES[self.family][1]

    @property
    def filename(self):
        """The base name of the array's file, as the release writes it."""
        place = self.field if self.tile is None else f"{self.field}.{self.tile}"
        stem = f"{self.family}_map_{place}_{self.band}_{self.mode}"
        return f"{stem}.npy" if self.aperture is None else f"{stem}_{self.aperture}.npy"

    def with_family(self, family):
        """Return the key of another array of the same map."""
        if FAMILIES.get(family, ("",))[0] != self.kind:
            return replace(self, family=family)
        # All else has been checked: libraries do this for every array they load.
        key = object.__new__(type(self))
        key.__dict__.update(self.__dict__, family=family)
        return key

    def __str__(self):
        words = [f"{self.kind} of field {self.field}", self.band, self.mode]
        return " ".join(words + ([self.aperture] if self.aperture else []))
