# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The cells of a calibration map on the pixels of an image.

This module alone knows where a cell lies. A map is indexed
``[x_bin, y_bin]``; pixel coordinates ``x, y`` are 0-based, the centre of the
first pixel being 0, as everywhere in astropy; ``X_IMAGE = x + 1`` is the
1-based coordinate in which the release counts its cells::

    cell         |        0        |        1        |  ...  (size 400)
    X_IMAGE      0       200      400       600      800
    x           -1       199      399       599      799
                         ^ centre          ^ centre

The grid is separable: a `Stencil` along each axis says between which two
cells a position lies and how far from the first.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ks4_ccd.exceptions import GeometryError, one_of

__all__ = ["METHODS", "MapGrid", "Stencil"]

METHODS = ("bilinear", "nearest", "dr1")


class Stencil(NamedTuple):
    """
    Where positions along one axis lie between the cells of a map.

    The value of the map there is ``values[lower] * (1 - fraction) +
    values[upper] * fraction``.
    """

    lower: np.ndarray
    upper: np.ndarray
    fraction: np.ndarray


def _pair(name, value, kind=float):
    """Return ``value`` (one number, or two) as a pair of plain numbers."""
    if hasattr(value, "unit"):
        msg = f"{name} must be plain numbers, in pixels, got {value!r}"
        raise GeometryError(msg)
    if _has_bools(value):
        msg = f"{name} must be numbers, got {value!r}"
        raise GeometryError(msg)
    try:
        first, second = np.broadcast_to(np.asarray(value, dtype=float), (2,))
        pair = kind(first), kind(second)
    except (TypeError, ValueError, OverflowError):
        msg = f"{name} must be one number or a pair of numbers, got {value!r}"
        raise GeometryError(msg) from None
    if not np.isfinite([first, second]).all() or pair != (first, second):
        msg = f"{name} must be finite {kind.__name__} numbers, got {value!r}"
        raise GeometryError(msg)
    return pair


def _has_bools(value):
    """Return whether a number, or one of several, is a bool, which counts as 0 or 1."""
    several = value if isinstance(value, list | tuple | np.ndarray) else [value]
    return any(isinstance(one, bool | np.bool_) for one in several)


def _as_edges(edges):
    """Return borders along x and y as two sorted tuples of floats."""
    try:
        along_x, along_y = (
            tuple(sorted(np.asarray(borders, dtype=float).ravel().tolist()))
            for borders in edges
        )
    except (TypeError, ValueError):
        msg = f"edges must be two sequences of numbers, for x and y, got {edges!r}"
        raise GeometryError(msg) from None
    if not np.isfinite([*along_x, *along_y]).all():
        msg = f"edges must be finite pixel coordinates, got {edges!r}"
        raise GeometryError(msg)
    return along_x, along_y


