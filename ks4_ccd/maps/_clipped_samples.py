# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compute the statistics of normal samples clipped as in DR1.

DR1 clips the stars of a cell at two standard deviations about their median,
iterates until no star is rejected, and stores the median, the standard deviation
(``ddof=0``) and the number of the remaining stars. The numbers below are from a
Monte Carlo simulation with 4e6 normal stars for each size of sample, which
``benchmarks/clipped_samples.py`` repeats. They are listed by the number of remaining
stars, for samples in which no star was rejected, and for clipped samples with a
uniform distribution of sizes before clipping.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["ClippedSample", "clipped_sample"]

# Remaining stars, efficiency without and with clipping, bias and degrees of freedom
# with clipping. Without clipping the last two are sqrt((n - 1) / n) and n - 1.
_TABLE = np.array(
    [
        (1, 1.000, 1.000, 0.000, 0.0),
        (2, 1.000, 1.025, 0.634, 0.7),
        (3, 1.115, 1.159, 0.706, 1.2),
        (4, 1.051, 1.156, 0.727, 1.6),
        (5, 1.123, 1.219, 0.743, 2.0),
        (6, 1.076, 1.221, 0.749, 2.3),
        (7, 1.131, 1.263, 0.751, 2.6),
        (8, 1.094, 1.266, 0.756, 2.9),
        (9, 1.135, 1.293, 0.755, 3.2),
        (10, 1.104, 1.294, 0.757, 3.4),
        (12, 1.116, 1.325, 0.757, 3.9),
        (16, 1.120, 1.358, 0.756, 4.9),
        (20, 1.134, 1.391, 0.753, 5.7),
        (24, 1.135, 1.408, 0.752, 6.6),
        (32, 1.14, 1.442, 0.750, 8.2),
        (48, 1.14, 1.483, 0.745, 11.2),
    ]
).T
# Of very many stars: clipping ends at c = 1.457 standard deviations, where that
# of a normal distribution cut at c is c / 2. The median of the rest solves an
# equation that moves with it, of the efficiency (2 Phi(c) - 1) / (2 phi(0) -
# 2 phi(c)), and 0.856 of the stars are left.
_LIMIT_EFFICIENCY, _LIMIT_BIAS, _SHARE_LEFT = 1.638, 0.7285, 0.856


class ClippedSample(NamedTuple):
    """
    Statistics of clipped samples of stars with a scatter of 1.

    Attributes
    ----------
    efficiency : `~numpy.ndarray`
        The standard error of the median times the square root of the number
        of remaining stars.
    bias : `~numpy.ndarray`
        The root mean square of the stored standard deviation.
    freedom : `~numpy.ndarray`
        The number of degrees of freedom of the stored variance.
    """

    efficiency: np.ndarray
    bias: np.ndarray
    freedom: np.ndarray


def clipped_sample(count: np.ndarray) -> ClippedSample:
    """
    Return the statistics of the samples of stars in the cells of a map.

    Parameters
    ----------
    count : 1D `~numpy.ndarray`
        The number of remaining stars in each cell that is not empty.

    Returns
    -------
    statistics : `ClippedSample`

    Notes
    -----
    The number of stars before clipping is not stored. In a cell with more stars
    than the average of the map, few stars were probably rejected; in a cell with
    fewer stars, many may have been. The numbers before clipping are assumed to
    follow a Poisson distribution with the mean of the map.
    """
    count = np.asarray(count, float)
    # The probability of one more star relative to that of the count itself.
    ratio = np.minimum(_poisson_mean(count.mean()) / (_SHARE_LEFT * (count + 1)), 1)
    share = ratio / (2 - ratio)
    nodes, whole, efficiency, bias, freedom = _TABLE
    last = nodes[-1]
    beyond = 1 - np.sqrt(last / np.maximum(count, last))

    def clipped(column: np.ndarray, limit: float) -> np.ndarray:
        """Interpolate in the table, and beyond it towards the limit."""
        value = np.interp(count, nodes, column)
        return value + beyond * (limit - column[-1])

    whole = np.interp(count, nodes, whole)
    efficiency = clipped(efficiency, _LIMIT_EFFICIENCY)
    bias = clipped(bias, _LIMIT_BIAS)
    freedom = np.interp(count, nodes, freedom) * np.maximum(count / last, 1)
    return ClippedSample(
        np.sqrt((1 - share) * whole**2 + share * efficiency**2),
        np.sqrt((1 - share) * (count - 1) / count + share * bias**2),
        (1 - share) * (count - 1) + share * freedom,
    )


def _poisson_mean(mean_above_zero: float) -> float:
    """Return the mean of a Poisson distribution from that of its values above 0."""
    mean = mean_above_zero
    for _ in range(50):
        mean = mean_above_zero * -np.expm1(-mean)
    return mean
