# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Zero-point maps applied to images in memory: CCDData in, CCDData out."""

import copy
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData

from ks4_ccd.exceptions import (
    GeometryError,
    KS4Error,
    MapMismatchError,
)
from ks4_ccd.footprint import check_belongs, find_origin
from ks4_ccd.photometry import _record
from ks4_ccd.photometry._plan import (
    check_choices,
    plan,
    require_zeropoints,
    result_dtype,
    uncalibrated_rows,
    warn_flags,
)
from ks4_ccd.photometry._rows import UNCERTAINTY_KINDS, ZeroPointRows

__all__ = ["apply_zeropoint", "remove_zeropoint"]

_MAX_WORKERS = 4
_WORTH_THREADS = 2**22  # pixels


def apply_zeropoint(
    ccd,
    zpmap,
    *,
    zeropoint=30.0,
    method="bilinear",
    zp_error="propagate",
    error_kind="scatter",
    uncalibrated="mask",
    origin=None,
    unit=None,
    recalibrate=False,
    add_keyword=True,
):
    """
    Give an image the same zero point everywhere.

    Each pixel is multiplied by ``10**(0.4 * (zeropoint - zp))``, ``zp`` being
    the zero point of the map at the pixel.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        The image, a KS4 stack or a part of one. It is not changed.
    zpmap : `~ks4_ccd.ZeroPointMap`
        The map of its field, band and aperture.
    zeropoint : float, optional
        The AB magnitude of one count in the result.
    method : {"bilinear", "nearest", "dr1"}, optional
        How the map is interpolated: see `ZeroPointMap.at
        <ks4_ccd.ZeroPointMap.at>`. ``"dr1"`` gives the image that the
        release's own function gives.
    zp_error : {"propagate", "ignore"}, optional
        Whether the error of the zero point goes into the uncertainty. An
        image without uncertainty stays without.
    error_kind : {"scatter", "median"}, optional
        Which error that is: see `ZeroPointMap.error_at
        <ks4_ccd.ZeroPointMap.error_at>`.
    uncalibrated : {"mask", "fill", "raise"}, optional
        What becomes of pixels whose cell is empty and touches no cell with
        stars: they are masked, left with a value from the nearest cells
        with stars, or refused.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        Where the image begins on the stack: 0-based pixel coordinates
        ``(x, y)`` of its first pixel. By default the image says so itself,
        by its shape, its WCS or LTV1 and LTV2.
    unit : `~astropy.units.Unit` or str, optional
        Give physical fluxes in this unit, such as nJy, instead of counts.
    recalibrate : bool, optional
        Calibrate even an image that was calibrated before.
    add_keyword : bool, `None`, str, `~ccdproc.Keyword` or mapping, optional
        What to log in the metadata, as in ccdproc: by default the call,
        under the keyword APPLYZP; nothing with `False` or `None`.

    Returns
    -------
    calibrated : `~astropy.nddata.CCDData`
        With data and uncertainty of the dtype they had (float32 for an
        image of integers), mask, flags, WCS and PSF, and a header that has
        MAGZERO, EMAGZERO and PHOTREF set, SATURATE and UNDERSAT rescaled
        where they were, and a record of the calibration (KS4ZP...).

    Raises
    ------
    AlreadyCalibratedError
        If the image has been calibrated and ``recalibrate`` is false, or is
        in physical units.
    MapMismatchError
        If image and map are of different fields or bands, or if pixels are
        uncalibrated and ``uncalibrated="raise"``.
    GeometryError
        If the image is not 2D, or does not lie, or is not known to lie, on
        the map.
    KS4Error
        If an argument is not one of the allowed values, or the map lacks
        the errors that are to be propagated.

    Warns
    -----
    KS4Warning
        If the release flags the field of the map in its band.

    See Also
    --------
    remove_zeropoint : the inverse
    ks4_ccd.calibrate_file : the same from file to file

    Notes
    -----
    With ``s`` the standard deviation of a pixel of ``c`` counts and ``e``
    the error of the zero point, that of the result is ``factor * sqrt(s**2 +
    (0.4 ln(10) c e)**2)``, as astropy's multiplication with an uncertain
    factor has it. The zero point's part is common to all pixels of a cell.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from ks4_ccd import MapGrid, ZeroPointMap, apply_zeropoint
    >>> zpmap = ZeroPointMap(
    ...     np.full((2, 2), 29.5), error=np.full((2, 2), 0.02), grid=MapGrid((2, 2), 50)
    ... )
    >>> image = np.full((100, 100), 1000, dtype=np.float32)
    >>> ccd = CCDData(image, unit="adu", uncertainty=StdDevUncertainty(image / 100))
    >>> calibrated = apply_zeropoint(ccd, zpmap)
    >>> for plane in (calibrated.data, calibrated.uncertainty.array):
    ...     print(plane.dtype, f"{plane[0, 0]:.2f}")
    float32 1584.89
    float32 33.22
    """
    _check_types(ccd, zpmap)
    _record.check_log(add_keyword)
    check_choices(method, zp_error, error_kind, uncalibrated)
    _record.refuse_second(ccd.meta, recalibrate)
    check_belongs(ccd.meta, zpmap.key)
    if ccd.uncertainty is None:
        zp_error = "ignore"
    calibration, new_unit, unit_zeropoint = plan(
        zpmap, ccd.unit, zeropoint, method, zp_error, error_kind, unit
    )
    origin = _origin(ccd, zpmap, origin)
    warn_flags(zpmap.key)
    mask = _result_mask(ccd, zpmap, origin, uncalibrated)
    result = _transform(ccd, zpmap, origin, calibration, new_unit, mask=mask)
    _record.write(
        result.meta,
        calibration,
        zpmap,
        zpmap.grid.cells_of_image(origin, ccd.shape),
        unit_zeropoint,
        None if unit is None else new_unit.to_string(),
    )
    arguments = {"zpmap": zpmap.name, "zeropoint": zeropoint, "method": method}
    arguments |= {"zp_error": zp_error, "error_kind": error_kind}
    _record.log_call(result.meta, "APPLYZP", arguments, add_keyword)
    return result


