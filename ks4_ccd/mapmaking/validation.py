# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good calibrated magnitudes and positions are, on stars not used for them."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from astropy.stats import mad_std, sigma_clip
from astropy.table import Column, Table, vstack
from tqdm import tqdm

from ks4_ccd.catalogs.columns import plain_column
from ks4_ccd.exceptions import (
    FileWriteError,
    KS4Error,
    MapMismatchError,
    finite,
    one_of,
)
from ks4_ccd.files.writing import as_path, written_whole
from ks4_ccd.ks4.frame import STACK_SHAPE
from ks4_ccd.mapmaking._placement import check_placement
from ks4_ccd.mapmaking._residuals import Residuals, scatter_of, trend_of
from ks4_ccd.mapmaking.builders import (
    RECIPES,
    build_offset_map,
    build_zeropoint_map,
    refuse_calibrated,
    stars_and_grid,
)
from ks4_ccd.mapmaking.cells import cell_statistics
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = ["Validation", "cross_validate"]

_IN_UNIT = ("residual", "trend", "error")
_FARTHEST = 10.0  # mag
_KINDS = {"zeropoint": ZeroPointMap, "offset": OffsetMap}


def cross_validate(
    matched,
    image_shape=STACK_SHAPE,
    *,
    band,
    aperture="APER5",
    kind="zeropoint",
    mode="single",
    recipe="default",
    calibration=None,
    shape=None,
    edges=None,
    folds=5,
    seed=0,
    columns="sextractor",
    apertures=None,
    mag_zeropoint=None,
    progress=False,
):
    """
    Measure how good calibrated magnitudes or positions are.

    The stars are divided into folds. Those of each fold are left out, a map is
    made from all others and applied to them.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Sources and the stars that they are, as `match_catalogs` returns them.
        It is not changed.
    image_shape : tuple of int, optional
        The shape ``(rows, columns)`` of the image.
    band : str
        The band of the image; ``{band}mag`` are the reference magnitudes.
    aperture : str, optional
        The aperture of the magnitudes; for positions it has no meaning.
    kind : {"zeropoint", "offset"}, optional
        What is validated: magnitudes, or positions.
    mode : {"single", "dual"}, optional
        Of the catalog.
    recipe : {"default", "dr1"}, optional
        How maps are made: see `build_zeropoint_map`. For positions there is
        only the default.
    calibration : float, `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`, optional
        What to validate instead of making maps. A map is applied to the
        magnitudes or positions. A number is a zero point that all magnitudes
        have in common: 0 for a calibrated catalog, 30 for a catalog of
        instrumental magnitudes of a calibrated image. For positions it is 0:
        they are taken as they are.
    shape, edges : optional
        Of the maps that are made: see `build_zeropoint_map` and
        `build_offset_map`.
    folds : int, optional
        The number of folds.
    seed : int, optional
        Of the random numbers that divide the stars.
    columns : str, `~ks4_ccd.SourceColumns` or dict, optional
        The columns of the source catalog: a preset, or `~ks4_ccd.SourceColumns`.
    apertures : sequence of str, optional
        The names of the apertures in its vector column.
    mag_zeropoint : float, optional
        The zero point that the magnitudes contain: see `build_zeropoint_map`.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    validation : `~ks4_ccd.mapmaking.validation.Validation`
        Print it. ``table`` has its numbers, ``stars`` each star's, ``plot()``
        draws it and ``write(folder)`` writes all of these.

    Raises
    ------
    KS4Error
        If there are not as many stars as folds or fewer than two folds, if
        columns are missing, no star has a residual, the stars are too few for
        a map, or an argument is not allowed.
    MapMismatchError
        If ``calibration`` is a map of another band or aperture, all stars are
        off the image, or the calibrated magnitudes are more than 10 mag from
        those of the reference.
    GeometryError
        As in `build_zeropoint_map`.

    Notes
    -----
    A residual is calibrated minus reference. Sources that are the same
    reference star are in the same fold.

    A pull is a residual over its quoted error, which of a star left out is
    ``hypot(own, map)``: ``map`` is the standard error of the map at the star
    (``error_at(x, y, error_kind="median")``), ``own`` the scatter (1.4826
    times the median absolute deviation) of stars of like measured error about
    the map that they made, where the measured error is the hypotenuse of the
    errors of the magnitude and of the reference (for positions, that of the
    magnitude in AUTO). The star itself has no part in it.
    How residuals depend on magnitude, the median of those stars, is taken out
    of pulls, but not of residuals: a map is that of a typical star.

    With ``calibration``, stars may be those that it was made from. ``own`` is
    then the measured error as it is, ``map`` 0 for a number or a map without
    errors or counts, and the trend that of the stars themselves. Positions
    have no measured error, hence no pulls.

    Examples
    --------
    >>> from ks4_ccd import cross_validate, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> validation = cross_validate(
    ...     field.matched, (400, 400), band="R", shape=(8, 8), folds=2
    ... )
    >>> print(*validation.table.colnames)
    stars number rms median scatter pull_width pull_mad pull_width_with_trend
    """
    one_of("kind", kind, tuple(_KINDS))
    one_of("mode", mode, ("single", "dual"))
    one_of("recipe", recipe, RECIPES)
    if kind == "offset" and recipe == "dr1":
        msg = 'recipe="dr1" is not for kind="offset": the release has no such maps'
        raise KS4Error(msg)
    _check_calibration(calibration, kind, shape, edges)
    _check_key(getattr(calibration, "key", None), kind, band, aperture)
    if hasattr(calibration, "grid"):
        image_shape = calibration.grid.image_shape
    source = {"columns": columns, "apertures": apertures}
    source["mag_zeropoint"] = mag_zeropoint
    stars, _ = stars_and_grid(
        matched, image_shape, band, *source.values(), shape, recipe, edges, (55, 55)
    )
    if kind == "zeropoint" and not isinstance(calibration, Real):
        refuse_calibrated(stars.sources)
    if getattr(calibration, "key", None) is not None:
        check_placement(stars, calibration.grid, calibration.key.field)
    residuals = Residuals(stars, kind, aperture, mode)
    if not residuals.known.any():
        what = "positions" if kind == "offset" else f"magnitudes in {aperture}"
        msg = f"none of {len(matched)} stars has a place, {what} and {band}mag"
        raise KS4Error(msg)
    meta = {"kind": kind, "band": band, "mode": mode}
    if kind == "zeropoint":
        meta["aperture"] = aperture
        if contained := stars.sources.mag_zeropoint:
            meta["mag_zeropoint"] = contained
    if calibration is None:
        options = {"band": band, "mode": mode, "shape": shape, "edges": edges}
        options |= source
        if kind == "zeropoint":
            options |= {"aperture": aperture, "recipe": recipe}
        build = build_zeropoint_map if kind == "zeropoint" else build_offset_map
        fold = _folds(matched, folds, seed)
        found = np.full((3, *np.shape(residuals.left_by(0.0))), np.nan)
        for number in tqdm(np.unique(fold), unit="fold", disable=not progress):
            left_out = fold == number
            map_ = build(matched[~left_out], image_shape, **options)
            told = _told(residuals, map_, ~left_out)
            found[..., left_out] = told[..., left_out]
        meta |= {"recipe": recipe, "folds": folds, "seed": seed}
        meta["edges"] = 0 if edges is None else sum(len(axis) for axis in edges)
    else:
        fold = np.full(len(matched), -1)
        found = _found(residuals, calibration)
        if kind == "zeropoint":
            _check_offset(found[0], calibration, stars.sources)
        is_map = hasattr(calibration, "at")
        meta["calibration"] = "map" if is_map else float(calibration)
    return Validation(_table(residuals, found, fold, meta), tuple(image_shape))


