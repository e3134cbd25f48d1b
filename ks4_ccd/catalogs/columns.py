# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read the columns of source catalogs, by their names in each flavour of catalog.

A flavour is one entry of `PRESETS`: functions, and the options of the command,
take its name from there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TypeAlias

import numpy as np
from astropy import units as u
from astropy.table import Table

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.files.units import conversion, parse_unit
from ks4_ccd.ks4.names import APERTURES

__all__ = [
    "NOT_MEASURED",
    "PRESETS",
    "Names",
    "SourceColumns",
    "as_columns",
    "column_in",
    "counts_column",
    "is_measured",
    "magnitude_column",
    "pixel_column",
    "plain_column",
    "unit_of",
]

# A column, or several of which the first that exists is used.
Names: TypeAlias = str | Sequence[str]
# The same, or an element of a vector column.
_Location: TypeAlias = str | Sequence[str] | tuple[str, int]
Unit: TypeAlias = u.UnitBase | u.FunctionUnitBase


@dataclass(frozen=True)
class SourceColumns:
    """
    Names of the columns of a source catalog.

    Where a tuple of names is given, the first one in the catalog is used; of
    ``x`` and ``y``, and of ``ra`` and ``dec``, the first pair in the catalog.

    Parameters
    ----------
    x, y : str or tuple of str
        Pixel coordinates.
    ra, dec : str or tuple of str, optional
        Sky coordinates (ICRS), in degrees if they have no unit.
    sky : str or tuple of str, optional
        A column of `~astropy.coordinates.SkyCoord`, instead of ``ra`` and ``dec``.
    magnitudes, errors : dict, optional
        Columns by the name of the aperture, such as ``{"AUTO": "MAG_AUTO"}``;
        an element of a vector column is a pair, ``("MAG_APER", 2)``.
    vector, vector_errors : str, optional
        The column with several apertures: a vector, or the first of a series of
        columns whose names end in ``_1``, ``_2``.
    fluxes : bool, optional
        Whether these columns hold fluxes instead of magnitudes.
    first_pixel : float, optional
        The coordinate of the centre of the first pixel: 1 in FITS and
        SExtractor, 0 in photutils.
    flags : tuple of str, optional
        Columns that are 0 for a good source.
    star_class : str, optional
        A column that is above 0.8 for a star.

    Raises
    ------
    KS4Error
        If a parameter is not of the type listed here.

    Notes
    -----
    The presets ``"sextractor"`` and ``"photutils"`` of the ``columns`` arguments
    stand for the columns that these programs write.

    Examples
    --------
    A catalog with its own column names and 0-based pixel coordinates:

    >>> from astropy.table import Table
    >>> from ks4_ccd import MapGrid, SourceColumns, ZeroPointMap, calibrate_catalog
    >>> columns = SourceColumns(
    ...     x="col", y="row", magnitudes={"AUTO": "mag"}, first_pixel=0
    ... )
    >>> table = Table({"col": [24.0, 49.0], "row": [24.0, 24.0], "mag": [-10.0, -9.0]})
    >>> zpmap = ZeroPointMap([[29.9], [30.1]], grid=MapGrid((2, 1), 50))
    >>> calibrated = calibrate_catalog(
    ...     table, {"AUTO": zpmap}, columns=columns, zp_error="ignore"
    ... )
    >>> print(calibrated["col", "MAG_AUTO", "ZP_AUTO"])
    col  MAG_AUTO ZP_AUTO
           mag      mag
    ---- -------- -------
    24.0     19.9    29.9
    49.0     21.0    30.0
    """

    x: Names
    y: Names
    ra: Names = ()
    dec: Names = ()
    sky: Names = ()
    magnitudes: Mapping[str, _Location] = field(default_factory=dict)
    errors: Mapping[str, _Location] = field(default_factory=dict)
    vector: str | None = None
    vector_errors: str | None = None
    fluxes: bool = False
    first_pixel: float = 1
    flags: Names = ()
    star_class: str | None = None

    def __post_init__(self) -> None:
        """Check the types, so that a mistake does not pass for a missing column."""
        if isinstance(self.flags, str):
            # Otherwise its letters would be the columns, and nothing be cut.
            object.__setattr__(self, "flags", (self.flags,))
        for name in ("x", "y", "ra", "dec", "sky", "flags"):
            self._check(name, _is_names(getattr(self, name)), "a name or several names")
        for name in ("vector", "vector_errors", "star_class"):
            value = getattr(self, name)
            self._check(name, isinstance(value, str | None), "a name")
        for name in ("magnitudes", "errors"):
            value = getattr(self, name)
            is_dict = isinstance(value, Mapping) and all(
                map(_is_location, value.values())
            )
            self._check(name, is_dict, "a dict of columns by aperture")
        is_number = isinstance(self.first_pixel, Real)
        self._check("first_pixel", is_number, "a number")

    def _check(self, name: str, is_right: bool, expected: str) -> None:
        if not is_right:
            msg = (
                f"{name} of columns: expected {expected}, found {getattr(self, name)!r}"
            )
            raise KS4Error(msg)


