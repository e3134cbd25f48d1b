# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Fit a smooth surface with steps to the many stars of an image.

The surface is a penalised tensor-product spline (Eilers & Marx 1996, Stat. Sci.
11, 89): cubic B-splines on more knots than needed, held smooth by a penalty. The
order of the penalty and its strength are averaged over, with the probability of
each (Wahba 1983, J. R. Stat. Soc. B 45, 133, for the covariance of one). Where
edges of chips or amplifiers are given, a polynomial for each region between them
is added. All are coefficients of one sparse linear system.
"""

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from ks4_ccd.surfaces._mixture import half_width
from ks4_ccd.surfaces.basis import SurfaceBasis, variance_of
from ks4_ccd.surfaces.spline import Spline, SplineModel

__all__ = ["Surface", "fit_surface"]

_STARS_PER_KNOT = 2
_MOST_KNOTS = 48  # along an axis
_STARS_PER_TERM = 5
_DEGREES = (0, 1, 2)
# Relative to the weight of the stars; the last leaves a constant.
_SMOOTHNESS = tuple(10.0**power for power in range(-10, 5))
_CONSTANT = 1e9
_PILOT = 2, 1e-5
_ORDERS = (1, 2, 3)
# A constant is as probable as so many strengths of each order.
_PRIOR_OF_CONSTANT = 4
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
    """

    def __init__(
        self, spline: Spline, models: list[SplineModel], weights: np.ndarray
    ) -> None:
        self._spline, self._models, self._weights = spline, models, weights
        self.x, self.y = spline.positions
        best = models[np.argmax(weights)]
        self.sigma = spline.sigma_of(best)
        # A fit takes some of the scatter that its weights come from.
        self._scale = np.median(self.sigma / spline.sigma[spline.used]) ** 2
        self._coefficients = weights @ [model.coefficients for model in models]
        self._local = spline.local_residuals(weights @ [m.residuals for m in models])

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the surface at 0-based pixel coordinates."""
        value = self._spline.basis.rows(x, y) @ self._coefficients
        return value if self._local is None else value + self._local(x, y)

    def mesh(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the surface on a mesh of coordinates along x and along y."""
        return self.at(*_meshed(x, y)).reshape(x.size, y.size)

    def mesh_deviation(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """
        Return the uncertainty of the surface on a mesh.

        Returns
        -------
        deviation : 2D `~numpy.ndarray`
            68 % of the errors of the surface are smaller.
        """
        rows = self._spline.basis.rows(*_meshed(x, y))
        n = self._coefficients.size
        means, variances = [], []
        for model in self._models:
            means.append(rows @ model.coefficients)
            variances.append(self._scale * variance_of(rows, model.covariance[:n, :n]))
        deviations = np.sqrt(np.array(variances))
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

    Returns
    -------
    surface : `Surface`
    """
    n_knots = np.clip(np.sqrt(x.size / _STARS_PER_KNOT), 1, _MOST_KNOTS).astype(int)
    splines = [
        Spline(
            SurfaceBasis(image_shape, n_knots, edges, degree),
            *(x, y, values, errors, trend),
        )
        for degree in _degrees(edges, x.size)
    ]
    # These blocks are small: several threads would wait for each other.
    with threadpool_limits(1, user_api="blas"):
        spline = _best_basis(splines)
        # The weights of stars depend on the best fit, and this on them.
        (order, smoothness), _ = max(_evidences(spline).items(), key=lambda i: i[1])
        spline.converge(order, smoothness)
        return _average(spline, _evidences(spline))


def _best_basis(splines):
    """Return the spline, of those with other regions, that predicts best."""
    order, smoothness = _PILOT
    # The weights are found once, with the most flexible of them.
    pilot = splines[-1]
    pilot.converge(order, smoothness)
    scores = []
    for spline in splines if len(splines) > 1 else ():
        spline.take_weights(pilot)
        best, _ = max(_downhill(spline, order).items(), key=lambda item: item[1])
        scores.append(spline.cross_validate(order, best))
    return splines[np.argmin(scores)] if scores else pilot


def _evidences(spline):
    """Return the evidence of each order and smoothness that may be the best."""
    found = {
        (order, smoothness): evidence
        for order in _ORDERS
        for smoothness, evidence in _downhill(spline, order).items()
    }
    constant = spline.evidence(_ORDERS[0], _CONSTANT)
    found[_ORDERS[0], _CONSTANT] = constant + np.log(_PRIOR_OF_CONSTANT)
    return found


def _downhill(spline, order):
    """Return the evidences from the usual smoothness to the best, and beside it."""
    known = {}

    def at(step):
        if not 0 <= step < len(_SMOOTHNESS):
            return -np.inf
        smoothness = _SMOOTHNESS[step]
        if smoothness not in known:
            known[smoothness] = spline.evidence(order, smoothness)
        return known[smoothness]

    step = _SMOOTHNESS.index(_PILOT[1])
    while True:
        best = max((step, step - 1, step + 1), key=at)
        if best == step:
            return known
        step = best


def _average(spline, evidences):
    """Return the average of the models whose probability is not negligible."""
    logs = np.array(list(evidences.values()))
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    kept = np.flatnonzero(weights > _NEGLIGIBLE)
    penalties = list(evidences)
    models = [spline.model(*penalties[number]) for number in kept]
    return Surface(spline, models, weights[kept] / weights[kept].sum())


def _degrees(edges, n_stars):
    """Return the degrees of the regions' polynomials that are worth a trial."""
    n_regions = (len(edges[0]) + 1) * (len(edges[1]) + 1)
    if n_regions == 1:
        return (None,)
    per_region = n_stars / n_regions / _STARS_PER_TERM
    return tuple(d for d in _DEGREES if d == 0 or (d + 1) * (d + 2) / 2 <= per_region)


def _meshed(x, y):
    return [part.ravel() for part in np.meshgrid(x, y, indexing="ij")]
