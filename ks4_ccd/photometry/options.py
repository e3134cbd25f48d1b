# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Resolve the options of a calibration, in memory and from file to file alike."""

import warnings
from typing import NamedTuple

import numpy as np
from astropy import units as u

from ks4_ccd.exceptions import (
    DirectionlessMapError,
    KS4Error,
    KS4Warning,
    MapMismatchError,
    finite,
    one_of,
)
from ks4_ccd.files.units import as_gain, factor_to_counts
from ks4_ccd.ks4.quality import field_flags
from ks4_ccd.maps.errors import ERROR_KINDS
from ks4_ccd.maps.grid import METHODS
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry._record import Calibration
from ks4_ccd.photometry._rows import unreachable_rows

__all__ = [
    "Plan",
    "check_choices",
    "plan",
    "require_zeropoints",
    "result_dtype",
    "uncalibrated_rows",
    "warn_flags",
]


# mag, a factor of 10,000.
_LARGEST_CHANGE = 10


def check_choices(method, zp_error, error_kind, uncalibrated):
    """Raise `KS4Error` if an option is not one of its allowed values."""
    one_of("method", method, METHODS)
    one_of("zp_error", zp_error, ("propagate", "ignore"))
    one_of("error_kind", error_kind, ERROR_KINDS)
    one_of("uncalibrated", uncalibrated, ("mask", "fill", "raise"))


def require_zeropoints(zpmap):
    """Return a zero-point map as it is, refuse anything else."""
    if isinstance(zpmap, MisalignmentMap):
        msg = (
            "zpmap is a MisalignmentMap, which contains the quality of positions and "
            "no zero points: load a map with .zeropoint(...)"
        )
        raise DirectionlessMapError(msg)
    if not isinstance(zpmap, ZeroPointMap):
        msg = f"zpmap must be a ZeroPointMap, got {type(zpmap).__name__}"
        raise KS4Error(msg)
    return zpmap


class Plan(NamedTuple):
    """
    What a calibration does to an image.

    Attributes
    ----------
    calibration : `~ks4_ccd.photometry._record.Calibration`
    unit : `~astropy.units.UnitBase`
        The unit of the result.
    unit_zeropoint : float
        The AB magnitude of one of these units.
    counts_per_pixel : float
        The factor from the pixels of the image to the unit of the map.
    """

    calibration: Calibration
    unit: u.UnitBase
    unit_zeropoint: float
    counts_per_pixel: float


def plan(zpmap, old_unit, zeropoint, method, zp_error, error_kind, unit, gain):
    """Return the `Plan` for an image in ``old_unit``."""
    gain = as_gain(gain)
    zeropoint = finite("zeropoint", zeropoint)
    counts_per_pixel = factor_to_counts(old_unit, zpmap, gain)
    _refuse_factors(zpmap, zeropoint, method)
    new_unit = old_unit if counts_per_pixel == 1 else zpmap.image_unit
    unit_scale, unit_zeropoint = counts_per_pixel, zeropoint
    if unit is not None:
        try:
            new_unit = u.Unit(unit)
            if not isinstance(new_unit, u.UnitBase):
                msg = "magnitudes are not fluxes"
                raise ValueError(msg)
            unit_scale *= float((zeropoint * u.ABmag).to_value(new_unit))
            if not 0 < unit_scale < np.inf:
                msg = f"its scale is {new_unit.decompose().scale:g}"
                raise ValueError(msg)
            unit_zeropoint = float((1 * new_unit).to_value(u.ABmag))
        except (ValueError, TypeError, u.UnitsError) as error:
            msg = f"unit must be one that nJy converts to, got {unit!r}: {error}"
            raise KS4Error(msg) from None
    calibration = Calibration(
        map_name=zpmap.name,
        method=method,
        zeropoint=zeropoint,
        error_kind=error_kind if zp_error == "propagate" else None,
        unit_scale=unit_scale,
        unit=old_unit.to_string(),
        new_unit=new_unit.to_string(),
    )
    return Plan(calibration, new_unit, unit_zeropoint, counts_per_pixel)


def _refuse_factors(zpmap, zeropoint, method):
    """Raise `KS4Error` if a zero point is more than 10 mag from that of the result."""
    applied = zpmap.values if method == "dr1" else zpmap.values[zpmap.valid]
    applied = applied[np.isfinite(applied)]
    if not applied.size:
        return
    farthest = float(applied[np.abs(applied - zeropoint).argmax()])
    if abs(farthest - zeropoint) <= _LARGEST_CHANGE:
        return
    if abs(np.median(applied) - zeropoint) <= _LARGEST_CHANGE:
        cause = "the cell is wrong: mark it as empty by a star count of 0"
    elif abs(np.median(applied)) < _LARGEST_CHANGE:
        cause = (
            "the magnitudes that the map was built from probably contained a zero "
            "point (SExtractor's MAG_ZEROPOINT): give it as mag_zeropoint= "
            "(--mag-zeropoint) when building the map"
        )
    else:
        cause = (
            "give a zeropoint= (--zeropoint) near that of the map, or check that the "
            "map holds zero points of images in counts"
        )
    msg = (
        f"expected zero points within {_LARGEST_CHANGE} mag of "
        f"zeropoint={zeropoint:g}, found {farthest:g} mag in {zpmap.name}, a factor of "
        f"{10 ** (0.4 * np.clip(zeropoint - farthest, -700, 700)):.3g}: {cause}"
    )
    raise KS4Error(msg)


def uncalibrated_rows(zpmap, origin, shape, uncalibrated):
    """
    Yield what is to be masked as uncalibrated: see `unreachable_rows`.

    Raises
    ------
    MapMismatchError
        If there is anything and ``uncalibrated`` is ``"raise"``.
    """
    if uncalibrated == "fill":
        return
    for rows, columns in unreachable_rows(zpmap, origin, shape):
        if uncalibrated == "raise":
            msg = (
                f"pixels of the image, of rows {rows.start} to {rows.stop - 1} among "
                f"others, are far from any cell with stars of {zpmap.name}: "
                'uncalibrated="mask" or "fill" accepts them'
            )
            raise MapMismatchError(msg)
        yield rows, columns


def warn_flags(key):
    """Warn if the release flags the field of a map."""
    try:
        flags = field_flags(key.field, key.band) if key is not None else ()
    except KS4Error:
        # A field of another survey: the release says nothing of it.
        flags = ()
    if flags:
        msg = (
            f"the release flags field {key.field} in {key.band}: {', '.join(flags)}; "
            "its zero points may be off"
        )
        warnings.warn(msg, KS4Warning, stacklevel=3)


def result_dtype(dtype, scale=1.0):
    """
    Return the dtype of a calibrated plane.

    Floats keep theirs, other numbers become float32, as do half-precision
    floats, which end at 65504. Where pixels of counts, or their variances,
    times ``scale`` are beyond the range of float32 it is float64.
    """
    if dtype.kind != "f" or dtype.itemsize < 4:
        dtype = np.dtype(np.float32)
    if dtype.itemsize == 4 and not 1e-33 < scale < 1e28:
        dtype = np.dtype(np.float64)
    return dtype.newbyteorder("=")
