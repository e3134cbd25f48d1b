# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A smooth surface with steps, fitted to the stars of an image.

The surface is a penalised tensor-product spline (Eilers & Marx 1996, Stat. Sci.
11, 89): cubic B-splines on more knots than needed, held smooth by a penalty
whose strength cross-validation chooses. Where borders of chips or amplifiers
are given, a polynomial for each region between them is added. All are
coefficients of one sparse linear system.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ks4_ccd.build._basis import SurfaceBasis, trend_columns
from ks4_ccd.build._bordered import solve_bordered
from ks4_ccd.build._errors import star_sigma
from ks4_ccd.build._local import LocalResiduals

__all__ = ["Surface", "fit_surface"]

_STARS_PER_KNOT = 2
_MOST_KNOTS = 48  # along an axis
# Too few for a surface, and so few that it may have to shrink to a constant.
_TOO_FEW_STARS, _FEW_STARS = 50, 200
_STARS_PER_TERM = 5
_DEGREES = (0, 1, 2)
# Relative to the weight of the stars.
_SMOOTHNESS = tuple(10.0**power for power in range(-8, 5))
_PILOT_SMOOTHNESS = 1e-3
_FOLDS = 5
# All but free; without it the system could be singular.
_RIDGE = 1e-9
_CLIP = 4.0
_ROUNDS = 3
_NEIGHBOURS = 8
# For a star beside a step, this share of them is off by about as much.
_AGREEING = 0.3
_SIMILAR = 0.5
_CLOSEST = 4
_FEWEST_PAIRS = 30


class Surface(NamedTuple):
    """
    A fitted surface.

    Attributes
    ----------
    basis : `SurfaceBasis`
    coefficients : 1D `~numpy.ndarray`
    covariance : 2D `~numpy.ndarray`
        Of the coefficients.
    unmodelled : float
        The variance of structure that the surface is too smooth for.
    local : `LocalResiduals` or `None`
        Significant residuals, part of the surface.
    residuals : 1D `~numpy.ndarray`
        What the smooth surface and the trend leave of the stars' values.
    sigma : 1D `~numpy.ndarray`
        The standard deviation of each star about them.
    used : 1D `~numpy.ndarray` of bool
        The stars left after clipping.
    """

    basis: SurfaceBasis
    coefficients: np.ndarray
    covariance: np.ndarray
    unmodelled: float
    local: LocalResiduals | None
    residuals: np.ndarray
    sigma: np.ndarray
    used: np.ndarray

    def at(self, x, y):
        """
        Return the surface and its standard error.

        Parameters
        ----------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates.

        Returns
        -------
        value, error : 1D `~numpy.ndarray`
        """
        value, variance = np.empty(x.size), np.empty(x.size)
        for start in range(0, x.size, 4096):
            part = slice(start, start + 4096)
            rows = self.basis.rows(x[part], y[part])
            value[part] = rows @ self.coefficients
            variance[part] = rows.multiply(rows @ self.covariance).sum(axis=1)
        if self.local is not None:
            value += self.local(x, y)
        return value, np.sqrt(np.maximum(variance, 0) + self.unmodelled)


def fit_surface(x, y, values, errors, image_shape, edges=((), ()), trend=None):
    """
    Fit a surface to stars.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of three stars or more, finite. Fewer than
        50 give a constant.
    values, errors : 1D `~numpy.ndarray`
        Of each star, finite; of the errors only their ratios count, and they
        get a floor: both are found from the scatter of the stars.
    image_shape : tuple of int
        ``(rows, columns)`` of the image.
    edges : pair of sequences, optional
        The borders along x and y at which the surface may have steps.
    trend : 1D `~numpy.ndarray`, optional
        A property of the stars (their magnitude) that values may depend on;
        the surface is that of the median star.

    Returns
    -------
    surface : `Surface`
    """
    if x.size < _TOO_FEW_STARS:
        flat = SurfaceBasis(image_shape, 1, ((), ()), None, order=1)
        fit = _Fit(flat, x, y, values, errors, None)
        fit.converge(_SMOOTHNESS[-1])
        return fit.surface(_SMOOTHNESS[-1])
    n_knots = np.clip(np.sqrt(x.size / _STARS_PER_KNOT), 1, _MOST_KNOTS).astype(int)
    bases = [
        SurfaceBasis(image_shape, n_knots, edges, degree, order)
        for degree in _degrees(edges, x.size)
        for order in ((1, 2) if x.size < _FEW_STARS else (2,))
    ]
    fits = [_Fit(basis, x, y, values, errors, trend) for basis in bases]
    # These blocks are small: several threads would wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return _best_fit(fits)


