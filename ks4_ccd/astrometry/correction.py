# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Correct the WCS of an image by an offset map, and record it in the header."""

from collections.abc import Mapping, Sequence

from astropy.nddata import CCDData, Cutout2D
from astropy.wcs import WCS

from ks4_ccd.astrometry.offset_record import check_first, mark, record
from ks4_ccd.astrometry.placement import check_belongs, find_origin
from ks4_ccd.astrometry.wcs import add_lookup_tables
from ks4_ccd.exceptions import GeometryError, OptionError
from ks4_ccd.maps.offset import OffsetMap, require_offsets

__all__ = ["correct_wcs", "corrected"]


def correct_wcs(
    ccd: CCDData,
    offset_map: OffsetMap,
    *,
    origin: Sequence[float] | Cutout2D | None = None,
) -> CCDData:
    """
    Correct the positions of an image by an offset map.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        The image, a KS4 stack or a cut-out of one. It is not changed.
    offset_map : `~ks4_ccd.OffsetMap`
        The map of its field and band.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The 0-based pixel position ``(x, y)`` of the image's first pixel on the
        frame of the map. By default it follows from the shape of the image or its
        WCS, as in `~ks4_ccd.apply_zeropoint`.

    Returns
    -------
    corrected : `~astropy.nddata.CCDData`
        A copy whose WCS contains the offsets as lookup tables; its header records
        the map (KS4OFMAP). Write it with ``format="ks4"``: astropy's own
        FITS format loses the tables, and thereby the correction.

    Raises
    ------
    AlreadyCalibratedError
        If the positions have been corrected before, or the WCS has lookup
        tables. An image that was corrected and then resampled onto another
        WCS (`ccdproc.wcs_project`) is refused, too: its pixels contain the
        correction.
    DirectionlessMapError
        If the map is a `~ks4_ccd.MisalignmentMap`.
    MapMismatchError
        If image and map are of different fields or bands.
    GeometryError
        If the image has no celestial WCS, or is not, pixel by pixel, a part of the
        frame of the map, or its position on the frame is unknown.

    Warns
    -----
    KS4Warning
        If the image was corrected before and its lookup tables are lost: its
        uncorrected WCS is corrected again.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from ks4_ccd import MapGrid, OffsetMap, correct_wcs
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    >>> wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    >>> wcs.wcs.crpix, wcs.wcs.crval = (50.5, 50.5), (0, -62)
    >>> grid = MapGrid((2, 2), 50)
    >>> offsets = OffsetMap(np.full((2, 2), 0.1), np.full((2, 2), -0.2), grid=grid)
    >>> ccd = CCDData(np.ones((100, 100)), unit="adu", wcs=wcs)
    >>> corrected = correct_wcs(ccd, offsets)
    >>> before, after = (image.wcs.pixel_to_world(30, 60) for image in (ccd, corrected))
    >>> dra, ddec = before.spherical_offsets_to(after)
    >>> print(f"{dra.arcsec:.3f} {ddec.arcsec:.3f}")
    0.100 -0.200
    """
    if not isinstance(ccd, CCDData):
        msg = f"ccd must be a CCDData, got {type(ccd).__name__}"
        raise OptionError(msg)
    wcs = corrected(ccd.wcs, ccd.meta, ccd.shape, offset_map, origin)
    result = ccd.copy()
    result.wcs = wcs
    record(result.meta, offset_map)
    return result


def corrected(
    wcs: WCS | None,
    header: Mapping,
    image_shape: Sequence[int],
    offset_map: OffsetMap,
    origin: Sequence[float] | Cutout2D | None = None,
) -> WCS:
    """
    Return the corrected WCS of an image, after checking that the map belongs to it.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `None`
    header : mapping
        The header of the image.
    image_shape : tuple of int
        The shape ``(rows, columns)`` of the image.
    offset_map : `~ks4_ccd.OffsetMap`
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        As in `correct_wcs`.

    Returns
    -------
    corrected : `~astropy.wcs.WCS`

    Raises
    ------
    KS4Error
        As in `correct_wcs`.
    """
    offset_map = require_offsets(offset_map)
    if wcs is None and "CPDIS1" in header:
        msg = (
            "the image has no WCS, and its header has the cards of lookup tables "
            "(CPDIS1), which astropy's own FITS format does not read; use "
            'CCDData.read(path, format="ks4")'
        )
        raise GeometryError(msg)
    check_first(header, wcs)
    check_belongs(header, offset_map.key)
    if wcs is None or not any(wcs.wcs.ctype):
        msg = "expected an image with a celestial WCS, found none"
        raise GeometryError(msg)
    field = None if offset_map.key is None else offset_map.key.field
    grid = offset_map.grid
    origin = find_origin(header, wcs, image_shape, grid, origin, field=field)
    result = add_lookup_tables(wcs, offset_map, origin=origin, image_shape=image_shape)
    mark(result)
    return result
