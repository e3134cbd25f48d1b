# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of edges that are found in maps of cells."""

from itertools import pairwise

import numpy as np
import pytest

from ks4_ccd.surfaces._cell_fit import CellFit, Cells
from ks4_ccd.surfaces.cell_edges import _log_tail, _score, find_cell_edges

EDGES = [1870.0, 5130.0, 7420.0], [4000.0, 8630.0]
SIZE, NUMBER, SCATTER = 12000.0, 40, 0.012
BORDERS = np.linspace(0, SIZE, NUMBER + 1)


def simulated(seed, edges=EDGES, step=0.02, phase=None):
    """Return cells of medians of stars of a smooth field with steps."""
    rng = np.random.default_rng(seed)
    steps = step * rng.choice([-1, 1], (len(edges[0]) + 1, 1)).cumsum(axis=0)
    steps = steps + step * np.arange(len(edges[1]) + 1) * rng.choice([-1, 1])
    phase = rng.uniform(0, 2 * np.pi, 2)
    n = rng.poisson(2 * NUMBER**2)
    x, y = rng.uniform(0, SIZE, (2, n))
    i, j = (
        np.searchsorted(e, p, side="right") for e, p in zip(edges, (x, y), strict=True)
    )
    values = 0.02 * np.sin(7 * x / SIZE + phase[0]) * np.cos(5 * y / SIZE + phase[1])
    values += steps[i, j] + SCATTER * rng.normal(size=n)
    cell = (x * NUMBER // SIZE * NUMBER + y * NUMBER // SIZE).astype(int)
    count = np.bincount(cell, minlength=NUMBER**2)
    medians = np.zeros(NUMBER**2)
    for k in np.flatnonzero(count):
        medians[k] = np.median(values[cell == k])
    medians, count = medians.reshape(NUMBER, NUMBER), count.reshape(NUMBER, NUMBER)
    stars = np.maximum(count, 1)
    scatter = np.full(count.shape, SCATTER)
    errors = scatter / np.sqrt(stars)
    return Cells(medians, count > 0, errors, scatter, stars, (BORDERS, BORDERS))


def test_edges_are_found_within_their_uncertainty():
    """Unequal edges are found where they are, no others, to a fraction of a cell."""
    pulls = []
    for seed in range(4):
        found = find_cell_edges([simulated(seed)])
        for lines, edges in zip(found, EDGES, strict=True):
            assert len(lines) == len(edges)
            for line, edge in zip(lines, edges, strict=True):
                assert abs(line.position - edge) < 0.5 * SIZE / NUMBER
                assert line.log_false_alarms < np.log(0.01)
                pulls.append((line.position - edge) / line.uncertainty)
    assert np.sqrt(np.mean(np.square(pulls))) < 2


def test_smooth_fields_have_no_edges():
    """In maps without steps, hardly ever a line is found."""
    found = [find_cell_edges([simulated(s, ((), ()), 0.0)]) for s in range(100, 120)]
    assert sum(bool(x or y) for x, y in found) <= 1


def test_maps_of_one_camera_are_more_accurate_together():
    """Edges of two maps together have smaller uncertainties than those of one."""
    one, two = simulated(1, step=0.03), simulated(2, step=0.03)
    alone, together = find_cell_edges([one]), find_cell_edges([one, two])
    assert [len(lines) for lines in together] == [len(along) for along in EDGES]
    mean = [np.mean([e.uncertainty for e in lines[1]]) for lines in (alone, together)]
    assert mean[1] < mean[0]


def test_few_cells_have_no_edges():
    """In a map of few cells, steps are not told from a rough field."""
    cells = simulated(1, step=0.2)
    few = Cells(*(part[:9, :9] for part in cells[:5]), (BORDERS[:10], BORDERS[:10]))
    assert find_cell_edges([few]) == ([], [])
    row = Cells(
        *(p.reshape(-1, 2)[:400] for p in cells[:5]), (np.arange(401.0), BORDERS[:3])
    )
    assert find_cell_edges([row])[1] == []


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("edges", [((), ()), EDGES])
def test_chi_square_is_the_improvement_of_the_fit(axis, edges):
    """The score is by how much a free step lowers the penalised sum of squares."""
    fit = CellFit(simulated(3), edges, 8)
    fit.converge()
    position = np.array([6543.0])
    chi2, freedom = _score(fit, (BORDERS, BORDERS), edges, axis, position)
    columns = np.hstack([np.kron(k.x, k.y)[:, k.kept] for k in fit.basis.cells.kinds])
    behind = np.clip((BORDERS[1:] - position) / np.diff(BORDERS), 0, 1)
    if edges[1 - axis]:
        borders = [0.0, *edges[1 - axis], SIZE]
        parts = [
            np.clip((BORDERS[1:] - low) / 300, 0, 1)
            - np.clip((BORDERS[1:] - high) / 300, 0, 1)
            for low, high in pairwise(borders)
        ]
    else:
        p = np.linspace(-1, 1, NUMBER)
        parts = [np.ones(NUMBER), p, p**2]
    pairs = [(behind, part) if axis == 0 else (part, behind) for part in parts]
    steps = np.stack([np.outer(*pair).ravel() for pair in pairs], axis=1)
    weights, values = fit.weights.ravel(), fit.values.ravel()
    _, factor = fit.solved()
    normal = factor @ factor.T
    both = np.hstack([columns, steps])
    full = both.T @ (weights[:, None] * both)
    n = len(normal)
    full[:n, :n] = normal
    right = both.T @ (weights * values)
    gain = right @ np.linalg.solve(full, right)
    gain -= right[:n] @ np.linalg.solve(normal, right[:n])
    assert freedom == len(parts)
    np.testing.assert_allclose(chi2, [gain], rtol=1e-3)


def test_tail_is_that_of_scipy_and_continues_it():
    """The log of the tail agrees with scipy where that is not 0, and goes on."""
    from scipy.stats import chi2

    x = np.array([0.0, 3.0, 50.0, 600.0])
    np.testing.assert_allclose(_log_tail(x, 3), chi2.logsf(x, 3), rtol=1e-6, atol=1e-12)
    # Of two degrees of freedom, it is an exponential.
    far = np.array([1300.0, 3000.0])
    np.testing.assert_allclose(_log_tail(far, 2), -far / 2, rtol=1e-6)
