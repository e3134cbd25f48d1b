# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Make maps from tables of matched stars."""

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TypeAlias

import numpy as np
from astropy.table import Table
from tqdm import tqdm

from ks4_ccd.catalogs.columns import SourceColumns
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    KS4Error,
    MapMismatchError,
    OptionError,
    one_of,
)
from ks4_ccd.files.magnitudes import CONTAINED, zeropoint_columns
from ks4_ccd.ks4.frame import STACK_SHAPE
from ks4_ccd.ks4.names import APERTURES, MODE_ALIASES, canonical_key
from ks4_ccd.mapmaking import _default_recipe, _dr1_recipe
from ks4_ccd.mapmaking._color import color_of
from ks4_ccd.mapmaking._placement import check_placement
from ks4_ccd.mapmaking._stars import MatchedStars
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = [
    "ASTROMETRIC_SHAPE",
    "PHOTOMETRIC_SHAPE",
    "RECIPES",
    "Edges",
    "build_maps",
    "build_misalignment_map",
    "build_offset_map",
    "build_zeropoint_map",
    "check_zeropoints",
    "map_key",
    "refuse_calibrated",
    "stars_and_grid",
]

# Shapes of the maps of DR1, which are the defaults.
PHOTOMETRIC_SHAPE, ASTROMETRIC_SHAPE = (55, 55), (110, 110)

# 0-based pixel coordinates of the edges along x, and of those along y.
Edges: TypeAlias = Sequence[Sequence[float] | np.ndarray]


def build_zeropoint_map(
    matched: Table,
    image_shape: tuple[int, int] = STACK_SHAPE,
    *,
    band: str,
    aperture: str = "APER5",
    mode: str = "single",
    field: str | int | None = None,
    shape: tuple[int, int] | None = None,
    recipe: str = "default",
    edges: Edges | None = None,
    color: tuple[str, str] | None = None,
    misalignment: MisalignmentMap | None = None,
    columns: str | SourceColumns | Mapping = "sextractor",
    apertures: Sequence[str] | None = None,
    mag_zeropoint: float | None = None,
) -> ZeroPointMap:
    """
    Make a zero-point map from matched stars.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Sources and their reference stars, as returned by `match_catalogs` or
        written by the pipeline of DR1. It is not changed.
    image_shape : tuple of int, optional
        The shape ``(rows, columns)`` of the image.
    band : str
        The band of the image; ``{band}mag`` are the reference magnitudes.
    aperture : str, optional
        The aperture of the instrumental magnitudes.
    mode : {"single", "dual"}, optional
        The mode of the catalog. DR1 selects stars by their errors in mode single
        only.
    field : str or int, optional
        The field, for the ``key`` of the map. By default the map has no key.
    shape : tuple of int, optional
        The shape of the map, ``(cells along x, cells along y)``: by default
        (55, 55), and (220, 220) with ``edges``.
    recipe : {"default", "dr1"}, optional
        ``"dr1"`` makes the maps of DR1, quirks included; see Notes.
    edges : pair of sequences, optional
        0-based pixel coordinates along x, and along y, of the edges at which the
        zero point may have steps, such as those of amplifiers. Not allowed with
        ``"dr1"``.
    color : pair of str, optional
        The bands of a colour, such as ``("V", "I")``, on which the zero point may
        depend; ``{band}mag`` are their reference magnitudes. Stars without a
        colour are not used. Not allowed with ``"dr1"``.
    misalignment : `~ks4_ccd.MisalignmentMap`, optional
        The map by which the largest separation of a match is set. By default it is
        made from ``matched``; DR1 uses that of mode single in both modes.
    columns : str, `~ks4_ccd.SourceColumns` or dict, optional
        The columns of the source catalog: a preset, or `~ks4_ccd.SourceColumns`.
    apertures : sequence of str, optional
        The names of the apertures in its vector column.
    mag_zeropoint : float, optional
        The zero point that the magnitudes contain (SExtractor's MAG_ZEROPOINT):
        it is subtracted first. By default the one given to `match_catalogs`
        (MATCHMZP in ``matched.meta``), or 0.

    Returns
    -------
    zpmap : `~ks4_ccd.ZeroPointMap`
        ``error`` is the scatter of single stars. With the default recipe
        ``count`` is the number of stars whose median would have the uncertainty of
        the map, so that ``error_kind="median"`` returns the standard error. With
        ``color``, ``color_term`` is the dependence on the colour of a star, and the
        values are those of a star of median colour.

    Raises
    ------
    AlreadyCalibratedError
        If magnitudes contain the zero points of maps: the table has columns of
        them (ZP_AP), or a record of a calibration.
    OptionError
        If an argument does not have one of its allowed values, or the reference
        has no magnitudes in a band of ``color``.
    KS4Error
        If columns are missing, or fewer than three stars are usable.
    GeometryError
        If the map does not fit the image, or for a KS4 field if the pixel
        positions are not those of its stack.
    MapMismatchError
        If all stars are outside of the image, most are not in the field, or a zero
        point is below 10 or above 50, as from magnitudes that contain a zero point.

    Warns
    -----
    KS4Warning
        If there is no ``color`` and the zero point depends on the colour of the
        stars, significantly and by more than 1 mmag RMS.

    Notes
    -----
    The default recipe fits a surface to all stars at once: an average of
    penalised cubic splines, weighted by five-fold cross-validation, plus
    polynomials in the regions between ``edges``, whose degree is chosen in the
    same way; without ``edges``, plus the mean residual of nearby stars where it
    is significant. From fewer than 500 stars, it is an average of Gaussian
    processes, weighted by their probability. Stars are weighted by their
    uncertainties (of the magnitudes and of the reference), scaled and with a floor
    so that they match the scatter of stars of equal uncertainties. A trend with
    the brightness of stars is fitted simultaneously and removed: the map refers
    to a star of median magnitude. So is a polynomial of the colour, of order 0, 1 or
    2, whichever predicts held-out stars best. A cell is empty if the nearest star is
    farther from it than 1.5 times the mean distance of stars.

    ``"dr1"`` computes the median of the stars in each cell after clipping at
    2 sigma, and cuts separations as the pipeline of DR1 does, which compares
    degrees with arcseconds.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd import build_zeropoint_map, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> zpmap = build_zeropoint_map(
    ...     field.matched, (400, 400), band="R", aperture="APER5", shape=(8, 8)
    ... )
    >>> print(zpmap.values[3:5, 2:5].round(3))
    [[29.919 29.965 29.974]
     [29.906 29.951 29.975]]
    """
    source = columns, apertures, mag_zeropoint
    stars, grid = stars_and_grid(
        matched, image_shape, band, *source, shape, recipe, edges, PHOTOMETRIC_SHAPE
    )
    refuse_calibrated(stars.sources)
    check_placement(stars, grid, field)
    made = _zeropoint_maps(
        stars, [aperture], grid, mode, recipe, misalignment, field, color
    )
    return next(made)


