# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compute the cells of a calibration map on the pixels of an image.

Positions of cells are computed in this module only. A map is indexed
``[x_bin, y_bin]``; pixel coordinates ``x, y`` are 0-based, the centre of the
first pixel being 0, as in astropy; ``X_IMAGE = x + 1`` is the 1-based
coordinate in which DR1 defines its cells::

    cell         |        0        |        1        |  ...  (size 400)
    X_IMAGE      0       200      400       600      800
    x           -1       199      399       599      799
                         ^ centre          ^ centre

The grid is separable: a `Stencil` along each axis contains the cells from which
a position is interpolated, and their weights. To add a method of interpolation,
add a function to ``_STENCILS``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import GeometryError, one_of

__all__ = ["METHODS", "MapGrid", "Stencil", "corners"]


@dataclass(frozen=True, eq=False)
class Stencil:
    """
    The cells along one axis from which positions are interpolated.

    Attributes
    ----------
    index : 2D `~numpy.ndarray` of int
        The cells along the axis, with a row for each node and a column for each
        position.
    weight : 2D `~numpy.ndarray`
        The weights of the cells, in the same shape; those of a position add up to 1.
    """

    index: np.ndarray
    weight: np.ndarray

    @classmethod
    def linear(cls, node: np.ndarray, n: int) -> "Stencil":
        """
        Return the stencil of a linear interpolation.

        Parameters
        ----------
        node : `~numpy.ndarray`
            Positions in units of cells, 0 at the centre of the first one and
            ``n - 1`` at that of the last one.
        n : int
            The number of cells.
        """
        lower = np.minimum(node.astype(np.intp), max(n - 2, 0))
        fraction = node - lower
        index = np.array([lower, np.minimum(lower + 1, n - 1)])
        return cls(index, np.array([1 - fraction, fraction]))

    def along(self, nodes: np.ndarray) -> np.ndarray:
        """Return the values of 1D nodes at the positions."""
        first, *others = (
            nodes[i] * w for i, w in zip(self.index, self.weight, strict=True)
        )
        return sum(others, first)


def corners(
    along_x: Stencil, along_y: Stencil
) -> list[tuple[tuple[np.ndarray, np.ndarray], np.ndarray]]:
    """
    Return the cells from which positions are interpolated, and their weights.

    Parameters
    ----------
    along_x, along_y : `Stencil`

    Returns
    -------
    corners : list of ((i, j), weight)
        Arrays of the indices of cells and their weights; the nodes along x vary
        fastest.
    """
    return [
        ((i, j), weight_x * weight_y)
        for j, weight_y in zip(along_y.index, along_y.weight, strict=True)
        for i, weight_x in zip(along_x.index, along_x.weight, strict=True)
    ]


@overload
def _pair(name: str, value: ArrayLike, kind: type[int]) -> tuple[int, int]: ...
@overload
def _pair(name: str, value: ArrayLike, kind: type[float]) -> tuple[float, float]: ...
def _pair(
    name: str, value: ArrayLike, kind: type[int] | type[float]
) -> tuple[float, float]:
    """Return one number, or two, as a pair of plain numbers."""
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


def _has_bools(value: object) -> bool:
    """Return whether any of the numbers is a bool, which numpy converts to 0 or 1."""
    several = value if isinstance(value, list | tuple | np.ndarray) else [value]
    return any(isinstance(one, bool | np.bool_) for one in several)


