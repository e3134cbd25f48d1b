# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Estimate the uncertainties of the cells of a map.

The method is derived in docs/uncertainties.rst.
"""

import math
from typing import NamedTuple

import numpy as np

from ks4_ccd.maps._clipped_samples import clipped_sample
from ks4_ccd.maps.fill import grown

__all__ = [
    "MEDIAN_OVER_MEAN",
    "CellErrors",
    "errors_of_cells",
    "errors_of_surface",
    "with_replaced_errors",
]

# The ratio of the standard errors of a median and a mean, for large normal samples.
MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)

# The fraction of a normal sample within one standard deviation, 0.6827.
_WITHIN_ONE_SIGMA = math.erf(math.sqrt(0.5))
# The number of degrees of freedom of the prior of the scatter of a cell.
_PRIOR_FREEDOM = 4
# The smallest number of differences from which a scatter is estimated.
_FEWEST_DIFFERENCES = 10


class CellErrors(NamedTuple):
    """
    Uncertainties at the centres of cells, empty ones included.

    Attributes
    ----------
    star : 2D `~numpy.ndarray`
        The standard deviation of single stars about the true value.
    value : 2D `~numpy.ndarray` or `None`
        The standard error of the value of the cell.
    """

    star: np.ndarray
    value: np.ndarray | None


class _Differences(NamedTuple):
    """
    Differences of neighbouring cells.

    Attributes
    ----------
    difference : 1D `~numpy.ndarray`
        The weighted sums of cells.
    cells : 2D `~numpy.ndarray` of int
        The flat indices of the cells, with a column for each difference.
    weights : 1D `~numpy.ndarray`
        The squares of the weights.
    """

    difference: np.ndarray
    cells: np.ndarray
    weights: np.ndarray

    def variance(self, of_cells: np.ndarray) -> np.ndarray:
        """Return the variances of differences for given variances of cells."""
        return (of_cells.ravel()[self.cells] * self.weights[:, None]).sum(axis=0)


def errors_of_cells(
    components: list[np.ndarray],
    valid: np.ndarray,
    error: np.ndarray,
    count: np.ndarray,
) -> CellErrors | None:
    """
    Estimate uncertainties of cells that are medians of separate samples of stars.

    Parameters
    ----------
    components : list of 2D `~numpy.ndarray`
        The values of each component of the map.
    valid : 2D `~numpy.ndarray` of bool
    error : 2D `~numpy.ndarray`
        The standard deviations (``ddof=0``) of the stars after clipping at two
        standard deviations; 0 means unknown.
    count : 2D `~numpy.ndarray`
        The number of stars after clipping.

    Returns
    -------
    errors : `CellErrors` or `None`
        `None` if there are too few cells to estimate uncertainties.
    """
    stars = count[valid]
    sample = clipped_sample(stars)
    own, known = error[valid], (error[valid] > 0) & (stars >= 2)
    bias = np.where(known, sample.bias, 1)
    efficiency = sample.efficiency
    differences = [_differences(array, valid) for array in components]

    def per_star() -> np.ndarray:
        """Return the ratio of the variances of values and of single stars."""
        factor = np.zeros(valid.shape)
        factor[valid] = efficiency**2 / stars
        return factor

    def typical_scatter() -> float:
        return _typical_scatter(own[known] / bias[known], sample.freedom[known])

    from_neighbours, number = _scatter_of(differences, per_star())
    typical = typical_scatter()
    if typical and number:
        # Differences of neighbours smaller than the errors of their values show that
        # stars were not clipped, or that values are means rather than medians.
        most = max(from_neighbours * (1 + 2 / math.sqrt(number)), 1e-30)
        bias = bias * np.clip(typical / most, 1, 1 / bias)
        typical = typical_scatter()
        efficiency = np.maximum(efficiency / max(typical / most, 1), 1)
        from_neighbours, _ = _scatter_of(differences, per_star())
    widest = max(from_neighbours, typical)
    if widest == 0:
        return None

    prior = widest**2
    if typical:
        other_stars = stars - 1
        prior = _PRIOR_FREEDOM * prior + other_stars * typical**2
        prior /= _PRIOR_FREEDOM + other_stars
    freedom = np.where(known, sample.freedom, 0)
    variance = np.zeros(valid.shape)
    variance[valid] = _PRIOR_FREEDOM * prior + freedom * (own / bias) ** 2
    variance[valid] /= _PRIOR_FREEDOM + freedom
    variance_of_value = variance * per_star()
    step = _step(differences, variance_of_value)
    return CellErrors(
        np.sqrt(grown(variance, valid)),
        np.sqrt(grown(variance_of_value, valid, step)),
    )


def errors_of_surface(
    valid: np.ndarray, error: np.ndarray, count: np.ndarray | None, known: np.ndarray
) -> CellErrors | None:
    """
    Estimate uncertainties of cells that share their stars.

    Parameters
    ----------
    valid : 2D `~numpy.ndarray` of bool
    error, count, known
        As in `with_replaced_errors`.

    Returns
    -------
    errors : `CellErrors` or `None`
        `None` if there is no known error; ``value`` is `None` without counts.
    """
    errors = with_replaced_errors(error, count, known)
    if errors is None:
        return None
    value = None if errors.value is None else grown(errors.value, valid)
    return CellErrors(grown(errors.star, valid), value)


def with_replaced_errors(
    error: np.ndarray, count: np.ndarray | None, known: np.ndarray
) -> CellErrors | None:
    """
    Replace unknown errors by the median error.

    Parameters
    ----------
    error : 2D `~numpy.ndarray`
        The scatter of single stars.
    count : 2D `~numpy.ndarray` or `None`
        The number of stars whose median has the standard error of the value.
    known : 2D `~numpy.ndarray` of bool
        The cells whose error is known.

    Returns
    -------
    errors : `CellErrors` or `None`
        `None` if there is no known error; ``value`` is `None` without counts.
    """
    if not known.any():
        return None
    star = np.where(known, error, np.median(error[known]))
    if count is None:
        return CellErrors(star, None)
    stars = np.where(known, count, MEDIAN_OVER_MEAN**2)
    return CellErrors(star, star * MEDIAN_OVER_MEAN / np.sqrt(stars))


def _differences(values: np.ndarray, valid: np.ndarray) -> _Differences:
    """
    Return the differences of cells from the mean of the neighbours on both sides.

    Gradients cancel in these differences. In a map with too few of them, differences
    of adjacent cells are used instead.
    """
    index = np.arange(values.size).reshape(values.shape)
    for weights in (np.array([-0.5, 1.0, -0.5]), np.array([-1.0, 1.0])):
        along_axes = []
        reach = len(weights)
        for axis, length in enumerate(values.shape):
            lines = np.moveaxis(index, axis, 0)
            parts = [lines[k : length - reach + 1 + k].ravel() for k in range(reach)]
            if length >= reach:
                along_axes.append(np.array(parts))
        cells = np.zeros((reach, 0), int)
        if along_axes:
            cells = np.concatenate(along_axes, axis=1)
        cells = cells[:, valid.ravel()[cells].all(axis=0)]
        if cells.shape[1] >= _FEWEST_DIFFERENCES:
            break
    difference = weights @ values.ravel()[cells]
    return _Differences(difference, cells, weights**2)


def _scatter_of(
    differences: list[_Differences], per_star: np.ndarray
) -> tuple[float, int]:
    """
    Estimate the scatter of single stars from differences of cells.

    Parameters
    ----------
    differences : list of `_Differences`
    per_star : 2D `~numpy.ndarray`
        The ratio of the variances of values and of single stars.

    Returns
    -------
    scatter : float
        0 if there are too few differences.
    number : int
        The number of differences used.
    """
    scaled = np.concatenate(
        [np.abs(d.difference) / np.sqrt(d.variance(per_star)) for d in differences]
    )
    if scaled.size < _FEWEST_DIFFERENCES:
        return 0.0, 0
    return float(np.quantile(scaled, _WITHIN_ONE_SIGMA)), scaled.size


def _typical_scatter(scatter: np.ndarray, freedom: np.ndarray) -> float:
    """Estimate the RMS of scatters from their weighted median, 0 if there are none."""
    if not scatter.size:
        return 0.0
    # The median of chi squared in the approximation of Wilson and Hilferty.
    scatter = scatter / (1 - 2 / (9 * freedom)) ** 1.5
    order = np.argsort(scatter)
    weight = np.cumsum(freedom[order])
    return float(scatter[order][np.searchsorted(weight, weight[-1] / 2)])


def _step(differences: list[_Differences], variance: np.ndarray) -> float:
    """Estimate the variance of true values about the mean of their neighbours."""
    expected = np.concatenate([d.variance(variance) for d in differences])
    if expected.size < _FEWEST_DIFFERENCES:
        return 0.0
    observed = np.concatenate([np.abs(d.difference) for d in differences])
    excess = np.quantile(observed / np.sqrt(expected), _WITHIN_ONE_SIGMA) ** 2 - 1
    return float(max(excess, 0) * np.median(expected))
