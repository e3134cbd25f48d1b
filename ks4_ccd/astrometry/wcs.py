# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""World coordinate systems with an offset map in them."""

import math

import gwcs
import numpy as np
from astropy import units as u
from astropy.wcs import WCS, DistortionLookupTable
from gwcs import coordinate_frames as frames

from ks4_ccd.astrometry._anchored import AnchoredWCS
from ks4_ccd.astrometry._gwcs_steps import (
    ALIGNED,
    check_inverse,
    steps_of_fits,
    steps_of_gwcs,
)
from ks4_ccd.astrometry._offset_pixels import pixel_offsets
from ks4_ccd.astrometry.distortion import LookupDistortion
from ks4_ccd.astrometry.placement import find_origin
from ks4_ccd.astrometry.tables import reason_of
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    GeometryError,
    KS4Error,
    finite,
)
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.offset import require_offsets

__all__ = ["add_lookup_tables", "apply_offsets", "lookup_distortion"]

# Nodes along a side of a cell, where a table needs more than the map has. What
# is left beside SIP is then below 1e-6 arcsec.
_FINER = 8


def apply_offsets(wcs, offset_map, *, origin=None, image_shape=None, binning=1):
    """
    Return a gWCS that corrects positions by an offset map.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `~gwcs.wcs.WCS`
        The WCS of the image, celestial, of two axes. It is not changed.
    offset_map : `~ks4_ccd.OffsetMap`
        The map of its field and band.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        Where the image begins on the stack that the map covers: 0-based
        coordinates ``(x, y)`` of its first pixel, in pixels of the image. By
        default it follows from the shape of the image or its WCS, with
        which it has to agree for a map of a KS4 field.
    image_shape : tuple of int, optional
        The shape ``(rows, columns)`` of the image; by default that of the
        WCS or else that of the stack.
    binning : int, optional
        The number of the stack's pixels along a side of one of the image's.

    Returns
    -------
    corrected : `~gwcs.wcs.WCS`
        With the frames ``detector``, ``aligned`` and the celestial one (both
        of the former in pixels) and the shape of the image, without a
        bounding box. The step from ``detector`` to ``aligned`` is a
        `LookupDistortion`; the steps after it are those of the given WCS.
        A FITS WCS and a `LookupDistortion` have exact inverses.

    Raises
    ------
    DirectionlessMapError
        If the map is a `~ks4_ccd.MisalignmentMap`.
    AlreadyCalibratedError
        If the WCS has lookup tables, or an ``aligned`` frame, already.
    GeometryError
        If the WCS is not celestial or has not two axes, cannot be evaluated
        or inverted, the map does not cover the image, or its offsets change
        by more than they can for positions to stay distinct.

    Warns
    -----
    KS4Warning
        If the given gWCS has no inverse of its own.

    Notes
    -----
    gwcs sets sky positions to NaN that are outside the range of RA and Dec
    of the four corners of a bounding box, before it inverts them. Parallels
    are curved, so that pixels along the edges of a wide field are outside
    that range, and most pixels of an image with the pole in it. The bounding
    box of a given gWCS is therefore left out. ``footprint()`` takes it as an
    argument: ``footprint(bounding_box=((-0.5, nx - 0.5), (-0.5, ny - 0.5)))``.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from ks4_ccd import MapGrid, OffsetMap, apply_offsets
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    >>> wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    >>> wcs.wcs.crpix, wcs.wcs.crval = (50.5, 50.5), (0, -62)
    >>> grid = MapGrid((2, 2), 50)
    >>> offsets = OffsetMap(np.full((2, 2), 0.1), np.full((2, 2), -0.2), grid=grid)
    >>> corrected = apply_offsets(wcs, offsets)
    >>> before, after = (w.pixel_to_world(30, 60) for w in (wcs, corrected))
    >>> dra, ddec = before.spherical_offsets_to(after)
    >>> print(f"{dra.arcsec:.3f} {ddec.arcsec:.3f}")
    0.100 -0.200
    """
    if isinstance(wcs, gwcs.WCS):
        transform, rest = steps_of_gwcs(wcs)
    else:
        wcs = _checked_fits(wcs)
        transform, rest = steps_of_fits(wcs)
    distortion = lookup_distortion(
        wcs, offset_map, origin=origin, image_shape=image_shape, binning=binning
    )
    rows, columns = _image_shape(wcs, offset_map.grid, image_shape, binning)
    detector, aligned = (
        frames.Frame2D(name=name, axes_order=(0, 1), unit=(u.pix, u.pix))
        for name in ("detector", ALIGNED)
    )
    corrected = gwcs.WCS([(detector, distortion), (aligned, transform), *rest])
    # No bounding box: gwcs blanks sky positions beyond the RA and Dec of its
    # corners, and parallels bulge beyond these: pixels would have no inverse.
    corrected.pixel_shape = columns, rows
    corrected.name = getattr(wcs, "name", "") or ""
    check_inverse(corrected)
    return corrected