def _is_names(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, tuple | list) and all(isinstance(v, str) for v in value)
    )


def _is_location(value: object) -> bool:
    """Return whether this is a column, several columns, or an element of one."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return isinstance(value[0], str) and isinstance(value[1], str | int)
    return _is_names(value) and bool(value)


# The flavours of catalogs, by the names that ``columns`` accepts.
PRESETS: dict[str, SourceColumns] = {
    "sextractor": SourceColumns(
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
    ),
    "photutils": SourceColumns(
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
    ),
}


def as_columns(columns: str | SourceColumns | Mapping) -> SourceColumns:
    """
    Return the column names that a ``columns`` argument stands for.

    Parameters
    ----------
    columns : str, `SourceColumns` or dict
        The name of a preset (a key of `PRESETS`), or column names; a dict has the
        parameters of `SourceColumns`.

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
        allowed = {part.name for part in fields(SourceColumns)}
        unknown = set(columns) - allowed
        if unknown or not {"x", "y"} <= set(columns):
            msg = (
                "columns: expected the keys x and y, and optionally "
                f"{', '.join(sorted(allowed - {'x', 'y'}))}; found "
                f"{', '.join(map(str, columns)) or 'none'}"
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


# Pipelines write 99, -99, 99.999, 999 and the like for a missing measurement: no
# magnitude, and no uncertainty of a magnitude, is that large.
NOT_MEASURED = 90.0

# Lower-case words in the units of tables that astropy misreads or does not read, and
# the units that they stand for; `parse_unit` adds those of images.
_SPELLINGS = {
    spelling: unit
    for unit, spellings in {
        "mag": "mag mags magnitude magnitudes",
        "mag(AB)": "abmag abmags magab",
        "deg": "deg degs degree degrees",
        "arcsec": "arcsec arcsecs arcsecond arcseconds",
        "mas": "mas milliarcsec milliarcsecs milliarcsecond milliarcseconds",
        "rad": "rad radian radians",
        "yr": "yr yrs year years",
    }.items()
    for spelling in spellings.split()
}
_AB_MAGNITUDE = re.compile(r"(AB[\s_]+mags?|mags?[\s_]*\[?AB\]?|mags?\s+\(AB\))", re.I)
_NO_UNIT = re.compile(r"-*|none|null|n/a|unitless", re.I)
# Units of the same numbers.
_COUNTS = (u.adu, u.DN, u.ct, u.dimensionless_unscaled)


def unit_of(column: object) -> Unit | None:
    """
    Return the unit of a column, whatever its spelling.

    Parameters
    ----------
    column : `~astropy.table.Column`, `~astropy.units.Quantity` or other mixin

    Returns
    -------
    unit : `~astropy.units.UnitBase`, `~astropy.units.FunctionUnitBase` or `None`
        ``[mag]``, ``mags``, ``Mag``, ``DEGREE``, ``degrees`` and the like are
        the units that they abbreviate. A unit that cannot be parsed is an
        `~astropy.units.UnrecognizedUnit`.
    """
    unit = getattr(column, "unit", None)
    if unit is None:
        return None
    text = original = str(unit)
    text = text.replace("[", " ").replace("]", " ").strip(" \t'\"")
    if _NO_UNIT.fullmatch(text):
        return None if original else unit
    if _AB_MAGNITUDE.fullmatch(text):
        text = "mag(AB)"
    else:
        text = re.sub("[A-Za-z]+", _spelled, text)
    # Readers of FITS accept fewer units than astropy's own format, and those of
    # VOTable make new units of unknown words.
    try:
        return parse_unit(text)
    except ValueError:
        return unit


def _spelled(match: re.Match[str]) -> str:
    return _SPELLINGS.get(match[0].lower(), match[0])


def is_measured(values: np.ndarray) -> np.ndarray:
    """Return which magnitudes, or their uncertainties, are measurements."""
    return np.abs(values) < NOT_MEASURED


def plain_column(table: Table, name: str, element: int | None = None) -> np.ndarray:
    """
    Return a column as floats: NaN where it is masked.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    element : int, optional
        The element of a vector column.

    Returns
    -------
    values : 1D `~numpy.ndarray`
        A copy, float64, in the unit of the column.

    Raises
    ------
    KS4Error
        If the column does not hold one number per row.
    """
    column = table[name]
    values = getattr(column, "value", column)
    mask = None
    if np.ma.isMA(values):
        mask = np.ma.getmaskarray(values)
    elif hasattr(values, "unmasked"):
        # astropy's own masked arrays, which quantities have.
        values, mask = values.unmasked, np.asarray(values.mask)
    values = np.asarray(values)
    if values.dtype.kind not in "iufb":
        example = f", such as {values.flat[0]!r:.40}" if values.size else ""
        msg = (
            f"column {name}: expected numbers, found {values.dtype}{example}; convert "
            f"them first (decimal numbers with table[{name!r}].astype(float))"
        )
        raise KS4Error(msg)
    values = values.astype(float)
    if mask is not None:
        values[mask] = np.nan
    if element is not None and values.ndim == 2:
        if not 0 <= element < values.shape[1]:
            msg = (
                f"column {name}: expected an element from 0 to "
                f"{values.shape[1] - 1}, got {element}"
            )
            raise KS4Error(msg)
        values = values[:, element]
    if values.ndim != 1:
        msg = (
            f"column {name}: expected one number per row, found arrays of shape "
            f"{values.shape[1:]}; specify an element as a pair, ({name!r}, 0)"
        )
        raise KS4Error(msg)
    return values


def column_in(table: Table, name: str, unit: u.UnitBase) -> np.ndarray:
    """
    Return a column as floats in a given unit: NaN where it is masked.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    unit : `~astropy.units.Unit`
        Also assumed for a column without a unit, or with a blank one.

    Returns
    -------
    values : 1D `~numpy.ndarray`

    Raises
    ------
    KS4Error
        If the column does not hold numbers in an equivalent unit.
    """
    values = plain_column(table, name)
    own = unit_of(table[name])
    # VOTables and ECSV files may have units that are blank.
    if own is None or own in (unit, u.dimensionless_unscaled):
        return values
    try:
        return own.to(unit, values)
    except (u.UnitConversionError, ValueError) as error:
        # ValueError: a unit that astropy cannot read.
        msg = f"column {name}: expected {unit} or an equivalent unit, found {own}"
        raise KS4Error(msg) from error


def pixel_column(table: Table, name: str) -> np.ndarray:
    """
    Return a column of pixel coordinates: NaN where it is masked.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str

    Returns
    -------
    values : 1D `~numpy.ndarray`

    Raises
    ------
    KS4Error
        If the column has a unit other than pixels.
    """
    return column_in(table, name, u.pix)


def magnitude_column(table: Table, name: str, element: int | None = None) -> np.ndarray:
    """
    Return a column of magnitudes, or of their uncertainties.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    element : int, optional
        The element of a vector column.

    Returns
    -------
    magnitudes : 1D `~numpy.ndarray`
        NaN where there is no measurement: masked, not finite, or 90 or more in
        absolute value.

    Raises
    ------
    KS4Error
        If the column does not hold magnitudes.
    """
    values = plain_column(table, name, element)
    unit = unit_of(table[name])
    if unit is not None and unit != u.dimensionless_unscaled:
        if isinstance(unit, u.MagUnit):
            values = _magnitudes_of(unit, values, name)
        elif not _is_magnitude(unit):
            msg = (
                f"column {name}: expected magnitudes, found the unit {unit}; declare "
                "fluxes (columns= with fluxes=True) or convert them"
            )
            raise KS4Error(msg)
        elif unit != u.mag:
            values = unit.to(u.mag, values)
    values[~is_measured(values)] = np.nan
    return values


def _magnitudes_of(unit: u.MagUnit, values: np.ndarray, name: str) -> np.ndarray:
    """Return instrumental or AB magnitudes, and refuse all others."""
    physical = unit.physical_unit
    if any(physical == counts for counts in _COUNTS):
        return values
    try:
        return unit.to(u.ABmag, values)
    except u.UnitsError as error:
        msg = f"column {name}: expected instrumental or AB magnitudes, found {unit}"
        raise KS4Error(msg) from error


def _is_magnitude(unit: Unit) -> bool:
    try:
        # Decades and decibels increase with the flux.
        return unit.is_equivalent(u.mag) and unit.to(u.mag) > 0
    except (ValueError, u.UnitsError):
        return False


def counts_column(
    table: Table,
    name: str,
    element: int | None = None,
    target: u.UnitBase = u.adu,
) -> np.ndarray:
    """
    Return a column of fluxes in the unit of a map, or of their uncertainties.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    element : int, optional
        The element of a vector column.
    target : `~astropy.units.UnitBase`, optional
        The unit of the images that the map is made for; also assumed for a
        column without a unit.

    Returns
    -------
    counts : 1D `~numpy.ndarray`
        NaN where masked or not finite.

    Raises
    ------
    KS4Error
        If the column has another unit: electrons, a rate or a physical flux.
    """
    values = plain_column(table, name, element)
    unit = unit_of(table[name])
    if unit is not None and unit != u.dimensionless_unscaled:
        factor = conversion(unit, target)
        if factor is None:
            msg = (
                f"column {name}: expected fluxes in {target}, the unit of the images "
                f"of the map, found {unit}; {_remedy(unit, target)}"
            )
            raise KS4Error(msg)
        if factor != 1:
            values *= factor
    values[~np.isfinite(values)] = np.nan
    return values


def _remedy(unit: Unit, target: u.UnitBase) -> str:
    bases = set(getattr(unit, "bases", ()))
    if bases and bases <= {*_COUNTS, u.electron, u.ph, u.s, u.min, u.h}:
        steps = []
        if bases & {u.electron, u.ph} and conversion(target, u.adu) is not None:
            steps.append("divide it by the gain (electrons per adu)")
        if bases & {u.s, u.min, u.h}:
            steps.append("multiply it by the exposure time")
        if steps:
            return f"{' and '.join(steps)}, and its errors as well"
    return f"a physical flux needs no zero point, convert any other to {target}"
