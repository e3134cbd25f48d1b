# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Apply zero-point maps to FITS files of any size, one band of rows at a time."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import Cutout2D
from tqdm import tqdm

from ks4_ccd.astrometry.correction import corrected
from ks4_ccd.astrometry.offset_record import record
from ks4_ccd.astrometry.placement import check_belongs, find_origin
from ks4_ccd.astrometry.tables import put_tables, without_tables
from ks4_ccd.files.images import SourceImage, refuse_mask
from ks4_ccd.files.planes import TargetPlanes
from ks4_ccd.files.uncertainties import UTYPES, uncertainty_factor
from ks4_ccd.files.units import bunit_of
from ks4_ccd.files.writing import as_path, check_suffix, written_whole
from ks4_ccd.ks4.header import band_of, field_in
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.base import CalibrationMap
from ks4_ccd.maps.denoising import Edges
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry import _record
from ks4_ccd.photometry._log import log_call
from ks4_ccd.photometry._rows import (
    UNCERTAINTY_KINDS,
    ZeroPointRows,
    uncalibrated_rows,
)
from ks4_ccd.photometry.options import (
    FileCalibrationOptions,
    Plan,
    require_zeropoints,
    result_dtype,
    warn_flags,
)

__all__ = ["calibrate_file", "calibrate_file_with"]

# Bytes of a plane that are calibrated at a time.
_BAND_BYTES = 8 * 2**20


