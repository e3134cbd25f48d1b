# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Model lookup tables of pixel displacements, and invert them."""

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
from astropy import units as u
from astropy.modeling import Model
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from ks4_ccd.exceptions import GeometryError, KS4Warning, MapFormatError, one_of

__all__ = ["InverseLookupDistortion", "LookupDistortion", "undo"]

_Floats = NDArray[np.float64]
# From 1D arrays x and y to their displacements.
_Displacement = Callable[[_Floats, _Floats], Sequence[_Floats]]


class _LookupModel(Model):
    """The tables of both directions, and the conversion of positions."""

    n_inputs = 2
    n_outputs = 2
    _separable = False
    # Without these, astropy interprets the annotations of `evaluate` as units.
    input_units = None
    return_units = None

    def __init__(
        self,
        dx: ArrayLike,
        dy: ArrayLike,
        *,
        step: float | Sequence[float],
        first: Sequence[float] = (0.0, 0.0),
        **kwargs: object,
    ) -> None:
        self._dx = _checked_table("dx", dx)
        self._dy = _checked_table("dy", dy)
        if self._dx.shape != self._dy.shape:
            msg = f"dx has the shape {self._dx.shape}, dy {self._dy.shape}"
            raise GeometryError(msg)
        self._step = _checked_pair("step", step)
        self._first = _checked_pair("first", first)
        if min(self._step) <= 0:
            msg = f"step must be positive, got {self._step}"
            raise GeometryError(msg)
        super().__init__(**kwargs)
        self.inputs = ("x", "y")
        self.outputs = ("x", "y")

    @property
    def dx(self) -> _Floats:
        """The displacements along x in pixels, indexed ``[row, column]``."""
        return self._dx

    @property
    def dy(self) -> _Floats:
        """The displacements along y in pixels, indexed ``[row, column]``."""
        return self._dy

    @property
    def step(self) -> tuple[float, float]:
        """The distance between nodes along x and y, in pixels."""
        return self._step

    @property
    def first(self) -> tuple[float, float]:
        """The 0-based pixel position ``(x, y)`` of the node ``[0, 0]``."""
        return self._first

    @property
    def uses_quantity(self) -> bool:
        """`False`: plain numbers are pixels (a model without parameters)."""
        return False

    @cached_property
    def _displacement(self) -> "_BilinearTable":
        return _BilinearTable(self._dx, self._dy, self._step, self._first)

    @cached_property
    def largest_gradient(self) -> float:
        """
        The largest gradient of the displacement, in pixels per pixel.

        The distortion can be inverted everywhere if it is below 1.
        """
        gradient = 0.0
        for table in (self._dx, self._dy):
            along_y, along_x = (
                np.abs(np.diff(table, axis=axis)) / self._step[1 - axis]
                for axis in (0, 1)
            )
            # The gradient in a cell is largest on one of its edges.
            along_x = np.pad(
                along_x, ((0, 1), (0, 1)), mode="edge" if along_x.size else "constant"
            )
            along_y = np.pad(
                along_y, ((0, 1), (0, 1)), mode="edge" if along_y.size else "constant"
            )
            edge_x = np.maximum(along_x[:-1], along_x[1:])
            edge_y = np.maximum(along_y[:, :-1], along_y[:, 1:])
            gradient = max(gradient, float((edge_x + edge_y).max()))
        return gradient

    def _convert(self, convert: Callable[..., Any], x: Any, y: Any) -> list[Any]:
        """Apply a function of 1D arrays to numbers, arrays or quantities."""
        unit = x.unit if isinstance(x, u.Quantity) else None
        if unit is not None:
            x, y = (u.Quantity(p).to_value(u.pix) for p in (x, y))
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        results = convert(self._displacement, x.ravel(), y.ravel())
        results = [result.reshape(x.shape) for result in results]
        return results if unit is None else [result * u.pix for result in results]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_displacement", None)
        return state


