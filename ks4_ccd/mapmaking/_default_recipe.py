# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Make maps by the default recipe: surfaces fitted to the stars."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from ks4_ccd.ks4.recipe import EMPTY_ZEROPOINT, MATCH_RADIUS
from ks4_ccd.mapmaking._color import MOST_TERMS, best_order, color_of, warn_of_color
from ks4_ccd.mapmaking._stars import MatchedStars, usable_errors
from ks4_ccd.mapmaking.cells import cell_members, clipped_statistics
from ks4_ccd.maps.color import ColorTerm
from ks4_ccd.maps.errors import MEDIAN_OVER_MEAN
from ks4_ccd.maps.grid import MapGrid, corners
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.surfaces.basis import regions_of
from ks4_ccd.surfaces.process import Process, fit_process
from ks4_ccd.surfaces.surface import Surface, fit_surface

__all__ = ["misalignment_cells", "offset_cells", "zeropoint_cells"]

# The smallest number of stars to which a surface is fitted; fewer do not determine
# one, and an average of Gaussian processes is used.
_FEWEST_FOR_SURFACE = 500
# The smallest number of cells along an axis in which uncertainties are computed.
_CELLS_OF_DEVIATION = 44
# The largest numbers of points per cell, and per map, along an axis at which the
# interpolation between cells is compared with the field.
_MOST_PARTS, _MOST_POSITIONS = 4, 220
# Windows of separations: padding in cells, and the number of stars that suffices.
_WINDOWS = (2, 4, 8)
_ENOUGH_IN_WINDOW = 8
# The distance from the nearest star, in mean distances of stars, beyond which a cell
# is empty.
_REACH = 1.5

_Field: TypeAlias = Surface | Process


