# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command `catalog`: input, output and exit status."""

import gzip

import numpy as np
import pytest
from astropy.table import Table

from ks4_ccd import (
    MapKey,
    MapLibrary,
    calibrate_catalog,
    simulate_field,
)
from ks4_ccd.cli import main
from ks4_ccd.ks4.names import APERTURES

SIZE = ["--image-size", "300", "300"]
WHICH = ["--field", "0403", "--band", "R"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a simulated field that was written to files."""
    simulated = simulate_field((300, 300), map_shape=(10, 10), field="0403", seed=2)
    return simulated.write(tmp_path_factory.mktemp("field"))


@pytest.fixture
def table(written):
    """Return its catalog, whose header contains the field."""
    table = Table.read(written.sources)
    table.meta |= {"FIELD1": "0403", "FILTER": "R"}
    return table


@pytest.fixture
def run(written):
    """Return a function that runs the command with the maps of the field."""

    def run(*words, maps=None):
        maps = [str(path) for path in maps or written.archives]
        return main(["catalog", *map(str, words), "--maps", *maps, *SIZE])

    return run


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot"])
def test_the_default_target_is_beside_the_table(table, run, tmp_path, suffix, capsys):
    """The default target is TABLE_cal; the values are those of the function."""
    path = tmp_path / f"stars.{suffix}"
    meta, table.meta = table.meta, {}
    table.write(path, format={"ecsv": "ascii.ecsv", "vot": "votable"}.get(suffix))
    table.meta = meta
    assert run(path, *WHICH) == 0
    target = tmp_path / f"stars_cal.{suffix}"
    assert target.name in capsys.readouterr().out
    form = {"ecsv": "ascii.ecsv", "vot": "votable", "fits": "fits"}[suffix]
    result = Table.read(target, format=form)
    assert {f"ZP_{aperture}" for aperture in APERTURES} <= set(result.colnames)
    assert {"MISALIGN", "NUMPHOTO", "ZPFLAG"} <= set(result.colnames)


def test_options_reach_the_function(table, run, written, tmp_path):
    """Fluxes, method, errors and surfaces are passed on; the header has the field."""
    path, target = tmp_path / "stars.fits", tmp_path / "new" / "x.ecsv"
    table.write(path)
    words = ["--flux", "--method", "nearest", "--zp-error", "ignore"]
    words += ["--denoise", "x=151", "y=151"]
    assert run(path, "-o", target, *words) == 0
    with MapLibrary(written.archives, image_shape=(300, 300)) as library:
        options = {"method": "nearest", "zp_error": "ignore"}
        options["denoise"] = [150], [150]
        expected = calibrate_catalog(Table.read(path), library, flux=True, **options)
    result = Table.read(target)
    assert result.colnames == expected.colnames
    for name in expected.colnames:
        np.testing.assert_array_equal(result[name], expected[name])


def test_compressed_tables(table, run, tmp_path):
    """Compressed tables are read; the result is not compressed."""
    table.write(tmp_path / "stars.fits")
    packed = tmp_path / "stars.fits.gz"
    packed.write_bytes(gzip.compress((tmp_path / "stars.fits").read_bytes()))
    assert run(packed) == 0
    assert (tmp_path / "stars_cal.fits").exists()


def test_catalogs_of_photutils(run, tmp_path, make_map):
    """Aperture names of photutils tables are recognised."""
    key = MapKey("zp", "0403", "R", "single", "APER5")
    make_map((10, 10), key=key, empty=0).save(tmp_path / "maps")
    table = Table(
        {
            "xcentroid": [10.0],
            "ycentroid": [20.0],
            "aperture_sum": [1000.0],
            "aperture_sum_err": [10.0],
        }
    )
    table.write(tmp_path / "phot.ecsv")
    words = [*WHICH, "--columns", "photutils", "--apertures", "APER5"]
    assert run(tmp_path / "phot.ecsv", *words, maps=[tmp_path / "maps"]) == 0
    result = Table.read(tmp_path / "phot_cal.ecsv")
    assert result["MAG_APER5"][0] == pytest.approx(result["ZP_APER5"][0] - 7.5)


def test_positions_are_corrected(table, run, written, tmp_path):
    """Offset maps among the maps, or given ones, are applied unless disabled."""
    path, target = tmp_path / "stars.fits", tmp_path / "x.fits"
    table.write(path)
    apart, among = ["--offsets", written.offsets], [*written.archives, written.offsets]
    for words, maps, moved in (
        (apart, None, True),
        ([], among, True),
        (["--offsets", "ignore"], among, False),
        ([], None, False),
    ):
        assert run(path, "-o", target, "--overwrite", *words, maps=maps) == 0
        same = Table.read(target)["ALPHA_J2000"] == table["ALPHA_J2000"]
        assert same.all() != moved


def test_whole_or_not_at_all(table, run, tmp_path, capsys):
    """An existing file is kept without --overwrite; errors are one line."""
    path, target = tmp_path / "stars.fits", tmp_path / "x.fits"
    table.write(path)
    target.write_text("precious")
    assert run(path, "-o", target) == 1
    assert target.read_text() == "precious"
    assert run(path, "-o", target, "--overwrite") == 0
    assert run(target, "-o", tmp_path / "y.fits") == 1
    assert run(target, "-o", tmp_path / "y.fits", "--recalibrate") == 1
    assert run(tmp_path / "nothing.fits") == 1
    assert run(path, "-o", tmp_path / "z.nonsense") == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5
    assert all("calibrated before" in error for error in errors[1:3])
    assert {p.name for p in tmp_path.iterdir()} == {"stars.fits", "x.fits"}


def test_zero_point_of_the_magnitudes(table, run, tmp_path, capsys):
    """--mag-zeropoint 30 is subtracted; without it no file is written."""
    table.write(tmp_path / "stars.fits")
    assert run(tmp_path / "stars.fits", "-o", tmp_path / "expected.fits") == 0
    for name in ("MAG_APER", "MAG_AUTO"):
        table[name] = np.where(np.abs(table[name]) < 90, table[name] + 30, 99)
    table.write(tmp_path / "shifted.fits")
    capsys.readouterr()
    assert run(tmp_path / "shifted.fits") == 1
    assert "--mag-zeropoint 30" in capsys.readouterr().err
    assert not (tmp_path / "shifted_cal.fits").exists()
    assert run(tmp_path / "shifted.fits", "--mag-zeropoint", 30) == 0
    result = Table.read(tmp_path / "shifted_cal.fits")
    expected = Table.read(tmp_path / "expected.fits")
    for name in ("MAG_AUTO", "MAG_APER5"):
        np.testing.assert_allclose(result[name], expected[name], atol=1e-5)
    assert result.meta["KS4ZPMZP"] == 30


def test_an_aperture_without_map_is_reported(table, run, tmp_path, make_map, capsys):
    """A missing map is a warning of one line; if all are missing, it is an error."""
    key = MapKey("zp", "0403", "R", "single", "AUTO")
    make_map((10, 10), key=key, empty=0).save(tmp_path / "maps")
    table.write(tmp_path / "stars.fits")
    assert run(tmp_path / "stars.fits", maps=[tmp_path / "maps"]) == 0
    assert "KS4Warning: no map exists for" in capsys.readouterr().err
    table.remove_columns(["MAG_AUTO"])
    table.write(tmp_path / "stars.fits", overwrite=True)
    words = [tmp_path / "stars.fits", "--overwrite"]
    assert run(*words, maps=[tmp_path / "maps"]) == 1
    assert "AUTO" in capsys.readouterr().err


def test_help_has_a_description(capsys):
    """The help contains a description of the command."""
    with pytest.raises(SystemExit) as caught:
        main(["catalog", "--help"])
    assert caught.value.code == 0
    assert len(capsys.readouterr().out) > 300