def remove_zeropoint(ccd, zpmap, *, origin=None, add_keyword=True):
    """
    Undo `apply_zeropoint`.

    Method, zero point, unit and errors are those that the record in the
    header names.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        A calibrated image, or a part of one. It is not changed.
    zpmap : `~ks4_ccd.ZeroPointMap`
        The map that was applied.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        Where the image begins on the stack, as in `apply_zeropoint`.
    add_keyword : bool, `None`, str, `~ccdproc.Keyword` or mapping, optional
        What to log in the metadata, by default the call, under REMOVEZP.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The image as it was before, to rounding. Pixels that were masked
        as uncalibrated stay masked.

    Raises
    ------
    KS4Error
        If the header has no record of a calibration.
    MapMismatchError
        If ``zpmap`` is not the map that was applied.
    GeometryError
        If the image does not lie, or is not known to lie, on the map.

    Notes
    -----
    The part of the zero point's error is taken out of the uncertainty again.
    Where it is nearly all of it, in bright pixels, little is left of the
    precision of a float32.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> from ks4_ccd import MapGrid, ZeroPointMap, apply_zeropoint, remove_zeropoint
    >>> zpmap = ZeroPointMap(np.full((2, 2), 29.5), grid=MapGrid((2, 2), 50))
    >>> ccd = CCDData(np.full((100, 100), 1000.0), unit="adu")
    >>> calibrated = apply_zeropoint(ccd, zpmap, unit="nJy")
    >>> print(f"{calibrated.data[0, 0]:.1f} {calibrated.unit}")
    5754.4 nJy
    >>> removed = remove_zeropoint(calibrated, zpmap)
    >>> print(f"{removed.data[0, 0]:.1f} {removed.unit}")
    1000.0 adu
    """
    _check_types(ccd, zpmap)
    calibration = _record.read(ccd.meta, zpmap)
    check_belongs(ccd.meta, zpmap.key)
    origin = _origin(ccd, zpmap, origin)
    if ccd.unit != u.Unit(calibration.new_unit):
        msg = (
            f"the image is in {ccd.unit}, and was in {calibration.new_unit} when it "
            "was calibrated: convert it back first"
        )
        raise MapMismatchError(msg)
    unit = u.Unit(calibration.unit)
    mask = _result_mask(ccd, zpmap, origin, "fill")
    result = _transform(ccd, zpmap, origin, calibration, unit, mask=mask, inverse=True)
    _record.erase(result.meta)
    if "BUNIT" in result.meta:
        result.meta["BUNIT"] = calibration.unit
    _record.log_call(result.meta, "REMOVEZP", {"zpmap": zpmap.name}, add_keyword)
    return result


