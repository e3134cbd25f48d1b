# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fit a penalised spline to stars, for one order and strength of the penalty."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy.stats import mad_std

from ks4_ccd.surfaces._bordered import BorderedInverse, BorderedMatrix
from ks4_ccd.surfaces._local import LocalResiduals
from ks4_ccd.surfaces._outliers import CLIP, Outliers, star_sigma
from ks4_ccd.surfaces.basis import SplineRows, SurfaceBasis, trend_columns

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["Spline", "SplineModel"]

_FOLDS = 5
# Nearly no constraint; without it the system could be singular.
_RIDGE = 1e-9
_ROUNDS = 3
_LEAST_SIGMA = 1e-4  # of the spread of all values
# The largest weight of a star in the surface at its own position.
_MOST_OWN = 0.9


class SplineModel(NamedTuple):
    """
    A fitted spline.

    Attributes
    ----------
    spline, border : 1D `~numpy.ndarray`
        The coefficients of the splines and of the polynomials, of the surface for a
        star of median magnitude, for which the covariates are 0.
    covariates : 1D `~numpy.ndarray`
        The coefficients of the covariates.
    inverse : `~ks4_ccd.surfaces._bordered.BorderedInverse`
        The covariance of all coefficients, if the sigma of the stars were right.
    residuals : 1D `~numpy.ndarray`
        Of the stars left after clipping.
    own : 1D `~numpy.ndarray`
        The weight of each of these in the surface at its own position, 0 to 1.
    """

    spline: np.ndarray
    border: np.ndarray
    covariates: np.ndarray
    inverse: BorderedInverse
    residuals: np.ndarray
    own: np.ndarray


class _Normal(NamedTuple):
    """
    The normal equations of some of the stars.

    Attributes
    ----------
    band : 2D `~numpy.ndarray`
        Of the splines, by diagonals.
    border : 2D `~numpy.ndarray`
        A row for each column of the border, a column for each spline.
    corner : 2D `~numpy.ndarray`
        Of the border with itself.
    right, right_of_border : 1D `~numpy.ndarray`
        The right-hand sides.
    """

    band: np.ndarray
    border: np.ndarray
    corner: np.ndarray
    right: np.ndarray
    right_of_border: np.ndarray

    def without(self, others: "_Normal") -> "_Normal":
        """Return the normal equations without those of other stars."""
        return _Normal(*(a - b for a, b in zip(self, others, strict=True)))

    @property
    def weight(self) -> float:
        """The mean of the diagonal, which the penalty is relative to."""
        total = self.band[0].sum() + np.trace(self.corner)
        return total / (self.right.size + self.right_of_border.size)


class _Columns(NamedTuple):
    """
    The columns of the linear system at some of the stars.

    Attributes
    ----------
    stars : 1D `~numpy.ndarray` of int
        Their indices.
    splines, border : sparse array
        A row for each star.
    """

    stars: np.ndarray
    splines: "sparse.csr_array"
    border: "sparse.csr_array"

    def at(self, spline: np.ndarray, border: np.ndarray) -> np.ndarray:
        """Return the values at the stars for some coefficients."""
        return self.splines @ spline + self.border @ border