def misalignment_cells(
    stars: MatchedStars, grid: MapGrid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Make the arrays of a misalignment map.

    The window around a cell is widened until it contains eight stars.

    Parameters
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    grid : `~ks4_ccd.MapGrid`
        The grid of the map. Windows end at its edges.

    Returns
    -------
    values, error, count : 2D `~numpy.ndarray`
        The median and the standard deviation of the separations (in arcsec) after
        clipping at 3 sigma, and the number of stars.
    """
    used = _astrometric(stars, grid)
    x, y, separation = (p[used] for p in (stars.x, stars.y, stars.separation))
    i, j = np.meshgrid(*grid.centers(), indexing="ij")
    region_of_cell = _region(i.ravel(), j.ravel(), grid.edges)
    region_of_star = _region(x, y, grid.edges)
    n_cells = grid.shape[0] * grid.shape[1]
    values, error, count = np.zeros((3, n_cells))
    for padding in _WINDOWS:
        window = tuple(padding * size for size in grid.cell_size)
        star, cell = cell_members(x, y, grid, padding=window)
        # Only cells in which narrower windows contain too few stars.
        selected = count[cell] < _ENOUGH_IN_WINDOW
        selected &= region_of_star[star] == region_of_cell[cell]
        star, cell = star[selected], cell[selected]
        statistics = clipped_statistics(cell, separation[star], n_cells, sigma=3.0)
        better = statistics.count > count
        values[better] = 3600 * statistics.median[better]
        error[better] = 3600 * statistics.scatter[better]
        count[better] = statistics.count[better]
    values, error, count = (part.reshape(grid.shape) for part in (values, error, count))
    return values, error, count


def offset_cells(stars: MatchedStars, grid: MapGrid) -> tuple[np.ndarray, ...]:
    """
    Make the arrays of an offset map.

    Parameters
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    grid : `~ks4_ccd.MapGrid`
        The grid of the map. Its edges are those of the chips.

    Returns
    -------
    dra, ddec, error, count : 2D `~numpy.ndarray`
        The offsets and the scatter of single stars along an axis, in arcsec, and the
        equivalent number of stars.
    """
    used = _astrometric(stars, grid, *stars.offsets)
    x, y = stars.x[used], stars.y[used]
    # Uncertainties of positions are taken proportional to those of magnitudes.
    errors = usable_errors(stars.sources.magnitude_errors("AUTO")[used])
    fields = [_fit(x, y, part[used], errors, grid) for part in stars.offsets]
    return _cells(fields, grid)


def zeropoint_cells(
    stars: MatchedStars,
    apertures: Sequence[str],
    grid: MapGrid,
    mode: str,
    misalignment: MisalignmentMap,
    color: tuple[str, str] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, ColorTerm | None]]:
    """
    Make the arrays of the zero-point map of each aperture.

    Parameters
    ----------
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    apertures : sequence of str
    grid : `~ks4_ccd.MapGrid`
        The grid of the maps. Its edges are those of the amplifiers.
    mode : {"single", "dual"}
    misalignment : `~ks4_ccd.MisalignmentMap`
        The typical separation of stars, by which matches are cut.
    color : pair of str, optional
        The bands of the colour of a colour term.

    Yields
    ------
    values, error, count : 2D `~numpy.ndarray`
        The zero points and the scatter of single stars, in magnitudes, and the
        equivalent number of stars.
    color_term : `~ks4_ccd.ColorTerm` or `None`

    Warns
    -----
    KS4Warning
        If there is no ``color`` and the residuals of an aperture depend on the
        colour of the stars.
    """
    used = stars.in_photometry(strict=False, mode=mode)
    used &= stars.on_image(grid.image_shape) & stars.is_first
    # A separation above the typical one of its surroundings is that of a wrong match.
    typical = np.zeros(used.size)
    typical[used] = misalignment.at(stars.x[used], stars.y[used]) / 3600
    used &= stars.separation < np.maximum(MATCH_RADIUS, typical)
    powers: np.ndarray | None = None
    if color is not None:
        colors = color_of(stars.sources.table, color)
        used &= np.isfinite(colors)
        reference_color = float(np.median(colors[used])) if used.any() else 0.0
        powers = (colors - reference_color)[:, None] ** np.arange(1, MOST_TERMS + 1)
    warned = False
    for aperture in apertures:
        difference = stars.reference - stars.sources.magnitudes(aperture)
        selected = stars.require_enough(
            used & np.isfinite(difference),
            f"zero points in {aperture}",
            "unflagged point sources of 14 to 19 mag, measured in the aperture, with "
            "uncertainties below 0.05 mag",
        )
        x, y = stars.x[selected], stars.y[selected]
        errors = np.hypot(
            usable_errors(stars.sources.magnitude_errors(aperture)[selected]),
            stars.reference_error[selected],
        )
        trend = stars.reference[selected]
        star = x, y, difference[selected], errors
        color_term = None
        if color is None or powers is None:
            field = _fit(*star, grid, trend)
            if not warned:
                residuals = difference[selected] - field.at(x, y)
                what = f"{stars.band} {aperture}"
                warned = warn_of_color(
                    stars.sources.table, selected, residuals, trend, what
                )
        else:
            field, term = _fit_with_color(*star, grid, trend, powers[selected])
            color_term = ColorTerm(color, reference_color, *term)
        values, error, count = _cells([field], grid)
        values = np.where(count > 0, values, EMPTY_ZEROPOINT)
        yield values, error, count, color_term


def _astrometric(
    stars: MatchedStars, grid: MapGrid, *required: np.ndarray
) -> np.ndarray:
    """Return the stars for maps of positions, finite in all required columns."""
    used = stars.in_astrometry(strict=False)
    used &= stars.on_image(grid.image_shape) & stars.is_first
    used &= np.isfinite([stars.separation, *required]).all(axis=0)
    return stars.require_enough(
        used,
        "positions",
        "unflagged point sources of 14 to 20 mag with uncertainties below 0.05 mag",
    )


def _region(
    x: np.ndarray, y: np.ndarray, edges: tuple[Sequence[float], Sequence[float]]
) -> np.ndarray:
    """Return the number of the region between edges that contains each position."""
    i, j = regions_of(x, y, edges)
    return i * (len(edges[1]) + 1) + j


def _fit(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    grid: MapGrid,
    trend: np.ndarray | None = None,
    covariates: np.ndarray | None = None,
) -> _Field:
    """Fit a field to the values of stars."""
    fit = fit_surface if x.size >= _FEWEST_FOR_SURFACE else fit_process
    return fit(x, y, values, errors, grid.image_shape, grid.edges, trend, covariates)


def _fit_with_color(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    grid: MapGrid,
    trend: np.ndarray,
    powers: np.ndarray,
) -> tuple[_Field, tuple[np.ndarray, np.ndarray]]:
    """Fit a field and a polynomial of the colour, of the order that predicts best."""
    field = _fit(x, y, values, errors, grid, trend, powers)
    residuals = values - field.at(x, y)
    order = best_order(powers, residuals, trend)
    if order < powers.shape[1]:
        field = _fit(x, y, values, errors, grid, trend, powers[:, :order])
    return field, field.covariates


def _cells(fields: Sequence[_Field], grid: MapGrid) -> tuple[np.ndarray, ...]:
    """
    Return the values of fields in cells, the scatter of stars and their number.

    The number is that of stars whose median would have the uncertainty of the map,
    so that ``error_kind="median"`` returns this uncertainty.
    """
    values, errors, scatters = zip(*(_gridded(f, grid) for f in fields), strict=True)
    error, scatter = (
        np.sqrt(np.mean(np.square(part), axis=0)) for part in (errors, scatters)
    )
    count = (MEDIAN_OVER_MEAN * scatter / np.maximum(error, 1e-15)) ** 2
    # Without scatter the number is undefined, but the cell is not empty.
    count = np.where(count > 0, count, 1.0)
    x, y = (np.concatenate([getattr(f, axis) for f in fields]) for axis in "xy")
    empty = ~_near_stars(x, y, fields[0].x.size, grid)
    for part in (*values, scatter, count):
        part[empty] = 0
    return (*values, scatter, count)


def _gridded(field: _Field, grid: MapGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a field in cells, its uncertainty, and the scatter of stars about it."""
    values = field.mesh(*grid.centers())
    coarse = MapGrid.for_image(_coarse(grid), grid.image_shape, grid.edges)
    deviation = field.mesh_deviation(*coarse.centers())
    x, y = (p.ravel() for p in np.meshgrid(*grid.centers(), indexing="ij"))
    deviation = _interpolated(deviation, coarse, x, y).reshape(grid.shape)
    error = np.hypot(deviation, _interpolation_error(field, values, grid))
    return values, error, np.hypot(error, np.median(field.sigma))


def _coarse(grid: MapGrid) -> tuple[int, int]:
    """Return the shape of the grid on which uncertainties are computed."""
    columns, rows = (
        min(n, max(_CELLS_OF_DEVIATION, 3 * (len(edges) + 1)))
        for n, edges in zip(grid.shape, grid.edges, strict=True)
    )
    return columns, rows


def _interpolation_error(
    field: _Field, values: np.ndarray, grid: MapGrid
) -> np.ndarray:
    """Return the RMS difference between interpolated map and field in each cell."""
    parts = max(1, min(_MOST_PARTS, int(_MOST_POSITIONS / max(grid.shape))))
    fractions = (np.arange(parts) + 0.5) / parts - 0.5
    x, y = (
        (center[:, None] + size * fractions).ravel()
        for center, size in zip(grid.centers(), grid.cell_size, strict=True)
    )
    mesh_x, mesh_y = (p.ravel() for p in np.meshgrid(x, y, indexing="ij"))
    difference = _interpolated(values, grid, mesh_x, mesh_y) - field.mesh(x, y).ravel()
    square = (difference**2).reshape(grid.shape[0], parts, grid.shape[1], parts)
    return np.sqrt(square.mean(axis=(1, 3)))


def _interpolated(
    values: np.ndarray, grid: MapGrid, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Interpolate the values of cells at positions."""
    around = corners(grid.stencil(0, x), grid.stencil(1, y))
    return np.sum([values[cell] * weight for cell, weight in around], axis=0)


def _near_stars(x: np.ndarray, y: np.ndarray, number: int, grid: MapGrid) -> np.ndarray:
    """Return the cells near a star, within `_REACH` times their mean distance."""
    area = grid.image_shape[0] * grid.image_shape[1] / number
    reach = np.maximum(grid.cell_size, _REACH * np.sqrt(area))
    _, cell = cell_members(x, y, grid, padding=tuple(reach))
    near = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
    near[cell] = True
    return near.reshape(grid.shape)
