# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Fit a smooth surface with steps to the many stars of an image.

The surface is a penalised tensor-product spline (Eilers & Marx 1996, Stat. Sci.
11, 89): cubic B-splines on more knots than needed, made smooth by a penalty. It is
averaged over the order and the strength of the penalty, weighted by the probability of
each (Wahba 1983, J. R. Stat. Soc. B 45, 133, for the covariance of one). Where edges
of chips or amplifiers are given, a polynomial for each region between them is added.
All coefficients are the solution of one linear system.
"""

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from ks4_ccd.surfaces._mixture import half_width
from ks4_ccd.surfaces._trials import PILOT_ORDER, PenaltySearch, Trial
from ks4_ccd.surfaces.basis import SurfaceBasis
from ks4_ccd.surfaces.spline import Spline, SplineModel

__all__ = ["Surface", "fit_surface"]

_STARS_PER_KNOT = 2
_MOST_KNOTS = 48  # along an axis
_STARS_PER_TERM = 5
_DEGREES = (0, 1, 2)
_PILOT = PILOT_ORDER, 1e-5
_NEGLIGIBLE = 0.03


class Surface:
    """
    The average of surfaces through stars.

    Parameters
    ----------
    spline : `~ks4_ccd.surfaces.spline.Spline`
        The stars, and the basis of the surfaces.
    models : list of `~ks4_ccd.surfaces.spline.SplineModel`
    weights : 1D `~numpy.ndarray`
        The probability of each model.

    Attributes
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of the stars left after clipping.
    sigma : 1D `~numpy.ndarray`
        The standard deviation of each about the true surface.
    covariates : tuple of `~numpy.ndarray`
        The coefficients of the covariates, and their covariance.
    """

    def __init__(
        self, spline: Spline, models: list[SplineModel], weights: np.ndarray
    ) -> None:
        self._spline, self._models, self._weights = spline, models, weights
        self.x, self.y = spline.positions
        best = models[np.argmax(weights)]
        self.sigma = spline.sigma_of(best)
        # A fit absorbs some of the scatter that its weights are derived from.
        self._scale = np.median(self.sigma / spline.sigma[spline.used]) ** 2
        self._spline_part = weights @ [model.spline for model in models]
        self._border_part = weights @ [model.border for model in models]
        self.covariates = self._covariates()
        self._local = spline.local_residuals(weights @ [m.residuals for m in models])

    def _covariates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean coefficients of covariates, and their covariance."""
        each = np.array([model.covariates for model in self._models])
        mean = self._weights @ each
        # The differences between models are part of it.
        covariance = (self._weights * (each - mean).T) @ (each - mean)
        for model, weight in zip(self._models, self._weights, strict=True):
            own = self._spline.covariance_of_covariates(model)
            covariance += weight * self._scale * own
        return mean, covariance

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the surface at 0-based pixel coordinates."""
        value = self._spline.basis.at(x, y, self._spline_part, self._border_part)
        return value if self._local is None else value + self._local(x, y)

    def mesh(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the surface on a mesh of coordinates along x and along y."""
        value = self._spline.basis.mesh(x, y, self._spline_part, self._border_part)
        if self._local is None:
            return value
        everywhere = (p.ravel() for p in np.meshgrid(x, y, indexing="ij"))
        return value + self._local(*everywhere).reshape(value.shape)

    def mesh_deviation(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """
        Return the uncertainty of the surface on a mesh.

        Returns
        -------
        deviation : 2D `~numpy.ndarray`
            68 % of the errors of the surface are smaller.
        """
        means, variances = [], []
        for model in self._models:
            mean = self._spline.basis.mesh(x, y, model.spline, model.border)
            means.append(mean.ravel())
            variances.append(self._spline.mesh_variance(model, x, y).ravel())
        deviations = np.sqrt(self._scale * np.array(variances))
        deviation = half_width(self._weights, np.array(means), deviations)
        return deviation.reshape(x.size, y.size)


def fit_surface(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    image_shape: tuple[int, int],
    edges: tuple[Sequence[float], Sequence[float]] = ((), ()),
    trend: np.ndarray | None = None,
    covariates: np.ndarray | None = None,
) -> Surface:
    """
    Fit a surface to stars.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        0-based pixel coordinates of stars, finite: hundreds of them;
        `~ks4_ccd.surfaces.process.fit_process` is more accurate with fewer.
    values, errors : 1D `~numpy.ndarray`
        Of each star, finite. Errors are rescaled and get a floor, both derived
        from the scatter of the stars.
    image_shape : tuple of int
        ``(rows, columns)`` of the image.
    edges : pair of sequences, optional
        The edges along x and y at which the surface may have steps.
    trend : 1D `~numpy.ndarray`, optional
        A property of the stars (their magnitude) that values may depend on;
        the surface refers to a star of median property.
    covariates : 2D `~numpy.ndarray`, optional
        Properties of the stars, a column for each, on which the values depend
        linearly; the surface refers to a star for which they are 0.

    Returns
    -------
    surface : `Surface`
    """
    n_knots = np.clip(np.sqrt(x.size / _STARS_PER_KNOT), 1, _MOST_KNOTS).astype(int)
    splines = [
        Spline(
            SurfaceBasis(image_shape, n_knots, edges, degree),
            *(x, y, values, errors, trend, covariates),
        )
        for degree in _degrees(edges, x.size)
    ]
    # The blocks are small: with several threads they take longer.
    with threadpool_limits(1, user_api="blas"):
        search = _best_basis(splines)
        # The weights of the stars and the best fit depend on each other.
        best = search.best()
        search.spline.converge(best.order, best.smoothness)
        search = PenaltySearch(search.spline, search)
        return _average(search.spline, *search.probable())


def _best_basis(splines: list[Spline]) -> PenaltySearch:
    """Return the search of the spline whose polynomials predict best."""
    order, smoothness = _PILOT
    # The weights are determined once, with the most flexible spline.
    pilot = splines[-1]
    pilot.converge(order, smoothness)
    for spline in splines[:-1]:
        spline.take_weights(pilot)
    best, *others = map(PenaltySearch, splines)
    for search in others:
        if search.best_of_order(order).exceeds(best.best_of_order(order)):
            best = search
    return best


def _average(spline: Spline, trials: list[Trial], weights: np.ndarray) -> Surface:
    """Return the average of the models whose probability is not negligible."""
    kept = np.flatnonzero(weights > _NEGLIGIBLE)
    models = [spline.model(trials[k].order, trials[k].smoothness) for k in kept]
    return Surface(spline, models, weights[kept] / weights[kept].sum())


def _degrees(
    edges: tuple[Sequence[float], Sequence[float]], n_stars: int
) -> tuple[int | None, ...]:
    """Return the degrees of polynomials that the number of stars allows."""
    n_regions = (len(edges[0]) + 1) * (len(edges[1]) + 1)
    if n_regions == 1:
        return (None,)
    per_region = n_stars / n_regions / _STARS_PER_TERM
    return tuple(d for d in _DEGREES if d == 0 or (d + 1) * (d + 2) / 2 <= per_region)
