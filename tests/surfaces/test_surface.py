# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of surfaces through stars: basis, search of penalties, dense oracle."""

from math import comb

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd.surfaces._trials import PenaltySearch, Trial
from ks4_ccd.surfaces.basis import SurfaceBasis, trend_columns
from ks4_ccd.surfaces.spline import Spline
from ks4_ccd.surfaces.surface import Surface, fit_surface

SHAPE = 300, 500
EDGES = (120.0, 250.0), (140.0,)
MESH = np.linspace(-0.5, 499.4, 17), np.linspace(-0.5, 299.4, 13)


def dense_rows(basis, x, y):
    """Return the splines at positions as a dense array, one row for each."""
    columns, values = basis.splines(x, y)
    rows = np.zeros((x.size, basis.n_spline))
    rows[np.arange(x.size), columns] = values
    return rows


def dense_matrix(basis, band):
    """Return the symmetric matrix whose diagonals are given."""
    matrix = np.zeros((basis.n_spline,) * 2)
    for entries, offset in zip(band, basis.offsets, strict=True):
        found = np.diag(entries[: basis.n_spline - offset], -offset)
        matrix += found if offset == 0 else found + found.T
    return matrix


def dense_roughness(n_knots, order):
    """Return the roughness as sums of products of differences along the axes."""
    n = n_knots + 3

    def square(k):
        differences = np.diff(np.eye(n), k, axis=0)
        return differences.T @ differences

    unit, longest = (n_knots / np.pi) ** 2, 0.045
    return sum(
        comb(order, k)
        * longest ** (order - k)
        * unit ** (k - 1)
        * comb(k, i)
        * np.kron(square(k - i), square(i))
        for k in range(1, order + 1)
        for i in range(k + 1)
    )


