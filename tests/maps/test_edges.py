# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of maps with edges, across which values are not interpolated."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd import (
    MapGrid,
    MapKey,
    MapLibrary,
    OffsetMap,
    ZeroPointMap,
    add_lookup_tables,
    apply_offsets,
    apply_zeropoint,
)
from ks4_ccd.exceptions import GeometryError, MapFormatError

# Cells of 10 pixels on 60 x 40; the border at 34 is not one of cells.
EDGES = [34.0], [19.5]


@pytest.fixture
def stepped():
    """A map with a step at x = 34 and one at y = 19.5."""
    grid = MapGrid((6, 4), 10, edges=EDGES)
    x, y = np.meshgrid(*grid.centers(), indexing="ij")
    values = 30 + 0.1 * (x >= 34) + 0.05 * (y >= 19.5)
    key = MapKey("zp", "0403", "R", "single", "APER5")
    ones = np.ones(grid.shape)
    return ZeroPointMap(values, 0.01 * ones, 3 * ones, grid=grid, key=key)


def truth():
    """Return positions on the image and the zero point there."""
    x, y = np.meshgrid(np.arange(60.0), np.arange(40.0), indexing="ij")
    return x, y, 30 + 0.1 * (x >= 34) + 0.05 * (y >= 19.5)


def test_steps_are_sharp(stepped):
    """Each pixel has the value of its side, also next to the edge."""
    x, y, true = truth()
    assert_allclose(stepped.at(x, y), true, rtol=0, atol=1e-12)
    plain = ZeroPointMap(stepped.values, grid=MapGrid((6, 4), 10))
    assert np.abs(plain.at(x, y) - true).max() > 0.03


def test_methods_without_edges(stepped):
    """Edges do not affect the methods "nearest" and "dr1"."""
    plain = ZeroPointMap(stepped.values, count=stepped.count, grid=MapGrid((6, 4), 10))
    x, y, _ = truth()
    assert_array_equal(stepped.at(x, y, "nearest"), plain.at(x, y, "nearest"))
    ccd = CCDData(np.ones((40, 60)), unit="adu")
    images = [apply_zeropoint(ccd, zp, method="dr1").data for zp in (stepped, plain)]
    assert_array_equal(*images)


def test_steps_in_images(stepped):
    """The factor of each pixel is that of the map, also in cut-outs."""
    true = truth()[2]
    for origin, shape in (((0, 0), (40, 60)), ((31, 13), (20, 25))):
        ccd = CCDData(np.ones(shape), unit="adu")
        result = apply_zeropoint(ccd, stepped, origin=origin)
        inside = np.s_[
            origin[0] : origin[0] + shape[1], origin[1] : origin[1] + shape[0]
        ]
        factor = 10 ** (0.4 * (30 - true[inside].T))
        assert_allclose(result.data, factor, rtol=1e-12)


def test_between_edges_values_are_interpolated():
    """A region of several cells has a gradient up to its outermost centres."""
    grid = MapGrid((4, 1), 10, edges=([19.5], []))
    values = [[30.0], [30.1], [31.0], [31.1]]
    zpmap = ZeroPointMap(values, count=np.ones((4, 1)), grid=grid)
    found = zpmap.at([0, 4, 9, 14, 19, 20, 24, 29, 34], 5)
    expected = [30, 30, 30.05, 30.1, 30.1, 31, 31, 31.05, 31.1]
    assert_allclose(found, expected, atol=1e-12)


def test_order_of_edges():
    """Edges may be specified in any order."""
    edges = [14.0, 34.0, 51.0], [9.5, 19.5]
    backwards = [np.array(part)[::-1] for part in edges]
    maps = []
    for given in (edges, backwards):
        grid = MapGrid((6, 4), 10, edges=given)
        x, y = np.meshgrid(*grid.centers(), indexing="ij")
        steps = np.searchsorted(edges[0], x) + 0.1 * np.searchsorted(edges[1], y)
        maps.append(ZeroPointMap(30 + 0.1 * steps, grid=grid))
    assert maps[0].grid == maps[1].grid
    assert maps[1].grid.edges == tuple(map(tuple, edges))
    x, y = np.indices((60, 40))
    assert_array_equal(maps[1].at(x, y), maps[0].at(x, y))


def test_edges_closer_than_a_cell(stepped):
    """Between edges without a centre, values are interpolated as without edges."""
    grid = MapGrid((6, 4), 10, edges=([33.0, 33.8], []))
    zpmap = ZeroPointMap(stepped.values, grid=grid)
    plain = ZeroPointMap(stepped.values, grid=MapGrid((6, 4), 10))
    assert zpmap.at(33.5, 3) == pytest.approx(plain.at(33.5, 3))


def test_edges_are_kept_in_files(stepped, tmp_path):
    """Edges are saved with a map, read by a library and removed when it is replaced."""
    stepped.save(tmp_path)
    assert (tmp_path / "zpedge_map_0403_R_single_APER5.npy").exists()
    with MapLibrary(tmp_path, image_shape=(40, 60)) as library:
        loaded = library.zeropoint("0403", "R")
    assert loaded.grid == stepped.grid
    assert loaded.grid.edges == ((34.0,), (19.5,))
    plain = ZeroPointMap(stepped.values, grid=MapGrid((6, 4), 10), key=stepped.key)
    plain.save(tmp_path)
    with MapLibrary(tmp_path, image_shape=(40, 60)) as library:
        assert library.zeropoint("0403", "R").grid.edges == ((), ())


@pytest.mark.parametrize("array", [[[2.0, 5.0]], [[0.0, 1.0, 2.0]]])
def test_malformed_files_of_edges(stepped, tmp_path, array):
    """The message about a malformed file of edges describes the expected rows."""
    stepped.save(tmp_path)
    np.save(tmp_path / "zpedge_map_0403_R_single_APER5.npy", array)
    with (
        MapLibrary(tmp_path, image_shape=(40, 60)) as library,
        pytest.raises(MapFormatError, match=r"zpedge_map.*axis"),
    ):
        library.zeropoint("0403", "R")


def test_lookup_tables_keep_the_steps(tan_wcs):
    """GWCS and FITS tables agree, except within an eighth of a cell of an edge."""
    grid = MapGrid((11, 10), 20, edges=([109.5], []))
    x, _ = np.meshgrid(*grid.centers(), indexing="ij")
    offsets = OffsetMap(0.2 * (x > 109.5), 0.1 + 0 * x, grid=grid)
    wcs = tan_wcs((200, 220))
    gwcs, fits = apply_offsets(wcs, offsets), add_lookup_tables(wcs, offsets)
    px, py = np.meshgrid(np.arange(0, 220, 3.3), np.arange(0, 200, 7.7))
    there, also = gwcs(px, py), fits.all_pix2world(px, py, 0)
    assert_allclose(there, also, rtol=0, atol=1e-6 / 3600)
    before = wcs.all_pix2world(px, py, 0)
    dec = np.radians(before[1])
    shift = 3600 * ((there[0] - before[0] + 180) % 360 - 180) * np.cos(dec)
    sharp = np.abs(px - 109.5) > 20 / 8
    assert_allclose(shift[sharp], 0.2 * (px > 109.5)[sharp], atol=1e-3)


@pytest.mark.parametrize("edges", [3, ([1],), ([1], ["a"]), ([np.inf], [])])
def test_edges_must_be_numbers(edges):
    """Edges that are not a pair of sequences of finite numbers are refused."""
    with pytest.raises(GeometryError, match="edges must be"):
        MapGrid((2, 2), 10, edges=edges)
