# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of matching against tables of DR1 and constructed skies."""

from copy import deepcopy

import astropy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Distance, SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd import match_catalogs
from ks4_ccd.exceptions import KS4Error, KS4Warning, OptionError
from ks4_ccd.files.tables import read_table, write_table

# Near RA 0, at both poles, and in an ordinary field.
CENTERS = [(0.0, -62.0), (122.03, -72.0), (217.0, -89.9), (10.0, -90.0), (0.0, 90.0)]


def field_of_stars(center, n_stars=300, *, seed=1, width=0.5):
    """Return stars around a centre, at least 5 arcsec apart."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_stars)))
    step = width / side
    assert step * 3600 > 10
    i, j = np.divmod(np.arange(n_stars), side)
    place = np.array([i, j]) - side / 2 + rng.uniform(-0.2, 0.2, (2, n_stars))
    origin = SkyCoord(*center, unit="deg").skyoffset_frame()
    stars = SkyCoord(*(place * step), unit="deg", frame=origin).icrs
    return SkyCoord(stars.ra, stars.dec)


def sources_at(coordinates, **columns):
    """Return a SExtractor catalog of sources at some positions."""
    n = len(coordinates)
    table = Table({"NUMBER": np.arange(1, n + 1)})
    table["ALPHA_J2000"] = coordinates.ra.deg
    table["DELTA_J2000"] = coordinates.dec.deg
    table["ALPHA_J2000"].unit = table["DELTA_J2000"].unit = "deg"
    table["MAG_APER"] = np.arange(4.0 * n).reshape(n, 4)
    for name, values in columns.items():
        table[name] = values
    return table


def reference_at(coordinates, **columns):
    """Return a plain reference catalog of stars at some positions."""
    table = Table({"RAJ2000": coordinates.ra.deg, "DEJ2000": coordinates.dec.deg})
    table["Vmag"] = np.linspace(14, 18, len(table))
    for name, values in columns.items():
        table[name] = values
    return table


def moved_by(coordinates, distance, angle):
    """Return positions at a distance in a direction from north through east."""
    ra, dec = coordinates.ra.rad, coordinates.dec.rad
    out = [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]
    east = [-np.sin(ra), np.cos(ra), 0 * ra]
    north = [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)]
    along = np.sin(angle) * np.array(east) + np.cos(angle) * np.array(north)
    x, y, z = np.cos(distance) * np.array(out) + np.sin(distance) * along
    # astropy's directional_offset_by uses an arcsin, which is imprecise at a pole.
    return SkyCoord(np.arctan2(y, x), np.arctan2(z, np.hypot(x, y)), unit="rad")


@pytest.fixture
def stars():
    """Stars of a field across RA 0."""
    return field_of_stars((0.0, -62.0))


def assert_same_separations(found, published):
    """Assert equality to the bit; older versions of astropy round differently."""
    if int(astropy.__version__.split(".")[0]) >= 8:
        assert_array_equal(found, published)
    else:
        assert_allclose(found * 3600, published * 3600, rtol=0, atol=5e-16)


@pytest.mark.parametrize(
    ("band", "mode"), [("R", "single"), ("R", "dual"), ("I", "single")]
)
def test_published_matches(ks4_data, band, mode):
    """The matched tables of DR1 are reproduced."""
    folder = ks4_data / "catalogs"
    matched = match_catalogs(
        folder / f"ks4_0000_{band}_{mode}.fits",
        folder / "gaiaxp_0000.fits",
        band=band,
    )
    if mode == "single":
        good = (matched["FLAGS"] == 0) & (matched["IMAFLAGS_ISO"] == 0)
        good &= (matched["CLASS_STAR"] > 0.8) & (matched["MAGERR_AUTO"] < 0.05)
        # Selected by V instead of G.
        good &= (matched["Vmag"] > 14) & (matched["Vmag"] < 20)
        matched = matched[good]
    published = Table.read(folder / f"matched.0000.{band}.{mode}.fits")
    assert_array_equal(matched["NUMBER"], published["NUMBER"])
    names = ["RAJ2000", "DEJ2000"]
    for b in "BVRI":
        names += [f"{b}mag", f"e_{b}mag", f"flag_{b}"]
    for name in names:
        assert_array_equal(matched[name], published[name], err_msg=name)
    assert_same_separations(np.asarray(matched["sep"]), np.asarray(published["sep"]))


@pytest.mark.parametrize("center", CENTERS)
def test_separation_and_components(center):
    """Separations and offsets equal the displacement of the stars."""
    sources = field_of_stars(center)
    rng = np.random.default_rng(4)
    distance = rng.uniform(0.01, 1.9, len(sources)) * u.arcsec
    angle = rng.uniform(0, 360, len(sources)) * u.deg
    stars = moved_by(sources, distance.to_value("rad"), angle.to_value("rad"))
    matched = match_catalogs(sources_at(sources), reference_at(stars))
    assert_array_equal(matched["NUMBER"], np.arange(1, len(sources) + 1))
    # Rounding of RA and Dec in degrees: a few 1e-14 deg, 1e-10 arcsec.
    close = {"rtol": 0, "atol": 1e-9}
    assert_allclose(matched["sep"] * 3600, distance.value, **close)
    assert_allclose(matched["dra"], (distance * np.sin(angle)).value, **close)
    assert_allclose(matched["ddec"], (distance * np.cos(angle)).value, **close)


def test_nearest_of_all_pairs():
    """The match is the nearest star of an exhaustive search over all pairs."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(-0.01, 0.01, (2, 400))
    sources = SkyCoord(ra[:200] % 360, dec[:200], unit="deg")
    stars = SkyCoord(ra[200:] % 360, dec[200:], unit="deg")
    every = sources[:, None].separation(stars[None]).arcsec
    matched = match_catalogs(sources_at(sources), reference_at(stars), 3)
    expected = np.flatnonzero(every.min(axis=1) < 3)
    assert_array_equal(matched["NUMBER"] - 1, expected)
    assert_array_equal(matched["RAJ2000"], stars.ra.deg[every.argmin(axis=1)[expected]])
    mutual = match_catalogs(sources_at(sources), reference_at(stars), 3, mutual=True)
    both = every.argmin(axis=0)[every.argmin(axis=1)[expected]] == expected
    assert_array_equal(mutual["NUMBER"] - 1, expected[both])
    assert len(np.unique(mutual["Vmag"])) == len(mutual) < len(matched)


