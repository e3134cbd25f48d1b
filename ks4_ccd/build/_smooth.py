# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Maps by the default recipe: surfaces through the stars, and how good they are."""

import numpy as np

from ks4_ccd._neighbours import gaussian_sum
from ks4_ccd.build._basis import regions_of
from ks4_ccd.build._stars import usable_errors
from ks4_ccd.build._surface import fit_surface
from ks4_ccd.build.cells import cell_members, clipped_statistics

__all__ = ["misalignment_cells", "offset_cells", "zeropoint_cells"]

_WIDEST_SEPARATION = 0.5 / 3600  # degrees, where positions are better than that
_EMPTY_ZEROPOINT = 30.0
_STARS_OF_SCATTER = 50
_STARS_OF_WINDOW = 8
_REACH = 1.5  # mean distances of stars
_WINDOWS = (2, 4, 8)  # cells of padding
# The variance of a median over that of a mean, for a normal sample.
_MEDIAN_OVER_MEAN = np.pi / 2


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
    surfaces = [
        fit_surface(x, y, part[used], errors, grid.image_shape, grid.edges)
        for part in stars.offsets
    ]
    return _cells(surfaces, x, y, grid)


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
    used &= stars.separation < np.maximum(_WIDEST_SEPARATION, usual)
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
        surface = fit_surface(
            x,
            y,
            difference[here],
            errors,
            grid.image_shape,
            grid.edges,
            trend=stars.reference[here],
        )
        values, error, count = _cells([surface], x, y, grid)
        yield np.where(count > 0, values, _EMPTY_ZEROPOINT), error, count


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


def _cells(surfaces, x, y, grid):
    """
    Return the values of surfaces in cells, their scatter and star count.

    The count is the number of stars whose median would be as good as the
    surface is: what makes ``error_kind="median"`` its standard error.
    """
    centers = (p.ravel() for p in np.meshgrid(*grid.centers(), indexing="ij"))
    center_x, center_y = centers
    values, variances, squares = [], [], 0.0
    for surface in surfaces:
        value, error = surface.at(center_x, center_y)
        values.append(value.reshape(grid.shape))
        variances.append(error**2)
        squares = squares + np.where(surface.used, surface.residuals**2, np.nan)
    used = np.isfinite(squares)
    variance = np.mean(variances, axis=0).reshape(grid.shape)
    scatter = _local_scatter(x[used], y[used], squares[used] / len(surfaces), grid)
    count = _MEDIAN_OVER_MEAN * scatter**2 / np.maximum(variance, 1e-30)
    # Stars without any scatter tell nothing of errors, yet there are stars.
    count = np.where(count > 0, count, 1.0)
    empty = ~_near_stars(x[used], y[used], grid)
    for part in (*values, scatter, count):
        part[empty] = 0
    return (*values, scatter, count)


def _local_scatter(x, y, squares, grid):
    """Return the root mean square of residuals around each cell."""
    i, j = grid.cell_of(x, y)
    sums, numbers = np.zeros((2, *grid.shape))
    np.add.at(sums, (i, j), squares)
    np.add.at(numbers, (i, j), 1)
    density = numbers.mean()
    scale = max(0.5, np.sqrt(_STARS_OF_SCATTER / (4 * np.pi * density)))
    weight = gaussian_sum(numbers, scale)
    total = gaussian_sum(sums, scale)
    everywhere = np.mean(squares)
    known = weight > 1
    local = np.where(known, total / np.where(known, weight, 1), everywhere)
    return np.sqrt(local)


def _near_stars(x, y, grid):
    """Return which cells have a star in or around them, as stars are spaced."""
    area = grid.image_shape[0] * grid.image_shape[1] / x.size
    reach = np.maximum(grid.cell_size, _REACH * np.sqrt(area))
    _, cell = cell_members(x, y, grid, padding=tuple(reach))
    near = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
    near[cell] = True
    return near.reshape(grid.shape)
