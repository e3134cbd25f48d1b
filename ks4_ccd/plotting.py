# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of maps and of what calibration does, drawn with matplotlib.

Figures that are made here know nothing of a display or of pyplot: save them
with ``ax.figure.savefig(...)``, or show them in a notebook.
"""

import numpy as np

from ks4_ccd.exceptions import KS4Error

__all__ = ["plot_calibration", "plot_map"]

_PARTS = ("values", "error", "count")
_COLORMAPS = {"values": "viridis", "error": "magma", "count": "cividis"}
_UNITLESS = {"count": "stars"}
_MEANINGS = {
    ("zeropoint", "values"): "zero point",
    ("zeropoint", "error"): "scatter of zero points",
    ("misalignment", "values"): "median separation",
    ("misalignment", "error"): "scatter of separations",
    ("offset", "values"): "offset",
}
_EMPTY_COLOR = "0.82"
_INK = "0.25"


def _new_figure(size):
    """Return a figure that belongs to no window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "figures need matplotlib: pip install 'ks4_ccd[plot]'"
        raise KS4Error(msg) from error
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    return figure


def _robust_limits(values, *, symmetric=False):
    """Return limits that a few outliers do not set."""
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


def _tidy(ax):
    ax.tick_params(direction="out", length=3, color=_INK, labelcolor=_INK)
    for spine in ax.spines.values():
        spine.set_color("0.6")


def _extent(grid):
    """Return the outer edges of the cells in 0-based pixel coordinates."""
    limits = []
    for n, size, origin in zip(grid.shape, grid.cell_size, grid.origin, strict=True):
        limits += [origin - 1, origin - 1 + n * size]
    return limits


def _part_of(map_, part):
    if part not in _PARTS:
        msg = f"part must be one of {', '.join(_PARTS)}, got {part!r}"
        raise KS4Error(msg)
    array = getattr(map_, part, None)
    if array is None:
        msg = f"{map_!r} has no {part} to plot"
        raise KS4Error(msg)
    return np.asarray(array, dtype=float)


def _label(map_, part):
    if part in _UNITLESS:
        return f"{_UNITLESS[part]} in a cell"
    kind = map_.key.kind if map_.key is not None else None
    meaning = _MEANINGS.get((kind, part), part)
    return f"{meaning} [{map_.unit}]" if getattr(map_, "unit", "") else meaning


