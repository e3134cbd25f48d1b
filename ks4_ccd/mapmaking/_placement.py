# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check the pixel positions of stars against their positions on the sky."""

from ks4_ccd.catalogs.placement import PixelsAndSky
from ks4_ccd.exceptions import GeometryError
from ks4_ccd.ks4.frame import StackFrame
from ks4_ccd.mapmaking._stars import MatchedStars
from ks4_ccd.maps.grid import MapGrid

__all__ = ["check_placement"]


def check_placement(
    stars: MatchedStars, grid: MapGrid, field: str | int | None
) -> None:
    """
    Raise an error if pixel positions are not those of the stack of a field.

    Parameters
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    grid : `~ks4_ccd.MapGrid`
        The grid of the map.
    field : str, int or `None`
        The field of the map; not checked unless it is a KS4 field.

    Raises
    ------
    MapMismatchError
        If most of the stars are not in the field.
    GeometryError
        If the median distance between pixel positions and sky positions on the
        stack exceeds 3 pixels.
    """
    frame, sky = StackFrame.of(field, grid), stars.sky
    if frame is None or sky is None:
        return
    positions = PixelsAndSky(stars.x, stars.y, sky[0], sky[1], frame)
    positions.check_field()
    if positions.agree((0, 0)):
        return
    rows, columns = grid.image_shape
    other, shift = positions.other_stack, positions.shift
    if other is not None:
        advice = (
            f"the stars may be those of a full stack of {other[1]} x {other[0]} "
            f"pixels: give image_shape={other} (--image-size {other[1]} {other[0]})"
        )
    elif shift is not None:
        x, y = shift
        advice = (
            f"all stars are shifted by ({x:g}, {y:g}) pixels, as in a cut-out: convert "
            "pixel positions to those on the full stack, and give its image_shape "
            "(--image-size)"
        )
    else:
        advice = (
            "the image of the catalog does not have the pixels of the stack (0.4 "
            "arcsec, north up, east left), or image_shape (--image-size) is wrong"
        )
    msg = (
        "pixel positions and sky positions of the stars contradict each other for a "
        f"stack of {columns} x {rows} pixels: {positions.described((0, 0))}; {advice}. "
        "Omit field= to make a map of another image"
    )
    raise GeometryError(msg)
