# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a calibration is to do, in memory and from file to file alike."""

import warnings

import numpy as np
from astropy import units as u

from ks4_ccd._arguments import finite, one_of
from ks4_ccd._calibration_map import ERROR_KINDS
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    DirectionlessMapError,
    KS4Error,
    KS4Warning,
    MapMismatchError,
)
from ks4_ccd.grid import METHODS
from ks4_ccd.maps import MisalignmentMap, ZeroPointMap
from ks4_ccd.photometry._record import Calibration
from ks4_ccd.photometry._rows import unreachable_rows
from ks4_ccd.release.quality import field_flags

__all__ = [
    "check_choices",
    "plan",
    "require_zeropoints",
    "result_dtype",
    "uncalibrated_rows",
    "warn_flags",
]


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
            "zpmap is a MisalignmentMap: it tells how good positions are, and has "
            "neither zero points nor a direction; load a map with .zeropoint(...)"
        )
        raise DirectionlessMapError(msg)
    if not isinstance(zpmap, ZeroPointMap):
        msg = f"zpmap must be a ZeroPointMap, got {type(zpmap).__name__}"
        raise KS4Error(msg)
    return zpmap


def plan(zpmap, old_unit, zeropoint, method, zp_error, error_kind, unit):
    """Return what is to be done: the `Calibration`, the new unit, its zero point."""
    zeropoint = finite("zeropoint", zeropoint)
    farthest = zpmap.values.flat[np.abs(zpmap.values - zeropoint).argmax()]
    if abs(farthest - zeropoint) > 50:
        msg = (
            f"{zpmap.name} has a zero point of {farthest:g} mag, more than 50 mag from "
            f"zeropoint={zeropoint:g}: it holds something else, or mark the cell as "
            "empty by a star count of 0"
        )
        raise KS4Error(msg)
    if not isinstance(old_unit, u.UnitBase) or {u.kg, u.dex} & set(
        old_unit.decompose().bases
    ):
        msg = f"the image is in {old_unit}, not in counts: it is calibrated already"
        raise AlreadyCalibratedError(msg)
    new_unit, unit_scale, unit_zeropoint = old_unit, 1.0, zeropoint
    if unit is not None:
        try:
            new_unit = u.Unit(unit)
            if not isinstance(new_unit, u.UnitBase):
                msg = "magnitudes are no fluxes"
                raise ValueError(msg)
            unit_scale = float((zeropoint * u.ABmag).to_value(new_unit))
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
    return calibration, new_unit, unit_zeropoint


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


def result_dtype(dtype):
    """Return the dtype of a calibrated plane: floats stay, others are float32."""
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float32)