def _best_fit(fits):
    """Return the surface of the fit and the smoothness that predict best."""
    # The weights are found once, with the most flexible of them.
    pilot = fits[-1]
    pilot.converge(_PILOT_SMOOTHNESS)
    trials = []
    step = _SMOOTHNESS.index(_PILOT_SMOOTHNESS)
    for number, fit in enumerate(fits):
        fit.take_weights(pilot)
        score, step = _lowest(fit.cross_validate, step)
        trials.append((score, number, _SMOOTHNESS[step]))
    _, number, smoothness = min(trials)
    best = fits[number]
    best.converge(smoothness)
    return best.surface(smoothness)


def _lowest(score, step):
    """Return the lowest score downhill from a step of smoothness, and its step."""
    known = {}

    def at(step):
        if not 0 <= step < len(_SMOOTHNESS):
            return np.inf
        if step not in known:
            known[step] = score(_SMOOTHNESS[step])
        return known[step]

    while True:
        best = min((step, step - 1, step + 1), key=at)
        if best == step:
            return at(step), step
        step = best


def _degrees(edges, n_stars):
    """Return the degrees of the regions' polynomials that are worth a trial."""
    n_regions = (len(edges[0]) + 1) * (len(edges[1]) + 1)
    if n_regions == 1:
        return (None,)
    per_region = n_stars / n_regions / _STARS_PER_TERM
    return tuple(d for d in _DEGREES if d == 0 or (d + 1) * (d + 2) / 2 <= per_region)