def _checked_table(name: str, table: Any) -> _Floats:
    if hasattr(table, "unit") or np.asarray(table).dtype.kind not in "iuf":
        found = getattr(table, "unit", None) or np.asarray(table).dtype
        msg = f"{name} must be real numbers in pixels, without a unit, got {found}"
        raise MapFormatError(msg)
    table = np.array(table, dtype=float, copy=True, order="C")
    if table.ndim != 2 or table.size == 0:
        msg = f"{name} must be a 2D table [row, column], got shape {table.shape}"
        raise GeometryError(msg)
    bad = ~np.isfinite(table)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        msg = (
            f"{name} must be finite, got {table[row, column]} at the node "
            f"[{row}, {column}] ({np.count_nonzero(bad)} such nodes in total)"
        )
        raise MapFormatError(msg)
    table.flags.writeable = False
    return table


def _checked_pair(name: str, value: Any) -> tuple[float, float]:
    try:
        # A list of one number is more likely incomplete than meant for both axes.
        value = (value, value) if np.ndim(value) == 0 else value
        first, second = (float(v) for v in value)
    except (TypeError, ValueError):
        first = second = np.nan
    if not np.isfinite([first, second]).all():
        msg = f"{name} must be two finite numbers, along x and y, got {value!r}"
        raise GeometryError(msg)
    return first, second


class LookupDistortion(_LookupModel):
    """
    Add displacements from two lookup tables to pixel coordinates.

    Between nodes the displacements are interpolated bilinearly; beyond the
    outermost nodes they are constant. These are the rules of the FITS distortion
    paper for lookup tables, as astropy applies them.

    Parameters
    ----------
    dx, dy : 2D array-like
        The displacements at the nodes, in pixels, indexed ``[row, column]``
        like an image; finite.
    step : float or tuple of float
        The distance between nodes along x and y, in pixels.
    first : tuple of float, optional
        The 0-based pixel position ``(x, y)`` of the node ``[0, 0]``.
    **kwargs
        Passed to `~astropy.modeling.Model`.

    Raises
    ------
    MapFormatError
        If the value at a node is not finite, or not a real number without a unit.
    GeometryError
        If the tables are not 2D or have different shapes, ``step`` or ``first`` is
        not finite, or ``step`` is not positive.

    Notes
    -----
    Positions are 0-based pixel coordinates: numbers, arrays, or quantities
    in pixels. The inverse is a model as well. It converges to 1e-10 pixels
    where the gradient of the tables is below one pixel per pixel (see
    ``largest_gradient``). Positions for which it does not converge are NaN,
    and a warning is issued.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd import LookupDistortion
    >>> dx = np.array([[0.0, 0.2], [0.0, 0.2]])
    >>> distortion = LookupDistortion(dx, np.zeros((2, 2)), step=100, first=(50, 50))
    >>> x, y = distortion([50.0, 100.0, 999.0], 60.0)
    >>> x
    array([ 50. , 100.1, 999.2])
    >>> distortion.inverse(x, y)[0]
    array([ 50., 100., 999.])
    """

    @classmethod
    def from_wcs(cls, wcs: WCS, tables: str = "cpdis") -> Self:
        """
        Return the lookup tables of a FITS WCS as a model.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`
        tables : {"cpdis", "det2im"}, optional
            The prior distortions (HST's NPOL), or the detector corrections
            (HST's D2IM). A missing table of one axis is assumed to be zero.

        Returns
        -------
        distortion : `LookupDistortion`

        Raises
        ------
        GeometryError
            If the WCS has no such tables, or the two have different nodes.
        OptionError
            If ``tables`` is not one of the allowed values.
        """
        one_of("tables", tables, ("cpdis", "det2im"))
        found = [getattr(wcs, f"{tables}{axis}") for axis in (1, 2)]
        present = [table for table in found if table is not None]
        if not present:
            msg = f"the WCS has no lookup tables {tables}1 and {tables}2"
            raise GeometryError(msg)
        grids = [
            (t.data.shape, *(tuple(p) for p in (t.crpix, t.crval, t.cdelt)))
            for t in present
        ]
        if grids[0] != grids[-1]:
            msg = (
                f"{tables}1 and {tables}2 must have the same nodes (shape, crpix, "
                f"crval, cdelt), got {grids[0]} and {grids[1]}"
            )
            raise GeometryError(msg)
        shape, crpix, crval, step = grids[0]
        first = [
            v - 1 + (1 - p) * s for v, p, s in zip(crval, crpix, step, strict=True)
        ]
        dx, dy = (np.zeros(shape) if t is None else t.data for t in found)
        return cls(dx, dy, step=step, first=first)

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> list[_Floats]:
        """Return displaced positions."""
        return self._convert(_apply, x, y)

    @property
    def inverse(self) -> "InverseLookupDistortion":
        """The model that removes the displacements."""
        return InverseLookupDistortion(
            self._dx, self._dy, step=self._step, first=self._first
        )


