# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the stars of a map tell about other stars: a trend, and their scatter."""

import numpy as np

__all__ = ["scatter_of", "trend_of"]

_STARS_PER_BIN = 30
_MOST_BINS = 20
_TO_SIGMA = 1.4826  # from the median absolute deviation, for a normal sample


def trend_of(magnitudes, residuals):
    """
    Return the typical residual as a function of magnitude.

    Parameters
    ----------
    magnitudes, residuals : 1D `~numpy.ndarray`
        Of the stars of the map, finite. Without stars, nothing is known: NaN.

    Returns
    -------
    trend : callable
        From magnitudes: medians of bins of equal numbers of stars, linear in
        between and constant beyond the outermost.
    """
    bins = _bins(magnitudes)
    nodes = [np.median(magnitudes[part]) for part in bins]
    medians = [np.median(residuals[part]) for part in bins]
    if not bins:
        return _nothing
    return lambda values: np.interp(values, nodes, medians)


def scatter_of(errors, residuals):
    """
    Return the standard deviation of a star as a function of its measured error.

    Parameters
    ----------
    errors, residuals : 1D `~numpy.ndarray`
        Of the stars of the map, finite. Without stars, nothing is known: NaN.

    Returns
    -------
    scatter : callable
        From measured errors: 1.4826 times the median absolute deviation in
        bins of equal numbers of stars, linear in between. A smaller error
        than any has the scatter of the first bin (what is left then is that
        of the reference), a larger one that of the last, in proportion.
    """
    bins = _bins(errors)
    nodes = np.array([np.median(errors[part]) for part in bins])
    scatters = [_deviation(residuals[part]) for part in bins]
    if not bins:
        return _nothing

    def scatter(values):
        beyond = np.maximum(values / nodes[-1], 1) if nodes[-1] > 0 else 1.0
        return np.interp(values, nodes, scatters) * beyond

    return scatter


def _bins(values):
    """Return the indices of the stars in bins of equal numbers."""
    if not values.size:
        return []
    number = int(np.clip(values.size // _STARS_PER_BIN, 1, _MOST_BINS))
    if np.ptp(values) == 0:
        # All alike, as where no errors are known.
        number = 1
    return np.array_split(np.argsort(values, kind="stable"), number)


def _nothing(values):
    return np.full(np.shape(values), np.nan)


def _deviation(values):
    return _TO_SIGMA * np.median(np.abs(values - np.median(values)))
