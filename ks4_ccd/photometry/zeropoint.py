# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Apply zero-point maps to images in memory, and remove them."""

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real

from astropy import units as u
from astropy.nddata import CCDData, Cutout2D

from ks4_ccd.astrometry.placement import check_belongs, find_origin
from ks4_ccd.exceptions import KS4Error, MapMismatchError
from ks4_ccd.files.units import refuse_other_bunit
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry import _record
from ks4_ccd.photometry._log import Keyword, check_log, log_call
from ks4_ccd.photometry._pixels import check_types, result_mask, transform
from ks4_ccd.photometry.options import CalibrationOptions, warn_flags

__all__ = ["apply_zeropoint", "remove_zeropoint"]

# The largest difference [mag] of equal zero points, written with few digits.
_SAME_ZEROPOINT = 1e-3


def apply_zeropoint(
    ccd: CCDData,
    zpmap: ZeroPointMap,
    *,
    zeropoint: float = 30.0,
    method: str = "bilinear",
    zp_error: str = "propagate",
    error_kind: str = "scatter",
    uncalibrated: str = "mask",
    origin: tuple[float, float] | Cutout2D | None = None,
    unit: u.UnitBase | str | None = None,
    gain: u.Quantity | None = None,
    recalibrate: bool = False,
    add_keyword: bool | str | Mapping[str, object] | Keyword | None = True,
) -> CCDData:
    """
    Bring every pixel of an image to a common zero point.

    Each pixel is multiplied by ``10**(0.4 * (zeropoint - zp))``, ``zp`` being
    the zero point of the map at the pixel.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        The image, a KS4 stack or a part of one, in counts: adu, DN or ct (or
        the unit that the map records). It is not changed. Dask arrays remain
        dask arrays, and nothing is computed.
    zpmap : `~ks4_ccd.ZeroPointMap`
        The map of its field, band and aperture.
    zeropoint : float, optional
        The AB magnitude of one count in the result, within 10 mag of the zero
        points of the map.
    method : {"bilinear", "nearest", "dr1"}, optional
        How the map is interpolated: see `ZeroPointMap.at
        <ks4_ccd.ZeroPointMap.at>`. ``"dr1"`` reproduces DR1's own
        function.
    zp_error : {"propagate", "ignore"}, optional
        Whether the zero-point uncertainty is propagated into the uncertainty
        of the image. An image without uncertainty remains without.
    error_kind : {"scatter", "median"}, optional
        Which zero-point uncertainty: see `ZeroPointMap.error_at
        <ks4_ccd.ZeroPointMap.error_at>`.
    uncalibrated : {"mask", "fill", "raise"}, optional
        How pixels are treated whose cell is empty and touches no cell with
        stars: they are masked, calibrated with the value from the nearest
        cells with stars, or refused.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The origin of the image on the stack: 0-based pixel coordinates
        ``(x, y)`` of its first pixel. By default it follows from the shape of
        the image, from its WCS, or from LTV1 and LTV2 where a WCS confirms
        them. A celestial WCS has to agree: see :doc:`/conventions`.
    unit : `~astropy.units.Unit` or str, optional
        Return physical fluxes in this unit, such as nJy, instead of counts.
    gain : `~astropy.units.Quantity`, optional
        The gain of the detector, such as ``4.8 * u.electron / u.adu``, for an
        image in electrons: they are converted to the unit of the map.
    recalibrate : bool, optional
        Calibrate even an image that was calibrated before.
    add_keyword : bool, `None`, str, `~ccdproc.Keyword` or mapping, optional
        What to log in the metadata, as in ccdproc: by default the call,
        under the keyword APPLYZP; nothing with `False` or `None`.

    Returns
    -------
    calibrated : `~astropy.nddata.CCDData`
        Data and uncertainty have the dtype that they had (integers and half
        precision become float32; single precision becomes double where
        ``unit`` takes it beyond its range), integers marked by BLANK are NaN,
        and mask, flags, WCS and PSF are kept. In the header MAGZERO, EMAGZERO
        and PHOTREF are set and SATURATE and UNDERSAT rescaled, measurements of
        the image before calibration are renamed (see Notes), and the
        calibration is recorded (KS4ZP...).

    Raises
    ------
    AlreadyCalibratedError
        If the image has been calibrated and ``recalibrate`` is false, or is
        in physical units.
    MapMismatchError
        If image and map are of different fields or bands, if the image is not
        in the unit of the map (rates, electrons without ``gain``, no unit), or
        if pixels are uncalibrated and ``uncalibrated="raise"``.
    GeometryError
        If the image is not 2D, if it is not, or cannot be shown to be, a part of
        the stack that the map covers, pixel by pixel, or if ``origin``, WCS and
        header contradict each other.
    OptionError
        If an argument is not one of the allowed values.
    KS4Error
        If the map lacks the errors to propagate, or a zero point is more than
        10 mag from ``zeropoint``.

    Warns
    -----
    KS4Warning
        If DR1 flags the field of the map in its band.

    See Also
    --------
    remove_zeropoint : the inverse
    ks4_ccd.calibrate_file : the same from file to file

    Notes
    -----
    With ``s`` the standard deviation of a pixel of ``c`` counts and ``e``
    the zero-point uncertainty, that of the result is ``factor * sqrt(s**2 +
    (0.4 ln(10) c e)**2)``, as in astropy's multiplication with an uncertain
    factor. The contribution of the zero point is common to all pixels of a cell.

    The survey's pipeline records in the header of a stack what it measured in
    it: a zero point for each aperture, its uncertainty and the number of its
    stars (ZPAPER5, ZEAPER5, ZSAPER5 and the like), RMSPHOT, DEPTH5, and in
    stacks of single nights ZEROERR and ZPSTAR. None of them is valid after
    calibration. They are renamed: KS4OZP, KS4OZE or KS4OZS and two characters
    for the aperture (FW, 03, 05, 10, AU), KS4ORMS, KS4ODEP5, KS4OZERR and
    KS4OZSTR. The former values of MAGZERO, EMAGZERO, PHOTREF, SATURATE,
    UNDERSAT and BUNIT are in KS4OZERO, KS4OEZER, KS4OREF, KS4OSAT, KS4OUND and
    KS4OUNIT. `remove_zeropoint` restores all of them. With ``gain``, SATURATE
    and UNDERSAT are rescaled if their comments record a unit (``[adu]``), and
    otherwise only kept as KS4OSAT and KS4OUND: `ccdproc.gain_correct` leaves
    them in adu.

    The record consists of KS4ZPMAP (the map), KS4ZPSUM (its checksum),
    KS4ZPDOI (the DOI of DR1, for maps from files with its names), KS4ZPCLR (the
    reference colour, for maps with a colour term),
    KS4ZPMTH, KS4ZPTGT and KS4ZPERR (method, zero point, error kind), KS4ZPSCL,
    KS4ZPUNI and KS4ZPNEW (units), KS4ZPNUM (number of calibrations) and
    KS4ZPVER (version of this package).

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
    check_types(ccd, zpmap)
    check_log(add_keyword)
    options = CalibrationOptions(
        zeropoint=zeropoint,
        method=method,
        zp_error=zp_error,
        error_kind=error_kind,
        uncalibrated=uncalibrated,
        unit=unit,
        gain=gain,
        recalibrate=recalibrate,
    )
    _record.refuse_second(ccd.meta, options.recalibrate)
    check_belongs(ccd.meta, zpmap.key)
    if ccd.uncertainty is None:
        options = replace(options, zp_error="ignore")
    planned = options.plan(zpmap, ccd.unit)
    refuse_other_bunit(ccd.meta, ccd.unit, zpmap)
    origin = _origin(ccd, zpmap, origin)
    warn_flags(zpmap.key)
    mask = result_mask(ccd, zpmap, origin, options.uncalibrated)
    result = transform(ccd, zpmap, origin, planned.calibration, planned.unit, mask=mask)
    cells = zpmap.grid.cells_of_image(origin, ccd.shape)
    _record.write(result.meta, planned, zpmap, cells)
    log_call(result.meta, "APPLYZP", options.call(zpmap), add_keyword)
    return result


def remove_zeropoint(
    ccd: CCDData,
    zpmap: ZeroPointMap,
    *,
    origin: tuple[float, float] | Cutout2D | None = None,
    add_keyword: bool | str | Mapping[str, object] | Keyword | None = True,
) -> CCDData:
    """
    Remove a calibration by `apply_zeropoint`.

    Method, zero point, unit, gain and errors are those that the header
    records.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        A calibrated image, or a part of one. It is not changed.
    zpmap : `~ks4_ccd.ZeroPointMap`
        The map that was applied.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The origin of the image on the stack, as in `apply_zeropoint`.
    add_keyword : bool, `None`, str, `~ccdproc.Keyword` or mapping, optional
        What to log in the metadata, by default the call, under REMOVEZP.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The image before calibration, to rounding. Pixels that were masked
        as uncalibrated remain masked.

    Raises
    ------
    KS4Error
        If the header does not record a calibration, or its MAGZERO is not
        that of the calibration.
    MapMismatchError
        If ``zpmap`` is not the map that was applied, by its name and by the
        checksum of its cells.
    GeometryError
        If the image does not lie, or cannot be shown to lie, on the map.

    Notes
    -----
    The contribution of the zero point is subtracted from the variance. In bright
    pixels, where it dominates, the result has little of the precision of a float32.

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
    check_types(ccd, zpmap)
    check_log(add_keyword)
    calibration = _record.read(ccd.meta, zpmap)
    check_belongs(ccd.meta, zpmap.key)
    origin = _origin(ccd, zpmap, origin)
    if ccd.unit != u.Unit(calibration.new_unit):
        msg = (
            f"the image is in {ccd.unit}, and was in {calibration.new_unit} when it "
            "was calibrated: convert it back first"
        )
        raise MapMismatchError(msg)
    _refuse_rescaled(ccd, calibration)
    unit = u.Unit(calibration.unit)
    mask = result_mask(ccd, zpmap, origin, "fill")
    result = transform(ccd, zpmap, origin, calibration, unit, mask=mask, inverse=True)
    _record.erase(result.meta)
    if "BUNIT" in result.meta:
        result.meta["BUNIT"] = calibration.unit
    log_call(result.meta, "REMOVEZP", {"zpmap": zpmap.name}, add_keyword)
    return result


def _refuse_rescaled(ccd: CCDData, calibration: _record.Calibration) -> None:
    """Refuse an image that was rescaled to another zero point afterwards."""
    expected = calibration.zeropoint
    if ccd.unit.is_equivalent(u.Jy):
        expected = float((1 * ccd.unit).to_value(u.ABmag))
    found = ccd.meta.get("MAGZERO", expected)
    if not isinstance(found, Real) or abs(float(found) - expected) > _SAME_ZEROPOINT:
        msg = (
            f"expected MAGZERO to be {expected:.6g}, the zero point of the recorded "
            f"calibration, found {found!r}: if the image was rescaled, scale it back "
            "first; otherwise correct MAGZERO"
        )
        raise KS4Error(msg)


def _origin(
    ccd: CCDData,
    zpmap: ZeroPointMap,
    origin: tuple[float, float] | Cutout2D | None,
) -> tuple[float, float]:
    field = None if zpmap.key is None else zpmap.key.field
    grid = zpmap.grid
    return find_origin(ccd.meta, ccd.wcs, ccd.shape, grid, origin, field=field)
