# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read the columns of source catalogs by their names in each flavour.

A flavour is an entry of `PRESETS`: all functions and the command accept its name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TypeAlias

import numpy as np
from astropy import units as u
from astropy.table import Table

from ks4_ccd.exceptions import KS4Error, OptionError
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
    "names_of",
    "pixel_column",
    "plain_column",
    "unit_of",
]

# A column, or several columns of which the first in the catalog is used.
Names: TypeAlias = str | Sequence[str]
# Such a column, or an element of a vector column.
_Location: TypeAlias = str | Sequence[str] | tuple[str, int]
Unit: TypeAlias = u.UnitBase | u.FunctionUnitBase


@dataclass(frozen=True)
class SourceColumns:
    """
    Names of the columns of a source catalog.

    Of a tuple of names the first one in the catalog is used; for ``x`` and ``y``, and
    for ``ra`` and ``dec``, the first pair in the catalog.

    Parameters
    ----------
    x, y : str or tuple of str
        Pixel coordinates.
    ra, dec : str or tuple of str, optional
        Sky coordinates (ICRS), in degrees unless they have a unit.
    sky : str or tuple of str, optional
        A column of `~astropy.coordinates.SkyCoord`, instead of ``ra`` and ``dec``.
    magnitudes, errors : dict, optional
        Columns of magnitudes and of their uncertainties by the name of the
        aperture, such as ``{"AUTO": "MAG_AUTO"}``; an element of a vector column
        is a pair, ``("MAG_APER", 2)``.
    vector, vector_errors : str, optional
        The column of several apertures: a vector column, or the first of a series
        of columns whose names end in ``_1``, ``_2``.
    fluxes : bool, optional
        Whether these columns contain fluxes instead of magnitudes.
    first_pixel : float, optional
        The coordinate of the centre of the first pixel: 1 in FITS and
        SExtractor, 0 in photutils.
    flags : tuple of str, optional
        Columns of flags that are 0 for good sources.
    star_class : str, optional
        A column that exceeds 0.8 for stars.

    Raises
    ------
    OptionError
        If a parameter is not of the type listed here.

    Notes
    -----
    The presets ``"sextractor"`` and ``"photutils"`` of the ``columns`` arguments are
    the columns that these programs write.

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
        """Check the types: a wrong type must not appear to be a missing column."""
        if isinstance(self.flags, str):
            # Otherwise its letters would be the columns, and no source be cut.
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
            raise OptionError(msg)


def _is_names(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, tuple | list) and all(isinstance(v, str) for v in value)
    )


def _is_location(value: object) -> bool:
    """Return whether the value is one or more columns, or an element of a column."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return isinstance(value[0], str) and isinstance(value[1], str | int)
    return _is_names(value) and bool(value)


# The flavours of catalogs by the names that ``columns`` arguments accept.
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
    Return a ``columns`` argument as `SourceColumns`.

    Parameters
    ----------
    columns : str, `SourceColumns` or dict
        The name of a preset (a key of `PRESETS`), or column names; the keys of a dict
        are parameters of `SourceColumns`.

    Returns
    -------
    columns : `SourceColumns`

    Raises
    ------
    OptionError
        If the argument is none of these.
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
            raise OptionError(msg)
        return SourceColumns(**columns)
    if isinstance(columns, str) and columns in PRESETS:
        return PRESETS[columns]
    msg = (
        f"columns must be one of {', '.join(PRESETS)}, or a dict of column names, "
        f"got {columns!r}"
    )
    raise OptionError(msg)


def names_of(columns: SourceColumns, what: str) -> tuple[str, ...]:
    """Return the names that a parameter of `SourceColumns` has."""
    names = getattr(columns, what)
    return (names,) if isinstance(names, str) else tuple(names or ())


# Pipelines write values such as 99, -99, 99.999 and 999 for a missing measurement.
# Magnitudes and their uncertainties are smaller.
NOT_MEASURED = 90.0

# Spellings of units in tables, in lower case, that astropy misreads or does not read;
# `parse_unit` adds those in images.
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
# Units with equal numbers.
_COUNTS = (u.adu, u.DN, u.ct, u.dimensionless_unscaled)


def unit_of(column: object) -> Unit | None:
    """
    Return the unit of a column in any spelling.

    Parameters
    ----------
    column : `~astropy.table.Column`, `~astropy.units.Quantity` or other mixin

    Returns
    -------
    unit : `~astropy.units.UnitBase`, `~astropy.units.FunctionUnitBase` or `None`
        Spellings such as ``[mag]``, ``mags``, ``Mag``, ``DEGREE`` and ``degrees`` are
        accepted. A unit that cannot be parsed is an
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
    # astropy reads fewer units in FITS tables than in its own format, and turns
    # unknown words in VOTables into new units.
    try:
        return parse_unit(text)
    except ValueError:
        return unit


def _spelled(match: re.Match[str]) -> str:
    return _SPELLINGS.get(match[0].lower(), match[0])


def is_measured(values: np.ndarray) -> np.ndarray:
    """Return which magnitudes, or uncertainties of magnitudes, are measurements."""
    return np.abs(values) < NOT_MEASURED


def plain_column(table: Table, name: str, element: int | None = None) -> np.ndarray:
    """
    Return a column as floats, NaN where it is masked.

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
        If the column does not contain one number per row.
    OptionError
        If the column has no such element.
    """
    column = table[name]
    values = getattr(column, "value", column)
    mask = None
    if np.ma.isMA(values):
        mask = np.ma.getmaskarray(values)
    elif hasattr(values, "unmasked"):
        # Masked quantities are of astropy's own masked class.
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
            raise OptionError(msg)
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
    Return a column as floats in a given unit, NaN where it is masked.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    unit : `~astropy.units.Unit`
        Also assumed for a column without a unit or with a blank unit.

    Returns
    -------
    values : 1D `~numpy.ndarray`

    Raises
    ------
    KS4Error
        If the column does not contain numbers in an equivalent unit.
    """
    values = plain_column(table, name)
    own = unit_of(table[name])
    # Units in VOTables and ECSV files may be blank.
    if own is None or own in (unit, u.dimensionless_unscaled):
        return values
    try:
        return own.to(unit, values)
    except (u.UnitConversionError, ValueError) as error:
        # ValueError: astropy could not parse the unit.
        msg = f"column {name}: expected {unit} or an equivalent unit, found {own}"
        raise KS4Error(msg) from error


def pixel_column(table: Table, name: str) -> np.ndarray:
    """
    Return a column of pixel coordinates, NaN where it is masked.

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
    Return a column of magnitudes, or of uncertainties of magnitudes.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    element : int, optional
        The element of a vector column.

    Returns
    -------
    magnitudes : 1D `~numpy.ndarray`
        NaN for missing measurements: masked, not finite, or 90 or more in absolute
        value.

    Raises
    ------
    KS4Error
        If the column does not contain magnitudes.
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
    """Return instrumental or AB magnitudes, and refuse other magnitudes."""
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
        # Other logarithmic units (dex, dB) increase with the flux.
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
    Return a column of fluxes, or of their uncertainties, in the unit of a map.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    element : int, optional
        The element of a vector column.
    target : `~astropy.units.UnitBase`, optional
        The unit of the images that the map applies to; also assumed for a column
        without a unit.

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
            steps.append("divide by the gain (electrons per adu)")
        if bases & {u.s, u.min, u.h}:
            steps.append("multiply by the exposure time")
        if steps:
            return f"{' and '.join(steps)}, the uncertainties, too"
    return f"a physical flux needs no zero point; convert other units to {target}"
