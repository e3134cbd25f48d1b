# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the header of an image says about its calibration."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits

import ks4_ccd
from ks4_ccd._calibration_map import ERROR_KINDS
from ks4_ccd.exceptions import AlreadyCalibratedError, KS4Error, MapMismatchError
from ks4_ccd.grid import METHODS

__all__ = [
    "Calibration",
    "check_log",
    "erase",
    "log_call",
    "read",
    "refuse_second",
    "write",
]

# Keyword: (field of Calibration, comment).
_KEYWORDS = {
    "KS4ZPMAP": ("map_name", "zero-point map applied"),
    "KS4ZPMTH": ("method", "its interpolation"),
    "KS4ZPTGT": ("zeropoint", "[mag] zero point of the counts"),
    "KS4ZPERR": ("error_kind", "its error in the uncertainty"),
    "KS4ZPSCL": ("unit_scale", "unit of the pixels over counts"),
    "KS4ZPUNI": ("unit", "unit before calibration"),
    "KS4ZPNEW": ("new_unit", "unit after calibration"),
}
_TIMES = "KS4ZPNUM"
_VERSION = "KS4ZPVER"

# Keyword that calibration changes: where its former value is kept.
_KEPT = {
    "MAGZERO": "KS4OZERO",
    "EMAGZERO": "KS4OEZER",
    "PHOTREF": "KS4OREF",
    "SATURATE": "KS4OSAT",
    "UNDERSAT": "KS4OUND",
    "BUNIT": "KS4OUNIT",
}


class Calibration(NamedTuple):
    """How an image was calibrated: all that is needed to do or undo it."""

    map_name: str
    method: str
    zeropoint: float
    error_kind: str | None
    unit_scale: float
    unit: str
    new_unit: str


def refuse_second(header, recalibrate):
    """
    Raise if a header tells of a calibration, unless one more is wanted.

    Raises
    ------
    AlreadyCalibratedError
        If there is a record and ``recalibrate`` is false.
    """
    if "KS4ZPMAP" in header and not recalibrate:
        msg = (
            f"the image was calibrated before, with {header['KS4ZPMAP']} (KS4ZPMAP): "
            "remove_zeropoint takes that off, recalibrate=True applies a map on top"
        )
        raise AlreadyCalibratedError(msg)


def write(header, calibration, zpmap, image_slices, unit_zeropoint, unit):
    """
    Tell in a header, in place, that its image was calibrated.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping
    calibration : `Calibration`
    zpmap : `~ks4_ccd.ZeroPointMap`
    image_slices : tuple of slice
        The cells of the map that the image lies on.
    unit_zeropoint : float
        The zero point of the image in its new unit.
    unit : str or `None`
        The new unit, where the image is not in counts any more.
    """
    for keyword, kept in _KEPT.items():
        if keyword in header and (keyword != "BUNIT" or unit):
            _set(header, kept, header[keyword], f"{keyword} before calibration")
    _set(header, "MAGZERO", unit_zeropoint, "[mag] AB zero point")
    _set(header, "PHOTREF", "GAIA DR3", "photometric reference")
    header.pop("EMAGZERO", None)
    if zpmap.error is not None and zpmap.error.any():
        error = round(float(zpmap.error[zpmap.error > 0].mean()), 3)
        _set(header, "EMAGZERO", error, "[mag] mean scatter of the cells' stars")
    if unit and "BUNIT" in header:
        _set(header, "BUNIT", unit, "unit of the pixels")
    _rescale_limits(header, calibration, zpmap, image_slices)
    for keyword, (name, comment) in _KEYWORDS.items():
        value = getattr(calibration, name)
        _set(header, keyword, "ignore" if value is None else value, comment)
    _set(header, _TIMES, header.get(_TIMES, 0) + 1, "number of calibrations")
    _set(header, _VERSION, ks4_ccd.__version__, "version of ks4_ccd")


def _rescale_limits(header, calibration, zpmap, image_slices):
    """Scale SATURATE and UNDERSAT by the mean factor, as the release does."""
    if calibration.method == "dr1":
        cells = zpmap.values
    else:
        cells = zpmap.filled().values[image_slices]
    factor = np.mean(10 ** (0.4 * (calibration.zeropoint - cells)))
    for keyword in ("SATURATE", "UNDERSAT"):
        value = header.get(keyword)
        if isinstance(value, bool) or not isinstance(value, Real):
            continue
        if not math.isfinite(value):
            continue
        scaled = float(value * factor * calibration.unit_scale)
        if isinstance(value, Integral) and calibration.unit_scale == 1:
            scaled = int(scaled)
        _set(header, keyword, scaled, None)