def calibrate_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    library: MapLibrary | ZeroPointMap | str | os.PathLike[str],
    *,
    mode: str = "single",
    aperture: str = "APER5",
    smooth: float | None = None,
    denoise: str | Edges | None = None,
    offsets: OffsetMap | MapLibrary | str | os.PathLike[str] | None = None,
    zeropoint: float = 30.0,
    method: str = "bilinear",
    zp_error: str = "propagate",
    error_kind: str = "scatter",
    uncalibrated: str = "mask",
    origin: tuple[float, float] | Cutout2D | None = None,
    unit: u.UnitBase | str | None = None,
    gain: u.Quantity | None = None,
    recalibrate: bool = False,
    hdu: int | str | tuple[str, int] | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Path:
    """
    Bring every pixel of the image in a FITS file to a common zero point.

    The image is read, calibrated and written in bands of rows: the memory
    needed does not depend on its size. The new file is written completely or
    not at all.

    Parameters
    ----------
    source : path-like
        The FITS file, compressed (gzip, bzip2, xz, fpack) or not. Its image is
        calibrated with the extensions UNCERT and MASK, as `CCDData.write
        <astropy.nddata.CCDData>` writes them. Without MASK, the mask is that
        of a file NAME.mask.fits beside NAME.fits (either may be compressed).
        Tables, and images of other shapes, are copied unchanged.
    target : path-like
        The file to write, uncompressed FITS.
    library : `~ks4_ccd.MapLibrary`, path-like or `~ks4_ccd.ZeroPointMap`
        The library that contains the map of the image's field and band, or the
        map itself.
    mode : {"single", "dual", "Idual"}, optional
        The mode of the map.
    aperture : {"FWHM", "APER3", "APER5", "APER10", "AUTO"}, optional
        The aperture of the map.
    smooth : float, optional
        Smooth the map first, on this scale in cells: see
        `ZeroPointMap.smoothed <ks4_ccd.ZeroPointMap.smoothed>`.
    denoise : {"auto", "none"} or pair of sequences, optional
        Apply the surface through the cells of the map instead of the cells, with
        steps at these edges: 0-based pixel coordinates x, and y, ``"auto"`` for those
        found in each map, or ``"none"``. See
        `ZeroPointMap.denoised <ks4_ccd.ZeroPointMap.denoised>`. Not with ``smooth``,
        nor with ``method="dr1"``.
    offsets : `~ks4_ccd.OffsetMap`, `~ks4_ccd.MapLibrary` or path-like, optional
        Correct the positions by this map, or by the map in the library for the
        image's field and band: the WCS of the new file has lookup tables
        (CPDIS, WCSDVARR) and its header records the map (KS4OFMAP).
    zeropoint, method, zp_error, error_kind, uncalibrated, origin, unit, gain, \
recalibrate
        As in `~ks4_ccd.apply_zeropoint`.
    hdu : int, str or tuple of (str, int), optional
        The image to calibrate, in a file that contains several of one shape:
        the number of its HDU, its EXTNAME, or EXTNAME and EXTVER. The other
        images of that shape are left out of ``target``.
    overwrite : bool, optional
        Replace ``target`` if it exists; it may be ``source``. Without it, a
        file that appears there during the calibration is kept as well.
    progress : bool, optional
        Show a progress bar; by default if the output is a terminal.

    Returns
    -------
    target : `~pathlib.Path`
        The file written: the calibrated image in the primary HDU, UNCERT and
        MASK after it, the other extensions, and the applied map as the small
        images ZPMAP, ZPERRMAP and ZPCOUNT, in the orientation of the image.

    Raises
    ------
    KS4Error
        If a file cannot be read or written, is damaged, truncated or changed during
        the calibration, if it contains several images of one shape and ``hdu``
        is not given, or if an argument is wrong; subclasses are those of
        `~ks4_ccd.apply_zeropoint` and of `~ks4_ccd.MapLibrary`.

    Warns
    -----
    KS4Warning
        If DR1 flags the field of the map in its band, if data do not
        match their checksum (DATASUM), or if ``hdu`` leaves out planes that
        belong to an image according to their names, such as ERR or DQ.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> from ks4_ccd import MapGrid, ZeroPointMap, calibrate_file
    >>> zpmap = ZeroPointMap(np.full((2, 2), 27.5), grid=MapGrid((2, 2), 50))
    >>> with TemporaryDirectory() as folder:
    ...     CCDData(np.ones((100, 100)), unit="adu").write(f"{folder}/raw.fits")
    ...     target = calibrate_file(f"{folder}/raw.fits", f"{folder}/cal.fits", zpmap)
    ...     calibrated = CCDData.read(target)
    >>> print(f"{calibrated.data[0, 0]:.3f} {calibrated.unit}")
    10.000 adu
    """
    options = FileCalibrationOptions(
        mode=mode,
        aperture=aperture,
        smooth=smooth,
        denoise=denoise,
        zeropoint=zeropoint,
        method=method,
        zp_error=zp_error,
        error_kind=error_kind,
        uncalibrated=uncalibrated,
        unit=unit,
        gain=gain,
        recalibrate=recalibrate,
        hdu=hdu,
    )
    return calibrate_file_with(
        options,
        source,
        target,
        library,
        offsets=offsets,
        origin=origin,
        overwrite=overwrite,
        progress=progress,
    )