def test_columns_and_units(stars):
    """The columns of the source come first, then those of the star."""
    sources = sources_at(stars)
    reference = reference_at(stars)
    matched = match_catalogs(sources, reference)
    own = ["RAJ2000", "DEJ2000", "Vmag", "e_Vmag", "flag_V", "sep", "dra", "ddec"]
    assert matched.colnames == sources.colnames + own
    assert [str(matched[name].unit) for name in own] == [
        *("deg", "deg", "mag", "mag", "None"),
        *("deg", "arcsec", "arcsec"),
    ]
    assert_array_equal(matched["MAG_APER"], sources["MAG_APER"])


def test_record_in_meta(stars, tmp_path):
    """The options of the match are recorded, also in a FITS file."""
    sources = sources_at(stars)
    sources.meta["OBSERVER"] = {"name": "somebody"}
    reference = reference_at(stars, pmRA=1.0, pmDE=1.0, Epoch=2016.0)[10:]
    matched = match_catalogs(
        sources, reference, 1.5 * u.arcsec, band="V", epoch="2021.5"
    )
    expected = {"RAD": 1.5, "SRC": 300, "REF": 290, "NUM": 290, "BND": "V"}
    expected = {f"MATCH{name}": fact for name, fact in expected.items()}
    expected["MATCHEPO"] = 2021.5
    assert dict(matched.meta) == expected | dict(sources.meta)
    matched.meta.pop("OBSERVER")["name"] = "somebody else"
    assert sources.meta == {"OBSERVER": {"name": "somebody"}}
    write_table(matched, tmp_path / "matched.fits")
    assert expected.items() <= read_table(tmp_path / "matched.fits").meta.items()
    with pytest.warns(KS4Warning, match="proper motions"):
        plain = match_catalogs(sources, reference, mag_zeropoint=30)
    assert not {"MATCHBND", "MATCHEPO"} & set(plain.meta)
    assert plain.meta["MATCHMZP"] == 30


