# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find outliers from a field, and the scatter of the other stars."""

import numpy as np

__all__ = ["CLIP", "SIGMA_OF_MEDIAN", "Outliers", "star_sigma"]

CLIP = 4.0
# Standard deviation over the median deviation from zero, for a normal sample.
SIGMA_OF_MEDIAN = 1.482602218505602  # as in astropy.stats.mad_std
_NEIGHBOURS = 8
# Of a star beside a step, this share of the neighbours has similar residuals.
_AGREEING = 0.3
_SIMILAR = 0.5


class Outliers:
    """
    The stars that agree neither with a field nor with the stars around them.

    Beside a step that a field cannot follow, the residuals of many stars are large, but
    similar to those of the stars on the same side of the step.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of the stars.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        from scipy.spatial import KDTree

        self._positions = np.column_stack([x, y])
        self._tree = KDTree(self._positions)

    def neighbours(self, stars: np.ndarray) -> np.ndarray:
        """Return the indices of the stars nearest to some stars, nearest first."""
        number = min(_NEIGHBOURS, len(self._positions) - 1)
        # The nearest of all is the star itself.
        _, near = self._tree.query(self._positions[stars], number + 1)
        return near[:, 1:]

    def among(self, residuals: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """
        Return which stars are outliers.

        Parameters
        ----------
        residuals, sigma : 1D `~numpy.ndarray`
            The residual of each star from the field, and its standard deviation.

        Returns
        -------
        outliers : 1D `~numpy.ndarray` of bool
        """
        outliers = np.zeros(residuals.size, dtype=bool)
        far = np.flatnonzero(np.abs(residuals) > CLIP * sigma)
        if far.size and residuals.size > 1:
            near = self.neighbours(far)
            own = residuals[far][:, None]
            allowed = CLIP * np.hypot(sigma[far][:, None], sigma[near])
            allowed = np.maximum(allowed, _SIMILAR * np.abs(own))
            agreeing = np.abs(own - residuals[near]) <= allowed
            share = np.count_nonzero(agreeing, axis=1) / near.shape[1]
            outliers[far] = share < _AGREEING
        return outliers


_STARS_PER_BIN = 30
_MOST_BINS = 20
_ROUNDS = 3


def star_sigma(
    residuals: np.ndarray, errors: np.ndarray, used: np.ndarray
) -> np.ndarray:
    """
    Return the standard deviation of each star.

    Parameters
    ----------
    residuals, errors : 1D `~numpy.ndarray`
        Of each star, about the surface and as measured.
    used : 1D `~numpy.ndarray` of bool
        The stars whose scatter is measured.

    Returns
    -------
    sigma : 1D `~numpy.ndarray`
        ``hypot(k error, floor)``: the factor ``k`` that corrects the measured errors,
        and the floor due to reference magnitudes and colours, are determined from
        the scatter of stars of similar errors.
    """
    from scipy.optimize import nnls

    residuals, known = residuals[used], errors[used]
    n_bins = int(np.clip(residuals.size // _STARS_PER_BIN, 1, _MOST_BINS))
    # In bins of equal numbers of stars, from the smallest errors on.
    order = np.argsort(known, kind="stable")
    bins = np.array_split(order, n_bins)
    variance = np.array([_variance(residuals[part]) for part in bins])
    mean_square = np.array([np.mean(known[part] ** 2) for part in bins])
    least = max(1e-6 * variance.max(), 1e-24)
    variance = np.maximum(variance, least)
    if n_bins < 3:
        # Too few stars to distinguish a factor from a floor.
        factor = 1.0
        floor = max(np.mean(variance) - np.mean(mean_square), 0.0)
    else:
        columns = np.column_stack([mean_square, np.ones(n_bins)])
        # The scatter of a variance is proportional to its expectation, taken from the
        # last solution: with their own values, low ones would have too much weight.
        expected = np.full(n_bins, np.median(variance))
        for _ in range(_ROUNDS):
            weighted = columns / expected[:, None]
            # Columns of very different sizes make nnls of scipy 1.14 fail.
            size = np.maximum(np.linalg.norm(weighted, axis=0), np.finfo(float).tiny)
            found, _ = nnls(weighted / size, variance / expected)
            found /= size
            expected = np.maximum(columns @ found, least)
        factor, floor = found
    return np.sqrt(np.maximum(factor * errors**2 + floor, least))


def _variance(residuals: np.ndarray) -> float:
    return (SIGMA_OF_MEDIAN * np.median(np.abs(residuals))) ** 2
