# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Maps by the default recipe: surfaces through the stars, and how good they are."""

import numpy as np

from ks4_ccd.ks4.recipe import EMPTY_ZEROPOINT, MATCH_RADIUS
from ks4_ccd.mapmaking._stars import usable_errors
from ks4_ccd.mapmaking.cells import cell_members, clipped_statistics
from ks4_ccd.maps.errors import MEDIAN_OVER_MEAN
from ks4_ccd.maps.grid import MapGrid, corners
from ks4_ccd.surfaces.basis import regions_of
from ks4_ccd.surfaces.process import fit_process
from ks4_ccd.surfaces.surface import fit_surface

__all__ = ["misalignment_cells", "offset_cells", "zeropoint_cells"]

# From as many stars on, one surface; fewer leave open which.
_MANY_STARS = 500
_CELLS_OF_DEVIATION = 44  # along an axis
_MOST_PARTS, _MOST_POSITIONS = 4, 220  # of a cell, and of a map, along an axis
_STARS_OF_WINDOW = 8
_REACH = 1.5  # mean distances of stars
_WINDOWS = (2, 4, 8)  # cells of padding


def misalignment_cells(stars, grid):
    """
    Make the arrays of a misalignment map, from as wide windows as it needs.

    Parameters
    ----------
    stars : `MatchedStars`
    grid : `~ks4_ccd.MapGrid`
        No window reaches across its edges.

    Returns
    -------
    values, error, count : 2D `~numpy.ndarray`
        In arcsec: medians and deviations of the separations that are left
        after clipping at 3 sigma.
    """
    used = _astrometric(stars, grid)
    x, y, separation = (p[used] for p in (stars.x, stars.y, stars.separation))
    i, j = np.meshgrid(*grid.centers(), indexing="ij")
    region_of_cell = _region(i.ravel(), j.ravel(), grid.edges)
    region_of_star = _region(x, y, grid.edges)
    n_cells = grid.shape[0] * grid.shape[1]
    values, error, count = np.zeros((3, n_cells))
    for padding in _WINDOWS:
        window = tuple(padding * size for size in grid.cell_size)
        star, cell = cell_members(x, y, grid, padding=window)
        # Only cells that narrower windows left without enough stars.
        wanted = count[cell] < _STARS_OF_WINDOW
        wanted &= region_of_star[star] == region_of_cell[cell]
        star, cell = star[wanted], cell[wanted]
        found = clipped_statistics(cell, separation[star], n_cells, sigma=3.0)
        better = found.count > count
        values[better] = 3600 * found.median[better]
        error[better] = 3600 * found.scatter[better]
        count[better] = found.count[better]
    return tuple(part.reshape(grid.shape) for part in (values, error, count))


def offset_cells(stars, grid):
    """
    Make the arrays of an offset map.

    Parameters
    ----------
    stars : `MatchedStars`
    grid : `~ks4_ccd.MapGrid`
        Its edges are those of chips.

    Returns
    -------
    dra, ddec, error, count : 2D `~numpy.ndarray`
        In arcsec.
    """
    used = _astrometric(stars, grid, *stars.offsets)
    x, y = stars.x[used], stars.y[used]
    # Positions are as uncertain as brightness is.
    errors = usable_errors(stars.sources.magnitude_errors("AUTO")[used])
    fields = [_fit(x, y, part[used], errors, grid) for part in stars.offsets]
    return _cells(fields, grid)


def zeropoint_cells(stars, apertures, grid, mode, misalignment):
    """
    Make the arrays of zero-point maps.

    Parameters
    ----------
    stars : `MatchedStars`
    apertures : sequence of str
    grid : `~ks4_ccd.MapGrid`
        Its edges are those of amplifiers.
    mode : {"single", "dual"}
    misalignment : callable
        Returns the typical separation at pixel coordinates, in arcsec.

    Yields
    ------
    values, error, count : 2D `~numpy.ndarray`
        In magnitudes, of each aperture.
    """
    used = stars.in_photometry(strict=False, mode=mode)
    used &= stars.on_image(grid.image_shape) & stars.is_first
    # A star is where others are, or it is another star.
    usual = np.zeros(used.size)
    usual[used] = misalignment(stars.x[used], stars.y[used]) / 3600
    used &= stars.separation < np.maximum(MATCH_RADIUS, usual)
    for aperture in apertures:
        difference = stars.reference - stars.sources.magnitudes(aperture)
        here = stars.enough(
            used & np.isfinite(difference),
            f"zero points in {aperture}",
            "clean stars of 14 to 19 mag, measured in the aperture, with small errors",
        )
        x, y = stars.x[here], stars.y[here]
        errors = np.hypot(
            usable_errors(stars.sources.magnitude_errors(aperture)[here]),
            stars.reference_error[here],
        )
        trend = stars.reference[here]
        field = _fit(x, y, difference[here], errors, grid, trend)
        values, error, count = _cells([field], grid)
        yield np.where(count > 0, values, EMPTY_ZEROPOINT), error, count


