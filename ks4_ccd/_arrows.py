# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The arrows of offsets on a figure, and a key of their length."""

import numpy as np

__all__ = ["draw_arrows", "pale"]

_MOST_ARROWS = 25  # along an axis


def pale(name):
    """Return a colormap without its dark end, on which arrows would be lost."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(0.0, 0.62, 256)))


def draw_arrows(ax, offset_map, unit, scale):
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


def _block_means(array, valid, block):
    """Return the means over the valid cells of blocks that have any, 1D."""
    columns, rows = array.shape
    padding = (0, -columns % block), (0, -rows % block)
    blocks = (array.shape[0] + padding[0][1]) // block, block, -1, block
    total, number = (
        np.pad(part, padding).reshape(blocks).sum(axis=(1, 3))
        for part in (np.where(valid, array, 0.0), valid.astype(float))
    )
    return total[number > 0] / number[number > 0]


def _round_number(value):
    """Return the largest of 1, 2 and 5 times a power of ten up to ``value``."""
    power = 10.0 ** np.floor(np.log10(value))
    return max(step for step in (1, 2, 5) if step * power <= value * 1.0001) * power