def add_lookup_tables(wcs, offset_map, *, origin=None, image_shape=None, binning=1):
    """
    Return a FITS WCS that corrects positions by an offset map.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        The WCS of the image. It is not changed.
    offset_map : `~ks4_ccd.OffsetMap`
        The map of its field and band.
    origin, image_shape, binning
        As in `apply_offsets`.

    Returns
    -------
    corrected : `~astropy.wcs.WCS`
        With the lookup tables ``cpdis1`` and ``cpdis2``. Slices of it, as
        ``corrected[rows, columns]``, keep them in place, and so does
        `~astropy.nddata.Cutout2D`, which forgets the tables of other WCS.

    Raises
    ------
    DirectionlessMapError
        If the map is a `~ks4_ccd.MisalignmentMap`.
    AlreadyCalibratedError
        If the WCS has lookup tables already.
    GeometryError
        As in `apply_offsets`.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from ks4_ccd import MapGrid, OffsetMap, add_lookup_tables
    >>> wcs = WCS(naxis=2)
    >>> wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    >>> wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    >>> wcs.wcs.crpix, wcs.wcs.crval = (50.5, 50.5), (0, -62)
    >>> grid = MapGrid((2, 2), 50)
    >>> offsets = OffsetMap(np.full((2, 2), 0.1), np.full((2, 2), -0.2), grid=grid)
    >>> corrected = add_lookup_tables(wcs, offsets)
    >>> print(f"{corrected.cpdis2.data[0, 0]:.3f} pixels")
    -0.500 pixels
    """
    if isinstance(wcs, gwcs.WCS):
        msg = "wcs is a gWCS, which has no FITS lookup tables: use apply_offsets"
        raise KS4Error(msg)
    corrected = AnchoredWCS.of(_checked_fits(wcs))
    distortion = lookup_distortion(
        wcs, offset_map, origin=origin, image_shape=image_shape, binning=binning
    )
    if corrected.sip is not None:
        distortion = _beside_sip(corrected, distortion)
    first = [position + 1 for position in distortion.first]
    corrected.cpdis1, corrected.cpdis2 = (
        DistortionLookupTable(
            table.astype(np.float32), (1.0, 1.0), first, distortion.step
        )
        for table in (distortion.dx, distortion.dy)
    )
    return corrected


def lookup_distortion(wcs, offset_map, *, origin=None, image_shape=None, binning=1):
    """
    Return an offset map as displacements of an image's pixels.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `~gwcs.wcs.WCS`
        The WCS of the image, without the correction.
    offset_map : `~ks4_ccd.OffsetMap`
    origin, image_shape, binning
        As in `apply_offsets`.

    Returns
    -------
    distortion : `LookupDistortion`
        Its nodes are the centres of the map's cells. The displacement there
        is the one that moves the sky position of the pixel by the offset, to
        first order: found through the derivatives of the WCS. For a map
        with edges, which tables do not have, there are more nodes, eight a
        cell.

    Raises
    ------
    DirectionlessMapError, GeometryError
        As in `apply_offsets`.
    """
    offset_map = require_offsets(offset_map)
    grid = _binned(offset_map.grid, binning)
    field = None if offset_map.key is None else offset_map.key.field
    shape = _image_shape(wcs, offset_map.grid, image_shape, binning)
    origin = find_origin({}, wcs, shape, grid, origin, field=field, binning=binning)
    nodes = offset_map.grid
    if any(nodes.edges):
        shape, size = (np.array(p) for p in (nodes.shape, nodes.cell_size))
        nodes = MapGrid(shape * _FINER, size / _FINER, nodes.origin)
    x, y = nodes.centers()
    dra, ddec = offset_map.at(x[:, None], y)
    grid = _binned(nodes, binning)
    x, y = (c - start for c, start in zip(grid.centers(), origin, strict=True))
    dx, dy = pixel_offsets(wcs, x, y, dra.T, ddec.T)
    # FITS has tables of float32: the same numbers everywhere, then.
    dx, dy = (np.asarray(table, np.float32) for table in (dx, dy))
    distortion = LookupDistortion(dx, dy, step=grid.cell_size, first=(x[0], y[0]))
    if distortion.largest_gradient >= 1:
        msg = (
            f"the offsets of {offset_map.name} change by up to "
            f"{distortion.largest_gradient:.3g} pixels per pixel: from 1 on, different "
            "pixels share a position, and the correction cannot be inverted"
        )
        raise GeometryError(msg)
    return distortion


