# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Replace the cells of a map by the surface through them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import (
    GeometryError,
    MapFormatError,
    OptionError,
    finite,
)
from ks4_ccd.maps._cell_errors import MEDIAN_OVER_MEAN, CellErrors, errors_of_cells
from ks4_ccd.maps.base import CalibrationMap
from ks4_ccd.maps.fill import touches
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.surfaces.cell_edges import CellEdge, find_cell_edges
from ks4_ccd.surfaces.cell_surface import Cells, CellSurface, fit_cells

__all__ = ["DenoisedMap", "Edges", "NoiseReduction"]

# 0-based pixel coordinates of edges along x and along y.
Edges: TypeAlias = Sequence[ArrayLike]
_AUTO, _NO_EDGES = "auto", "none"

_FEWEST_CELLS = 3
# Where there are edges, so many cells for one along each axis, and no more in all.
_FINER, _MOST_CELLS = 4, 440


class DenoisedMap(CalibrationMap):
    """The part of maps whose cells are medians of stars that finds their surface."""

    def denoised(self, edges: str | Edges | None = "auto") -> Self:
        """
        Return the smooth surface with steps through the cells of the map.

        Parameters
        ----------
        edges : {"auto"}, pair of sequences or `None`, optional
            0-based pixel coordinates x, and y, of the edges of chips or
            amplifiers, at which the surface may have steps. `None` for none but
            those of the grid. Steps at other places are smoothed. ``"auto"``
            finds significant steps in the map itself.

        Returns
        -------
        denoised : same class
            A map on the same grid, or with edges on one of up to four times as
            many cells along each axis. Cells that had stars, or are next to one
            that had, have values. ``error`` is the scatter of single stars about
            the surface, and ``count`` the number of stars whose median would be as
            good as it, so that ``error_kind="median"`` quotes its uncertainty.

        Raises
        ------
        OptionError
            If ``edges`` is a text other than ``"auto"``.
        GeometryError
            If ``edges`` are not two sequences of numbers, an edge is not on the grid,
            or there are more regions than cells with stars.
        MapFormatError
            If fewer than three cells have stars, or none has a known error and
            they are too few to derive one from; and if cells share their stars: the
            map was smoothed, denoised, or built from a surface.

        Notes
        -----
        The surface is a penalised spline and a polynomial in each region between
        edges, averaged over each cell as its stars are. Cells are weighted by the
        standard error that `error_at` quotes, rescaled by their scatter about the
        surface, and count for less where an edge crosses them. Fewer than 100 cells
        are fitted by a Gaussian process instead. Errors of cells that share stars
        are not independent: a smoothed map cannot be denoised, and there is nothing
        to remove from one that was.

        Edges are found as lines whose steps improve the fit significantly: in 3 of
        160 simulated fields without steps there is one. Maps of fewer than 100 cells
        with stars have none. The surface beside a line is as uncertain as the position
        of the line. Positions that are known, or found from stars, are more accurate.

        A map without ``count`` has cells of equal weights; one without ``error``
        has the scatter of stars from the differences of cells; one with neither
        has none in the result.

        Examples
        --------
        >>> import numpy as np
        >>> from ks4_ccd import MapGrid, ZeroPointMap
        >>> rng = np.random.default_rng(1)
        >>> values = np.where(np.arange(20) < 7, 30.0, 30.1)[:, np.newaxis]
        >>> values = values + 0.02 * rng.normal(size=(20, 20))
        >>> error, count = np.full((20, 20), 0.02), np.full((20, 20), 5)
        >>> zpmap = ZeroPointMap(values, error, count, grid=MapGrid((20, 20), 100))
        >>> denoised = zpmap.denoised(edges=([699], []))
        >>> denoised.at([690, 705], 1000).round(3)
        array([29.998, 30.098])
        """
        self._require_own_stars()
        is_auto = isinstance(edges, str)
        if is_auto and edges != _AUTO:
            msg = (
                f"edges must be {_AUTO!r}, a pair of sequences of pixel coordinates or "
                f"None, got {edges!r}"
            )
            raise OptionError(msg)
        errors = self._errors_of_cells()
        count = np.ones(self.grid.shape) if self.count is None else self.count
        components = [
            Cells(
                values,
                self.valid,
                cast("np.ndarray", errors.value),
                errors.star,
                count,
                self.grid.cell_edges(),
            )
            for values in self._component_arrays().values()
        ]
        found: tuple[list[CellEdge], list[CellEdge]] = [], []
        if is_auto and not any(self.grid.edges):
            found = find_cell_edges(components)
            edges = [[line.position for line in along] for along in found]
        elif is_auto:
            edges = None
        steps = self._edges_of_steps(edges)
        surfaces = [fit_cells(cells, steps) for cells in components]
        return self._of_surfaces(surfaces, steps, found)

    def _require_own_stars(self) -> None:
        self._require_stars()
        number = np.count_nonzero(self.valid)
        if number < _FEWEST_CELLS:
            msg = (
                f"{self.source or self!r}: expected at least {_FEWEST_CELLS} cells "
                f"with stars to fit a surface to, found {number}: apply the map "
                "unchanged"
            )
            raise MapFormatError(msg)
        if self._shares_stars or (self.count is not None and self._is_surface()):
            msg = (
                f"{self.name}: expected a map whose cells have stars of their own, "
                "found one that was smoothed or denoised, or built from a surface: "
                "denoise the map that it was made from, or apply this one unchanged"
            )
            raise MapFormatError(msg)

    def _edges_of_steps(
        self, edges: Edges | None
    ) -> tuple[Sequence[float], Sequence[float]]:
        """Return the edges along x and y, those of the grid included."""
        given = ((), ()) if edges is None else MapGrid((1, 1), 1, edges=edges).edges
        both = [
            sorted({*parts[0], *parts[1]})
            for parts in zip(given, self.grid.edges, strict=True)
        ]
        for name, along, (low, high) in zip("xy", both, self.grid.extent, strict=True):
            off = [edge for edge in along if not low < edge < high]
            if off:
                msg = (
                    f"edges: expected pixel coordinates between {low:g} and {high:g} "
                    f"along {name}, found {off[0]:g}: leave out the edges of other "
                    "images or cameras"
                )
                raise GeometryError(msg)
        regions = (len(both[0]) + 1) * (len(both[1]) + 1)
        if regions > np.count_nonzero(self.valid):
            msg = (
                f"edges: expected at most {np.count_nonzero(self.valid)} regions, as "
                f"many as cells with stars, found {regions}: give fewer edges"
            )
            raise GeometryError(msg)
        return both[0], both[1]

    def _errors_of_cells(self) -> CellErrors:
        """Return the errors of cells, from their differences if they have none."""
        shape = self.grid.shape
        errors = errors_of_cells(
            list(self._component_arrays().values()),
            self.valid,
            np.zeros(shape) if self.error is None else self.error,
            np.ones(shape) if self.count is None else self.count,
        )
        if errors is None:
            msg = (
                f"{self.source or self!r}: expected cells of two stars or more with an "
                "error above 0, or enough neighbouring cells that differ to derive one "
                "from, found neither: apply the map unchanged"
            )
            raise MapFormatError(msg)
        if self.count is None and self.error is not None:
            known = self.valid & (self.error > 0)
            if known.any():
                usual = np.median(self.error[known])
                star = np.where(known, self.error, usual)
                errors = CellErrors(star, errors.value)
        return errors

    def _of_surfaces(
        self,
        surfaces: list[CellSurface],
        edges: tuple[Sequence[float], Sequence[float]],
        found: tuple[list[CellEdge], list[CellEdge]],
    ) -> Self:
        """Return the map with the values of surfaces, one for each component."""
        grid = _finer(self.grid, edges)
        x, y = grid.centers()
        valid = touches(self.valid)
        for axis in (0, 1):
            valid = np.repeat(valid, grid.shape[axis] // self.grid.shape[axis], axis)
        changes: dict[str, object] = {"grid": grid, "valid": valid, "_covariance": None}
        for name, surface in zip(self.components, surfaces, strict=True):
            changes[name] = np.where(valid, surface.mesh(x, y), np.nan)
        deviation, scatter = (
            np.sqrt(np.mean(np.square(parts), axis=0))
            for parts in zip(
                *((_deviation(s, x, y, found), s.scatter) for s in surfaces),
                strict=True,
            )
        )
        error = count = None
        if self.error is not None or self.count is not None:
            # A star is off by its own error and that of the surface.
            error = np.where(valid, np.hypot(scatter, deviation), 0)
            count = np.where(valid, (MEDIAN_OVER_MEAN * error / deviation) ** 2, 0)
        changes |= {"error": error, "count": count, "_shares_stars": True}
        numbers = "+".join(str(len(along)) for along in edges)
        return self._replace(f"denoised(edges={numbers})", **changes)


def _deviation(
    surface: CellSurface,
    x: np.ndarray,
    y: np.ndarray,
    found: tuple[list[CellEdge], list[CellEdge]],
) -> np.ndarray:
    """Return the standard deviation of a surface, that of its edges included."""
    from scipy.special import ndtr

    variance = surface.mesh_deviation(x, y) ** 2
    for axis, lines in enumerate(found):
        for line in lines:
            beside = line.position + np.array([-1, 1]) * 1e-6 * line.uncertainty
            sides = surface.mesh(beside, y) if axis == 0 else surface.mesh(x, beside).T
            # What a position is off by, if it is behind the line and not before it.
            distance = np.abs((x, y)[axis] - line.position)
            share = ndtr(-distance / line.uncertainty)
            square = np.outer(share, (sides[1] - sides[0]) ** 2)
            variance += square if axis == 0 else square.T
    return np.sqrt(variance)


def _finer(grid: MapGrid, edges: tuple[Sequence[float], Sequence[float]]) -> MapGrid:
    """Return the grid of a surface: with edges, one of smaller cells."""
    if not any(len(along) for along in edges):
        return grid
    x, y = (
        max(1, min(_FINER, _MOST_CELLS // n, int(size)))
        for n, size in zip(grid.shape, grid.cell_size, strict=True)
    )
    shape = grid.shape[0] * x, grid.shape[1] * y
    size = grid.cell_size[0] / x, grid.cell_size[1] / y
    return MapGrid(shape, size, grid.origin, edges)


_Map = TypeVar("_Map", bound=DenoisedMap)


@dataclass(frozen=True)
class NoiseReduction:
    """
    How the noise of maps is reduced before they are applied.

    Parameters
    ----------
    smooth : float or `None`
        The scale of `~ks4_ccd.ZeroPointMap.smoothed`, in cells.
    denoise : {"auto", "none"}, pair of sequences or `None`
        The edges of `~ks4_ccd.ZeroPointMap.denoised`; ``"none"`` for no edges.
        Edges become two tuples of numbers.
    as_published : bool, optional
        Whether maps are applied unchanged, as for DR1.

    Raises
    ------
    OptionError
        If a value is not allowed, or both are given.
    GeometryError
        If edges are not two sequences of numbers.
    """

    smooth: float | None = None
    denoise: str | Edges | None = None
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.smooth is not None:
            object.__setattr__(self, "smooth", finite("smooth", self.smooth))
        if self.denoise is None:
            return
        if self.smooth is not None:
            msg = (
                "expected smooth or denoise, found both: a smoothed map cannot be "
                "denoised, leave out one of them"
            )
            raise OptionError(msg)
        if self.as_published:
            msg = (
                'expected maps unchanged for method="dr1", found denoise: leave out '
                "one of them"
            )
            raise OptionError(msg)
        if isinstance(self.denoise, str) and self.denoise == _AUTO:
            return
        if isinstance(self.denoise, str) and self.denoise != _NO_EDGES:
            msg = (
                f"denoise must be {_AUTO!r}, {_NO_EDGES!r} or a pair of sequences of "
                f"pixel coordinates, got {self.denoise!r}"
            )
            raise OptionError(msg)
        edges = ((), ()) if self.denoise == _NO_EDGES else self.denoise
        edges = MapGrid((1, 1), 1, edges=edges).edges
        object.__setattr__(self, "denoise", edges)

    def of(self, map_: _Map) -> _Map:
        """Return a map with its noise reduced."""
        if self.smooth is not None:
            return map_.smoothed(self.smooth)
        if self.denoise is not None:
            return map_.denoised(self.denoise)
        return map_
