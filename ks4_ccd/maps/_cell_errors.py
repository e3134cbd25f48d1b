# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Estimate the uncertainties of cells from the map that they are in.

The derivation is that of docs/uncertainties.rst.
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
    "with_stand_ins",
]

# The standard error of a median over that of a mean, for many normal stars.
MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)

# A fraction of 0.6827 of a normal sample is within its standard deviation.
_WITHIN_ONE_SIGMA = math.erf(math.sqrt(0.5))
# Degrees of freedom that the scatter of other cells counts for.
_PRIOR_FREEDOM = 4
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
    """Differences among neighbours, and what their variances consist of."""

    difference: np.ndarray
    cells: np.ndarray
    weights: np.ndarray

    def variance(self, of_cells):
        """Return the variance of each difference, by those of the cells."""
        return (of_cells.ravel()[self.cells] * self.weights[:, None]).sum(axis=0)


def errors_of_cells(
    components: list[np.ndarray],
    valid: np.ndarray,
    error: np.ndarray,
    count: np.ndarray,
) -> CellErrors | None:
    """
    Return the uncertainties of a map whose cells are medians of stars of their own.

    Parameters
    ----------
    components : list of 2D `~numpy.ndarray`
        The values along each axis that stars scatter along.
    valid : 2D `~numpy.ndarray` of bool
    error : 2D `~numpy.ndarray`
        The standard deviations (``ddof=0``) of stars that were clipped at
        two of them; 0 is unknown.
    count : 2D `~numpy.ndarray`
        The number of stars left.

    Returns
    -------
    errors : `CellErrors` or `None`
        `None` if the map does not determine any.
    """
    stars = count[valid]
    sample = clipped_sample(stars)
    own, known = error[valid], (error[valid] > 0) & (stars >= 2)
    bias = np.where(known, sample.bias, 1)
    efficiency = sample.efficiency
    differences = [_differences(array, valid) for array in components]

    def per_star():
        factor = np.zeros(valid.shape)
        factor[valid] = efficiency**2 / stars
        return factor

    def typical_scatter():
        return _typical_scatter(own[known] / bias[known], sample.freedom[known])

    from_neighbours, number = _scatter_of(differences, per_star())
    typical = typical_scatter()
    if typical and number:
        # Neighbours cannot differ by less than the errors of their values. If they
        # do, stars were not clipped, or values are means rather than medians.
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
        others = stars - 1
        prior = _PRIOR_FREEDOM * prior + others * typical**2
        prior /= _PRIOR_FREEDOM + others
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
    Return the uncertainties of a map whose cells share their stars.

    Parameters
    ----------
    valid : 2D `~numpy.ndarray` of bool
    error, count, known
        As in `with_stand_ins`.

    Returns
    -------
    errors : `CellErrors` or `None`
        `None` if there is no known error; ``value`` is `None` without counts.
    """
    errors = with_stand_ins(error, count, known)
    if errors is None:
        return None
    value = None if errors.value is None else grown(errors.value, valid)
    return CellErrors(grown(errors.star, valid), value)


def with_stand_ins(
    error: np.ndarray, count: np.ndarray | None, known: np.ndarray
) -> CellErrors | None:
    """
    Return errors unchanged, and that of the median cell where one is unknown.

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
    Return what cells differ by from the mean of the neighbours on both sides.

    That leaves gradients out. A map that is too small for it has differences
    of neighbours.
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


def _scatter_of(differences, per_star):
    """Return the scatter of single stars by differences, 0 if there are too few."""
    scaled = np.concatenate(
        [np.abs(d.difference) / np.sqrt(d.variance(per_star)) for d in differences]
    )
    if scaled.size < _FEWEST_DIFFERENCES:
        return 0.0, 0
    return np.quantile(scaled, _WITHIN_ONE_SIGMA), scaled.size


def _typical_scatter(scatter, freedom):
    """Return the weighted median of scatters, as that of the root mean square."""
    if not scatter.size:
        return 0.0
    # The median of chi squared by the approximation of Wilson and Hilferty.
    scatter = scatter / (1 - 2 / (9 * freedom)) ** 1.5
    order = np.argsort(scatter)
    weight = np.cumsum(freedom[order])
    return scatter[order][np.searchsorted(weight, weight[-1] / 2)]


def _step(differences, variance):
    """Return the variance of the true values about the mean of their neighbours."""
    expected = np.concatenate([d.variance(variance) for d in differences])
    if expected.size < _FEWEST_DIFFERENCES:
        return 0.0
    found = np.concatenate([np.abs(d.difference) for d in differences])
    excess = np.quantile(found / np.sqrt(expected), _WITHIN_ONE_SIGMA) ** 2 - 1
    return max(excess, 0) * np.median(expected)
