# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of cross-validation against known truths and literal computations."""

import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd import (
    MapGrid,
    OffsetMap,
    ZeroPointMap,
    calibrate_catalog,
    cross_validate,
    match_catalogs,
    simulate_field,
)
from ks4_ccd.exceptions import KS4Error, MapMismatchError, OptionError
from ks4_ccd.mapmaking import validation as validate

SHAPE = (1000, 1200)
NOISE, REFERENCE_NOISE = 0.012, 0.005
ZEROPOINT = 29.9
EDGES = ([10999.0], [10999.0])


def constant_map(value=ZEROPOINT, error=None):
    """Return a constant map, optionally with a standard error."""
    grid = MapGrid.for_image((6, 5), SHAPE)
    full = np.full(grid.shape, value)
    if error is None:
        return ZeroPointMap(full, grid=grid)
    # A fractional number of stars marks errors that neighbouring cells share.
    scatter = np.full(grid.shape, error * np.sqrt(99.5 / (np.pi / 2)))
    return ZeroPointMap(full, scatter, np.full(grid.shape, 99.5), grid=grid)


def stars(number=2000, *, seed=0, quoted=1.0, trend=0.0):
    """Return matched stars of one zero point; ``quoted`` is noise / quoted error."""
    rng = np.random.default_rng(seed)
    table = Table()
    table["X_IMAGE"] = rng.uniform(1, SHAPE[1], number)
    table["Y_IMAGE"] = rng.uniform(1, SHAPE[0], number)
    table["ALPHA_J2000"] = 10 - table["X_IMAGE"] * 0.4 / 3600
    table["DELTA_J2000"] = table["Y_IMAGE"] * 0.4 / 3600
    table["RAJ2000"] = table["ALPHA_J2000"]
    table["DEJ2000"] = table["DELTA_J2000"]
    true = rng.uniform(13.5, 19.5, number)
    table["Rmag"] = true + rng.normal(0, REFERENCE_NOISE, number)
    table["e_Rmag"] = REFERENCE_NOISE
    measured = true - ZEROPOINT + trend * (true - 16.5)
    sigma = NOISE * 10 ** (0.1 * (true - 16.5))
    for aperture in ("APER5", "AUTO"):
        table[f"MAG_{aperture}"] = measured + rng.normal(0, sigma)
        table[f"MAGERR_{aperture}"] = sigma / quoted
    table["FLAGS"] = rng.choice([0, 0, 0, 2], number)
    table["IMAFLAGS_ISO"] = rng.choice([0, 0, 0, 1], number)
    table["CLASS_STAR"] = rng.uniform(0.75, 1, number)
    table["sep"] = rng.uniform(0, 0.7, number) / 3600
    table["dra"], table["ddec"] = rng.normal([[0.03], [-0.02]], 0.004, (2, number))
    return table


def clipped(values):
    """Return values after iterative clipping at 3 sigma about the median."""
    while True:
        deviation = np.abs(values - np.median(values))
        kept = values[deviation <= 3 * np.std(values)]
        if kept.size == values.size:
            return kept
        values = kept


@pytest.fixture(scope="module")
def field():
    """A simulated field with few stars per cell."""
    return simulate_field((600, 600), map_shape=(30, 30), seed=3, field="0403")


@pytest.fixture(scope="module")
def validation(field):
    """The cross-validation of its zero points with the default recipe."""
    return cross_validate(field.matched, (600, 600), band="R", shape=(30, 30))


def test_perfect_map():
    """With a perfect map residuals equal the noise, and pulls have a width of 1."""
    table = stars()
    found = cross_validate(table, band="R", calibration=constant_map())
    residual = table["MAG_APER5"] + ZEROPOINT - table["Rmag"]
    assert_allclose(found.stars["residual"], residual, atol=1e-12)
    number, width = found.table["number", "pull_width"][1]
    # Clipping at 3 sigma reduces the width of a normal sample by 1.3 %.
    assert abs(width - 0.987) < 4 / np.sqrt(2 * number)
    assert "stars not held out" in str(found)
    assert_array_equal(found.stars["fold"], -1)