def build_misalignment_map(
    matched: Table,
    image_shape: tuple[int, int] = STACK_SHAPE,
    *,
    band: str,
    mode: str = "single",
    field: str | int | None = None,
    shape: tuple[int, int] | None = None,
    recipe: str = "default",
    edges: Edges | None = None,
    columns: str | SourceColumns | Mapping = "sextractor",
    apertures: Sequence[str] | None = None,
    mag_zeropoint: float | None = None,
) -> MisalignmentMap:
    """
    Make a map of the separations of sources and reference stars.

    Parameters
    ----------
    matched, image_shape, band, mode, field, columns, apertures, mag_zeropoint
        As in `build_zeropoint_map`.
    shape : tuple of int, optional
        The shape of the map, by default (110, 110).
    recipe : {"default", "dr1"}, optional
        ``"dr1"`` computes the median separation of the stars in a window of five
        by five cells around each cell. The default clips at 3 sigma, and widens
        windows that contain fewer than eight stars.
    edges : pair of sequences, optional
        0-based pixel coordinates along x, and along y, of the edges at which
        windows end. Not allowed with ``"dr1"``.

    Returns
    -------
    misalignment : `~ks4_ccd.MisalignmentMap`

    Raises
    ------
    OptionError, KS4Error, GeometryError, MapMismatchError
        As in `build_zeropoint_map`.

    Examples
    --------
    >>> from ks4_ccd import build_misalignment_map, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> misalignment = build_misalignment_map(
    ...     field.matched, (400, 400), band="R", shape=(16, 16), recipe="dr1"
    ... )
    >>> print(misalignment.values[7:9, 7:10].round(3))
    [[0.1   0.086 0.074]
     [0.095 0.097 0.088]]
    """
    key = map_key(field, band, mode)
    source = columns, apertures, mag_zeropoint
    stars, grid = stars_and_grid(
        matched, image_shape, band, *source, shape, recipe, edges, ASTROMETRIC_SHAPE
    )
    check_placement(stars, grid, field)
    return _misalignment_map(stars, grid, recipe, key)


