# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the columns of source catalogs are called, by SExtractor and photutils."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.release.names import APERTURES

__all__ = ["PRESETS", "SourceColumns", "as_columns"]


@dataclass(frozen=True)
class SourceColumns:
    """
    Which columns of a source catalog hold what.

    Where a tuple of names is given, the first that the catalog has is used; of
    ``x`` and ``y``, and of ``ra`` and ``dec``, the first pair that it has.

    Parameters
    ----------
    x, y : str or tuple of str
        Pixel coordinates.
    ra, dec : str or tuple of str, optional
        Sky coordinates, in degrees if they have no unit.
    sky : str or tuple of str, optional
        A column of `~astropy.coordinates.SkyCoord`, instead of the two.
    magnitudes, errors : dict, optional
        Columns by the name of the aperture, such as ``{"AUTO": "MAG_AUTO"}``;
        one element of a vector column is a pair, ``("MAG_APER", 2)``.
    vector, vector_errors : str, optional
        The column with several apertures: a vector, or the first of columns
        whose names go on with ``_1``, ``_2``.
    fluxes : bool, optional
        Whether these columns hold fluxes instead of magnitudes.
    first_pixel : float, optional
        The coordinate of the centre of the first pixel: 1 in FITS and
        SExtractor, 0 in photutils.
    flags : tuple of str, optional
        Columns that are 0 for a good source.
    star_class : str, optional
        A column that is above 0.8 for a star.
    """

    x: str | tuple
    y: str | tuple
    ra: str | tuple = ()
    dec: str | tuple = ()
    sky: str | tuple = ()
    magnitudes: Mapping = field(default_factory=dict)
    errors: Mapping = field(default_factory=dict)
    vector: str | None = None
    vector_errors: str | None = None
    fluxes: bool = False
    first_pixel: float = 1
    flags: tuple = ()
    star_class: str | None = None

    def __post_init__(self):
        """Refuse what would pass for no column, or fail far from here."""
        if isinstance(self.flags, str):
            # Its letters are no columns: without this, nothing would be cut.
            object.__setattr__(self, "flags", (self.flags,))
        for name in ("x", "y", "ra", "dec", "sky", "flags"):
            self._check(name, _is_names(getattr(self, name)), "a name or some names")
        for name in ("vector", "vector_errors", "star_class"):
            value = getattr(self, name)
            self._check(name, isinstance(value, str | None), "a name")
        for name in ("magnitudes", "errors"):
            value = getattr(self, name)
            is_dict = isinstance(value, Mapping) and all(map(_is_place, value.values()))
            self._check(name, is_dict, "a dict of columns by the names of apertures")
        is_number = isinstance(self.first_pixel, Real)
        self._check("first_pixel", is_number, "a number")

    def _check(self, name, is_right, wanted):
        if not is_right:
            msg = f"{name} of columns must be {wanted}, got {getattr(self, name)!r}"
            raise KS4Error(msg)


def _is_names(value):
    return isinstance(value, str) or (
        isinstance(value, tuple | list) and all(isinstance(v, str) for v in value)
    )


def _is_place(value):
    """Return whether this is a column, several, or an element of one."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return isinstance(value[0], str) and isinstance(value[1], str | int)
    return _is_names(value) and len(value) > 0


_SEXTRACTOR = SourceColumns(
    x=("X_IMAGE", "X_IMAGE_DBL", "XWIN_IMAGE"),
    y=("Y_IMAGE", "Y_IMAGE_DBL", "YWIN_IMAGE"),
    ra=("ALPHA_J2000", "ALPHAWIN_J2000", "ALPHA_SKY"),
    dec=("DELTA_J2000", "DELTAWIN_J2000", "DELTA_SKY"),
    magnitudes={aperture: f"MAG_{aperture}" for aperture in APERTURES},
    errors={aperture: f"MAGERR_{aperture}" for aperture in APERTURES},
    vector="MAG_APER",
    vector_errors="MAGERR_APER",
    flags=("FLAGS", "IMAFLAGS_ISO"),
    star_class="CLASS_STAR",
)

_PHOTUTILS = SourceColumns(
    x=("xcentroid", "x_centroid", "xcenter", "x_center", "x_fit"),
    y=("ycentroid", "y_centroid", "ycenter", "y_center", "y_fit"),
    sky=("sky_centroid", "sky_center"),
    magnitudes={"AUTO": "kron_flux"},
    errors={"AUTO": ("kron_fluxerr", "kron_flux_err")},
    vector="aperture_sum",
    vector_errors="aperture_sum_err",
    fluxes=True,
    first_pixel=0,
    flags=("flags",),
)

PRESETS = {"sextractor": _SEXTRACTOR, "photutils": _PHOTUTILS}


def as_columns(columns):
    """
    Return the columns that an argument means.

    Parameters
    ----------
    columns : {"sextractor", "photutils"}, `SourceColumns` or dict
        A preset, or names of one's own.

    Returns
    -------
    columns : `SourceColumns`

    Raises
    ------
    KS4Error
        If it is none of these.
    """
    if isinstance(columns, SourceColumns):
        return columns
    if isinstance(columns, Mapping):
        known = {part.name for part in fields(SourceColumns)}
        unknown = set(columns) - known
        if unknown or not {"x", "y"} <= set(columns):
            msg = (
                "columns must name x and y and may name "
                f"{', '.join(sorted(known - {'x', 'y'}))}; got "
                f"{', '.join(map(str, columns)) or 'nothing'}"
            )
            raise KS4Error(msg)
        return SourceColumns(**columns)
    if isinstance(columns, str) and columns in PRESETS:
        return PRESETS[columns]
    msg = (
        f"columns must be one of {', '.join(PRESETS)}, or a dict of column names, "
        f"got {columns!r}"
    )
    raise KS4Error(msg)
