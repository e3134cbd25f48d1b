# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Lookup tables of pixel displacements as models of astropy."""

import warnings
from functools import cached_property, partial

import numpy as np
from astropy import units as u
from astropy.modeling import Model

from ks4_ccd.astrometry import distortion as _displacement
from ks4_ccd.exceptions import GeometryError, KS4Warning, MapFormatError

__all__ = ["BilinearTable", "InverseLookupDistortion", "LookupDistortion", "undo"]


class _LookupModel(Model):
    """The base of both directions: the tables, and calls with any positions."""

    n_inputs = 2
    n_outputs = 2
    _separable = False

    def __init__(self, dx, dy, *, step, first=(0.0, 0.0), **kwargs):
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
    def dx(self):
        """The displacements along x in pixels, indexed ``[row, column]``."""
        return self._dx

    @property
    def dy(self):
        """The displacements along y in pixels, indexed ``[row, column]``."""
        return self._dy

    @property
    def step(self):
        """The distance of nodes along x and y, in pixels."""
        return self._step

    @property
    def first(self):
        """0-based pixel coordinates x, y of the node ``[0, 0]``."""
        return self._first

    @property
    def uses_quantity(self):
        """`False`: plain numbers are pixels (a model without parameters)."""
        return False

    @cached_property
    def _displacement(self):
        return _displacement.BilinearTable(self._dx, self._dy, self._step, self._first)

    @cached_property
    def largest_gradient(self):
        """
        The largest change of the displacement, in pixels per pixel.

        Below 1 the distortion can be inverted everywhere.
        """
        gradient = 0.0
        for table in (self._dx, self._dy):
            along_y, along_x = (
                np.abs(np.diff(table, axis=axis)) / self._step[1 - axis]
                for axis in (0, 1)
            )
            # A cell's gradient is largest on one of its borders.
            along_x = np.pad(
                along_x, ((0, 1), (0, 1)), mode="edge" if along_x.size else "constant"
            )
            along_y = np.pad(
                along_y, ((0, 1), (0, 1)), mode="edge" if along_y.size else "constant"
            )
            border_x = np.maximum(along_x[:-1], along_x[1:])
            border_y = np.maximum(along_y[:, :-1], along_y[:, 1:])
            gradient = max(gradient, float((border_x + border_y).max()))
        return gradient

    def _convert(self, convert, x, y):
        """Call a function of 1D arrays with whatever kind of positions came."""
        unit = x.unit if isinstance(x, u.Quantity) else None
        if unit is not None:
            x, y = (u.Quantity(p).to_value(u.pix) for p in (x, y))
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        results = convert(self._displacement, x.ravel(), y.ravel())
        results = [result.reshape(x.shape) for result in results]
        return results if unit is None else [result * u.pix for result in results]

    def __getstate__(self):
        state = self.__dict__.copy()
        state.pop("_displacement", None)
        return state


def _checked_table(name, table):
    if hasattr(table, "unit") or np.asarray(table).dtype.kind not in "iuf":
        found = getattr(table, "unit", None) or np.asarray(table).dtype
        msg = f"{name} must be real numbers, in pixels without a unit, got {found}"
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
            f"[{row}, {column}] and {np.count_nonzero(bad)} such nodes in all"
        )
        raise MapFormatError(msg)
    table.flags.writeable = False
    return table


