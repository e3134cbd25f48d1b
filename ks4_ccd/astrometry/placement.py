# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Placement of an image on the grid of a map, and whether they belong together."""

import numpy as np

from ks4_ccd.astrometry._sky_placement import (
    SkyPlacement,
    sky_positions,
)
from ks4_ccd.exceptions import GeometryError, MapMismatchError
from ks4_ccd.ks4.frame import StackFrame, first_pixel
from ks4_ccd.ks4.header import band_of, field_in, frame_shape, says

__all__ = [
    "check_belongs",
    "check_inside",
    "check_stack_size",
    "find_origin",
    "given_origin",
    "ltv_origin",
    "refuse_contradiction",
    "refuse_other_pixels",
]

_REMEDY = (
    "give origin=(x, y) (--origin), the 0-based coordinates of its first pixel on the "
    "whole stack"
)
_WITHOUT_WCS = (
    "if the WCS is wrong, correct it, or remove it (ccd.wcs = None; in a file, CTYPE1 "
    "and CTYPE2)"
)
_UNCHANGED = (
    "a map applies to the pixels of its stack: calibrate the stack first, then rotate, "
    "resample or bin it"
)


def check_belongs(header, key):
    """
    Refuse a map of another field or band than the image's.

    Parameters
    ----------
    header : mapping
        The header of the image. What it does not say cannot disagree.
    key : `~ks4_ccd.MapKey` or `None`
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


def find_origin(header, wcs, image_shape, grid, origin=None, *, field=None, binning=1):
    """
    Return where on the grid of a map an image begins.

    Parameters
    ----------
    header : mapping
        The header of the image.
    wcs : `~astropy.wcs.WCS`, `~gwcs.wcs.WCS` or `None`
        Its world coordinate system.
    image_shape : tuple of int
        Its shape ``(rows, columns)``.
    grid : `~ks4_ccd.MapGrid`
        The grid of the map.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The answer, where the caller has it: 0-based pixel coordinates
        ``(x, y)`` on the whole stack of the image's first pixel, or the
        cut-out of the whole stack that records them.
    field : str, optional
        The field of the map, if its key names one.
    binning : float, optional
        The number of the stack's pixels along a side of one of the image's;
        ``grid`` and all coordinates are then those of the binned image.

    Returns
    -------
    x, y : float
        0-based pixel coordinates of the image's first pixel.

    Raises
    ------
    GeometryError
        If the image is not 2D or does not lie within the grid, if its
        placement is not known, or if ``origin``, WCS, shape, LTV1 and LTV2,
        KS4NAX1 and KS4NAX2 contradict each other.

    Notes
    -----
    The placement is ``origin``, or else that of the whole stack if the image
    has its shape, or else that of the WCS, or else that of LTV1 and LTV2.

    For a KS4 field (of the map, or else of FIELD1 or FIELD2) any celestial
    WCS determines the pixel of the stack at which each pixel of the image
    lies. The placement has to agree with it to one pixel, at the corners and
    between them. LTV1 and LTV2 remain in a header when the image is cut
    again: the WCS takes precedence, and without a celestial WCS they are not
    used. A map of a field that is not of KS4, or of no field, is placed by
    the shape of the image, or else by LTV1 and LTV2.
    """
    shape = _checked_shape(image_shape)
    ltv = None if origin is not None else ltv_origin(header)
    refuse_other_pixels(header)
    is_keyed = field is not None
    if not is_keyed and says(header, "FIELD1", "FIELD2"):
        field = field_in(header)
    # LTV1 and LTV2 of another camera may count from its raw frame, or its mosaic.
    whole = shape == grid.image_shape and (ltv in (None, (0, 0)) or not is_keyed)
    if is_keyed or not whole:
        check_stack_size(header, grid)
    frame = StackFrame.of(field, grid, binning)
    sky = SkyPlacement.of(wcs, shape, frame)
    if sky is None and origin is not None:
        _check_shape_of_cutout(origin, shape)
        sky = SkyPlacement.of(getattr(origin, "wcs", None), shape, frame)
    if sky is not None and not is_keyed:
        # FIELD1 may be another survey's, and a map of a binned stack is of its pixels.
        unknown = sky.is_elsewhere or (whole and sky.is_binned_stack)
        sky = None if unknown else sky
    if origin is not None:
        place, by = given_origin(origin), "origin="
    elif whole:
        place, by = first_pixel(grid, binning), "the shape of the whole stack"
    elif sky is not None:
        place, by = sky.origin, "the WCS"
        if place is None and ltv is not None:
            place, by = ltv, "LTV1 and LTV2"
    elif ltv is not None:
        if not sky_positions(wcs, np.zeros(1), np.zeros(1)):
            raise GeometryError(_unverified(ltv))
        place, by = ltv, "LTV1 and LTV2"
    else:
        raise GeometryError(_unknown(shape, grid))
    if sky is not None and (place is None or not sky.agrees(place)):
        raise GeometryError(_contradiction(sky, place, by))
    check_inside(place, shape, grid, by)
    return place


def given_origin(origin):
    """
    Return the coordinates that ``origin`` gives.

    Parameters
    ----------
    origin : tuple of float or `~astropy.nddata.Cutout2D`

    Returns
    -------
    x, y : float

    Raises
    ------
    GeometryError
        If it is neither.
    """
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


def ltv_origin(header):
    """
    Return the origin that LTV1 and LTV2 record, `None` without them.

    Raises
    ------
    GeometryError
        If they are not numbers.
    """
    if not says(header, "LTV1", "LTV2"):
        return None
    try:
        # IRAF leaves out what is 0.
        shift = [float(_value(header, keyword, 0)) for keyword in ("LTV1", "LTV2")]
    except (TypeError, ValueError):
        shift = [np.nan]
    if not np.isfinite(shift).all():
        msg = f"LTV1 and LTV2 of the header must be two numbers: {_REMEDY}"
        raise GeometryError(msg)
    # Not the negative, which of 0 is shown as -0.
    return tuple(0 - value for value in shift)


def check_stack_size(header, grid):
    """
    Refuse a map whose grid covers an image of another size than the stack's.

    Parameters
    ----------
    header : mapping
        The header of an image, or the ``meta`` of a catalog.
    grid : `~ks4_ccd.MapGrid`

    Raises
    ------
    GeometryError
        If KS4NAX1 and KS4NAX2 are not the size of the image that it covers.
    """
    size = frame_shape(header)
    if size not in (None, grid.image_shape):
        (rows, columns), covered = size, grid.image_shape
        msg = (
            f"the whole stack has {columns} x {rows} pixels according to KS4NAX1 and "
            f"KS4NAX2 of the header, the map covers {covered[1]} x {covered[0]}: give "
            f"the library of the map image_shape=({rows}, {columns}) "
            f"(--image-size {columns} {rows})"
        )
        raise GeometryError(msg)


def check_inside(place, image_shape, grid, by):
    """
    Refuse an image that reaches beyond the map.

    Parameters
    ----------
    place : tuple of float
        The coordinates ``(x, y)`` of its first pixel.
    image_shape : tuple of int
    grid : `~ks4_ccd.MapGrid`
    by : str
        What this placement is according to.

    Raises
    ------
    GeometryError
        If it does.
    """
    for axis, length in enumerate(reversed(image_shape)):
        first, last = place[axis], place[axis] + length
        # The first pixel is one after the lower edge of the first cell.
        lowest, highest = (edge + 1 for edge in grid.extent[axis])
        if first < lowest - 0.5 or last > highest + 0.5:
            msg = (
                f"according to {by} the image covers the pixels {first:g} to {last:g} "
                f"along {'xy'[axis]}, the map only {lowest:g} to {highest:g}: it is "
                "not part of the stack that the map is of"
            )
            raise GeometryError(msg)


def refuse_contradiction(wcs, image_shape, frame, place, by):
    """
    Refuse a placement that a WCS contradicts.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `None`
        The WCS of an image: `None`, or one without the sky, contradicts nothing.
    image_shape : tuple of int
    frame : `~ks4_ccd.ks4.frame.StackFrame`
    place : tuple of float
        The coordinates ``(x, y)`` of its first pixel.
    by : str
        What this placement is according to.

    Raises
    ------
    GeometryError
        If it does.
    """
    sky = SkyPlacement.of(wcs, image_shape, frame)
    if sky is not None and not sky.agrees(place):
        raise GeometryError(_contradiction(sky, place, by))


def _value(header, keyword, otherwise):
    return header[keyword] if says(header, keyword) else otherwise


def _checked_shape(image_shape):
    shape = tuple(image_shape)
    if len(shape) != 2 or 0 in shape:
        msg = f"a 2D image with pixels in it is needed, got the shape {image_shape}"
        raise GeometryError(msg)
    return shape


def refuse_other_pixels(header):
    """
    Refuse an image that IRAF binned, magnified or rotated.

    Parameters
    ----------
    header : mapping
        The header of an image, or the ``meta`` of a catalog.

    Raises
    ------
    GeometryError
        If LTM1_1 and the like are not those of the stack itself.
    """
    unit = {"LTM1_1": 1, "LTM2_2": 1, "LTM1_2": 0, "LTM2_1": 0}
    matrix = {keyword: _value(header, keyword, unit[keyword]) for keyword in unit}
    if matrix != unit:
        shown = ", ".join(f"{keyword} = {value}" for keyword, value in matrix.items())
        msg = f"the image is binned, magnified or rotated ({shown}): {_UNCHANGED}"
        raise GeometryError(msg)


def _check_shape_of_cutout(origin, shape):
    """Refuse a cut-out of another shape, where nothing else shows what it is."""
    own = tuple(getattr(origin, "shape", shape))
    if own != shape:
        msg = (
            f"the image has the shape {shape}, the cut-out that is given as origin "
            f"{own}: if the image is a part of the cut-out, pixel by pixel, {_REMEDY}; "
            f"else {_UNCHANGED}"
        )
        raise GeometryError(msg)


def _unverified(ltv):
    return (
        f"according to LTV1 and LTV2 of its header the image begins at {_shown(ltv)} "
        "on the stack, and there is no celestial WCS that confirms it: these keywords "
        "stay in a header when an image is binned or resampled. If they are right, "
        f"give origin={_shown(ltv)} (--origin {ltv[0]:g} {ltv[1]:g})"
    )


def _unknown(shape, grid):
    rows, columns = grid.image_shape
    return (
        f"the image has {shape[1]} x {shape[0]} pixels, the map covers {columns} x "
        f"{rows}, and there is no celestial WCS of an image of a KS4 field that "
        f"determines which part of it the image is: {_REMEDY}; or, if it is a whole "
        f"stack itself, give the library image_shape=({shape[0]}, {shape[1]}) "
        f"(--image-size {shape[1]} {shape[0]})"
    )


def _contradiction(sky, place, by):
    if place is None:
        return (
            f"the image does not have the pixels of the stack of field "
            f"{sky.frame.field} ({sky.frame.pixel_scale:g} arcsec, north up, east "
            f"left): its WCS {sky.described()}; {_UNCHANGED}; {_WITHOUT_WCS}"
        )
    advice = _UNCHANGED
    if sky.origin is not None and by == "origin=":
        advice = (
            f"origin counts pixels of the whole stack, not of a cut-out: leave it out, "
            f"or give origin={_shown(sky.origin)}"
        )
    elif sky.is_elsewhere:
        advice = "is the image of another field, or the map of another"
    distance = sky.distance(place)
    off = "" if np.isnan(distance) else f" (up to {distance:.1f} pixels away)"
    return (
        f"{by} and the WCS of the image contradict each other: by {by} its first pixel "
        f"is the pixel {_shown(place)} of the stack of field {sky.frame.field}, but "
        f"the WCS {sky.described()}{off}; {advice}; {_WITHOUT_WCS}"
    )


def _shown(place):
    return f"({place[0]:g}, {place[1]:g})"
