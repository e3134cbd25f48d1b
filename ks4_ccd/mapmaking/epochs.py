# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Determine the epochs of images and references, and apply proper motions."""

import re
import warnings
from collections.abc import Mapping
from numbers import Real

import numpy as np
from astropy import units as u
from astropy.time import Time

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.tangent import unproject

__all__ = ["EPOCHS", "TYPICAL_MOTION", "decimal_year", "image_epoch", "moved"]

EPOCHS = (1880.0, 2100.0)
"""Years outside of which an epoch is a Julian date, a placeholder or a mistake: the
first is that of the oldest photographic plates, and excludes a modified Julian date
of 0, the year 1858."""

TYPICAL_MOTION = 6.4
"""The length in mas/yr of a typical mean motion of reference stars, (4, -5) mas/yr: by
this much per year an offset map is wrong if the motions are not applied."""

# Days by which DATE-OBS and MJD-OBS of one exposure may differ: one may be the local
# date of the night without a time.
_ONE_NIGHT = 2.0
# Years by which EPOCH may differ from them: it may be rounded.
_ROUNDED = 1.0
# Years that EPOCH contains where it is the equinox of the coordinates, its meaning in
# the FITS standard before EQUINOX replaced it.
_EQUINOXES = (1900.0, 1950.0, 1975.0, 2000.0)
_DAYS_PER_YEAR = 365.25
_MJD_OF_J2000 = 51544.5
# DD/MM/YY, the form of DATE-OBS in the FITS standard before the year 1999.
_OLD_DATE = re.compile(r"(\d\d)/(\d\d)/(\d\d)")
_PREFIXED_YEAR = re.compile(r"[JB](\d{4}(?:\.\d*)?)", re.I)
_TIME_OF_DAY = re.compile(r"\d\d:\d\d(:\d\d(\.\d*)?)?")


