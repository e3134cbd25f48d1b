# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command `validate`: output, files and refused options."""

import pytest
from astropy.table import Table

from ks4_ccd import simulate_field
from ks4_ccd.cli import main


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a simulated field that was written to files."""
    simulated = simulate_field((400, 400), map_shape=(20, 20), field="0403", seed=2)
    return simulated.write(tmp_path_factory.mktemp("field"))


@pytest.fixture
def run(written):
    """Return a function that runs the command with the catalog of the field."""

    def run(*words):
        source = [str(written.sources), "--reference", str(written.reference)]
        common = ["--band", "R", "--image-size", "400", "400"]
        return main(["validate", *source, *common, *map(str, words)])

    return run


def test_prints_the_report_and_writes_it(run, tmp_path, capsys):
    """Each aperture has a report; existing files are kept unless allowed otherwise."""
    pytest.importorskip("matplotlib")
    words = ["--aperture", "APER5", "AUTO", "--cells", 20, 20, "--folds", 3]
    assert run(*words, "-o", tmp_path / "report") == 0
    shown = capsys.readouterr().out
    for aperture in ("APER5", "AUTO"):
        name = f"validation_zeropoint_R_single_{aperture}_default"
        assert f"R single {aperture}: 3-fold" in shown
        text = (tmp_path / "report" / f"{name}.txt").read_text()
        assert text in shown
        assert len(Table.read(tmp_path / "report" / f"{name}.ecsv")) == 11
        assert (tmp_path / "report" / f"{name}.png").stat().st_size > 10_000
    assert len(list((tmp_path / "report").iterdir())) == 8
    assert run("--folds", 3, "-o", tmp_path / "report") == 1
    assert run("--folds", 3, "--overwrite", "-o", tmp_path / "report") == 0


def test_existing_maps(run, written, capsys):
    """Given maps are validated, and the report states that stars are not held out."""
    maps = ["--maps", *written.archives, written.offsets]
    assert run(*maps, "--field", "0403") == 0
    assert "stars not held out" in capsys.readouterr().out
    assert run(*maps, "--field", "0403", "--kind", "offset") == 0
    assert "Residual positions, R single: with a given map" in capsys.readouterr().out
    assert run(*maps) == 1
    assert "--maps needs --field" in capsys.readouterr().err


def test_uniform_zero_point(run, capsys):
    """A uniform zero point is applied to all stars."""
    assert run("--zeropoint", 29.9, "--aperture", "AUTO") == 0
    assert "R single AUTO: zero point 29.9" in capsys.readouterr().out


def test_edges_and_recipes(run, capsys):
    """Edges and recipes are used for the maps."""
    assert run("--kind", "offset", "--edges", "x=200", "y=200", "--folds", 2) == 0
    assert 'recipe "default" with edges' in capsys.readouterr().out
    assert run("--recipe", "dr1", "--mode", "dual", "--cells", 20, 20) == 0
    assert 'R dual APER5: 5-fold, recipe "dr1"' in capsys.readouterr().out


def test_wrong_usage(run):
    """Maps together with a zero point, and a missing band, exit with 2."""
    with pytest.raises(SystemExit, match="2"):
        run("--maps", "x", "--zeropoint", "30")
    with pytest.raises(SystemExit, match="2"):
        main(["validate", "x.fits", "--reference", "y.fits"])


def test_zero_points_and_epochs(written, run, tmp_path, capsys):
    """Both are used for the match; residuals of 30 mag are refused."""
    words = ["--zeropoint", 29.9, "--aperture", "AUTO"]
    assert run(*words, "--mag-zeropoint", 30) == 1
    assert "found a median difference" in capsys.readouterr().err
    stars = Table.read(written.reference)
    stars["pmra"], stars["pmdec"] = 1e5, 0.0
    stars.write(tmp_path / "stars.fits")
    command = ["validate", written.sources, "--reference", tmp_path / "stars.fits"]
    command += ["--band", "R", "--image-size", 400, 400, *words]
    epochs = ["--epoch", "2020-01-01T00:00:00", "--reference-epoch", 2016.0]
    assert main([*map(str, command + epochs)]) == 1
    assert "no source has a reference star" in capsys.readouterr().err
    epochs[-1] = 2020.0
    assert main([*map(str, command + epochs)]) == 0
    assert "proper motions" not in capsys.readouterr().err
    assert main([*map(str, command)]) == 0
    assert "median is 1e+05 mas/yr" in capsys.readouterr().err
