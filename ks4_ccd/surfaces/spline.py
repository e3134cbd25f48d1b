# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fit a penalised spline to stars, for one order and strength of the penalty."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy.stats import mad_std

from ks4_ccd.surfaces._outliers import CLIP, Outliers, star_sigma
from ks4_ccd.surfaces.basis import SurfaceBasis, trend_columns, variance_of

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["LocalResiduals", "Spline", "SplineModel", "solve_bordered"]

_FOLDS = 5
# All but free; without it the system could be singular.
_RIDGE = 1e-9
_ROUNDS = 3
_LEAST_SIGMA = 1e-4  # of the spread of all values
# Of the surface at a star, from the star itself.
_MOST_OWN = 0.9


class SplineModel(NamedTuple):
    """
    A fitted spline.

    Attributes
    ----------
    coefficients : 1D `~numpy.ndarray`
        Of the surface for a star of median magnitude.
    covariance : 2D `~numpy.ndarray`
        Of the coefficients, those of a trend included, if the sigma of the stars
        were right.
    residuals : 1D `~numpy.ndarray`
        Of the stars left after clipping.
    own : 1D `~numpy.ndarray`
        The weight of each of these in the surface at its own position, 0 to 1.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    residuals: np.ndarray
    own: np.ndarray


class Spline:
    """
    The stars, and a basis to fit them with.

    Parameters
    ----------
    basis : `~ks4_ccd.surfaces.basis.SurfaceBasis`
    x, y, values, errors, trend
        As for `~ks4_ccd.surfaces.surface.fit_surface`.
    """

    def __init__(
        self,
        basis: SurfaceBasis,
        x: np.ndarray,
        y: np.ndarray,
        values: np.ndarray,
        errors: np.ndarray,
        trend: np.ndarray | None,
    ) -> None:
        from scipy import sparse

        self.basis = basis
        self.columns = basis.rows(x, y)
        self._values, self._errors = values, errors
        self._positions = np.column_stack([x, y])
        self._outliers = Outliers(x, y)
        self._n_trend = 0
        if trend is not None:
            columns = trend_columns(trend)
            self._n_trend = columns.shape[1]
            self.columns = sparse.hstack([self.columns, columns]).tocsr()
        self._n_surface = self.columns.shape[1] - self._n_trend
        self._center = np.median(values)
        deviation = np.abs(values - self._center)
        spread = max(mad_std(values), 1e-12)
        # Below, values without noise scatter by how they are computed.
        self._least = _LEAST_SIGMA * spread
        self._take(np.full(values.size, spread), deviation <= 2 * CLIP * spread)
        # A region without stars is no farther off than the stars vary.
        prior = np.zeros(self.columns.shape[1])
        prior[basis.n_spline : self._n_surface] = (2 * spread) ** -2.0
        self._prior = sparse.diags_array(prior)
        self._penalties: dict[int, sparse.csc_array] = {}

    def take_weights(self, other: "Spline") -> None:
        """Take the weights and the clipping of another fit."""
        self._take(other.sigma, other.used)

    def _take(self, sigma, used):
        self.sigma, self.used = sigma, used
        self._normal = self._normal_of(used)
        self.__dict__.pop("_folds", None)

    def converge(self, order: int, smoothness: float) -> None:
        """Fit and find weights and clipping until they belong together."""
        for _ in range(_ROUNDS):
            coefficients = self._solve(self._normal, order, smoothness)
            residuals = self._residuals(coefficients)
            sigma = star_sigma(residuals, self._errors, self.used)
            sigma = np.maximum(sigma, self._least)
            self._take(sigma, ~self._outliers.among(residuals, sigma))

    def evidence(self, order: int, smoothness: float) -> float:
        """
        Return the log of the probability of held-out stars, under a penalty.

        Geisser & Eddy (1979), J. Am. Stat. Assoc. 74, 153. For a surface with steps
        that no smooth one can follow, it is a better criterion than the probability
        of all stars under a smooth process.
        """
        number = np.count_nonzero(self.used)
        return -0.5 * number * np.log(self.cross_validate(order, smoothness))

    def cross_validate(self, order: int, smoothness: float) -> float:
        """Return the mean square error, in sigma, of held-out stars."""
        squares = np.zeros(self._values.size)
        for stars, others in self._folds:
            coefficients = self._solve(others, order, smoothness)
            pulls = (self._residuals(coefficients) / self.sigma)[stars]
            # One star that does not belong must not decide.
            squares[stars] = np.minimum(pulls**2, CLIP**2)
        return max(np.mean(squares[self.used]), 1e-30)

    def model(self, order: int, smoothness: float) -> SplineModel:
        """Return the fit under a penalty."""
        n = self._n_surface
        coefficients = self._solve(self._normal, order, smoothness)
        system = self._system(self._normal[0], order, smoothness).toarray()
        covariance = np.linalg.inv(system)
        columns = self.columns[self.used]
        own = variance_of(columns, covariance) / self.sigma[self.used] ** 2
        residuals = self._residuals(coefficients)[self.used]
        of_stars = columns[:, n:] @ coefficients[n:]
        level = np.median(of_stars) if self._n_trend else 0.0
        coefficients[: self.basis.n_spline] += self._center + level
        own = np.minimum(own, _MOST_OWN)
        return SplineModel(coefficients[:n], covariance, residuals, own)

    def sigma_of(self, model: SplineModel) -> np.ndarray:
        """Return the standard deviation of stars, corrected for the fit to them."""
        residuals = np.zeros(self._values.size)
        residuals[self.used] = model.residuals / np.sqrt(1 - model.own)
        return star_sigma(residuals, self._errors, self.used)[self.used]

    def local_residuals(self, residuals: np.ndarray) -> "LocalResiduals | None":
        """Return the significant residuals, `None` where edges are given."""
        if self.basis.has_regions:
            # Where the steps are known, what is left is noise.
            return None
        x, y = self._positions[self.used].T
        spacing = np.sqrt(self.basis.area / max(x.size, 1))
        return LocalResiduals(x, y, residuals, self.sigma[self.used], spacing)

    @property
    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates of the stars left after clipping, along x and y."""
        x, y = self._positions[self.used].T
        return x, y

    @cached_property
    def _folds(self):
        """The stars of each fold, and the normal equations of all others."""
        fold = np.random.default_rng(0).permutation(self._values.size) % _FOLDS
        masks = [self.used & (fold == number) for number in range(_FOLDS)]
        matrix, right = self._normal
        folds = []
        for mask in filter(np.any, masks):
            own_matrix, own_right = self._normal_of(mask)
            folds.append((mask, (matrix - own_matrix, right - own_right)))
        return folds

    def _residuals(self, coefficients):
        return self._values - self._center - self.columns @ coefficients

    def _normal_of(self, stars):
        """Return the normal equations of some of the stars."""
        rows = self.columns[np.flatnonzero(stars)]
        weight = self.sigma[stars] ** -2.0
        weighted = rows.multiply(weight[:, None]).tocsr()
        right = weighted.T @ (self._values[stars] - self._center)
        return (weighted.T @ rows).tocsc(), right

    def _penalty(self, order):
        """Return the penalty of an order."""
        from scipy import sparse

        if order not in self._penalties:
            roughness = self.basis.roughness(order)
            others = self.columns.shape[1] - self.basis.n_spline
            padded = sparse.block_diag([roughness, sparse.csc_array((others, others))])
            self._penalties[order] = padded.tocsc()
        return self._penalties[order]

    def _system(self, matrix, order, smoothness):
        from scipy import sparse

        ridge = _RIDGE * sparse.eye_array(matrix.shape[0], format="csc")
        rough = smoothness * self._penalty(order)
        return (matrix + self._prior + _weight(matrix) * (rough + ridge)).tocsc()

    def _solve(self, normal, order, smoothness):
        matrix, right = normal
        system = self._system(matrix, order, smoothness)
        return solve_bordered(system, right, self.basis.n_spline, self.basis.bandwidth)


