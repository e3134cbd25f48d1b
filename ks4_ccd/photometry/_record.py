# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the header of an image says about its calibration."""

import math
from typing import NamedTuple

import numpy as np
from astropy.io import fits

import ks4_ccd
from ks4_ccd.exceptions import AlreadyCalibratedError, KS4Error, MapMismatchError

__all__ = ["Calibration", "erase", "log_call", "read", "refuse_second", "write"]

# Keyword: (field of Calibration, comment).
_KEYWORDS = {
    "KS4ZPMAP": ("map_name", "zero-point map applied"),
    "KS4ZPMTH": ("method", "its interpolation"),
    "KS4ZPTGT": ("zeropoint", "[mag] zero point of the counts"),
    "KS4ZPERR": ("error_kind", "its error in the uncertainty"),
    "KS4ZPSCL": ("unit_scale", "unit of the pixels over counts"),
    "KS4ZPUNI": ("unit", "unit before calibration"),
}
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
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        scaled = float(value * factor * calibration.unit_scale)
        if isinstance(value, int) and calibration.unit_scale == 1:
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
    calibration = Calibration(**{n: header[k] for k, (n, _) in _KEYWORDS.items()})
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
    for keyword in (*_KEYWORDS, _VERSION):
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
    elif hasattr(add_keyword, "name") and hasattr(add_keyword, "value"):
        entries = {add_keyword.name: add_keyword.value}
    else:
        entries = dict(add_keyword)
    for name, value in entries.items():
        header[name] = value


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
