# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Define the base class of calibration maps: arrays on the cells of a grid."""

from dataclasses import FrozenInstanceError
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import (
    GeometryError,
    KS4Error,
    MapFormatError,
    MapMismatchError,
    OptionError,
    finite,
    one_of,
)
from ks4_ccd.files.writing import as_folder
from ks4_ccd.maps._smoothing import smoothed_cells
from ks4_ccd.maps.arrays import checked_arrays
from ks4_ccd.maps.errors import MapErrors
from ks4_ccd.maps.files import write_map
from ks4_ccd.maps.fill import harmonic_fill, touches
from ks4_ccd.maps.grid import METHODS, MapGrid
from ks4_ccd.maps.key import FAMILIES, MapKey
from ks4_ccd.maps.node_errors import NodeErrors

__all__ = ["CalibrationMap", "ValueMap"]

# The attributes of a map that identify it.
_IDENTITY = {"key", "source"}

# The cached property of `MapErrors`.
_CACHED = "_cell_errors"


class CalibrationMap(MapErrors):
    """
    Base class of calibration maps: components, errors and numbers of stars of cells.

    A subclass defines the names of its components, and calls ``_set_arrays`` with
    their arrays, which become attributes.

    Maps are immutable and their arrays read-only: `replace` returns a changed copy.
    Two maps are equal if their arrays, grid and key are, whatever their source.

    Attributes
    ----------
    error : 2D `~numpy.ndarray` or `None`
        The standard deviation (``ddof=0``) of the stars of a cell about its
        components, in their unit, as published. 0 means unknown.
    count : 2D `~numpy.ndarray` or `None`
        The number of stars in a cell; a cell with 0 is empty.
    valid : 2D `~numpy.ndarray` of bool
        Whether a cell has a value.
    grid : `~ks4_ccd.MapGrid`
        The cells of the map.
    key : `~ks4_ccd.MapKey` or `None`
        The field, band, mode and aperture of the map.
    source : str or `None`
        The file of the map.
    """

    components: tuple[str, ...] = ()
    unit: str = ""
    family: str
    grid: MapGrid
    key: MapKey | None
    source: str | None
    _options: tuple[str, ...] = ("key", "source")
    _steps: tuple[str, ...]

    def _set_arrays(
        self,
        components: dict[str, ArrayLike],
        error: ArrayLike | None,
        count: ArrayLike | None,
        *,
        grid: MapGrid,
        key: MapKey | None,
        source: str | None,
    ) -> None:
        for name, value, kind in (("grid", grid, MapGrid), ("key", key, MapKey)):
            if not isinstance(value, kind) and (name == "grid" or value is not None):
                msg = f"{name} must be a {kind.__name__}, got {type(value).__name__}"
                raise OptionError(msg)
        kind_of_map = FAMILIES[self.family][0]
        if key is not None and key.kind != kind_of_map:
            msg = (
                f"expected the key of a {kind_of_map} map for a {type(self).__name__}, "
                f"found that of the {key}"
            )
            raise MapMismatchError(msg)
        cells, scatter, stars, valid = checked_arrays(
            components, error, count, grid.shape
        )
        self._set(**cells, error=scatter, count=stars, valid=valid)
        # The steps record later changes, for the name of the map.
        self._set(grid=grid, key=key, source=source, _steps=())

    def _set(self, **attributes: object) -> None:
        """Set attributes of a map that is being made."""
        for value in attributes.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        vars(self).update(attributes)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._refuse_change(name)

    def __delattr__(self, name: str) -> NoReturn:
        self._refuse_change(name)

    def _refuse_change(self, name: str) -> NoReturn:
        kind = type(self).__name__
        msg = f"a {kind} cannot be changed"
        if name in self._argument_names:
            msg += f": make a changed copy with replace({name}=...)"
        raise FrozenInstanceError(msg)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays of copies and pickles are writeable.
        self._set(**state)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CalibrationMap) or type(self) is not type(other):
            return NotImplemented
        return all(map(_same, self._content(), other._content()))

    def __hash__(self) -> int:
        return hash((type(self), self.grid, self.key))

    def _content(self) -> tuple[object, ...]:
        """Return the attributes that are compared: all but source and name."""
        arguments = self._arguments()
        arguments.pop("source")
        own = (self.valid, self._covariance, self._shares_stars)
        return *arguments.values(), *own

    @property
    def _argument_names(self) -> tuple[str, ...]:
        return (*self.components, "error", "count", "grid", *self._options)

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor for this map."""
        return {name: getattr(self, name) for name in self._argument_names}

    def _component_arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in self.components}

    def marked(self, mark: float) -> dict[str, np.ndarray]:
        """
        Return the components with NaN replaced.

        Parameters
        ----------
        mark : float
            The value that replaces NaN.

        Returns
        -------
        components : dict
            A 2D `~numpy.ndarray` for the name of each component, finite.
        """
        return {
            name: np.where(np.isnan(array), mark, array)
            for name, array in self._component_arrays().items()
        }

    def __repr__(self) -> str:
        columns, rows = self.grid.shape
        identity = f"{self.key}, " if self.key is not None else ""
        return (
            f"<{type(self).__name__}: {identity}{columns} x {rows} cells, "
            f"{np.count_nonzero(self.valid)} with stars>"
        )

    @property
    def name(self) -> str:
        """The file name of the first array, else the source, and later changes."""
        first = self.key.filename if self.key is not None else self.source or "map"
        return " ".join([first, *self._steps])

    def replace(self, **changes: object) -> Self:
        """
        Return a changed copy of the map.

        Parameters
        ----------
        **changes
            New values of arguments of the class. They are checked as in a new
            map: NaN, or a count of 0, marks an empty cell.

        Returns
        -------
        changed : same class
            The copy, whose name lists the changes, except those of ``key`` and
            ``source``. The covariances of a smoothed map are kept, unless the
            errors, the counts, the grid or the empty cells change.

        Raises
        ------
        OptionError
            If an argument does not exist.
        KS4Error
            If a new value is not valid.

        Examples
        --------
        >>> from ks4_ccd import MapGrid, MisalignmentMap
        >>> map_ = MisalignmentMap([[0.08], [0.12]], grid=MapGrid((2, 1), 100))
        >>> map_.replace(values=map_.values + 0.01).values.ravel().tolist()
        [0.09, 0.13]
        """
        arguments = self._arguments()
        for name in changes:
            if name not in arguments:
                expected = ", ".join(arguments)
                msg = f"arguments of replace must be among {expected}, got {name!r}"
                raise OptionError(msg)
        # The empty cells of a filled map have values.
        marked = {
            name: np.where(self.valid, array, np.nan)
            for name, array in self._component_arrays().items()
        }
        new = type(self)(**(arguments | marked | changes))
        if not changes.keys() & {*self.components, "count", "grid"}:
            new._set(valid=self.valid, **self._component_arrays())
        steps = [name for name in arguments if name in changes.keys() - _IDENTITY]
        new._set(
            _steps=(*self._steps, *([f"replace({', '.join(steps)})"] if steps else []))
        )
        same_cells = np.array_equal(new.valid, self.valid) and new.grid == self.grid
        if same_cells and not changes.keys() & {"error", "count"}:
            new._set(_covariance=self._covariance, _shares_stars=self._shares_stars)
        return new

    __replace__ = replace

    def _replace(self, step: str, **changes: object) -> Self:
        """Return a copy with changed attributes and the same empty cells."""
        new = object.__new__(type(self))
        kept = {name: value for name, value in vars(self).items() if name != _CACHED}
        new._set(**(kept | changes | {"_steps": (*self._steps, step)}))
        return new

    def _require_stars(self) -> None:
        if not self.valid.any():
            msg = (
                f"{self.source or self!r} has no cell with stars; use a map with at "
                "least one"
            )
            raise MapFormatError(msg)

    @property
    def reachable(self) -> np.ndarray:
        """Whether cells are valid or adjacent to a valid one, diagonals included."""
        return touches(self.valid)

    def _filled_components(self) -> dict[str, np.ndarray]:
        self._require_stars()
        return {
            name: harmonic_fill(array, self.valid)
            for name, array in self._component_arrays().items()
        }

    def _interpolate(
        self,
        nodes: np.ndarray | NodeErrors,
        x: ArrayLike,
        y: ArrayLike,
        method: str,
    ) -> float | np.ndarray:
        _check_method(method)
        try:
            x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        except (TypeError, ValueError) as error:
            msg = f"x and y must be numbers that broadcast together: {error}"
            raise GeometryError(msg) from error
        usable = np.isfinite(x) & np.isfinite(y)
        result = np.full(x.shape, np.nan)
        along_x = self.grid.stencil(0, x[usable], method)
        along_y = self.grid.stencil(1, y[usable], method)
        nodes = nodes if isinstance(nodes, NodeErrors) else NodeErrors(nodes)
        result[usable] = nodes.at(along_x, along_y)
        return result if result.ndim else float(result)

    def filled(self) -> Self:
        """
        Return a copy of the map with values in empty cells.

        Empty cells are filled with the smoothest surface through the cells with
        stars. ``valid`` and ``count`` still mark the filled cells. Their uncertainty,
        returned by `error_at`, is not smaller than that of the cells around them.

        Returns
        -------
        filled : same class
        """
        return self._replace("filled()", **self._filled_components())

    def smoothed(self, scale: float = 0.8) -> Self:
        """
        Return a smoothed copy of the map.

        Neighbouring cells are averaged with Gaussian weights times their star
        counts, so that the value of a cell with few stars depends mostly on its
        neighbours. Empty cells stay empty.

        Parameters
        ----------
        scale : float, optional
            The standard deviation of the Gaussian, in cells.

        Returns
        -------
        smoothed : same class
            ``error`` is the scatter of single stars used by `error_at`,
            averaged in the same way; ``count`` is the number of stars whose median
            would have the standard error of the average (in a map without errors,
            the number of stars whose mean would).

        Raises
        ------
        OptionError
            If ``scale`` is not a positive number.
        MapFormatError
            If all cells are empty.
        """
        if finite("scale", scale) <= 0:
            msg = f"scale must be a positive number of cells, got {scale!r}"
            raise OptionError(msg)
        self._require_stars()
        smoothed = smoothed_cells(
            self._component_arrays(),
            self.valid,
            self.count,
            None if self.error is None else self._cell_errors,
            scale,
            shared=self._is_surface(),
        )
        changes: dict[str, object] = dict(smoothed.components, count=smoothed.count)
        if self.error is not None:
            unknown = np.zeros(self.grid.shape)
            changes["error"] = unknown if smoothed.error is None else smoothed.error
        changes |= {"_covariance": smoothed.covariance, "_shares_stars": True}
        return self._replace(f"smoothed({scale:g})", **changes)

    def save(self, path: str | PathLike[str]) -> list[Path]:
        """
        Write the map as .npy files with names as in DR1.

        Parameters
        ----------
        path : path-like
            The folder, created if it does not exist.

        Returns
        -------
        paths : list of `~pathlib.Path`
            The files of each component, and those of error, count and the edges of
            the grid, if they exist.

        Raises
        ------
        KS4Error
            If the map has no ``key``, which determines file names, or the folder
            cannot be written.
        """
        if self.key is None:
            msg = (
                "a map without a key cannot be saved, because the key determines file "
                "names; add one with replace(key=MapKey(...))"
            )
            raise KS4Error(msg)
        return write_map(self, as_folder(path))

    def plot(
        self, ax: object = None, *, part: str = "values", **options: object
    ) -> object:
        """
        Draw the map in the orientation of the image.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            The axes to draw in; by default the current axes of pyplot.
        part : str, optional
            The array to draw: ``"values"``, ``"error"`` or ``"count"``.
        **options
            Options of `~ks4_ccd.plot_map`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
        """
        from ks4_ccd.plotting import plot_map

        # Types of matplotlib, which is optional, are not imported here.
        return plot_map(self, cast("Any", ax), part=part, **cast("Any", options))


def _same(one: object, other: object) -> bool:
    """Return whether arrays, or other attributes of maps, are equal."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return one == other


