# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which stars do not belong to a field."""

import numpy as np

__all__ = ["CLIP", "Outliers"]

CLIP = 4.0
_NEIGHBOURS = 8
# Of a star beside a step, this share of neighbours is off by about as much.
_AGREEING = 0.3
_SIMILAR = 0.5


class Outliers:
    """
    The stars that agree neither with a field nor with the stars around them.

    Beside a step that a field cannot follow, many stars are far from it, but not
    from those on their side of the step.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of the stars.
    """

    def __init__(self, x, y):
        from scipy.spatial import KDTree

        self._positions = np.column_stack([x, y])
        self._tree = KDTree(self._positions)

    def neighbours(self, stars):
        """Return the indices of the stars nearest to some stars, nearest first."""
        number = min(_NEIGHBOURS, len(self._positions) - 1)
        # The nearest of all is the star itself.
        _, near = self._tree.query(self._positions[stars], number + 1)
        return near[:, 1:]

    def among(self, residuals, sigma):
        """
        Return which stars are outliers.

        Parameters
        ----------
        residuals, sigma : 1D `~numpy.ndarray`
            What the field leaves of each star, and its standard deviation.

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
