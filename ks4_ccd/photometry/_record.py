# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Record a calibration in the header of an image, and read the record."""

import math
import re
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from importlib.metadata import version
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits

from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    KS4Error,
    MapMismatchError,
)
from ks4_ccd.files.pixels import SCALING_CARDS
from ks4_ccd.files.units import conversion, parse_unit
from ks4_ccd.ks4.calibrated import (
    COLOR,
    RECORD,
    RELEASED,
    TIMES,
    calibration_in,
    next_time,
    times_in,
)
from ks4_ccd.ks4.recipe import EMPTY_ZEROPOINT, METHOD
from ks4_ccd.ks4.record import doi_of
from ks4_ccd.maps.errors import ERROR_KINDS
from ks4_ccd.maps.grid import METHODS as GRID_METHODS
from ks4_ccd.maps.identity import checksum_of, mean_error, reference_colors
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry._log import card_text

if TYPE_CHECKING:
    from ks4_ccd.photometry.options import Plan

__all__ = [
    "METHODS",
    "Calibration",
    "erase",
    "read",
    "refuse_second",
    "write",
]

METHODS = (*GRID_METHODS, METHOD)

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
_VERSION = "KS4ZPVER"
_CHECKSUM = "KS4ZPSUM"
_DOI = "KS4ZPDOI"

# Keywords that calibration changes, and those that keep their former values.
_KEPT = {
    "MAGZERO": "KS4OZERO",
    "EMAGZERO": "KS4OEZER",
    "PHOTREF": "KS4OREF",
    "SATURATE": "KS4OSAT",
    "UNDERSAT": "KS4OUND",
    "BUNIT": "KS4OUNIT",
}

# Measurements of the uncalibrated image, written by the pipeline: only their former
# values are kept. ZPAPER5, ZEAPER5 and ZSAPER5 become KS4OZP05, KS4OZE05 and KS4OZS05.
_MEASURED = {
    "RMSPHOT": "KS4ORMS",
    "DEPTH5": "KS4ODEP5",
    "ZEROERR": "KS4OZERR",
    "ZPSTAR": "KS4OZSTR",
}
_APERTURES = {"FWHM": "FW", "AUTO": "AU"} | {
    f"APER{n or ''}": f"{n:02d}" for n in range(100)
}
_MEASURED |= {
    f"Z{what}{aperture}": f"KS4OZ{what}{short}"
    for what in "PES"
    for aperture, short in _APERTURES.items()
}


_UNIT_IN_COMMENT = re.compile(r"\s*\[([^\]]*)\]\s*")


class Calibration(NamedTuple):
    """The parameters by which a calibration can be repeated or removed."""

    map_name: str
    method: str
    zeropoint: float
    error_kind: str | None
    unit_scale: float
    unit: str
    new_unit: str


def refuse_second(header: Mapping[str, Any], recalibrate: bool) -> None:
    """
    Raise if a header records a calibration, unless another one is requested.

    Raises
    ------
    AlreadyCalibratedError
        If the header contains a record and ``recalibrate`` is false.
    """
    found = None if recalibrate else calibration_in(header)
    if found is not None:
        msg = (
            f"the image was calibrated before, {found}: remove the calibration with "
            "remove_zeropoint, or use recalibrate=True (--recalibrate) to apply "
            "another map in addition"
        )
        raise AlreadyCalibratedError(msg)


def write(
    header: MutableMapping[str, Any],
    plan: "Plan",
    zpmap: ZeroPointMap,
    image_slices: tuple[slice, slice],
) -> None:
    """
    Record the calibration of an image in its header, in place.

    Parameters
    ----------
    header : `~astropy.io.fits.Header` or mapping
    plan : `~ks4_ccd.photometry.options.Plan`
    zpmap : `~ks4_ccd.ZeroPointMap`
    image_slices : tuple of slice
        The cells of the map that the image overlaps.
    """
    calibration = plan.calibration
    times = next_time(header)
    for keyword in SCALING_CARDS:
        header.pop(keyword, None)
    for keyword, kept in _MEASURED.items():
        if keyword in header:
            _rename(header, keyword, kept)
    for keyword, kept in _KEPT.items():
        if keyword in header and (
            keyword != "BUNIT" or header[keyword] != calibration.new_unit
        ):
            _keep(header, keyword, kept)
    zeropoint = _finite("MAGZERO", plan.unit_zeropoint)
    _set(header, "MAGZERO", zeropoint, "[mag] AB zero point")
    _set(header, "PHOTREF", RELEASED, "photometric reference")
    header.pop("EMAGZERO", None)
    error, comment = _mean_error(zpmap, calibration)
    if error is not None:
        _set(header, "EMAGZERO", _finite("EMAGZERO", error), comment)
    if "BUNIT" in header:
        _set(header, "BUNIT", calibration.new_unit, "unit of the pixels")
    _rescale_limits(header, plan, zpmap, image_slices)
    for keyword, (name, comment) in _KEYWORDS.items():
        value = getattr(calibration, name)
        _set(header, keyword, "ignore" if value is None else value, comment)
    _set(header, _CHECKSUM, checksum_of(zpmap), "checksum of the map")
    header.pop(_DOI, None)
    doi = doi_of(zpmap)
    if doi is not None:
        _set(header, _DOI, doi, "data release of the map")
    header.pop(COLOR, None)
    if colors := reference_colors([zpmap]):
        _set(header, COLOR, colors, "colour of the zero points")
    _set(header, TIMES, times, "number of calibrations")
    _set(header, _VERSION, version("ks4_ccd"), "version of ks4_ccd")