@dataclass(frozen=True)
class MapGrid:
    """
    A regular grid of cells on an image.

    Parameters
    ----------
    shape : tuple of int
        The number of cells along x and along y, the shape of the map.
    cell_size : float or tuple of float
        The size of a cell in pixels, along x and along y.
    origin : tuple of float, optional
        ``X_IMAGE, Y_IMAGE`` (1-based pixel coordinates) of the lower edge of
        the cell (0, 0).
    edges : pair of sequences, optional
        0-based pixel coordinates x, and y, of borders that values are not
        interpolated across: those of chips or amplifiers. A pixel whose
        centre is on a border is behind it.

    Raises
    ------
    GeometryError
        If a number is missing, not finite or not positive.

    Examples
    --------
    >>> from ks4_ccd import MapGrid
    >>> grid = MapGrid((55, 55), 400)
    >>> grid.cell_of(398, 399)
    (0, 1)
    >>> grid.centers()[0][:2].tolist()
    [199.0, 599.0]
    """

    shape: tuple
    cell_size: tuple
    origin: tuple = (0.0, 0.0)
    edges: tuple = ((), ())

    def __post_init__(self):
        for name, kind in (("shape", int), ("cell_size", float), ("origin", float)):
            object.__setattr__(self, name, _pair(name, getattr(self, name), kind))
        for name in ("shape", "cell_size"):
            if min(getattr(self, name)) <= 0:
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise GeometryError(msg)
        object.__setattr__(self, "edges", _as_edges(self.edges))

    @classmethod
    def for_image(cls, shape, image_shape, edges=((), ())):
        """
        Return the grid that covers an image.

        Parameters
        ----------
        shape : tuple of int
            The shape of the map, ``(cells along x, cells along y)``.
        image_shape : tuple of int
            The shape of the image as an array, ``(rows, columns)``.
        edges : pair of sequences, optional
            As in `MapGrid`.

        Returns
        -------
        grid : `MapGrid`

        Examples
        --------
        >>> from ks4_ccd import MapGrid
        >>> MapGrid.for_image((110, 110), (22000, 22000)).cell_size
        (200.0, 200.0)
        """
        cells = _pair("shape", shape, int)
        rows, columns = _pair("image_shape", image_shape, int)
        if min(cells) <= 0 or rows < cells[1] or columns < cells[0]:
            msg = (
                f"a map of {cells[0]} x {cells[1]} cells does not fit an image of "
                f"{columns} x {rows} pixels: cells must be a pixel or larger"
            )
            raise GeometryError(msg)
        return cls(cells, (columns / cells[0], rows / cells[1]), edges=edges)

    @property
    def image_shape(self):
        """The shape ``(rows, columns)`` of the image that the grid covers."""
        columns, rows = (
            round(n * size) for n, size in zip(self.shape, self.cell_size, strict=True)
        )
        return rows, columns

    def cell_of(self, x, y):
        """
        Return the cells that positions are in.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates. Positions off the grid belong to the
            outermost cell.

        Returns
        -------
        i, j : int or `~numpy.ndarray` of int
            The indices of the cells, ``map[i, j]``.

        Raises
        ------
        GeometryError
            If a coordinate is not finite.
        """
        cells = []
        for axis, position in enumerate((x, y)):
            try:
                position = np.asarray(position, dtype=float)
            except (TypeError, ValueError) as error:
                msg = f"{'xy'[axis]} must be numbers: {error}"
                raise GeometryError(msg) from error
            if not np.isfinite(position).all():
                msg = f"{'xy'[axis]} must be finite to be in a cell"
                raise GeometryError(msg)
            index = self._cell_index(axis, position)
            cells.append(index if index.ndim else int(index))
        return tuple(cells)

    def cells_of_image(self, origin, image_shape):
        """
        Return the cells that an image lies on.

        Parameters
        ----------
        origin : tuple of float
            0-based pixel coordinates ``(x, y)`` of the image's first pixel.
        image_shape : tuple of int
            The shape of the image, ``(rows, columns)``.

        Returns
        -------
        cells : tuple of slice
            Along x and along y: ``map[cells]`` is the part of the map.
        """
        rows, columns = image_shape
        low_x, low_y = self.cell_of(*origin)
        high_x, high_y = self.cell_of(origin[0] + columns - 1, origin[1] + rows - 1)
        return slice(low_x, high_x + 1), slice(low_y, high_y + 1)

    def centers(self):
        """
        Return the centres of the cells along each axis.

        Returns
        -------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates.
        """
        return tuple(
            (np.arange(n) + 0.5) * size + origin - 1
            for n, size, origin in zip(
                self.shape, self.cell_size, self.origin, strict=True
            )
        )

    def stencil(self, axis, position, method="bilinear"):
        """
        Return between which cells positions lie.

        Parameters
        ----------
        axis : {0, 1}
            0 for x, 1 for y.
        position : `~numpy.ndarray`
            0-based pixel coordinates along that axis, finite.
        method : {"bilinear", "nearest", "dr1"}
            ``"bilinear"`` puts a cell's value at its centre and holds the
            outermost values out to the edge and beyond; ``"nearest"`` takes
            the cell that a position is in; ``"dr1"`` stretches the map from
            corner to corner of the image, as `scipy.ndimage.zoom` does. Only
            ``"bilinear"`` heeds ``edges``: the outermost values between two
            borders hold out to these.

        Returns
        -------
        stencil : `Stencil`
        """
        one_of("method", method, METHODS)
        n, size = self.shape[axis], self.cell_size[axis]
        if method == "nearest":
            index = self._cell_index(axis, position)
            return Stencil(index, index, np.zeros(index.shape))
        pixel = position - self.origin[axis]
        if method == "dr1":
            node = pixel * ((n - 1) / max(n * size - 1, 1))
        else:
            node = (pixel + 1) / size - 0.5
        first, last = 0, n - 1
        if method == "bilinear" and self.edges[axis]:
            first, last = self._cells_between_edges(axis, position)
        node = np.clip(node, first, last)
        lower = np.minimum(node.astype(np.intp), max(n - 2, 0))
        return Stencil(lower, np.minimum(lower + 1, n - 1), node - lower)

    def _cells_between_edges(self, axis, position):
        """Return the first and last cell whose centres are between the same borders."""
        borders = self.edges[axis]
        region = np.searchsorted(borders, position, side="right")
        region_of_cell = np.searchsorted(borders, self.centers()[axis], side="right")
        first = np.searchsorted(region_of_cell, region, side="left")
        last = np.searchsorted(region_of_cell, region, side="right") - 1
        # Borders closer than a cell may have no centre between them.
        empty = last < first
        first[empty], last[empty] = 0, self.shape[axis] - 1
        return first, last

    def _cell_index(self, axis, position):
        x_image = position + 1 - self.origin[axis]
        index = np.floor(x_image / self.cell_size[axis])
        return np.clip(index, 0, self.shape[axis] - 1).astype(np.intp)
