# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Register the format "ks4" of astropy's unified I/O for CCDData.

``CCDData.read(path, format="ks4")`` and ``ccd.write(path, format="ks4")`` work
like astropy's own FITS format, and keep the lookup tables of the WCS.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits, registry
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDUncertainty,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from ks4_ccd.astrometry.offset_record import forget_lost
from ks4_ccd.astrometry.tables import (
    check_tables,
    put_wcs,
    take_wcs,
    without_tables,
)
from ks4_ccd.exceptions import KS4Error, KS4Warning, OptionError, reason_of
from ks4_ccd.files.images import SourceImage
from ks4_ccd.files.uncertainties import uncertainty_factor
from ks4_ccd.files.units import bunit_of, parse_unit
from ks4_ccd.files.writing import check_suffix, written_whole

__all__ = ["read_ccd", "write_ccd"]

_UNCERTAINTIES = {
    "std": StdDevUncertainty,
    "var": VarianceUncertainty,
    "ivar": InverseVariance,
}


def read_ccd(
    path: str | os.PathLike[str],
    *,
    unit: u.UnitBase | str | None = None,
    mask: str | os.PathLike[str] | None = "find",
    hdu: int | str | tuple[str, int] | None = None,
) -> CCDData:
    """
    Read a KS4 image or a cut-out of one.

    Parameters
    ----------
    path : path-like
        The FITS file, compressed (gzip, bzip2, xz, fpack) or not. The image is
        read with the extensions UNCERT, MASK and PSFIMAGE.
    unit : `~astropy.units.Unit` or str, optional
        The unit of the pixels; by default that of BUNIT, or adu without BUNIT,
        as in the stacks of DR1.
    mask : "find", `None` or path-like, optional
        ``"find"`` reads the extension MASK, or else the mask file beside the
        image, which for NAME.fits is NAME.mask.fits, compressed or not. `None`
        reads no mask. A path is that of a mask file, in which pixels other than 0
        are masked.
    hdu : int, str or tuple of (str, int), optional
        The image to read, in a file that contains several of one shape: see
        `~ks4_ccd.calibrate_file`.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        Its WCS has the lookup tables of the file; its header does not contain the
        cards of the WCS.

    Raises
    ------
    OptionError
        If ``unit`` is not a valid unit.
    KS4Error
        If a file cannot be read, BUNIT is not a valid unit, or the lookup tables
        are not complete.
    GeometryError
        If the image is not 2D, or a mask or uncertainty has another shape.

    Warns
    -----
    KS4Warning
        If the header records corrected positions (KS4OFMAP) whose lookup
        tables are lost: the record is removed.
    """
    path = Path(path)
    with SourceImage(path, hdu, mask=mask) as image:
        header = image.header
        check_tables(header, image.hdus, path)
        unit = _unit_of(header, unit, path)
        wcs, header = take_wcs(header, image.hdus)
        forget_lost(header, wcs, path)
        uncertainty = psf = None
        if image.uncertainty is not None:
            uncertainty = _uncertainty_of(image, unit)
        if image.psf is not None:
            psf = _whole(image, image.psf)
        data = _whole(image, image.image)
        masked = image.read_mask(0, image.shape[0]) if image.has_mask else None
        image.finish()
        return CCDData(
            data,
            unit=unit,
            mask=masked,
            uncertainty=uncertainty,
            meta=header,
            wcs=wcs,
            psf=psf,
        )


def _whole(image: SourceImage, hdu: Any) -> np.ndarray:
    return image.read(hdu, 0, hdu.shape[0])


def _unit_of(header: Mapping, unit: u.UnitBase | str | None, path: Path) -> Any:
    if unit is None:
        return bunit_of(header, path, remedy="give unit=") or u.adu
    try:
        return parse_unit(unit) if isinstance(unit, str) else u.Unit(unit)
    except (ValueError, TypeError) as error:
        msg = f"unit must be a unit such as adu or nJy, got {unit!r}: {error}"
        raise OptionError(msg) from error


