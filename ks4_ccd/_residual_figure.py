# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figure of a validation: residuals by magnitude, by position and in all."""

import numpy as np

from ks4_ccd._figures import (
    EMPTY_COLOR,
    add_colorbar,
    new_figure,
    robust_limits,
    tidy,
)

__all__ = ["draw_residuals"]

_POINTS, _LINE, _BELL = "#5b7c99", "#c0392b", "#222222"
_STEP = 0.5  # mag
_FEWEST = 5  # stars in a step
_TO_SIGMA = 1.4826
_DRAWN_SIGMAS = 6
_AXES = {"mag": "residual", "ra": "along RA", "dec": "along Dec"}


def draw_residuals(
    stars, maps, *, extent, scale, unit, scatter, pull_width, title, figure=None
):
    """
    Draw what a validation found.

    Parameters
    ----------
    stars : `~astropy.table.Table`
        ``magnitude``, ``residual``, ``pull``, ``published``.
    maps : dict
        For each axis of residuals the medians in cells, ``[x_bin, y_bin]``.
    extent : tuple of float
        The edges of the image, ``(left, right, bottom, top)``.
    scale : float
        What residuals are multiplied by.
    unit : str
        Theirs, after that.
    scatter, pull_width : float
        Of the published selection: the widths of the normal distributions
        that are drawn (that of pulls is 1 wide, this is for the legend).
    title : str
    figure : `~matplotlib.figure.Figure`, optional

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
    """
    if figure is None:
        figure = new_figure((12.0, 8.6))
    figure.suptitle(title, fontsize="large")
    published = stars["published"].value
    residual = scale * stars["residual"].value
    reach = _DRAWN_SIGMAS * scatter if scatter > 0 else robust_limits(residual)[1]
    reach = reach if np.isfinite(reach) and reach > 0 else 1.0
    upper, lower = figure.subfigures(2, 1)
    by_magnitude, histogram = upper.subplots(1, 2, width_ratios=(2, 1))
    *map_axes, pulls = lower.subplots(1, len(maps) + 1)
    _draw_by_magnitude(by_magnitude, stars, residual, published, reach, unit)
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


def _draw_by_magnitude(ax, stars, residual, published, reach, unit):
    magnitude = stars["magnitude"].value
    for chosen, color, label in (
        (~published, "0.75", "other stars"),
        (published, _POINTS, "published selection"),
    ):
        if chosen.any():
            ax.plot(
                magnitude[chosen],
                np.clip(residual[chosen], -reach, reach),
                ".",
                color=color,
                markersize=3,
                markeredgewidth=0,
                alpha=0.6,
                label=label,
                rasterized=True,
            )
    places, medians, widths = _in_steps(magnitude[published], residual[published])
    if places.size:
        ax.fill_between(
            places,
            medians - widths,
            medians + widths,
            color=_LINE,
            alpha=0.18,
            linewidth=0,
            zorder=3,
            label="its scatter",
        )
        ax.plot(places, medians, "o-", color=_LINE, ms=4, zorder=4, label="median")
    ax.axhline(0, color="0.3", linewidth=0.8, zorder=2)
    ax.set(
        xlabel="reference magnitude [mag]",
        ylabel=f"calibrated - reference [{unit}]",
        ylim=(-1.04 * reach, 1.04 * reach),
    )
    if len(stars):
        low, high = np.percentile(magnitude, [0.1, 99.9])
        ax.set_xlim(low - 0.2, high + 0.2)
    ax.legend(frameon=False, fontsize="small", ncols=4, loc="upper left", markerscale=2)
    tidy(ax)


def _in_steps(magnitude, residual):
    """Return the middles, medians and scatters of steps of magnitude."""
    number = np.floor(magnitude / _STEP).astype(int)
    rows = []
    for step in np.unique(number):
        values = residual[number == step]
        if values.size >= _FEWEST:
            median = np.median(values)
            width = _TO_SIGMA * np.median(np.abs(values - median))
            rows.append((np.median(magnitude[number == step]), median, width))
    return np.reshape(rows, (-1, 3)).T


def _draw_histogram(ax, values, width, reach, *, label, legend):
    bins = np.linspace(-reach, reach, 61)
    if values.size:
        ax.hist(np.clip(values, -reach, reach), bins=bins, color=_POINTS, alpha=0.7)
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


def _draw_map(ax, medians, extent, limits, label):
    # Arrays are [x_bin, y_bin], images [y, x].
    drawn = ax.imshow(
        np.ma.masked_invalid(medians).T,
        origin="lower",
        extent=extent,
        cmap="RdBu_r",
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    ax.set_facecolor(EMPTY_COLOR)
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    tidy(ax)
    add_colorbar(ax, drawn, label, medians[np.isfinite(medians)])
