# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Locate an image on the grid of a map, and check that they belong together."""

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.nddata import Cutout2D

from ks4_ccd.astrometry._sky_placement import (
    SkyPlacement,
    sky_positions,
)
from ks4_ccd.exceptions import GeometryError, MapMismatchError
from ks4_ccd.ks4.frame import StackFrame, first_pixel
from ks4_ccd.ks4.header import band_of, field_in, frame_shape, has_value
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey

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
    "full stack"
)
_WITHOUT_WCS = (
    "if the WCS is wrong, correct it, or remove it (ccd.wcs = None; in a file, CTYPE1 "
    "and CTYPE2)"
)
_UNCHANGED = (
    "a map applies to the pixels of its stack: calibrate the stack first, then rotate, "
    "resample or bin it"
)


def check_belongs(header: Mapping, key: MapKey | None) -> None:
    """
    Refuse a map whose field or band is not that of the image.

    Parameters
    ----------
    header : mapping
        The header of the image. Keywords that it does not contain are not compared.
    key : `~ks4_ccd.MapKey` or `None`
        The key of the map; without one nothing is compared.

    Raises
    ------
    MapMismatchError
        If FIELD1, FIELD2 or FILTER name another field or band.
    """
    if key is None:
        return
    for what, expected, keywords, read in (
        ("field", key.field, ("FIELD1", "FIELD2"), field_in),
        ("band", key.band, ("FILTER",), band_of),
    ):
        if has_value(header, *keywords) and read(header) != expected:
            own = read(header)
            msg = f"the image is of {what} {own}, the map of {what} {expected}: {key}"
            raise MapMismatchError(msg)


def find_origin(
    header: Mapping,
    wcs: object,
    image_shape: Sequence[int],
    grid: MapGrid,
    origin: Sequence[float] | Cutout2D | None = None,
    *,
    field: str | None = None,
    binning: float = 1,
) -> tuple[float, float]:
    """
    Return the position of an image's first pixel on the frame of a map.

    Parameters
    ----------
    header : mapping
        The header of the image.
    wcs : `~astropy.wcs.WCS`, `~gwcs.wcs.WCS` or `None`
        The world coordinate system of the image.
    image_shape : tuple of int
        The shape ``(rows, columns)`` of the image.
    grid : `~ks4_ccd.MapGrid`
        The grid of the map.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The 0-based pixel position ``(x, y)`` of the image's first pixel on the
        frame of the map, or the cut-out of the full stack that records it, where
        the caller specifies it.
    field : str, optional
        The field of the map, if its key names one.
    binning : float, optional
        The number of pixels of the frame along a side of a pixel of the image;
        ``grid`` and all coordinates are then those of the binned image.

    Returns
    -------
    x, y : float
        The 0-based pixel position of the image's first pixel on the frame of the
        map.

    Raises
    ------
    GeometryError
        If the image is not 2D or does not lie within the grid, if its
        placement is unknown, or if ``origin``, WCS, shape, LTV1 and LTV2,
        KS4NAX1 and KS4NAX2 contradict each other.

    Notes
    -----
    The placement is taken from ``origin``, or else from the shape of the image if
    that is the shape of the full stack, or else from the WCS, or else from LTV1 and
    LTV2.

    For a KS4 field (of the map, or else of FIELD1 or FIELD2) any celestial
    WCS determines the pixel of the stack for each pixel of the image. The
    placement has to agree with it to one pixel, at the corners and between
    them. LTV1 and LTV2 remain in a header when the image is cut again: the WCS
    takes precedence, and without a celestial WCS they are not used. For a map
    of a field that is not of KS4, or of no field, the placement follows from the
    shape of the image, or else from LTV1 and LTV2.
    """
    shape = _checked_shape(image_shape)
    ltv = None if origin is not None else ltv_origin(header)
    refuse_other_pixels(header)
    is_keyed = field is not None
    if not is_keyed and has_value(header, "FIELD1", "FIELD2"):
        field = field_in(header)
    # LTV1 and LTV2 of another camera may be relative to its raw frame or its mosaic.
    whole = shape == grid.image_shape and (ltv in (None, (0, 0)) or not is_keyed)
    if is_keyed or not whole:
        check_stack_size(header, grid)
    frame = StackFrame.of(field, grid, binning)
    sky = SkyPlacement.of(wcs, shape, frame)
    if sky is None and origin is not None:
        _check_shape_of_cutout(origin, shape)
        sky = SkyPlacement.of(getattr(origin, "wcs", None), shape, frame)
    if sky is not None and not is_keyed:
        # FIELD1 may be that of another survey, and a map may be that of a binned stack.
        unknown = sky.is_elsewhere or (whole and sky.is_binned_stack)
        sky = None if unknown else sky
    if origin is not None:
        place, by = given_origin(origin), "origin="
    elif whole:
        place, by = first_pixel(grid, binning), "the shape of the full stack"
    elif sky is not None:
        by = "LTV1 and LTV2" if sky.origin is None else "the WCS"
        found = ltv if sky.origin is None else sky.origin
        if found is None:
            raise GeometryError(_contradiction(sky, None, by))
        place = found
    elif ltv is not None:
        if not sky_positions(wcs, np.zeros(1), np.zeros(1)):
            raise GeometryError(_unverified(ltv))
        place, by = ltv, "LTV1 and LTV2"
    else:
        raise GeometryError(_unknown(shape, grid))
    if sky is not None and not sky.agrees(place):
        raise GeometryError(_contradiction(sky, place, by))
    check_inside(place, shape, grid, by)
    return place