def decimal_year(name: str, epoch: object) -> float:
    """
    Return an epoch as a decimal year, or raise `KS4Error`.

    Parameters
    ----------
    name : str
        The name of the argument in messages.
    epoch : `~astropy.time.Time`, `~astropy.units.Quantity`, float or str
        A time, a decimal year, or the value of a keyword such as DATE-OBS.

    Returns
    -------
    year : float

    Raises
    ------
    KS4Error
        If it is not one time within `EPOCHS`.
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


def _as_year(epoch: object) -> float:
    if isinstance(epoch, Real) and not isinstance(epoch, bool):
        return float(epoch)
    if isinstance(epoch, str):
        try:
            return float(epoch)
        except ValueError:
            epoch = epoch.strip()
            if match := _OLD_DATE.fullmatch(epoch):
                day, month, year = match.groups()
                epoch = f"19{year}-{month}-{day}"
    if isinstance(epoch, u.Quantity):
        return epoch.to_value(u.yr)
    with warnings.catch_warnings():
        # ERFA warns of UTC before 1960 and in the future.
        warnings.simplefilter("ignore")
        return Time(epoch).jyear


def image_epoch(meta: Mapping[str, object]) -> float | None:
    """
    Return the epoch of an image according to its header or the meta of its catalog.

    Parameters
    ----------
    meta : dict-like
        The keywords ``DATE-OBS`` (with ``TIME-OBS`` where it is a date only) and
        ``MJD-OBS``, the start of the exposure, ``EXPTIME`` (s), and ``EPOCH`` (a year).
        Upper and lower case are equivalent.

    Returns
    -------
    year : float or `None`
        The middle of the exposure as a decimal (Julian) year; `None` if no keyword
        contains an epoch.

    Raises
    ------
    KS4Error
        If a keyword is not a time within `EPOCHS`, or if they contradict each other.

    Notes
    -----
    ``DATE-OBS`` is preferred over ``MJD-OBS``, and both over ``EPOCH``. The FITS
    standard defined ``EPOCH`` as the equinox of the coordinates: a value of 1900, 1950,
    1975 or 2000, or that of ``EQUINOX``, is not an epoch. ``DATE`` is the time at which
    a file was written, and is not used.

    Examples
    --------
    >>> from ks4_ccd.mapmaking.epochs import image_epoch
    >>> header = {"DATE-OBS": "2021-09-07T03:12:45", "EXPTIME": 480.0, "EPOCH": 2000.0}
    >>> print(f"{image_epoch(header):.4f}")
    2021.6837
    >>> print(image_epoch({"EPOCH": 2000.0}))
    None
    """
    values: dict[str, object] = {}
    for key, value in meta.items():
        if _is_given(value):
            values.setdefault(str(key).upper(), value)
    found: dict[str, float] = {}
    if "DATE-OBS" in values:
        found["DATE-OBS"] = _date(values)
    if "MJD-OBS" in values:
        found["MJD-OBS"] = _modified_julian_date(values["MJD-OBS"])
    if "EPOCH" in values:
        year = _year_of("EPOCH", _without_prefix(values["EPOCH"]))
        if year not in _EQUINOXES and year != _equinox(values):
            found["EPOCH"] = year
    if not found:
        return None
    _check_agreement(found, values)
    name = next(iter(found))
    if name == "EPOCH":
        return found[name]
    return found[name] + _half_exposure(values)


def _is_given(value: object) -> bool:
    if value is None or value is np.ma.masked:
        return False
    return not (isinstance(value, str) and value.strip().lower() in ("", "none"))


def _year_of(keyword: str, value: object) -> float:
    try:
        return decimal_year(keyword, value)
    except KS4Error as error:
        msg = (
            f"the header or meta of the source catalog: {error}; correct it, or give "
            "epoch= (--epoch)"
        )
        raise KS4Error(msg) from error


def _date(values: Mapping[str, object]) -> float:
    date = values["DATE-OBS"]
    time = values.get("TIME-OBS")
    if isinstance(date, str) and isinstance(time, str):
        date, time = date.strip(), time.strip()
        if len(date) == len("2021-09-07") and _TIME_OF_DAY.fullmatch(time):
            date = f"{date}T{time}"
    return _year_of("DATE-OBS", date)


def _modified_julian_date(value: object) -> float:
    try:
        days = float(value)  # type: ignore[arg-type] # TypeError is caught
    except (TypeError, ValueError):
        days = np.nan
    year = 2000 + (days - _MJD_OF_J2000) / _DAYS_PER_YEAR
    if not EPOCHS[0] <= year <= EPOCHS[1]:
        msg = (
            "MJD-OBS in the header or meta of the source catalog: expected a modified "
            f"Julian date between the years {EPOCHS[0]:.0f} and {EPOCHS[1]:.0f}, found "
            f"{value!r}; correct it, or give epoch= (--epoch)"
        )
        raise KS4Error(msg)
    return year


def _without_prefix(value: object) -> object:
    if isinstance(value, str) and (match := _PREFIXED_YEAR.fullmatch(value.strip())):
        return float(match[1])
    return value


def _equinox(values: Mapping[str, object]) -> float | None:
    try:
        return float(_without_prefix(values["EQUINOX"]))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None


def _half_exposure(values: Mapping[str, object]) -> float:
    """Return half of the exposure time in years, 0 if it is unknown."""
    try:
        seconds = float(values["EXPTIME"])  # type: ignore[arg-type] # see below
    except (KeyError, TypeError, ValueError):
        return 0.0
    if not 0 < seconds < np.inf:
        return 0.0
    return seconds / 2 / 86400 / _DAYS_PER_YEAR


def _check_agreement(found: Mapping[str, float], values: Mapping[str, object]) -> None:
    first, *others = found
    for name in others:
        limit = _ROUNDED if name == "EPOCH" else _ONE_NIGHT / _DAYS_PER_YEAR
        if abs(found[name] - found[first]) > limit:
            msg = (
                "keywords of the header or meta of the source catalog contradict each "
                f"other: {first} = {values[first]!r} is the epoch {found[first]:.3f}, "
                f"{name} = {values[name]!r} is {found[name]:.3f}; give epoch= "
                "(--epoch), the time of the image"
            )
            raise KS4Error(msg)


def moved(
    ra: np.ndarray,
    dec: np.ndarray,
    pm_ra: np.ndarray,
    pm_dec: np.ndarray,
    years: float | np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Apply proper motions to positions.

    Parameters
    ----------
    ra, dec : 1D `~numpy.ndarray`
        In degrees.
    pm_ra, pm_dec : 1D `~numpy.ndarray`
        Proper motions in mas/yr, that in RA multiplied by cos(Dec). Stars
        without a finite proper motion do not move.
    years : float or 1D `~numpy.ndarray`
        The time since the epoch of the positions; stars with a value that is
        not finite do not move.

    Returns
    -------
    ra, dec : 1D `~numpy.ndarray`

    Notes
    -----
    The star moves on a straight line in space, without parallax and radial
    velocity. This holds at the poles as well.
    """
    east, north = (np.radians(pm * years / 3.6e6) for pm in (pm_ra, pm_dec))
    known = np.isfinite(east) & np.isfinite(north) & ((east != 0) | (north != 0))
    new_ra, new_dec = ra.copy(), dec.copy()
    new_ra[known], new_dec[known] = unproject(
        east[known], north[known], ra[known], dec[known]
    )
    return new_ra, new_dec