def _check_calibration(calibration, kind, shape, edges):
    if calibration is None:
        return
    if shape is not None or edges is not None:
        msg = "shape and edges are of maps that are made, not of a calibration"
        raise KS4Error(msg)
    number = isinstance(calibration, Real) and not isinstance(calibration, bool)
    if not number and not isinstance(calibration, _KINDS[kind]):
        msg = (
            f'calibration must be a number, or for kind="{kind}" a map of the class '
            f"{_KINDS[kind].__name__}, got {calibration!r}"
        )
        raise KS4Error(msg)
    if number and finite("calibration", calibration) and kind == "offset":
        msg = f'calibration must be 0 or a map for kind="offset", got {calibration!r}'
        raise KS4Error(msg)


def _check_key(key, kind, band, aperture):
    if key is None:
        return
    same = key.band == band and (kind == "offset" or key.aperture == aperture)
    if not same:
        msg = f"the map is the {key}, and not of {band} {aperture}"
        raise MapMismatchError(msg)


def _check_offset(left, calibration, sources):
    """Refuse residuals that are no errors of a calibration, but another scale."""
    median = float(np.nanmedian(left))
    if abs(median) <= _FARTHEST:
        return
    shown = "the map" if hasattr(calibration, "at") else f"zero point {calibration:g}"
    msg = (
        f"expected magnitudes within {_FARTHEST:g} mag of the reference with {shown} "
        f"and mag_zeropoint={sources.mag_zeropoint:g}, found a median difference of "
        f"{median:.2f} mag; give the zero point that the magnitudes contain "
        "(mag_zeropoint=, --mag-zeropoint), or the one that they need (calibration=, "
        "--zeropoint)"
    )
    raise MapMismatchError(msg)


