# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Add an offset map to the world coordinate system of an image."""

import math
from collections.abc import Sequence
from typing import Any

import gwcs
import numpy as np
from astropy import units as u
from astropy.nddata import Cutout2D
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
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    GeometryError,
    OptionError,
    finite,
    reason_of,
)
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.offset import OffsetMap, require_offsets

__all__ = ["add_lookup_tables", "apply_offsets", "lookup_distortion"]

# Number of nodes along a side of a cell for maps with edges and for WCS with SIP, where
# the error is then below 1e-6 arcsec.
_FINER = 8


def apply_offsets(
    wcs: WCS | gwcs.WCS,
    offset_map: OffsetMap,
    *,
    origin: Sequence[float] | Cutout2D | None = None,
    image_shape: Sequence[int] | None = None,
    binning: float = 1,
) -> gwcs.WCS:
    """
    Return a gWCS that corrects positions by an offset map.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS` or `~gwcs.wcs.WCS`
        The celestial WCS of the image, with two axes. It is not changed.
    offset_map : `~ks4_ccd.OffsetMap`
        The map of its field and band.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The 0-based pixel position ``(x, y)`` of the image's first pixel on the
        frame of the map, in pixels of the image. By default it follows from the
        shape of the image or its WCS; for a map of a KS4 field it has to agree
        with the WCS.
    image_shape : tuple of int, optional
        The shape ``(rows, columns)`` of the image; by default that of the
        WCS, or else that of the frame of the map.
    binning : float, optional
        The number of pixels of the frame along a side of a pixel of the image.

    Returns
    -------
    corrected : `~gwcs.wcs.WCS`
        With the frames ``detector`` and ``aligned`` (in pixels) and the celestial
        frame, the shape of the image, and no bounding box. The step from
        ``detector`` to ``aligned`` is a `LookupDistortion`; the following steps are
        those of the given WCS. A FITS WCS and a `LookupDistortion` have exact
        inverses.

    Raises
    ------
    DirectionlessMapError
        If the map is a `~ks4_ccd.MisalignmentMap`.
    AlreadyCalibratedError
        If the WCS already has lookup tables or an ``aligned`` frame.
    GeometryError
        If the WCS is not celestial, does not have two axes, or cannot be evaluated
        or inverted; if the map does not cover the image; or if the gradient of its
        offsets reaches one pixel per pixel.

    Warns
    -----
    KS4Warning
        If the given gWCS has no analytic inverse.

    Notes
    -----
    Before inverting sky positions, gwcs sets those to NaN that are outside the
    range of RA and Dec of the four corners of a bounding box. Parallels are
    curved, so that this range excludes pixels along the edges of a wide field,
    and most pixels of an image that contains a pole. The bounding box of a given
    gWCS is therefore removed. ``footprint()`` takes it as an
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
    # No bounding box: see Notes.
    corrected.pixel_shape = columns, rows
    corrected.name = getattr(wcs, "name", "") or ""
    check_inverse(corrected)
    return corrected


def add_lookup_tables(
    wcs: WCS,
    offset_map: OffsetMap,
    *,
    origin: Sequence[float] | Cutout2D | None = None,
    image_shape: Sequence[int] | None = None,
    binning: float = 1,
) -> WCS:
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
        With the lookup tables ``cpdis1`` and ``cpdis2``. They stay in place in
        slices ``corrected[rows, columns]`` and in `~astropy.nddata.Cutout2D`, which
        loses the tables of other WCS.

    Raises
    ------
    DirectionlessMapError
        If the map is a `~ks4_ccd.MisalignmentMap`.
    AlreadyCalibratedError
        If the WCS already has lookup tables.
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
        msg = "wcs must be an astropy.wcs.WCS, got a gWCS: use apply_offsets"
        raise OptionError(msg)
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


def lookup_distortion(
    wcs: WCS | gwcs.WCS,
    offset_map: OffsetMap,
    *,
    origin: Sequence[float] | Cutout2D | None = None,
    image_shape: Sequence[int] | None = None,
    binning: float = 1,
) -> LookupDistortion:
    """
    Convert an offset map to displacements of an image's pixels.

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
        Its nodes are the centres of the map's cells. The displacement at a node
        moves the sky position of the pixel by the offset, to first order, according
        to the derivatives of the WCS. A map with edges, which tables do not have,
        gets eight nodes along each side of a cell.

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
        (nx, ny), (width, height) = nodes.shape, nodes.cell_size
        nodes = MapGrid(
            (nx * _FINER, ny * _FINER), (width / _FINER, height / _FINER), nodes.origin
        )
    x, y = nodes.centers()
    dra, ddec = offset_map.at(x[:, None], y)
    grid = _binned(nodes, binning)
    x, y = (c - start for c, start in zip(grid.centers(), origin, strict=True))
    dx, dy = pixel_offsets(wcs, x, y, np.transpose(dra), np.transpose(ddec))
    # FITS stores tables as float32: the same numbers for both kinds of WCS.
    dx, dy = (np.asarray(table, np.float32) for table in (dx, dy))
    distortion = LookupDistortion(dx, dy, step=grid.cell_size, first=(x[0], y[0]))
    if distortion.largest_gradient >= 1:
        msg = (
            f"the offsets of {offset_map.name} change by up to "
            f"{distortion.largest_gradient:.3g} pixels per pixel: expected less than "
            "1, because otherwise the correction cannot be inverted"
        )
        raise GeometryError(msg)
    return distortion


