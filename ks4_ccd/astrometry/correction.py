# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Offset maps applied to the WCS of an image, with a record in its header."""

from astropy.nddata import CCDData

from ks4_ccd.astrometry import offset_record as _offset_record
from ks4_ccd.astrometry.offset_record import record
from ks4_ccd.astrometry.placement import check_belongs, find_origin
from ks4_ccd.astrometry.wcs import add_lookup_tables
from ks4_ccd.exceptions import GeometryError, KS4Error
from ks4_ccd.maps.offset import require_offsets

__all__ = ["correct_wcs", "corrected", "record"]


def correct_wcs(ccd, offset_map, *, origin=None):
    """
    Correct the positions of an image by an offset map.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        The image, a KS4 stack or a part of one. It is not changed.
    offset_map : `~ks4_ccd.OffsetMap`
        The map of its field and band.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        Where the image begins on the stack: 0-based pixel coordinates
        ``(x, y)`` of its first pixel. By default it follows from the shape of
        the image or its WCS, as in `~ks4_ccd.apply_zeropoint`.

    Returns
    -------
    corrected : `~astropy.nddata.CCDData`
        A copy whose WCS has the offsets as lookup tables; its header names
        the map (KS4OFMAP). Write it with ``format="ks4"``: astropy's own
        FITS format loses the tables, and so the correction.

    Raises
    ------
    AlreadyCalibratedError
        If the positions have been corrected before, or the WCS has lookup
        tables. An image that was corrected and then resampled onto another
        WCS (`ccdproc.wcs_project`) is refused as well: its pixels contain
        the correction.
    DirectionlessMapError
        If the map is a `~ks4_ccd.MisalignmentMap`.
    MapMismatchError
        If image and map are of different fields or bands.
    GeometryError
        If the image has no celestial WCS, is not a part of the stack that
        the map covers, pixel by pixel, or is not known to be one.

    Warns
    -----
    KS4Warning
        If the image was corrected before and its lookup tables are lost: it
        is corrected again, from its uncorrected WCS.

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
        raise KS4Error(msg)
    wcs = corrected(ccd.wcs, ccd.meta, ccd.shape, offset_map, origin)
    result = ccd.copy()
    result.wcs = wcs
    record(result.meta, offset_map)
    return result


def corrected(wcs, header, image_shape, offset_map, origin=None):
    """
    Return the corrected WCS of an image that belongs to a map.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `None`
    header : mapping
        The header of the image.
    image_shape : tuple of int
    offset_map : `~ks4_ccd.OffsetMap`
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional

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
            "(CPDIS1): astropy's own FITS format does not read such a WCS; use "
            'CCDData.read(path, format="ks4")'
        )
        raise GeometryError(msg)
    _offset_record.check_first(header, wcs)
    check_belongs(header, offset_map.key)
    if wcs is None or not any(wcs.wcs.ctype):
        msg = "the image has no WCS that could be corrected"
        raise GeometryError(msg)
    field = None if offset_map.key is None else offset_map.key.field
    grid = offset_map.grid
    origin = find_origin(header, wcs, image_shape, grid, origin, field=field)
    result = add_lookup_tables(wcs, offset_map, origin=origin, image_shape=image_shape)
    _offset_record.mark(result)
    return result