def calibrate_file_with(
    options: FileCalibrationOptions,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    library: MapLibrary | ZeroPointMap | str | os.PathLike[str],
    *,
    offsets: OffsetMap | MapLibrary | str | os.PathLike[str] | None = None,
    origin: tuple[float, float] | Cutout2D | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Path:
    """
    Calibrate the image in a FITS file, with options that are already checked.

    Parameters
    ----------
    options : `~ks4_ccd.photometry.options.FileCalibrationOptions`
    source, target, library, offsets, origin, overwrite, progress
        As in `calibrate_file`.

    Returns
    -------
    target : `~pathlib.Path`
    """
    source, target = as_path("source", source), as_path("target", target)
    check_suffix(target)
    refuse_mask(source)
    with SourceImage(source, options.hdu) as image:
        header = image.header
        _record.refuse_second(header, options.recalibrate)
        zpmap = _find_map(library, header, options.mode, options.aperture)
        check_belongs(header, zpmap.key)
        given_origin = origin
        field = None if zpmap.key is None else zpmap.key.field
        origin = find_origin(
            header, image.wcs, image.shape, zpmap.grid, origin, field=field
        )
        header, tables = _correct(image, header, offsets, options.mode, given_origin)
        zpmap = options.prepared(zpmap)
        if image.uncertainty is None:
            options = replace(options, zp_error="ignore")
        old_unit = bunit_of(header, source) or u.adu
        planned = options.plan(zpmap, old_unit)
        errors = _Errors.of(image, old_unit, planned)
        header.setdefault("BUNIT", planned.calibration.unit)
        cells = zpmap.grid.cells_of_image(origin, image.shape)
        _record.write(header, planned, zpmap, cells)
        log_call(header, "APPLYZP", options.call(zpmap), add_keyword=True)
        rows = ZeroPointRows(zpmap, origin, image.shape, planned.calibration)
        masked = list(
            uncalibrated_rows(zpmap, origin, image.shape, options.uncalibrated)
        )
        warn_flags(zpmap.key, stacklevel=4)
        with written_whole(target, overwrite) as partial:
            with open(partial, "wb") as file:
                planes = TargetPlanes(file, datasum=image.has_datasum)
                _write_planes(image, header, rows, masked, errors, planes, progress)
                planes.finish()
                for pieces in image.carried_over(tables=not tables):
                    planes.append(pieces)
            for table in tables:
                fits.append(partial, table.data, table.header, verify=False)
            for data, extension in _map_images(zpmap):
                fits.append(partial, data, extension, verify=False)
            image.finish()
    return target


def _find_map(
    library: MapLibrary | ZeroPointMap | str | os.PathLike[str],
    header: fits.Header,
    mode: str,
    aperture: str,
) -> ZeroPointMap:
    if isinstance(library, CalibrationMap):
        return require_zeropoints(library)
    if isinstance(library, MapLibrary):
        return library.for_header(header, mode, aperture)
    with MapLibrary(library) as opened:
        return opened.for_header(header, mode, aperture)


def _correct(
    image: SourceImage,
    header: fits.Header,
    offsets: OffsetMap | MapLibrary | str | os.PathLike[str] | None,
    mode: str,
    origin: tuple[float, float] | Cutout2D | None,
) -> tuple[fits.Header, Sequence[Any]]:
    """Return the header with the WCS corrected, and its lookup tables."""
    if offsets is None:
        return header, []
    offset_map = _find_offsets(offsets, header, mode)
    wcs = corrected(image.wcs, header, image.shape, offset_map, origin)
    header = without_tables(header)
    record(header, offset_map)
    return header, put_tables(header, wcs)


def _find_offsets(
    offsets: OffsetMap | MapLibrary | str | os.PathLike[str],
    header: fits.Header,
    mode: str,
) -> OffsetMap:
    if isinstance(offsets, CalibrationMap):
        return offsets
    if isinstance(offsets, MapLibrary):
        return offsets.offset(field_in(header), band_of(header), mode)
    with MapLibrary(offsets) as opened:
        return opened.offset(field_in(header), band_of(header), mode)


class _Errors(NamedTuple):
    """Kind, unit, header and dtype of the uncertainties of an image."""

    kind: str
    # From those in the file to the unit of the image.
    factor: float
    header: fits.Header
    dtype: np.dtype

    @classmethod
    def of(
        cls, image: SourceImage, unit: u.UnitBase, planned: Plan
    ) -> "_Errors | None":
        """Return them for an image, `None` if it has no uncertainties."""
        if image.uncertainty is None:
            return None
        kind, header = image.uncertainty_kind, image.uncertainty.header
        factor = uncertainty_factor(header, kind, unit, image.path)
        new = fits.Header([("UTYPE", UTYPES[kind])])
        power = UNCERTAINTY_KINDS[kind].power
        if "BUNIT" in header:
            new["BUNIT"] = (planned.unit**power).to_string()
        scale = planned.calibration.unit_scale**power
        dtype = result_dtype(image.dtype(image.uncertainty), scale)
        return cls(kind, factor, new, dtype)


def _write_planes(
    image: SourceImage,
    header: fits.Header,
    rows: ZeroPointRows,
    masked: Sequence[tuple[slice, np.ndarray]],
    errors: _Errors | None,
    planes: TargetPlanes,
    progress: bool | None,
) -> None:
    """Write the image and its uncertainty and mask, band by band."""
    shape = image.shape
    dtype = result_dtype(image.dtype(image.image), header["KS4ZPSCL"])
    planes.add(None, header, shape, dtype)
    if image.has_mask or masked:
        planes.add("MASK", fits.Header(), shape, np.dtype(np.uint8))
    if errors is not None:
        planes.add("UNCERT", errors.header, shape, errors.dtype)
    height = max(1, _BAND_BYTES // (shape[1] * dtype.itemsize))
    bar = tqdm(
        total=shape[0],
        desc=image.path.name,
        unit="row",
        disable=None if progress is None else not progress,
    )
    # One band is written while the next one is read and calibrated.
    with bar, ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for start in range(0, shape[0], height):
            stop = min(start + height, shape[0])
            band = _calibrate_band(image, rows, masked, errors, planes, start, stop)
            if written is not None:
                written.result()
            written = writer.submit(_write_band, planes, start, band)
            bar.update(stop - start)
        if written is not None:
            written.result()


def _calibrate_band(
    image: SourceImage,
    rows: ZeroPointRows,
    masked: Sequence[tuple[slice, np.ndarray]],
    errors: _Errors | None,
    planes: TargetPlanes,
    start: int,
    stop: int,
) -> dict[str | None, np.ndarray]:
    """Return the calibrated rows of each plane, by the name of the plane."""
    data = image.read(image.image, start, stop)
    out = planes.rows(None, start, stop)
    band: dict[str | None, np.ndarray] = {None: out}
    if errors is None:
        rows.apply(data, out, first=start)
    else:
        error = image.read(image.uncertainty, start, stop)
        if error.dtype.kind != "f":
            # Squares of small integers overflow.
            error = error.astype(np.float32)
        if errors.factor != 1:
            error = error * errors.factor
        band["UNCERT"] = planes.rows("UNCERT", start, stop)
        rows.apply(data, out, error, errors.kind, band["UNCERT"], first=start)
    if image.has_mask or masked:
        band["MASK"] = _mask_band(image, masked, start, stop)
    return band


def _write_band(
    planes: TargetPlanes, start: int, band: dict[str | None, np.ndarray]
) -> None:
    for name, rows in band.items():
        planes.write(name, start, rows)


def _mask_band(
    image: SourceImage,
    masked: Sequence[tuple[slice, np.ndarray]],
    start: int,
    stop: int,
) -> np.ndarray:
    if image.has_mask:
        mask = image.read_mask(start, stop)
    else:
        mask = np.zeros((stop - start, image.shape[1]), bool)
    for rows, columns in masked:
        mask[max(rows.start - start, 0) : max(rows.stop - start, 0)] |= columns
    return mask.view(np.uint8)


def _map_images(zpmap: ZeroPointMap) -> Iterator[tuple[np.ndarray, fits.Header]]:
    """Yield the arrays of a map as small images, with their headers."""
    size, origin = zpmap.grid.cell_size, zpmap.grid.origin
    for name, array, unit in (
        ("ZPMAP", zpmap.values, "mag"),
        ("ZPERRMAP", zpmap.error, "mag"),
        ("ZPCOUNT", zpmap.count, ""),
    ):
        if array is None:
            continue
        header = fits.Header([("EXTNAME", name), ("BUNIT", unit)])
        header["MAPNAME"] = zpmap.name
        for axis in (0, 1):
            n = axis + 1
            header[f"CTYPE{n}"] = f"{'XY'[axis]}_IMAGE", "pixels of the stack, from 1"
            header[f"CRPIX{n}"] = 0.5
            header[f"CRVAL{n}"] = origin[axis] + 1
            header[f"CDELT{n}"] = size[axis], "[pix] size of a cell"
        yield np.ascontiguousarray(array.T), header