class InverseLookupDistortion(_LookupModel):
    """
    The inverse of a `LookupDistortion` with the same parameters.

    Parameters
    ----------
    dx, dy : 2D array-like
        The displacements of the distortion to invert, in pixels.
    step : float or tuple of float
        The distance between nodes along x and y, in pixels.
    first : tuple of float, optional
        The 0-based pixel position ``(x, y)`` of the node ``[0, 0]``.
    **kwargs
        Passed to `~astropy.modeling.Model`.

    Warns
    -----
    KS4Warning
        At a call, if the inversion does not converge for some positions; they are
        NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd import LookupDistortion
    >>> distortion = LookupDistortion(np.full((2, 2), 0.5), np.zeros((2, 2)), step=10)
    >>> print(distortion.inverse(10.0, 20.0))
    (9.5, 20.0)
    """

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> list[_Floats]:
        """Return the positions that the distortion maps onto the given ones."""
        convert = partial(undo, gradient=self.largest_gradient)
        found = self._convert(convert, x, y)
        lost = np.isfinite(x) & np.isfinite(y) & ~np.isfinite(found[0])
        if lost.any():
            msg = (
                "the inverse distortion does not converge for "
                f"{np.count_nonzero(lost)} of {lost.size} points, where the "
                "displacement is too steep: their coordinates are NaN"
            )
            warnings.warn(msg, KS4Warning, stacklevel=2)
        return found

    @property
    def inverse(self) -> LookupDistortion:
        """The `LookupDistortion`."""
        return LookupDistortion(self._dx, self._dy, step=self._step, first=self._first)


# Points that are processed at a time: their arrays stay in the cache.
_CHUNK = 4096
_TOLERANCE = 1e-11  # pixels
_MAX_ITERATIONS = 500


class _BilinearTable:
    """
    Interpolate two tables of displacements.

    Between nodes the interpolation is bilinear; beyond the outermost nodes the
    values are constant, as in astropy's lookup tables.

    Parameters
    ----------
    dx, dy : 2D `~numpy.ndarray`
        The displacements in pixels, indexed ``[row, column]``.
    step : tuple of float
        The distance between nodes along x and y, in pixels.
    first : tuple of float
        The 0-based pixel position ``(x, y)`` of the node ``[0, 0]``.
    """

    def __init__(
        self,
        dx: _Floats,
        dy: _Floats,
        step: tuple[float, float],
        first: tuple[float, float],
    ) -> None:
        self._step, self._first = step, first
        rows, columns = dx.shape
        self._last = columns - 1, rows - 1
        self._columns = columns
        # For each cell the coefficients of 1, u, v and u * v, of dx, then of dy. A
        # padded row and column keep the values beyond the last nodes constant.
        coefficients = []
        for table in (dx, dy):
            padded = np.pad(table, ((0, 1), (0, 1)), mode="edge")
            here, right = padded[:-1, :-1], padded[:-1, 1:]
            above, across = padded[1:, :-1], padded[1:, 1:]
            cross = across - above - right + here
            coefficients += [here, right - here, above - here, cross]
        self._coefficients = np.stack(coefficients, axis=-1).reshape(-1, 8)

    def __call__(self, x: _Floats, y: _Floats) -> list[_Floats]:
        """Return the displacements at 1D arrays of positions, NaN at NaN."""
        u = self._node(x, 0)
        v = self._node(y, 1)
        with np.errstate(invalid="ignore"):
            # NaN is converted to some integer, but its weights remain NaN.
            column, row = u.astype(np.intp), v.astype(np.intp)
        u -= column
        v -= row
        row *= self._columns
        row += column
        cell = self._coefficients.take(row, axis=0, mode="clip")
        displacements = []
        for c in (0, 4):
            total = cell[:, c + 3] * v
            total += cell[:, c + 1]
            total *= u
            total += cell[:, c + 2] * v
            total += cell[:, c]
            displacements.append(total)
        return displacements

    def _node(self, position: _Floats, axis: int) -> _Floats:
        node = position - self._first[axis]
        node *= 1 / self._step[axis]
        return np.clip(node, 0, self._last[axis], out=node)


