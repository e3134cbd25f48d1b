# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Intervals of mixtures of normal distributions."""

import numpy as np

__all__ = ["half_width"]

_ONE_SIGMA = 0.6827  # of a normal distribution lies within one sigma
_BISECTIONS = 22


def half_width(
    weights: np.ndarray, means: np.ndarray, deviations: np.ndarray
) -> np.ndarray:
    """
    Return the half width of the interval about the mean that contains 68 %.

    Parameters
    ----------
    weights : 1D or 2D `~numpy.ndarray`
        Of the components of a mixture of normal distributions, of sum 1.
    means, deviations : 2D `~numpy.ndarray`
        A row for each component, a column for each position.

    Returns
    -------
    width : 1D `~numpy.ndarray`
    """
    from scipy.special import ndtr

    weights = weights[:, None] if weights.ndim == 1 else weights
    off = means - (weights * means).sum(axis=0)
    deviations = np.maximum(deviations, 1e-300)
    # A component has 68 % within its own mean and deviation.
    low, high = np.zeros(off.shape[1]), (np.abs(off) + deviations).max(axis=0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        inside = ndtr((middle - off) / deviations) - ndtr((-middle - off) / deviations)
        enough = (weights * inside).sum(axis=0) >= _ONE_SIGMA
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high
