# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Smooth maps with Gaussian weights, and propagate their uncertainties."""

from dataclasses import dataclass

import numpy as np

from ks4_ccd.maps._cell_errors import MEDIAN_OVER_MEAN, CellErrors
from ks4_ccd.maps.fill import gaussian_sum

__all__ = ["SmoothedCells", "smoothed_cells"]

# The lags of covariances in cells along x and y: see `NodeErrors`.
_LAGS = ((0, 0), (1, 0), (0, 1), (1, 1))


@dataclass(frozen=True, eq=False)
class SmoothedCells:
    """
    The arrays of a smoothed map.

    Attributes
    ----------
    components : dict
        A 2D `~numpy.ndarray` for the name of each component.
    error, count : 2D `~numpy.ndarray` or `None`
    covariance : 3D `~numpy.ndarray` or `None`
        The covariances of the cells, in the form of
        `~ks4_ccd.maps.node_errors.NodeErrors`; `None` if cells have common errors.
    """

    components: dict[str, np.ndarray]
    error: np.ndarray | None
    count: np.ndarray | None
    covariance: np.ndarray | None


def smoothed_cells(
    components: dict[str, np.ndarray],
    valid: np.ndarray,
    count: np.ndarray | None,
    errors: CellErrors | None,
    scale: float,
    *,
    shared: bool,
) -> SmoothedCells:
    """
    Smooth the arrays of a map.

    Parameters
    ----------
    components : dict
        A 2D `~numpy.ndarray` for the name of each component.
    valid : 2D `~numpy.ndarray` of bool
    count : 2D `~numpy.ndarray` or `None`
    errors : `~ks4_ccd.maps._cell_errors.CellErrors` or `None`
    scale : float
        The standard deviation of the Gaussian, in cells.
    shared : bool
        Whether the cells share their stars, and therefore have common errors.

    Returns
    -------
    cells : `SmoothedCells`
        Empty cells are unchanged.
    """
    stars = valid.astype(float) if count is None else count
    total = np.where(valid, gaussian_sum(stars, scale), 1)

    def average(array: np.ndarray) -> np.ndarray:
        return gaussian_sum(stars * np.where(valid, array, 0), scale) / total

    means = {
        name: np.where(valid, average(array), array)
        for name, array in components.items()
    }
    if errors is None:
        if count is None:
            return SmoothedCells(means, None, None, None)
        # Assume that all stars have the same scatter.
        variance: np.ndarray | None = np.where(valid, 1 / np.where(valid, count, 1), 0)
    else:
        variance = None if errors.value is None else errors.value**2
    error = None
    if errors is not None:
        error = np.where(valid, np.sqrt(average(errors.star**2)), 0)
    if variance is None:
        return SmoothedCells(means, error, None, None)
    covariance = None
    if shared:
        smoothed_variance = average(np.sqrt(variance)) ** 2
    else:
        covariance = _covariance(stars**2 * variance, valid, total, scale)
        smoothed_variance = covariance[0]
    # The number of stars whose median has the standard error of the average.
    scatter = 1.0 if error is None else MEDIAN_OVER_MEAN * error
    smoothed_variance = np.where(valid, smoothed_variance, 1)
    count = np.where(valid, scatter**2 / smoothed_variance, 0)
    return SmoothedCells(means, error, count, covariance)


def _covariance(
    variance: np.ndarray, valid: np.ndarray, total: np.ndarray, scale: float
) -> np.ndarray:
    """Return the covariances of smoothed cells, in the form of `NodeErrors`."""
    variance = np.where(valid, variance, 0)
    shifted = np.pad(total, ((0, 1), (0, 1)), mode="edge")
    along_x, along_y, both = shifted[1:, :-1], shifted[:-1, 1:], shifted[1:, 1:]
    own, next_x, next_y, diagonal = (
        gaussian_sum(variance, scale, lag) for lag in _LAGS
    )
    return np.array(
        [
            own / total**2,
            next_x / (total * along_x),
            next_y / (total * along_y),
            diagonal / (total * both),
            diagonal / (along_x * along_y),
        ]
    )