def _uncertainty_of(image: SourceImage, unit: u.UnitBase) -> NDUncertainty:
    kind = image.uncertainty_kind
    header = image.uncertainty.header
    factor = uncertainty_factor(header, kind, unit, image.path)
    array = _whole(image, image.uncertainty)
    if factor != 1:
        array = array * factor
    return _UNCERTAINTIES[kind](array)


def write_ccd(
    ccd: CCDData, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """
    Write an image with the lookup tables of its WCS.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        It is not changed.
    path : path-like
        The file, uncompressed FITS. It appears completely or not at all.
    overwrite : bool, optional
        Whether an existing file may be replaced.

    Raises
    ------
    KS4Error
        If the written file could not be read again: the kind or unit of the
        uncertainty is not supported, only one axis has a lookup table, or a table
        is not finite.
    FileWriteError
        If the file already exists or cannot be written; it is an `OSError`, too.

    Warns
    -----
    KS4Warning
        If the lookup tables of the image's WCS were not read.

    Notes
    -----
    The primary HDU contains the image; the extensions MASK, UNCERT and PSFIMAGE
    are those that astropy writes. The lookup tables are the extensions WCSDVARR
    (D2IMARR), versions 1 and 2, which ``WCS(header, fobj=hdulist)`` reads.
    """
    path = Path(path)
    check_suffix(path)
    bare = CCDData(
        ccd.data,
        unit=ccd.unit,
        mask=None if ccd.mask is None else np.broadcast_to(ccd.mask, ccd.shape),
        uncertainty=None if ccd.uncertainty is None else ccd.uncertainty,
        meta=ccd.meta,
        psf=ccd.psf,
    )
    try:
        hdus = bare.to_hdu()
    except ValueError as error:
        msg = f"cannot write {path}: {error}"
        raise KS4Error(msg) from error
    header = without_tables(hdus[0].header)
    header["BUNIT"] = bare.unit.to_string()
    own, header = take_wcs(header)
    wcs = own if ccd.wcs is None else ccd.wcs
    if ccd.wcs is None and "CPDIS1" in hdus[0].header:
        msg = (
            f"{path}: the image has no WCS, and its header has the cards of lookup "
            "tables (CPDIS1), which astropy's own FITS format did not read: the file "
            "contains the WCS without them"
        )
        warnings.warn(msg, KS4Warning, stacklevel=4)
    if wcs is not None:
        header, tables = _header_with_wcs(header, wcs, path)
        hdus.extend(tables)
    hdus[0].header = header
    header.set("EXTEND", True, after=f"NAXIS{ccd.data.ndim}")
    with written_whole(path, overwrite) as partial:
        hdus.writeto(partial, output_verify="exception")


def _header_with_wcs(
    header: fits.Header, wcs: object, path: Path
) -> tuple[fits.Header, list[fits.ImageHDU]]:
    """Return a header with the cards of a WCS, and the lookup tables."""
    if not isinstance(wcs, WCS):
        msg = (
            f"cannot write {path}: ccd.wcs must be an astropy.wcs.WCS, got "
            f"{type(wcs).__module__}.{type(wcs).__name__}"
        )
        raise KS4Error(msg)
    try:
        # Written twice, because astropy adds cards on reading, such as MJD-OBS for
        # DATE-OBS, which would change the order of cards.
        once = header.copy()
        tables = put_wcs(once, wcs)
        seen, header = take_wcs(once, fits.HDUList([fits.PrimaryHDU(), *tables]))
        if seen is None and any(wcs.wcs.ctype):
            msg = f"cannot write {path}: no WCS could be read from the cards of ccd.wcs"
            raise KS4Error(msg)
        # Without CTYPE a reader finds no WCS, only its cards.
        return header, tables if seen is None else put_wcs(header, seen)
    except (ValueError, ArithmeticError, fits.VerifyError) as error:
        msg = f"cannot write {path}: ccd.wcs is not usable: {reason_of(error)}"
        raise KS4Error(msg) from error


# Without an identifier: the format is used only if it is requested.
with registry.delay_doc_updates(CCDData):
    registry.register_reader("ks4", CCDData, read_ccd, force=True)
    registry.register_writer("ks4", CCDData, write_ccd, force=True)
