# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Identify the arrays of calibration maps, and name their files.

An array is stored in a file ``{family}_map_{field}_{band}_{mode}.npy``, with
``_{aperture}`` after the mode for photometric families. The field may be followed
by ``.{tile}`` and ``@{detector}``. Characters that would make a name ambiguous or
unsafe are written as in URLs: ``M31_north`` as ``M31%5Fnorth``.
"""

import re
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import total_ordering
from urllib.parse import quote, unquote

from ks4_ccd.exceptions import KS4Error, OptionError, one_of

__all__ = ["EMPTY_MARKS", "FAMILIES", "MapKey", "parts_of"]

# The kind of map, and the array in it, of each family.
FAMILIES = {
    "zp": ("zeropoint", "values"),
    "zperr": ("zeropoint", "error"),
    "pstar": ("zeropoint", "count"),
    "align": ("misalignment", "values"),
    "alerr": ("misalignment", "error"),
    "astar": ("misalignment", "count"),
    # Families of maps built from tables of matched stars, which DR1 does not contain.
    "dra": ("offset", "dra"),
    "ddec": ("offset", "ddec"),
    "offerr": ("offset", "error"),
    "offstar": ("offset", "count"),
    "zpedge": ("zeropoint", "edges"),
    "offedge": ("offset", "edges"),
    "aledge": ("misalignment", "edges"),
    "zpcolor": ("zeropoint", "color_term"),
}

# The value of a cell without stars in the files of DR1, by the first family of a map.
EMPTY_MARKS = {"zp": 30.0, "align": 0.0, "dra": 0.0}

_TILE = re.compile(r"[0-9]{3}[+-][0-9]{2}")
_SAFE = re.compile(r"[\w.~+%@-]+", re.ASCII)


def parts_of(kind: str) -> tuple[dict[str, str], dict[str, str]]:
    """
    Return the names and families of the arrays of a map.

    Parameters
    ----------
    kind : str
        The kind of the map, such as ``"zeropoint"``.

    Returns
    -------
    needed : dict
        The families of required arrays, by the name of the array.
    optional : dict
        The families of error, count, the edges of the grid and the colour term, by
        name.
    """
    families = {part: f for f, (own_kind, part) in FAMILIES.items() if own_kind == kind}
    optional: dict[str, str] = {
        part: families.pop(part)
        for part in ("error", "count", "edges", "color_term")
        if part in families
    }
    return families, optional


@total_ordering
@dataclass(frozen=True)
class MapKey:
    """
    The identity of one array of a calibration map.

    Parameters
    ----------
    family : {"zp", "zperr", "pstar", "align", "alerr", "astar", "dra", "ddec", \
"offerr", "offstar", "zpedge", "offedge", "aledge", "zpcolor"}
        The content of the array: the first part of its file name.
    field : str or int
        The field. A tile name in it, as in ``"0403.122-72"``, becomes ``tile``.
    band : str
        The filter.
    mode : str, optional
        How the stars were detected.
    aperture : str, optional
        The aperture; required for the families of zero-point maps, not allowed for
        others.
    tile : str, optional
        The name of the tile, such as ``"122-72"``. It is not compared: keys that
        differ only in it are equal.
    detector : str, optional
        The detector, for maps in the pixels of one detector of a camera.

    Raises
    ------
    OptionError
        If the family is unknown, another part is empty or not a string, or the
        aperture of a zero-point map is missing.

    Notes
    -----
    All names but the family are free strings, so that maps of any camera can have
    keys. The names of KS4 are listed in ``ks4_ccd.ks4.names``.

    Examples
    --------
    >>> from ks4_ccd import MapKey
    >>> key = MapKey.from_filename("zp_map_0403.122-72_R_dual_APER5.npy")
    >>> key.field, key.tile, key.band, key.mode, key.aperture
    ('0403', '122-72', 'R', 'dual', 'APER5')
    >>> key.with_family("zperr").filename
    'zperr_map_0403.122-72_R_dual_APER5.npy'
    >>> MapKey("zp", "M31_north", "g", aperture="AUTO", detector="ccd3").filename
    'zp_map_M31%5Fnorth@ccd3_g_single_AUTO.npy'
    """

    family: str
    field: str
    band: str
    mode: str = "single"
    aperture: str | None = None
    tile: str | None = dataclass_field(default=None, compare=False)
    detector: str | None = None

    def __post_init__(self) -> None:
        one_of("family", self.family, tuple(FAMILIES))
        field = self.field
        if isinstance(field, int) and not isinstance(field, bool) and field >= 0:
            field = str(field)
        if self.kind != "zeropoint" and self.aperture is not None:
            msg = (
                f"aperture must be None in the key of family {self.family!r}, because "
                f"{self.kind} maps have no aperture, got {self.aperture!r}"
            )
            raise OptionError(msg)
        given: dict[str, str | None] = {"field": field}
        given |= {"band": self.band, "mode": self.mode}
        if self.kind == "zeropoint":
            given["aperture"] = self.aperture
        if self.detector is not None:
            given["detector"] = self.detector
        for name, value in given.items():
            if not _is_name(value):
                msg = f"{name} must be a string that is not empty, got {value!r}"
                raise OptionError(msg)
        number, _, tile = field.rpartition(".")
        if number and _TILE.fullmatch(tile) and self.tile in (None, tile):
            object.__setattr__(self, "tile", tile)
            field = number
        elif self.tile is not None and not _TILE.fullmatch(str(self.tile)):
            msg = (
                f"tile must be the name of a tile, such as '122-72', got {self.tile!r}"
            )
            raise OptionError(msg)
        object.__setattr__(self, "field", field)

    @classmethod
    def from_filename(cls, filename: str) -> "MapKey":
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
            If the name is not that of a map.
        """
        stem, dot, suffix = filename.rpartition(".")
        family, _, rest = stem.partition("_map_")
        place, *parts = rest.split("_")
        number = 3 if FAMILIES.get(family, ("",))[0] == "zeropoint" else 2
        field, at, detector = place.partition("@")
        try:
            names = [unquote(name, errors="strict") for name in (field, *parts)]
            detector = unquote(detector, errors="strict")
        except UnicodeDecodeError:
            names = []
        is_valid = dot + suffix == ".npy" and len(parts) == number and names
        if not (is_valid and _SAFE.fullmatch(rest)):
            msg = (
                f"{filename!r} is not the name of a map: expected "
                "'{family}_map_{field}_{band}_{mode}[_{aperture}].npy'"
            )
            raise KS4Error(msg)
        field, band, mode, *apertures = names
        return cls(
            *(family, field, band, mode),
            aperture=apertures[0] if apertures else None,
            detector=detector if at else None,
        )

    @property
    def kind(self) -> str:
        """The kind of map that the array is part of, such as ``"zeropoint"``."""
        return FAMILIES[self.family][0]

    @property
    def part(self) -> str:
        """The name of the array in its map, such as ``"values"`` or ``"error"``."""
        return FAMILIES[self.family][1]

    @property
    def place(self) -> str:
        """
        The field, with ``@`` and the detector if the key has one.

        ``@`` and ``%`` in the names themselves are written as in URLs.
        """
        field, *detector = (
            name.replace("%", "%25").replace("@", "%40")
            for name in (self.field, self.detector)
            if name is not None
        )
        return "@".join([field, *detector])

    @staticmethod
    def split_place(place: str) -> tuple[str, str | None]:
        """Return the field and the detector from a value of `place`."""
        field, at, detector = place.partition("@")
        return unquote(field), unquote(detector) if at else None

    @property
    def filename(self) -> str:
        """The base name of the array's file."""
        place = _quote(self.field)
        if self.tile is not None:
            place += f".{self.tile}"
        if self.detector is not None:
            place += f"@{_quote(self.detector)}"
        words = [place, *map(_quote, (self.band, self.mode))]
        if self.aperture is not None:
            words.append(_quote(self.aperture))
        return f"{self.family}_map_{'_'.join(words)}.npy"

    def with_family(self, family: str) -> "MapKey":
        """
        Return the key with another family.

        Parameters
        ----------
        family : str
            The family, for example of another array of the same map.

        Returns
        -------
        key : `MapKey`

        Raises
        ------
        OptionError
            If the family is unknown, or if only one of the two families has an
            aperture.
        """
        if FAMILIES.get(family, ("",))[0] != self.kind:
            return replace(self, family=family)
        # Parts need no check, which would slow down the loading of libraries.
        key = object.__new__(type(self))
        key.__dict__.update(self.__dict__, family=family)
        return key

    def _order(self) -> tuple[str, ...]:
        return self.family, self.place, self.band, self.mode, self.aperture or ""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, MapKey):
            return NotImplemented
        return self._order() < other._order()

    def __str__(self) -> str:
        words = [f"{self.kind} of field {self.place}", self.band, self.mode]
        return " ".join(words + ([self.aperture] if self.aperture else []))


def _is_name(value: object) -> bool:
    """Return whether a value is a string that can be part of a file name."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quote(name: str) -> str:
    """Quote a name for a file name."""
    return quote(name, safe="+").replace("_", "%5F")
