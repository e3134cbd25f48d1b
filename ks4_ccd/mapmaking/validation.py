# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Validate calibrated magnitudes and positions on held-out stars."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import mad_std, sigma_clip
from astropy.table import Table
from tqdm import tqdm

from ks4_ccd.catalogs.columns import SourceColumns, plain_column
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import (
    FileWriteError,
    KS4Error,
    MapMismatchError,
    OptionError,
    finite,
    one_of,
)
from ks4_ccd.files.writing import as_path, written_whole
from ks4_ccd.ks4.frame import STACK_SHAPE
from ks4_ccd.mapmaking._placement import check_placement
from ks4_ccd.mapmaking._report import report_of, scale_of, title_of
from ks4_ccd.mapmaking._residuals import (
    Residuals,
    calibrated_residuals,
    held_out_residuals,
    star_table,
)
from ks4_ccd.mapmaking.builders import (
    PHOTOMETRIC_SHAPE,
    RECIPES,
    Edges,
    build_offset_map,
    build_zeropoint_map,
    refuse_calibrated,
    stars_and_grid,
)
from ks4_ccd.mapmaking.cells import cell_statistics
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase
else:
    # Matplotlib is an optional dependency.
    FigureBase = object

__all__ = ["Validation", "cross_validate"]

# The largest median difference from the reference, in mag.
_FARTHEST = 10.0
# The clipping limit, in standard deviations.
_CLIP = 3.0
# The shape of a map of residuals.
_BINS = 11, 11
# The lower limits of magnitude bins.
_MAGNITUDES = range(14, 19)
_COLORS = 4
_AXES = {"ra": "along RA", "dec": "along Dec"}
_KINDS = {"zeropoint": ZeroPointMap, "offset": OffsetMap}


