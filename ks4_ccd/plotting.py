# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of maps and of the effect of a calibration, drawn with matplotlib.

Maps are drawn in given axes or in the current axes of pyplot, so that notebooks
show them and ``pyplot.savefig`` saves them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import mad_std
from astropy.table import Table
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import KS4Error, OptionError, one_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, ListedColormap
    from matplotlib.figure import Figure, FigureBase
    from matplotlib.image import AxesImage

    from ks4_ccd.maps.base import CalibrationMap
    from ks4_ccd.maps.grid import MapGrid
    from ks4_ccd.maps.offset import OffsetMap
else:
    # Matplotlib is an optional dependency, which is imported when a figure is drawn,
    # and maps can draw themselves.
    Axes = AxesImage = Colormap = Figure = FigureBase = ListedColormap = object
    CalibrationMap = MapGrid = OffsetMap = object

__all__ = [
    "EMPTY_COLOR",
    "add_colorbar",
    "current_axes",
    "draw_arrows",
    "draw_residuals",
    "extent_of",
    "hatch_empty",
    "new_figure",
    "pale",
    "plot_calibration",
    "plot_map",
    "plot_offsets",
    "robust_limits",
    "tidy",
]

EMPTY_COLOR = "0.82"

Limits = tuple[float, float]
Extent = tuple[float, float, float, float]

_INK = "0.25"
_WITHOUT_MATPLOTLIB = "figures need matplotlib: pip install 'ks4_ccd[plot]'"
_PARTS = ("values", "error", "count")
_COLORMAPS = {"values": "viridis", "error": "magma", "count": "cividis"}
_UNITLESS = {"count": "stars"}
_MEANINGS = {
    ("zeropoint", "values"): "zero point",
    ("zeropoint", "error"): "scatter of zero points",
    ("misalignment", "values"): "median separation",
    ("misalignment", "error"): "scatter of separations",
    ("offset", "error"): "scatter of offsets along an axis",
}


def _part_of(map_: CalibrationMap, part: str) -> np.ndarray:
    one_of("part", part, _PARTS)
    array = getattr(map_, part, None)
    if array is None:
        msg = f"{map_!r} has no {part} to plot"
        raise OptionError(msg)
    return np.asarray(array, dtype=float)


def _label(map_: CalibrationMap, part: str) -> str:
    if part in _UNITLESS:
        return f"{_UNITLESS[part]} in a cell"
    kind = map_.key.kind if map_.key is not None else ""
    meaning = _MEANINGS.get((kind, part), part)
    unit = getattr(map_, "unit", "")
    return f"{meaning} [{unit}]" if unit else meaning