def build_offset_map(
    matched: Table,
    image_shape: tuple[int, int] = STACK_SHAPE,
    *,
    band: str,
    mode: str = "single",
    field: str | int | None = None,
    shape: tuple[int, int] | None = None,
    edges: Edges | None = None,
    columns: str | SourceColumns | Mapping = "sextractor",
    apertures: Sequence[str] | None = None,
    mag_zeropoint: float | None = None,
) -> OffsetMap:
    """
    Make a map of position offsets along RA and declination.

    Parameters
    ----------
    matched, image_shape, band, mode, field, columns, apertures, mag_zeropoint
        As in `build_zeropoint_map`.
    shape : tuple of int, optional
        The shape of the map, by default (110, 110), and (220, 220) with
        ``edges``.
    edges : pair of sequences, optional
        0-based pixel coordinates along x, and along y, of the edges at which
        positions may have steps, such as those of chips.

    Returns
    -------
    offsets : `~ks4_ccd.OffsetMap`
        ``error`` is the scatter of single stars along an axis; ``count`` is as in
        `build_zeropoint_map`.

    Raises
    ------
    OptionError, KS4Error, GeometryError, MapMismatchError
        As in `build_zeropoint_map`.

    Notes
    -----
    Both components are surfaces as in `build_zeropoint_map`. DR1 contains no
    offset maps, so there is no other recipe.

    Examples
    --------
    >>> from ks4_ccd import build_offset_map, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> offsets = build_offset_map(field.matched, (400, 400), band="R", shape=(16, 16))
    >>> print(offsets.dra[7:9, 7:10].round(3))
    [[-0.053 -0.056 -0.04 ]
     [-0.044 -0.06  -0.06 ]]
    """
    key = map_key(field, band, mode)
    source = columns, apertures, mag_zeropoint
    stars, grid = stars_and_grid(
        matched, image_shape, band, *source, shape, "default", edges, ASTROMETRIC_SHAPE
    )
    check_placement(stars, grid, field)
    return OffsetMap(*_default_recipe.offset_cells(stars, grid), grid=grid, key=key)


def build_maps(
    matched: Table,
    image_shape: tuple[int, int] = STACK_SHAPE,
    *,
    band: str,
    mode: str = "single",
    field: str | int | None = None,
    shape: tuple[int, int] | None = None,
    recipe: str = "default",
    chip_edges: Edges | None = None,
    amplifier_edges: Edges | None = None,
    color: tuple[str, str] | None = None,
    misalignment: MisalignmentMap | None = None,
    columns: str | SourceColumns | Mapping = "sextractor",
    apertures: Sequence[str] | None = None,
    mag_zeropoint: float | None = None,
    progress: bool = False,
) -> list[MisalignmentMap | OffsetMap | ZeroPointMap]:
    """
    Make all maps of an image: of positions, and of zero points in all apertures.

    Parameters
    ----------
    matched, image_shape, band, mode, field, recipe, columns, apertures, \
mag_zeropoint
        As in `build_zeropoint_map`.
    shape : tuple of int, optional
        The shape of the zero-point maps. Maps of positions have twice as many
        cells along each axis, or the same number with ``chip_edges``.
    chip_edges, amplifier_edges : pair of sequences, optional
        0-based pixel coordinates of the edges at which positions, and zero
        points, may have steps.
    color : pair of str, optional
        The bands of the colour on which zero points may depend.
    misalignment : `~ks4_ccd.MisalignmentMap`, optional
        The map of mode single, which DR1 stores for both modes. By default it is
        made from ``matched``.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    maps : list
        The misalignment map, an offset map (with the default recipe), and the
        zero-point map of each aperture of the catalog.

    Raises
    ------
    AlreadyCalibratedError, OptionError, KS4Error, GeometryError, MapMismatchError
        As in `build_zeropoint_map`.

    Examples
    --------
    >>> from ks4_ccd import build_maps, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> maps = build_maps(
    ...     field.matched, (400, 400), band="R", shape=(8, 8), recipe="dr1"
    ... )
    >>> for map_ in maps[:3]:
    ...     print(type(map_).__name__, map_.grid.shape, map_.values[4, 4].round(3))
    MisalignmentMap (16, 16) 0.121
    ZeroPointMap (8, 8) 28.974
    ZeroPointMap (8, 8) 29.688
    """
    key = map_key(field, band, mode)
    source = columns, apertures, mag_zeropoint
    stars, grid = stars_and_grid(
        matched,
        image_shape,
        band,
        *source,
        shape,
        recipe,
        amplifier_edges,
        PHOTOMETRIC_SHAPE,
    )
    refuse_calibrated(stars.sources)
    check_placement(stars, grid, field)
    finer = None
    if shape is not None:
        finer = shape if chip_edges is not None else _finer(grid)
    _, fine = stars_and_grid(
        matched,
        image_shape,
        band,
        *source,
        finer,
        recipe,
        chip_edges,
        ASTROMETRIC_SHAPE,
    )
    names = [name for name in APERTURES if name in stars.sources.apertures]
    names += [name for name in stars.sources.apertures if name not in names]
    if not names:
        stars.sources.place_of(APERTURES[0])
    with tqdm(
        total=len(names) + 1 + (recipe == "default"), unit="map", disable=not progress
    ) as bar:
        if misalignment is None:
            misalignment = _misalignment_map(stars, fine, recipe, key)
        maps: list[MisalignmentMap | OffsetMap | ZeroPointMap] = [misalignment]
        bar.update()
        if recipe == "default":
            arrays = _default_recipe.offset_cells(stars, fine)
            maps.append(OffsetMap(*arrays, grid=fine, key=key))
            bar.update()
        for zpmap in _zeropoint_maps(
            stars, names, grid, mode, recipe, misalignment, field, color
        ):
            maps.append(zpmap)
            bar.update()
    return maps


