# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Linear systems with a band, and a border of a few dense rows and columns."""

import numpy as np

__all__ = ["solve_bordered"]


def solve_bordered(matrix, right, n_band, width):
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
