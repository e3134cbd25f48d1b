# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The options that say what the columns of a reference are."""

import numpy as np
import pytest
from astropy.table import Table

from ks4_ccd import simulate_field
from ks4_ccd.cli import main


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A simulated field on disk."""
    simulated = simulate_field((400, 400), map_shape=(20, 20), field="0403", seed=2)
    return simulated.write(tmp_path_factory.mktemp("field"))


@pytest.fixture
def run(field, tmp_path):
    """Compare zero points of a reference with one of 29.9."""

    def call(reference, *words):
        reference.write(tmp_path / "stars.fits", overwrite=True)
        source = ["validate", field.sources, "--reference", tmp_path / "stars.fits"]
        common = ["--band", "R", "--image-size", 400, 400, "--aperture", "AUTO"]
        return main([*map(str, [*source, *common, "--zeropoint", 29.9, *words])])

    return call


@pytest.fixture
def stars(field):
    """Stars with other names, whose magnitudes are those of the survey."""
    table = Table.read(field.reference)
    own = Table({"alpha": table["RA"], "delta": table["DEC"]})
    own["own"] = table["XP_R"] - 0.04 * (table["XP_V"] - table["XP_R"])
    own["own_error"], own["good"] = 0.01, 1
    return own


def summary(capsys):
    """Return what the verb prints about residuals."""
    return capsys.readouterr().out.split("zero point 29.9")[1]


def test_columns_of_any_name(run, field, stars, capsys):
    """Give the same result as those that are found."""
    assert run(Table.read(field.reference)) == 0
    expected = summary(capsys)
    words = ["ra=alpha,dec=delta,mag=own", "error=own_error,flag=good"]
    assert run(stars, "--reference-columns", *words) == 0
    # The errors differ, the residuals do not.
    assert summary(capsys).splitlines()[1] == expected.splitlines()[1]
    assert run(stars, "--reference-columns", "mag=own") == 1
    assert "no column RA_ICRS or" in capsys.readouterr().err


def test_offsets(run, stars, capsys):
    """Are added to the magnitudes."""
    words = ["--reference-columns", "ra=alpha,dec=delta,mag=own"]
    assert run(stars, *words) == 0
    first = summary(capsys)
    stars["own"] -= 0.21
    assert run(stars, f"{words[0]}={words[1]},offset=0.21") == 0
    assert summary(capsys) == first


def test_motions_and_epochs(run, stars, capsys):
    """A column or a year, of the reference."""
    stars["mu_a"], stars["mu_d"] = np.full((2, len(stars)), 1e6)
    words = ["--reference-columns", "ra=alpha,dec=delta,mag=own,pm_ra=mu_a,pmdec=mu_d"]
    assert run(stars, *words, "--epoch", 2020, "--reference-epoch", 2020) == 0
    assert run(stars, *words, "epoch=2020", "--epoch", 2020) == 0
    stars["when"] = 2021.0
    assert run(stars, *words, "epoch=when", "--epoch", 2021) == 0
    assert run(stars, *words, "epoch=when", "--epoch", 2020) == 1
    assert "no source has a reference star" in capsys.readouterr().err


def test_presets(run, field, stars, capsys):
    """By their names; an epoch goes with columns only."""
    table = Table.read(field.reference)
    assert run(table, "--reference-columns", "gaiaxp") == 0
    assert run(stars, "--reference-columns", "gaiaxp") == 1
    assert "no Gaia XP magnitudes" in capsys.readouterr().err
    words = ["--reference-columns", "gaiaxp", "--reference-epoch", 2016]
    assert run(table, *words) == 1
    assert "--reference-epoch cannot be given with" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["colour=x", "mag=", "mag", "=x", "gaiaxp,mag=own"])
def test_wrong_words(run, stars, capsys, word):
    """Are listed with the right ones."""
    assert run(stars, "--reference-columns", word) == 1
    message = capsys.readouterr().err
    assert "--reference-columns: expected one of auto, gaiaxp, plain" in message
    assert "mag, error, flag, offset, ra, dec, pm_ra" in message


def test_no_such_epoch(run, stars, capsys):
    """Of the image."""
    for epoch in ("1800", "3000", "nan", "soon"):
        words = ["--reference-columns", "ra=alpha,dec=delta,mag=own"]
        assert run(stars, *words, "--epoch", epoch) == 1
        assert "epoch must be one Time" in capsys.readouterr().err