def _misalignment_map(
    stars: MatchedStars, grid: MapGrid, recipe: str, key: MapKey | None
) -> MisalignmentMap:
    arrays = _RECIPES[recipe].misalignment_cells(stars, grid)
    return MisalignmentMap(*arrays, grid=grid, key=key)


def _finer(grid: MapGrid) -> tuple[int, int]:
    """Return the shape of maps of positions: cells of half the size, or one pixel."""
    rows, columns = grid.image_shape
    return min(2 * grid.shape[0], columns), min(2 * grid.shape[1], rows)


def _zeropoint_maps(
    stars: MatchedStars,
    apertures: Sequence[str],
    grid: MapGrid,
    mode: str,
    recipe: str,
    misalignment: MisalignmentMap | None,
    field: str | int | None,
    color: tuple[str, str] | None,
) -> Iterator[ZeroPointMap]:
    mode = MODE_ALIASES[one_of("mode", mode, tuple(MODE_ALIASES))]
    keys = [map_key(field, stars.band, mode, aperture) for aperture in apertures]
    if color is not None:
        # Checked before any map is made.
        color_of(stars.sources.table, color)
    if misalignment is None:
        fine = MapGrid.for_image(_finer(grid), grid.image_shape)
        misalignment = _misalignment_map(stars, fine, recipe, None)
    elif not isinstance(misalignment, MisalignmentMap):
        msg = f"misalignment must be a MisalignmentMap, got {misalignment!r}"
        raise OptionError(msg)
    elif misalignment.grid.image_shape != grid.image_shape:
        msg = (
            f"misalignment must be the map of an image of shape {grid.image_shape}, "
            f"got the map of one of shape {misalignment.grid.image_shape}"
        )
        raise MapMismatchError(msg)
    cells = _RECIPES[recipe].zeropoint_cells(
        stars, apertures, grid, mode, misalignment, color
    )
    for aperture, key, made in zip(apertures, keys, cells, strict=True):
        values, error, count, color_term = made
        check_zeropoints(values, count, stars, aperture)
        yield ZeroPointMap(
            values, error, count, grid=grid, key=key, color_term=color_term
        )


_RECIPES: dict[str, ModuleType] = {"default": _default_recipe, "dr1": _dr1_recipe}
RECIPES = tuple(_RECIPES)
# With edges, cells are small, because values are not interpolated in the half of a
# cell next to an edge.
_SHAPE_WITH_EDGES = (220, 220)
# The range of zero points of existing cameras, for magnitudes of ADU.
_ZEROPOINTS = 10.0, 50.0