def _folds(matched, folds, seed):
    """Return the fold of each row; those of one reference star have the same."""
    if not isinstance(folds, Integral) or isinstance(folds, bool) or folds < 2:
        msg = f"folds must be a whole number from 2 on, got {folds!r}"
        raise KS4Error(msg)
    star = np.arange(len(matched))
    if {"RAJ2000", "DEJ2000"} <= set(matched.colnames):
        places = [plain_column(matched, name) for name in ("RAJ2000", "DEJ2000")]
        _, star = np.unique(places, axis=1, return_inverse=True)
        star = star.ravel()
    number = star.max() + 1
    if folds > number:
        msg = f"folds must not be more than the {number} stars, got {folds}"
        raise KS4Error(msg)
    return (np.random.default_rng(seed).permutation(number) % folds)[star]


def _told(residuals, map_, others):
    """Return residuals, trends and errors, from a map and the stars behind it."""
    errors, magnitude = residuals.errors, residuals.stars.reference
    others = others & residuals.makers & residuals.known
    own, trends = [], []
    left = residuals.left_by(map_)
    for values in left:
        trend = np.zeros(values.size)
        if residuals.has_trend:
            trend = trend_of(magnitude[others], values[others])(magnitude)
        scatter = scatter_of(errors[others], (values - trend)[others])
        own.append(scatter(errors))
        trends.append(trend)
    return np.array([left, trends, np.hypot(own, residuals.error_of(map_))])


def _found(residuals, calibration):
    """Return residuals, trends and errors of stars under a given calibration."""
    left, known = residuals.left_by(calibration), residuals.known
    trends, errors = np.zeros_like(left), np.full_like(left, np.nan)
    if residuals.has_trend:
        magnitude = residuals.stars.reference
        known = known & residuals.published if residuals.published.any() else known
        trends[0] = trend_of(magnitude[known], left[0][known])(magnitude)
        quoted = np.hypot(residuals.errors, residuals.error_of(calibration))
        errors[0] = np.where(quoted > 0, quoted, np.nan)
    return np.array([left, trends, errors])


def _table(residuals, found, fold, meta):
    """Return the table of the stars, those of one axis after those of another."""
    stars, rows = residuals.stars, np.flatnonzero(residuals.known)
    columns = {"row": (rows, None, "in the table of matched stars")}
    columns["x"] = stars.x[rows], "pix", "0-based"
    columns["y"] = stars.y[rows], "pix", "0-based"
    if stars.sources.has("ra") and stars.sources.has("dec"):
        ra, dec = stars.sources.sky()
        columns["ra"], columns["dec"] = (ra[rows], "deg", ""), (dec[rows], "deg", "")
    columns["magnitude"] = stars.reference[rows], "mag", "of the reference"
    columns["fold"] = fold[rows], None, "-1: not left out of anything"
    columns["published"] = residuals.published[rows], None, "in the published selection"
    parts = []
    for axis, left, trend, error in zip(residuals.axes, *found[..., rows], strict=True):
        part = Table()
        for name, (values, unit, description) in columns.items():
            part[name] = Column(values, unit=unit, description=description)
        part["axis"] = [axis] * len(rows)
        for name, values in zip(_IN_UNIT, (left, trend, error), strict=True):
            part[name] = Column(values, unit=residuals.unit)
        part["pull"] = (left - trend) / error
        parts.append(part)
    table = vstack(parts)
    table.meta = meta | {"matched": len(stars.sources)}
    return table