def _finite(keyword: str, value: float) -> float:
    if not math.isfinite(value):
        msg = (
            f"expected a finite {keyword} of the result, found {value}: check the zero "
            "points of the map, and the unit"
        )
        raise KS4Error(msg)
    return value


def _keep(header: MutableMapping[str, Any], keyword: str, kept: str) -> None:
    """Copy a card, with its comment."""
    comment = f"{keyword} before calibration"
    if isinstance(header, fits.Header):
        comment = header.comments[keyword] or comment
    _set(header, kept, header[keyword], comment)


def _restore(header: MutableMapping[str, Any], keyword: str, kept: str) -> None:
    comment = None
    if isinstance(header, fits.Header):
        comment = header.comments[kept]
        comment = "" if comment == f"{keyword} before calibration" else comment
    _set(header, keyword, header.pop(kept), comment)


def _rename(header: MutableMapping[str, Any], keyword: str, new: str) -> None:
    header.pop(new, None)
    if isinstance(header, fits.Header):
        header.rename_keyword(keyword, new)
        header.remove(keyword, ignore_missing=True, remove_all=True)
    else:
        header[new] = header.pop(keyword)


def _mean_error(
    zpmap: ZeroPointMap, calibration: Calibration
) -> tuple[float | None, str]:
    """Return EMAGZERO, `None` if it is unknown, and its comment."""
    if calibration.method == METHOD:
        # As in DR1: the mean of the published array, in which 0 means unknown.
        known = np.zeros(0) if zpmap.error is None else zpmap.error[zpmap.error > 0]
        error = round(float(known.mean()), 3) if known.size else None
        return error, "[mag] mean scatter of the cells' stars"
    kind = calibration.error_kind or "scatter"
    error = mean_error(zpmap, kind)
    comment = f"[mag] mean uncertainty of cells ({kind})"
    return None if error is None else round(error, 4), comment


def _rescale_limits(
    header: MutableMapping[str, Any],
    plan: "Plan",
    zpmap: ZeroPointMap,
    image_slices: tuple[slice, slice],
) -> None:
    """Scale SATURATE and UNDERSAT by the mean factor, as DR1 does."""
    calibration = plan.calibration
    if calibration.method == METHOD:
        cells = zpmap.marked(EMPTY_ZEROPOINT)["values"]
    else:
        cells = zpmap.filled().values[image_slices]
    factor = np.mean(10 ** (0.4 * (calibration.zeropoint - cells)))
    for keyword in ("SATURATE", "UNDERSAT"):
        value = header.get(keyword)
        if isinstance(value, bool) or not isinstance(value, Real):
            continue
        if not math.isfinite(float(value)):
            continue
        scale = _limit_scale(header, keyword, plan, zpmap)
        if scale is None:
            del header[keyword]
            continue
        scaled = _finite(keyword, float(value) * float(factor) * scale)
        if isinstance(value, Integral) and scale == 1:
            scaled = int(scaled)
        comment = None
        if isinstance(header, fits.Header) and calibration.unit_scale != 1:
            # The unit in the comment no longer holds.
            comment = _UNIT_IN_COMMENT.sub("", header.comments[keyword])
            comment = f"[{calibration.new_unit}] {comment}".rstrip()
        _set(header, keyword, scaled, comment)