def stars_and_grid(
    matched: Table,
    image_shape: tuple[int, int],
    band: str,
    columns: str | SourceColumns | Mapping,
    apertures: Sequence[str] | None,
    mag_zeropoint: float | None,
    shape: tuple[int, int] | None,
    recipe: str,
    edges: Edges | None,
    default_shape: tuple[int, int],
) -> tuple[MatchedStars, MapGrid]:
    """Check the arguments of a builder; return its stars and the grid of the map."""
    one_of("recipe", recipe, RECIPES)
    if recipe == "dr1" and edges is not None:
        msg = 'edges must be None with recipe="dr1", which has no steps'
        raise OptionError(msg)
    if not isinstance(band, str) or not band:
        msg = f"band must be a name such as R, got {band!r}"
        raise OptionError(msg)
    stars = MatchedStars(matched, band, columns, apertures, mag_zeropoint)
    if shape is None:
        shape = default_shape if edges is None else _SHAPE_WITH_EDGES
    grid = MapGrid.for_image(shape, image_shape, ((), ()) if edges is None else edges)
    rows, columns_ = grid.image_shape
    if not (np.isfinite(stars.x) & np.isfinite(stars.y)).any():
        msg = (
            "expected matched stars with finite pixel positions, found none among "
            f"{len(matched)} stars"
        )
        raise KS4Error(msg)
    if not stars.on_image(grid.image_shape).any():
        msg = (
            f"expected stars on an image of {columns_} x {rows} pixels, found x from "
            f"{np.nanmin(stars.x):.0f} to {np.nanmax(stars.x):.0f} and y from "
            f"{np.nanmin(stars.y):.0f} to {np.nanmax(stars.y):.0f}; give image_shape "
            "(--image-size) of the image of the catalog"
        )
        raise MapMismatchError(msg)
    return stars, grid


def refuse_calibrated(sources: Sources) -> None:
    """
    Raise an error if magnitudes contain the zero points of maps.

    A map made from them would be constant.

    Parameters
    ----------
    sources : `~ks4_ccd.catalogs.sources.Sources`

    Raises
    ------
    AlreadyCalibratedError
        If the table has columns of zero points, or a record of a calibration.
    """
    if sources.columns.fluxes:
        return
    records = [f"column {name}" for name in zeropoint_columns(sources.table)]
    if CONTAINED in sources.table.meta:
        records.append(f"{CONTAINED} in its meta")
    if records:
        msg = (
            "the catalog was calibrated before: expected instrumental magnitudes, "
            f"found {', '.join(records)}. Give the uncalibrated catalog, or subtract "
            "these zero points and remove or rename this record"
        )
        raise AlreadyCalibratedError(msg)


def check_zeropoints(
    values: np.ndarray, count: np.ndarray, stars: MatchedStars, aperture: str
) -> None:
    """
    Raise an error if zero points are outside of the range of existing cameras.

    Parameters
    ----------
    values, count : 2D `~numpy.ndarray`
        The zero points, and the numbers of stars, in the cells of a map.
    stars : `~ks4_ccd.mapmaking._stars.MatchedStars`
    aperture : str

    Raises
    ------
    MapMismatchError
        If the zero point of a cell with stars is below 10 or above 50.
    """
    lowest, highest = _ZEROPOINTS
    valid = values[count > 0]
    wrong = valid[(valid < lowest) | (valid > highest)]
    if not wrong.size:
        return
    median = np.median(valid)
    contained = stars.sources.mag_zeropoint
    msg = (
        f"zero points of {aperture} in {stars.band}: expected values between "
        f"{lowest:g} and {highest:g}, found {wrong[0]:.3f} (median {median:.3f}) from "
        f"{stars.band}mag minus {stars.sources.place_of(aperture)[0]}; "
    )
    if stars.sources.columns.fluxes:
        msg += "give fluxes in counts (adu), and reference magnitudes"
    elif lowest <= median <= highest:
        msg += "remove the stars with such magnitudes"
    elif median < lowest and not contained:
        msg += (
            "the magnitudes already contain a zero point: give that of the "
            "measurement (mag_zeropoint=30 or --mag-zeropoint 30 for SExtractor's "
            "MAG_ZEROPOINT 30), or the instrumental magnitudes of a calibrated catalog"
        )
    else:
        msg += (
            f"mag_zeropoint={contained:g} was subtracted: check that the magnitudes "
            "contain it"
        )
    raise MapMismatchError(msg)


def map_key(
    field: str | int | None, band: str, mode: str, aperture: str | None = None
) -> MapKey | None:
    """Return the key of a map, or `None` without a field."""
    one_of("mode", mode, tuple(MODE_ALIASES))
    if field is None:
        return None
    family = "align" if aperture is None else "zp"
    # MapKey accepts field numbers, too.
    key = MapKey(family, field, band, mode, aperture)  # type: ignore[arg-type]
    return canonical_key(key)
