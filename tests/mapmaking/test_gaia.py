# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Reference stars are downloaded completely, or not at all."""

import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd import field_center, match_catalogs, read_reference, reference_stars
from ks4_ccd.cli import main
from ks4_ccd.exceptions import DownloadError, KS4Error, OptionError

CENTER = SkyCoord(10.0, -62.0, unit="deg")


@pytest.fixture
def download(tap_server, tmp_path):
    """Download from the service on this machine, into a cache of the test."""
    pytest.importorskip("astroquery")

    def call(where=CENTER, radius=1.0, **options):
        options = {"service": tap_server.url, "cache": tmp_path / "cache"} | options
        return reference_stars(where, radius, **options)

    return call


def expected(table, radius=1.0, bright=14, faint=20):
    """Return the stars of a table in a cone, sorted."""
    stars = SkyCoord(table["ra"], table["dec"], unit="deg")
    inside = stars.separation(CENTER).deg <= radius
    inside &= (table["phot_g_mean_mag"] >= bright) & (table["phot_g_mean_mag"] <= faint)
    table = table[inside]
    table.sort("SOURCE_ID")
    return table


def test_the_stars_of_a_cone(download, tap_server):
    """All of them, with integers of 19 digits and missing values intact."""
    stars = download()
    truth = expected(tap_server.table)
    assert 10 < len(truth) < len(tap_server.table)
    assert_array_equal(stars["source_id"], truth["SOURCE_ID"])
    for name in ("ra", "dec", "ref_epoch", "ruwe", "phot_g_mean_mag", "i_sdss_flag"):
        assert_array_equal(stars[name], truth[name])
    missing = truth["r_jkc_mag"].mask
    assert missing.any()
    assert_array_equal(np.ma.getmaskarray(stars["r_jkc_mag"]), missing)
    assert stars["pmra"].unit == u.mas / u.yr
    assert len(tap_server.queries) == 1


def test_radius_and_magnitudes(download, tap_server):
    """Select the stars at the service."""
    stars = download(radius=18 * u.arcmin, magnitudes=(12.5, 16))
    truth = expected(tap_server.table, 0.3, 12.5, 16)
    assert len(truth) > 0
    assert_array_equal(stars["source_id"], truth["SOURCE_ID"])


def test_the_circle_around_a_field(download, tap_server, gaia_table):
    """A KS4 field needs no radius: the corners of its stack are included."""
    center = field_center("0403")
    tap_server.table = gaia_table(400, center=center, spread=2.2)
    stars = download("0403", None, magnitudes=(0, 30))
    separation = SkyCoord(stars["ra"], stars["dec"], unit="deg").separation(center).deg
    corner = np.hypot(11000, 11000) * 0.4 / 3600
    assert corner < separation.max() <= corner + 0.05


def test_references_are_read_as_they_come(download, tap_server):
    """Magnitudes, proper motions and the epoch are recognised."""
    standard = read_reference(download())
    assert {"Bmag", "Vmag", "Rmag", "Imag", "rmag", "Gmag"} <= set(standard.colnames)
    assert_array_equal(standard["Epoch"], 2016)
    truth = expected(tap_server.table)
    assert_allclose(
        standard["Rmag"], truth["r_jkc_mag"].filled(np.nan) + 0.186, rtol=1e-14
    )
    moved = Table({"ALPHA_J2000": truth["ra"], "DELTA_J2000": truth["dec"]})
    moved.meta["DATE-OBS"] = "2026-01-01"
    matched = match_catalogs(moved, download())
    assert len(matched) == len(truth)
    known = ~truth["pmdec"].mask
    assert_allclose(matched["ddec"][known] * 100, truth["pmdec"][known], atol=0.01)


# The cache


def test_a_table_is_downloaded_once(download, tap_server, tmp_path):
    """Another cone, range or service is another table; refresh downloads again."""
    first = download()
    tap_server.behaviour = "unavailable"
    again = download()
    assert_array_equal(first["source_id"], again["source_id"])
    assert first.meta == again.meta
    assert len(list((tmp_path / "cache").iterdir())) == 1
    for options in ({"radius": 0.5}, {"magnitudes": (14, 19)}, {"refresh": True}):
        with pytest.raises(DownloadError, match="maintenance|Service Unavailable"):
            download(**options)
    # Nothing of these is left behind, and the table is still there.
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert len(download()) == len(first)


def test_damaged_files_are_replaced(download, tap_server, tmp_path):
    """A truncated file of the cache, or another one, is downloaded again."""
    first = download()
    (path,) = (tmp_path / "cache").iterdir()
    for content in (path.read_bytes()[:4000], b"", b"text\n1\n"):
        path.write_bytes(content)
        assert_array_equal(download()["source_id"], first["source_id"])
    other = Table.read(path)
    other.meta["TAPKEY"] = "another query"
    other[:1].write(path, overwrite=True)
    assert len(download()) == len(first)
    assert len(tap_server.queries) == 5


