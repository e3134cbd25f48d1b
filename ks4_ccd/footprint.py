# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where an image lies on the grid of a map, and whether they belong together."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord, proj_plane_pixel_scales

from ks4_ccd.exceptions import GeometryError, KS4Error, MapMismatchError
from ks4_ccd.release.header import band_of, field_in, says
from ks4_ccd.release.tiling import PIXEL_SCALE, field_center

__all__ = ["check_belongs", "find_origin"]

_REMEDY = "give origin=(x, y), the place of its first pixel on the whole stack"


def check_belongs(header, key):
    """
    Refuse a map of another field or band than the image's.

    Parameters
    ----------
    header : mapping
        The header of the image. What it does not say cannot disagree.
    key : `~ks4_ccd.release.names.MapKey` or `None`
        The key of the map; without one there is nothing to compare.

    Raises
    ------
    MapMismatchError
        If FIELD1, FIELD2 or FILTER name another field or band.
    """
    if key is None:
        return
    for what, said, keywords, read in (
        ("field", key.field, ("FIELD1", "FIELD2"), field_in),
        ("band", key.band, ("FILTER",), band_of),
    ):
        if says(header, *keywords) and read(header) != said:
            own = read(header)
            msg = f"the image is of {what} {own}, the map of {what} {said}: {key}"
            raise MapMismatchError(msg)


def find_origin(header, wcs, image_shape, grid, origin=None, *, field=None):
    """
    Return where on the grid of a map an image begins.

    Parameters
    ----------
    header : mapping
        The header of the image.
    wcs : `~astropy.wcs.WCS` or `None`
        Its world coordinate system.
    image_shape : tuple of int
        Its shape ``(rows, columns)``.
    grid : `~ks4_ccd.MapGrid`
        The grid of the map.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The answer, where the caller knows it: 0-based pixel coordinates
        ``(x, y)`` on the whole stack of the image's first pixel, or the
        cut-out, made from the whole stack, that knows them.
    field : str, optional
        The field, where the header does not name it.

    Returns
    -------
    x, y : float
        0-based pixel coordinates of the image's first pixel.

    Raises
    ------
    GeometryError
        If the image is not 2D, does not lie within the grid, or does not say
        where it lies.

    Notes
    -----
    Asked in this order: ``origin``; the shape of the image, if it is that of
    the whole stack; the WCS of an image that names its field, which follows
    slices; LTV1 and LTV2, which follow IRAF's cut-outs. All are exact on an
    image of the release: its reference pixel is the centre of the stack and
    of the field.
    """
    if len(image_shape) != 2 or 0 in image_shape:
        msg = f"a 2D image with pixels in it is needed, got the shape {image_shape}"
        raise GeometryError(msg)
    shift = _shift_of(header)
    if origin is not None:
        place = _given(origin)
    else:
        whole = tuple(image_shape) == grid.image_shape and shift in (None, (0, 0))
        place = _from_wcs(header, wcs, grid, field, other_pixels=whole)
        if whole and place is not None and np.abs(place).max() > 1:
            msg = (
                "the image has the shape of the whole stack, but the centre of its "
                f"field is {place[0]:g}, {place[1]:g} pixels from where that has it: "
                f"if it is the stack, give origin=(0, 0), or else {_REMEDY}"
            )
            raise GeometryError(msg)
        place = grid.origin if whole else place or shift
    if place is None:
        rows, columns = grid.image_shape
        msg = (
            f"the image has {image_shape[1]} x {image_shape[0]} pixels, the map covers "
            f"{columns} x {rows}, and neither LTV1 and LTV2 nor a WCS centred on the "
            f"field that FIELD1 names tell which part of it the image is: {_REMEDY}; "
            "or, if it is a whole stack itself, give the library its image_shape "
            "(--image-size)"
        )
        raise GeometryError(msg)
    _check_inside(place, image_shape, grid)
    return place


def _given(origin):
    if hasattr(origin, "origin_original"):
        # A partial cut-out counts its own pixels from beyond the image's edge.
        return tuple(
            float(there - here)
            for there, here in zip(
                origin.origin_original, origin.origin_cutout, strict=True
            )
        )
    try:
        x, y = (float(value) for value in origin)
    except (TypeError, ValueError):
        x = y = np.nan
    if not np.isfinite([x, y]).all():
        msg = (
            f"origin must be two pixel coordinates (x, y) or a Cutout2D, got {origin!r}"
        )
        raise GeometryError(msg)
    return x, y


def _shift_of(header):
    """Return the origin that LTV1 and LTV2 tell, `None` without them."""
    try:
        shift = [float(header[keyword]) for keyword in ("LTV1", "LTV2")]
    except KeyError:
        return None
    except (TypeError, ValueError):
        shift = [np.nan]
    scale = [header.get(keyword, 1) for keyword in ("LTM1_1", "LTM2_2")]
    if not np.isfinite(shift).all():
        msg = f"LTV1 and LTV2 of the header are no numbers: {_REMEDY}"
        raise GeometryError(msg)
    if scale != [1, 1]:
        msg = (
            f"the image is binned or magnified (LTM1_1, LTM2_2 = {scale}): a map "
            "applies to images with the pixels of its stack"
        )
        raise GeometryError(msg)
    return tuple(-value for value in shift)


def _from_wcs(header, wcs, grid, field, other_pixels):
    """
    Return the origin from the pixel at which the centre of the field is.

    ``other_pixels`` says whether an image that has not the pixels of a KS4
    stack is one of another camera, of which nothing is known here, or wrong.
    """
    if says(header, "FIELD1", "FIELD2"):
        field = field_in(header)
    if field is None or not isinstance(wcs, WCS) or not wcs.has_celestial:
        return None
    try:
        center = field_center(field)
    except KS4Error:
        # Not a field of the survey: nothing is known of its centre.
        return None
    reference = pixel_to_skycoord(*(wcs.wcs.crpix - 1), wcs, origin=0, mode="wcs")
    if center.separation(SkyCoord(reference).icrs) > 1 * u.arcmin:
        return None
    pixel = PIXEL_SCALE.to_value(u.deg)
    change = wcs.pixel_scale_matrix - np.diag([-pixel, pixel])
    if np.abs(change).max() > pixel / 50:
        if other_pixels:
            return None
        scales = (proj_plane_pixel_scales(wcs) * 3600).round(3)
        msg = (
            f"the image has pixels of {scales} arcsec, or is turned; its stack has "
            f"pixels of {PIXEL_SCALE}, north up and east left: a map applies to images "
            f"with the pixels of its stack, or {_REMEDY}"
        )
        raise GeometryError(msg)
    middle = (np.array(grid.image_shape[::-1]) + 1) / 2 + grid.origin
    return tuple(np.rint(middle - wcs.wcs.crpix).tolist())


def _check_inside(place, image_shape, grid):
    for axis, length in enumerate(reversed(image_shape)):
        first, last = place[axis], place[axis] + length
        lowest = grid.origin[axis]
        highest = lowest + grid.shape[axis] * grid.cell_size[axis]
        if first < lowest - 0.5 or last > highest + 0.5:
            msg = (
                f"the image covers the pixels {first:g} to {last:g} along "
                f"{'xy'[axis]}, the map only {lowest:g} to {highest:g}: the image is "
                "not part of the stack that the map is of"
            )
            raise GeometryError(msg)