class Spline:
    """
    The stars, and a basis to fit them with.

    Parameters
    ----------
    basis : `~ks4_ccd.surfaces.basis.SurfaceBasis`
    x, y, values, errors, trend, covariates
        As for `~ks4_ccd.surfaces.surface.fit_surface`.

    Attributes
    ----------
    sigma : 1D `~numpy.ndarray`
        The standard deviation of each star.
    used : 1D `~numpy.ndarray` of bool
        The stars left after clipping.
    """

    def __init__(
        self,
        basis: SurfaceBasis,
        x: np.ndarray,
        y: np.ndarray,
        values: np.ndarray,
        errors: np.ndarray,
        trend: np.ndarray | None = None,
        covariates: np.ndarray | None = None,
    ) -> None:
        from scipy import sparse

        self.basis = basis
        self._errors = errors
        self._positions = np.column_stack([x, y])
        self._outliers = Outliers(x, y)
        self._rows = basis.splines(x, y)
        splines = self._rows.sparse(basis.n_spline)
        none = np.zeros((x.size, 0))
        of_trend = none if trend is None else trend_columns(trend)
        covariates = none if covariates is None else covariates
        self._n_trend = of_trend.shape[1]
        self._n_others = self._n_trend + covariates.shape[1]
        # Rows of the border that begin late save time if they come last.
        border = sparse.csr_array(np.hstack([of_trend, covariates]))
        if basis.n_border:
            border = sparse.hstack([border, basis.polynomials(x, y)]).tocsr()
        self._columns = _Columns(np.arange(x.size), splines, border)
        self._center = np.median(values)
        self._deviations = values - self._center
        spread = max(mad_std(values), 1e-12)
        # Values without noise still scatter by rounding.
        self._least = _LEAST_SIGMA * spread
        # The level of a region without stars deviates as much as the stars do.
        self._prior = np.zeros(border.shape[1])
        self._prior[self._n_others :] = (2 * spread) ** -2.0
        self._penalties: dict[int, np.ndarray] = {}
        used = np.abs(self._deviations) <= 2 * CLIP * spread
        self._take(np.full(values.size, spread), used)

    def take_weights(self, other: "Spline") -> None:
        """Take the weights and the clipping of another fit."""
        self._take(other.sigma, other.used)

    def _take(self, sigma: np.ndarray, used: np.ndarray) -> None:
        self.sigma, self.used = sigma, used
        for name in ("folds", "_normal"):
            self.__dict__.pop(name, None)
        self._without_fold: dict[int, _Normal] = {}

    def converge(self, order: int, smoothness: float) -> None:
        """Iterate the fit, the weights and the clipping."""
        for _ in range(_ROUNDS):
            _, coefficients = self._system(self._normal, order, smoothness)
            residuals = self._deviations - self._columns.at(*coefficients)
            sigma = star_sigma(residuals, self._errors, self.used)
            sigma = np.maximum(sigma, self._least)
            self._take(sigma, ~self._outliers.among(residuals, sigma))

    @cached_property
    def folds(self) -> list[_Columns]:
        """The stars that are held out together."""
        fold = np.random.default_rng(0).permutation(self._deviations.size) % _FOLDS
        folds = [np.flatnonzero(self.used & (fold == k)) for k in range(_FOLDS)]
        return [self._of(stars) for stars in folds if stars.size]

    def held_out_squares(self, fold: int, order: int, smoothness: float) -> np.ndarray:
        """Return the squares of the residuals of held-out stars, in sigma."""
        columns = self.folds[fold]
        if fold not in self._without_fold:
            self._without_fold[fold] = self._normal.without(self._normal_of(columns))
        normal = self._without_fold[fold]
        _, coefficients = self._system(normal, order, smoothness)
        residuals = self._deviations[columns.stars] - columns.at(*coefficients)
        pulls = residuals / self.sigma[columns.stars]
        # A single outlier must not decide.
        return np.minimum(pulls**2, CLIP**2)

    def model(self, order: int, smoothness: float) -> SplineModel:
        """Return the fit under a penalty."""
        n, end = self._n_trend, self._n_others
        system, (spline, border) = self._system(self._normal, order, smoothness)
        inverse = system.inverse()
        variance = self.basis.squares(self._rows, inverse.band)
        _, splines, columns = self._columns
        rest = columns.toarray().T - inverse.through @ splines.T
        variance += inverse.variance_of_border(rest)
        own = (np.maximum(variance, 0) / self.sigma**2)[self.used]
        residuals = (self._deviations - self._columns.at(spline, border))[self.used]
        of_stars = columns[:, :n] @ border[:n]
        level = np.median(of_stars[self.used]) if n else 0.0
        spline = spline + self._center + level
        own = np.minimum(own, _MOST_OWN)
        return SplineModel(spline, border[end:], border[n:end], inverse, residuals, own)

    def mesh_variance(
        self, model: SplineModel, x: np.ndarray, y: np.ndarray
    ) -> np.ndarray:
        """
        Return the variance of a model on a mesh, if the sigma of stars were right.

        Parameters
        ----------
        model : `SplineModel`
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates along the axes.

        Returns
        -------
        variance : 2D `~numpy.ndarray`
        """
        band, through, _ = model.inverse
        variance = self.basis.mesh_of_squares(x, y, band)
        solved = self.basis.mesh_of_splines(x, y, through)
        rest = -solved.reshape(len(through), x.size * y.size)
        if self.basis.n_border:
            everywhere = np.meshgrid(x, y, indexing="ij")
            polynomials = self.basis.polynomials(*(p.ravel() for p in everywhere))
            rest[self._n_others :] += polynomials.toarray().T
        of_border = model.inverse.variance_of_border(rest)
        return np.maximum(variance + of_border.reshape(variance.shape), 0)

    def covariance_of_covariates(self, model: SplineModel) -> np.ndarray:
        """Return the covariance of the coefficients of the covariates."""
        own = slice(self._n_trend, self._n_others)
        return np.linalg.inv(model.inverse.schur)[own, own]

    def sigma_of(self, model: SplineModel) -> np.ndarray:
        """Return the standard deviation of stars, corrected for the fit to them."""
        residuals = np.zeros(self._deviations.size)
        residuals[self.used] = model.residuals / np.sqrt(1 - model.own)
        return star_sigma(residuals, self._errors, self.used)[self.used]

    def local_residuals(self, residuals: np.ndarray) -> LocalResiduals | None:
        """Return the significant residuals, `None` where edges are given."""
        if self.basis.n_border:
            # Where the steps are known, the residuals are noise.
            return None
        x, y = self.positions
        spacing = np.sqrt(self.basis.area / max(x.size, 1))
        return LocalResiduals(x, y, residuals, self.sigma[self.used], spacing)

    @property
    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates of the stars left after clipping, along x and y."""
        x, y = self._positions[self.used].T
        return x, y

    @cached_property
    def _normal(self) -> _Normal:
        """The normal equations of the stars left after clipping."""
        return self._normal_of(self._of(np.flatnonzero(self.used)))

    def _of(self, stars: np.ndarray) -> _Columns:
        """Return the columns at some of the stars."""
        return _Columns(stars, *(part[stars] for part in self._columns[1:]))

    def _normal_of(self, columns: _Columns) -> _Normal:
        """Return the normal equations of some of the stars."""
        stars, splines, border = columns
        weight = self.sigma[stars] ** -2.0
        rows = SplineRows(*(part[:, stars] for part in self._rows))
        weighted = border.multiply(weight[:, None]).tocsr().T
        values = self._deviations[stars]
        return _Normal(
            self.basis.normal_band(rows, weight),
            (weighted @ splines).toarray(),
            (weighted @ border).toarray(),
            splines.T @ (weight * values),
            weighted @ values,
        )

    def _system(
        self, normal: _Normal, order: int, smoothness: float
    ) -> tuple[BorderedMatrix, tuple[np.ndarray, np.ndarray]]:
        """Return the matrix of the normal equations with a penalty, and the fit."""
        if order not in self._penalties:
            self._penalties[order] = self.basis.roughness_band(order)
        weight = normal.weight
        band = normal.band + weight * smoothness * self._penalties[order]
        band[0] += weight * _RIDGE
        corner = normal.corner + np.diag(self._prior + weight * _RIDGE)
        matrix = BorderedMatrix(self.basis.offsets, band, normal.border, corner)
        return matrix, matrix.solve(normal.right, normal.right_of_border)
