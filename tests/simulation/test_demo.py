# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test the demo: a calibration from end to end, compared with the true values."""

import io
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.simulation.demo import aperture_sums, run_demo

BEFORE, TRUTH = "no map", "true zero point"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo once; return its table, lines of report, folder and output."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    lines, output = [], io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        table = run_demo(folder, report=lines.append)
    table.add_index("method")
    return table, lines, folder, output.getvalue()


def test_methods(demo):
    """The table has one row per method, from no map to the true zero point."""
    assert list(demo[0]["method"]) == [
        BEFORE,
        "nearest cell",
        "as published",
        "bilinear",
        "bilinear, smoothed",
        TRUTH,
    ]


def test_calibration_helps(demo):
    """Residuals are smaller than without a map for each method, on grid and stars."""
    for column in ("zeropoint_rms", "star_rms"):
        before, *after = demo[0][column]
        assert (np.array(after) < before).all()


def test_default_is_better_than_published(demo):
    """The residual of the default method is at most 0.7 of the published one's."""
    table = demo[0]
    for column in ("zeropoint_rms", "star_rms"):
        assert table.loc["bilinear"][column] < 0.7 * table.loc["as published"][column]
        assert table.loc["bilinear, smoothed"][column] < table.loc["bilinear"][column]


def test_stars_confirm_the_maps(demo):
    """With the true zero point, stars in the image scatter by their noise alone."""
    table = demo[0]
    assert table.loc[TRUTH]["zeropoint_rms"] == 0
    assert table.loc[TRUTH]["star_rms"] < 2
    for method in ("nearest cell", "bilinear", "bilinear, smoothed"):
        row = table.loc[method]
        assert row["star_rms"] == pytest.approx(row["zeropoint_rms"], rel=0.3)


def test_gain(demo):
    """The gain is relative to the first row; it is masked for the true zero point."""
    table = demo[0]
    assert table["gain"][0] == 1
    assert np.ma.is_masked(table["gain"][-1])
    rms = table["zeropoint_rms"]
    assert_allclose(table["gain"][1:-1], rms[0] / rms[1:-1])


def test_units(demo):
    """Residuals are in mmag."""
    assert {str(demo[0][name].unit) for name in ("zeropoint_rms", "star_rms")} == {
        "mmag"
    }


def test_calibrated_file(demo):
    """The calibrated FITS file has all planes and records its zero point."""
    table, _, folder, _ = demo
    ccd = CCDData.read(table.meta["calibrated"])
    assert ccd.meta["MAGZERO"] == 30
    assert ccd.mask is not None
    assert ccd.uncertainty is not None
    assert len(list(folder.glob("*.tar.gz"))) == 6


def test_figure(demo):
    """The figure is a PNG."""
    pytest.importorskip("matplotlib")
    with open(demo[0].meta["figure"], "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_report_names_the_files(demo):
    """The paths of all files are reported, one per line."""
    table, lines, _, _ = demo
    for name in ("image", "calibrated", "figure"):
        assert sum(line.endswith(table.meta[name]) for line in lines) == 1
    assert not any("\n" in line for line in lines)


def test_report_has_the_table(demo):
    """The last lines of the report are the table, one method per line."""
    table, lines, _, _ = demo
    for method, line in zip(table["method"], lines[-len(table) :], strict=True):
        assert line.strip().startswith(method)
        assert f"{table.loc[method]['star_rms']:.1f}" in line


def test_silent_without_a_terminal(demo):
    """No progress bar is drawn without a terminal."""
    assert demo[3] == ""


def test_no_figure_without_matplotlib(tmp_path, monkeypatch):
    """Without matplotlib no figure is written, and the report contains the reason."""

    def no_figure(*args, **kwargs):
        msg = "figures need matplotlib"
        raise KS4Error(msg)

    monkeypatch.setattr("ks4_ccd.simulation.demo.plot_calibration", no_figure)
    lines = []
    table = run_demo(tmp_path, report=lines.append)
    assert table.meta["figure"] == ""
    assert "no figure: figures need matplotlib" in lines


def test_aperture_sums():
    """In a constant image all sums are its value times the area of the aperture."""
    place = np.array([[20.0, 20.0], [20.3, 21.7], [19.5, 20.5]])
    sums = aperture_sums(np.full((40, 45), 2.0), place, 12.5)
    # Pixels on the circumference have fractional weights: accurate to 1 percent.
    assert_allclose(sums, 2 * np.pi * 6.25**2, rtol=0.01)


def test_aperture_sums_are_where_they_should_be():
    """The x coordinate of an aperture is along the columns of the image."""
    image = np.zeros((40, 60))
    image[10, 45] = 7
    assert_allclose(
        aperture_sums(image, np.array([[45.0, 10.0], [10.0, 25.0]]), 6), [7, 0]
    )