def _checked_pair(name, value):
    try:
        # One number in a list is more likely one that is missing than two.
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
    Pixel coordinates with displacements from two tables added.

    Between nodes the tables are bilinear; beyond the outermost nodes they
    keep their values. These are the rules of the FITS distortion paper's
    lookup tables as astropy applies them.

    Parameters
    ----------
    dx, dy : 2D array-like
        The displacements at the nodes, in pixels, indexed ``[row, column]``
        like an image; finite.
    step : float or tuple of float
        The distance of nodes along x and y, in pixels.
    first : tuple of float, optional
        0-based pixel coordinates ``(x, y)`` of the node ``[0, 0]``.
    **kwargs
        Passed to `~astropy.modeling.Model`.

    Raises
    ------
    MapFormatError
        If a node is not finite, or not a real number without a unit.
    GeometryError
        If the tables are not 2D or of different shapes, or a number is not
        finite or not positive.

    Notes
    -----
    Positions are 0-based pixel coordinates: numbers, arrays, or quantities
    in pixels. The inverse is a model, too. It converges to 1e-10 pixels
    where the tables change by less than a pixel per pixel (see
    ``largest_gradient``); positions for which it does not come back as NaN,
    with one warning.

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
    def from_wcs(cls, wcs, tables="cpdis"):
        """
        Return the lookup tables of a FITS WCS as a model.

        Parameters
        ----------
        wcs : `~astropy.wcs.WCS`
        tables : {"cpdis", "det2im"}, optional
            Which tables: the prior distortions (HST's NPOL), or the
            corrections of the detector (HST's D2IM). One that is missing is
            zero.

        Returns
        -------
        distortion : `LookupDistortion`

        Raises
        ------
        GeometryError
            If there are none, or the two are not on the same nodes.
        """
        found = [getattr(wcs, f"{tables}{axis}") for axis in (1, 2)]
        there = [table for table in found if table is not None]
        if not there:
            msg = f"the WCS has no lookup tables {tables}1 and {tables}2"
            raise GeometryError(msg)
        grids = [
            (t.data.shape, *(tuple(p) for p in (t.crpix, t.crval, t.cdelt)))
            for t in there
        ]
        if grids[0] != grids[-1]:
            msg = (
                f"{tables}1 and {tables}2 are on different nodes (shape, crpix, crval, "
                f"cdelt): {grids[0]} and {grids[1]}"
            )
            raise GeometryError(msg)
        shape, crpix, crval, step = grids[0]
        first = [
            v - 1 + (1 - p) * s for v, p, s in zip(crval, crpix, step, strict=True)
        ]
        dx, dy = (np.zeros(shape) if t is None else t.data for t in found)
        return cls(dx, dy, step=step, first=first)

    def evaluate(self, x, y):
        """Return displaced positions."""
        return self._convert(_displacement.apply, x, y)

    @property
    def inverse(self):
        """The model that takes the displacements away again."""
        return InverseLookupDistortion(
            self._dx, self._dy, step=self._step, first=self._first
        )


class InverseLookupDistortion(_LookupModel):
    """
    The inverse of a `LookupDistortion`, of the same parameters.

    Parameters
    ----------
    dx, dy : 2D array-like
        The displacements of the distortion to be undone, in pixels.
    step : float or tuple of float
        The distance of nodes along x and y, in pixels.
    first : tuple of float, optional
        0-based pixel coordinates ``(x, y)`` of the node ``[0, 0]``.
    **kwargs
        Passed to `~astropy.modeling.Model`.

    Warns
    -----
    KS4Warning
        When it is called, if there are positions for which it does not
        converge; they are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd import LookupDistortion
    >>> distortion = LookupDistortion(np.full((2, 2), 0.5), np.zeros((2, 2)), step=10)
    >>> print(distortion.inverse(10.0, 20.0))
    (9.5, 20.0)
    """

    def evaluate(self, x, y):
        """Return the positions that the distortion brings to the given ones."""
        undo = partial(_displacement.undo, gradient=self.largest_gradient)
        found = self._convert(undo, x, y)
        lost = np.isfinite(x) & np.isfinite(y) & ~np.isfinite(found[0])
        if lost.any():
            msg = (
                f"no position was found for {np.count_nonzero(lost)} of {lost.size} "
                "points: the displacement is too steep there; their coordinates are NaN"
            )
            warnings.warn(msg, KS4Warning, stacklevel=2)
        return found

    @property
    def inverse(self):
        """The `LookupDistortion` again."""
        return LookupDistortion(self._dx, self._dy, step=self._step, first=self._first)


# Points that are worked on at a time: their arrays stay in the cache.
_CHUNK = 4096
_TOLERANCE = 1e-11  # pixels
_MAX_ITERATIONS = 500


