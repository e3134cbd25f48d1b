# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all calibration maps share: arrays, errors and star counts on cells."""

import copy
import math

import numpy as np

from ks4_ccd._arguments import as_folder, finite, one_of
from ks4_ccd._cell_arrays import checked_arrays
from ks4_ccd._map_files import write_map
from ks4_ccd._neighbours import gaussian_sum, harmonic_fill, touches
from ks4_ccd.exceptions import (
    GeometryError,
    KS4Error,
    MapFormatError,
    MapMismatchError,
)
from ks4_ccd.grid import MapGrid
from ks4_ccd.release.names import FAMILIES, MapKey

__all__ = ["ERROR_KINDS", "CalibrationMap"]

ERROR_KINDS = ("scatter", "median")

# The standard error of a median over that of a mean, for a normal sample.
_MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)


class CalibrationMap:
    """
    What all maps share: cells with one or more components, and their stars.

    A subclass names the components, which become attributes, and calls
    `_set_arrays` with them.

    Attributes
    ----------
    error : 2D `~numpy.ndarray` or `None`
        The standard deviation of the stars of a cell about its components,
        in their unit. 0 means unknown.
    count : 2D `~numpy.ndarray` or `None`
        The number of stars in a cell; a cell with 0 is empty.
    valid : 2D `~numpy.ndarray` of bool
        Which cells are not empty.
    grid : `~ks4_ccd.MapGrid`
        Where the cells lie.
    key : `~ks4_ccd.release.names.MapKey` or `None`
        Which field, band, mode and aperture the map is of.
    source : str or `None`
        The file that the map came from.
    """

    components = ()
    unit = ""
    empty_value = 0.0
    family = None

    def _set_arrays(self, components, error, count, *, grid, key, source):
        for name, value, kind in (("grid", grid, MapGrid), ("key", key, MapKey)):
            if not isinstance(value, kind) and (name == "grid" or value is not None):
                msg = f"{name} must be a {kind.__name__}, got {type(value).__name__}"
                raise KS4Error(msg)
        if key is not None and key.kind != FAMILIES[self.family][0]:
            msg = f"the key of {key} is not that of a {type(self).__name__}"
            raise MapMismatchError(msg)
        components, self.error, self.count, self.valid = checked_arrays(
            components, error, count, grid.shape
        )
        for name, array in components.items():
            setattr(self, name, array)
        self.grid = grid
        self.key = key
        self.source = source
        self.valid.flags.writeable = False
        # What was done to the map since it was made.
        self._steps = ()

    def _component_arrays(self):
        return {name: getattr(self, name) for name in self.components}

    def marked(self):
        """
        Return the components, with the release's mark in cells without a value.

        Returns
        -------
        components : dict
            A 2D `~numpy.ndarray` by the name of each component, finite: NaN
            is replaced by the value that the release stores in empty cells.
        """
        return {
            name: np.where(np.isnan(array), self.empty_value, array)
            for name, array in self._component_arrays().items()
        }

    def __repr__(self):
        columns, rows = self.grid.shape
        what = f"{self.key}, " if self.key is not None else ""
        return (
            f"<{type(self).__name__}: {what}{columns} x {rows} cells, "
            f"{np.count_nonzero(self.valid)} with stars>"
        )

    @property
    def name(self):
        """The file name of the first array, or what is known, and later steps."""
        first = self.key.filename if self.key is not None else self.source or "map"
        return " ".join([first, *self._steps])

    def _replace(self, step, **changes):
        """Return a copy with some arrays changed; it has the same empty cells."""
        new = copy.copy(self)
        new._steps = (*self._steps, step)
        for name, value in changes.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            setattr(new, name, value)
        return new

    def _require_stars(self):
        if not self.valid.any():
            msg = f"{self.source or self!r} has no cell with stars: nothing to apply"
            raise MapFormatError(msg)

    @property
    def reachable(self):
        """Which cells are valid or touch a valid one, diagonals included."""
        return touches(self.valid)

    def _filled_components(self):
        self._require_stars()
        return {
            name: harmonic_fill(array, self.valid)
            for name, array in self._component_arrays().items()
        }

    def _interpolate(self, nodes, x, y, method, power=1):
        try:
            x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        except (TypeError, ValueError) as error:
            msg = f"x and y must be numbers that broadcast together: {error}"
            raise GeometryError(msg) from error
        usable = np.isfinite(x) & np.isfinite(y)
        result = np.full(x.shape, np.nan)
        along_x = self.grid.stencil(0, x[usable], method)
        along_y = self.grid.stencil(1, y[usable], method)
        total = 0.0
        for i, weight_x in _corners(along_x):
            for j, weight_y in _corners(along_y):
                total = total + nodes[i, j] * (weight_x * weight_y) ** power
        result[usable] = total
        return result if result.ndim else float(result)

    def error_at(self, x, y, *, method="bilinear", error_kind="scatter"):
        """
        Return the error of the map at positions on the image.

        The error is common to all pixels of a cell: add it once to the error
        of an aperture sum, not once a pixel.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, as in `at`.
        method : {"bilinear", "nearest", "dr1"}
            How `at` found the value.
        error_kind : {"scatter", "median"}
            ``"scatter"`` is the standard deviation of single stars, as the
            release quotes it, a property of the place that is interpolated
            as such. ``"median"`` is the standard error of the cells'
            medians, ``sqrt(pi / 2) * scatter / sqrt(count)``; cells being
            independent, it is combined in quadrature with the weights of the
            interpolation (a sum for a map whose neighbours share stars: one
            that was smoothed, or built from a surface, as counts that are no
            whole numbers tell).

        Returns
        -------
        error : float or `~numpy.ndarray`
            In the unit of the map. Where a cell's error is unknown (fewer
            than two stars), the median scatter of the map stands in.

        Raises
        ------
        KS4Error
            If the map has no errors, or no counts with
            ``error_kind="median"``.
        """
        error = self.cell_error(error_kind)
        if self.errors_add(error_kind):
            return self._interpolate(error, x, y, method)
        return np.sqrt(self._interpolate(error**2, x, y, method, power=2))

    def errors_add(self, error_kind):
        """Return whether errors of neighbouring cells add, or their squares do."""
        if error_kind == "scatter" or self.count is None:
            return True
        # No whole numbers: cells share stars, and each has a part of them.
        return bool(np.any(self.count % 1))

    def cell_error(self, error_kind="scatter"):
        """
        Return the error of every cell, the unknown ones filled in.

        Parameters
        ----------
        error_kind : {"scatter", "median"}
            As in `error_at`.

        Returns
        -------
        error : 2D `~numpy.ndarray`
            In the unit of the map, indexed ``[x_bin, y_bin]``, positive.
        """
        one_of("error_kind", error_kind, ERROR_KINDS)
        needed = {"error": self.error}
        if error_kind == "median":
            needed["count"] = self.count
        for part, array in needed.items():
            if array is None:
                msg = (
                    f"{self.source or self!r} has no {part} map, which "
                    f'error_kind="{error_kind}" needs: give its {part} array, or '
                    'leave the error of the map out (zp_error="ignore")'
                )
                raise KS4Error(msg)
        known = self._error_known()
        if not known.any():
            msg = f"{self.source or self!r} has no cell whose error is known"
            raise MapFormatError(msg)
        error = np.full(known.shape, np.median(self.error[known]))
        error[known] = self.error[known]
        if error_kind == "median":
            error[known] *= _MEDIAN_OVER_MEAN / np.sqrt(self.count[known])
        return error

    def _error_known(self):
        known = self.valid & (self.error > 0)
        if self.count is None:
            return known
        # A count that is not whole is no count of one star: see `errors_add`.
        return known & ((self.count >= 2) | (self.count % 1 > 0))

    def filled(self):
        """
        Return a copy of the map whose empty cells have values.

        They are filled from their neighbours by the smoothest surface
        through the cells with stars. `valid` and `count` still tell which
        cells were empty; the error of a filled cell is unknown.

        Returns
        -------
        filled : same class
        """
        return self._replace("filled()", **self._filled_components())

    def smoothed(self, scale=0.8):
        """
        Return a copy of the map, averaged over neighbouring cells.

        Cells are averaged with Gaussian weights times their star counts, so
        that a cell with few stars leans on its neighbours. Empty cells stay
        empty.

        Parameters
        ----------
        scale : float, optional
            The standard deviation of the Gaussian, in cells.

        Returns
        -------
        smoothed : same class
            With the scatter pooled in the same way, and as ``count`` the
            effective number of stars in the average.

        Raises
        ------
        KS4Error
            If ``scale`` is not a positive number.
        """
        if finite("scale", scale) <= 0:
            msg = f"scale must be a positive number of cells, got {scale!r}"
            raise KS4Error(msg)
        self._require_stars()
        stars = self.valid.astype(float) if self.count is None else self.count
        weight = np.where(self.valid, gaussian_sum(stars, scale), 1)
        changes = {}
        for name, array in self._component_arrays().items():
            mean = gaussian_sum(stars * np.where(self.valid, array, 0), scale) / weight
            changes[name] = np.where(self.valid, mean, array)
        if self.error is not None:
            known = stars * self._error_known()
            weight_known = gaussian_sum(known, scale)
            pooled = gaussian_sum(known * self.error**2, scale)
            pooled /= np.where(weight_known > 0, weight_known, 1)
            changes["error"] = np.where(self.valid, np.sqrt(pooled), 0)
        if self.count is not None:
            square = np.where(self.valid, gaussian_sum(stars, scale, power=2), 1)
            changes["count"] = np.where(self.valid, weight**2 / square, 0)
        return self._replace(f"smoothed({scale:g})", **changes)

    def save(self, path):
        """
        Write the map as .npy files named like those of the release.

        Parameters
        ----------
        path : path-like
            The folder to write to, made if it is not there.

        Returns
        -------
        paths : list of `~pathlib.Path`
            The files: each component, and error, count and the edges of the
            grid where the map has them.

        Raises
        ------
        KS4Error
            If the map has no ``key`` to make file names from, or the folder
            cannot be written.
        """
        if self.key is None:
            msg = "a map without a key cannot be saved: its key makes the file names"
            raise KS4Error(msg)
        return write_map(self, as_folder(path))

    def plot(self, ax=None, **options):
        """
        Draw the map in the orientation of the image.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            The axes to draw in; by default the current axes of pyplot.
        **options
            Passed to `~ks4_ccd.plotting.plot_map`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
        """
        from ks4_ccd.plotting import plot_map

        return plot_map(self, ax, **options)


def _corners(stencil):
    return (stencil.lower, 1 - stencil.fraction), (stencil.upper, stencil.fraction)
