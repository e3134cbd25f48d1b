# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check the options of a calibration, and resolve them for one image."""

import warnings
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from astropy import units as u

from ks4_ccd.exceptions import (
    DirectionlessMapError,
    KS4Error,
    KS4Warning,
    OptionError,
    finite,
    one_of,
)
from ks4_ccd.files.images import as_hdu
from ks4_ccd.files.units import as_gain, factor_to_counts
from ks4_ccd.ks4.quality import field_flags
from ks4_ccd.ks4.recipe import EMPTY_ZEROPOINT, METHOD
from ks4_ccd.maps.denoising import Edges, NoiseReduction
from ks4_ccd.maps.errors import ERROR_KINDS
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry._record import METHODS, Calibration

__all__ = [
    "METHODS",
    "CalibrationOptions",
    "FileCalibrationOptions",
    "Plan",
    "require_zeropoints",
    "result_dtype",
    "warn_flags",
]

# mag, a factor of 10,000.
_LARGEST_CHANGE = 10

# Units of the result over 1 ADU, so that a gain does not bring it to 0 or infinity.
_LEAST_SCALE = 1e-290


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """
    Options of the calibration of pixels.

    The attributes are the arguments of `~ks4_ccd.apply_zeropoint` with the same
    names. All of them are checked here.

    Raises
    ------
    OptionError
        If a value is not allowed.
    """

    zeropoint: float = 30.0
    method: str = "bilinear"
    zp_error: str = "propagate"
    error_kind: str = "scatter"
    uncalibrated: str = "mask"
    unit: u.UnitBase | str | None = None
    gain: u.Quantity | None = None
    recalibrate: bool = False

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        one_of("zp_error", self.zp_error, ("propagate", "ignore"))
        one_of("error_kind", self.error_kind, ERROR_KINDS)
        one_of("uncalibrated", self.uncalibrated, ("mask", "fill", "raise"))
        self._set("zeropoint", finite("zeropoint", self.zeropoint))
        self._set("unit", _flux_unit(self.unit, self.zeropoint))
        self._set("gain", as_gain(self.gain))
        self._set("recalibrate", bool(self.recalibrate))

    def _set(self, name: str, value: object) -> None:
        # The class is frozen; an argument is replaced by its resolved value.
        object.__setattr__(self, name, value)

    def plan(self, zpmap: ZeroPointMap, image_unit: u.UnitBase) -> "Plan":
        """
        Resolve the options for an image.

        Raises
        ------
        KS4Error
            If the image is not in the unit of the map, or a zero point of the
            map is too far from that of the result.
        """
        counts_per_pixel = factor_to_counts(image_unit, zpmap, self.gain)
        _refuse_factors(zpmap, self.zeropoint, self.method)
        new_unit = image_unit if counts_per_pixel == 1 else zpmap.image_unit
        unit_scale, unit_zeropoint = counts_per_pixel, self.zeropoint
        if isinstance(self.unit, u.UnitBase):
            new_unit = self.unit
            unit_scale *= float((self.zeropoint * u.ABmag).to_value(new_unit))
            unit_zeropoint = float((1 * new_unit).to_value(u.ABmag))
        calibration = Calibration(
            map_name=zpmap.name,
            method=self.method,
            zeropoint=self.zeropoint,
            error_kind=self.error_kind if self.zp_error == "propagate" else None,
            unit_scale=unit_scale,
            unit=image_unit.to_string(),
            new_unit=new_unit.to_string(),
        )
        return Plan(calibration, new_unit, unit_zeropoint, counts_per_pixel)

    def call(self, zpmap: ZeroPointMap) -> dict[str, object]:
        """Return the arguments that are logged in the header of an image."""
        return {
            "zpmap": zpmap.name,
            "zeropoint": self.zeropoint,
            "method": self.method,
            "zp_error": self.zp_error,
            "error_kind": self.error_kind,
        }


