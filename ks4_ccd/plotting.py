# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of maps and of the effect of a calibration, drawn with matplotlib.

Maps are drawn in given axes or in the current axes of pyplot, so that notebooks
show them and ``pyplot.savefig`` saves them.
"""

import numpy as np

from ks4_ccd._arrows import draw_arrows, pale
from ks4_ccd._figures import (
    EMPTY_COLOR,
    add_colorbar,
    current_axes,
    extent_of,
    hatch_empty,
    new_figure,
    robust_limits,
    tidy,
)
from ks4_ccd.exceptions import KS4Error

__all__ = ["plot_calibration", "plot_map", "plot_offsets"]

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
        The axes to draw in; by default the current axes of pyplot.
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
    if ax is None:
        ax = current_axes()
    valid = np.asarray(map_.valid)
    low, high = limits if limits is not None else robust_limits(array[valid])
    # Arrays are [x_bin, y_bin], images [y, x].
    image = ax.imshow(
        np.ma.masked_array(array, ~valid).T,
        origin="lower",
        extent=extent_of(map_.grid),
        cmap=cmap or _COLORMAPS[part],
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="equal",
        zorder=1,
    )
    hatch_empty(ax, map_.grid, valid)
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    if title is None:
        title = str(map_.key) if map_.key is not None else ""
    ax.set_title(title, fontsize="medium")
    tidy(ax)
    if colorbar:
        add_colorbar(ax, image, _label(map_, part), array[valid])
    return ax


def plot_offsets(offset_map, ax=None, *, limits=None, title=None, colorbar=True):
    """
    Draw an offset map: arrows over their length.

    The arrows are the corrections to add. They are drawn for an image with
    north up and east to the left, as the stacks are: a positive offset in RA
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
        msg = f"{offset_map!r} has no offsets to draw: expected an OffsetMap"
        raise KS4Error(msg)
    if ax is None:
        ax = current_axes()
    valid = np.asarray(offset_map.valid)
    length = np.hypot(offset_map.dra, offset_map.ddec)
    if limits is None:
        limits = 0.0, robust_limits(length[valid])[1]
    unit, scale = ("mas", 1000.0) if limits[1] < 1 else ("arcsec", 1.0)
    image = ax.imshow(
        np.ma.masked_array(scale * length, ~valid).T,
        origin="lower",
        extent=extent_of(offset_map.grid),
        cmap=pale("PuBu"),
        vmin=scale * limits[0],
        vmax=scale * limits[1],
        interpolation="nearest",
        aspect="equal",
        zorder=1,
    )
    hatch_empty(ax, offset_map.grid, valid)
    draw_arrows(ax, offset_map, unit, scale)
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    if title is None:
        title = str(offset_map.key) if offset_map.key is not None else ""
    # Room below for the key of the arrows.
    ax.set_title(title, fontsize="medium", pad=24)
    tidy(ax)
    if colorbar:
        add_colorbar(ax, image, f"length of the offset [{unit}]", scale * length[valid])
    return ax


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
    figure = new_figure((15.0, 9.2))
    if title is not None:
        figure.suptitle(title, fontsize="x-large")
    upper, lower = figure.subplots(2, 3)
    extent = extent_of(zpmap.grid)

    plot_map(zpmap, upper[0], title="zero-point map")
    _draw_image(upper[1], image, mask, extent)
    names = list(residuals)
    residuals = {
        name: 1000 * np.asarray(array, dtype=float) for name, array in residuals.items()
    }
    _draw_histograms(upper[2], residuals)

    before, after = names[0], names[-1]
    middle = names[len(names) // 2] if len(names) > 2 else None
    limits = robust_limits(residuals[before], symmetric=True)
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
        ax.set_facecolor(EMPTY_COLOR)
        ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
        ax.set_title(f"{name}: {_rms(residuals[name]):.1f} mmag RMS", fontsize="medium")
        tidy(ax)
        add_colorbar(ax, drawn, "residual zero point [mmag]")
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
    tidy(ax)


def _draw_histograms(ax, residuals):
    """Draw the distributions of the residuals, their RMS in the legend."""
    from matplotlib import colormaps

    known = {name: array[np.isfinite(array)] for name, array in residuals.items()}
    low, high = robust_limits(np.concatenate(list(known.values())), symmetric=True)
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
    tidy(ax)