def cross_validate(
    matched: Table,
    image_shape: tuple[int, int] = STACK_SHAPE,
    *,
    band: str,
    aperture: str = "APER5",
    kind: str = "zeropoint",
    mode: str = "single",
    recipe: str = "default",
    calibration: float | ZeroPointMap | OffsetMap | None = None,
    shape: tuple[int, int] | None = None,
    edges: Edges | None = None,
    color: tuple[str, str] | None = None,
    folds: int = 5,
    seed: int = 0,
    columns: str | SourceColumns | Mapping = "sextractor",
    apertures: Sequence[str] | None = None,
    mag_zeropoint: float | None = None,
    progress: bool = False,
) -> "Validation":
    """
    Measure the accuracy of calibrated magnitudes or positions on held-out stars.

    The stars are divided into folds. Each fold in turn is held out, and calibrated
    with a map made from all others.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Sources and their reference stars, as returned by `match_catalogs`. It is
        not changed.
    image_shape : tuple of int, optional
        The shape ``(rows, columns)`` of the image.
    band : str
        The band of the image; ``{band}mag`` are the reference magnitudes.
    aperture : str, optional
        The aperture of the magnitudes; not used for positions.
    kind : {"zeropoint", "offset"}, optional
        Whether magnitudes or positions are validated.
    mode : {"single", "dual"}, optional
        The mode of the catalog.
    recipe : {"default", "dr1"}, optional
        The recipe of the maps: see `build_zeropoint_map`. Positions must be
        validated with the default.
    calibration : float, `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`, optional
        An existing calibration to validate, instead of maps made from the stars. A
        map is applied to the magnitudes or positions. A number is a uniform zero
        point: 0 for a calibrated catalog, 30 for instrumental magnitudes measured on
        a calibrated image. For positions it must be 0, which leaves them unchanged.
    shape, edges : optional
        The shape and the edges of the maps that are made: see `build_zeropoint_map`
        and `build_offset_map`.
    color : pair of str, optional
        The bands of a colour term of the zero-point maps that are made: see
        `build_zeropoint_map`.
    folds : int, optional
        The number of folds.
    seed : int, optional
        The seed of the random division into folds.
    columns : str, `~ks4_ccd.SourceColumns` or dict, optional
        The columns of the source catalog: a preset, or `~ks4_ccd.SourceColumns`.
    apertures : sequence of str, optional
        The names of the apertures in the vector column of the catalog.
    mag_zeropoint : float, optional
        The zero point that the magnitudes contain: see `build_zeropoint_map`.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    validation : `~ks4_ccd.Validation`
        ``table`` contains the statistics, ``stars`` the residual of each star;
        ``plot()`` draws a figure, ``write(folder)`` writes all of these, and
        ``print`` shows a report.

    Raises
    ------
    OptionError
        If an argument does not have one of its allowed values, or there are fewer
        stars than folds.
    KS4Error
        If columns are missing, no star has a residual, or there are too few stars
        for a map.
    MapMismatchError
        If ``calibration`` is a map of another band or aperture, all stars are
        outside of the image, or the calibrated magnitudes differ from those of the
        reference by more than 10 mag.
    GeometryError
        As in `build_zeropoint_map`.

    Notes
    -----
    A residual is calibrated minus reference. Sources matched with the same
    reference star are in the same fold.

    A pull is a residual over its quoted error. For a held-out star this is
    ``hypot(own, map)``: ``map`` is the standard error of the map at the star
    (``error_at(x, y, error_kind="median")``), ``own`` the scatter (1.4826 times
    the median absolute deviation) of stars of similar measured error about the
    map made from them, where the measured error is the hypotenuse of the errors
    of the magnitude and of the reference (for positions, the error of the
    magnitude in AUTO). The star itself does not contribute. The trend of
    residuals with magnitude, the median of those stars, is subtracted before
    pulls are computed, but not from residuals: a map refers to a star of median
    magnitude.

    With ``calibration``, the calibration may have been derived from the same stars.
    ``own`` is then the measured error, ``map`` is 0 for a number or a map without
    errors or counts, and the trend is computed from the same stars. Pulls of
    positions are NaN, because positions have no measured error.

    Examples
    --------
    >>> from ks4_ccd import cross_validate, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> validation = cross_validate(
    ...     field.matched, (400, 400), band="R", shape=(8, 8), folds=2
    ... )
    >>> print(f"{validation.table['scatter'][0]:.4f} mag")
    0.0208 mag
    """
    one_of("kind", kind, tuple(_KINDS))
    one_of("mode", mode, ("single", "dual"))
    one_of("recipe", recipe, RECIPES)
    if kind == "offset" and recipe == "dr1":
        msg = 'recipe must be default with kind="offset": DR1 has no offset maps'
        raise OptionError(msg)
    _check_calibration(calibration, kind, shape, edges, color)
    _check_key(getattr(calibration, "key", None), kind, band, aperture)
    given_map = (
        calibration if isinstance(calibration, ZeroPointMap | OffsetMap) else None
    )
    if given_map is not None:
        image_shape = given_map.grid.image_shape
    stars, grid = stars_and_grid(
        matched,
        image_shape,
        band,
        columns,
        apertures,
        mag_zeropoint,
        shape,
        recipe,
        edges,
        PHOTOMETRIC_SHAPE,
    )
    if kind == "zeropoint" and not isinstance(calibration, Real):
        refuse_calibrated(stars.sources)
    if given_map is not None and given_map.key is not None:
        check_placement(stars, given_map.grid, given_map.key.field)
    residuals = Residuals(stars, kind, aperture, mode)
    if not residuals.measured.any():
        measured = "offsets" if kind == "offset" else f"magnitudes in {aperture}"
        msg = (
            f"expected stars with finite pixel positions, {measured} and {band}mag, "
            f"found none among {len(matched)} matched stars"
        )
        raise KS4Error(msg)
    meta: dict[str, object] = {"kind": kind, "band": band, "mode": mode}
    if kind == "zeropoint":
        meta["aperture"] = aperture
        if contained := stars.sources.mag_zeropoint:
            meta["mag_zeropoint"] = contained
    if calibration is None:
        options: dict[str, object] = {"band": band, "mode": mode}
        options |= {"shape": shape, "edges": edges}
        options |= {"columns": columns, "apertures": apertures}
        options |= {"mag_zeropoint": mag_zeropoint}
        build: Callable = build_offset_map
        if kind == "zeropoint":
            build = build_zeropoint_map
            options |= {"aperture": aperture, "recipe": recipe, "color": color}
        fold = _folds(matched, folds, seed)
        values = np.full((3, *np.shape(residuals.after(0.0))), np.nan)
        for number in tqdm(np.unique(fold), unit="fold", disable=not progress):
            held_out = fold == number
            map_ = build(matched[~held_out], image_shape, **options)
            of_fold = held_out_residuals(residuals, map_, ~held_out)
            values[..., held_out] = of_fold[..., held_out]
        meta |= {"recipe": recipe, "folds": folds, "seed": seed}
        if color is not None:
            meta["color_term"] = "-".join(color)
        grid = map_.grid
        meta["edges"] = sum(len(axis) for axis in grid.edges)
    else:
        fold = np.full(len(matched), -1)
        values = calibrated_residuals(residuals, calibration)
        if kind == "zeropoint":
            _check_offset(values[0], calibration, stars.sources)
        meta["calibration"] = (
            "map"
            if isinstance(calibration, ZeroPointMap | OffsetMap)
            else float(calibration)
        )
        if given_map is not None:
            grid = given_map.grid
            if isinstance(given_map, ZeroPointMap) and given_map.color_term:
                color = given_map.color_term.bands
    for axis, positions in zip("xy", grid.edges, strict=True):
        meta[f"edges_{axis}"] = [float(position) for position in positions]
    rows, columns_ = image_shape
    table = star_table(residuals, values, fold, meta, color)
    return Validation(table, (rows, columns_))