def _origin(ccd, zpmap, origin):
    field = None if zpmap.key is None else zpmap.key.field
    grid = zpmap.grid
    return find_origin(ccd.meta, ccd.wcs, ccd.shape, grid, origin, field=field)


def _check_types(ccd, zpmap):
    require_zeropoints(zpmap)
    if not isinstance(ccd, CCDData):
        msg = f"ccd must be a CCDData, got {type(ccd).__name__}"
        raise KS4Error(msg)
    if ccd.data.dtype.kind not in "iuf":
        msg = f"ccd must hold real numbers, got dtype {ccd.data.dtype}"
        raise KS4Error(msg)


def _transform(ccd, zpmap, origin, calibration, unit, *, mask, inverse=False):
    """Return the image with a map applied, or taken off; its header as it was."""
    uncertainty = _uncertainty_planes(ccd)
    rows = ZeroPointRows(
        zpmap,
        origin,
        ccd.shape,
        zeropoint=calibration.zeropoint,
        method=calibration.method,
        error_kind=calibration.error_kind,
        unit_scale=calibration.unit_scale,
        inverse=inverse,
    )
    out = np.empty(ccd.shape, result_dtype(ccd.data.dtype))
    planes, out_uncertainty = [ccd.data, out], None
    if uncertainty is not None:
        array, kind = uncertainty
        out_array = np.empty(ccd.shape, result_dtype(array.dtype))
        planes += [array, out_array]
        out_uncertainty = type(ccd.uncertainty)(out_array, copy=False)

    def calibrate(first):
        band = slice(first, first + height)
        data, out, *error = (plane[band] for plane in planes)
        if error:
            rows.apply(data, out, error[0], kind, error[1], first=first)
        else:
            rows.apply(data, out, first=first)

    # Memory is the limit, and one core alone does not reach it.
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    height = -(-ccd.shape[0] // workers) if ccd.size > _WORTH_THREADS else ccd.shape[0]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(calibrate, range(0, ccd.shape[0], height)))
    return CCDData(
        out,
        unit=unit,
        uncertainty=out_uncertainty,
        mask=mask,
        flags=copy.deepcopy(ccd.flags),
        meta=copy.deepcopy(ccd.meta),
        wcs=copy.deepcopy(ccd.wcs),
        psf=copy.deepcopy(ccd.psf),
    )


def _uncertainty_planes(ccd):
    """Return the array of the image's uncertainty, in its unit, and its kind."""
    if ccd.uncertainty is None or ccd.uncertainty.array is None:
        return None
    uncertainty = ccd.uncertainty
    kind = uncertainty.uncertainty_type
    if kind not in UNCERTAINTY_KINDS:
        msg = (
            f"uncertainty must be a StdDevUncertainty, VarianceUncertainty or "
            f"InverseVariance, got {type(uncertainty).__name__}"
        )
        raise KS4Error(msg)
    array = np.asarray(uncertainty.array)
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    if array.shape != ccd.shape:
        msg = f"uncertainty has the shape {array.shape}, the data have {ccd.shape}"
        raise GeometryError(msg)
    own_unit = ccd.unit ** UNCERTAINTY_KINDS[kind].power
    if uncertainty.unit not in (None, own_unit):
        array = array * array.dtype.type(uncertainty.unit.to(own_unit))
    return array, kind


def _result_mask(ccd, zpmap, origin, uncalibrated):
    """Return the mask of the result: a copy of the image's, and empty regions."""
    mask = None
    if ccd.mask is not None and ccd.mask is not np.ma.nomask:
        if np.shape(ccd.mask) not in ((), ccd.shape):
            msg = f"mask has the shape {np.shape(ccd.mask)}, the data have {ccd.shape}"
            raise GeometryError(msg)
        mask = np.array(np.broadcast_to(ccd.mask, ccd.shape), dtype=bool)
    for rows, columns in uncalibrated_rows(zpmap, origin, ccd.shape, uncalibrated):
        if mask is None:
            mask = np.zeros(ccd.shape, bool)
        mask[rows] |= columns
    return mask