@dataclass(frozen=True, kw_only=True)
class FileCalibrationOptions(CalibrationOptions):
    """
    Options of the calibration of the image in a FITS file.

    The attributes are the arguments of `~ks4_ccd.calibrate_file` with the same
    names.

    Raises
    ------
    OptionError
        If a value is not allowed.
    """

    mode: str = "single"
    aperture: str = "APER5"
    smooth: float | None = None
    denoise: str | Edges | None = None
    hdu: int | str | tuple[str, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        reduction = NoiseReduction(self.smooth, self.denoise, self.method == METHOD)
        self._set("smooth", reduction.smooth)
        self._set("denoise", reduction.denoise)
        self._set("hdu", as_hdu(self.hdu))

    def prepared(self, zpmap: ZeroPointMap) -> ZeroPointMap:
        """Return a map as it is applied: smoothed or denoised if asked for."""
        return NoiseReduction(self.smooth, self.denoise).of(zpmap)

    def as_dict(self) -> dict[str, object]:
        """Return the options that are not `None`, as numbers and text."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value if isinstance(value, str | float | int | tuple) else str(value)
            for name, value in given.items()
            if value is not None
        }


def _flux_unit(unit: u.UnitBase | str | None, zeropoint: float) -> u.UnitBase | None:
    """Return a unit of physical fluxes, or raise `OptionError`."""
    if unit is None:
        return None
    try:
        unit_of_result = u.Unit(unit)
        if not isinstance(unit_of_result, u.UnitBase):
            msg = "magnitudes are not fluxes"
            raise ValueError(msg)
        scale = float((zeropoint * u.ABmag).to_value(unit_of_result))
        if not _LEAST_SCALE < scale < 1 / _LEAST_SCALE:
            msg = f"its scale is {unit_of_result.decompose().scale:g}"
            raise ValueError(msg)
    except (ValueError, TypeError, u.UnitsError) as error:
        msg = f"unit must be a unit to which nJy converts, got {unit!r}: {error}"
        raise OptionError(msg) from None
    return unit_of_result


class Plan(NamedTuple):
    """
    A calibration of one image, with its units resolved.

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


def _refuse_factors(zpmap: ZeroPointMap, zeropoint: float, method: str) -> None:
    """Raise `KS4Error` if a zero point is more than 10 mag from that of the result."""
    if method == METHOD:
        applied = zpmap.marked(EMPTY_ZEROPOINT)["values"]
    else:
        applied = zpmap.values[zpmap.valid]
    applied = applied[np.isfinite(applied)]
    if not applied.size:
        return
    farthest = float(applied[np.argmax(np.abs(applied - zeropoint))])
    if abs(farthest - zeropoint) <= _LARGEST_CHANGE:
        return
    if abs(np.median(applied) - zeropoint) <= _LARGEST_CHANGE:
        cause = "the cell is wrong: mark it as empty by a star count of 0"
    elif abs(np.median(applied)) < _LARGEST_CHANGE:
        cause = (
            "the magnitudes from which the map was built probably contained a zero "
            "point (SExtractor's MAG_ZEROPOINT): give it as mag_zeropoint= "
            "(--mag-zeropoint) when building the map"
        )
    else:
        cause = (
            "give a zeropoint= (--zeropoint) near that of the map, or check that the "
            "map contains zero points of images in counts (ADU)"
        )
    msg = (
        f"expected zero points within {_LARGEST_CHANGE} mag of "
        f"zeropoint={zeropoint:g}, found {farthest:g} mag in {zpmap.name}, a factor of "
        f"{10 ** (0.4 * np.clip(zeropoint - farthest, -700, 700)):.3g}: {cause}"
    )
    raise KS4Error(msg)


def require_zeropoints(zpmap: object) -> ZeroPointMap:
    """
    Return a zero-point map unchanged.

    Raises
    ------
    DirectionlessMapError
        If it is a `~ks4_ccd.MisalignmentMap`.
    OptionError
        If it is anything else.
    """
    if isinstance(zpmap, MisalignmentMap):
        msg = (
            "zpmap is a MisalignmentMap, which contains the quality of positions and "
            "no zero points: load a map with .zeropoint(...)"
        )
        raise DirectionlessMapError(msg)
    if not isinstance(zpmap, ZeroPointMap):
        msg = f"zpmap must be a ZeroPointMap, got {type(zpmap).__name__}"
        raise OptionError(msg)
    return zpmap


def warn_flags(key: MapKey | None, stacklevel: int = 3) -> None:
    """Issue a warning if DR1 flags the field of a map in its band."""
    if key is None:
        return
    try:
        flags = field_flags(key.field, key.band)
    except KS4Error:
        # A field of another survey.
        flags = ()
    if flags:
        msg = (
            f"DR1 flags field {key.field} in {key.band}: {', '.join(flags)}; "
            "its zero points may be wrong"
        )
        warnings.warn(msg, KS4Warning, stacklevel=stacklevel)


def result_dtype(dtype: np.dtype, scale: float = 1.0) -> np.dtype:
    """
    Return the dtype of a calibrated plane.

    Single and double precision are kept. Integers become float32, as do
    half-precision floats, whose largest value is 65504. The dtype is float64
    where counts, or their variances, times ``scale`` exceed the range of
    float32.
    """
    if dtype.kind != "f" or dtype.itemsize < 4:
        dtype = np.dtype(np.float32)
    if dtype.itemsize == 4 and not 1e-33 < scale < 1e28:
        dtype = np.dtype(np.float64)
    return dtype.newbyteorder("=")
