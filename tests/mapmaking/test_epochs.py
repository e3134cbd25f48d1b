# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The epoch of an image is that of its header, and stars are moved to it."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from numpy.testing import assert_allclose

from ks4_ccd import build_offset_map, match_catalogs, read_reference
from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.files.tables import read_table
from ks4_ccd.mapmaking.epochs import decimal_year, image_epoch

NOON = Time("2021-09-07T12:00:00").jyear
DAY = 1 / 365.25


@pytest.mark.parametrize(
    ("meta", "year"),
    [
        ({"DATE-OBS": "2021-09-07T12:00:00"}, NOON),
        ({"date-obs": "2021-09-07T12:00:00"}, NOON),
        ({"DATE-OBS": "2021-09-07", "TIME-OBS": "12:00:00"}, NOON),
        ({"DATE-OBS": "2021-09-07"}, NOON - DAY / 2),
        ({"DATE-OBS": "07/09/99"}, Time("1999-09-07").jyear),
        ({"MJD-OBS": Time("2021-09-07T12:00:00").mjd}, NOON),
        ({"MJD-OBS": str(Time("2021-09-07T12:00:00").mjd)}, NOON),
        ({"DATE-OBS": "2021-09-07T00:00:00", "EXPTIME": 86400.0}, NOON),
        ({"MJD-OBS": 59464.0, "EXPTIME": 86400.0}, NOON),
        ({"DATE-OBS": "2021-09-07T12:00:00", "EXPTIME": "unknown"}, NOON),
        ({"DATE-OBS": "2021-09-07T12:00:00", "EXPTIME": -1.0}, NOON),
        ({"EPOCH": 2021.7}, 2021.7),
        ({"EPOCH": "J2021.7"}, 2021.7),
        ({"EPOCH": 2021.7, "EXPTIME": 1e9}, 2021.7),
        # The equinox of the coordinates.
        ({"EPOCH": 2000.0}, None),
        ({"EPOCH": "J2000.0"}, None),
        ({"EPOCH": 2015.5, "EQUINOX": 2015.5}, None),
        ({"EPOCH": 2000.0, "DATE-OBS": "2021-09-07T12:00:00"}, NOON),
        # Rounded, and two of them for the same night.
        ({"EPOCH": 2022.0, "DATE-OBS": "2021-09-07T12:00:00"}, NOON),
        ({"DATE-OBS": "2021-09-07T12:00:00", "MJD-OBS": 59463.0}, NOON),
        # No times of the image.
        ({}, None),
        ({"DATE": "2024-01-01T00:00:00", "date": "2024-01-01"}, None),
        ({"DATE-OBS": "", "MJD-OBS": None, "EPOCH": "  "}, None),
    ],
)
def test_keywords(meta, year):
    """The middle of the exposure, in Julian years, or nothing."""
    found = image_epoch(meta)
    assert (found is None) is (year is None)
    if year is not None:
        assert_allclose(found, year, atol=1e-3 * DAY, rtol=0)


@pytest.mark.parametrize(
    ("meta", "culprit"),
    [
        ({"DATE-OBS": "1800-01-01"}, "DATE-OBS must be .* 1880 and 2100, got '1800"),
        ({"DATE-OBS": "3000-01-01"}, "DATE-OBS must be"),
        ({"DATE-OBS": "yesterday"}, "DATE-OBS must be .* 'yesterday'; .* epoch="),
        ({"DATE-OBS": np.nan}, "DATE-OBS must be"),
        ({"MJD-OBS": 0.0}, "MJD-OBS .* expected a modified Julian date .* found 0.0"),
        ({"MJD-OBS": 2459465.0}, "MJD-OBS .* found 2459465.0; .* epoch="),
        ({"MJD-OBS": np.nan}, "MJD-OBS .* found nan"),
        ({"EPOCH": 1800.0}, "EPOCH must be"),
        ({"EPOCH": np.nan}, "EPOCH must be"),
        (
            {"DATE-OBS": "2021-09-07", "MJD-OBS": 59000.0},
            r"contradict each other: DATE-OBS = '2021-09-07' is the epoch 2021.682, "
            r"MJD-OBS = 59000.0 is 2020.412; give epoch=",
        ),
        ({"DATE-OBS": "2021-09-07", "EPOCH": 2016.0}, "contradict .* EPOCH = 2016.0"),
        ({"MJD-OBS": 59464.0, "EPOCH": 2023.0}, "MJD-OBS = .* EPOCH = 2023.0 is 2023"),
    ],
)
def test_impossible_and_contradictory_keywords(meta, culprit):
    """Are refused, with what they say."""
    with pytest.raises(KS4Error, match=culprit):
        image_epoch(meta)