def _limit_scale(
    header: MutableMapping[str, Any], keyword: str, plan: "Plan", zpmap: ZeroPointMap
) -> float | None:
    """
    Return the factor from a limit to the unit of the result, without the zero point.

    `None` if it is unknown: a gain changes the pixels, and ccdproc leaves the
    limits in the header unchanged.
    """
    scale = plan.calibration.unit_scale
    if plan.counts_per_pixel == 1:
        return scale
    if isinstance(header, fits.Header):
        stated = _UNIT_IN_COMMENT.match(header.comments[keyword])
        with suppress(ValueError):
            unit = parse_unit(stated[1]) if stated else None
            if unit == u.Unit(plan.calibration.unit):
                return scale
            if unit is not None and conversion(unit, zpmap.image_unit) == 1:
                return scale / plan.counts_per_pixel
    return None


def read(header: Mapping[str, Any], zpmap: ZeroPointMap) -> Calibration:
    """
    Return the `Calibration` that a header records.

    Raises
    ------
    KS4Error
        If the header has no record of a calibration, or an incomplete one.
    MapMismatchError
        If another map was applied.
    """
    missing = [keyword for keyword in _KEYWORDS if keyword not in header]
    if missing:
        msg = (
            "expected the record of a calibration in the header (KS4ZP...), found no "
            f"{', '.join(missing)}: only a calibration that is recorded can be removed"
        )
        raise KS4Error(msg)
    times = times_in(header, 1)
    if times != 1:
        msg = (
            f"the image was calibrated {times} times (KS4ZPNUM): only a single "
            "calibration can be removed"
        )
        raise KS4Error(msg)
    calibration = Calibration(**{n: header[k] for k, (n, _) in _KEYWORDS.items()})
    _check_record(calibration)
    if calibration.map_name != card_text(zpmap.name):
        msg = (
            f"the image was calibrated with {calibration.map_name}, not with "
            f"{zpmap.name}"
        )
        raise MapMismatchError(msg)
    checksum = checksum_of(zpmap)
    if header.get(_CHECKSUM, checksum) != checksum:
        msg = (
            f"the image was calibrated with another map called {zpmap.name}: expected "
            f"the checksum {header[_CHECKSUM]} ({_CHECKSUM}), found {checksum}"
        )
        raise MapMismatchError(msg)
    if calibration.error_kind == "ignore":
        calibration = calibration._replace(error_kind=None)
    return calibration


def erase(header: MutableMapping[str, Any]) -> None:
    """Remove the record from a header, in place, and restore what it replaced."""
    for keyword in RECORD:
        header.pop(keyword, None)
    for keyword, kept in _MEASURED.items():
        header.pop(keyword, None)
        if kept in header:
            _rename(header, kept, keyword)
    for keyword, kept in _KEPT.items():
        if kept in header:
            _restore(header, keyword, kept)
        elif keyword != "BUNIT":
            header.pop(keyword, None)


def _check_record(calibration: Calibration) -> None:
    """Raise `KS4Error` if a record contains values that `write` never writes."""
    problems = [
        keyword
        for keyword, value, good in (
            ("KS4ZPTGT", calibration.zeropoint, lambda v: abs(v) < 1000),
            ("KS4ZPSCL", calibration.unit_scale, lambda v: 0 < v < math.inf),
        )
        if isinstance(value, bool) or not isinstance(value, Real) or not good(value)
    ]
    problems += [
        keyword
        for keyword, value, allowed in (
            ("KS4ZPMTH", calibration.method, METHODS),
            ("KS4ZPERR", calibration.error_kind, (*ERROR_KINDS, "ignore")),
        )
        if not isinstance(value, str) or value not in allowed
    ]
    for keyword, value in (
        ("KS4ZPUNI", calibration.unit),
        ("KS4ZPNEW", calibration.new_unit),
    ):
        try:
            known = isinstance(value, str) and isinstance(u.Unit(value), u.UnitBase)
        except ValueError:
            known = False
        if not known:
            problems.append(keyword)
    if problems:
        msg = (
            "expected the record of a calibration by this package in the header, found "
            f"other values of {', '.join(problems)}: restore them to remove the "
            "calibration"
        )
        raise KS4Error(msg)


def _set(
    header: MutableMapping[str, Any], keyword: str, value: object, comment: str | None
) -> None:
    """Set a card of a FITS header, or an item of another mapping."""
    if isinstance(value, str):
        value = card_text(value)
    if isinstance(header, fits.Header) and comment is not None:
        # A card has 80 characters, of which a value occupies 20 or more.
        fits_in = max(len(str(value)) + 2, 20) + len(comment) <= 67
        header[keyword] = (value, comment if fits_in else "")
    else:
        header[keyword] = value
