# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Plot the lower left corner of a grid of cells over the pixels of an image."""

import matplotlib.pyplot as plt
import numpy as np

from ks4_ccd import MapGrid

SIZE = 4
grid = MapGrid((3, 2), SIZE)
rows, columns = grid.image_shape

# the cell of each pixel; image arrays are indexed [y, x]
y, x = np.mgrid[:rows, :columns]
x_bin, y_bin = grid.cell_of(x, y)
shade = (np.asarray(x_bin) + np.asarray(y_bin)) % 2

figure, axes = plt.subplots(figsize=(8.0, 6.4))
figure.subplots_adjust(left=0.08, right=0.92, bottom=0.14, top=0.94)
axes.imshow(shade, origin="lower", cmap="Greys", vmin=-0.4, vmax=4)
axes.set_xticks(np.arange(columns))
axes.set_yticks(np.arange(rows))
for edge in np.arange(columns + 1) - 0.5:
    axes.axvline(edge, color="white", lw=0.8)
for edge in np.arange(rows + 1) - 0.5:
    axes.axhline(edge, color="white", lw=0.8)
axes.plot(x.ravel(), y.ravel(), ".", color="0.55", ms=3, label="centre of a pixel")

# the cell edges, at X_IMAGE = k * size
x_edges, y_edges = grid.cell_edges()
for edge in x_edges:
    axes.axvline(edge, color="tab:blue", lw=1.6)
for edge in y_edges:
    axes.axhline(edge, color="tab:blue", lw=1.6)
axes.plot([], [], color="tab:blue", lw=1.6, label="edge of a cell")

x_centers, y_centers = grid.centers()
for i, x_center in enumerate(x_centers):
    for j, y_center in enumerate(y_centers):
        axes.plot(x_center, y_center, "+", color="tab:red", ms=13, mew=2)
        axes.annotate(
            f"values[{i}, {j}]",
            (x_center, y_center),
            xytext=(0, 12),
            textcoords="offset points",
            ha="center",
            color="tab:red",
            backgroundcolor="white",
            fontsize=9,
        )
axes.plot([], [], "+", color="tab:red", ms=10, mew=2, ls="", label="centre of a cell")

axes.set(
    xlim=(-1.3, columns - 0.3),
    ylim=(-1.3, rows - 0.3),
    xlabel="x, 0-based (image[y, x])",
    ylabel="y, 0-based",
)
top = axes.secondary_xaxis("top", functions=(lambda x: x + 1, lambda X: X - 1))
top.set_xticks(np.arange(columns + 1))
top.set_xlabel("X_IMAGE, 1-based")
right = axes.secondary_yaxis("right", functions=(lambda y: y + 1, lambda Y: Y - 1))
right.set_yticks(np.arange(rows + 1))
right.set_ylabel("Y_IMAGE, 1-based")
figure.legend(loc="lower center", ncols=3, frameon=False)