def test_stars_without_a_magnitude_are_ignored():
    """With a band, stars without a usable magnitude do not hide other stars."""
    source = SkyCoord([10.0] * 3, [-62.0, -62.1, -62.2], unit="deg")
    near = source.directional_offset_by(0 * u.deg, 0.1 * u.arcsec)
    far = source.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    reference = reference_at(SkyCoord([*near, *far]), flag_V=[0, 1, 1, 1, 1, 1])
    reference["Vmag"][1] = np.nan
    matched = match_catalogs(sources_at(source), reference, band="V")
    assert_allclose(matched["ddec"], [1, 1, 0.1], atol=1e-9)
    assert_array_equal(matched["flag_V"], 1)
    matched = match_catalogs(sources_at(source), reference)
    assert_allclose(matched["ddec"], 0.1, atol=1e-9)
    assert_array_equal(matched["flag_V"], [0, 1, 1])


def test_radius_is_exclusive():
    """A source at exactly the radius is not matched, as in the pipeline of DR1."""
    source = SkyCoord([10.0, 20.0], [0.0, 0.0], unit="deg")
    star = SkyCoord([10.0, 20.0], [0.0, 0.5], unit="deg")
    limit = match_catalogs(sources_at(source), reference_at(star), 0.6 * u.deg)
    exact = limit["sep"][1] * u.deg
    assert len(limit) == 2
    assert len(match_catalogs(sources_at(source), reference_at(star), exact)) == 1


@pytest.mark.parametrize("radius", [2, 2.0, 2 * u.arcsec, 2 / 3600 * u.deg])
def test_forms_of_the_radius(stars, radius):
    """A radius without a unit is in arcsec."""
    matched = match_catalogs(sources_at(stars), reference_at(stars), radius)
    assert matched.meta["MATCHRAD"] == pytest.approx(2, abs=1e-12)


@pytest.mark.parametrize(
    "radius", [0, -1, np.nan, np.inf, 2 * u.mag, "x", None, True, [1, 2]]
)
def test_bad_radius(stars, radius):
    """A radius that is not a positive angle is refused."""
    with pytest.raises(OptionError, match="radius must be an angle above 0"):
        match_catalogs(sources_at(stars), reference_at(stars), radius)


def test_duplicate_sources(stars):
    """A duplicate source is matched twice; mutual matches keep one."""
    twice = stars[[0, 1, 1, 2, 0]]
    found = match_catalogs(sources_at(twice), reference_at(stars))
    assert_array_equal(found["NUMBER"], [1, 2, 3, 4, 5])
    mutual = match_catalogs(sources_at(twice), reference_at(stars), mutual=True)
    assert len(mutual) == 3
    assert_array_equal(np.unique(mutual["Vmag"]), reference_at(stars)["Vmag"][:3])
    assert (np.diff(mutual["NUMBER"]) > 0).all()


def test_sources_without_position(stars):
    """Sources and stars with NaN or masked coordinates are not matched."""
    sources, reference = sources_at(stars), reference_at(stars)
    sources["ALPHA_J2000"][3] = np.nan
    sources["DELTA_J2000"] = MaskedColumn(sources["DELTA_J2000"])
    sources["DELTA_J2000"].mask[5] = True
    reference["DEJ2000"][7] = np.nan
    matched = match_catalogs(sources, reference)
    assert sorted(set(range(1, 301)) - set(matched["NUMBER"])) == [4, 6, 8]
    assert_array_equal(matched["Vmag"], reference["Vmag"][matched["NUMBER"] - 1])
    assert matched.meta["MATCHREF"] == 299


def test_masked_columns_are_kept(stars):
    """The mask of a source column is kept."""
    sources = sources_at(stars)
    sources["FLAGS"] = MaskedColumn(np.arange(300), mask=np.arange(300) % 3 == 0)
    matched = match_catalogs(sources[5:], reference_at(stars))
    assert_array_equal(matched["FLAGS"].mask, sources["FLAGS"].mask[5:])


def test_qtable_is_kept(stars):
    """Quantity columns, masked ones included, stay quantities."""
    sources = QTable(sources_at(stars))
    dec = Masked(sources["DELTA_J2000"], mask=np.arange(300) == 8)
    sources["DELTA_J2000"] = dec
    matched = match_catalogs(sources, QTable(reference_at(stars)))
    assert type(matched) is QTable
    assert matched["dra"].unit == u.arcsec
    assert_array_equal(matched["NUMBER"], [i for i in range(1, 301) if i != 9])


