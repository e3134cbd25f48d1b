# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Apply a zero-point map to the planes of a CCDData, numpy or dask arrays."""

import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData

from ks4_ccd.exceptions import GeometryError, KS4Error, OptionError
from ks4_ccd.files.pixels import blank_value
from ks4_ccd.files.units import conversion
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry._record import Calibration
from ks4_ccd.photometry._rows import (
    UNCERTAINTY_KINDS,
    ZeroPointRows,
    uncalibrated_rows,
)
from ks4_ccd.photometry.options import require_zeropoints, result_dtype

__all__ = ["check_types", "result_mask", "transform"]

_MAX_WORKERS = 4
_WORTH_THREADS = 2**22  # pixels


def check_types(ccd: object, zpmap: object) -> None:
    """Raise `KS4Error` unless ``ccd`` is an image of real numbers and zpmap a map."""
    require_zeropoints(zpmap)
    if not isinstance(ccd, CCDData):
        msg = f"ccd must be a CCDData, got {type(ccd).__name__}"
        raise OptionError(msg)
    if ccd.data.dtype.kind not in "iuf":
        msg = f"ccd must contain real numbers, got dtype {ccd.data.dtype}"
        raise KS4Error(msg)
    if not all(isinstance(length, Integral) for length in ccd.shape):
        msg = (
            f"ccd must have a known shape, got {ccd.shape}: call "
            "compute_chunk_sizes() of its dask array first"
        )
        raise GeometryError(msg)


def transform(
    ccd: CCDData,
    zpmap: ZeroPointMap,
    origin: tuple[float, float],
    calibration: Calibration,
    unit: u.UnitBase,
    *,
    mask: np.ndarray | None,
    inverse: bool = False,
) -> CCDData:
    """
    Return an image with a map applied, or removed, and its header unchanged.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        Dask arrays remain dask arrays: nothing is computed.
    zpmap : `~ks4_ccd.ZeroPointMap`
    origin : tuple of float
        0-based pixel coordinates x, y of the image's first pixel on the grid.
    calibration : `~ks4_ccd.photometry._record.Calibration`
    unit : `~astropy.units.UnitBase`
        The unit of the result.
    mask : 2D array of bool or `None`
        The mask of the result.
    inverse : bool, optional
        Remove the map.

    Returns
    -------
    result : `~astropy.nddata.CCDData`
    """
    data = _as_array(ccd.data)
    error, kind = _uncertainty_plane(ccd)
    work = _Work(
        zpmap, origin, calibration, inverse, kind, blank_value(ccd.meta, data.dtype)
    )
    calibrate = _lazily if _is_dask(data) or _is_dask(error) else _at_once
    out, out_error = calibrate(work, data, error)
    uncertainty = None
    if out_error is not None:
        uncertainty = type(ccd.uncertainty)(out_error, copy=False)
    return CCDData(
        out,
        unit=unit,
        uncertainty=uncertainty,
        mask=mask,
        flags=copy.deepcopy(ccd.flags),
        meta=copy.deepcopy(ccd.meta),
        wcs=copy.deepcopy(ccd.wcs),
        psf=copy.deepcopy(ccd.psf),
    )


