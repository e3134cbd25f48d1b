# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compute robust statistics of the stars in the cells of a map.

A star may be a member of many cells, because the windows of the astrometric maps
are wider than their cells and overlap. All cells are computed at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import GeometryError, OptionError, one_of
from ks4_ccd.maps.grid import MapGrid

__all__ = ["CellStatistics", "cell_members", "cell_statistics", "clipped_statistics"]


class CellStatistics(NamedTuple):
    """
    Statistics of each cell after clipping.

    Attributes
    ----------
    median : `~numpy.ndarray`
        The median, NaN in a cell without members.
    scatter : `~numpy.ndarray`
        The standard deviation (``ddof=0``), NaN in a cell without members.
    count : `~numpy.ndarray` of int
        The number of members.
    """

    median: np.ndarray
    scatter: np.ndarray
    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count


def cell_members(
    x: ArrayLike,
    y: ArrayLike,
    grid: MapGrid,
    *,
    padding: float | Sequence[float] = 0.0,
    outside: str = "drop",
) -> tuple[np.ndarray, np.ndarray]:
    """
    List the members of each cell.

    Parameters
    ----------
    x, y : array_like
        Pixel coordinates of the stars, 0-based.
    grid : `~ks4_ccd.MapGrid`
        The cells.
    padding : float or (float, float), optional
        The margin by which the window of a cell extends beyond it on every side,
        in pixels (along x and y): 400 for windows of 1000 around cells of 200.
    outside : {"drop", "clip"}, optional
        How stars outside of the grid are treated: ``"drop"`` includes them in padded
        windows only, as in the pipeline of DR1; ``"clip"`` assigns them to the
        nearest cell.

    Returns
    -------
    star, cell : 1D `~numpy.ndarray` of int
        One row per membership: the index of the star, and that of the cell
        in the flattened ``[x_bin, y_bin]`` array. Stars with a coordinate
        that is not finite are members of no cell. Rows are sorted by star.

    Raises
    ------
    OptionError
        If ``outside`` does not have one of its allowed values.
    GeometryError
        If ``x`` and ``y`` are not one-dimensional, or ``padding`` is negative.

    Notes
    -----
    A window spans ``lower edge - padding <= x < upper edge + padding``.

    Examples
    --------
    >>> from ks4_ccd import MapGrid
    >>> from ks4_ccd.mapmaking.cells import cell_members
    >>> grid = MapGrid((3, 1), cell_size=10)
    >>> cell_members([3.0, 12.0], [5.0, 5.0], grid, padding=5)
    (array([0, 1, 1]), array([0, 0, 1]))
    """
    one_of("outside", outside, ("drop", "clip"))
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    if x.ndim != 1:
        msg = f"x and y must be one-dimensional, got the shape {x.shape}"
        raise GeometryError(msg)
    reach = np.broadcast_to(np.asarray(padding, float), 2)
    if not (reach >= 0).all():
        msg = f"padding must not be negative, got {reach.tolist()}"
        raise GeometryError(msg)

    finite = np.isfinite(x) & np.isfinite(y)
    first, number = [], []
    for axis, position in enumerate((x, y)):
        lowest, highest = grid.windows_of(
            axis, np.where(finite, position, 0.0), reach[axis], outside=outside
        )
        first.append(lowest)
        number.append(np.maximum(highest - lowest + 1, 0))

    n_members = np.where(finite, number[0] * number[1], 0)
    star = np.repeat(np.arange(x.size), n_members)
    # The rank of a membership among those of its star determines the cell.
    rank = np.arange(star.size) - np.repeat(np.cumsum(n_members) - n_members, n_members)
    i = first[0][star] + rank // number[1][star]
    j = first[1][star] + rank % number[1][star]
    return star, i * grid.shape[1] + j


def clipped_statistics(
    cell: ArrayLike, values: ArrayLike, n_cells: int, *, sigma: float | None = 2.0
) -> CellStatistics:
    """
    Compute statistics of each cell after clipping about the median until convergence.

    Parameters
    ----------
    cell : array_like of int
        The cell of each member, 0 to ``n_cells - 1``. A value that is a
        member of several cells is listed once for each.
    values : array_like
        The value of each member; values that are not finite are ignored.
    n_cells : int
        The number of cells.
    sigma : float or `None`, optional
        The clipping limit in standard deviations, 1 or more; `None` clips
        nothing.

    Returns
    -------
    statistics : `CellStatistics`
        One-dimensional arrays of length ``n_cells``.

    Raises
    ------
    OptionError
        If ``sigma`` is below 1.
    GeometryError
        If ``cell`` and ``values`` are not one-dimensional arrays of the same length,
        or a cell is out of range.

    Notes
    -----
    In each cell the members are those that ``astropy.stats.sigma_clip(values,
    sigma=sigma, maxiters=None)`` selects, to rounding: the final limits apply to all
    members.

    Examples
    --------
    >>> from ks4_ccd.mapmaking.cells import clipped_statistics
    >>> clipped_statistics([0] * 7, [1, 2, 3, 2, 2, 2, 90], 2).count
    array([6, 0])
    """
    cell = np.asarray(cell)
    values = np.asarray(values, float)
    if cell.shape != values.shape or cell.ndim != 1:
        msg = (
            "cell and values must be one-dimensional and of the same length, got "
            f"the shapes {cell.shape} and {values.shape}"
        )
        raise GeometryError(msg)
    if cell.size and (cell.min() < 0 or cell.max() >= n_cells):
        msg = (
            f"cell must lie between 0 and {n_cells - 1}, got {cell.min()} "
            f"to {cell.max()}"
        )
        raise GeometryError(msg)
    if sigma is not None and not sigma >= 1:
        msg = f"sigma must be 1 or more, or None, got {sigma!r}"
        raise OptionError(msg)
    finite = np.isfinite(values)
    if not finite.all():
        cell, values = cell[finite], values[finite]
    cell, values = _sorted_by_cell(cell, values, n_cells)
    if sigma is not None:
        lower, upper = _clipping_limits(cell, values, n_cells, sigma)
        kept = (values >= lower[cell]) & (values <= upper[cell])
        cell, values = cell[kept], values[kept]
    return _statistics(cell, values, n_cells)