def given_origin(origin: Sequence[float] | Cutout2D) -> tuple[float, float]:
    """
    Return the coordinates that the argument ``origin`` contains.

    Parameters
    ----------
    origin : tuple of float or `~astropy.nddata.Cutout2D`

    Returns
    -------
    x, y : float

    Raises
    ------
    GeometryError
        If it is neither two numbers nor a cut-out.
    """
    if isinstance(origin, Cutout2D):
        # The first pixel of a partial cut-out is outside the original image.
        (x, y), (own_x, own_y) = origin.origin_original, origin.origin_cutout
        return float(x - own_x), float(y - own_y)
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


def ltv_origin(header: Mapping) -> tuple[float, float] | None:
    """
    Return the origin that LTV1 and LTV2 record, `None` without them.

    Raises
    ------
    GeometryError
        If they are not numbers.
    """
    if not has_value(header, "LTV1", "LTV2"):
        return None
    try:
        # IRAF omits keywords with the value 0.
        shift = [float(_value(header, keyword, 0)) for keyword in ("LTV1", "LTV2")]
    except (TypeError, ValueError):
        shift = [np.nan]
    if not np.isfinite(shift).all():
        msg = f"LTV1 and LTV2 of the header must be two numbers: {_REMEDY}"
        raise GeometryError(msg)
    # Subtracted from 0, because the negative of 0 is printed as -0.
    return 0 - shift[0], 0 - shift[1]


def check_stack_size(header: Mapping, grid: MapGrid) -> None:
    """
    Refuse a map whose grid does not have the size of the stack.

    Parameters
    ----------
    header : mapping
        The header of an image, or the ``meta`` of a catalog.
    grid : `~ks4_ccd.MapGrid`

    Raises
    ------
    GeometryError
        If KS4NAX1 and KS4NAX2 are not the size of the image that the grid covers.
    """
    size = frame_shape(header)
    if size not in (None, grid.image_shape):
        (rows, columns), covered = size, grid.image_shape
        msg = (
            f"the full stack has {columns} x {rows} pixels according to KS4NAX1 and "
            f"KS4NAX2 of the header, the map covers {covered[1]} x {covered[0]}: give "
            f"the library of the map image_shape=({rows}, {columns}) "
            f"(--image-size {columns} {rows})"
        )
        raise GeometryError(msg)


def check_inside(
    place: Sequence[float], image_shape: Sequence[int], grid: MapGrid, by: str
) -> None:
    """
    Refuse an image that extends beyond the map.

    Parameters
    ----------
    place : tuple of float
        The 0-based pixel position ``(x, y)`` of the image's first pixel.
    image_shape : tuple of int
        The shape ``(rows, columns)`` of the image.
    grid : `~ks4_ccd.MapGrid`
    by : str
        The source of this placement, for the message.

    Raises
    ------
    GeometryError
        If the image extends beyond the map by more than half a pixel.
    """
    for axis, length in enumerate(reversed(image_shape)):
        first, last = place[axis], place[axis] + length
        # The first pixel is one after the lower edge of the first cell.
        lowest, highest = (edge + 1 for edge in grid.extent[axis])
        if first < lowest - 0.5 or last > highest + 0.5:
            msg = (
                f"according to {by} the image covers the pixels {first:g} to {last:g} "
                f"along {'xy'[axis]}, the map only {lowest:g} to {highest:g}: it is "
                "not part of the stack that the map covers"
            )
            raise GeometryError(msg)