_CLIP = 3.0
_MAGNITUDES = range(14, 19)
_AXES = {"ra": "along RA", "dec": "along Dec"}
_SELECTION = """\
published selection: match within 0.5 arcsec, 14 to 19 mag, flags 0,
CLASS_STAR above 0.8, magnitude error below 0.05"""
_LEGEND = """\
rms, median: of calibrated minus reference; scatter: rms after clipping at 3 sigma
pull: (residual - its median at that magnitude) / quoted error, 1 if that is right;
width: standard deviation after clipping at 3 sigma; MAD: 1.4826 times the median
absolute deviation; +trend: the width if the median is left in"""


@dataclass(frozen=True, eq=False)
class Validation:
    """
    How good calibrated magnitudes or positions are.

    Made by `~ks4_ccd.cross_validate`.

    Attributes
    ----------
    stars : `~astropy.table.Table`
        A row for each star with a residual, for positions one along each
        axis: ``row`` in the table of matched stars, ``x``, ``y`` (0-based
        pixel coordinates), ``ra``, ``dec`` (if known), ``magnitude`` of the
        reference, ``fold``, ``published`` (whether it is in the published
        selection), ``axis``, ``residual`` (calibrated minus reference), its
        ``trend`` with magnitude and quoted ``error`` (all in mag, or mas),
        and ``pull``: (residual - trend) / error. Its meta tells what was
        validated.
    image_shape : tuple of int
        ``(rows, columns)`` of the image.
    """

    stars: Table
    image_shape: tuple

    def __str__(self):
        return self.text

    @property
    def meta(self):
        """What was validated: a copy of the meta of ``stars``."""
        return dict(self.stars.meta)

    @property
    def name(self):
        """A name for files, such as ``zeropoint_R_single_APER5_default``."""
        meta = self.meta
        parts = [meta["kind"], meta["band"], meta["mode"], meta.get("aperture")]
        if "recipe" in meta:
            parts += [meta["recipe"], "edges" if meta["edges"] else None]
        elif meta["calibration"] == "map":
            parts.append("map")
        else:
            parts.append(f"constant{meta['calibration']:g}")
        return "_".join(filter(None, parts))

    @cached_property
    def table(self):
        """
        The numbers, as an `~astropy.table.Table`.

        Rows: all stars, the published selection, and of this each axis (for
        positions) and each magnitude. Columns: the ``number`` of stars; of
        residuals the ``rms``, ``median`` and ``scatter`` (RMS after clipping
        at 3 sigma about the median); of pulls the standard deviation after such
        clipping (``pull_width``), 1.4826 times the median absolute deviation
        (``pull_mad``), and the former with the trend left in
        (``pull_width_with_trend``). NaN where there is no star.
        """
        rows = [(name, *self._numbers(chosen)) for name, chosen in self._parts()]
        names = ("stars", "number", "rms", "median", "scatter")
        names += ("pull_width", "pull_mad", "pull_width_with_trend")
        table = Table(rows=rows, names=names, meta=self.meta)
        for name in ("rms", "median", "scatter"):
            table[name].unit = self.stars["residual"].unit
        return table

    def _parts(self):
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

    @property
    def _axes(self):
        return list(dict.fromkeys(self.stars["axis"].tolist()))

    def _numbers(self, chosen):
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
    def text(self):
        """The report, as text."""
        scale, unit = self._scale
        number = f"{self.meta['matched']} matched stars"
        lines = [self._title, self._how, f"{number}; {_SELECTION}", ""]
        head = f"{'':20}{'stars':>7}{'rms':>9}{'median':>9}{'scatter':>9}"
        lines.append(f"{head}{'pull: width':>14}{'MAD':>7}{'+trend':>8}")
        units = "".join(f"{unit:>9}" for _ in range(3))
        lines.append(f"{'':27}{units}")
        for name, number, *values in self.table.iterrows():
            first = "".join(f"{scale * value:9.2f}" for value in values[:3])
            pulls = f"{values[3]:14.3f}{values[4]:7.3f}{values[5]:8.3f}"
            lines.append(f"{name:20}{number:7d}{first}{pulls}")
        return "\n".join([*lines, "", _LEGEND])

    @property
    def _scale(self):
        """What residuals are multiplied by for readers, and the unit then."""
        in_magnitudes = self.stars["residual"].unit == "mag"
        return (1000.0, "mmag") if in_magnitudes else (1.0, "mas")

    @property
    def _title(self):
        meta = self.meta
        what = "positions" if meta["kind"] == "offset" else "magnitudes"
        words = f"{meta['band']} {meta['mode']} {meta.get('aperture', '')}".rstrip()
        if "recipe" in meta:
            edges = " with edges" if meta["edges"] else ""
            how = f'{meta["folds"]}-fold, recipe "{meta["recipe"]}"{edges}'
        elif meta["calibration"] == "map":
            how = "a map given"
        elif meta["kind"] == "offset":
            how = "as they are"
        else:
            how = f"zero point {meta['calibration']:g}"
        return f"Residual {what}, {words}: {how}"

    @property
    def _how(self):
        if "recipe" in self.meta:
            return "reserve stars: each was left out of the map that calibrated it"
        return "NOT reserve stars: the calibration may have been made from them"

    def map(self, shape=(11, 11)):
        """
        Return the residuals by position.

        Parameters
        ----------
        shape : tuple of int, optional
            The number of cells along x and along y.

        Returns
        -------
        medians : 2D `~numpy.ndarray`
            The median residual of the published selection in each cell, indexed
            ``[x_bin, y_bin]``, in the unit of ``stars``; NaN where there is
            no star. For positions 3D: the first index is the axis.
        """
        grid = MapGrid.for_image(shape, self.image_shape)
        maps = []
        for axis in self._axes:
            stars = self.stars[self.stars["published"] & (self.stars["axis"] == axis)]
            if not len(stars):
                maps.append(np.full(grid.shape, np.nan))
                continue
            x, y, residual = (stars[name].value for name in ("x", "y", "residual"))
            found = cell_statistics(x, y, residual, grid, sigma=None)
            maps.append(found.median)
        return np.array(maps) if len(maps) > 1 else maps[0]

    def plot(self, figure=None):
        """
        Draw residuals by magnitude, by position and as histograms.

        Parameters
        ----------
        figure : `~matplotlib.figure.Figure`, optional
            Where to draw; by default a figure of its own.

        Returns
        -------
        figure : `~matplotlib.figure.Figure`

        Raises
        ------
        KS4Error
            If matplotlib is not installed.
        """
        scale, unit = self._scale
        rows, columns = self.image_shape
        maps = np.reshape(self.map(), (len(self._axes), 11, 11))
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
            title=self._title,
            figure=figure,
        )

    def write(self, folder, *, name=None, overwrite=False):
        """
        Write the numbers, the stars, the text and the figure.

        Parameters
        ----------
        folder : str or path-like
            Made if it is not there.
        name : str, optional
            What the files are called, by default ``name`` of this.
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
            If one of the files is there already or cannot be written, or
            matplotlib is not installed.
        """
        folder = as_path("folder", folder)
        stem = f"validation_{name or self.name}"
        suffixes = (".ecsv", "_stars.ecsv", ".txt", ".png")
        paths = [folder / f"{stem}{suffix}" for suffix in suffixes]
        figure = self.plot()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot write to {folder}: {error.strerror or error}"
            raise FileWriteError(msg) from error
        with ExitStack() as stack:
            # All four are written before the first appears under its name.
            partial = [stack.enter_context(written_whole(p, overwrite)) for p in paths]
            self.table.write(partial[0], format="ascii.ecsv")
            self.stars.write(partial[1], format="ascii.ecsv")
            Path(partial[2]).write_text(f"{self.text}\n", encoding="utf-8")
            figure.savefig(partial[3], dpi=120, format="png")
        return paths


def _clipped(values):
    if not values.size:
        return values
    return sigma_clip(values, sigma=_CLIP, masked=False, axis=None)


def _rms(values):
    return _of(lambda sample: np.sqrt(np.mean(sample**2)), values)


def _of(statistic, values):
    return float(statistic(values)) if values.size else np.nan