def plot_map(
    map_, ax=None, *, part="values", cmap=None, limits=None, title=None, colorbar=True
):
    """
    Draw a calibration map in the orientation of its image.

    Parameters
    ----------
    map_ : `~ks4_ccd.ZeroPointMap` or any other calibration map
        The map. Its empty cells are hatched.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; by default a figure of its own, that of the result.
    part : {"values", "error", "count"}, optional
        What of the map to draw.
    cmap : str or `~matplotlib.colors.Colormap`, optional
        The colours; by default those of the part.
    limits : (float, float), optional
        The values at both ends of the colours; by default the first and the
        99th percentile of the cells with stars.
    title : str, optional
        By default what the map is of; ``""`` for none.
    colorbar : bool, optional
        Whether to draw a colour bar.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        In 0-based pixel coordinates of the image: x to the right, y up.

    Raises
    ------
    KS4Error
        If the map has not that part, or matplotlib is not installed.

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
    own_figure = ax is None
    if own_figure:
        ax = _new_figure((6.4, 5.4)).subplots()
    valid = np.asarray(map_.valid)
    low, high = limits if limits is not None else _robust_limits(array[valid])
    # Arrays are [x_bin, y_bin], images [y, x].
    image = ax.imshow(
        np.ma.masked_array(array, ~valid).T,
        origin="lower",
        extent=_extent(map_.grid),
        cmap=cmap or _COLORMAPS[part],
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="equal",
        zorder=1,
    )
    _hatch_empty(ax, map_.grid, valid)
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    if title is None:
        title = str(map_.key) if map_.key is not None else ""
    ax.set_title(title, fontsize="medium")
    _tidy(ax)
    if colorbar:
        _add_colorbar(ax, image, _label(map_, part), array[valid])
    return ax


def _hatch_empty(ax, grid, valid):
    """Hatch the cells without stars."""
    from matplotlib.collections import PolyCollection

    if valid.all():
        return
    left, _, bottom, _ = _extent(grid)
    width, height = grid.cell_size
    i, j = np.nonzero(~valid)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    place = (np.column_stack([i, j])[:, np.newaxis] + corners) * (width, height)
    place += np.array([left, bottom])
    hatched = PolyCollection(
        place,
        facecolor=_EMPTY_COLOR,
        edgecolor="0.55",
        linewidth=0,
        hatch="/////",
        label="no stars",
        zorder=2,
    )
    ax.add_collection(hatched, autolim=False)


def _add_colorbar(ax, image, label, values=None):
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
    bar.formatter.set_useOffset(False)
    bar.update_ticks()


def plot_calibration(zpmap, image, residuals, *, mask=None, title=None):
    """
    Draw what a zero-point map does to an image.

    Parameters
    ----------
    zpmap : `~ks4_ccd.ZeroPointMap`
        The map that was applied.
    image : 2D array_like
        The calibrated image, in counts.
    residuals : dict
        Two or more maps of the residual zero point in mag, from before the
        calibration to the best one, by name: 2D arrays as images are, over
        the whole frame, of any resolution; NaN where nothing is known. The
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
            "residuals must be two maps or more, before and after the "
            f"calibration, got {len(residuals)}"
        )
        raise KS4Error(msg)
    figure = _new_figure((15.0, 9.2))
    if title is not None:
        figure.suptitle(title, fontsize="x-large")
    upper, lower = figure.subplots(2, 3)
    extent = _extent(zpmap.grid)

    plot_map(zpmap, upper[0], title="zero-point map")
    _draw_image(upper[1], image, mask, extent)
    names = list(residuals)
    residuals = {
        name: 1000 * np.asarray(array, dtype=float) for name, array in residuals.items()
    }
    _draw_histograms(upper[2], residuals)

    before, after = names[0], names[-1]
    middle = names[len(names) // 2] if len(names) > 2 else None
    limits = _robust_limits(residuals[before], symmetric=True)
    for ax, name in zip(lower, filter(None, (before, middle, after)), strict=False):
        drawn = ax.imshow(
            residuals[name],
            origin="lower",
            extent=extent,
            cmap="RdBu_r",
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest",
        )
        ax.set_facecolor(_EMPTY_COLOR)
        ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
        ax.set_title(f"{name}: {_rms(residuals[name]):.1f} mmag RMS", fontsize="medium")
        _tidy(ax)
        _add_colorbar(ax, drawn, "residual zero point [mmag]")
    for ax in lower[len(names[:3]) :]:
        ax.set_axis_off()
    return figure


def _rms(values):
    values = values[np.isfinite(values)]
    return np.sqrt(np.mean(values**2)) if values.size else np.nan


def _draw_image(ax, image, mask, extent):
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
    noise = 1.4826 * np.median(np.abs(sample - sky)) or 1.0
    top = max(np.percentile(sample, 99.9), sky + 20 * noise)
    stretched = np.arcsinh((shown - sky) / (3 * noise))
    ax.imshow(
        stretched,
        origin="lower",
        extent=extent,
        cmap="gray_r",
        vmin=np.arcsinh(-1.0),
        vmax=np.arcsinh((top - sky) / (3 * noise)),
        interpolation="antialiased",
    )
    ax.set_facecolor("#e8a33d")
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    ax.set_title("calibrated image (arcsinh stretch)", fontsize="medium")
    _tidy(ax)


def _draw_histograms(ax, residuals):
    """Draw the distributions of the residuals, their RMS in the legend."""
    from matplotlib import colormaps

    known = {name: array[np.isfinite(array)] for name, array in residuals.items()}
    low, high = _robust_limits(np.concatenate(list(known.values())), symmetric=True)
    bins = np.linspace(1.25 * low, 1.25 * high, 121)
    colors = colormaps["viridis"](np.linspace(0.9, 0.1, max(len(known) - 1, 1)))
    colors = ["0.6", *colors]
    for (name, values), color in zip(known.items(), colors, strict=False):
        first = name == next(iter(known))
        ax.hist(
            np.clip(values, bins[0], bins[-1]),
            bins=bins,
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
    _tidy(ax)