def read(header, zpmap):
    """
    Return the `Calibration` that a header tells of.

    Raises
    ------
    KS4Error
        If there is none, or it is incomplete.
    MapMismatchError
        If it was done with another map.
    """
    missing = [keyword for keyword in _KEYWORDS if keyword not in header]
    if missing:
        msg = (
            "the header does not tell of a calibration that could be removed: it has "
            f"no {', '.join(missing)}"
        )
        raise KS4Error(msg)
    if header.get(_TIMES, 1) != 1:
        msg = (
            f"the image was calibrated {header[_TIMES]} times (KS4ZPNUM), one map on "
            "top of another: only a single calibration can be removed"
        )
        raise KS4Error(msg)
    calibration = Calibration(**{n: header[k] for k, (n, _) in _KEYWORDS.items()})
    _check_record(calibration)
    if calibration.map_name != zpmap.name:
        msg = (
            f"the image was calibrated with {calibration.map_name}, not with "
            f"{zpmap.name}"
        )
        raise MapMismatchError(msg)
    if calibration.error_kind == "ignore":
        calibration = calibration._replace(error_kind=None)
    return calibration


def erase(header):
    """Take the record out of a header, in place, and put back what it replaced."""
    for keyword in (*_KEYWORDS, _TIMES, _VERSION):
        header.pop(keyword, None)
    for keyword, kept in _KEPT.items():
        if kept in header:
            header[keyword] = header.pop(kept)
        elif keyword != "BUNIT":
            header.pop(keyword, None)


def log_call(header, keyword, arguments, add_keyword):
    """
    Log a call in a header, in place, the way ccdproc's functions do.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping
    keyword : str
        The keyword to log under by default.
    arguments : dict
        The arguments worth logging.
    add_keyword : bool, `None`, str, `~ccdproc.Keyword` or mapping
        `True` logs ``arguments``, `False` or `None` nothing; anything else is
        logged instead.
    """
    if not add_keyword:
        return
    if add_keyword is True:
        words = ", ".join(f"{name}={value}" for name, value in arguments.items())
        entries = {keyword: words}
    elif isinstance(add_keyword, str):
        entries = {add_keyword: None}
    elif isinstance(add_keyword, Mapping):
        entries = dict(add_keyword)
    else:
        entries = {add_keyword.name: add_keyword.value}
    for name, value in entries.items():
        header[name] = value


def check_log(add_keyword):
    """Raise `KS4Error` if `log_call` could not log this."""
    known = isinstance(add_keyword, bool | None | str | Mapping)
    if not known and not (
        hasattr(add_keyword, "name") and hasattr(add_keyword, "value")
    ):
        msg = (
            "add_keyword must be True, False, None, a string, a ccdproc Keyword or a "
            f"mapping, got {add_keyword!r}"
        )
        raise KS4Error(msg)


def _check_record(calibration):
    """Raise `KS4Error` if a record does not hold what `write` puts there."""
    problems = [
        keyword
        for keyword, value, good in (
            ("KS4ZPTGT", calibration.zeropoint, lambda v: abs(v) < 1000),
            ("KS4ZPSCL", calibration.unit_scale, lambda v: 0 < v < math.inf),
        )
        if isinstance(value, str | bool)
        or not isinstance(value, Real)
        or not good(value)
    ]
    problems += [
        keyword
        for keyword, value, allowed in (
            ("KS4ZPMTH", calibration.method, METHODS),
            ("KS4ZPERR", calibration.error_kind, (*ERROR_KINDS, "ignore")),
        )
        if value not in allowed
    ]
    for keyword, value in (
        ("KS4ZPUNI", calibration.unit),
        ("KS4ZPNEW", calibration.new_unit),
    ):
        try:
            u.Unit(value)
        except (ValueError, TypeError):
            problems.append(keyword)
    if problems:
        msg = f"the record of the calibration was changed: {', '.join(problems)}"
        raise KS4Error(msg)


def _set(header, keyword, value, comment):
    """Set a card of a FITS header, or an item of another mapping."""
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"{keyword} would become {value}: the zero points of the map are off"
        raise KS4Error(msg)
    if isinstance(header, fits.Header) and comment is not None:
        # A card has 80 characters; a long value leaves no room.
        fits_in = len(str(value)) + len(comment) < 64
        header[keyword] = (value, comment if fits_in else "")
    else:
        header[keyword] = value
