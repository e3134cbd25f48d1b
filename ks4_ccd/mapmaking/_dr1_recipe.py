# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Make maps by the recipe of DR1, quirks included."""

from collections.abc import Iterator, Sequence

import numpy as np

from ks4_ccd.exceptions import OptionError
from ks4_ccd.ks4.recipe import EMPTY_ZEROPOINT, MATCH_RADIUS, WINDOW_PADDING
from ks4_ccd.mapmaking._stars import MatchedStars
from ks4_ccd.mapmaking.cells import (
    cell_members,
    cell_statistics,
    clipped_statistics,
)
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.misalignment import MisalignmentMap

__all__ = ["misalignment_cells", "zeropoint_cells"]


def misalignment_cells(
    stars: MatchedStars, grid: MapGrid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Make the arrays of a misalignment map.

    Parameters
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    grid : `~ks4_ccd.MapGrid`

    Returns
    -------
    values, error, count : 2D `~numpy.ndarray`
        The median and the standard deviation of the separations, in arcsec, and the
        number of stars.
    """
    used = stars.require_enough(
        stars.in_astrometry(strict=True),
        "positions",
        "unflagged point sources of 14 to 20 mag with MAGERR_AUTO below 0.05",
    )
    statistics = cell_statistics(
        stars.x[used],
        stars.y[used],
        stars.separation[used],
        grid,
        padding=tuple(WINDOW_PADDING * size for size in grid.cell_size),
        sigma=None,
    )
    return (
        3600 * np.nan_to_num(statistics.median),
        3600 * np.nan_to_num(statistics.scatter),
        statistics.count,
    )


def zeropoint_cells(
    stars: MatchedStars,
    apertures: Sequence[str],
    grid: MapGrid,
    mode: str,
    misalignment: MisalignmentMap,
    color: tuple[str, str] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, None]]:
    """
    Make the arrays of the zero-point map of each aperture.

    Parameters
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    apertures : sequence of str
    grid : `~ks4_ccd.MapGrid`
    mode : {"single", "dual"}
    misalignment : `~ks4_ccd.MisalignmentMap`
    color : `None`
        DR1 has no colour terms.

    Yields
    ------
    values, error, count : 2D `~numpy.ndarray`
        The median and the standard deviation of the zero points, in magnitudes, and
        the number of stars.
    color_term : `None`

    Raises
    ------
    OptionError
        If a colour is given.
    """
    if color is not None:
        msg = 'color must be None with recipe="dr1", which has no colour terms'
        raise OptionError(msg)
    used = stars.in_photometry(strict=True, mode=mode)
    star, cell = cell_members(stars.x, stars.y, grid)
    # The pipeline of DR1 compares separations in degrees with misalignments in arcsec,
    # and indexes the finer misalignment map with the cells of this map. Separations
    # are therefore cut only where its value is 0.
    columns, rows = grid.shape
    radius = np.full(grid.shape, MATCH_RADIUS)
    part = misalignment.values[:columns, :rows]
    radius[: part.shape[0], : part.shape[1]] = np.maximum(MATCH_RADIUS, part)
    near = used[star] & (stars.separation[star] < radius.ravel()[cell])
    star, cell = star[near], cell[near]
    for aperture in apertures:
        difference = (stars.reference - stars.sources.magnitudes(aperture))[star]
        stars.require_enough(
            np.isfinite(difference),
            f"zero points in {aperture}",
            "unflagged point sources of 14 to 19 mag that are measured in the aperture",
        )
        statistics = clipped_statistics(cell, difference, columns * rows)
        values = np.where(statistics.count > 0, statistics.median, EMPTY_ZEROPOINT)
        arrays = values, np.nan_to_num(statistics.scatter), statistics.count
        values, error, count = (array.reshape(grid.shape) for array in arrays)
        yield values, error, count, None
