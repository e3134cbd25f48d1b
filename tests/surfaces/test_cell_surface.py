# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of surfaces through cells, against dense algebra and simulated fields."""

import numpy as np
import pytest

from ks4_ccd.surfaces._cell_basis import CellBasis
from ks4_ccd.surfaces.cell_surface import Cells, fit_cells

X_EDGES, Y_EDGES = np.linspace(-1, 899, 10), np.linspace(-1, 599, 8)
STEPS = [210.0, 530.0], [260.0]


@pytest.fixture
def basis():
    """Return a basis with regions, some of whose edges are inside of cells."""
    return CellBasis((X_EDGES, Y_EDGES), STEPS, 4, (0, 1))


def dense(functions):
    """Return the functions as one matrix: a row for each position of the mesh."""
    return np.hstack([np.kron(k.x, k.y)[:, k.kept] for k in functions.kinds])


def test_cells_are_averages_over_their_area(basis):
    """The functions of a cell are the mean of those at many positions in it."""
    x, y = (
        low[0] + (np.arange(4000) + 0.5) / 4000 * (low[-1] - low[0])
        for low in (X_EDGES, Y_EDGES)
    )
    cell_x, cell_y = (
        np.digitize(p, e) - 1 for p, e in zip((x, y), (X_EDGES, Y_EDGES), strict=True)
    )
    at_points = basis.at(x, y)
    for kind, cells in zip(at_points.kinds, basis.cells.kinds, strict=True):
        for points, cell, expected in (
            (kind.x, cell_x, cells.x),
            (kind.y, cell_y, cells.y),
        ):
            mean = [points[cell == k].mean(axis=0) for k in range(len(expected))]
            np.testing.assert_allclose(expected, mean, atol=2e-3)


def test_sums_are_those_of_the_dense_matrix(basis):
    """Sums, normal matrices and variances agree with a matrix for all cells."""
    rng = np.random.default_rng(0)
    columns = dense(basis.cells)
    weights, values = rng.uniform(0, 1, (2, 9, 7))
    coefficients = rng.normal(size=columns.shape[1])
    np.testing.assert_allclose(
        basis.cells.sum(coefficients).ravel(), columns @ coefficients, atol=1e-12
    )
    np.testing.assert_allclose(
        basis.cells.normal_matrix(weights),
        columns.T @ (weights.ravel()[:, None] * columns),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        basis.cells.products_with(values), columns.T @ values.ravel(), atol=1e-12
    )
    root = rng.normal(size=(columns.shape[1],) * 2)
    covariance = root @ root.T
    of_cells = (columns @ covariance @ columns.T).reshape(9, 7, 9, 7)
    variance = np.einsum("ijij->ij", of_cells)
    np.testing.assert_allclose(basis.cells.variance(covariance), variance)
    along_x = basis.cells.covariance_at_lag(covariance, 0, 2)
    np.testing.assert_allclose(along_x[3, 4], of_cells[3, 4, 5, 4])
    along_y = basis.cells.covariance_at_lag(covariance, 1, 1)
    np.testing.assert_allclose(along_y[3, 4], of_cells[3, 4, 3, 5])
    assert basis.cells.covariance_at_lag(covariance, 1, 9).size == 0


def test_splines_add_up_to_one_and_polynomials_stay_in_their_regions(basis):
    """B-splines are a partition of unity, and a polynomial is 0 beyond its edges."""
    x, y = np.array([-1.0, 209.0, 211.0, 899.0]), np.array([100.0, 400.0])
    splines, polynomials = basis.at(x, y).kinds
    np.testing.assert_allclose(splines.x.sum(axis=1), 1)
    assert (polynomials.x[1].reshape(3, 2)[1:] == 0).all()
    assert (polynomials.x[2].reshape(3, 2)[[0, 2]] == 0).all()


# Edges that are not at those of cells, and not at equal distances.
EDGES = [1870.0, 5130.0, 6220.0, 10940.0], [4000.0, 8630.0]
SIZE, NUMBER = 12000.0, 40
SCATTER = 0.012


def simulated(seed, number=NUMBER, stars=2.0, edges=EDGES, step=0.02):
    """Return cells of medians of stars, and the true field on a mesh."""
    rng = np.random.default_rng(seed)
    steps = step * rng.normal(size=(len(edges[0]) + 1, len(edges[1]) + 1))
    phase = rng.uniform(0, 2 * np.pi, 4)

    def field(x, y):
        waves = np.sin(7 * x / SIZE + phase[0]) * np.cos(5 * y / SIZE + phase[1])
        waves += np.sin(3 * x / SIZE + phase[2]) * np.cos(9 * y / SIZE + phase[3])
        i, j = (
            np.searchsorted(e, p, side="right")
            for e, p in zip(edges, (x, y), strict=True)
        )
        return 0.02 * waves + steps[i, j]

    n = rng.poisson(stars * number**2)
    x, y = rng.uniform(0, SIZE, (2, n))
    star_error = SCATTER * np.exp(0.5 * rng.normal(size=n))
    values = field(x, y) + star_error * rng.normal(size=n)
    cell = (x // (SIZE / number)).astype(int) * number + (y // (SIZE / number)).astype(
        int
    )
    count = np.bincount(cell, minlength=number**2)
    medians = np.zeros(number**2)
    for k in np.flatnonzero(count):
        medians[k] = np.median(values[cell == k])
    shape = number, number
    errors = np.full(number**2, SCATTER) / np.sqrt(np.maximum(count, 1))
    borders = np.linspace(0, SIZE, number + 1)
    cells = Cells(
        medians.reshape(shape),
        (count > 0).reshape(shape),
        errors.reshape(shape),
        np.full(shape, SCATTER),
        np.maximum(count, 1).reshape(shape),
        (borders, borders),
    )
    mesh = np.linspace(60, SIZE - 60, 67)
    return cells, mesh, field(mesh[:, None], mesh[None, :])