class _Fit:
    """The stars, and one basis to fit them with."""

    def __init__(self, basis, x, y, values, errors, trend):
        from scipy import sparse

        self.basis = basis
        self.columns = basis.rows(x, y)
        self.values, self.errors = values, errors
        self._places = np.column_stack([x, y])
        self.n_trend = 0
        if trend is not None:
            columns = trend_columns(trend)
            self.n_trend = columns.shape[1]
            self.columns = sparse.hstack([self.columns, columns]).tocsr()
        self.penalty = _with_zeros(basis.penalty(), self.n_trend)
        self.center = np.median(values)
        deviation = np.abs(values - self.center)
        self.sigma = np.full(values.size, max(1.4826 * np.median(deviation), 1e-12))
        self.used = deviation <= 2 * _CLIP * self.sigma

    @cached_property
    def _tree(self):
        from scipy.spatial import KDTree

        return KDTree(self._places)

    def neighbours(self, stars):
        """Return the indices of the stars nearest to some, in rows."""
        number = min(_NEIGHBOURS, len(self._places) - 1)
        # The nearest of all is the star itself.
        _, near = self._tree.query(self._places[stars], number + 1)
        return near[:, 1:]

    def take_weights(self, other):
        """Take the weights and the clipping of another fit."""
        self.sigma, self.used = other.sigma, other.used

    def converge(self, smoothness):
        """Fit and find weights and clipping until they belong together."""
        for _ in range(_ROUNDS):
            self.coefficients = self._solve(self._normal(self.used), smoothness)
            residuals = self._residuals(self.coefficients)
            self.sigma = star_sigma(residuals, self.errors, self.used)
            self.used = ~self._outliers(residuals)

    def _outliers(self, residuals):
        """
        Return which stars agree neither with the surface nor with neighbours.

        Beside a step that the surface cannot follow, many stars are far from
        it, but not from those on their side of it.
        """
        far = np.flatnonzero(np.abs(residuals) > _CLIP * self.sigma)
        outliers = np.zeros(residuals.size, dtype=bool)
        if far.size and residuals.size > 1:
            near = self.neighbours(far)
            own = residuals[far][:, None]
            allowed = _CLIP * np.hypot(self.sigma[far][:, None], self.sigma[near])
            allowed = np.maximum(allowed, _SIMILAR * np.abs(own))
            agreeing = np.count_nonzero(
                np.abs(own - residuals[near]) <= allowed, axis=1
            )
            outliers[far] = agreeing < _AGREEING * near.shape[1]
        return outliers

    def surface(self, smoothness):
        """Return the surface of the last fit."""
        n = self.columns.shape[1] - self.n_trend
        matrix, _ = self._normal(self.used)
        matrix = self._system(matrix, smoothness)
        covariance = np.linalg.inv(matrix.toarray())
        residuals = self._residuals(self.coefficients)
        of_surface = self.columns[:, :n]
        variance = of_surface.multiply(of_surface @ covariance[:n, :n]).sum(axis=1)
        coefficients = self.coefficients.copy()
        of_stars = self.columns[:, n:] @ coefficients[n:]
        level = np.median(of_stars[self.used]) if self.n_trend else 0.0
        coefficients[: self.basis.n_spline] += self.center + level
        return Surface(
            self.basis,
            coefficients[:n],
            covariance[:n, :n],
            self._unmodelled(smoothness, variance),
            self._local_residuals(residuals),
            residuals,
            self.sigma,
            self.used,
        )

    @cached_property
    def _folds(self):
        """The stars of each fold, and the normal equations of all others."""
        fold = np.random.default_rng(0).permutation(self.values.size) % _FOLDS
        masks = [self.used & (fold == number) for number in range(_FOLDS)]
        matrix, right = self._normal(self.used)
        folds = []
        for mask in filter(np.any, masks):
            own_matrix, own_right = self._normal(mask)
            folds.append((mask, (matrix - own_matrix, right - own_right)))
        return folds

    def _local_residuals(self, residuals):
        if self.basis.has_regions:
            # Where the steps are known, what is left is noise.
            return None
        x, y = self._places[self.used].T
        spacing = np.sqrt(self.basis.area / max(x.size, 1))
        return LocalResiduals(
            x, y, residuals[self.used], self.sigma[self.used], spacing
        )

    def cross_validate(self, smoothness):
        """Return the mean square error, in sigma, of stars left out of the fit."""
        pulls = (self._left_out(smoothness) / self.sigma)[self.used]
        # One star that does not belong must not decide.
        return np.mean(np.minimum(pulls**2, _CLIP**2))

    def _left_out(self, smoothness):
        """Return each star's residual from the fit to the other folds."""
        residuals = np.full(self.values.size, np.nan)
        for mask, others in self._folds:
            left = self._residuals(self._solve(others, smoothness))
            residuals[mask] = left[mask]
        return residuals

    def _unmodelled(self, smoothness, variance):
        """
        Return the variance of what the surface cannot follow.

        The residuals of two neighbours that were both left out have in common
        the error of the surface, and nothing else. What of it the covariance
        does not explain is structure finer than the surface.
        """
        residuals = self._left_out(smoothness)
        fold = np.full(residuals.size, -1)
        for number, (mask, _) in enumerate(self._folds):
            fold[mask] = number
        stars = np.flatnonzero(self.used)
        near = self.neighbours(stars)[:, :_CLOSEST]
        one, other = np.broadcast_arrays(stars[:, None], near)
        pairs = self.used[other] & (fold[one] == fold[other])
        one, other = one[pairs], other[pairs]
        if one.size < _FEWEST_PAIRS:
            return 0.0
        weight = (self.sigma[one] * self.sigma[other]) ** -2.0
        weight /= weight.sum()
        excess = residuals[one] * residuals[other] - variance[one]
        mean = (weight * excess).sum()
        error = np.sqrt((weight**2 * (excess - mean) ** 2).sum())
        return mean if mean > 2 * error else 0.0

    def _residuals(self, coefficients):
        return self.values - self.center - self.columns @ coefficients

    def _normal(self, stars):
        """Return the normal equations of some of the stars."""
        rows = self.columns[np.flatnonzero(stars)]
        weight = self.sigma[stars] ** -2.0
        weighted = rows.multiply(weight[:, None]).tocsr()
        right = weighted.T @ (self.values[stars] - self.center)
        return (weighted.T @ rows).tocsc(), right

    def _system(self, matrix, smoothness):
        from scipy import sparse

        weight = matrix.trace() / matrix.shape[0]
        ridge = sparse.eye_array(matrix.shape[0], format="csc")
        return (matrix + weight * (smoothness * self.penalty + _RIDGE * ridge)).tocsc()

    def _solve(self, normal, smoothness):
        matrix, right = normal
        system = self._system(matrix, smoothness)
        return solve_bordered(system, right, self.basis.n_spline, self.basis.bandwidth)


def _with_zeros(matrix, number):
    from scipy import sparse

    return sparse.block_diag([matrix, sparse.csc_array((number, number))]).tocsc()
