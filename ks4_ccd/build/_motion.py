# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Positions of reference stars at the time of an image."""

import warnings
from numbers import Real

import numpy as np
from astropy import units as u
from astropy.time import Time

from ks4_ccd.exceptions import KS4Error

__all__ = ["EPOCHS", "decimal_year", "moved"]

# Years outside of which an epoch is a Julian date or a mistake.
EPOCHS = (1800.0, 2200.0)


def decimal_year(name, epoch):
    """
    Return an epoch as a decimal year, or raise `KS4Error`.

    Parameters
    ----------
    name : str
        What to call the argument.
    epoch : `~astropy.time.Time`, float or str
        A time; a decimal year; or what a header says, such as the value of
        DATE-OBS.

    Returns
    -------
    year : float
    """
    try:
        year = float(_as_year(epoch))
    except (TypeError, ValueError):
        year = np.nan
    if not EPOCHS[0] <= year <= EPOCHS[1]:
        msg = (
            f"{name} must be one Time, decimal year or date between the years "
            f"{EPOCHS[0]:.0f} and {EPOCHS[1]:.0f}, got {epoch!r}"
        )
        raise KS4Error(msg)
    return year


def _as_year(epoch):
    if isinstance(epoch, Real) and not isinstance(epoch, bool):
        return epoch
    if isinstance(epoch, str):
        try:
            return float(epoch)
        except ValueError:
            pass
    if isinstance(epoch, u.Quantity):
        return epoch.to_value(u.yr)
    with warnings.catch_warnings():
        # ERFA doubts UTC before 1960 and in the years to come.
        warnings.simplefilter("ignore")
        return Time(epoch).jyear


def moved(ra, dec, pm_ra, pm_dec, years):
    """
    Return where stars are some years later.

    Parameters
    ----------
    ra, dec : 1D `~numpy.ndarray`
        In degrees.
    pm_ra, pm_dec : 1D `~numpy.ndarray`
        Proper motion in mas/yr, that in RA times cos(Dec). Stars without a
        finite one stay where they are.
    years : float or 1D `~numpy.ndarray`
        Not finite where unknown: such stars stay, too.

    Returns
    -------
    ra, dec : 1D `~numpy.ndarray`

    Notes
    -----
    The star moves on a straight line in space; neither its parallax nor its
    motion along the line of sight counts. Right at the poles, too.
    """
    east, north = (np.radians(pm * years / 3.6e6) for pm in (pm_ra, pm_dec))
    known = np.isfinite(east) & np.isfinite(north) & ((east != 0) | (north != 0))
    east, north = east[known], north[known]
    sin_ra, cos_ra = _sin_and_cos(ra[known])
    sin_dec, cos_dec = _sin_and_cos(dec[known])
    outward = cos_dec - sin_dec * north
    x = outward * cos_ra - sin_ra * east
    y = outward * sin_ra + cos_ra * east
    z = sin_dec + cos_dec * north
    new_ra, new_dec = ra.copy(), dec.copy()
    new_ra[known] = np.degrees(np.arctan2(y, x)) % 360
    new_dec[known] = np.degrees(np.arctan2(z, np.hypot(x, y)))
    return new_ra, new_dec


def _sin_and_cos(degrees):
    return np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