def cell_statistics(
    x: ArrayLike,
    y: ArrayLike,
    values: ArrayLike,
    grid: MapGrid,
    *,
    padding: float | Sequence[float] = 0.0,
    sigma: float | None = 2.0,
    outside: str = "drop",
) -> CellStatistics:
    """
    Return the clipped median, scatter and count of the stars in each cell.

    Parameters
    ----------
    x, y : array_like
        Pixel coordinates of the stars, 0-based.
    values : array_like
        One value per star; values that are not finite are ignored.
    grid : `~ks4_ccd.MapGrid`
        The cells.
    padding : float or (float, float), optional
        The margin by which the window of a cell extends beyond it, in pixels.
    sigma : float or `None`, optional
        The clipping limit in standard deviations, 1 or more; `None` clips
        nothing.
    outside : {"drop", "clip"}, optional
        How stars outside of the grid are treated: see `cell_members`.

    Returns
    -------
    statistics : `CellStatistics`
        Arrays of the grid's shape, indexed ``[x_bin, y_bin]``.

    Raises
    ------
    OptionError, GeometryError
        As in `cell_members` and `clipped_statistics`.

    Examples
    --------
    >>> from ks4_ccd import MapGrid
    >>> from ks4_ccd.mapmaking.cells import cell_statistics
    >>> grid = MapGrid((2, 1), cell_size=10)
    >>> statistics = cell_statistics([1, 2, 3], [5, 5, 5], [30.1, 30.3, 30.2], grid)
    >>> statistics.count.tolist(), float(statistics.median[0, 0])
    ([[3], [0]], 30.2)
    """
    values = np.asarray(values, float)
    if values.shape != np.shape(x):
        msg = f"values must have the shape of x, {np.shape(x)}, got {values.shape}"
        raise GeometryError(msg)
    # Sorting stars is faster than sorting memberships, which are more.
    order = np.argsort(values, kind="stable")
    x, y = np.broadcast_arrays(x, y)
    values = values[order]
    star, cell = cell_members(
        x[order], y[order], grid, padding=padding, outside=outside
    )
    n_cells = grid.shape[0] * grid.shape[1]
    statistics = clipped_statistics(cell, values[star], n_cells, sigma=sigma)
    return CellStatistics(*(part.reshape(grid.shape) for part in statistics))


def _sorted_by_cell(
    cell: np.ndarray, values: np.ndarray, n_cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort members by cell, and within each cell by value."""
    if not (values[:-1] <= values[1:]).all():
        by_value = np.argsort(values, kind="stable")
        cell, values = cell[by_value], values[by_value]
    # NumPy sorts integers of 16 bits in linear time, and most maps have fewer cells.
    small = cell.astype(np.min_scalar_type(max(n_cells - 1, 0)))
    order = np.argsort(small, kind="stable")
    return cell[order], values[order]


def _statistics(cell: np.ndarray, values: np.ndarray, n_cells: int) -> CellStatistics:
    """Compute the statistics of members that are sorted by cell and value."""
    count = np.bincount(cell, minlength=n_cells)
    median = np.full(n_cells, np.nan)
    scatter = np.full(n_cells, np.nan)
    filled = np.flatnonzero(count)
    if filled.size == 0:
        return CellStatistics(median, scatter, count)
    number = count[filled]
    start = np.cumsum(number) - number
    median[filled] = 0.5 * (
        values[start + (number - 1) // 2] + values[start + number // 2]
    )
    mean = np.add.reduceat(values, start) / number
    deviation = values - np.repeat(mean, number)
    scatter[filled] = np.sqrt(np.add.reduceat(deviation**2, start) / number)
    return CellStatistics(median, scatter, count)


def _clipping_limits(
    cell: np.ndarray, values: np.ndarray, n_cells: int, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of each cell at which no further member is rejected."""
    lower = np.full(n_cells, np.nan)
    upper = np.full(n_cells, np.nan)
    while values.size:
        median, scatter, count = _statistics(cell, values, n_cells)
        active = count > 0
        lower[active] = (median - sigma * scatter)[active]
        upper[active] = (median + sigma * scatter)[active]
        kept = (values >= lower[cell]) & (values <= upper[cell])
        # Cells without rejected members have converged.
        changed = np.zeros(n_cells, dtype=bool)
        changed[cell[~kept]] = True
        continued = kept & changed[cell]
        cell, values = cell[continued], values[continued]
    return lower, upper