def test_photutils_sources(stars):
    """Sky positions may be a single SkyCoord column."""
    sources = QTable({"xcentroid": np.arange(300.0), "sky_centroid": stars.galactic})
    matched = match_catalogs(sources, reference_at(stars), columns="photutils")
    assert_array_equal(matched["xcentroid"], np.arange(300))
    assert_allclose(matched["sep"], 0, atol=1e-12)


def test_photutils_catalog(stars, tan_wcs):
    """A catalog of photutils is matched without conversion."""
    segmentation = pytest.importorskip("photutils.segmentation")
    data = np.zeros((50, 50))
    data[10:13, 20:23], data[30:33, 40:43] = 5.0, 9.0
    segments = segmentation.detect_sources(data, 1.0, 4)
    wcs = tan_wcs(data.shape)
    sources = segmentation.SourceCatalog(data, segments, wcs=wcs).to_table()
    stars = wcs.pixel_to_world([21, 41], [11, 31])
    matched = match_catalogs(sources, reference_at(stars), columns="photutils")
    assert_allclose(matched["sep"], 0, atol=1e-9)


def test_names_of_apertures_are_checked(stars):
    """A wrong list of apertures is refused by the match."""
    with pytest.raises(KS4Error, match="apertures must name the 4 apertures"):
        match_catalogs(
            sources_at(stars), reference_at(stars), apertures=("APER3", "APER5")
        )


@pytest.mark.parametrize("center", CENTERS)
def test_proper_motion(center):
    """Proper motions agree with those of astropy, also across a pole."""
    then = field_of_stars(center)
    rng = np.random.default_rng(6)
    motion = rng.normal(0, 300, (2, len(then))) * u.mas / u.yr
    moving = SkyCoord(
        then.ra,
        then.dec,
        distance=Distance(parallax=100 * u.mas),
        pm_ra_cosdec=motion[0],
        pm_dec=motion[1],
        radial_velocity=0 * u.km / u.s,
        obstime=Time(2016, format="jyear"),
    )
    now = moving.apply_space_motion(Time(2026, format="jyear"))
    reference = reference_at(then, pmRA=motion[0], pmDE=motion[1].to("arcsec/yr"))
    matched = match_catalogs(
        sources_at(SkyCoord(now.ra, now.dec)),
        reference,
        reference_columns={"epoch": 2016.0},
        epoch=2026,
    )
    assert_array_equal(matched["NUMBER"], np.arange(1, len(then) + 1))
    # Light-travel time is neglected: v/c of 10 km/s.
    moved = np.hypot(*motion.value) * 10 / 1000
    assert_allclose(matched["sep"] * 3600 / moved, 0, atol=1e-4)
    assert "pmRA" not in matched.colnames


def test_stars_of_unknown_motion_are_not_moved(stars):
    """Positions stay equal without a proper motion, an epoch or a time difference."""
    motion = np.full(300, 50.0)
    motion[::3] = np.nan
    epoch = np.full(300, 2016.0)
    epoch[1::3] = np.nan
    epoch[2::3] = 2020.0
    reference = reference_at(stars, pmRA=motion, pmDE=0.0, Epoch=epoch)
    matched = match_catalogs(sources_at(stars), reference, epoch=2020.0)
    assert_array_equal(matched["RAJ2000"], stars.ra.deg)
    assert_array_equal(matched["DEJ2000"], stars.dec.deg)


@pytest.mark.parametrize(
    "epoch",
    [
        *(2036.0, np.float32(2036), 2036 * u.yr, Time(2036.0, format="jyear")),
        *("2036.0", "J2036.0", "2036-01-01T12:00:00", "2036-01-01"),
    ],
)
def test_forms_of_the_epoch(stars, epoch):
    """An epoch is a time, a year or a header date; future dates do not warn."""
    reference = reference_at(stars, pmRA=0.0, pmDE=50.0, ref_epoch=2016.0)
    matched = match_catalogs(sources_at(stars), reference, epoch=epoch)
    assert_allclose(matched["ddec"], 1, atol=1e-3)


@pytest.mark.parametrize("epoch", [59000.5, "yesterday", np.nan, True, [2016, 2017]])
def test_bad_epoch(stars, epoch):
    """An epoch that is not a single plausible time is refused."""
    reference = reference_at(stars, pmRA=0.0, pmDE=50.0, Epoch=2016.0)
    with pytest.raises(KS4Error, match="epoch must be one Time, decimal year or date"):
        match_catalogs(sources_at(stars), reference, epoch=epoch)


