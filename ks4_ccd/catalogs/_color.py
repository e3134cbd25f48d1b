# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Apply the colour terms of zero-point maps to sources."""

from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import ArrayLike

from ks4_ccd.catalogs._values import AtSources
from ks4_ccd.catalogs.columns import is_measured, magnitude_column
from ks4_ccd.exceptions import MapMismatchError, OptionError
from ks4_ccd.ks4.recipe import METHOD
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = ["NO_COLOR", "check_color", "colors_of", "with_color"]

# A bit of ZPFLAG.
NO_COLOR = 16


def colors_of(table: Table, color: str | ArrayLike | None) -> np.ndarray:
    """
    Return the colours of the sources of a catalog.

    Parameters
    ----------
    table : `~astropy.table.Table`
    color : str, array-like or `None`
        A column of colours, or one for each row, in magnitudes.

    Returns
    -------
    colors : 1D `~numpy.ndarray`
        NaN where a colour is unknown.

    Raises
    ------
    OptionError
        If the column does not exist, or there is not one real number for each row.
    """
    if color is None:
        return np.full(len(table), np.nan)
    if isinstance(color, str):
        if color not in table.colnames:
            msg = (
                f"color={color!r} must be a column of the catalog, or an array: the "
                f"catalog has {', '.join(table.colnames)}"
            )
            raise OptionError(msg)
        return magnitude_column(table, color)
    try:
        if isinstance(color, u.Quantity):
            color = color.to_value(u.mag)
        colors = np.ma.filled(np.ma.asarray(color, dtype=float), np.nan)
    except (TypeError, ValueError, u.UnitConversionError) as error:
        msg = f"color must contain colours in magnitudes: {error}"
        raise OptionError(msg) from error
    if colors.shape != (len(table),):
        msg = (
            f"color must be a column of the catalog or contain one colour for each of "
            f"its {len(table)} rows, got the shape {colors.shape}"
        )
        raise OptionError(msg)
    return np.where(is_measured(colors), colors, np.nan)


def check_color(
    maps: Mapping[str, ZeroPointMap], color: str | ArrayLike | None, method: str
) -> None:
    """
    Raise an error if colours are given that no map, or not all, can use.

    Parameters
    ----------
    maps : dict
        A map for each aperture.
    color : str, array-like or `None`
        The colours of the sources, if they are given.
    method : str
        The interpolation of the maps.

    Raises
    ------
    OptionError
        If the method is that of DR1, which has no colour terms.
    MapMismatchError
        If no map has a colour term, or if the maps have terms of different colours.
    """
    if color is None:
        return
    if method == METHOD:
        msg = f"color must be None with method={METHOD!r}, which has no colour terms"
        raise OptionError(msg)
    terms = [zpmap.color_term for zpmap in maps.values()]
    names = list(dict.fromkeys(term.name for term in terms if term is not None))
    if not names:
        msg = (
            "color was given, and none of the maps has a colour term: omit it, or "
            "build the maps with color=(band, band)"
        )
        raise MapMismatchError(msg)
    if len(names) > 1:
        msg = (
            f"color was given, and the maps have terms of different colours, "
            f"{' and '.join(names)}: calibrate their apertures one after the other"
        )
        raise MapMismatchError(msg)


def with_color(
    at: Mapping[str, AtSources], maps: Mapping[str, ZeroPointMap], colors: np.ndarray
) -> dict[str, AtSources]:
    """
    Add the colour terms of maps to their values at sources.

    Parameters
    ----------
    at : dict
        The values of each map.
    maps : dict
        The maps.
    colors : 1D `~numpy.ndarray`
        The colours of the sources; where one is NaN, the zero point is that of the
        reference colour, and the flag `NO_COLOR` is set.

    Returns
    -------
    at : dict
    """
    known = np.isfinite(colors)
    changed = {}
    for name, values in at.items():
        term = maps[name].color_term
        if term is not None and term.order:
            value = values.value + np.where(known, term.at(colors), 0)
            error = values.error
            if error is not None:
                error = np.hypot(error, np.where(known, term.error_at(colors), 0))
            flag = values.flag | np.where(known, 0, NO_COLOR)
            values = values._replace(value=value, error=error, flag=flag)
        changed[name] = values
    return changed
