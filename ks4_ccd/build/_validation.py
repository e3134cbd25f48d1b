# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a validation found: numbers, a text, a map and a figure."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.stats import sigma_clip
from astropy.table import Table

from ks4_ccd._files import FileWriteError, as_path, written_whole
from ks4_ccd._residual_figure import draw_residuals
from ks4_ccd.build.cells import cell_statistics
from ks4_ccd.grid import MapGrid

__all__ = ["Validation"]

_CLIP = 3.0
_TO_SIGMA = 1.4826  # from the median absolute deviation, for a normal sample
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
            _TO_SIGMA * _of(np.median, np.abs(pull - _of(np.median, pull))),
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
