# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Factor, solve and invert symmetric matrices with a band and a border."""

from typing import NamedTuple

import numpy as np

__all__ = ["BorderedInverse", "BorderedMatrix"]


class BorderedMatrix:
    """
    A symmetric positive definite matrix with a band and a border, factored.

    Its first rows and columns have entries on a few diagonals only; the last ones,
    the border, may have entries everywhere.

    Parameters
    ----------
    offsets : 1D `~numpy.ndarray` of int
        The diagonals of the band, 0 first, ascending.
    band : 2D `~numpy.ndarray`
        A row for each diagonal: ``band[k, j]`` is entry ``(j + offsets[k], j)``.
    border : 2D `~numpy.ndarray`
        A row for each row of the border, a column for each column of the band.
    corner : 2D `~numpy.ndarray`
        The rows and columns of the border.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the band is not positive definite.

    Notes
    -----
    The band is factored by Cholesky's method (LAPACK's ``dpbtrf``), and the Schur
    complement of the border is small. In LAPACK's storage of a band of width ``w``,
    ``w`` columns follow each other as ``w (w + 1)`` numbers. Read as ``w + 1`` rows of
    ``w`` numbers, the first ``w`` rows are the triangular diagonal block (transposed)
    and the last ``w`` are the block below it, which is triangular, too.
    """

    def __init__(
        self,
        offsets: np.ndarray,
        band: np.ndarray,
        border: np.ndarray,
        corner: np.ndarray,
    ) -> None:
        from scipy.linalg import lapack

        self._offsets, self._border = offsets, border
        self._number, self._width = band.shape[1], int(offsets[-1])
        n_blocks = -(-self._number // self._width)
        storage = np.zeros((n_blocks * self._width, self._width + 1))
        storage[: self._number, offsets] = band.T
        storage[self._number :, 0] = 1
        factor, info = lapack.dpbtrf(storage.T, lower=1, overwrite_ab=1)
        if info != 0:
            msg = f"expected a positive definite band, found that row {info} is not"
            raise np.linalg.LinAlgError(msg)
        self._factor = factor
        self._panels = factor.T.reshape(n_blocks, self._width + 1, self._width)
        self._half = self._half_solved(border)
        self._schur = corner.copy()
        for solved in self._half:
            n = len(solved)
            self._schur[:n, :n] -= solved @ solved.T

    def solve(
        self, band: np.ndarray, border: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Solve the system for one right-hand side.

        Parameters
        ----------
        band, border : 1D `~numpy.ndarray`
            Its values in the rows of the band and of the border.

        Returns
        -------
        band, border : 1D `~numpy.ndarray`
            The solution in these rows.
        """
        if border.size == 0:
            return self._through_band(band), border
        rest = border - self._border @ self._through_band(band)
        last = _solve_symmetric(self._schur, rest)
        return self._through_band(band - last @ self._border), last

    def inverse(self) -> "BorderedInverse":
        """
        Return the entries of the inverse on the diagonals of the matrix.

        Notes
        -----
        Erisman & Tinney (1975), Commun. ACM 18, 177, by blocks: with the block ``D`` of
        the factor on the diagonal and ``B`` below it, and ``G = B D^-1``, the inverse
        is ``-Z G`` below and ``(D D')^-1 + G' Z G`` on the diagonal, where ``Z`` is the
        inverse on the diagonal of the next block.
        """
        from scipy.linalg import blas, lapack

        panels = np.empty_like(self._panels)
        following = np.zeros((self._width, self._width))
        for number in reversed(range(len(panels))):
            diagonal, below = self._blocks(number)
            step = blas.dtrsm(1.0, diagonal, np.triu(below), side=1, lower=1)
            beside = -following @ step
            inverse, _ = lapack.dpotri(diagonal, lower=1)
            inverse = np.tril(inverse) + np.tril(inverse, -1).T - step.T @ beside
            # The two blocks overlap in the panel, in triangles that are unused.
            panels[number, -1] = 0
            panels[number, :-1] = np.triu(inverse.T)
            panels[number, 1:] += np.tril(beside.T)
            following = inverse
        stored = panels.reshape(-1, self._width + 1)
        band = stored[: self._number, self._offsets].T.copy()
        return BorderedInverse(band, self._border_through_band(), self._schur)

    def _through_band(self, right: np.ndarray) -> np.ndarray:
        """Solve the system of the band alone."""
        from scipy.linalg import lapack

        padded = np.zeros(self._factor.shape[1])
        padded[: self._number] = right
        solution, _ = lapack.dpbtrs(self._factor, padded, lower=1, overwrite_b=1)
        return solution[: self._number]

    def _half_solved(self, border: np.ndarray) -> list[np.ndarray]:
        """
        Return the border solved with the factor of the band, block by block.

        Rows of the border whose first entry is in a later block are 0 in a block. They
        are left out there if they are in the order of their first entries.
        """
        from scipy.linalg import blas

        n_border, n_blocks = len(border), len(self._panels)
        begins = np.argmax(border != 0, axis=1) // self._width
        last = np.zeros(n_blocks, dtype=int)
        np.maximum.at(last, begins, np.arange(1, n_border + 1))
        padded = np.zeros((n_border, n_blocks * self._width))
        padded[:, : self._number] = border
        blocks = padded.reshape(n_border, n_blocks, self._width).swapaxes(0, 1)
        solved: list[np.ndarray] = []
        before = 0
        for number, begun in enumerate(np.maximum.accumulate(last)):
            part = np.ascontiguousarray(blocks[number, :begun])
            if before:
                _, below = self._blocks(number - 1)
                part[:before] -= blas.dtrmm(1.0, below, solved[-1].T).T
            if begun:
                diagonal, _ = self._blocks(number)
                part = blas.dtrsm(1.0, diagonal, part.T, lower=1, overwrite_b=1).T
            solved.append(part)
            before = begun
        return solved

    def _border_through_band(self) -> np.ndarray:
        """Return the solutions of the band for all rows of the border, as rows."""
        from scipy.linalg import blas

        n_border = len(self._border)
        solutions = np.zeros((n_border, len(self._panels) * self._width))
        following = np.zeros((n_border, self._width))
        for number in reversed(range(len(self._panels) if n_border else 0)):
            diagonal, below = self._blocks(number)
            part = -blas.dtrmm(1.0, below, following.T, trans_a=1).T
            part[: len(self._half[number])] += self._half[number]
            part = np.ascontiguousarray(part)
            following = blas.dtrsm(
                1.0, diagonal, part.T, lower=1, trans_a=1, overwrite_b=1
            ).T
            start = number * self._width
            solutions[:, start : start + self._width] = following
        return solutions[:, : self._number]

    def _blocks(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the block on the diagonal (lower), and that below it (upper)."""
        return self._panels[number, :-1].T, self._panels[number, 1:].T


class BorderedInverse(NamedTuple):
    """
    The inverse of a matrix with a band and a border.

    Attributes
    ----------
    band : 2D `~numpy.ndarray`
        The entries of the inverse of the band alone, on its own diagonals.
    through : 2D `~numpy.ndarray`
        The solution of the band for each row of the border, as rows.
    schur : 2D `~numpy.ndarray`
        The Schur complement of the band.
    """

    band: np.ndarray
    through: np.ndarray
    schur: np.ndarray

    def variance_of_border(self, rest: np.ndarray) -> np.ndarray:
        """
        Return the contribution of the border to variances of linear combinations.

        Parameters
        ----------
        rest : 2D `~numpy.ndarray`
            A row for each row of the border, a column for each combination: its
            coefficients in the border less ``through`` times those in the band.

        Returns
        -------
        variance : 1D `~numpy.ndarray`
        """
        return (rest * _solve_symmetric(self.schur, rest)).sum(axis=0)


def _solve_symmetric(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    from scipy.linalg import solve

    if right.size == 0:
        return np.zeros_like(right)
    return solve(matrix, right, assume_a="sym", check_finite=False)