def _as_edges(
    edges: Sequence[ArrayLike],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return edges along x and y as two sorted tuples of floats."""
    try:
        along_x, along_y = (
            tuple(sorted(np.asarray(part, dtype=float).ravel().tolist()))
            for part in edges
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
        0-based pixel coordinates ``(x, y)`` of the lower edges of the cell
        (0, 0). By default this cell begins at X_IMAGE = 0, as in DR1.
    edges : pair of sequences, optional
        0-based pixel coordinates along x, and along y, of edges across which
        values are not interpolated, such as those of chips or amplifiers. A pixel
        whose centre is on an edge belongs to the region after it.

    Raises
    ------
    GeometryError
        If a number is missing or not finite, or a shape or size is not positive.

    Examples
    --------
    >>> from ks4_ccd import MapGrid
    >>> grid = MapGrid((55, 55), 400)
    >>> grid.cell_of(398, 399)
    (0, 1)
    >>> grid.centers()[0][:2].tolist()
    [199.0, 599.0]
    """

    shape: tuple[int, int]
    cell_size: tuple[float, float]
    origin: tuple[float, float] = (-1.0, -1.0)
    edges: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    if TYPE_CHECKING:
        # Arguments are converted to the types of the attributes.
        def __init__(
            self,
            shape: int | tuple[int, int],
            cell_size: float | tuple[float, float],
            origin: tuple[float, float] = (-1.0, -1.0),
            edges: Sequence[ArrayLike] = ((), ()),
        ) -> None: ...

    def __post_init__(self) -> None:
        for name, kind in (("shape", int), ("cell_size", float), ("origin", float)):
            object.__setattr__(self, name, _pair(name, getattr(self, name), kind))
        for name in ("shape", "cell_size"):
            if min(getattr(self, name)) <= 0:
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise GeometryError(msg)
        object.__setattr__(self, "edges", _as_edges(self.edges))

    @classmethod
    def for_image(
        cls,
        shape: tuple[int, int],
        image_shape: tuple[int, ...],
        edges: Sequence[ArrayLike] = ((), ()),
    ) -> "MapGrid":
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
                f"{columns} x {rows} pixels: cells must not be smaller than a pixel"
            )
            raise GeometryError(msg)
        return cls(cells, (columns / cells[0], rows / cells[1]), edges=edges)

    @property
    def image_shape(self) -> tuple[int, int]:
        """The shape ``(rows, columns)`` of the image that the grid covers."""
        columns, rows = (
            round(n * size) for n, size in zip(self.shape, self.cell_size, strict=True)
        )
        return rows, columns

    @property
    def extent(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """
        The outer edges of the grid, ``((x_low, x_high), (y_low, y_high))``.

        They are 0-based pixel coordinates. The image that the grid covers
        begins one pixel after the lower edges: its first pixel is at
        ``(x_low + 1, y_low + 1)``, its last one at ``(x_high, y_high)``.
        """
        x, y = (
            (low, low + n * size)
            for n, size, low in zip(
                self.shape, self.cell_size, self.origin, strict=True
            )
        )
        return x, y

    def cell_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the edges of the cells along each axis.

        Returns
        -------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates, one more than there are cells: cell
            ``[i, j]`` spans ``x[i]`` to ``x[i + 1]`` and ``y[j]`` to
            ``y[j + 1]``.

        Examples
        --------
        >>> from ks4_ccd import MapGrid
        >>> MapGrid((3, 2), 400).cell_edges()[0].tolist()
        [-1.0, 399.0, 799.0, 1199.0]
        """
        x, y = (
            np.arange(n + 1) * size + low
            for n, size, low in zip(
                self.shape, self.cell_size, self.origin, strict=True
            )
        )
        return x, y

    def contains(self, x: ArrayLike, y: ArrayLike) -> bool | np.ndarray:
        """
        Return whether positions are on the grid.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, broadcast against each other.

        Returns
        -------
        inside : bool or `~numpy.ndarray` of bool
            Positions on the outer edges are on the grid; positions that are not
            finite are not.

        Examples
        --------
        >>> from ks4_ccd import MapGrid
        >>> grid = MapGrid((2, 2), 50)
        >>> grid.extent
        ((-1.0, 99.0), (-1.0, 99.0))
        >>> grid.contains([0, 99, 100], 50).tolist()
        [True, True, False]
        """
        (left, right), (bottom, top) = self.extent
        x, y = (self._positions(axis, p) for axis, p in enumerate((x, y)))
        inside = (left <= x) & (x <= right) & (bottom <= y) & (y <= top)
        return inside if inside.ndim else bool(inside)

    def cell_of(
        self, x: ArrayLike, y: ArrayLike
    ) -> tuple[int, int] | tuple[np.ndarray, np.ndarray]:
        """
        Return the cells that contain positions.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates. Positions outside of the grid are assigned to
            the nearest cell.

        Returns
        -------
        i, j : int or `~numpy.ndarray` of int
            The indices of the cells, ``map[i, j]``.

        Raises
        ------
        GeometryError
            If a coordinate is not finite.
        """
        cells: list[Any] = []
        for axis, position in enumerate((x, y)):
            position = self._positions(axis, position)
            if not np.isfinite(position).all():
                msg = f"{'xy'[axis]} must be finite to determine its cell"
                raise GeometryError(msg)
            index = self._cell_index(axis, position)
            cells.append(index if index.ndim else int(index))
        i, j = cells
        return i, j

    def windows_of(
        self,
        axis: int,
        position: np.ndarray,
        padding: float = 0.0,
        *,
        outside: str = "drop",
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the cells whose windows contain positions.

        The window of a cell is the cell, extended by ``padding`` on each side:
        ``lower edge - padding <= position < upper edge + padding``.

        Parameters
        ----------
        axis : {0, 1}
            0 for x, 1 for y.
        position : `~numpy.ndarray`
            0-based pixel coordinates along that axis, finite.
        padding : float, optional
            The margin of the window on each side, in pixels.
        outside : {"drop", "clip"}
            ``"clip"`` moves positions outside of the grid to its outer edges first.

        Returns
        -------
        first, last : `~numpy.ndarray` of int
            Indices along the axis. The first is larger than the last where no
            window contains the position.
        """
        n, size = self.shape[axis], self.cell_size[axis]
        distance = position - self.origin[axis]
        if outside == "clip":
            distance = np.clip(distance, 0.0, np.nextafter(n * size, 0.0))
        first = np.clip((distance - padding) // size, 0, n)
        last = np.clip((distance + padding) // size, -1, n - 1)
        return first.astype(np.intp), last.astype(np.intp)

    def cells_of_image(
        self, origin: tuple[float, float], image_shape: tuple[int, ...]
    ) -> tuple[slice, slice]:
        """
        Return the cells that an image covers.

        Parameters
        ----------
        origin : tuple of float
            0-based pixel coordinates ``(x, y)`` of the first pixel of the image.
        image_shape : tuple of int
            The shape of the image, ``(rows, columns)``.

        Returns
        -------
        cells : tuple of slice
            Slices along x and along y: ``map[cells]`` is the part of the map.
        """
        rows, columns = image_shape
        low_x, low_y = self.cell_of(*origin)
        high_x, high_y = self.cell_of(origin[0] + columns - 1, origin[1] + rows - 1)
        return slice(low_x, high_x + 1), slice(low_y, high_y + 1)

    def centers(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the centres of the cells along each axis.

        Returns
        -------
        x, y : 1D `~numpy.ndarray`
            0-based pixel coordinates.
        """
        x, y = (
            (np.arange(n) + 0.5) * size + low
            for n, size, low in zip(
                self.shape, self.cell_size, self.origin, strict=True
            )
        )
        return x, y

    def stencil(
        self, axis: int, position: np.ndarray, method: str = "bilinear"
    ) -> Stencil:
        """
        Return the cells from which positions are interpolated.

        Parameters
        ----------
        axis : {0, 1}
            0 for x, 1 for y.
        position : `~numpy.ndarray`
            0-based pixel coordinates along that axis, finite.
        method : {"bilinear", "nearest"}
            ``"bilinear"`` assigns the value of a cell to its centre and
            extends the outermost values to the edge and beyond;
            ``"nearest"`` selects the cell that contains a position. Only
            ``"bilinear"`` respects ``edges``: the outermost values between
            two of them are extended to these.

        Returns
        -------
        stencil : ``Stencil``

        Raises
        ------
        OptionError
            If ``method`` does not have one of its allowed values.
        """
        one_of("method", method, METHODS)
        return _STENCILS[method](self, axis, position)

    def stretched(self, axis: int, position: np.ndarray) -> Stencil:
        """
        Return the cells from which positions in a stretched map are interpolated.

        The centres of the outermost cells are moved to the first and the last
        pixel of the image, as `scipy.ndimage.zoom` does.

        Parameters
        ----------
        axis : {0, 1}
            0 for x, 1 for y.
        position : `~numpy.ndarray`
            0-based pixel coordinates along that axis, finite.

        Returns
        -------
        stencil : ``Stencil``
            A linear stencil, which ignores ``edges``.
        """
        n, size = self.shape[axis], self.cell_size[axis]
        first_pixel = self.origin[axis] + 1
        node = (position - first_pixel) * ((n - 1) / max(n * size - 1, 1))
        return Stencil.linear(np.clip(node, 0, n - 1), n)

    def _cells_between_edges(
        self, axis: int, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and last cell with centres in the region of a position."""
        edges = self.edges[axis]
        region = np.searchsorted(edges, position, side="right")
        region_of_cell = np.searchsorted(edges, self.centers()[axis], side="right")
        first = np.searchsorted(region_of_cell, region, side="left")
        last = np.searchsorted(region_of_cell, region, side="right") - 1
        # A region narrower than a cell may contain no centre.
        empty = last < first
        first[empty], last[empty] = 0, self.shape[axis] - 1
        return first, last

    def _cell_index(self, axis: int, position: np.ndarray) -> np.ndarray:
        index = np.floor((position - self.origin[axis]) / self.cell_size[axis])
        return np.clip(index, 0, self.shape[axis] - 1).astype(np.intp)

    @staticmethod
    def _positions(axis: int, position: ArrayLike) -> np.ndarray:
        try:
            return np.asarray(position, dtype=float)
        except (TypeError, ValueError) as error:
            msg = f"{'xy'[axis]} must be numbers: {error}"
            raise GeometryError(msg) from error


def _bilinear(grid: MapGrid, axis: int, position: np.ndarray) -> Stencil:
    """Return the stencil that interpolates linearly between centres."""
    n = grid.shape[axis]
    node = (position - grid.origin[axis]) / grid.cell_size[axis] - 0.5
    first: int | np.ndarray = 0
    last: int | np.ndarray = n - 1
    if grid.edges[axis]:
        first, last = grid._cells_between_edges(axis, position)
    return Stencil.linear(np.clip(node, first, last), n)


def _nearest(grid: MapGrid, axis: int, position: np.ndarray) -> Stencil:
    """Return the stencil of the cells that contain positions."""
    index = grid._cell_index(axis, position)[np.newaxis]
    return Stencil(index, np.ones(index.shape))


_STENCILS: dict[str, Callable[[MapGrid, int, np.ndarray], Stencil]] = {
    "bilinear": _bilinear,
    "nearest": _nearest,
}
METHODS = tuple(_STENCILS)