def _apply(
    displacement: _Displacement, x: _Floats, y: _Floats
) -> tuple[_Floats, _Floats]:
    """Return 1D arrays of positions with their displacements added."""
    new_x, new_y = np.empty_like(x), np.empty_like(y)
    for start in range(0, x.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        dx, dy = displacement(x[part], y[part])
        np.add(x[part], dx, out=new_x[part])
        np.add(y[part], dy, out=new_y[part])
    return new_x, new_y


def undo(
    displacement: _Displacement, x: _Floats, y: _Floats, gradient: float = 0.5
) -> tuple[_Floats, _Floats]:
    """
    Return the positions that a displacement maps onto the given ones.

    Parameters
    ----------
    displacement : callable
        From 1D arrays x and y to their displacements. Where its gradient is below
        one pixel per pixel there is exactly one such position, and the iteration
        ``p = x - displacement(p)`` converges to it.
    x, y : 1D `~numpy.ndarray`
        In pixels.
    gradient : float, optional
        An upper limit of the gradient in pixels per pixel, if known. Each iteration
        reduces the error at least by this factor.

    Returns
    -------
    x, y : 1D `~numpy.ndarray`
        NaN where the iteration did not converge to 1e-10 pixels.
    """
    found = np.empty_like(x), np.empty_like(y)
    # After a change c the error is at most c * gradient / (1 - gradient).
    gradient = min(max(gradient, 1e-3), 0.5)
    enough = _TOLERANCE * (1 - gradient) / gradient
    # Polynomials far outside their image overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, x.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            found[0][part], found[1][part] = _undo(
                displacement, x[part], y[part], enough
            )
    return found


def _undo(
    displacement: _Displacement, x: _Floats, y: _Floats, enough: float
) -> tuple[_Floats, _Floats]:
    """Iterate on the positions of one chunk that have not converged."""
    tolerance = enough + 8 * np.finfo(float).eps * (np.abs(x) + np.abs(y))
    found_x, found_y = np.array(x, float), np.array(y, float)
    # Positions that are not finite have no displacement.
    active = np.flatnonzero(np.isfinite(tolerance))
    whole = active.size == x.size
    for _ in range(_MAX_ITERATIONS):
        here = slice(None) if whole else active
        dx, dy = displacement(found_x[here], found_y[here])
        new_x, new_y = x[here] - dx, y[here] - dy
        change = np.maximum(
            np.abs(new_x - found_x[here]), np.abs(new_y - found_y[here])
        )
        found_x[here], found_y[here] = new_x, new_y
        # Positions that became NaN stay NaN.
        moving = change > tolerance[here]
        if not moving.any():
            break
        if np.count_nonzero(moving) < 0.5 * moving.size:
            active, whole = active[moving], False
    else:
        lost = active[moving] if moving.size == active.size else active
        found_x[lost] = np.nan
    lost = ~(np.isfinite(found_x) & np.isfinite(found_y))
    found_x[lost] = found_y[lost] = np.nan
    return found_x, found_y