def test_error_of_a_map():
    """The median residual of a map with an error of 0.05 mag is 0.05 mag."""
    found = cross_validate(
        stars(), band="R", calibration=constant_map(ZEROPOINT + 0.05)
    )
    assert_allclose(found.table["median"][1], 0.05, atol=0.003)
    assert found.table["rms"][1] > 0.05
    assert found.table["scatter"][1] > 0.05


def test_number_is_the_same_as_a_constant_map():
    """A uniform zero point gives the same residuals as a constant map."""
    table = stars()
    by_map = cross_validate(table, SHAPE, band="R", calibration=constant_map())
    by_number = cross_validate(table, SHAPE, band="R", calibration=ZEROPOINT)
    assert_allclose(by_number.stars["residual"], by_map.stars["residual"], atol=1e-12)
    assert_allclose(by_number.stars["error"], by_map.stars["error"], rtol=1e-12)


def test_quoted_error_of_a_given_map():
    """The quoted error combines those of the magnitude, the reference and the map."""
    table = stars()
    found = cross_validate(table, band="R", calibration=constant_map(error=0.02))
    expected = np.sqrt(table["MAGERR_APER5"] ** 2 + REFERENCE_NOISE**2 + 0.02**2)
    assert_allclose(found.stars["error"], expected, rtol=1e-12)


@pytest.mark.parametrize("other", [{"band": "I"}, {"aperture": "AUTO"}])
def test_map_of_another_band_or_aperture(field, other):
    """A map of another band or aperture is refused."""
    options = {"band": "R", "calibration": field.maps["APER5"]} | other
    with pytest.raises(
        MapMismatchError, match="expected a map of .*, found .*R single APER5"
    ):
        cross_validate(field.matched, **options)


def test_calibrated_catalog(field):
    """A calibrated catalog has the residuals of the map that calibrated it."""
    zpmap = field.maps["AUTO"]
    by_map = cross_validate(field.matched, band="R", aperture="AUTO", calibration=zpmap)
    calibrated = calibrate_catalog(field.sources, field.maps, uncalibrated="fill")
    matched = match_catalogs(calibrated, field.reference, band="R")
    options = {"band": "R", "aperture": "AUTO", "calibration": 0}
    found = cross_validate(matched, (600, 600), **options)
    assert_allclose(found.stars["residual"], by_map.stars["residual"], atol=1e-5)
    assert (found.stars["error"] > 0).all()


def test_published_selection():
    """The published selection follows the definition of DR1."""
    table = stars(400, quoted=0.5)
    found = cross_validate(table, band="R", calibration=constant_map())
    expected = [
        row["sep"] * 3600 < 0.5
        and 14 <= row["Rmag"] <= 19
        and row["FLAGS"] == 0
        and row["IMAFLAGS_ISO"] == 0
        and row["CLASS_STAR"] > 0.8
        and row["MAGERR_APER5"] < 0.05
        for row in table
    ]
    assert_array_equal(found.stars["published"], expected)
    assert found.table["number"].tolist()[:2] == [400, sum(expected)]
    assert 0 < sum(expected) < 400


def test_statistics_of_the_table(validation):
    """The statistics of the table equal literal computations."""
    chosen = validation.stars[validation.stars["published"]]
    for name, low, high in (
        ("published selection", -np.inf, np.inf),
        ("16 to 17 mag", 16, 17),
    ):
        part = chosen[(chosen["magnitude"] >= low) & (chosen["magnitude"] < high)]
        row = validation.table[validation.table["stars"] == name][0]
        residual, pull = part["residual"].value, part["pull"].value
        assert row["number"] == len(part)
        assert_allclose(row["rms"], np.sqrt(np.mean(residual**2)))
        assert_allclose(row["median"], np.median(residual))
        assert_allclose(row["scatter"], np.sqrt(np.mean(clipped(residual) ** 2)))
        assert_allclose(row["pull_width"], np.std(clipped(pull)))
        spread = 1.4826022 * np.median(np.abs(pull - np.median(pull)))
        assert_allclose(row["pull_mad"], spread)
        with_trend = clipped(residual / part["error"].value)
        assert_allclose(row["pull_width_with_trend"], np.std(with_trend))
    assert validation.table["scatter"].unit == "mag"


