# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Lookup tables of pixel displacements as models of astropy."""

import warnings
from functools import cached_property, partial

import numpy as np
from astropy import units as u
from astropy.modeling import Model

from ks4_ccd.astrometry import _displacement
from ks4_ccd.exceptions import GeometryError, KS4Warning, MapFormatError

__all__ = ["InverseLookupDistortion", "LookupDistortion"]


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
