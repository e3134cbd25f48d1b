# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check the arrays of a map, and identify its empty cells."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import MapFormatError

__all__ = ["checked_arrays", "is_marked"]

_MASKED = {"error": 0.0, "count": 0.0}
_MARKS = "an empty cell is marked by NaN, or by a star count of 0"


def checked_arrays(
    components: dict[str, ArrayLike],
    error: ArrayLike | None,
    count: ArrayLike | None,
    shape: tuple[int, int],
) -> tuple[dict[str, np.ndarray], np.ndarray | None, np.ndarray | None, np.ndarray]:
    """
    Return the arrays of a map as float64 copies, and its valid cells.

    Parameters
    ----------
    components : dict
        A 2D array-like for the name of each component.
    error, count : 2D array-like or `None`
    shape : tuple of int
        The shape of the grid.

    Returns
    -------
    components : dict
        A 2D `~numpy.ndarray` for the name of each component. Empty cells without a
        value are NaN.
    error, count : 2D `~numpy.ndarray` or `None`
        Finite arrays; the count of every empty cell is 0.
    valid : 2D `~numpy.ndarray` of bool

    Raises
    ------
    MapFormatError
        If an array is not 2D and real or does not have the shape of the grid, an
        error or a count is negative, or a number is infinite, or missing in a cell
        that is not empty.
    """
    cells = {
        name: _cell_array(name, array, shape) for name, array in components.items()
    }
    stars = None if count is None else _cell_array("count", count, shape)
    scatter = None if error is None else _cell_array("error", error, shape)
    empty = _empty_cells(cells, stars)
    for name, array in (("error", scatter), ("count", stars)):
        if array is None:
            continue
        array[empty & ~np.isfinite(array)] = 0
        requirement = "must be finite and >= 0 in a cell with a value"
        if name == "error":
            requirement += " (0 means unknown)"
        _refuse(name, array, ~(np.isfinite(array) & (array >= 0)), requirement)
    if stars is not None:
        stars[empty] = 0
    return cells, scatter, stars, ~empty


def is_marked(
    components: Iterable[np.ndarray], error: np.ndarray | None, mark: float
) -> np.ndarray:
    """
    Return the cells with DR1's mark of an empty cell.

    Parameters
    ----------
    components : iterable of 2D `~numpy.ndarray`
    error : 2D `~numpy.ndarray` or `None`
    mark : float
        The value of an empty cell, whose error is 0.

    Returns
    -------
    marked : 2D `~numpy.ndarray` of bool
    """
    marked = np.all([array == mark for array in components], axis=0)
    return marked if error is None else marked & (error == 0)


def _empty_cells(
    components: dict[str, np.ndarray], count: np.ndarray | None
) -> np.ndarray:
    """Return the empty cells, and set infinite values in cells without stars to NaN."""
    empty = np.zeros(next(iter(components.values())).shape, dtype=bool)
    if count is not None:
        empty |= count == 0
        for array in components.values():
            # Cells without stars may contain, for example, the magnitude of no flux.
            array[empty & ~np.isfinite(array)] = np.nan
    for name, array in components.items():
        _refuse(name, array, np.isinf(array), f"must be finite ({_MARKS})")
    missing = {name: np.isnan(array) & ~empty for name, array in components.items()}
    in_all = np.all(list(missing.values()), axis=0)
    for name, array in components.items():
        requirement = "must be finite where the other component is"
        _refuse(name, array, missing[name] & ~in_all, requirement)
    return empty | in_all


def _refuse(name: str, array: np.ndarray, bad: np.ndarray, requirement: str) -> None:
    """Raise an error if cells do not fulfil a requirement."""
    if bad.any():
        i, j = np.argwhere(bad)[0]
        msg = (
            f"{name} {requirement}, got {array[i, j]} in cell [{i}, {j}] "
            f"({np.count_nonzero(bad)} such cells in total)"
        )
        raise MapFormatError(msg, part=name)


def _cell_array(name: str, array: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    """Return a 2D array of cells as a float64 copy without a mask."""
    if hasattr(array, "unit"):
        msg = (
            f"{name} must be plain numbers in the unit of the map, got a quantity in "
            f"{array.unit}: convert it with to_value"
        )
        raise MapFormatError(msg, part=name)
    masked = None
    if isinstance(array, np.ndarray) and hasattr(array, "mask"):
        # Masked arrays of numpy, or of astropy.
        masked = np.array(array.mask)
        array = array.unmasked if hasattr(array, "unmasked") else np.ma.getdata(array)
    try:
        array = np.asarray(array)
    except ValueError as error:
        msg = f"{name} must be a 2D array of cells: {error}"
        raise MapFormatError(msg, part=name) from error
    if array.dtype.kind not in "iuf":
        msg = f"{name} must be real numbers, got dtype {array.dtype}"
        raise MapFormatError(msg, part=name)
    if array.ndim != 2 or array.size == 0:
        msg = f"{name} must be a 2D array of cells, got shape {array.shape}"
        raise MapFormatError(msg, part=name)
    if array.shape != shape:
        msg = f"{name} must have the shape {shape} of the grid, got {array.shape}"
        raise MapFormatError(msg, part=name)
    array = array.astype(float)
    if masked is not None:
        # A masked cell is empty.
        array[np.broadcast_to(masked, array.shape)] = _MASKED.get(name, np.nan)
    return array
