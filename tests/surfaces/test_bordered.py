# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of matrices with a band and a border, against dense ones."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ks4_ccd.surfaces._bordered import BorderedMatrix


@pytest.fixture(params=[(4, 0), (4, 2), (9, 1), (9, 12), (13, 40)])
def system(request):
    """Offsets, band, border and corner of a matrix, and the dense matrix."""
    n_axis, n_border = request.param
    rng = np.random.default_rng(n_axis + n_border)
    n, steps = n_axis**2, np.arange(-3, 4)
    offsets = np.unique(np.add.outer(n_axis * steps, steps))
    offsets = offsets[offsets >= 0]
    band = 0.2 * rng.normal(size=(offsets.size, n))
    band[0] += 10
    dense = np.zeros((n + n_border,) * 2)
    for entries, offset in zip(band, offsets, strict=True):
        entries[n - offset :] = 0
        columns = np.arange(n - offset)
        dense[columns + offset, columns] = entries[: n - offset]
        dense[columns, columns + offset] = entries[: n - offset]
    border = 0.1 * rng.normal(size=(n_border, n))
    # Rows that begin later, one that is empty, and rows in no order.
    for number, row in enumerate(border):
        row[: (number * n) // n_border] = 0
    border[n_border // 2 : n_border // 2 + 1] = 0
    border = border[np.argsort(np.arange(n_border) % 5, kind="stable")]
    corner = 5 * np.eye(n_border) + border @ border.T
    dense[n:, :n], dense[:n, n:], dense[n:, n:] = border, border.T, corner
    return (offsets, band, border, corner), dense


def test_solution_is_that_of_the_dense_matrix(system):
    """A right-hand side gives the solution of the dense system."""
    parts, dense = system
    n = parts[1].shape[1]
    right = np.random.default_rng(0).normal(size=len(dense))
    solution = np.concatenate(BorderedMatrix(*parts).solve(right[:n], right[n:]))
    assert_allclose(solution, np.linalg.solve(dense, right), rtol=0, atol=1e-13)


def test_inverse_is_that_of_the_dense_band(system):
    """The diagonals of the inverse of the band are those of its dense inverse."""
    (offsets, band, border, corner), dense = system
    n = band.shape[1]
    inverse = BorderedMatrix(offsets, band, border, corner).inverse()
    expected = np.linalg.inv(dense[:n, :n])
    for entries, offset in zip(inverse.band, offsets, strict=True):
        found = entries[: n - offset]
        assert_allclose(found, np.diag(expected, -offset), rtol=0, atol=1e-14)
    assert_allclose(inverse.through, border @ expected, rtol=0, atol=1e-14)


def test_variance_of_combinations_is_that_of_the_dense_inverse(system):
    """The variance of a combination is its quadratic form of the dense inverse."""
    parts, dense = system
    n = parts[1].shape[1]
    combinations = np.random.default_rng(1).normal(size=(len(dense), 6))
    inverse = BorderedMatrix(*parts).inverse()
    rest = combinations[n:] - inverse.through @ combinations[:n]
    of_band = np.linalg.inv(dense[:n, :n])
    variance = ((of_band @ combinations[:n]) * combinations[:n]).sum(axis=0)
    variance += inverse.variance_of_border(rest)
    expected = (np.linalg.inv(dense) @ combinations * combinations).sum(axis=0)
    assert_allclose(variance, expected, rtol=1e-12)


def test_arguments_stay_unchanged(system):
    """Factoring, solving and inverting leave the arrays of the matrix unchanged."""
    parts, _ = system
    copies = [part.copy() for part in parts]
    matrix = BorderedMatrix(*parts)
    matrix.solve(np.ones(parts[1].shape[1]), np.ones(len(parts[2])))
    matrix.inverse()
    for part, copy in zip(parts, copies, strict=True):
        assert_allclose(part, copy, rtol=0, atol=0)


def test_band_that_is_not_positive_definite_is_refused():
    """A band with a negative eigenvalue raises an error that names the row."""
    offsets, band = np.array([0, 1]), np.array([[1.0, 1.0, 1.0], [0.1, 2.0, 0.0]])
    with pytest.raises(np.linalg.LinAlgError, match="row 3"):
        BorderedMatrix(offsets, band, np.zeros((0, 3)), np.zeros((0, 0)))
