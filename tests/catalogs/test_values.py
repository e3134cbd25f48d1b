# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test map values sampled at source positions: every row, map and edge."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from ks4_ccd import ColorTerm, MapGrid, ZeroPointMap, calibrate_catalog
from ks4_ccd.catalogs import _values as _catalog_values
from ks4_ccd.catalogs._values import EMPTY, UNREACHABLE, sample
from ks4_ccd.exceptions import MapMismatchError, OptionError


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


# Colour terms


def make_color_maps(orders=(1, 1), bands=("V", "I")):
    """Return maps of two apertures with colour terms."""
    terms = {
        None: None,
        0: ColorTerm(bands, 0.8, []),
        1: ColorTerm(bands, 0.8, [0.1], [[0.01**2]]),
        2: ColorTerm(bands, 0.8, [0.1, -0.02], [[0.01**2, 0], [0, 0.005**2]]),
    }
    maps = make_maps({"APER5": [[5, 5], [5, 5]], "AUTO": [[5, 5], [5, 5]]})
    return {
        name: zpmap.replace(color_term=terms[order])
        for (name, zpmap), order in zip(maps.items(), orders, strict=True)
    }


COLORS = np.array([0.8, 1.3, np.nan, 99.0])


@pytest.mark.parametrize("given", ["column", "masked column", "array", "quantity"])
def test_color_terms_are_applied_to_known_colors(given):
    """A source with a colour gets its zero point, others that of the reference."""
    table = make_catalog([10] * 4, [10] * 4)
    table["VI"] = COLORS
    if given == "masked column":
        table["VI"] = np.ma.masked_array([0.8, 1.3, 5.0, 5.0], [0, 0, 1, 1])
    color = {"array": COLORS, "quantity": COLORS * u.mag}.get(given, "VI")
    maps = make_color_maps((1, 2))
    result = calibrate_catalog(table, maps, color=color)
    np.testing.assert_allclose(result["ZP_APER5"], [29.5, 29.55, 29.5, 29.5])
    np.testing.assert_allclose(result["ZP_AUTO"], [29.5, 29.545, 29.5, 29.5])
    np.testing.assert_allclose(result["MAG_APER5"], np.array([20.5, 20.55, 20.5, 20.5]))
    expected = np.hypot(maps["APER5"].error_at(9, 9), [0, 0.005, 0, 0])
    np.testing.assert_allclose(result["ZPERR_APER5"], expected)
    np.testing.assert_allclose(result["MAGERR_APER5"], np.hypot(0.1, expected))
    assert result["ZPFLAG"].tolist() == [0, 0, 16, 16]
    assert result.meta["KS4ZPCLR"] == "V-I = 0.800"


def test_without_colors_magnitudes_refer_to_the_reference_color():
    """The catalog records that its magnitudes are those of the reference colour."""
    result = calibrate_catalog(make_catalog([10], [10]), make_color_maps())
    assert result["ZP_AUTO"].tolist() == [29.5]
    assert result["ZPFLAG"].tolist() == [16]
    assert result.meta["KS4ZPCLR"] == "V-I = 0.800"


def test_a_term_without_coefficients_needs_no_color():
    """Zero points that do not depend on the colour hold for any source."""
    maps = make_color_maps((0, 0))
    for color in (None, COLORS[:1]):
        result = calibrate_catalog(make_catalog([10], [10]), maps, color=color)
        assert result["ZPFLAG"].tolist() == [0]


@pytest.mark.parametrize(
    ("color", "message"),
    [
        ("BV", "color='BV' must be a column of the catalog"),
        ([0.8], "one colour for each of its 2 rows, got the shape"),
        (0.8, "one colour for each of its 2 rows, got the shape"),
        (["red", "blue"], "color must contain colours in magnitudes"),
        ([0.8, 0.9] * u.Jy, "color must contain colours in magnitudes"),
    ],
)
def test_wrong_colors_are_refused(color, message):
    """A colour for each row is expected."""
    table = make_catalog([10, 10], [10, 10])
    with pytest.raises(OptionError, match=message):
        calibrate_catalog(table, make_color_maps(), color=color)


def test_colors_are_refused_in_the_calibration_of_dr1():
    """DR1 has no colour terms."""
    with pytest.raises(OptionError, match="color must be None with method='dr1'"):
        calibrate_catalog(
            make_catalog([10], [10]), make_color_maps(), color=[0.8], method="dr1"
        )


def test_colors_without_a_color_term_are_refused():
    """A colour that would have no effect is refused, and so are two bands."""
    table = make_catalog([10], [10])
    with pytest.raises(MapMismatchError, match="none of the maps has a colour term"):
        calibrate_catalog(table, make_color_maps((None, None)), color=[0.8])
    maps = make_color_maps() | {"AUTO": make_color_maps(bands=("B", "R"))["AUTO"]}
    with pytest.raises(MapMismatchError, match="different colours, V-I and B-R"):
        calibrate_catalog(table, maps, color=[0.8])