def _weight(matrix):
    return matrix.trace() / matrix.shape[0]


def solve_bordered(
    matrix: "sparse.csc_array", right: np.ndarray, n_band: int, width: int
) -> np.ndarray:
    """
    Solve a symmetric positive definite system.

    Parameters
    ----------
    matrix : sparse array
        Its first ``n_band`` rows and columns have entries within ``width`` of
        the diagonal only; those behind them may have entries everywhere.
    right : 1D `~numpy.ndarray`
    n_band, width : int

    Returns
    -------
    solution : 1D `~numpy.ndarray`

    Notes
    -----
    The band is factored by Cholesky's method, and what is left of the border
    (its Schur complement) is small.
    """
    from scipy.linalg import cho_solve_banded, cholesky_banded, solve

    band = matrix[:n_band, :n_band].tocoo()
    lower = band.row >= band.col
    diagonals = np.zeros((min(width, n_band - 1) + 1, n_band))
    row, column = band.row[lower], band.col[lower]
    diagonals[row - column, column] = band.data[lower]
    factor = cholesky_banded(diagonals, lower=True, check_finite=False)
    border = matrix[:n_band, n_band:].toarray()
    both = np.column_stack([right[:n_band], border])
    through = cho_solve_banded((factor, True), both, check_finite=False)
    if border.shape[1] == 0:
        return through[:, 0]
    rest = matrix[n_band:, n_band:].toarray() - border.T @ through[:, 1:]
    last = solve(rest, right[n_band:] - border.T @ through[:, 0], assume_a="sym")
    return np.concatenate([through[:, 0] - through[:, 1:] @ last, last])


_NEAREST = 8
_WIDTH = 0.7  # of the Gaussian, in mean distances of stars
_SIGNIFICANT = 3.0
_FARTHEST = 1.5  # medians


class LocalResiduals:
    """
    The mean residual of the nearest stars, where it is more than noise.

    Means are shrunk as James and Stein (1961) do, by the square of their
    significance: to nothing at 3 sigma, hardly at all well above that. So a
    smooth surface stays smooth, and one beside a step, where all stars of a side
    are off together, is pulled towards them.

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
        """Return the mean residual at pixel coordinates, 0 where it may be noise."""
        return self._means(*self._nearest(np.column_stack([x, y])))

    def _nearest(self, positions):
        """Return the distances and the numbers of the nearest stars."""
        number = min(_NEAREST, self._residuals.size)
        near = self._tree.query(positions, number)
        return tuple(part.reshape(len(positions), number) for part in near)

    def _means(self, distance, star):
        if star.shape[1] < _NEAREST:
            return np.zeros(len(star))
        weight = np.exp(-0.5 * (distance / self._scale) ** 2) + 1e-12
        weight /= self._sigma[star] ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        mean = (weight * self._residuals[star]).sum(axis=1)
        # A few stars that do not belong must not decide: most of them agree.
        most = _FARTHEST * np.median(self._residuals[star], axis=1)
        mean = np.clip(mean, np.minimum(most, 0), np.maximum(most, 0))
        variance = ((weight * self._sigma[star]) ** 2).sum(axis=1)
        noise = _SIGNIFICANT**2 * variance
        square = np.maximum(mean**2, noise)
        return mean * (1 - noise / np.maximum(square, 1e-300))