def plot_map(
    map_: CalibrationMap,
    ax: Axes | None = None,
    *,
    part: str = "values",
    cmap: "str | Colormap | None" = None,
    limits: Limits | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Axes:
    """
    Draw a calibration map in the orientation of its image.

    Parameters
    ----------
    map_ : `~ks4_ccd.ZeroPointMap` or any other calibration map
        The map. Its empty cells are hatched.
    ax : `~matplotlib.axes.Axes`, optional
        The axes to draw in; by default the current axes of pyplot.
    part : {"values", "error", "count"}, optional
        The array of the map to draw.
    cmap : str or `~matplotlib.colors.Colormap`, optional
        The colours; by default those of the part.
    limits : (float, float), optional
        The values at both ends of the colours; by default the first and the
        99th percentile of the cells with stars.
    title : str, optional
        The title; by default the key of the map, and ``""`` for none.
    colorbar : bool, optional
        Whether to draw a colour bar.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        In 0-based pixel coordinates of the image: x to the right, y up.

    Raises
    ------
    KS4Error
        If the map does not have that part, or matplotlib is not installed.

    Examples
    --------
    >>> from ks4_ccd import simulate_field
    >>> from ks4_ccd.plotting import plot_map
    >>> zpmap = simulate_field((300, 400), map_shape=(8, 6)).maps["APER5"]
    >>> ax = plot_map(zpmap)
    >>> ax.get_title()
    'zeropoint of field 0000 R single APER5'
    """
    array = _part_of(map_, part)
    known = array[np.asarray(map_.valid)]
    if limits is None:
        limits = robust_limits(known)
    image = _draw_cells(map_, ax, array, limits, cmap or _COLORMAPS[part], title)
    if colorbar:
        add_colorbar(image.axes, image, _label(map_, part), known)
    return image.axes


def plot_offsets(
    offset_map: OffsetMap,
    ax: Axes | None = None,
    *,
    limits: Limits | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> Axes:
    """
    Draw an offset map as arrows over the lengths of the offsets.

    The arrows are the corrections to add. They are drawn for an image with
    north up and east to the left, as in the stacks: a positive offset in RA
    points to the left.

    Parameters
    ----------
    offset_map : `~ks4_ccd.OffsetMap`
        The map. Its empty cells are hatched.
    ax : `~matplotlib.axes.Axes`, optional
        The axes to draw in; by default the current axes of pyplot.
    limits : (float, float), optional
        The lengths at both ends of the colours, in arcsec; by default 0 and
        the 99th percentile of the cells with stars.
    title : str, optional
        The title; by default the key of the map, and ``""`` for none.
    colorbar : bool, optional
        Whether to draw a colour bar.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        In 0-based pixel coordinates of the image: x to the right, y up.

    Raises
    ------
    KS4Error
        If the map has no offsets, or matplotlib is not installed.

    Examples
    --------
    >>> from ks4_ccd import simulate_field
    >>> from ks4_ccd.plotting import plot_offsets
    >>> ax = plot_offsets(simulate_field((300, 400), map_shape=(8, 6)).offsets)
    >>> ax.get_title()
    'offset of field 0000 R single'
    """
    if not (hasattr(offset_map, "dra") and hasattr(offset_map, "ddec")):
        msg = f"expected an OffsetMap to draw, found {offset_map!r}"
        raise OptionError(msg)
    length = np.hypot(offset_map.dra, offset_map.ddec)
    known = length[np.asarray(offset_map.valid)]
    low, high = (0.0, robust_limits(known)[1]) if limits is None else limits
    unit, scale = ("mas", 1000.0) if high < 1 else ("arcsec", 1.0)
    limits = scale * low, scale * high
    # Room below the title for the key of the arrows.
    image = _draw_cells(
        offset_map, ax, scale * length, limits, pale("PuBu"), title, pad=24
    )
    draw_arrows(image.axes, offset_map, unit, scale)
    if colorbar:
        label = f"length of the offset [{unit}]"
        add_colorbar(image.axes, image, label, scale * known)
    return image.axes


def _draw_cells(
    map_: CalibrationMap,
    ax: Axes | None,
    array: np.ndarray,
    limits: Limits,
    cmap: "str | Colormap",
    title: str | None,
    pad: float | None = None,
) -> AxesImage:
    """Draw an array of a map, with its empty cells hatched, and a title."""
    if ax is None:
        ax = current_axes()
    valid = np.asarray(map_.valid)
    # Arrays are [x_bin, y_bin], images [y, x].
    masked = np.ma.masked_array(array, ~valid).T
    image = _show(ax, masked, extent_of(map_.grid), limits, cmap)
    hatch_empty(ax, map_.grid, valid)
    if title is None:
        title = str(map_.key) if map_.key is not None else ""
    ax.set_title(title, fontsize="medium", pad=pad)
    return image


def _show(
    ax: Axes,
    array: ArrayLike,
    extent: Extent,
    limits: Limits,
    cmap: "str | Colormap",
    interpolation: str = "nearest",
) -> AxesImage:
    """Draw an array in image order, in 0-based pixel coordinates."""
    image = ax.imshow(
        array,
        origin="lower",
        extent=extent,
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        interpolation=interpolation,
        aspect="equal",
        zorder=1,
    )
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    tidy(ax)
    return image


def plot_calibration(
    zpmap: CalibrationMap,
    image: ArrayLike,
    residuals: Mapping[str, ArrayLike],
    *,
    mask: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """
    Draw the effect of a zero-point map on an image.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap`
        The map that was applied.
    image : 2D array_like
        The calibrated image, in ADU.
    residuals : dict
        Two or more maps of the residual zero point in mag, from before the
        calibration to the best one, by name: 2D arrays in image order, which
        cover the whole frame at any resolution, NaN where undefined. The
        first, the middle and the last one are drawn as maps, all of them as
        histograms.
    mask : 2D array_like of bool, optional
        Pixels of the image that are bad.
    title : str, optional
        The title of the figure.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`

    Raises
    ------
    KS4Error
        If there are fewer than two residual maps, or matplotlib is not
        installed.
    """
    if len(residuals) < 2:
        msg = (
            "residuals must be two or more maps, from before and after the "
            f"calibration, got {len(residuals)}"
        )
        raise OptionError(msg)
    figure = new_figure((15.0, 9.2))
    if title is not None:
        figure.suptitle(title, fontsize="x-large")
    upper, lower = figure.subplots(2, 3)
    extent = extent_of(zpmap.grid)

    plot_map(zpmap, upper[0], title="zero-point map")
    _draw_image(upper[1], image, mask, extent)
    names = list(residuals)
    in_mmag = {
        name: 1000 * np.asarray(array, dtype=float) for name, array in residuals.items()
    }
    _draw_histograms(upper[2], in_mmag)

    before, after = names[0], names[-1]
    middle = names[len(names) // 2] if len(names) > 2 else None
    limits = robust_limits(in_mmag[before], symmetric=True)
    for ax, name in zip(lower, filter(None, (before, middle, after)), strict=False):
        drawn = _show(ax, in_mmag[name], extent, limits, "RdBu_r")
        ax.set_facecolor(EMPTY_COLOR)
        ax.set_title(f"{name}: {_rms(in_mmag[name]):.1f} mmag RMS", fontsize="medium")
        add_colorbar(ax, drawn, "residual zero point [mmag]")
    for ax in lower[len(names[:3]) :]:
        ax.set_axis_off()
    return figure


def _rms(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if values.size else np.nan


def _draw_image(
    ax: Axes,
    image: ArrayLike,
    mask: ArrayLike | None,
    extent: Extent,
) -> None:
    """Draw an image with a stretch that shows the sky and the stars."""
    image = np.asarray(image)
    rows, columns = image.shape
    step = max(1, min(rows, columns) // 1100)
    shown = np.ma.masked_invalid(image[::step, ::step])
    if mask is not None:
        shown = np.ma.masked_where(np.asarray(mask)[::step, ::step], shown)
    sample = shown.compressed()
    if not sample.size:
        sample = np.zeros(1)
    sky = np.median(sample)
    noise = mad_std(sample) or 1.0
    top = max(np.percentile(sample, 99.9), sky + 20 * noise)
    stretched = np.arcsinh((shown - sky) / (3 * noise))
    limits = np.arcsinh(-1.0), np.arcsinh((top - sky) / (3 * noise))
    _show(ax, stretched, extent, limits, "gray_r", "antialiased")
    ax.set_facecolor("#e8a33d")
    ax.set_title("calibrated image (arcsinh stretch)", fontsize="medium")


def _draw_histograms(ax: Axes, residuals: Mapping[str, np.ndarray]) -> None:
    """Draw the distributions of the residuals, their RMS in the legend."""
    from matplotlib import colormaps

    known = {name: array[np.isfinite(array)] for name, array in residuals.items()}
    low, high = robust_limits(np.concatenate(list(known.values())), symmetric=True)
    bins = np.linspace(1.25 * low, 1.25 * high, 121)
    shades = np.linspace(0.9, 0.1, max(len(known) - 1, 1))
    colors = ["0.6", *colormaps["viridis"](shades)]
    for (name, values), color in zip(known.items(), colors, strict=False):
        first = name == next(iter(known))
        ax.hist(
            np.clip(values, bins[0], bins[-1]),
            bins=list(bins),
            weights=np.full(values.size, 100 / max(values.size, 1)),
            histtype="stepfilled" if first else "step",
            color=color,
            alpha=0.5 if first else 1.0,
            linewidth=1.6,
            label=f"{name}: {_rms(values):.1f}",
        )
    ax.axvline(0, ymax=0.5, color="0.5", linewidth=0.8, zorder=0)
    ax.set(xlabel="residual zero point [mmag]", ylabel="pixels in a bin [%]")
    ax.set_title("distribution of the residuals", fontsize="medium")
    # The logarithm shows the tails; the room above is for the legend.
    ax.set(yscale="log", xlim=(bins[0], bins[-1]), ylim=(0.005, 5e4))
    ax.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    ax.minorticks_off()
    ax.set_box_aspect(1)
    ax.legend(title="RMS [mmag]", frameon=False, fontsize="small", loc="upper left")
    tidy(ax)


def current_axes() -> Axes:
    """Return the current axes of pyplot, which are created if needed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise KS4Error(_WITHOUT_MATPLOTLIB) from error
    return plt.gca()


def new_figure(size: tuple[float, float]) -> Figure:
    """Return a figure that needs no display and is not registered with pyplot."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise KS4Error(_WITHOUT_MATPLOTLIB) from error
    figure = Figure(figsize=size, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    return figure


def robust_limits(values: np.ndarray, *, symmetric: bool = False) -> Limits:
    """Return the percentiles 1 and 99, or symmetric limits that include them."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99])
    if symmetric:
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    if low == high:
        pad = 0.5 if low == 0 else 0.01 * abs(low)
        return low - pad, high + pad
    return low, high


def tidy(ax: Axes) -> None:
    """Draw ticks and frame lightly."""
    ax.tick_params(direction="out", length=3, color=_INK, labelcolor=_INK)
    for spine in ax.spines.values():
        spine.set_color("0.6")


def extent_of(grid: MapGrid) -> Extent:
    """Return the outer edges of the cells in 0-based pixel coordinates."""
    return (*grid.extent[0], *grid.extent[1])


def hatch_empty(ax: Axes, grid: MapGrid, valid: np.ndarray) -> None:
    """Hatch the cells without stars."""
    from matplotlib.collections import PolyCollection

    if valid.all():
        return
    x, y = grid.cell_edges()
    i, j = np.nonzero(~valid)
    corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
    cells = np.stack([np.column_stack([x[i], y[j]]) for i, j in corners], axis=1)
    hatched = PolyCollection(
        list(cells),
        facecolor=EMPTY_COLOR,
        edgecolor="0.55",
        linewidth=0,
        hatch="/////",
        label="no stars",
        zorder=2,
    )
    ax.add_collection(hatched, autolim=False)


def add_colorbar(
    ax: Axes, image: AxesImage, label: str, values: np.ndarray | None = None
) -> None:
    """Draw a colour bar, with pointed ends if ``values`` exceed its limits."""
    extend = "neither"
    if values is not None and values.size:
        below, above = values.min() < image.norm.vmin, values.max() > image.norm.vmax
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[
            int(below), int(above)
        ]
    bar = ax.figure.colorbar(
        image, ax=ax, label=label, extend=extend, fraction=0.046, pad=0.02
    )
    bar.outline.set_edgecolor("0.6")
    bar.ax.tick_params(length=3, color=_INK, labelcolor=_INK)
    bar.ax.ticklabel_format(axis="y", useOffset=False)


_MOST_ARROWS = 25  # along an axis


def pale(name: str) -> ListedColormap:
    """Return a colormap without its dark end, on which arrows would be lost."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(0.0, 0.62, 256)))


def draw_arrows(ax: Axes, offset_map: OffsetMap, unit: str, scale: float) -> None:
    """Draw an arrow for each block of cells, and a key of their length."""
    block = max(1, -(-max(offset_map.grid.shape) // _MOST_ARROWS))
    x, y = np.meshgrid(*offset_map.grid.centers(), indexing="ij")
    x, y, dra, ddec = (
        _block_means(array, np.asarray(offset_map.valid), block)
        for array in (x, y, offset_map.dra, offset_map.ddec)
    )
    if not x.size:
        return
    typical = np.percentile(np.hypot(dra, ddec), 95) or 1.0
    spacing = block * min(offset_map.grid.cell_size)
    arrows = ax.quiver(
        x,
        y,
        -dra,
        ddec,
        angles="xy",
        scale_units="xy",
        scale=typical / (1.4 * spacing),
        pivot="middle",
        width=0.003,
        color="#1b1b3a",
        zorder=3,
    )
    shown = _round_number(scale * typical)
    ax.quiverkey(
        arrows,
        0.03,
        1.035,
        # The key is drawn along x in the units of the arrows.
        shown / scale,
        f"{shown:g} {unit} to add (north up, east left)",
        labelpos="E",
        fontproperties={"size": "small"},
        coordinates="axes",
    )


def _block_means(array: np.ndarray, valid: np.ndarray, block: int) -> np.ndarray:
    """Return the means over the valid cells of blocks that have any, 1D."""
    columns, rows = array.shape
    padding = (0, -columns % block), (0, -rows % block)
    blocks = (array.shape[0] + padding[0][1]) // block, block, -1, block
    total, number = (
        np.pad(part, padding).reshape(blocks).sum(axis=(1, 3))
        for part in (np.where(valid, array, 0.0), valid.astype(float))
    )
    return total[number > 0] / number[number > 0]


def _round_number(value: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten up to ``value``."""
    power = 10.0 ** np.floor(np.log10(value))
    return max(step for step in (1, 2, 5) if step * power <= value * 1.0001) * power


_POINTS, _LINE, _BELL = "#5b7c99", "#c0392b", "#222222"
_BINS = 12
_FEWEST = 5  # stars in a step
_DRAWN_SIGMAS = 6
_AXES = {"mag": "residual", "ra": "along RA", "dec": "along Dec"}


def draw_residuals(
    stars: Table,
    maps: Mapping[str, np.ndarray],
    *,
    extent: Extent,
    scale: float,
    unit: str,
    scatter: float,
    pull_width: float,
    title: str,
    distance: np.ndarray | None = None,
    figure: FigureBase | None = None,
) -> FigureBase:
    """
    Draw the residuals of a validation.

    Parameters
    ----------
    stars : `~astropy.table.Table`
        ``magnitude``, ``residual``, ``pull``, ``published``, and ``color`` (named
        in its description) if it is known.
    maps : dict
        For each axis of residuals the medians in cells, ``[x_bin, y_bin]``.
    extent : tuple of float
        The edges of the image, ``(left, right, bottom, top)``.
    scale : float
        The factor by which residuals are multiplied.
    unit : str
        The unit of the residuals after the multiplication.
    scatter, pull_width : float
        The widths of the residuals and pulls of the published selection.
        Normal distributions of widths ``scatter`` and 1 are drawn, and the
        width of the pulls is printed in the legend.
    title : str
        The title of the figure.
    distance : 1D `~numpy.ndarray`, optional
        The distance of each star from the nearest edge in pixels, negative on its
        left or below it.
    figure : `~matplotlib.figure.Figure`, optional
        The figure to draw in; by default a new one.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
    """
    more = {}
    if "color" in stars.colnames:
        column = stars["color"]
        more[f"{column.description} [mag]"] = np.asarray(column.value)
    if distance is not None:
        more["distance from the nearest edge [pixel]"] = distance
    if figure is None:
        figure = new_figure((12.0, 12.4 if more else 8.6))
    figure.suptitle(title, fontsize="large")
    published = stars["published"].value
    residual = scale * stars["residual"].value
    reach = _DRAWN_SIGMAS * scatter if scatter > 0 else robust_limits(residual)[1]
    reach = reach if np.isfinite(reach) and reach > 0 else 1.0
    rows = figure.subfigures(3 if more else 2, 1, squeeze=False)[:, 0]
    upper, lower = rows[0], rows[-1]
    by_magnitude, histogram = upper.subplots(1, 2, width_ratios=(2, 1))
    *map_axes, pulls = lower.subplots(1, len(maps) + 1)
    quantities = {"reference magnitude [mag]": stars["magnitude"].value, **more}
    others = rows[1].subplots(1, len(more), squeeze=False)[0] if more else ()
    for ax, (label, values) in zip(
        (by_magnitude, *others), quantities.items(), strict=True
    ):
        _draw_against(ax, values, residual, published, reach)
        ax.set(xlabel=label, ylabel=f"calibrated - reference [{unit}]")
    by_magnitude.legend(
        frameon=False, fontsize="small", ncols=4, loc="upper left", markerscale=2
    )
    _draw_histogram(
        histogram,
        residual[published],
        scatter,
        reach,
        label=f"residual [{unit}]",
        legend=f"normal, 0 ± {scatter:.2f} {unit}",
    )
    limits = robust_limits(np.array(list(maps.values())), symmetric=True)
    for ax, (axis, medians) in zip(map_axes, maps.items(), strict=True):
        _draw_map(ax, medians, extent, limits, f"median {_AXES[axis]} [{unit}]")
    pull = stars["pull"].value
    pull = pull[published & np.isfinite(pull)]
    _draw_histogram(
        pulls,
        pull,
        1.0,
        5.0,
        label="pull",
        legend=f"normal, 0 ± 1 (found {pull_width:.2f})",
    )
    return figure


def _draw_against(
    ax: Axes,
    values: np.ndarray,
    residual: np.ndarray,
    published: np.ndarray,
    reach: float,
) -> None:
    """Draw residuals against a quantity, with medians and scatters of its bins."""
    known = np.isfinite(values)
    values, residual, published = values[known], residual[known], published[known]
    if not values.size:
        return
    low, high = np.percentile(values, [0.1, 99.9])
    for chosen, color, label in (
        (~published, "0.75", "other stars"),
        (published, _POINTS, "published selection"),
    ):
        if chosen.any():
            ax.plot(
                values[chosen],
                np.clip(residual[chosen], -reach, reach),
                ".",
                color=color,
                markersize=3,
                markeredgewidth=0,
                alpha=0.6,
                label=label,
                rasterized=True,
            )
    middles, medians, widths = _in_bins(
        values[published], residual[published], low, high
    )
    if middles.size:
        ax.fill_between(
            middles,
            medians - widths,
            medians + widths,
            color=_LINE,
            alpha=0.18,
            linewidth=0,
            zorder=3,
            label="its scatter",
        )
        ax.plot(middles, medians, "o-", color=_LINE, ms=4, zorder=4, label="median")
    ax.axhline(0, color="0.3", linewidth=0.8, zorder=2)
    margin = 0.03 * (high - low) or 1.0
    ax.set(xlim=(low - margin, high + margin), ylim=(-1.04 * reach, 1.04 * reach))
    tidy(ax)


def _in_bins(
    values: np.ndarray, residual: np.ndarray, low: float, high: float
) -> np.ndarray:
    """Return the middles, medians and scatters of residuals in bins of a quantity."""
    number = np.digitize(values, np.linspace(low, high, _BINS + 1)[1:-1])
    rows = []
    for step in np.unique(number):
        inside = residual[number == step]
        if inside.size >= _FEWEST:
            middle = np.median(values[number == step])
            rows.append((middle, np.median(inside), mad_std(inside)))
    return np.reshape(rows, (-1, 3)).T


def _draw_histogram(
    ax: Axes, values: np.ndarray, width: float, reach: float, *, label: str, legend: str
) -> None:
    bins = np.linspace(-reach, reach, 61)
    if values.size:
        ax.hist(
            np.clip(values, -reach, reach), bins=list(bins), color=_POINTS, alpha=0.7
        )
        if width > 0:
            x = np.linspace(-reach, reach, 301)
            total = values.size * (bins[1] - bins[0])
            bell = np.exp(-0.5 * (x / width) ** 2) / (np.sqrt(2 * np.pi) * width)
            ax.plot(x, total * bell, color=_BELL, linewidth=1.3, label=legend)
            ax.legend(frameon=False, fontsize="small", loc="upper left")
            ax.set_ylim(top=1.25 * ax.get_ylim()[1])
    ax.axvline(0, ymax=0.8, color="0.3", linewidth=0.8)
    ax.set(xlabel=label, ylabel="stars", xlim=(-reach, reach))
    tidy(ax)


def _draw_map(
    ax: Axes,
    medians: np.ndarray,
    extent: Extent,
    limits: Limits,
    label: str,
) -> None:
    # Arrays are [x_bin, y_bin], images [y, x].
    drawn = _show(ax, np.ma.masked_invalid(medians).T, extent, limits, "RdBu_r")
    ax.set_facecolor(EMPTY_COLOR)
    add_colorbar(ax, drawn, label, medians[np.isfinite(medians)])