def _check_calibration(
    calibration: float | ZeroPointMap | OffsetMap | None,
    kind: str,
    shape: tuple[int, int] | None,
    edges: Edges | None,
    color: tuple[str, str] | None,
) -> None:
    if color is not None and kind == "offset":
        msg = 'color must be None for kind="offset": positions have no colour term'
        raise OptionError(msg)
    if calibration is None:
        return
    if not (shape is edges is color is None):
        msg = (
            "shape, edges and color must be omitted with calibration=: no maps are made"
        )
        raise OptionError(msg)
    number = isinstance(calibration, Real) and not isinstance(calibration, bool)
    if not number and not isinstance(calibration, _KINDS[kind]):
        msg = (
            f'calibration must be a number, or for kind="{kind}" a map of the class '
            f"{_KINDS[kind].__name__}, got {calibration!r}"
        )
        raise OptionError(msg)
    if number and finite("calibration", calibration) and kind == "offset":
        msg = f'calibration must be 0 or a map for kind="offset", got {calibration!r}'
        raise OptionError(msg)


def _check_key(key: MapKey | None, kind: str, band: str, aperture: str) -> None:
    if key is None:
        return
    same = key.band == band and (kind == "offset" or key.aperture == aperture)
    if not same:
        msg = f"expected a map of {band} {aperture}, found {key}"
        raise MapMismatchError(msg)


def _check_offset(
    residuals: np.ndarray,
    calibration: float | ZeroPointMap | OffsetMap,
    sources: Sources,
) -> None:
    """Raise an error if residuals are as large as a zero point."""
    median = float(np.nanmedian(residuals))
    if abs(median) <= _FARTHEST:
        return
    is_map = isinstance(calibration, ZeroPointMap | OffsetMap)
    shown = "the map" if is_map else f"zero point {calibration:g}"
    msg = (
        f"expected magnitudes within {_FARTHEST:g} mag of the reference with {shown} "
        f"and mag_zeropoint={sources.mag_zeropoint:g}, found a median difference of "
        f"{median:.2f} mag; give the zero point that the magnitudes contain "
        "(mag_zeropoint=, --mag-zeropoint), or the one to add to them (calibration=, "
        "--zeropoint)"
    )
    raise MapMismatchError(msg)