def test_every_star_is_held_out_once(monkeypatch):
    """Each star, duplicates included, is held out of the map that calibrates it."""
    table = stars(300)
    table["NUMBER"] = np.arange(300)
    table["RAJ2000"][1], table["DEJ2000"][1] = table["RAJ2000", "DEJ2000"][0]
    known = []

    def build(matched, *_, **__):
        known.append(set(matched["NUMBER"].tolist()))
        return constant_map(error=0.001)

    monkeypatch.setattr(validate, "build_zeropoint_map", build)
    found = cross_validate(table, SHAPE, band="R", folds=4)
    times = [sum(number not in fold for fold in known) for number in range(300)]
    assert times == [1] * 300
    assert found.stars["fold"][0] == found.stars["fold"][1]
    for row, fold in found.stars["row", "fold"]:
        assert row not in known[fold]


def test_overfitting(field):
    """Residuals of held-out stars exceed those of the stars of an overfitted map."""
    options = {"band": "R", "mode": "single"}
    in_sample = cross_validate(
        field.matched, calibration=field.maps["APER5"], **options
    )
    held_out = cross_validate(
        field.matched, (600, 600), recipe="dr1", shape=(30, 30), **options
    )
    assert held_out.table["scatter"][1] > 1.1 * in_sample.table["scatter"][1]
    assert held_out.table["pull_width"][1] > 1.1


def test_seed_determines_the_folds(field, validation):
    """Folds are reproduced with the same seed, and differ with another one."""
    again = {
        seed: cross_validate(
            field.matched, (600, 600), band="R", shape=(30, 30), seed=seed
        ).stars
        for seed in (0, 1)
    }
    assert_array_equal(again[0]["residual"], validation.stars["residual"])
    assert (again[1]["fold"] != validation.stars["fold"]).any()


@pytest.mark.parametrize("quoted", [1.0, 2.0])
def test_pulls_of_held_out_stars(quoted):
    """Pulls of held-out stars have a width of 1, even if measured errors are wrong."""
    found = cross_validate(stars(3000, quoted=quoted), SHAPE, band="R", shape=(6, 5))
    row = found.table[1]
    assert_allclose([row["pull_width"], row["pull_mad"]], 1, atol=0.1)
    inside = found.stars[found.stars["published"]]
    true = np.hypot(NOISE * 10 ** (0.1 * (inside["magnitude"] - 16.5)), REFERENCE_NOISE)
    assert_allclose(np.median(inside["error"] / true), 1, atol=0.1)


def test_trend_with_magnitude():
    """A trend with magnitude remains in residuals and is removed from pulls."""
    found = cross_validate(stars(3000, trend=0.03), SHAPE, band="R", shape=(6, 5))
    medians = found.table["median"][2:]
    assert_allclose(np.diff(medians), 0.03, atol=0.006)
    assert_allclose(found.table["pull_width"][1], 1, atol=0.1)
    assert found.table["pull_width_with_trend"][1] > 1.5


def test_positions():
    """Residuals of positions are in mas, with a row for each axis."""
    table = stars()
    found = cross_validate(table, SHAPE, band="R", kind="offset", shape=(6, 5))
    assert len(found.stars) == 2 * len(table)
    assert found.table["number"][0] == len(table)
    assert found.table["stars"].tolist()[2:4] == ["along RA", "along Dec"]
    assert found.table["rms"].unit == "mas"
    # 4 mas of noise, without the 3 sigma tails.
    assert_allclose(found.table["scatter"][1:4], 4.0, rtol=0.08)
    assert_allclose(found.table["pull_width"][1:4], 1, atol=0.1)
    assert np.shape(found.map((3, 2))) == (2, 3, 2)


def test_given_offsets():
    """Residuals with a given map, or without correction, are calibrated - reference."""
    table = stars()
    grid = MapGrid.for_image((6, 5), SHAPE)
    offsets = OffsetMap(np.full((6, 5), 0.03), np.full((6, 5), -0.02), grid=grid)
    options = {"band": "R", "kind": "offset"}
    found = cross_validate(table, calibration=offsets, **options)
    assert_allclose(found.table["median"][2:4], 0, atol=0.5)
    uncorrected = cross_validate(table, SHAPE, calibration=0, **options)
    assert_allclose(uncorrected.table["median"][2:4], [-30, 20], atol=0.5)
    assert np.isnan(uncorrected.table["pull_width"]).all()


