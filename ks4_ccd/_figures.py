# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all figures share: their canvas, colours, limits and the marks on maps."""

import numpy as np

from ks4_ccd.exceptions import KS4Error

__all__ = [
    "EMPTY_COLOR",
    "add_colorbar",
    "current_axes",
    "extent_of",
    "hatch_empty",
    "new_figure",
    "robust_limits",
    "tidy",
]

EMPTY_COLOR = "0.82"
_INK = "0.25"


_WITHOUT_MATPLOTLIB = "figures need matplotlib: pip install 'ks4_ccd[plot]'"


def current_axes():
    """Return the current axes of pyplot, which are created if there are none."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise KS4Error(_WITHOUT_MATPLOTLIB) from error
    return plt.gca()


def new_figure(size):
    """Return a figure that needs no display and is not registered with pyplot."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise KS4Error(_WITHOUT_MATPLOTLIB) from error
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    return figure


def robust_limits(values, *, symmetric=False):
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


def tidy(ax):
    """Draw ticks and frame lightly."""
    ax.tick_params(direction="out", length=3, color=_INK, labelcolor=_INK)
    for spine in ax.spines.values():
        spine.set_color("0.6")


def extent_of(grid):
    """Return the outer edges of the cells in 0-based pixel coordinates."""
    limits = []
    for n, size, origin in zip(grid.shape, grid.cell_size, grid.origin, strict=True):
        limits += [origin - 1, origin - 1 + n * size]
    return limits


def hatch_empty(ax, grid, valid):
    """Hatch the cells without stars."""
    from matplotlib.collections import PolyCollection

    if valid.all():
        return
    left, _, bottom, _ = extent_of(grid)
    width, height = grid.cell_size
    i, j = np.nonzero(~valid)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    place = (np.column_stack([i, j])[:, np.newaxis] + corners) * (width, height)
    place += np.array([left, bottom])
    hatched = PolyCollection(
        place,
        facecolor=EMPTY_COLOR,
        edgecolor="0.55",
        linewidth=0,
        hatch="/////",
        label="no stars",
        zorder=2,
    )
    ax.add_collection(hatched, autolim=False)


def add_colorbar(ax, image, label, values=None):
    """Draw a colour bar that shows if ``values`` pass its ends."""
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