def test_the_usual_cache(download, tmp_path, monkeypatch):
    """Is the folder of the package in that of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    download(cache=None)
    assert len(list((tmp_path / "user").rglob("reference/gaia_*.fits"))) == 1


def test_the_cache_needs_no_astroquery(download, monkeypatch):
    """Downloading does, and the error names the extra."""
    stars = download()
    monkeypatch.setitem(sys.modules, "astroquery.utils.tap", None)
    assert len(download()) == len(stars)
    with pytest.raises(KS4Error, match=r"requires astroquery.*ks4_ccd\[gaia\]"):
        download(refresh=True)


# Limits of rows


@pytest.mark.parametrize("limit", [4, 7, 13])
def test_truncated_answers_are_continued(download, tap_server, limit):
    """Until a page is complete: no star is missing, and none is there twice."""
    tap_server.limit = limit
    stars = download(magnitudes=(0, 30))
    truth = expected(tap_server.table, 1, 0, 30)
    assert_array_equal(stars["source_id"], truth["SOURCE_ID"])
    assert_array_equal(stars["ra"], truth["ra"])
    assert len(tap_server.queries) == np.ceil(len(truth) / limit)


def test_silent_truncation(download, tap_server, gaia_table):
    """A round number of rows is not taken for all."""
    tap_server.table = gaia_table(4321, spread=0.3)
    tap_server.limit, tap_server.states_overflow = 2000, False
    stars = download(magnitudes=(0, 30))
    assert len(stars) == len(np.unique(stars["source_id"])) == 4321
    # And a round number that is all of them is returned, after another query.
    tap_server.table = gaia_table(2000, spread=0.3)
    assert len(download(magnitudes=(0, 31))) == 2000


@pytest.mark.parametrize("behaviour", ["forgetful", "unordered"])
@pytest.mark.parametrize(("limit", "states_overflow"), [(9, True), (1000, False)])
def test_truncated_without_a_way_on(
    download, tap_server, gaia_table, tmp_path, behaviour, limit, states_overflow
):
    """A service that repeats its answer, or does not sort, is refused."""
    tap_server.table = gaia_table(1500)
    tap_server.limit, tap_server.states_overflow = limit, states_overflow
    tap_server.behaviour = behaviour
    with pytest.raises(DownloadError, match=r"truncates its answer .* smaller radius"):
        download(magnitudes=(0, 30))
    assert not (tmp_path / "cache").exists()


def test_nothing_but_a_limit(download, tap_server):
    """An answer that is truncated to nothing is an error, not the end."""
    tap_server.limit = 0
    with pytest.raises(DownloadError, match="truncates its answer after 0 stars"):
        download()


# Services that fail


@pytest.mark.parametrize(
    ("behaviour", "culprit"),
    [
        ("error", "failed: Cannot parse query; repeat .*service="),
        ("unavailable", "failed: (Service Unavailable|.*maintenance); repeat"),
        ("page", "did not return a VOTable: .*; repeat"),
        ("columns", "expected the columns .* without pmra, v_jkc_mag; use a service"),
        ("endless", r"is executing after 0.5 s: .* \(timeout=\)"),
    ],
)
def test_failures(download, tap_server, tmp_path, capsys, behaviour, culprit):
    """Are errors that say what to do; nothing is printed, and no file is left."""
    tap_server.behaviour = behaviour
    with pytest.raises(DownloadError, match=culprit) as caught:
        download(timeout=0.5)
    assert "\n" not in str(caught.value)
    assert tap_server.url in str(caught.value)
    assert not (tmp_path / "cache").exists()
    assert capsys.readouterr().out == ""


def test_nobody_answers(download):
    """A service that cannot be reached is an error, too."""
    with pytest.raises(DownloadError, match="127.0.0.1:9/tap failed: .*; repeat"):
        download(service="http://127.0.0.1:9/tap")


def test_no_star(download):
    """An empty answer is not a table of reference stars."""
    with pytest.raises(KS4Error, match="has no star with synthetic photometry"):
        download(SkyCoord(200, 30, unit="deg"))


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"radius": None}, "radius is required for a position"),
        ({"radius": 0}, "radius must be an angle above 0 and at most 10 deg"),
        ({"radius": 11}, "radius must be an angle above 0 and at most 10 deg"),
        ({"radius": 1 * u.s}, "radius must be an angle"),
        ({"radius": True}, "radius must be an angle"),
        ({"where": SkyCoord([1, 2], [3, 4], unit="deg")}, "where must be one position"),
        ({"magnitudes": (20, 14)}, "magnitudes must be two numbers, the brighter"),
        ({"magnitudes": (14, np.nan)}, "magnitudes"),
        ({"magnitudes": 19}, "magnitudes must be two numbers"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
    ],
)
def test_wrong_options(download, options, culprit):
    """Are refused before anything is asked for."""
    with pytest.raises(OptionError, match=culprit):
        download(**options)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"where": "9999", "radius": None}, "9999"),
        ({"service": "gea.esac.esa.int"}, "address of a TAP service"),
    ],
)
def test_wrong_names(download, options, culprit):
    """A field that does not exist, or a service without an address."""
    with pytest.raises(KS4Error, match=culprit):
        download(**options)


# The command


def test_command(tap_server, tmp_path, monkeypatch, capsys):
    """Write the table to a file, which is not replaced unless asked for."""
    pytest.importorskip("astroquery")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    out = tmp_path / "gaia.fits"
    words = ["reference", "0:40:00", "-62:00:00", "--radius", "0.4"]
    words += ["--service", tap_server.url, "-o", str(out)]
    assert main([*words, "--magnitudes", "12", "17"]) == 0
    truth = expected(tap_server.table, 0.4, 12, 17)
    assert f"{len(truth)} stars with synthetic" in capsys.readouterr().out
    assert_array_equal(Table.read(out)["source_id"], truth["SOURCE_ID"])
    assert main(words) == 1
    assert "already exists" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--refresh"]) == 0
    assert len(Table.read(out)) == len(expected(tap_server.table, 0.4))
    assert main(["reference", "1", "2", "3", "-o", str(out)]) == 1
    assert "expected a KS4 field, or RA and DEC" in capsys.readouterr().err