def test_map_of_residuals(validation):
    """Maps of residuals contain medians of the published selection, x first."""
    medians = validation.map((3, 2))
    chosen = validation.stars[validation.stars["published"]]
    for i, j in np.ndindex(3, 2):
        inside = (chosen["x"] + 1) // 200 == i
        inside &= (chosen["y"] + 1) // 300 == j
        assert_allclose(medians[i, j], np.median(chosen["residual"][inside]))


def test_input_is_not_changed(field):
    """The table, its columns and its meta are not modified."""
    table = field.matched.copy()
    cross_validate(table, (600, 600), band="R", shape=(30, 30), folds=2)
    assert table.colnames == field.matched.colnames
    assert (table == field.matched).all()
    assert table.meta == field.matched.meta


def test_report(validation):
    """The report has a title, the selection and all rows in lines of 88 characters."""
    lines = str(validation).splitlines()
    assert "R single APER5" in lines[0]
    assert "held-out stars" in lines[1]
    for name in validation.table["stars"]:
        assert any(line.startswith(name) for line in lines)
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("kind", ["zeropoint", "offset"])
def test_figure(kind, tmp_path):
    """The figure shows residuals by magnitude, by position and as histograms."""
    pytest.importorskip("matplotlib")
    found = cross_validate(stars(300), SHAPE, band="R", kind=kind, shape=(6, 5))
    figure = found.plot()
    labels = [ax.get_xlabel() for ax in figure.axes]
    unit = "mmag" if kind == "zeropoint" else "mas"
    assert f"residual [{unit}]" in labels
    assert "pull" in labels
    assert labels.count("x [pixel]") == (1 if kind == "zeropoint" else 2)
    figure.savefig(tmp_path / "figure.png")


def test_existing_figure():
    """An existing figure is used, and maps have the orientation of the image."""
    figures = pytest.importorskip("matplotlib.figure")
    table = stars(3000)
    # The corner of small x and large y has an error of 0.1 mag.
    corner = (table["X_IMAGE"] < 300) & (table["Y_IMAGE"] > 700)
    table["MAG_APER5"][corner] += 0.1
    figure = figures.Figure(layout="constrained")
    found = cross_validate(table, SHAPE, band="R", calibration=ZEROPOINT)
    assert found.plot(figure) is figure
    (image,) = [image for ax in figure.axes for image in ax.images]
    shown = image.get_array()
    assert image.origin == "lower"
    assert shown[-1, 0] > 80
    assert abs(shown[0, -1]) < 30


def test_no_star_in_the_selection(tmp_path):
    """Without stars in the selection, statistics are NaN and the figure is drawn."""
    pytest.importorskip("matplotlib")
    table = stars(100)
    table["FLAGS"] = 4
    found = cross_validate(table, SHAPE, band="R", calibration=ZEROPOINT)
    assert found.table["number"][1] == 0
    assert np.isnan(found.table["rms"][1])
    assert found.table["rms"][0] > 0
    assert np.isnan(found.map()).all()
    assert "nan" in str(found)
    found.plot().savefig(tmp_path / "figure.png")


