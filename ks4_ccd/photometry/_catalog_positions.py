# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where the sources of a catalog are: on the map, and on the sky."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from ks4_ccd._table_columns import column_in
from ks4_ccd.exceptions import KS4Error, MapMismatchError
from ks4_ccd.footprint import find_origin
from ks4_ccd.release.header import says
from ks4_ccd.release.tiling import PIXEL_SCALE, field_center

__all__ = [
    "check_sky",
    "corrected_columns",
    "has_sky",
    "is_off_image",
    "positions_on_map",
]

# Half of a stack in the tangent plane, with room for a bad pointing.
_REACH = (11500 * PIXEL_SCALE).to_value(u.rad)
_SAMPLE = 1000


def positions_on_map(sources, grid, origin):
    """
    Return where sources are on the grid of a map.

    Parameters
    ----------
    sources : `~ks4_ccd.sources.Sources`
    grid : `~ks4_ccd.MapGrid`
    origin : tuple of float, `~astropy.nddata.Cutout2D` or `None`
        Where the image of the catalog begins: by default what LTV1 and LTV2
        in the table's meta say, and without them at the map's first pixel.

    Returns
    -------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates, 0 where a source has no position.
    known : 1D `~numpy.ndarray` of bool
        Which sources have one.
    """
    x, y = sources.positions()
    meta = sources.table.meta
    if origin is not None or says(meta, "LTV1", "LTV2"):
        first_x, first_y = find_origin(meta, None, (1, 1), grid, origin)
        x, y = x + first_x, y + first_y
    known = np.isfinite(x) & np.isfinite(y)
    if not known.all():
        x, y = (np.where(known, position, 0) for position in (x, y))
    return x, y, known


def is_off_image(x, y, grid):
    """Return which positions are beyond the outermost pixels of the map's image."""
    off = np.zeros(x.shape, dtype=bool)
    for axis, position in enumerate((x, y)):
        # The first pixel, like all others, reaches half a pixel around its centre.
        first = grid.origin[axis] - 0.5
        length = grid.shape[axis] * grid.cell_size[axis]
        off |= (position < first) | (position > first + length)
    return off


def check_sky(sources, key):
    """
    Refuse a catalog whose sources are not in the field of a map.

    Parameters
    ----------
    sources : `~ks4_ccd.sources.Sources`
    key : `~ks4_ccd.MapKey` or `None`

    Raises
    ------
    MapMismatchError
        If most of the sources are off the stack of the field.
    """
    if key is None or not has_sky(sources):
        return
    try:
        center = field_center(key.field)
    except KS4Error:
        # Not one of the KS4 fields: nothing is known of where it is.
        return
    # A thousand sources tell as well as a million.
    every = max(1, len(sources) // _SAMPLE)
    ra, dec = (np.radians(angle[::every]) for angle in sources.sky())
    delta_ra, center_dec = ra - center.ra.rad, center.dec.rad
    along = np.cos(dec) * np.cos(delta_ra)
    east = np.cos(dec) * np.sin(delta_ra)
    north = np.sin(dec) * np.cos(center_dec) - along * np.sin(center_dec)
    cosine = np.sin(dec) * np.sin(center_dec) + along * np.cos(center_dec)
    known = np.isfinite(cosine)
    inside = np.maximum(np.abs(east), np.abs(north)) <= _REACH * cosine
    if known.any() and np.count_nonzero(inside) < np.count_nonzero(known) / 2:
        first = np.flatnonzero(known & ~inside)[0]
        msg = (
            f"the sources are not in field {key.field} that the map is of: one is at "
            f"{np.degrees(ra[first]):.4f} {np.degrees(dec[first]):+.4f} deg, the "
            f"field's centre at {center.ra.deg:.4f} {center.dec.deg:+.4f}"
        )
        raise MapMismatchError(msg)


def corrected_columns(sources, offsets, x, y, known, method):
    """
    Return the columns of the sky coordinates, corrected.

    Parameters
    ----------
    sources : `~ks4_ccd.sources.Sources`
    offsets : `~ks4_ccd.OffsetMap`
    x, y : 1D `~numpy.ndarray`
        Where the sources are on the map.
    known : 1D `~numpy.ndarray` of bool
        Which of them have a position: no other moves.
    method : {"bilinear", "nearest"}

    Returns
    -------
    columns : dict
        New values of each column, in its unit: of all that hold coordinates.

    Raises
    ------
    KS4Error
        If the catalog has no sky coordinates.
    """
    names = sources.table.colnames
    pairs = [
        (ra, dec)
        for ra, dec in zip(
            _names(sources.columns.ra), _names(sources.columns.dec), strict=False
        )
        if ra in names and dec in names
    ]
    table = sources.table
    frames = [
        name
        for name in _names(sources.columns.sky)
        if name in names and isinstance(table[name], SkyCoord)
    ]
    if not pairs and not frames:
        # Its message names what was expected.
        sources.column("ra" if sources.columns.ra else "sky")
    dra, ddec = (
        np.where(known, np.radians(offset / 3600), 0)
        for offset in offsets.at(x, y, method)
    )
    columns = {}
    for pair in pairs:
        angles = (column_in(table, name, u.deg) for name in pair)
        for name, angle in zip(pair, _moved(*angles, dra, ddec), strict=True):
            unit = table[name].unit
            columns[name] = angle if unit is None else (angle * u.deg).to_value(unit)
    for name in frames:
        old = table[name]
        ra, dec = _moved(old.icrs.ra.deg, old.icrs.dec.deg, dra, ddec)
        moved = SkyCoord(ra, dec, unit="deg", frame="icrs")
        columns[name] = moved.transform_to(old.frame.replicate_without_data())
    return columns


def _moved(ra, dec, dra, ddec):
    """
    Move positions in degrees by small angles in radians, east and north.

    The vector to the moved position, with its longitude counted from the old
    one, knows no singularity at the poles.
    """
    dec = np.radians(dec)
    cosine, sine = np.cos(dec), np.sin(dec)
    towards = cosine - ddec * sine
    moved_ra = (ra + np.degrees(np.arctan2(dra, towards))) % 360
    moved_dec = np.arctan2(sine + ddec * cosine, np.hypot(towards, dra))
    return moved_ra, np.degrees(moved_dec)


def _names(names):
    return (names,) if isinstance(names, str) else tuple(names or ())


def has_sky(sources):
    """Return whether a catalog has sky coordinates."""
    return sources.has("sky") or (sources.has("ra") and sources.has("dec"))