def test_epoch_without_proper_motion(stars):
    """Missing proper motions are a warning, a missing epoch of them an error."""
    with pytest.warns(KS4Warning, match="the reference has no proper motions.*'pm_ra'"):
        matched = match_catalogs(sources_at(stars), reference_at(stars), epoch=2020)
    assert "MATCHEPO" not in matched.meta
    reference = reference_at(stars, pmRA=1.0, pmDE=1.0)
    with pytest.raises(KS4Error, match="reference does not record its epoch"):
        match_catalogs(sources_at(stars), reference, epoch=2020)


def test_inputs_are_not_modified(stars):
    """Tables and their meta are not modified."""
    sources = sources_at(stars)
    reference = reference_at(stars, pmRA=30.0, pmDE=1.0, Epoch=2016.0)
    sources.meta["HISTORY"], reference.meta["list"] = ["a"], [1]
    copies = deepcopy(sources), deepcopy(reference)
    matched = match_catalogs(sources, reference, band="V", epoch=2020, mutual=True)
    matched["NUMBER"][:], matched["Vmag"][:] = -1, -1
    matched.meta["HISTORY"].append("b")
    for now, before in zip((sources, reference), copies, strict=True):
        assert now.colnames == before.colnames
        assert now.meta == before.meta
        assert (now == before).all()


def test_no_match_at_all(stars):
    """Without a match, the message contains the distance of the nearest stars."""
    off = stars.directional_offset_by(90 * u.deg, 7 * u.arcsec)
    with pytest.raises(KS4Error, match="within 2 arcsec.*is 7 arcsec.*larger radius"):
        match_catalogs(sources_at(off), reference_at(stars))


def test_catalogs_of_two_fields(stars):
    """The message contains the centres of both catalogs, also across RA 0."""
    other = field_of_stars((122.0, -72.0))
    with pytest.raises(KS4Error, match="different fields") as caught:
        match_catalogs(sources_at(stars), reference_at(other))
    centers = [part.split(" deg")[0] for part in str(caught.value).split("around ")[1:]]
    for text, (ra, dec) in zip(centers, [(0, -62), (122, -72)], strict=True):
        center = SkyCoord(text, unit="deg")
        assert center.separation(SkyCoord(ra, dec, unit="deg")) < 0.1 * u.deg


def test_reference_without_the_band(stars):
    """The message for a missing band lists those of the reference."""
    with pytest.raises(KS4Error, match="magnitudes of band 'R' .* found bands V"):
        match_catalogs(sources_at(stars), reference_at(stars), band="R")
    reference = reference_at(stars, flag_V=0)
    with pytest.raises(KS4Error, match="of band V and flag 1 .* none among 300 stars"):
        match_catalogs(sources_at(stars), reference, band="V")


def test_existing_columns(stars):
    """Columns of an earlier match are not overwritten."""
    matched = match_catalogs(sources_at(stars), reference_at(stars))
    with pytest.raises(KS4Error, match="already has columns .* RAJ2000, DEJ2000, Vmag"):
        match_catalogs(matched, reference_at(stars))


def test_missing_columns(stars):
    """The message for a missing column lists the existing ones."""
    sources, reference = sources_at(stars), reference_at(stars)
    sources.rename_column("DELTA_J2000", "dec")
    with pytest.raises(
        KS4Error, match="DELTA_J2000 .*its columns are NUMBER, ALPHA_J2000, dec"
    ):
        match_catalogs(sources, reference)
    reference.rename_column("DEJ2000", "latitude")
    with pytest.raises(KS4Error, match="DEJ2000 or .*it has RAJ2000, latitude, Vmag"):
        match_catalogs(sources_at(stars), reference)


def test_empty_tables(stars):
    """Tables without rows or without positions are refused."""
    sources, reference = sources_at(stars), reference_at(stars)
    with pytest.raises(KS4Error, match="the source catalog is empty"):
        match_catalogs(sources[:0], reference)
    with pytest.raises(KS4Error, match="the reference is empty"):
        match_catalogs(sources, reference[:0], band="V")
    sources["ALPHA_J2000"] = np.nan
    with pytest.raises(KS4Error, match="found none in 300 rows"):
        match_catalogs(sources, reference)