def test_write(validation, tmp_path):
    """Four files are written and can be read again; existing ones are kept."""
    pytest.importorskip("matplotlib")
    paths = validation.write(tmp_path / "report")
    stem = "validation_zeropoint_R_single_APER5_default"
    suffixes = (".ecsv", "_stars.ecsv", ".txt", ".png")
    assert [path.name for path in paths] == [f"{stem}{end}" for end in suffixes]
    table, each = (Table.read(path) for path in paths[:2])
    assert_array_equal(table["rms"], validation.table["rms"])
    assert_array_equal(each["residual"], validation.stars["residual"])
    assert each.meta["folds"] == 5
    assert paths[2].read_text() == f"{validation}\n"
    paths[0].unlink()
    with pytest.raises(KS4Error, match="already exists"):
        validation.write(tmp_path / "report")
    assert set((tmp_path / "report").iterdir()) == set(paths[1:])
    validation.write(tmp_path / "report", overwrite=True)
    assert set((tmp_path / "report").iterdir()) == set(paths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds must be an integer of 2 or more, got 1"),
        ({"folds": 2.5}, "folds must be an integer"),
        ({"folds": 101}, "number of stars, 100, got 101"),
        ({"kind": "colour"}, "kind must be one of zeropoint, offset"),
        ({"mode": "triple"}, "mode must be one of"),
        ({"recipe": "best"}, "recipe must be one of"),
        ({"kind": "offset", "recipe": "dr1"}, "has no offset maps"),
        ({"kind": "offset", "calibration": 30}, "must be 0 or a map"),
        (
            {"kind": "offset", "calibration": constant_map()},
            "a map of the class OffsetMap",
        ),
        ({"calibration": np.nan}, "must be a finite number"),
        ({"calibration": "maps"}, "of the class ZeroPointMap"),
        ({"calibration": 0, "shape": (5, 5)}, "must be omitted with calibration="),
    ],
)
def test_wrong_arguments(options, message):
    """Arguments without an allowed value are refused with a specific message."""
    with pytest.raises(OptionError, match=message) as caught:
        cross_validate(stars(100), SHAPE, **({"band": "R"} | options))
    assert isinstance(caught.value, ValueError)


def test_wrong_tables():
    """Tables without magnitudes, columns or enough stars on the image are refused."""
    table = stars(100)
    with pytest.raises(KS4Error, match="no magnitudes of aperture APER7"):
        cross_validate(table, SHAPE, band="R", aperture="APER7")
    with pytest.raises(KS4Error, match="expected a column Imag"):
        cross_validate(table, SHAPE, band="I")
    with pytest.raises(KS4Error, match="at least 3 matched stars"):
        cross_validate(table[:2], SHAPE, band="R", folds=2)
    with pytest.raises(KS4Error, match="at least 3 matched stars usable for"):
        cross_validate(table[:6], SHAPE, band="R", folds=6)
    with pytest.raises(MapMismatchError, match="expected stars on an image"):
        cross_validate(table[table["X_IMAGE"] > 80], (60, 60), band="R")
    missing = table.copy()
    missing.remove_column("sep")
    with pytest.raises(KS4Error, match="expected a column sep"):
        cross_validate(missing, SHAPE, band="R")
    table["MAG_APER5"] = np.nan
    with pytest.raises(KS4Error, match="found none among 100 matched stars"):
        cross_validate(table, SHAPE, band="R")


@pytest.mark.parametrize(
    "options",
    [
        {"aperture": "APER10"},
        {"aperture": "AUTO"},
        {"kind": "offset"},
        {"kind": "offset", "edges": EDGES},
    ],
    ids=["APER10", "AUTO", "offset", "offset with edges"],
)
def test_pulls_of_the_acceptance_data(ks4_data, options):
    """The quoted errors of held-out stars are correct within 10 %."""
    matched = Table.read(ks4_data / "catalogs/matched.0000.R.single.fits")
    found = cross_validate(matched, band="R", **options)
    row = found.table[1]
    assert_allclose([row["pull_width"], row["pull_mad"]], 1, atol=0.1)


@pytest.mark.parametrize("calibration", [None, ZEROPOINT])
def test_zero_point_of_the_magnitudes(calibration):
    """Residuals do not depend on the zero point that the magnitudes contain."""
    table = stars(400)
    options = {"band": "R", "calibration": calibration, "folds": 2}
    if calibration is None:
        options |= {"recipe": "dr1", "shape": (2, 2)}
    expected = cross_validate(table, SHAPE, **options)
    table["MAG_APER5"] += 30
    found = cross_validate(table, SHAPE, **options, mag_zeropoint=30)
    assert_allclose(found.stars["residual"], expected.stars["residual"], atol=1e-9)
    assert found.meta["mag_zeropoint"] == 30
    assert "mag_zeropoint" not in expected.meta
    with pytest.raises(MapMismatchError, match="mag_zeropoint"):
        cross_validate(table, SHAPE, **options)


@pytest.mark.parametrize("calibration", [0.0, constant_map(19.8), 40.0])
def test_residuals_of_another_scale(calibration):
    """Calibrations with errors above 10 mag are refused."""
    with pytest.raises(MapMismatchError, match="expected magnitudes within 10 mag"):
        cross_validate(stars(200), SHAPE, band="R", calibration=calibration)
