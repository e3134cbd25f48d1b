# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Apply a zero-point map to the rows of an image, at the speed of memory.

The map is never interpolated to the size of the image. Between two rows of
cells the zero point changes linearly along a column, so the flux factor changes
geometrically: the factor of an image row is that of an earlier row, fewer than
``_BLOCK`` rows away, times one of ``_BLOCK`` precomputed rows of ratios. The
cost per pixel is that product and the multiplication itself, on rows that fit
in the cache of the processor.
"""

import math
from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np

from ks4_ccd.exceptions import MapMismatchError
from ks4_ccd.ks4.recipe import EMPTY_ZEROPOINT, METHOD
from ks4_ccd.maps.fill import harmonic_fill
from ks4_ccd.maps.grid import MapGrid, Stencil, corners
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry._record import Calibration

__all__ = ["UNCERTAINTY_KINDS", "ZeroPointRows", "uncalibrated_rows"]

_BLOCK = 16
# Largest deviation of weights from a line along y, above that of rounding.
_STRAIGHT = 1e-9
_LN_FACTOR = 0.4 * math.log(10)


class _Kind(NamedTuple):
    """A kind of uncertainty: ``standard deviation ** power``."""

    to_variance: np.ufunc
    from_variance: np.ufunc
    power: int

    def rescale(self, array: np.ndarray, factor: np.ndarray, out: np.ndarray) -> None:
        """Write the uncertainty of a quantity multiplied by ``factor`` to ``out``."""
        scale = np.multiply if self.power > 0 else np.divide
        for _ in range(abs(self.power)):
            array = scale(array, factor, out=out, casting="same_kind")


# By the `uncertainty_type` of astropy's classes.
UNCERTAINTY_KINDS = {
    "std": _Kind(np.square, np.sqrt, 1),
    "var": _Kind(np.positive, np.positive, 2),
    "ivar": _Kind(np.reciprocal, np.reciprocal, -2),
}


class _Segment(NamedTuple):
    """Image rows between the same two rows of cells, evenly spaced there."""

    start: int
    stop: int
    lower: int
    upper: int
    fraction: float
    step: float

    def fractions(self, first: int, every: int = 1) -> Iterator[float]:
        """Yield the fraction between the cells for each row from ``first`` on."""
        for k in range(first, self.stop - self.start, every):
            yield self.fraction + k * self.step


def _segments(stencil: Stencil) -> list[_Segment] | None:
    """Return the segments of a stencil along y, `None` if it is nonlinear in y."""
    lower, upper = stencil.index[[0, -1]]
    # A single node has the whole weight.
    fraction = stencil.weight[-1] if len(stencil.index) > 1 else np.zeros(lower.size)
    # Rows beyond the outermost centres have a fraction of 0 or 1.
    state = np.sign(fraction) + (fraction == 1)
    breaks = (np.diff(lower) != 0) | (np.diff(state) != 0)
    starts = np.append(0, np.flatnonzero(breaks) + 1).tolist()
    stops = [*starts[1:], len(lower)]
    segments = []
    for start, stop in zip(starts, stops, strict=True):
        first, last = fraction[start], fraction[stop - 1]
        step = (last - first) / max(stop - start - 1, 1)
        line = first + step * np.arange(stop - start)
        if not np.allclose(line, fraction[start:stop], rtol=0, atol=_STRAIGHT):
            return None
        segments.append(_Segment(start, stop, lower[start], upper[start], first, step))
    return segments


class ZeroPointRows:
    """
    A zero-point map prepared for the rows of an image.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap`
    origin : tuple of float
        0-based pixel coordinates x, y of the image's first pixel on the grid
        of the map.
    shape : tuple of int
        The shape of the image.
    calibration : `~ks4_ccd.photometry._record.Calibration`
        Zero point, method, error kind and the scale of the unit.
    inverse : bool, optional
        Remove the calibration: rows of the result become rows of the image.
    """

    def __init__(
        self,
        zpmap: ZeroPointMap,
        origin: tuple[float, float],
        shape: tuple[int, ...],
        calibration: Calibration,
        *,
        inverse: bool = False,
    ) -> None:
        method, unit_scale = calibration.method, calibration.unit_scale
        rows, columns = (
            np.arange(n) + start for n, start in zip(shape, origin[::-1], strict=True)
        )
        self._along_x, self._along_y = (
            _stencil(zpmap.grid, axis, position, method)
            for axis, position in enumerate((columns, rows))
        )
        self._segments = None
        if max(len(along.index) for along in (self._along_x, self._along_y)) <= 2:
            self._segments = _segments(self._along_y)
        self._inverse = inverse
        self._last_ratios: tuple[tuple[_Segment, np.dtype], np.ndarray] | None = None
        # Cells are blended as magnitudes, that is as logarithms of the factor.
        # Only DR1's own method blends the factors themselves.
        self._blend_logs = method != METHOD
        if self._blend_logs:
            filled = harmonic_fill(zpmap.values, zpmap.valid)
            nodes = _LN_FACTOR * (calibration.zeropoint - filled) + math.log(unit_scale)
            self._nodes = -nodes if inverse else nodes
        else:
            marked = zpmap.marked(EMPTY_ZEROPOINT)["values"]
            factors = 10 ** (0.4 * (calibration.zeropoint - marked))
            self._nodes = factors * unit_scale
        self._node_errors = None
        if calibration.error_kind is not None:
            errors = zpmap.node_errors(
                calibration.error_kind, published=method == METHOD
            )
            self._node_errors = errors.scaled(_LN_FACTOR)

    def apply(
        self,
        data: np.ndarray,
        out: np.ndarray,
        uncertainty: np.ndarray | None = None,
        kind: str | None = None,
        out_uncertainty: np.ndarray | None = None,
        *,
        first: int = 0,
    ) -> None:
        """
        Calibrate consecutive rows.

        Parameters
        ----------
        data, out : 2D `~numpy.ndarray`
            The rows, and an array for their calibrated values.
        uncertainty, out_uncertainty : 2D `~numpy.ndarray`, optional
            The same for their uncertainty.
        kind : {"std", "var", "ivar"}, optional
            The kind of uncertainty.
        first : int, optional
            The index of the first row in the image.
        """
        dtypes = [plane.dtype for plane in (out, out_uncertainty) if plane is not None]
        # Variances scale with the square of the factor, which doubles its rounding.
        squared = kind is not None and UNCERTAINTY_KINDS[kind].power != 1
        dtype = np.result_type(np.float64 if squared else np.float32, *dtypes)
        spare = np.empty((2, data.shape[1]), dtype)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            factors = self._factors_and_variances(first, first + len(data), dtype)
            for y, (factor, variance) in enumerate(factors):
                np.multiply(data[y], factor, out=out[y], casting="same_kind")
                if not (uncertainty is None or out_uncertainty is None or kind is None):
                    counts = out[y] if self._inverse else data[y]
                    planes = uncertainty[y], out_uncertainty[y]
                    self._propagate(kind, *planes, counts, factor, variance, spare)

    def _factors_and_variances(
        self, first: int, last: int, dtype: np.dtype
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the factor of each row before ``last``, and the variance of its ln."""
        if self._segments is None:
            for y in range(first, last):
                yield self._row_of_many_nodes(y, dtype)
            return
        for segment in self._segments:
            start, stop = max(segment.start, first), min(segment.stop, last)
            if start < stop:
                factors = self._factors(segment, start - segment.start, dtype)
                variances = self._variances(segment, start - segment.start, dtype)
                rows = zip(range(start, stop), factors, variances, strict=False)
                for _, factor, variance in rows:
                    yield factor, variance

    def _row_of_many_nodes(
        self, y: int, dtype: np.dtype
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the factor of a row, and the variance of its logarithm."""
        along_y = Stencil(self._along_y.index[:, [y]], self._along_y.weight[:, [y]])
        around = corners(self._along_x, along_y)
        row = sum(self._nodes[cell] * weight for cell, weight in around)
        variance = None
        if self._node_errors is not None:
            variance = self._node_errors.at(self._along_x, along_y).astype(dtype) ** 2
        return np.exp(row).astype(dtype), variance

    def _propagate(
        self,
        kind: str,
        uncertainty: np.ndarray,
        out: np.ndarray,
        counts: np.ndarray,
        factor: np.ndarray,
        variance: np.ndarray | None,
        spare: np.ndarray,
    ) -> None:
        """
        Write the uncertainty of one row.

        The zero point adds ``variance * counts**2`` to the variance of the
        counts; the inverse subtracts it.
        """
        kind_of = UNCERTAINTY_KINDS[kind]
        if variance is None:
            kind_of.rescale(uncertainty, factor, out)
            return
        result, signal = spare
        if out.dtype == result.dtype:
            result = out
        if self._inverse:
            kind_of.rescale(uncertainty, factor, result)
            uncertainty = result
        kind_of.to_variance(uncertainty, out=result, casting="same_kind")
        # In the precision of the result: squares of half floats overflow.
        np.square(counts, out=signal, dtype=signal.dtype, casting="same_kind")
        signal *= variance
        if self._inverse:
            result -= signal
            np.maximum(result, 0, out=result)
            kind_of.from_variance(result, out=out, casting="same_kind")
        else:
            result += signal
            kind_of.from_variance(result, out=result)
            kind_of.rescale(result, factor, out)

    def _factors(
        self, segment: _Segment, first: int, dtype: np.dtype
    ) -> Iterator[np.ndarray]:
        """
        Yield the factor of each row of a segment from its row ``first`` on.

        The array is reused for the next row. The factors do not depend on the
        first row of a band of the image.
        """
        lower, change = self._ends(self._nodes, segment)
        if not self._blend_logs:
            upper = self._expand(self._nodes, segment.upper)
            for fraction in segment.fractions(first):
                row = lower * (1 - fraction) + upper * fraction
                yield 1 / row if self._inverse else row
        elif segment.step == 0:
            yield from repeat(np.exp(lower + segment.fraction * change).astype(dtype))
        else:
            ratios = self._ratios(segment, change, dtype)
            row = np.empty(change.shape, dtype)
            skipped = first % _BLOCK
            for fraction in segment.fractions(first - skipped, _BLOCK):
                block = np.exp(lower + fraction * change).astype(dtype)
                for ratio in ratios[skipped:]:
                    yield np.multiply(block, ratio, out=row)
                skipped = 0

    def _ratios(
        self, segment: _Segment, change: np.ndarray, dtype: np.dtype
    ) -> np.ndarray:
        """Return the factors of the rows of a block over that of its first row."""
        # Consecutive bands of an image mostly lie in the same segment.
        if self._last_ratios is None or self._last_ratios[0] != (segment, dtype):
            # These exponents are small: the precision of the image suffices.
            steps = (np.arange(_BLOCK) * segment.step).astype(dtype)
            ratios = np.exp(np.outer(steps, change.astype(dtype)))
            self._last_ratios = (segment, dtype), ratios
        return self._last_ratios[1]

    def _variances(
        self, segment: _Segment, first: int, dtype: np.dtype
    ) -> Iterator[np.ndarray | None]:
        """Return an iterator over the variance of ln(factor) of each row, or `None`."""
        if self._node_errors is None:
            return repeat(None)
        common = self._node_errors.common
        if self._node_errors.is_linear and common is not None:
            lower, change = self._ends(common, segment)
            return self._linear_rows(segment, first, lower, change, dtype)
        variances = self._node_errors.between_rows(self._along_x, segment.lower)
        return self._quadratic_rows(segment, first, variances, dtype)

    @staticmethod
    def _linear_rows(
        segment: _Segment,
        first: int,
        lower: np.ndarray,
        change: np.ndarray,
        dtype: np.dtype,
    ) -> Iterator[np.ndarray]:
        lower, change = lower.astype(dtype), change.astype(dtype)
        row = np.empty(lower.size, dtype)
        for fraction in segment.fractions(first):
            np.multiply(change, dtype.type(fraction), out=row)
            row += lower
            yield np.square(row, out=row)

    @staticmethod
    def _quadratic_rows(
        segment: _Segment, first: int, variances: np.ndarray, dtype: np.dtype
    ) -> Iterator[np.ndarray]:
        lower, shared, upper = variances.astype(dtype)
        row, part = np.empty((2, lower.size), dtype)
        for fraction in segment.fractions(first):
            np.multiply(lower, dtype.type((1 - fraction) ** 2), out=row)
            row += np.multiply(shared, dtype.type(fraction * (1 - fraction)), out=part)
            row += np.multiply(upper, dtype.type(fraction**2), out=part)
            yield row

    def _ends(
        self, nodes: np.ndarray, segment: _Segment
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower row of cells of a segment, and its change to the upper."""
        lower = self._expand(nodes, segment.lower)
        return lower, self._expand(nodes, segment.upper) - lower

    def _expand(self, nodes: np.ndarray, cell: int) -> np.ndarray:
        """Interpolate one row of cells to the columns of the image."""
        return self._along_x.along(nodes[:, cell])


def _stencil(grid: MapGrid, axis: int, position: np.ndarray, method: str) -> Stencil:
    if method == METHOD:
        return grid.stretched(axis, position)
    return grid.stencil(axis, position, method)


def uncalibrated_rows(
    zpmap: ZeroPointMap,
    origin: tuple[float, float],
    shape: tuple[int, ...],
    uncalibrated: str,
) -> Iterator[tuple[slice, np.ndarray]]:
    """
    Yield the pixels of an image to mask as uncalibrated.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap`
    origin : tuple of float
        0-based pixel coordinates x, y of the image's first pixel on the grid.
    shape : tuple of int
        The shape of the image.
    uncalibrated : {"mask", "fill", "raise"}
        How pixels are treated whose cell is empty and touches no cell with
        stars.

    Yields
    ------
    rows : slice
        Rows of the image.
    columns : 1D `~numpy.ndarray` of bool
        Which pixels of each of these rows are uncalibrated.

    Raises
    ------
    MapMismatchError
        If pixels are uncalibrated and ``uncalibrated`` is ``"raise"``.
    """
    alone = ~zpmap.reachable
    if uncalibrated == "fill" or not alone.any():
        return
    cell_x, cell_y = (
        zpmap.grid.stencil(axis, np.arange(length) + origin[axis], "nearest").index[0]
        for axis, length in enumerate(reversed(shape))
    )
    for cell in np.unique(cell_y):
        columns = alone[cell_x, cell]
        if not columns.any():
            continue
        start, stop = np.searchsorted(cell_y, [cell, cell + 1]).tolist()
        if uncalibrated == "raise":
            msg = (
                f"pixels of the image, in rows {start} to {stop - 1} and possibly "
                f"others, are far from any cell with stars of {zpmap.name}: use "
                'uncalibrated="mask" or "fill" to accept them'
            )
            raise MapMismatchError(msg)
        yield slice(start, stop), columns