def _astrometric(stars, grid, *needed):
    used = stars.in_astrometry(strict=False)
    used &= stars.on_image(grid.image_shape) & stars.is_first
    used &= np.isfinite([stars.separation, *needed]).all(axis=0)
    return stars.enough(
        used, "positions", "clean stars of 14 to 20 mag with small errors"
    )


def _region(x, y, edges):
    i, j = regions_of(x, y, edges)
    return i * (len(edges[1]) + 1) + j


def _fit(x, y, values, errors, grid, trend=None):
    """Return the field through stars, which need not be many."""
    fit = fit_process if x.size < _MANY_STARS else fit_surface
    return fit(x, y, values, errors, grid.image_shape, grid.edges, trend)


def _cells(fields, grid):
    """
    Return the values of fields in cells, their scatter and star count.

    The count is the number of stars whose median would be as good as the map
    is: what makes ``error_kind="median"`` its standard error.
    """
    values, errors, scatters = zip(*(_gridded(f, grid) for f in fields), strict=True)
    error, scatter = (
        np.sqrt(np.mean(np.square(part), axis=0)) for part in (errors, scatters)
    )
    count = (MEDIAN_OVER_MEAN * scatter / np.maximum(error, 1e-15)) ** 2
    # Stars without any scatter tell nothing of errors, yet there are stars.
    count = np.where(count > 0, count, 1.0)
    x, y = (np.concatenate([getattr(f, axis) for f in fields]) for axis in "xy")
    empty = ~_near_stars(x, y, fields[0].x.size, grid)
    for part in (*values, scatter, count):
        part[empty] = 0
    return (*values, scatter, count)


def _gridded(field, grid):
    """Return a field in cells, its uncertainty, and the scatter of stars about it."""
    values = field.mesh(*grid.centers())
    coarse = MapGrid.for_image(_coarse(grid), grid.image_shape, grid.edges)
    deviation = field.mesh_deviation(*coarse.centers())
    everywhere = [p.ravel() for p in np.meshgrid(*grid.centers(), indexing="ij")]
    deviation = _interpolated(deviation, coarse, *everywhere).reshape(grid.shape)
    # Between the centres of cells, a map departs from the field.
    error = np.hypot(deviation, _departure(field, values, grid))
    return values, error, np.hypot(error, np.median(field.sigma))


def _coarse(grid):
    """Return the shape of a grid fine enough for uncertainties."""
    return tuple(
        min(n, max(_CELLS_OF_DEVIATION, 3 * (len(edges) + 1)))
        for n, edges in zip(grid.shape, grid.edges, strict=True)
    )


def _departure(field, values, grid):
    """Return the root mean square over each cell of what interpolation is off by."""
    parts = max(1, min(_MOST_PARTS, int(_MOST_POSITIONS / max(grid.shape))))
    fractions = (np.arange(parts) + 0.5) / parts - 0.5
    x, y = (
        (center[:, None] + size * fractions).ravel()
        for center, size in zip(grid.centers(), grid.cell_size, strict=True)
    )
    everywhere = [p.ravel() for p in np.meshgrid(x, y, indexing="ij")]
    off = _interpolated(values, grid, *everywhere) - field.mesh(x, y).ravel()
    square = (off**2).reshape(grid.shape[0], parts, grid.shape[1], parts)
    return np.sqrt(square.mean(axis=(1, 3)))


def _interpolated(nodes, grid, x, y):
    """Return what a map of these values has at positions."""
    around = corners(grid.stencil(0, x), grid.stencil(1, y))
    return sum(nodes[cell] * weight for cell, weight in around)


def _near_stars(x, y, number, grid):
    """Return which cells have a star in or around them, as stars are spaced."""
    area = grid.image_shape[0] * grid.image_shape[1] / number
    reach = np.maximum(grid.cell_size, _REACH * np.sqrt(area))
    _, cell = cell_members(x, y, grid, padding=tuple(reach))
    near = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
    near[cell] = True
    return near.reshape(grid.shape)
