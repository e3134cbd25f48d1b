# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Columns of tables as plain floats in a known unit, NaN where there is none."""

import numpy as np
from astropy import units as u

from ks4_ccd.exceptions import KS4Error

__all__ = ["column_in", "magnitude_column", "plain_column"]

# What SExtractor writes where it could not measure, and what pipelines write.
_MISSING = (99.0, -99.0)


def plain_column(table, name, element=None):
    """
    Return a column as floats: NaN where it is masked.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    element : int, optional
        Which element of a vector column.

    Returns
    -------
    values : 1D `~numpy.ndarray`
        A copy, float64; numbers with a unit stay in it.

    Raises
    ------
    KS4Error
        If the column does not hold numbers, one a row.
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
        msg = f"column {name} must hold numbers, got {values.dtype}"
        raise KS4Error(msg)
    values = values.astype(float)
    if mask is not None:
        values[mask] = np.nan
    if element is not None and values.ndim == 2:
        if not 0 <= element < values.shape[1]:
            msg = (
                f"column {name} has the elements 0 to {values.shape[1] - 1}, and no "
                f"{element}"
            )
            raise KS4Error(msg)
        values = values[:, element]
    if values.ndim != 1:
        msg = (
            f"column {name} must hold one number a row, got {values.shape[1:]}: name "
            f"an element of it as a pair, ({name!r}, 0)"
        )
        raise KS4Error(msg)
    return values


def column_in(table, name, unit):
    """
    Return a column as floats in a unit: NaN where it is masked.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    unit : `~astropy.units.Unit`
        Which a column without a unit is taken to be in.

    Returns
    -------
    values : 1D `~numpy.ndarray`

    Raises
    ------
    KS4Error
        If the column does not hold such numbers.
    """
    values = plain_column(table, name)
    own = getattr(table[name], "unit", None)
    if own is None or own == unit:
        return values
    try:
        return own.to(unit, values)
    except (u.UnitConversionError, ValueError) as error:
        # ValueError: a unit that astropy does not know.
        msg = f"column {name} must be in {unit} or alike, got the unit {own}"
        raise KS4Error(msg) from error


def magnitude_column(table, name, element=None):
    """
    Return a column of magnitudes: NaN where it is masked, 99 or -99.

    Parameters
    ----------
    table : `~astropy.table.Table`
    name : str
    element : int, optional
        Which element of a vector column.

    Returns
    -------
    magnitudes : 1D `~numpy.ndarray`

    Raises
    ------
    KS4Error
        If the column does not hold magnitudes.
    """
    values = plain_column(table, name, element)
    unit = getattr(table[name], "unit", None)
    if unit is not None and unit != u.dimensionless_unscaled:
        if isinstance(unit, u.MagUnit):
            # AB magnitudes are numbers of magnitudes, too.
            unit = u.mag
        if not _is_magnitude(unit):
            msg = (
                f"column {name} must hold magnitudes, got the unit {unit}: fluxes have "
                "to be declared (columns= with fluxes=True) or converted"
            )
            raise KS4Error(msg)
        values = values if unit == u.mag else unit.to(u.mag, values)
    values[np.isin(values, _MISSING)] = np.nan
    return values


def _is_magnitude(unit):
    try:
        return unit.is_equivalent(u.mag)
    except ValueError:
        return False