def _beside_sip(wcs: WCS, distortion: LookupDistortion) -> LookupDistortion:
    """
    Return the displacements to add to those of SIP.

    FITS evaluates tables and SIP at the pixel itself, a gWCS evaluates SIP at the
    displaced pixel: the tables include the difference. It varies within a cell
    and beyond the outermost nodes, which requires more nodes.
    """
    step = tuple(every / _FINER for every in distortion.step)
    first = tuple(np.subtract(distortion.first, distortion.step).tolist())
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


def _binned(grid: MapGrid, binning: float) -> MapGrid:
    """Return a grid in the pixels of a binned image."""
    if finite("binning", binning) <= 0:
        msg = f"binning must be positive, got {binning}"
        raise OptionError(msg)
    # The lower edge of the first pixel, at -0.5, is that of both images.
    (x, y), *edges = (
        [(position + 0.5) / binning - 0.5 for position in positions]
        for positions in (grid.origin, *grid.edges)
    )
    width, height = grid.cell_size
    size = width / binning, height / binning
    return MapGrid(grid.shape, size, (x, y), (edges[0], edges[1]))


def _image_shape(
    wcs: WCS | gwcs.WCS,
    grid: MapGrid,
    image_shape: Sequence[int] | None,
    binning: float,
) -> tuple[int, int]:
    shape: Any = image_shape if image_shape is not None else wcs.array_shape
    if shape is None and getattr(wcs, "bounding_box", None) is not None:
        # By convention the box ends half a pixel beyond the last pixel centres.
        shape = [math.ceil(end) for _, end in reversed(wcs.pixel_bounds)]
    if shape is None:
        return _binned(grid, binning).image_shape
    # A grid of one cell checks the shape.
    return MapGrid.for_image((1, 1), shape).image_shape


def _checked_fits(wcs: object) -> WCS:
    """Return a copy of a FITS WCS, or raise if it cannot be corrected."""
    if not isinstance(wcs, WCS):
        msg = (
            "wcs must be an astropy.wcs.WCS or a gwcs.WCS, got "
            f"{type(wcs).__module__}.{type(wcs).__name__}"
        )
        raise OptionError(msg)
    types = ", ".join(filter(None, wcs.wcs.ctype)) or "no CTYPE"
    if wcs.naxis != 2 or any("-TAB" in axis for axis in wcs.wcs.ctype):
        msg = (
            f"expected a celestial WCS with two axes, without -TAB, found {types}; for "
            "a WCS with more axes, use wcs.celestial"
        )
        raise GeometryError(msg)
    try:
        wcs.wcs.set()
        singular = np.linalg.det(wcs.pixel_scale_matrix) == 0
    except (ValueError, ArithmeticError) as error:
        msg = f"the WCS is not usable: {reason_of(error)}"
        raise GeometryError(msg) from error
    if not wcs.has_celestial or wcs.wcs.lngtyp != "RA":
        msg = f"expected a WCS of RA and declination, found {types}"
        raise GeometryError(msg)
    if singular:
        msg = "the WCS is singular: its pixels have no area on the sky"
        raise GeometryError(msg)
    if wcs.cpdis1 is not None or wcs.cpdis2 is not None:
        msg = (
            "the WCS already has lookup tables (CPDIS): its positions were corrected; "
            "start from the WCS without them"
        )
        raise AlreadyCalibratedError(msg)
    return wcs.deepcopy()