class _Work(NamedTuple):
    """The calibration of the pixels of an image: see `transform`."""

    zpmap: ZeroPointMap
    origin: tuple[float, float]
    calibration: Calibration
    inverse: bool
    kind: str | None
    # The pixel value that marks a missing value (BLANK).
    blank: int | None

    def rows(self, x: int, y: int, shape: tuple[int, ...]) -> ZeroPointRows:
        """Return the rows of the part of the image whose first pixel is x, y."""
        origin = self.origin[0] + x, self.origin[1] + y
        return ZeroPointRows(
            self.zpmap, origin, shape, self.calibration, inverse=self.inverse
        )

    def empty(self, data: Any, error: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return arrays for the result; the second is `None` without an error."""
        scale = self.calibration.unit_scale
        scale = 1 / scale if self.inverse else scale
        out = np.empty(data.shape, result_dtype(data.dtype, scale))
        if error is None or self.kind is None:
            return out, None
        scale **= UNCERTAINTY_KINDS[self.kind].power
        return out, np.empty(error.shape, result_dtype(error.dtype, scale))

    def apply(
        self,
        rows: ZeroPointRows,
        data: np.ndarray,
        out: np.ndarray,
        error: np.ndarray | None,
        out_error: np.ndarray | None,
        first: int = 0,
    ) -> None:
        """Calibrate consecutive rows."""
        if error is None:
            rows.apply(data, out, first=first)
        else:
            rows.apply(data, out, error, self.kind, out_error, first=first)
        if self.blank is not None:
            out[data == self.blank] = np.nan


def _as_array(array: Any) -> Any:
    """Return a numpy or dask array; others, such as those of HDF5, are copied."""
    return array if _is_dask(array) else np.asarray(array)


def _is_dask(array: object) -> bool:
    return hasattr(array, "__dask_graph__") and hasattr(array, "map_blocks")


def _at_once(
    work: _Work, data: np.ndarray, error: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the calibrated pixels and their uncertainties."""
    rows = work.rows(0, 0, data.shape)
    out, out_error = work.empty(data, error)

    def calibrate(first: int) -> None:
        band = slice(first, first + height)
        error_band = None if error is None else error[band]
        out_band = None if out_error is None else out_error[band]
        work.apply(rows, data[band], out[band], error_band, out_band, first)

    # The limit is the memory bandwidth, which a single core does not reach.
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    height = -(-len(data) // workers) if data.size > _WORTH_THREADS else len(data)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(calibrate, range(0, len(data), height)))
    return out, out_error


def _lazily(work: _Work, data: Any, error: Any) -> tuple[Any, ...]:
    """Return the calibrated pixels and their uncertainties as dask arrays."""
    import dask.array as da

    if not _is_dask(data):
        data = da.from_array(data, chunks=error.chunks)
    planes = [data]
    if error is not None:
        error = error if _is_dask(error) else da.from_array(error, chunks=data.chunks)
        planes.append(error.rechunk(data.chunks))
    # Results for images without pixels have the dtypes.
    results = work.empty(*(None if p is None else p[:0, :0] for p in (data, error)))
    return tuple(
        da.map_blocks(_block, *planes, work=work, part=part, meta=result)
        if result is not None
        else None
        for part, result in enumerate(results)
    )


def _block(
    data: np.ndarray,
    error: np.ndarray | None = None,
    *,
    work: _Work,
    part: int,
    block_info: Sequence[Any],
) -> np.ndarray | None:
    """Return the pixels (part 0) or the uncertainties (1) of a block of an image."""
    (start_y, _), (start_x, _) = block_info[0]["array-location"]
    results = work.empty(data, error)
    rows = work.rows(start_x, start_y, data.shape)
    work.apply(rows, data, results[0], error, results[1])
    return results[part]


def _uncertainty_plane(ccd: CCDData) -> tuple[Any, str | None]:
    """Return the array of the image's uncertainty, in its unit, and its kind."""
    if ccd.uncertainty is None or ccd.uncertainty.array is None:
        return None, None
    uncertainty = ccd.uncertainty
    kind = uncertainty.uncertainty_type
    if kind not in UNCERTAINTY_KINDS:
        msg = (
            "uncertainty must be a StdDevUncertainty, VarianceUncertainty or "
            f"InverseVariance, got {type(uncertainty).__name__}"
        )
        raise KS4Error(msg)
    array = _as_array(uncertainty.array)
    if array.dtype.kind != "f" or array.dtype.itemsize < 4:
        # Squares of small integers, and of half precision, overflow.
        array = array.astype(np.float32)
    if array.shape != ccd.shape:
        msg = f"expected an uncertainty of shape {ccd.shape}, found {array.shape}"
        raise GeometryError(msg)
    own_unit = ccd.unit ** UNCERTAINTY_KINDS[kind].power
    if uncertainty.unit not in (None, own_unit):
        factor = conversion(u.Unit(uncertainty.unit), own_unit)
        if factor is None:
            msg = (
                f"expected the uncertainty in a unit that converts to {own_unit}, "
                f"found {uncertainty.unit}: set the unit of ccd.uncertainty to None if "
                "it is in that of the image"
            )
            raise KS4Error(msg)
        if factor != 1:
            array = array * array.dtype.type(factor)
    return array, kind


def result_mask(
    ccd: CCDData, zpmap: ZeroPointMap, origin: tuple[float, float], uncalibrated: str
) -> np.ndarray | None:
    """Return a copy of the mask of an image, with uncalibrated pixels added."""
    mask = None
    # CCDData converts masks to numpy arrays, even with dask arrays of pixels.
    if ccd.mask is not None and ccd.mask is not np.ma.nomask:
        if np.shape(ccd.mask) not in ((), ccd.shape):
            msg = f"expected a mask of shape {ccd.shape}, found {np.shape(ccd.mask)}"
            raise GeometryError(msg)
        mask = np.array(np.broadcast_to(ccd.mask, ccd.shape), dtype=bool)
    for rows, columns in uncalibrated_rows(zpmap, origin, ccd.shape, uncalibrated):
        if mask is None:
            mask = np.zeros(ccd.shape, bool)
        mask[rows] |= columns
    return mask