def _check_method(method: str) -> None:
    if method == "dr1":
        msg = (
            f"method must be one of {', '.join(METHODS)}, got 'dr1', which repeats the "
            'calibration of DR1: use apply_zeropoint(..., method="dr1") for an image, '
            'calibrate_catalog(..., method="dr1") for a catalog'
        )
        raise OptionError(msg)
    one_of("method", method, METHODS)


class ValueMap(CalibrationMap):
    """
    A map with one value per cell.

    Parameters
    ----------
    values : 2D array-like
        The value of each cell, indexed ``[x_bin, y_bin]``; NaN, or a masked value,
        marks an empty cell.
    error : 2D array-like, optional
        The standard deviation (``ddof=0``) of the stars of a cell about the
        value, in its unit. 0 means unknown.
    count : 2D array-like, optional
        The number of stars in a cell; a cell with 0 is empty.
    grid : `~ks4_ccd.MapGrid`
        The cells of the map.
    key : `~ks4_ccd.MapKey`, optional
        The field, band, mode and aperture of the map.
    source : str, optional
        The file of the map.

    Raises
    ------
    OptionError
        If ``grid`` or ``key`` has a wrong type.
    MapFormatError
        If an array is not 2D and real, or does not have the shape of the grid, an
        error or a count is negative, or a number is infinite, or missing in a cell
        that is not empty.
    """

    components = ("values",)
    values: np.ndarray

    def __init__(
        self,
        values: ArrayLike,
        error: ArrayLike | None = None,
        count: ArrayLike | None = None,
        *,
        grid: MapGrid,
        key: MapKey | None = None,
        source: str | None = None,
    ) -> None:
        self._set_arrays(
            {"values": values}, error, count, grid=grid, key=key, source=source
        )

    def at(
        self, x: ArrayLike, y: ArrayLike, method: str = "bilinear"
    ) -> float | np.ndarray:
        """
        Return the value of the map at positions on the image.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, broadcast against each other. The value
            outside of the image is that at its edge, and NaN for coordinates that
            are not finite.
        method : {"bilinear", "nearest"}
            ``"bilinear"`` interpolates between the centres of the cells, and
            ``"nearest"`` returns the value of the cell that contains a position,
            both after empty cells have been filled.

        Returns
        -------
        value : float or `~numpy.ndarray`
            The value in the unit of the map.

        Raises
        ------
        MapFormatError
            If all cells are empty.
        OptionError
            If ``method`` does not have one of its allowed values. ``"dr1"``,
            which repeats the calibration of DR1, is a method of
            `~ks4_ccd.apply_zeropoint` and `~ks4_ccd.calibrate_catalog`.
        """
        nodes = self._filled_components()["values"]
        return self._interpolate(nodes, x, y, method)