@pytest.mark.parametrize("epoch", [1800, 3000.0, np.nan, np.inf, "1800-01-01", 59000.0])
def test_impossible_epochs(epoch):
    """The same for an epoch that is given."""
    with pytest.raises(KS4Error, match="epoch must be one Time, decimal year or date"):
        decimal_year("epoch", epoch)


# Stars of a moving field

MOTION = 4.0, -5.0


def moving_field(number=900, years=5.0, scatter=6.0, seed=3):
    """Return sources of 2021 and stars of 2016, all of which move; no other offset."""
    rng = np.random.default_rng(seed)
    size = 660
    x, y = rng.uniform(0, size, (2, number))
    motion = rng.normal(0, scatter, (2, number))
    motion += np.subtract(MOTION, motion.mean(axis=1))[:, np.newaxis]
    scale = 0.4 / 3600
    dec = -62 + (y - size / 2) * scale
    ra = 10 - (x - size / 2) * scale / np.cos(np.radians(-62))
    magnitudes = rng.uniform(15, 18, number)
    reference = Table({"ra": ra, "dec": dec, "r_jkc_mag": magnitudes})
    reference["pmra"], reference["pmdec"] = motion
    now = SkyCoord(ra, dec, unit="deg").spherical_offsets_by(
        *(motion * years / 3.6e6 * u.deg)
    )
    noise = rng.normal(0, 0.005 / 3600, (2, number))
    sources = Table({"X_IMAGE": x + 1, "Y_IMAGE": y + 1})
    sources["ALPHA_J2000"] = now.ra.deg + noise[0] / np.cos(np.radians(-62))
    sources["DELTA_J2000"] = now.dec.deg + noise[1]
    sources["MAG_AUTO"] = magnitudes - 30
    sources["MAGERR_AUTO"], sources["FLAGS"], sources["CLASS_STAR"] = 0.01, 0, 0.99
    sources.meta["DATE-OBS"] = Time(2016 + years, format="jyear").isot
    return sources, reference


def mean_offset(sources, reference, **options):
    """Return the mean of an offset map, (dra, ddec) in mas."""
    matched = match_catalogs(sources, reference, band="R", **options)
    offsets = build_offset_map(matched, (660, 660), band="R", shape=(5, 5), edges=None)
    return 1000 * np.array([np.mean(offsets.dra), np.mean(offsets.ddec)])


def test_five_years_of_motion():
    """Without the epoch the map is off by (-20, +25) mas, with it by the noise."""
    sources, reference = moving_field()
    # 30 mas of motion in five years and 5 mas of noise, of 900 stars.
    noise = 3 * np.hypot(30, 5) / np.sqrt(900)
    without = sources.copy()
    del without.meta["DATE-OBS"]
    with pytest.warns(KS4Warning, match=r"mean \(\+4, -5\) mas/yr .* epoch="):
        shift = mean_offset(without, reference)
    assert_allclose(shift, [-20, 25], atol=noise)
    noise = 3 * 5 / np.sqrt(900)
    assert_allclose(mean_offset(sources, reference), 0, atol=noise)
    for epoch in ("2021.0", Time("2021-01-01T12:00:00")):
        assert_allclose(mean_offset(without, reference, epoch=epoch), 0, atol=noise)


def test_what_is_given_wins():
    """Over the header, even where that is wrong."""
    sources, reference = moving_field()
    matched = match_catalogs(sources, reference)
    assert_allclose(matched.meta["MATCHEPO"], 2021, atol=1e-6)
    given = match_catalogs(sources, reference, epoch=2016.0)
    assert given.meta["MATCHEPO"] == 2016
    assert_allclose(given["RAJ2000"], reference["ra"], rtol=1e-14)
    sources.meta["MJD-OBS"] = 0.0
    with pytest.raises(KS4Error, match=r"MJD-OBS .* give epoch= \(--epoch\)"):
        match_catalogs(sources, reference)
    assert match_catalogs(sources, reference, epoch=2021).meta["MATCHEPO"] == 2021


