# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Make maps by the recipe of DR1, quirks included."""

import numpy as np

from ks4_ccd.ks4.recipe import EMPTY_ZEROPOINT, MATCH_RADIUS, WINDOW_PADDING
from ks4_ccd.mapmaking.cells import (
    cell_members,
    cell_statistics,
    clipped_statistics,
)

__all__ = ["misalignment_cells", "zeropoint_cells"]


def misalignment_cells(stars, grid):
    """
    Make the arrays of a misalignment map.

    Parameters
    ----------
    stars : `MatchedStars`
    grid : `~ks4_ccd.MapGrid`

    Returns
    -------
    values, error, count : 2D `~numpy.ndarray`
        In arcsec.
    """
    used = stars.enough(
        stars.in_astrometry(strict=True),
        "positions",
        "the recipe takes clean stars of 14 to 20 mag with MAGERR_AUTO below 0.05",
    )
    found = cell_statistics(
        stars.x[used],
        stars.y[used],
        stars.separation[used],
        grid,
        padding=tuple(WINDOW_PADDING * size for size in grid.cell_size),
        sigma=None,
    )
    return (
        3600 * np.nan_to_num(found.median),
        3600 * np.nan_to_num(found.scatter),
        found.count,
    )


def zeropoint_cells(stars, apertures, grid, mode, misalignment):
    """
    Make the arrays of zero-point maps.

    Parameters
    ----------
    stars : `MatchedStars`
    apertures : sequence of str
    grid : `~ks4_ccd.MapGrid`
    mode : {"single", "dual"}
    misalignment : 2D `~numpy.ndarray`
        The values of the misalignment map, in arcsec.

    Yields
    ------
    values, error, count : 2D `~numpy.ndarray`
        In magnitudes, of each aperture.
    """
    used = stars.in_photometry(strict=True, mode=mode)
    star, cell = cell_members(stars.x, stars.y, grid)
    # The release compares degrees with arcseconds, and takes the map of finer
    # cells at the index of these: a cut only where that map is 0.
    columns, rows = grid.shape
    radius = np.full(grid.shape, MATCH_RADIUS)
    there = misalignment[:columns, :rows]
    radius[: there.shape[0], : there.shape[1]] = np.maximum(MATCH_RADIUS, there)
    near = used[star] & (stars.separation[star] < radius.ravel()[cell])
    star, cell = star[near], cell[near]
    for aperture in apertures:
        difference = (stars.reference - stars.sources.magnitudes(aperture))[star]
        stars.enough(
            np.isfinite(difference),
            f"zero points in {aperture}",
            "the recipe takes clean stars of 14 to 19 mag that are measured in it",
        )
        found = clipped_statistics(cell, difference, columns * rows)
        values = np.where(found.count > 0, found.median, EMPTY_ZEROPOINT)
        parts = values, np.nan_to_num(found.scatter), found.count
        yield tuple(part.reshape(grid.shape) for part in parts)
