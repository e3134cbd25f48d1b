# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of colour terms: recovery, order, coverage, warnings and arguments."""

import warnings

import numpy as np
import pytest
from astropy.table import Table

from ks4_ccd import KS4Warning, build_maps, build_zeropoint_map, cross_validate
from ks4_ccd.cli import main
from ks4_ccd.exceptions import OptionError
from ks4_ccd.mapmaking._color import best_order

SIZE = 1000
NOISE = 0.005


def make_stars(n, coefficients=(), seed=1, surface=True):
    """Return matched stars whose zero points depend on V - I."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.5, SIZE - 0.5, (2, n))
    mag = rng.uniform(14.5, 18.5, n)
    # Faint stars are redder on average, and few stars are very red.
    color = 0.5 + 0.05 * (mag - 16.5) + 0.3 * rng.exponential(size=n)
    zeropoint = np.full(n, 30.0)
    if surface:
        zeropoint += 0.05 * np.sin(x / 160) + 5e-5 * y
    # Of the colour 0.8, to which the surface refers.
    for power, coefficient in enumerate(coefficients, 1):
        zeropoint += coefficient * (color - 0.8) ** power
    table = Table({"X_IMAGE": x + 1, "Y_IMAGE": y + 1})
    for aperture in ("AUTO", "APER5"):
        table[f"MAG_{aperture}"] = mag - zeropoint + NOISE * rng.normal(size=n)
        table[f"MAGERR_{aperture}"] = np.full(n, NOISE)
    table["FLAGS"] = table["IMAFLAGS_ISO"] = np.zeros(n, int)
    table["CLASS_STAR"] = np.ones(n)
    table["Rmag"], table["e_Rmag"] = mag, 0 * mag
    # The band of the image is not on a line with the bands of the colour.
    table["Vmag"] = mag + 0.5 * color + 0.1 * rng.normal(size=n)
    table["Imag"] = table["Vmag"] - color
    table["dra"], table["ddec"] = 0.01 * rng.normal(size=(2, n))
    table["sep"] = np.hypot(table["dra"], table["ddec"]) / 3600
    return table


def build(table, **options):
    """Return the zero-point map of AUTO."""
    options = {"band": "R", "aperture": "AUTO", "shape": (20, 20)} | options
    return build_zeropoint_map(table, (SIZE, SIZE), **options)


def residuals(zpmap, reference=0.8, coefficients=()):
    """Return the map minus the true zero point of its reference colour."""
    x, y = zpmap.grid.centers()
    truth = 30 + 0.05 * np.sin(x[:, None] / 160) + 5e-5 * y
    for power, coefficient in enumerate(coefficients, 1):
        truth = truth + coefficient * (reference - 0.8) ** power
    return zpmap.values - truth


@pytest.mark.parametrize("coefficients", [(0.1,), (-0.05, 0.08)])
def test_color_term_is_recovered(coefficients):
    """The true zero point of any colour is that of the map and its colour term."""
    zpmap = build(make_stars(2000, coefficients), color=("V", "I"))
    term = zpmap.color_term
    assert term.bands == ("V", "I")
    assert term.order == len(coefficients)
    color = np.array([0.4, 0.8, 1.6])
    truth = sum(c * (color - 0.8) ** k for k, c in enumerate(coefficients, 1))
    at_reference = sum(
        c * (term.reference_color - 0.8) ** k for k, c in enumerate(coefficients, 1)
    )
    difference = term.at(color) - (truth - at_reference)
    assert np.all(np.abs(difference) < 0.002)
    assert np.std(residuals(zpmap, term.reference_color, coefficients)) < 0.0015


def test_map_is_as_accurate_as_without_color():
    """A colour term that is fitted costs no accuracy."""
    plain = build(make_stars(2000))
    fitted = build(make_stars(2000, (0.1,)), color=("V", "I"))
    reference = fitted.color_term.reference_color
    before = np.std(residuals(plain))
    assert np.std(residuals(fitted, reference, (0.1,))) < 1.05 * before


@pytest.mark.parametrize("number", [60, 600])
def test_uncertainty_covers_the_truth(number):
    """The coefficient is within one standard deviation in 68 % of the fields."""
    pulls = []
    for seed in range(40 if number < 500 else 10):
        table = make_stars(number, (0.1,), seed=seed, surface=number > 500)
        term = build(table, color=("V", "I")).color_term
        # The slope at the reference colour, whatever the order.
        pulls.append((term.coefficients[0] - 0.1) / term.uncertainties[0])
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.5


def test_no_color_term_where_there_is_none():
    """Without a dependence the coefficients are compatible with 0."""
    for seed in range(3):
        term = build(make_stars(1000, seed=seed), color=("V", "I")).color_term
        for value, error in zip(term.coefficients, term.uncertainties, strict=True):
            assert abs(value) < 4 * error


def test_order_is_that_of_the_truth():
    """Cross-validation finds the order of a clear polynomial, and mostly 0 in noise."""
    rng = np.random.default_rng(2)
    powers = rng.normal(size=1000)[:, None] ** [1, 2]
    magnitudes = rng.uniform(14, 19, 1000)
    orders = {0: [], 1: [], 2: []}
    for _ in range(20):
        noise = rng.normal(size=1000)
        for order, found in orders.items():
            signal = powers[:, order - 1] if order else 0
            found.append(best_order(powers, noise + signal, magnitudes))
    assert np.mean(np.equal(orders[0], 0)) >= 0.5
    assert min(orders[1]) == 1
    assert set(orders[2]) == {2}


def test_unfitted_color_is_reported():
    """A builder without a colour term warns of its size, once for all apertures."""
    table = make_stars(2000, (0.1,))
    with pytest.warns(KS4Warning, match="depend on the colour") as warned:
        build_maps(table, (SIZE, SIZE), band="R", shape=(20, 20))
    assert len(warned) == 1
    text = str(warned[0].message)
    assert "mag per mag of V-I" in text
    assert float(text.split(": ")[1].split()[0]) == pytest.approx(0.1, abs=0.01)
    assert "color=('V', 'I') (--color V-I)" in text


@pytest.mark.parametrize("seed", range(3))
def test_no_warning_without_a_dependence(seed):
    """Neither scatter nor a trend with magnitude is taken for a colour term."""
    table = make_stars(2000, seed=seed)
    table["MAG_AUTO"] += 0.02 * (table["Rmag"] - 16.5)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        build(table)
    assert not warned


def test_stars_without_a_color_are_not_used():
    """A star without a magnitude in one of the bands does not take part."""
    table = make_stars(1500, (0.1,))
    expected = build(table[:1000], color=("V", "I"))
    table["Vmag"][1000:] = np.nan
    assert build(table, color=("V", "I")) == expected


@pytest.mark.parametrize(
    ("color", "message"),
    [
        (("V", "K"), "no column Kmag. Bands of the reference: R, V, I"),
        ("V-I", "a colour is a pair of two different bands"),
        (("V",), "a colour is a pair of two different bands"),
        (("V", "V"), "a colour is a pair of two different bands"),
    ],
)
def test_wrong_colors_are_refused(color, message):
    """A colour is a pair of bands of the reference."""
    for function in (build_zeropoint_map, build_maps):
        with pytest.raises(OptionError, match=message):
            function(make_stars(100), (SIZE, SIZE), band="R", color=color)


def test_recipe_of_dr1_has_no_color_term():
    """DR1 has no colour terms."""
    with pytest.raises(OptionError, match="color must be None"):
        build(make_stars(100), color=("V", "I"), recipe="dr1")
    assert build(make_stars(100), recipe="dr1").color_term is None


def validate(table, **options):
    """Return the validation of AUTO with two folds."""
    options = {"band": "R", "aperture": "AUTO", "shape": (8, 8), "folds": 2} | options
    return cross_validate(table, (SIZE, SIZE), **options)


def spread_by_color(validation):
    """Return the range of the medians of the four parts by colour."""
    table = validation.table
    rows = [row for row in table if row["stars"].startswith("V-I")]
    assert len(rows) == 4
    assert sum(row["number"] for row in rows) == table["number"][1]
    return np.ptp([row["median"] for row in rows])


def test_validation_reports_residuals_by_color():
    """Residuals depend on the colour without a colour term, and not with it."""
    table = make_stars(400, (0.1,))
    table.remove_column("Rmag")
    table["Rmag"] = table["Vmag"] - 0.5
    for name in ("MAG_AUTO", "MAG_APER5"):
        table[name] = table[name] - table["Vmag"] + table["Rmag"]
    with pytest.warns(KS4Warning, match="depend on the colour"):
        without = validate(table)
    with_term = validate(table, color=("V", "I"))
    assert with_term.meta["color_term"] == "V-I"
    assert spread_by_color(with_term) < 0.2 * spread_by_color(without)
    pulls = with_term.table["pull_width"][0]
    assert 0.8 < pulls < 1.25


def test_validation_of_a_map_applies_its_color_term():
    """The residuals of an existing map include its colour term."""
    table = make_stars(400, (0.1,), surface=False)
    zpmap = build(table, color=("V", "I"), shape=(8, 8))
    validation = validate(table, calibration=zpmap, shape=None)
    assert validation.meta["color"] == "V-I"
    assert validation.table["scatter"][0] < 1.2 * NOISE
    plain = validate(table, calibration=zpmap.replace(color_term=None), shape=None)
    assert plain.table["scatter"][0] > 3 * NOISE


def test_validation_reports_residuals_beside_edges():
    """There is a row for each edge, with the stars nearer than their mean distance."""
    table = make_stars(400)
    validation = validate(table, edges=([499.5], [300.0]))
    rows = {row["stars"]: row["number"] for row in validation.table[-2:]}
    reach = SIZE / np.sqrt(400)
    x, y = table["X_IMAGE"] - 1, table["Y_IMAGE"] - 1
    assert rows == {
        "edge at x = 500": np.count_nonzero(np.abs(x - 499.5) <= reach),
        "edge at y = 300": np.count_nonzero(np.abs(y - 300) <= reach),
    }
    axes = validation.plot().get_axes()
    labels = [ax.get_xlabel() for ax in axes]
    assert "distance from the nearest edge [pixel]" in labels
    assert "V-I [mag]" in labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "offset"}, "positions have no colour term"),
        ({"calibration": 30.0}, "shape, edges and color must be omitted"),
    ],
)
def test_validation_refuses_a_color_without_effect(options, message):
    """Only zero-point maps that are made have a colour term to fit."""
    with pytest.raises(OptionError, match=message):
        validate(make_stars(100), color=("V", "I"), shape=None, **options)


def test_command_fits_and_applies_a_color_term(tmp_path, capsys):
    """Maps made with ``--color`` calibrate catalogs with ``--color-column``."""
    table = make_stars(400, (0.1,), surface=False)
    table["ALPHA_J2000"], table["DELTA_J2000"] = 10 + table["X_IMAGE"] / 9e3, 0.0
    table["DELTA_J2000"] = table["Y_IMAGE"] / 9e3
    reference = table["ALPHA_J2000", "DELTA_J2000", "Vmag", "Rmag", "Imag"].copy()
    reference.rename_columns(["ALPHA_J2000", "DELTA_J2000"], ["RAJ2000", "DEJ2000"])
    sources = table.copy()
    sources["V-I"] = table["Vmag"] - table["Imag"]
    sources.remove_columns(["Vmag", "Rmag", "Imag", "e_Rmag", "dra", "ddec", "sep"])
    sources.write(tmp_path / "sources.fits")
    reference.write(tmp_path / "reference.fits")
    names = ["--field", "test", "--band", "R", "--image-size", str(SIZE), str(SIZE)]
    made, calibrated = str(tmp_path / "maps"), str(tmp_path / "calibrated.fits")
    stars = ["--reference", str(tmp_path / "reference.fits")]
    options = ["--color", "V-I", "--cells", "8", "8"]
    source = str(tmp_path / "sources.fits")
    assert main(["build", source, *stars, *names, *options, "-o", made]) == 0
    options = ["--maps", made, *names, "--color-column", "V-I"]
    assert main(["catalog", source, *options, "-o", calibrated]) == 0
    result = Table.read(calibrated)
    assert np.std(result["MAG_AUTO"] - table["Rmag"]) < 1.2 * NOISE
    assert result.meta["KS4ZPCLR"].startswith("V-I = ")
    with pytest.raises(SystemExit) as raised:
        main(["build", source, *stars, *names, "--color", "VI", "-o", made])
    assert raised.value.code == 2
    assert "expected two bands such as V-I, got 'VI'" in capsys.readouterr().err
