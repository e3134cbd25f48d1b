# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Locate the sources of a catalog on the map, and correct their sky positions."""

import warnings

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import Cutout2D

from ks4_ccd.astrometry.placement import (
    check_inside,
    check_stack_size,
    given_origin,
    ltv_origin,
    refuse_contradiction,
    refuse_other_pixels,
)
from ks4_ccd.catalogs.columns import column_in, names_of, unit_of
from ks4_ccd.catalogs.placement import PixelsAndSky
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import GeometryError, KS4Warning
from ks4_ccd.ks4.frame import StackFrame
from ks4_ccd.ks4.header import frame_shape
from ks4_ccd.ks4.tangent import unproject
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.offset import OffsetMap

__all__ = ["corrected_columns", "is_off_image", "positions_on_map"]


def positions_on_map(
    sources: Sources,
    grid: MapGrid,
    origin: tuple[float, float] | Cutout2D | None,
    field: str | int | None,
    *,
    is_keyed: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return the positions of sources on the grid of a map.

    Parameters
    ----------
    sources : `~ks4_ccd.catalogs.sources.Sources`
    grid : `~ks4_ccd.MapGrid`
    origin : tuple of float, `~astropy.nddata.Cutout2D` or `None`
        The position of the first pixel of the catalog's image: by default the
        origin that LTV1 and LTV2 in the table's meta record, or the first pixel of
        the map.
    field : str, int or `None`
        The field of the map, or else of the catalog.
    is_keyed : bool
        Whether ``field`` is the field of the map.

    Returns
    -------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates, 0 for sources without a position.
    known : 1D `~numpy.ndarray` of bool
        True for sources with a position.

    Raises
    ------
    MapMismatchError
        If most of the sources are off the stack of the map's field.
    GeometryError
        If pixel positions and sky positions contradict each other.

    Warns
    -----
    KS4Warning
        If the placement follows from the sky positions alone, or could not be
        verified.
    """
    x, y = sources.positions()
    meta = sources.table.meta
    refuse_other_pixels(meta)
    check_stack_size(meta, grid)
    ltv = None if origin is not None else ltv_origin(meta)
    if origin is not None:
        place, by = given_origin(origin), "origin="
    elif ltv is not None:
        place, by = ltv, "LTV1 and LTV2 of its meta"
    else:
        place, by = (0.0, 0.0), "the default origin (0, 0)"
    frame = StackFrame.of(field, grid)
    if frame is not None:
        is_given = origin is not None
        if is_keyed and isinstance(origin, Cutout2D):
            refuse_contradiction(origin.wcs, origin.shape, frame, place, by)
        place, by = _verified(sources, x, y, frame, place, by, is_given, is_keyed)
    if place != (0, 0):
        check_inside(place, (1, 1), grid, by)
        x, y = x + place[0], y + place[1]
    known = np.isfinite(x) & np.isfinite(y)
    if not known.all():
        x, y = (np.where(known, position, 0) for position in (x, y))
    return x, y, known


def _verified(
    sources: Sources,
    x: np.ndarray,
    y: np.ndarray,
    frame: StackFrame,
    place: tuple[float, float],
    by: str,
    is_given: bool,
    is_keyed: bool,
) -> tuple[tuple[float, float], str]:
    """Return the given placement or the one of the sky positions, and its source."""
    positions = None
    if sources.has_sky:
        is_sized = frame_shape(sources.table.meta) is not None
        ra, dec = sources.sky()
        positions = PixelsAndSky(x, y, ra, dec, frame, is_sized=is_sized)
        if is_keyed:
            positions.check_field()
        elif not positions.is_in_field:
            # FIELD1 may be that of another survey, whose tiling is unknown.
            return place, by
    if not positions:
        if len(x) and not is_given:
            _warn(
                "the catalog has no sky positions to verify the position of its image "
                f"on the stack of field {frame.field}: it is placed by {by}. If that "
                f"is right, give origin={_shown(place)}"
            )
        return place, by
    if positions.agree(place):
        off = positions.far_apart(place)
        if off:
            _warn(
                f"{off} of {len(positions)} sources have pixel positions and sky "
                "positions that differ by more than 3 pixels on the stack: they are "
                "calibrated by their pixel positions"
            )
        return place, by
    found = positions.origin
    if is_given or found is None:
        raise GeometryError(_contradiction(positions, place, by))
    _warn(
        "the pixel positions of the catalog are not relative to the first pixel of "
        f"the stack of field {frame.field}: according to the sky positions its image "
        f"begins at {_shown(found)}, and is placed there. If that is right, give "
        f"origin={_shown(found)}"
    )
    return found, "the sky positions of its sources"


def _contradiction(positions: PixelsAndSky, place: tuple[float, float], by: str) -> str:
    msg = (
        "pixel positions and sky positions of the sources contradict each other. "
        f"Placed by {by}, {positions.described(place)}. "
    )
    rows, columns = positions.frame.grid.image_shape
    other, shift = positions.other_stack, positions.shift
    if other is not None and shift is not None:
        return msg + (
            f"The catalog may be that of a full stack of {other[1]} x {other[0]} "
            f"pixels, while the map covers {columns} x {rows}: give the library "
            f"image_shape={other} (--image-size {other[1]} {other[0]}), or for a "
            f"cut-out of the larger stack origin={_shown(shift)}"
        )
    if shift is not None:
        return msg + (
            "According to the sky positions the image of the catalog begins at "
            f"{_shown(shift)} on the stack of {columns} x {rows} pixels that the map "
            "covers: give that as origin= (--origin) if it is right, or correct the "
            "sky positions. The size of the stack follows from image_shape "
            "(--image-size)"
        )
    return msg + (
        "The image of the catalog does not have the pixels of the stack (0.4 arcsec, "
        "north up, east left): measure the stack itself, or a cut-out of it. If the "
        "sky positions are wrong, correct or remove them"
    )


def _warn(message: str) -> None:
    # Level 5 is the caller of calibrate_catalog.
    warnings.warn(message, KS4Warning, stacklevel=5)


def _shown(place: tuple[float, float]) -> str:
    return f"({place[0]:g}, {place[1]:g})"


def is_off_image(x: np.ndarray, y: np.ndarray, grid: MapGrid) -> np.ndarray:
    """Return which positions are outside the image that the map covers."""
    # Cells begin half a pixel before the image: at X_IMAGE = 0, not 0.5.
    return np.logical_not(grid.contains(x - 0.5, y - 0.5))


def corrected_columns(
    sources: Sources,
    offsets: OffsetMap,
    x: np.ndarray,
    y: np.ndarray,
    known: np.ndarray,
    method: str,
) -> dict[str, np.ndarray | SkyCoord]:
    """
    Return corrected columns of sky coordinates.

    Parameters
    ----------
    sources : `~ks4_ccd.catalogs.sources.Sources`
    offsets : `~ks4_ccd.OffsetMap`
    x, y : 1D `~numpy.ndarray`
        The positions of the sources on the map.
    known : 1D `~numpy.ndarray` of bool
        True for sources with a position; the others are left unchanged.
    method : {"bilinear", "nearest"}

    Returns
    -------
    columns : dict
        The new values of each column of sky coordinates, in its unit.

    Raises
    ------
    KS4Error
        If the catalog has no sky coordinates.
    """
    names = sources.table.colnames
    pairs = [
        (ra, dec)
        for ra, dec in zip(
            names_of(sources.columns, "ra"),
            names_of(sources.columns, "dec"),
            strict=False,
        )
        if ra in names and dec in names
    ]
    table = sources.table
    frames = [
        name
        for name in names_of(sources.columns, "sky")
        if name in names and isinstance(table[name], SkyCoord)
    ]
    if not pairs and not frames:
        # This raises an error that names the expected columns.
        sources.column("ra" if sources.columns.ra else "sky")
    dra, ddec = (
        np.where(known, np.radians(offset / 3600), 0)
        for offset in offsets.at(x, y, method)
    )
    columns = {}
    for pair in pairs:
        angles = (column_in(table, name, u.deg) for name in pair)
        for name, angle in zip(pair, unproject(dra, ddec, *angles), strict=True):
            unit = unit_of(table[name])
            columns[name] = angle if unit is None else (angle * u.deg).to_value(unit)
    for name in frames:
        old = table[name]
        ra, dec = unproject(dra, ddec, old.icrs.ra.deg, old.icrs.dec.deg)
        moved = SkyCoord(ra, dec, unit="deg", frame="icrs")
        columns[name] = moved.transform_to(old.frame.replicate_without_data())
    return columns
