# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Average the significant residuals of neighbouring stars."""

import numpy as np

__all__ = ["LocalResiduals"]

_NEAREST = 8
_WIDTH = 0.7  # of the Gaussian, in mean distances of stars
_SIGNIFICANT = 3.0
_FARTHEST = 1.5  # medians


class LocalResiduals:
    """
    The mean residual of the nearest stars, where it is significant.

    Means are shrunk as James and Stein (1961) do, by the square of their
    significance: to 0 at 3 sigma, and hardly at all well above that. A smooth
    surface stays smooth; beside a step, where the residuals of all stars on one side
    agree, the surface is moved towards them.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of the stars.
    residuals, sigma : 1D `~numpy.ndarray`
        Their residuals from the surface, and their standard deviation.
    spacing : float
        The mean distance of stars, in pixels.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        residuals: np.ndarray,
        sigma: np.ndarray,
        spacing: float,
    ) -> None:
        from scipy.spatial import KDTree

        self._tree = KDTree(np.column_stack([x, y]))
        self._residuals, self._sigma = residuals, sigma
        self._scale = _WIDTH * spacing

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the mean residual at pixel coordinates, 0 if insignificant."""
        return self._means(*self._nearest(np.column_stack([x, y])))

    def _nearest(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances and the numbers of the nearest stars."""
        number = min(_NEAREST, self._residuals.size)
        distance, star = self._tree.query(positions, number)
        shape = len(positions), number
        return distance.reshape(shape), star.reshape(shape)

    def _means(self, distance: np.ndarray, star: np.ndarray) -> np.ndarray:
        if star.shape[1] < _NEAREST:
            return np.zeros(len(star))
        weight = np.exp(-0.5 * (distance / self._scale) ** 2) + 1e-12
        weight /= self._sigma[star] ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        mean = (weight * self._residuals[star]).sum(axis=1)
        # A few outliers must not decide: most of the stars agree.
        most = _FARTHEST * np.median(self._residuals[star], axis=1)
        mean = np.clip(mean, np.minimum(most, 0), np.maximum(most, 0))
        variance = ((weight * self._sigma[star]) ** 2).sum(axis=1)
        noise = _SIGNIFICANT**2 * variance
        square = np.maximum(mean**2, noise)
        return mean * (1 - noise / np.maximum(square, 1e-300))