def make_stars(n, seed, *, steps=True):
    """Return positions, values, errors and magnitudes of stars."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.5, 499.5, n), rng.uniform(-0.5, 299.5, n)
    magnitude = rng.uniform(14, 19, n)
    errors = 0.004 + 0.001 * (magnitude - 14)
    values = 0.02 * np.sin(x / 120) * np.cos(y / 90) + errors * rng.normal(size=n)
    if steps:
        values += 0.02 * np.searchsorted(EDGES[0], x) - 0.03 * (y > EDGES[1][0])
    values += 0.003 * (magnitude - 16)
    values[::50] += 1
    return x, y, values, errors, magnitude


@pytest.fixture(params=[1, 2, 9])
def basis(request):
    """A basis with as many intervals between knots along an axis."""
    return SurfaceBasis(SHAPE, request.param, EDGES, 2)


def test_splines_add_up_to_one(basis):
    """The splines at a position, on the image or beside it, have the sum 1."""
    x, y = np.array([-30.0, 0.0, 250.2, 499.4, 700.0]), np.linspace(-9, 400, 5)
    assert_allclose(basis.splines(x, y).values.sum(axis=0), 1, rtol=1e-14)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_roughness_is_that_of_dense_differences(basis, order):
    """The diagonals of the roughness are those of products of dense differences."""
    dense = dense_roughness(round(basis.n_spline**0.5) - 3, order)
    found = dense_matrix(basis, basis.roughness_band(order))
    assert_allclose(found, dense, rtol=0, atol=1e-12 * dense.max())
    assert_allclose(basis.roughness(order).toarray(), found, rtol=0, atol=1e-15)


def test_matrices_by_diagonals_are_dense_ones(basis):
    """Normal equations and quadratic forms are those of dense rows."""
    rng = np.random.default_rng(3)
    x, y, weights = rng.uniform(0, 299, (3, 200))
    rows = dense_rows(basis, x, y)
    band = basis.normal_band(basis.splines(x, y), weights)
    dense = rows.T @ (weights[:, None] * rows)
    assert_allclose(dense_matrix(basis, band), dense, rtol=0, atol=1e-12 * dense.max())
    squares = basis.squares(basis.splines(x, y), band)
    assert_allclose(squares, ((rows @ dense) * rows).sum(axis=1), rtol=1e-12)
    on_mesh = basis.mesh_of_squares(*MESH, band)
    everywhere = np.meshgrid(*MESH, indexing="ij")
    positions = basis.splines(*(part.ravel() for part in everywhere))
    assert_allclose(on_mesh.ravel(), basis.squares(positions, band), rtol=1e-12)


def test_mesh_is_the_basis_at_its_positions(basis):
    """Values on a mesh are those at each of its positions."""
    rng = np.random.default_rng(4)
    parts = rng.normal(size=basis.n_spline), rng.normal(size=basis.n_border)
    x, y = (part.ravel() for part in np.meshgrid(*MESH, indexing="ij"))
    expected = dense_rows(basis, x, y) @ parts[0] + basis.polynomials(x, y) @ parts[1]
    assert_allclose(basis.at(x, y, *parts), expected, rtol=0, atol=1e-12)
    assert_allclose(basis.mesh(*MESH, *parts).ravel(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", [None, 0, 2])
@pytest.mark.parametrize(("order", "smoothness"), [(1, 1.0), (2, 1e-4), (3, 1e-7)])
def test_fit_and_uncertainty_are_those_of_the_dense_inverse(degree, order, smoothness):
    """Values, uncertainties and own weights equal those of dense arrays to 1e-9."""
    x, y, values, errors, trend = make_stars(900, 1)
    covariates = np.random.default_rng(2).normal(size=(900, 2))
    values = values + covariates @ [0.01, 0.0]
    basis = SurfaceBasis(SHAPE, 12, ((), ()) if degree is None else EDGES, degree)
    spline = Spline(basis, x, y, values, errors, trend, covariates)
    spline.converge(2, 1e-4)
    model = spline.model(order, smoothness)
    # The same with dense arrays.
    used, sigma = spline.used, spline.sigma
    of_trend = trend_columns(trend)
    polynomials = basis.polynomials(x, y).toarray() if degree is not None else None
    columns = [dense_rows(basis, x, y), of_trend, covariates]
    columns = np.hstack(columns if degree is None else [*columns, polynomials])
    n, end = basis.n_spline, basis.n_spline + of_trend.shape[1]
    weighted = columns[used] / sigma[used][:, None]
    normal = weighted.T @ weighted
    weight = np.trace(normal) / len(normal)
    penalty = np.zeros_like(normal)
    penalty[:n, :n] = smoothness * dense_roughness(12, order)
    system = normal + weight * (penalty + 1e-9 * np.eye(len(normal)))
    spread = 1.482602218505602 * np.median(np.abs(values - np.median(values)))
    prior = np.zeros(len(normal))
    prior[end + 2 :] = (2 * spread) ** -2.0
    system += np.diag(prior)
    covariance = np.linalg.inv(system)
    center = np.median(values)
    right = weighted.T @ ((values - center) / sigma)[used]
    coefficients = np.linalg.solve(system, right)
    # The product with an inverse alone is off by 1e-7 of the coefficients.
    coefficients += covariance @ (right - system @ coefficients)
    x_mesh, y_mesh = (part.ravel() for part in np.meshgrid(*MESH, indexing="ij"))
    rows = np.zeros((x_mesh.size, len(normal)))
    rows[:, :n] = dense_rows(basis, x_mesh, y_mesh)
    if degree is not None:
        rows[:, end + 2 :] = basis.polynomials(x_mesh, y_mesh).toarray()
    level = np.median(of_trend[used] @ coefficients[n:end])
    expected = rows @ coefficients + center + level
    found = basis.mesh(*MESH, model.spline, model.border).ravel()
    assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    variance = spline.mesh_variance(model, *MESH).ravel()
    assert_allclose(variance, ((rows @ covariance) * rows).sum(axis=1), rtol=1e-9)
    own = ((weighted @ covariance) * weighted).sum(axis=1)
    assert_allclose(model.own, np.minimum(own, 0.9), rtol=1e-9)
    assert_allclose(model.covariates, coefficients[end : end + 2], rtol=1e-9)
    found = spline.covariance_of_covariates(model)
    assert_allclose(found, covariance[end : end + 2, end : end + 2], rtol=1e-9)


def test_values_and_uncertainties_of_a_surface_are_those_of_its_average():
    """A surface at positions, on a mesh, and its uncertainty agree."""
    surface = fit_surface(*make_stars(700, 2)[:4], SHAPE, EDGES)
    x, y = (part.ravel() for part in np.meshgrid(*MESH, indexing="ij"))
    assert_allclose(surface.at(x, y), surface.mesh(*MESH).ravel(), rtol=0, atol=1e-12)
    models = [surface._spline.model(2, 1e-4), surface._spline.model(3, 1e-5)]
    weights = np.array([0.3, 0.7])
    average = Surface(surface._spline, models, weights)
    parts = [Surface(surface._spline, [model], np.ones(1)) for model in models]
    mean = sum(w * p.mesh(*MESH) for w, p in zip(weights, parts, strict=True))
    assert_allclose(average.mesh(*MESH), mean, rtol=0, atol=1e-12)
    least = np.minimum(*(part.mesh_deviation(*MESH) for part in parts))
    assert np.all(average.mesh_deviation(*MESH) > 0.9 * least)


def test_covariates_are_recovered_within_their_uncertainty():
    """Injected coefficients are recovered, 68 % of them within one sigma."""
    pulls = []
    for seed in range(12):
        x, y, values, errors, _ = make_stars(600, seed, steps=False)
        covariates = np.random.default_rng(seed).normal(size=(600, 4))
        injected = np.array([0.1, -0.02, 0.0, 0.003])
        values = values + covariates @ injected
        surface = fit_surface(x, y, values, errors, SHAPE, covariates=covariates)
        mean, covariance = surface.covariates
        pulls.append((mean - injected) / np.sqrt(np.diag(covariance)))
    # 48 pulls: 68 % of them, plus or minus twice 7 %.
    assert 0.54 < np.mean(np.abs(pulls) < 1) < 0.82


@pytest.mark.parametrize("edges", [((), ()), EDGES])
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_search_finds_the_probable_penalties_of_the_whole_grid(seed, edges):
    """The search keeps the penalties that all stars prefer of all on the grid."""
    x, y, values, errors, trend = make_stars(600, seed)
    basis = SurfaceBasis(SHAPE, 12, edges, 1 if edges[0] else None)
    spline = Spline(basis, x, y, values, errors, trend)
    spline.converge(2, 1e-4)
    every = [
        Trial(spline, order, 10.0**power)
        for order in (1, 2, 3)
        for power in range(-10, 5)
    ]
    every.append(Trial(spline, 1, 1e9, 4))
    logs = np.array([trial.evidence for trial in every])
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    expected = {
        (trial.order, trial.smoothness): weight
        for trial, weight in zip(every, weights, strict=True)
        if weight > 0.03
    }
    found = {
        (trial.order, trial.smoothness): weight
        for trial, weight in zip(*PenaltySearch(spline).probable(), strict=True)
        if weight > 0.03
    }
    assert found == pytest.approx(expected, rel=1e-4)


def test_search_goes_on_from_another():
    """With other weights, the search starts from the results before, and agrees."""
    x, y, values, errors, _ = make_stars(600, 8)
    spline = Spline(SurfaceBasis(SHAPE, 12, ((), ()), None), x, y, values, errors, None)
    spline.converge(2, 1e-4)
    first = PenaltySearch(spline)
    best = first.best()
    spline.converge(best.order, best.smoothness)
    again, anew = PenaltySearch(spline, first).best(), PenaltySearch(spline).best()
    assert (again.order, again.smoothness) == (anew.order, anew.smoothness)


def test_constant_field_gives_a_constant():
    """Through stars about a constant, the best surface is that constant."""
    rng = np.random.default_rng(9)
    x, y, errors = rng.uniform(0, 299, (3, 500))
    errors[:] = 0.01
    surface = fit_surface(x, y, 5 + errors * rng.normal(size=500), errors, SHAPE)
    mesh = surface.mesh(*MESH)
    assert np.ptp(mesh) < 0.005
    assert_allclose(mesh, 5, rtol=0, atol=0.005)


def test_stars_stay_unchanged():
    """A fit leaves the arrays of its arguments unchanged."""
    stars = make_stars(500, 10)
    copies = [part.copy() for part in stars]
    fit_surface(*stars[:4], SHAPE, EDGES, stars[4])
    for part, copy in zip(stars, copies, strict=True):
        assert_array_equal(part, copy)
