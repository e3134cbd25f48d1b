# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test map values sampled at source positions: every row, map and edge."""

import numpy as np
import pytest
from astropy.table import Table

from ks4_ccd import MapGrid, ZeroPointMap, calibrate_catalog
from ks4_ccd.catalogs import _values as _catalog_values
from ks4_ccd.catalogs._values import EMPTY, UNREACHABLE, sample


@pytest.mark.parametrize("method", ["bilinear", "nearest", "dr1"])
@pytest.mark.parametrize("rows", [1, -1, 0, 7])
def test_every_row_of_every_block_is_filled(make_map, method, rows):
    """Each row has its own values, the last row of each block included."""
    block = _catalog_values._BLOCK
    maps = {"A": make_map(seed=1), "B": make_map(seed=2)}
    x, y = np.random.default_rng(3).uniform(-1, [[99], [79]], (2, 2 * block + rows))
    # Memory that was used before must not contain the expected values.
    np.full((20, x.size), np.nan)
    found = sample(maps, x, y, method=method, error_kind="scatter", errors_needed=True)
    for name, zpmap in maps.items():
        i, j = zpmap.grid.cell_of(x, y)
        values = zpmap.values[i, j] if method == "dr1" else zpmap.at(x, y, method)
        np.testing.assert_allclose(found[name].value, values, rtol=1e-14)
        errors = (
            zpmap.error[i, j]
            if method == "dr1"
            else zpmap.error_at(x, y, method=method)
        )
        np.testing.assert_allclose(found[name].error, errors, rtol=1e-13)
        np.testing.assert_array_equal(found[name].count, zpmap.count[i, j])
        flag = EMPTY * ~zpmap.valid + UNREACHABLE * ~zpmap.reachable
        np.testing.assert_array_equal(found[name].flag, flag[i, j])


def make_catalog(x, y):
    """Return a catalog of two apertures with sources at given X_IMAGE, Y_IMAGE."""
    n = len(x)
    columns = {"X_IMAGE": np.array(x, float), "Y_IMAGE": np.array(y, float)}
    for aperture in ("APER5", "AUTO"):
        columns[f"MAG_{aperture}"] = np.full(n, -9.0)
        columns[f"MAGERR_{aperture}"] = np.full(n, 0.1)
    return Table(columns)


def make_maps(counts):
    """Return maps of two apertures with given numbers of stars."""
    return {
        aperture: ZeroPointMap(
            np.full(np.shape(count), 29.5),
            np.full(np.shape(count), 0.02),
            count,
            grid=MapGrid(np.shape(count), 20),
        )
        for aperture, count in counts.items()
    }


@pytest.mark.parametrize("order", [("APER5", "AUTO"), ("AUTO", "APER5")])
def test_flags_are_those_of_all_apertures(order):
    """A cell that is empty in any of the maps is flagged."""
    counts = {order[0]: [[5], [0]], order[1]: [[5], [5]]}
    result = calibrate_catalog(make_catalog([10, 30], [10, 10]), make_maps(counts))
    assert result["ZPFLAG"].tolist() == [0, EMPTY]


@pytest.mark.parametrize(
    ("position", "is_off"),
    [(0.5, False), (0.49, True), (-0.4, True), (40.5, False), (40.51, True)],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_image_ends_at_the_edge_of_its_outermost_pixels(position, is_off, axis):
    """X_IMAGE and Y_IMAGE from 0.5 to 40.5 are on an image of 40 x 40 pixels."""
    place = [[10.0], [10.0]]
    place[axis] = [position]
    counts = {name: [[5, 5], [5, 5]] for name in ("APER5", "AUTO")}
    result = calibrate_catalog(make_catalog(*place), make_maps(counts))
    assert result["ZPFLAG"].tolist() == [4 if is_off else 0]