def pulls(seeds, given, **options):
    """Return residuals, and these in units of what is quoted, of some fields."""
    residuals, relative = [], []
    for seed in seeds:
        cells, mesh, truth = simulated(seed, **options)
        surface = fit_cells(cells, given)
        residuals.append(surface.mesh(mesh, mesh) - truth)
        relative.append(residuals[-1] / surface.mesh_deviation(mesh, mesh))
    return np.array(residuals), np.array(relative)


@pytest.mark.parametrize("stars", [0.7, 2, 15])
def test_uncertainty_is_that_of_the_residuals(stars):
    """About 68 % of residuals are within the uncertainty, at any number of stars."""
    residuals, relative = pulls(range(6), EDGES, stars=stars)
    assert 0.85 < np.sqrt(np.mean(relative**2)) < 1.12
    assert 0.62 < np.mean(np.abs(relative) < 1) < 0.76
    # The cells themselves scatter by more.
    assert residuals.std() < 0.4 * SCATTER / np.sqrt(stars)


def test_edges_without_steps_cost_little():
    """Edges in a smooth field leave about the residuals that none leave."""
    no_edges = (), ()
    with_edges, relative = pulls(range(5), EDGES, edges=no_edges)
    without, _ = pulls(range(5), no_edges, edges=no_edges)
    assert with_edges.std() < 1.12 * without.std()
    assert 0.8 < np.sqrt(np.mean(relative**2)) < 1.15


def test_one_edge_is_followed():
    """A single edge, whose two constants are one step, is not lost."""
    one = [5000.0], []
    residuals, relative = pulls(range(5), one, edges=one, step=0.04)
    assert residuals.std() < 0.003
    assert 0.8 < np.sqrt(np.mean(relative**2)) < 1.15


def test_missing_edges_are_in_the_uncertainty():
    """Steps at unknown edges leave residuals that neighbours share: they are quoted."""
    _, relative = pulls(range(4), ((), ()))
    assert 0.6 < np.mean(np.abs(relative) < 1) < 0.8


def test_cells_that_edges_cross_do_not_spoil_steps():
    """A crossed cell of many precise stars is the median of one side."""
    residuals, relative = pulls(range(3), EDGES, stars=40, step=0.1)
    assert residuals.std() < 0.0015
    assert np.sqrt(np.mean(relative**2)) < 1.1


@pytest.mark.parametrize("number", [4, 6, 9])
def test_few_cells(number):
    """A process follows a few cells; what it quotes covers its residuals."""
    one = [5000.0], []
    _, relative = pulls(range(12), one, edges=one, number=number, stars=4)
    assert 0.55 < np.mean(np.abs(relative) < 1) < 0.85


def test_outliers_are_left_out():
    """Single cells that are far off move the surface by less than its uncertainty."""
    cells, mesh, _ = simulated(3)
    clean = fit_cells(cells, EDGES)
    off = cells.values.copy()
    off[5:35:10, 5:35:10] += 0.5
    spoilt = fit_cells(cells._replace(values=off), EDGES)
    moved = spoilt.mesh(mesh, mesh) - clean.mesh(mesh, mesh)
    assert np.abs(moved).max() < 2 * clean.mesh_deviation(mesh, mesh).max()
    assert moved.std() < 0.5 * clean.mesh_deviation(mesh, mesh).mean()


def test_scatter_is_that_of_stars():
    """The scatter of single stars is rescaled as the cells demand."""
    cells, *_ = simulated(4)
    wrong = cells._replace(errors=3 * cells.errors, scatter=3 * cells.scatter)
    # That of stars whose errors vary by a factor: between median and rms.
    expected = SCATTER, SCATTER * np.exp(0.5**2)
    for given in (cells, wrong):
        assert 0.9 * expected[0] < fit_cells(given, EDGES).scatter < 1.1 * expected[1]


def test_inputs_are_unchanged():
    """Fitting changes none of the arrays."""
    cells, *_ = simulated(5)
    copies = [np.copy(part) for part in cells[:5]]
    fit_cells(cells, EDGES)
    for part, copy in zip(cells[:5], copies, strict=True):
        np.testing.assert_array_equal(part, copy)