class BilinearTable:
    """
    Two tables of displacements, read at any positions.

    Between nodes both are bilinear; beyond the outermost nodes they keep
    their values, as astropy's lookup tables do.

    Parameters
    ----------
    dx, dy : 2D `~numpy.ndarray`
        The displacements in pixels, indexed ``[row, column]``.
    step : tuple of float
        The distance of nodes along x and y, in pixels.
    first : tuple of float
        0-based pixel coordinates x, y of the node ``[0, 0]``.
    """

    def __init__(self, dx, dy, step, first):
        self._step, self._first = step, first
        rows, columns = dx.shape
        self._last = columns - 1, rows - 1
        self._columns = columns
        # By cell, the coefficients of 1, u, v and u * v for dx, then for dy.
        # Beyond the last row and column there is nothing new.
        coefficients = []
        for table in (dx, dy):
            padded = np.pad(table, ((0, 1), (0, 1)), mode="edge")
            here, right = padded[:-1, :-1], padded[:-1, 1:]
            above, across = padded[1:, :-1], padded[1:, 1:]
            cross = across - above - right + here
            coefficients += [here, right - here, above - here, cross]
        self._coefficients = np.stack(coefficients, axis=-1).reshape(-1, 8)

    def __call__(self, x, y):
        """Return the displacements at 1D arrays of positions, NaN at NaN."""
        u = self._node(x, 0)
        v = self._node(y, 1)
        with np.errstate(invalid="ignore"):
            # What NaN becomes here does not matter: the weights stay NaN.
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

    def _node(self, position, axis):
        node = position - self._first[axis]
        node *= 1 / self._step[axis]
        return np.clip(node, 0, self._last[axis], out=node)


def apply(displacement, x, y):
    """
    Return positions with their displacements added.

    Parameters
    ----------
    displacement : callable
        Takes 1D arrays x and y, returns their displacements.
    x, y : 1D `~numpy.ndarray`

    Returns
    -------
    x, y : 1D `~numpy.ndarray`
    """
    new_x, new_y = np.empty_like(x), np.empty_like(y)
    for start in range(0, x.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        dx, dy = displacement(x[part], y[part])
        np.add(x[part], dx, out=new_x[part])
        np.add(y[part], dy, out=new_y[part])
    return new_x, new_y


def undo(displacement, x, y, gradient=0.5):
    """
    Return the positions that a displacement brings to the given ones.

    Parameters
    ----------
    displacement : callable
        As in `apply`. Where it changes by less than a pixel per pixel there
        is one such position, and the iteration ``p = x - displacement(p)``
        converges to it.
    x, y : 1D `~numpy.ndarray`
    gradient : float, optional
        How much the displacement changes at most, in pixels per pixel, if it
        is known: each iteration leaves at most so much of the error.

    Returns
    -------
    x, y : 1D `~numpy.ndarray`
        NaN where the iteration did not converge to 1e-10 pixels.
    """
    found = np.empty_like(x), np.empty_like(y)
    # What is left after a change c is at most c * gradient / (1 - gradient).
    gradient = min(max(gradient, 1e-3), 0.5)
    enough = _TOLERANCE * (1 - gradient) / gradient
    # A polynomial far off its image overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, x.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            found[0][part], found[1][part] = _undo(
                displacement, x[part], y[part], enough
            )
    return found


def _undo(displacement, x, y, enough):
    """Iterate on one chunk of positions, on ever fewer of them."""
    tolerance = enough + 8 * np.finfo(float).eps * (np.abs(x) + np.abs(y))
    found_x, found_y = np.array(x, float), np.array(y, float)
    # Positions that are not finite have no displacement to undo.
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
        # Positions that became NaN stay so.
        going_on = change > tolerance[here]
        if not going_on.any():
            break
        if np.count_nonzero(going_on) < 0.5 * going_on.size:
            active, whole = active[going_on], False
    else:
        lost = active[going_on] if going_on.size == active.size else active
        found_x[lost] = np.nan
    lost = ~(np.isfinite(found_x) & np.isfinite(found_y))
    found_x[lost] = found_y[lost] = np.nan
    return found_x, found_y