def _beside_sip(wcs, distortion):
    """
    Return the displacements that FITS adds to SIP's instead of before them.

    FITS reads tables and SIP at the pixel itself, a gWCS reads SIP at the
    displaced pixel: how SIP changes in between goes into the tables. It bends
    within a cell, and beyond the outermost nodes, so these have more nodes.
    """
    step = np.array(distortion.step) / _FINER
    first = np.array(distortion.first) - distortion.step
    x, y = np.meshgrid(
        *(
            start + every * np.arange((n + 1) * _FINER + 1)
            for start, every, n in zip(
                first, step, reversed(distortion.dx.shape), strict=True
            )
        )
    )
    moved = distortion(x, y)
    before, after = (
        wcs.pix2foc(*(p.ravel() for p in place), 0) for place in ((x, y), moved)
    )
    dx, dy = ((b - a).reshape(x.shape) for a, b in zip(before, after, strict=True))
    return LookupDistortion(dx, dy, step=step, first=first)


def _binned(grid, binning):
    """Return a grid on the pixels of an image binned from its own."""
    if finite("binning", binning) <= 0:
        msg = f"binning must be positive, got {binning}"
        raise KS4Error(msg)
    size, origin = (np.array(p) for p in (grid.cell_size, grid.origin))
    # The lower edge of the first pixel, at -0.5, is that of both images.
    edges = [(np.array(borders) + 0.5) / binning - 0.5 for borders in grid.edges]
    return MapGrid(grid.shape, size / binning, (origin + 0.5) / binning - 0.5, edges)


def _image_shape(wcs, grid, image_shape, binning):
    shape = image_shape if image_shape is not None else wcs.array_shape
    if shape is None and getattr(wcs, "bounding_box", None) is not None:
        # As is usual for a gWCS: the box ends half a pixel beyond the image.
        shape = [math.ceil(end) for _, end in reversed(wcs.pixel_bounds)]
    if shape is None:
        return _binned(grid, binning).image_shape
    # A grid of one cell refuses what is not the shape of an image.
    return MapGrid.for_image((1, 1), shape).image_shape


def _checked_fits(wcs):
    """Return a copy of a FITS WCS, or raise if it cannot be corrected."""
    if not isinstance(wcs, WCS):
        msg = (
            "wcs must be an astropy.wcs.WCS or a gwcs.WCS, got "
            f"{type(wcs).__module__}.{type(wcs).__name__}"
        )
        raise KS4Error(msg)
    types = ", ".join(filter(None, wcs.wcs.ctype)) or "no CTYPE"
    if wcs.naxis != 2 or any("-TAB" in axis for axis in wcs.wcs.ctype):
        msg = (
            f"a celestial WCS of two axes is needed, without tables, got {types}: of a "
            "WCS with more axes, use wcs.celestial"
        )
        raise GeometryError(msg)
    try:
        wcs.wcs.set()
        singular = np.linalg.det(wcs.pixel_scale_matrix) == 0
    except (ValueError, ArithmeticError) as error:
        msg = f"the WCS is not usable: {reason_of(error)}"
        raise GeometryError(msg) from error
    if not wcs.has_celestial or wcs.wcs.lngtyp != "RA":
        msg = f"a WCS of RA and declination is needed, got {types}"
        raise GeometryError(msg)
    if singular:
        msg = "the WCS is singular: its pixels have no area on the sky"
        raise GeometryError(msg)
    if wcs.cpdis1 is not None or wcs.cpdis2 is not None:
        msg = (
            "the WCS already has lookup tables (CPDIS): positions are corrected once; "
            "start from the WCS without them"
        )
        raise AlreadyCalibratedError(msg)
    return wcs.deepcopy()