def test_impossible_declination(stars):
    """Pixel coordinates in place of sky coordinates are refused."""
    sources = sources_at(stars)
    sources["DELTA_J2000"][4] = -1200.0
    with pytest.raises(
        KS4Error, match="declinations between -90 and 90 deg, got -1200"
    ):
        match_catalogs(sources, reference_at(stars))


@pytest.mark.parametrize("bad", [None, 5, "no such file.fits", {"a": [1]}])
def test_catalogs_of_a_wrong_type(stars, bad):
    """Catalogs may be tables or files."""
    with pytest.raises(KS4Error):
        match_catalogs(bad, reference_at(stars))
    with pytest.raises(KS4Error):
        match_catalogs(sources_at(stars), bad)


# Time


def test_motions_without_an_epoch(stars):
    """The warning about proper motions contains their size."""
    pm = {"pmRA": np.full(300, 4.0), "pmDE": np.full(300, -3.0)}
    pm["pmRA"][:5] = np.nan
    reference = reference_at(stars, **pm)
    culprit = r"median is 5 mas.yr, their mean \(\+4, -3\) mas.yr .* epoch="
    with pytest.warns(KS4Warning, match=culprit):
        matched = match_catalogs(sources_at(stars), reference)
    assert_allclose(matched["sep"], 0, atol=1e-9)
    reference["Epoch"] = 2016.0
    match_catalogs(sources_at(stars), reference, epoch=2016.0)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_zero_motions(stars, value):
    """A reference with zero proper motions does not warn."""
    reference = reference_at(stars, pmRA=value, pmDE=value)
    assert len(match_catalogs(sources_at(stars), reference)) == 300


def test_positions_of_vizier():
    """RA_ICRS is moved from the epoch of the catalog, RAJ2000 from the year 2000."""
    speed = 100 / 3.6e6  # degrees a year

    def at(year):
        return 10 + speed * (year - 2016)

    gaia = Table({"RAJ2000": [at(2000)], "DEJ2000": [0.0], "Gmag": [15.0]})
    gaia["RA_ICRS"], gaia["DE_ICRS"] = [at(2016)], [0.0]
    gaia["pmRA"], gaia["pmDE"] = [100.0], [0.0]
    source = Table({"ALPHA_J2000": [at(2018)], "DELTA_J2000": [0.0]})
    for year in (2016.0, 2000.0):
        matched = match_catalogs(
            source, gaia, radius=5, epoch=2018, reference_columns={"epoch": year}
        )
        assert_allclose(matched["dra"], 0, atol=1e-6)
    with pytest.warns(KS4Warning, match="median is 100 mas"):
        matched = match_catalogs(source, gaia, radius=5)
    assert_allclose(matched["dra"], -0.2, atol=1e-6)
    gaia["Epoch"] = np.nan
    for _ in range(2):
        with pytest.raises(KS4Error, match="reference does not record its epoch"):
            match_catalogs(source, gaia, epoch=2018)
        gaia = gaia[[name for name in gaia.colnames if name != "Epoch"]]


# The zero point that magnitudes contain


def test_zero_point_of_the_sources(stars):
    """The zero point is recorded, and magnitudes are not modified."""
    sources, reference = sources_at(stars), reference_at(stars)
    matched = match_catalogs(sources, reference, mag_zeropoint=30)
    assert matched.meta["MATCHMZP"] == 30
    assert_array_equal(matched["MAG_APER"], sources["MAG_APER"])
    assert "MATCHMZP" not in match_catalogs(sources, reference).meta
    with pytest.raises(KS4Error, match="mag_zeropoint must be a finite number"):
        match_catalogs(sources, reference, mag_zeropoint="30 mag")
    sources.meta["SEXMGZPT"] = 0.0
    with pytest.raises(KS4Error, match="SEXMGZPT in its meta"):
        match_catalogs(sources, reference, mag_zeropoint=30)


def test_fluxes_contain_no_zero_point(stars):
    """A zero point of magnitudes is refused for fluxes."""
    sources = QTable({"sky_centroid": stars, "kron_flux": np.ones(300)})
    with pytest.raises(KS4Error, match="expected magnitudes, found fluxes"):
        match_catalogs(
            sources, reference_at(stars), columns="photutils", mag_zeropoint=30
        )