@pytest.mark.parametrize("epoch", [1800, 3000, np.nan])
def test_epochs_that_cannot_be(epoch):
    """Are refused before anything is matched."""
    with pytest.raises(KS4Error, match="epoch must be one Time"):
        match_catalogs(*moving_field(10), epoch=epoch)


def test_header_of_a_catalog(tmp_path):
    """FITS_LDAC files contain the header of the image."""
    sources, reference = moving_field(50)
    date = sources.meta.pop("DATE-OBS")
    header = fits.Header({"DATE-OBS": date, "EXPTIME": 480.0, "EPOCH": 2000.0})
    text = header.tostring(padding=False)
    cards = fits.Column("Field Header Card", f"{len(text)}A", array=[text])
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([cards])]
    hdus[1].name = "LDAC_IMHEAD"
    hdus.append(fits.table_to_hdu(sources))
    hdus[2].name = "LDAC_OBJECTS"
    fits.HDUList(hdus).writeto(tmp_path / "sources.fits")
    assert read_table(tmp_path / "sources.fits").meta["DATE-OBS"] == date
    matched = match_catalogs(tmp_path / "sources.fits", reference)
    middle = 2021 + 240 / 86400 * DAY
    assert_allclose(matched.meta["MATCHEPO"], middle, rtol=0, atol=1e-9)


def test_references_without_motions():
    """A warning states the shift that is typical for the time between the epochs."""
    sources, reference = moving_field(50)
    reference.remove_columns(["pmra", "pmdec"])
    culprit = r"shifts all positions by 32 mas in the 5.0 years .* \(2016.0\) .*2021.0"
    with pytest.warns(KS4Warning, match=culprit):
        matched = match_catalogs(sources, reference)
    assert "MATCHEPO" not in matched.meta
    with pytest.warns(KS4Warning, match=r"58 mas in the 9.0 years"):
        match_catalogs(sources, reference, epoch=2025)
    # Not worth a warning, and unknown.
    match_catalogs(sources, reference, epoch=2016.1)
    reference.rename_column("r_jkc_mag", "Rmag")
    with pytest.warns(KS4Warning, match="by 6.4 mas per year since the epoch of the"):
        match_catalogs(sources, reference)
    del sources.meta["DATE-OBS"]
    match_catalogs(sources, reference)


def test_motions_since_an_unknown_epoch():
    """They are not applied; with an explicit epoch that is an error."""
    sources, reference = moving_field(50)
    reference.rename_column("r_jkc_mag", "Rmag")
    culprit = r"epoch of the reference: .* mean \(\+4, -5\) .*'epoch': 2016.0"
    with pytest.warns(KS4Warning, match=culprit):
        matched = match_catalogs(sources, reference)
    assert "MATCHEPO" not in matched.meta
    with pytest.raises(KS4Error, match="reference does not record its epoch"):
        match_catalogs(sources, reference, epoch=2021)
    columns = {"epoch": 2016.0}
    moved = match_catalogs(sources, reference, reference_columns=columns)
    assert_allclose(moved.meta["MATCHEPO"], 2021, atol=1e-6)


def test_epoch_of_the_reference_in_its_meta():
    """Is recorded where it is known, even without proper motions."""
    _, reference = moving_field(5)
    assert read_reference(reference).meta["REFEPOCH"] == 2016
    reference["ref_epoch"] = [2016.0, 2016.0, 2015.5, np.nan, 2015.5]
    assert read_reference(reference).meta["REFEPOCH"] == 2015.75
    # A column of other times is no obstacle where nothing moves.
    reference["ref_epoch"] = 59464.0
    with pytest.raises(KS4Error, match="expected decimal years, found 59464"):
        read_reference(reference)
    reference.remove_columns(["pmra", "pmdec"])
    assert "REFEPOCH" not in read_reference(reference).meta