def _folds(matched: Table, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row, which is common to all rows of a star."""
    is_integer = isinstance(folds, Integral) and not isinstance(folds, bool)
    if not is_integer or int(folds) < 2:
        msg = f"folds must be an integer of 2 or more, got {folds!r}"
        raise OptionError(msg)
    star = np.arange(len(matched))
    if {"RAJ2000", "DEJ2000"} <= set(matched.colnames):
        positions = [plain_column(matched, name) for name in ("RAJ2000", "DEJ2000")]
        _, star = np.unique(positions, axis=1, return_inverse=True)
        star = star.ravel()
    number = int(np.max(star)) + 1
    if folds > number:
        msg = f"folds must not exceed the number of stars, {number}, got {folds}"
        raise OptionError(msg)
    return (np.random.default_rng(seed).permutation(number) % folds)[star]


@dataclass(frozen=True, eq=False)
class Validation:
    """
    The accuracy of calibrated magnitudes or positions.

    Returned by `~ks4_ccd.cross_validate`.

    Parameters
    ----------
    stars : `~astropy.table.Table`
        A row for each star with a residual, for positions one per axis: ``row``
        in the table of matched stars, ``x``, ``y`` (0-based pixel coordinates),
        ``ra``, ``dec`` (if known), ``magnitude`` and ``color`` (if there are two
        bands) of the reference, ``fold``,
        ``published`` (whether it is in the published selection), ``axis``,
        ``residual`` (calibrated minus reference), its ``trend`` with magnitude
        and quoted ``error`` (all in mag, or mas), and ``pull``: (residual -
        trend) / error. Its meta records the options of the validation.
    image_shape : tuple of int
        The shape ``(rows, columns)`` of the image.

    Examples
    --------
    >>> from ks4_ccd import cross_validate, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> validation = cross_validate(
    ...     field.matched, (400, 400), band="R", shape=(8, 8), folds=2
    ... )
    >>> for row in validation.table[:3]:
    ...     scatter, width = 1000 * row["scatter"], row["pull_width"]
    ...     print(f"{row['stars']:19} {row['number']} {scatter:.1f} mmag {width:.2f}")
    all stars           320 20.8 mmag 0.94
    published selection 210 18.6 mmag 1.01
    14 to 15 mag        23 20.0 mmag 0.98
    """

    stars: Table
    image_shape: tuple[int, int]

    def __str__(self) -> str:
        return self.text

    @property
    def meta(self) -> dict[str, Any]:
        """The options of the validation: a copy of the meta of ``stars``."""
        return dict(self.stars.meta)

    @property
    def name(self) -> str:
        """The stem of file names, such as ``zeropoint_R_single_APER5_default``."""
        meta = self.meta
        parts = [meta["kind"], meta["band"], meta["mode"], meta.get("aperture")]
        if "recipe" in meta:
            parts += [meta["recipe"], "edges" if meta["edges"] else None]
        elif meta["calibration"] == "map":
            parts.append("map")
        else:
            parts.append(f"constant{meta['calibration']:g}")
        return "_".join(str(part) for part in parts if part)

    @cached_property
    def table(self) -> Table:
        """
        Statistics of residuals and pulls, as an `~astropy.table.Table`.

        Rows: all stars, the published selection, and its subsets by axis (for
        positions), by magnitude, by colour (four with equal numbers of stars) and
        beside each edge (up to the mean distance of stars). Columns: the ``number``
        of stars; for residuals the ``rms``, ``median`` and ``scatter`` (RMS after
        clipping at 3 sigma about the median); for pulls the standard deviation after
        such clipping (``pull_width``), 1.4826 times the median absolute deviation
        (``pull_mad``), and the former without subtraction of the trend
        (``pull_width_with_trend``). Statistics of a row without stars are NaN.
        """
        rows = [(name, *self._numbers(chosen)) for name, chosen in self._parts()]
        names = ["stars", "number", "rms", "median", "scatter"]
        names += ["pull_width", "pull_mad", "pull_width_with_trend"]
        table = Table(rows=rows, names=names, meta=self.meta)
        for name in ("rms", "median", "scatter"):
            table[name].unit = self.stars["residual"].unit
        return table

    def _parts(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the name and the selection of each row of the table."""
        published, axis = self.stars["published"].value, self.stars["axis"].value
        yield "all stars", np.ones(len(self.stars), dtype=bool)
        yield "published selection", published
        if len(self._axes) > 1:
            for name in self._axes:
                yield _AXES[name], published & (axis == name)
        magnitude = self.stars["magnitude"].value
        for low in _MAGNITUDES:
            high = low + 1 if low + 1 < _MAGNITUDES.stop else np.inf
            inside = (magnitude >= low) & (magnitude < high)
            yield f"{low} to {low + 1} mag", published & inside
        yield from self._parts_by_color()
        yield from self._parts_by_edge()

    def _parts_by_color(self) -> Iterator[tuple[str, np.ndarray]]:
        if "color" not in self.stars.colnames:
            return
        published, color = self.stars["published"].value, self.stars["color"].value
        usable = published & np.isfinite(color)
        if not usable.any():
            return
        limits = np.quantile(color[usable], np.linspace(0, 1, _COLORS + 1))
        for number, (low, high) in enumerate(pairwise(limits)):
            is_last = number == _COLORS - 1
            inside = (color >= low) & ((color < high) | is_last)
            name = self.meta["color"]
            yield f"{name} {low:.2f} to {high:.2f}", usable & inside

    def _parts_by_edge(self) -> Iterator[tuple[str, np.ndarray]]:
        published = self.stars["published"].value
        rows, columns = self.image_shape
        number = max(len(np.unique(self.stars["row"])), 1)
        reach = np.sqrt(rows * columns / number)
        for axis in "xy":
            position = self.stars[axis].value
            for edge in self.meta.get(f"edges_{axis}", ()):
                near = np.abs(position - edge) <= reach
                yield f"edge at {axis} = {edge:.0f}", published & near

    @property
    def _axes(self) -> list[str]:
        return list(dict.fromkeys(self.stars["axis"].tolist()))

    def _numbers(self, chosen: np.ndarray) -> tuple[float, ...]:
        """Return the statistics of a selection of stars."""
        stars = self.stars[chosen]
        residual, error = stars["residual"].value, stars["error"].value
        pull = stars["pull"].value
        pull, raw = pull[np.isfinite(pull)], (residual / error)[np.isfinite(pull)]
        clipped = _clipped(residual)
        return (
            len(np.unique(stars["row"])),
            _rms(residual),
            _of(np.median, residual),
            _rms(clipped),
            _of(np.std, _clipped(pull)),
            _of(mad_std, pull),
            _of(np.std, _clipped(raw)),
        )

    @property
    def text(self) -> str:
        """The report, as text."""
        return report_of(self.table)

    def map(self, shape: tuple[int, int] = _BINS) -> np.ndarray:
        """
        Return median residuals by position.

        Parameters
        ----------
        shape : tuple of int, optional
            The number of cells along x and along y.

        Returns
        -------
        medians : 2D `~numpy.ndarray`
            The median residual of the published selection in each cell, indexed
            ``[x_bin, y_bin]``, in the unit of ``stars``; NaN in a cell without
            stars. For positions 3D: the first index is the axis.
        """
        grid = MapGrid.for_image(shape, self.image_shape)
        maps = []
        for axis in self._axes:
            stars = self.stars[self.stars["published"] & (self.stars["axis"] == axis)]
            if not len(stars):
                maps.append(np.full(grid.shape, np.nan))
                continue
            x, y, residual = (stars[name].value for name in ("x", "y", "residual"))
            maps.append(cell_statistics(x, y, residual, grid, sigma=None).median)
        return np.array(maps) if len(maps) > 1 else maps[0]

    def plot(self, figure: FigureBase | None = None) -> FigureBase:
        """
        Plot residuals by magnitude, colour and position, and as histograms.

        Parameters
        ----------
        figure : `~matplotlib.figure.Figure`, optional
            The figure to draw into; by default a new one.

        Returns
        -------
        figure : `~matplotlib.figure.Figure`

        Raises
        ------
        KS4Error
            If matplotlib is not installed.
        """
        scale, unit = scale_of(self.stars["residual"].unit)
        rows, columns = self.image_shape
        maps = np.reshape(self.map(_BINS), (len(self._axes), *_BINS))
        numbers = self.table[self.table["stars"] == "published selection"][0]
        from ks4_ccd.plotting import draw_residuals

        return draw_residuals(
            self.stars,
            {axis: scale * map_ for axis, map_ in zip(self._axes, maps, strict=True)},
            extent=(-0.5, columns - 0.5, -0.5, rows - 0.5),
            scale=scale,
            unit=unit,
            scatter=scale * numbers["scatter"],
            pull_width=numbers["pull_width"],
            title=title_of(self.meta),
            distance=self._distance_from_edge(),
            figure=figure,
        )

    def _distance_from_edge(self) -> np.ndarray | None:
        """Return the signed distance of stars from the nearest edge, if any."""
        distances = [
            self.stars[axis].value - edge
            for axis in "xy"
            for edge in self.meta.get(f"edges_{axis}", ())
        ]
        if not distances:
            return None
        every = np.array(distances)
        nearest = np.argmin(np.abs(every), axis=0)
        return np.take_along_axis(every, nearest[np.newaxis], axis=0)[0]

    def write(
        self,
        folder: str | os.PathLike,
        *,
        name: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """
        Write the statistics, the stars, the report and the figure.

        Parameters
        ----------
        folder : str or path-like
            Created if it does not exist.
        name : str, optional
            The stem of the file names, by default ``self.name``.
        overwrite : bool, optional
            Whether existing files may be replaced.

        Returns
        -------
        paths : list of `~pathlib.Path`
            ``validation_{name}.ecsv``, ``validation_{name}_stars.ecsv``,
            ``validation_{name}.txt`` and ``validation_{name}.png``.

        Raises
        ------
        KS4Error
            If one of the files exists already or cannot be written, or matplotlib
            is not installed.
        """
        folder_path = as_path("folder", folder)
        stem = f"validation_{name or self.name}"
        suffixes = (".ecsv", "_stars.ecsv", ".txt", ".png")
        paths = [folder_path / f"{stem}{suffix}" for suffix in suffixes]
        figure: Any = self.plot()
        try:
            folder_path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot write to {folder_path}: {error.strerror or error}"
            raise FileWriteError(msg) from error
        with ExitStack() as stack:
            # Files are renamed after all four have been written.
            partial = [stack.enter_context(written_whole(p, overwrite)) for p in paths]
            self.table.write(partial[0], format="ascii.ecsv")
            self.stars.write(partial[1], format="ascii.ecsv")
            Path(partial[2]).write_text(f"{self.text}\n", encoding="utf-8")
            figure.savefig(partial[3], dpi=120, format="png")
        return paths


def _clipped(values: np.ndarray) -> np.ndarray:
    if not values.size:
        return values
    return sigma_clip(values, sigma=_CLIP, masked=False, axis=None)


def _rms(values: np.ndarray) -> float:
    return _of(lambda sample: np.sqrt(np.mean(sample**2)), values)


def _of(statistic: Callable[[np.ndarray], Any], values: np.ndarray) -> float:
    return float(statistic(values)) if values.size else np.nan
