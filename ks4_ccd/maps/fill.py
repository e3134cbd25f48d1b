# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fill the empty cells of a map, and sum over neighbouring cells."""

import math
from collections.abc import Iterator

import numpy as np

__all__ = ["gaussian_sum", "grown", "harmonic_fill", "neighbours_in", "touches"]


def harmonic_fill(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """
    Fill the cells that are not valid with a harmonic surface.

    Each filled cell is the mean of its neighbours along x and y, filled ones
    included: the solution of the discrete Laplace equation, which is the smoothest
    surface through the valid cells. Filled values are within the range of the valid
    ones.

    Parameters
    ----------
    values : 2D `~numpy.ndarray`
    valid : 2D `~numpy.ndarray` of bool
        At least one cell must be valid.

    Returns
    -------
    filled : 2D `~numpy.ndarray`
        A copy of ``values`` with all cells filled.
    """
    if valid.all():
        return values.copy()
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import spsolve

    unknown = ~valid
    size = np.count_nonzero(unknown)
    row_of = np.full(values.shape, -1)
    row_of[unknown] = np.arange(size)
    neighbours = np.zeros(size)
    known_sum = np.zeros(size)
    rows, columns = [], []
    for here, there in _pairs_of_neighbours():
        for one, other in ((here, there), (there, here)):
            row, column = row_of[one], row_of[other]
            inside = row >= 0
            np.add.at(neighbours, row[inside], 1)
            known = inside & (column < 0)
            np.add.at(known_sum, row[known], values[other][known])
            coupled = inside & (column >= 0)
            rows.append(row[coupled])
            columns.append(column[coupled])
    rows.append(np.arange(size))
    columns.append(np.arange(size))
    entries = np.full(sum(map(len, rows)), -1.0)
    entries[-size:] = neighbours
    indices = np.concatenate(rows), np.concatenate(columns)
    laplacian = coo_array((entries, indices), shape=(size, size)).tocsc()
    filled = values.copy()
    filled[unknown] = spsolve(laplacian, known_sum)
    return filled


def touches(valid: np.ndarray) -> np.ndarray:
    """Return whether cells are valid or adjacent to a valid one, diagonals included."""
    padded = np.pad(valid, 1)
    along_x = padded[:-2] | padded[1:-1] | padded[2:]
    return along_x[:, :-2] | along_x[:, 1:-1] | along_x[:, 2:]


def neighbours_in(valid: np.ndarray, *, diagonal: bool) -> np.ndarray:
    """Return the number of valid neighbours of each cell."""
    padded = np.pad(valid.astype(int), 1)
    along_x = padded[:-2] + padded[2:]
    count = along_x[:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return count + along_x[:, :-2] + along_x[:, 2:] if diagonal else count


def grown(values: np.ndarray, valid: np.ndarray, step: float = 0.0) -> np.ndarray:
    """
    Fill the cells that are not valid with the largest value around them.

    Parameters
    ----------
    values : 2D `~numpy.ndarray`
    valid : 2D `~numpy.ndarray` of bool
        The cells that keep their values; at least one.
    step : float, optional
        The increase of the value with each cell of distance from the valid cells.

    Returns
    -------
    grown : 2D `~numpy.ndarray`
        A copy of ``values``. Cells that are not valid have the largest value of
        the adjacent cells, diagonals included, that are valid or closer to a valid
        one.
    """
    values = np.where(valid, values, -np.inf)
    while not np.isfinite(values).all():
        padded = np.pad(values, 1, constant_values=-np.inf)
        largest = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        largest = np.maximum(
            np.maximum(largest[:, :-2], largest[:, 1:-1]), largest[:, 2:]
        )
        values = np.where(np.isfinite(values), values, largest + step)
    return values


def gaussian_sum(
    values: np.ndarray, scale: float, lag: tuple[int, int] | None = None
) -> np.ndarray:
    """
    Return sums over all cells, weighted by a Gaussian of their distance.

    Parameters
    ----------
    values : 2D `~numpy.ndarray`
    scale : float
        The standard deviation of the Gaussian, in cells; its peak is 1.
    lag : (int, int), optional
        Use as weights the products of the Gaussian about a cell and that about the
        cell displaced by ``lag`` along x and y.

    Returns
    -------
    total : 2D `~numpy.ndarray`
    """
    from scipy.ndimage import correlate1d

    for axis, length in enumerate(values.shape):
        farthest = min(math.ceil(5 * scale), length - 1)
        reach = np.arange(-farthest, farthest + 1)
        exponent = (reach / scale) ** 2
        if lag is not None:
            exponent = exponent + ((reach - lag[axis]) / scale) ** 2
        weights = np.exp(-0.5 * exponent)
        values = correlate1d(values, weights, axis, mode="constant")
    return values


def _pairs_of_neighbours() -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield the slices that pair each cell with its next one along x, and y."""
    every, first, last = slice(None), slice(None, -1), slice(1, None)
    yield (first, every), (last, every)
    yield (every, first), (every, last)