def refuse_contradiction(
    wcs: object,
    image_shape: Sequence[int],
    frame: StackFrame,
    place: Sequence[float],
    by: str,
) -> None:
    """
    Refuse a placement that a WCS contradicts.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `None`
        The WCS of an image; without a celestial one there is no contradiction.
    image_shape : tuple of int
        The shape ``(rows, columns)`` of the image.
    frame : `~ks4_ccd.ks4.frame.StackFrame`
    place : tuple of float
        The 0-based pixel position ``(x, y)`` of the image's first pixel.
    by : str
        The source of this placement, for the message.

    Raises
    ------
    GeometryError
        If WCS and placement disagree.
    """
    sky = SkyPlacement.of(wcs, image_shape, frame)
    if sky is not None and not sky.agrees(place):
        raise GeometryError(_contradiction(sky, place, by))


def _value(header: Mapping, keyword: str, otherwise: float) -> float:
    return header[keyword] if has_value(header, keyword) else otherwise


def _checked_shape(image_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(image_shape)
    if len(shape) != 2 or 0 in shape:
        msg = f"expected a 2D image that is not empty, found the shape {image_shape}"
        raise GeometryError(msg)
    return shape


def refuse_other_pixels(header: Mapping) -> None:
    """
    Refuse an image that IRAF binned, magnified or rotated.

    Parameters
    ----------
    header : mapping
        The header of an image, or the ``meta`` of a catalog.

    Raises
    ------
    GeometryError
        If LTM1_1, LTM1_2, LTM2_1 and LTM2_2 are not the unit matrix.
    """
    unit = {"LTM1_1": 1, "LTM2_2": 1, "LTM1_2": 0, "LTM2_1": 0}
    matrix = {keyword: _value(header, keyword, unit[keyword]) for keyword in unit}
    if matrix != unit:
        shown = ", ".join(f"{keyword} = {value}" for keyword, value in matrix.items())
        msg = f"the image is binned, magnified or rotated ({shown}): {_UNCHANGED}"
        raise GeometryError(msg)


def _check_shape_of_cutout(
    origin: Sequence[float] | Cutout2D, shape: tuple[int, ...]
) -> None:
    """Refuse a cut-out of another shape than that of an image without WCS."""
    own = tuple(getattr(origin, "shape", shape))
    if own != shape:
        msg = (
            f"the image has the shape {shape}, the cut-out that is given as origin "
            f"{own}: if the image is a part of the cut-out, pixel by pixel, {_REMEDY}; "
            f"else {_UNCHANGED}"
        )
        raise GeometryError(msg)


def _unverified(ltv: Sequence[float]) -> str:
    return (
        f"according to LTV1 and LTV2 of its header the image begins at {_shown(ltv)} "
        "on the stack, and there is no celestial WCS that confirms it: these keywords "
        "stay in a header when an image is binned or resampled. If they are right, "
        f"give origin={_shown(ltv)} (--origin {ltv[0]:g} {ltv[1]:g})"
    )


def _unknown(shape: Sequence[int], grid: MapGrid) -> str:
    rows, columns = grid.image_shape
    return (
        f"the image has {shape[1]} x {shape[0]} pixels, the map covers {columns} x "
        f"{rows}, and there is no celestial WCS of an image of a KS4 field that "
        f"determines which part of it the image is: {_REMEDY}; or, if it is a whole "
        f"stack itself, give the library image_shape=({shape[0]}, {shape[1]}) "
        f"(--image-size {shape[1]} {shape[0]})"
    )


def _contradiction(sky: SkyPlacement, place: Sequence[float] | None, by: str) -> str:
    if place is None:
        return (
            f"the image does not have the pixels of the stack of field "
            f"{sky.frame.field} ({sky.frame.pixel_scale:g} arcsec, north up, east "
            f"left): its WCS {sky.described()}; {_UNCHANGED}; {_WITHOUT_WCS}"
        )
    advice = _UNCHANGED
    if sky.origin is not None and by == "origin=":
        advice = (
            f"origin is a pixel of the full stack, not of a cut-out: leave it out, "
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


def _shown(place: Sequence[float]) -> str:
    return f"({place[0]:g}, {place[1]:g})"
