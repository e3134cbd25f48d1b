# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Reference catalogs of several origins become one and the same table."""

from copy import deepcopy

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd import match_catalogs, simulate_field
from ks4_ccd.exceptions import KS4Error, KS4Warning, OptionError
from ks4_ccd.mapmaking.reference import (
    ReferenceColumns,
    bands_of,
    read_reference,
)

XP = {"B": [16.0, np.nan], "V": [15.0, 14.0], "R": [14.5, 13.0], "I": [14.0, 12.5]}


def gaiaxp(bands="BVRI"):
    """Return two stars as the pipeline stores them."""
    table = Table({"RA": [10.0, 11.0], "DEC": [-62.0, -61.0], "cstar": [0.1, 0.2]})
    for band in bands:
        table[f"XP_{band}"] = XP[band]
        table[f"XP_e{band}"] = [0.01, 0.02]
        table[f"XP_{band}flag"] = np.array([1, 0], dtype="u1")
    return table


def plain(**columns):
    """Return two stars with names of the pipeline's matched tables."""
    table = Table({"RAJ2000": [10.0, 11.0], "DEJ2000": [-62.0, -61.0]})
    for name, values in columns.items():
        table[name] = values
    return table


def test_published_colour_terms():
    """B and R follow from two XP magnitudes, V and I from one."""
    standard = read_reference(gaiaxp())
    assert bands_of(standard) == ["B", "V", "R", "I"]
    assert_array_equal(standard["Bmag"], [16.0 - 0.30 * 1.0, np.nan])
    assert_array_equal(standard["Vmag"], XP["V"])
    assert_array_equal(standard["Rmag"], [14.5 - 0.04 * 0.5, 13.0 - 0.04 * 1.0])
    assert_array_equal(standard["Imag"], XP["I"])
    for band in "BVRI":
        assert_array_equal(standard[f"e_{band}mag"], [0.01, 0.02])
        assert_array_equal(standard[f"flag_{band}"], [1, 0])
        assert standard[f"flag_{band}"].dtype == np.uint8


@pytest.mark.parametrize(("bands", "expected"), [("VI", "VI"), ("BRI", "I")])
def test_bands_that_follow(bands, expected):
    """A band is there if all its XP magnitudes are."""
    assert bands_of(read_reference(gaiaxp(bands))) == list(expected)


def test_simulated_reference():
    """The simulated reference is of the same kind as the pipeline's."""
    field = simulate_field((660, 660), map_shape=(33, 33), seed=1)
    standard = read_reference(field.reference, "gaiaxp")
    assert_array_equal(standard["RAJ2000"], field.reference["RA"])
    # XP_R is 0.04 (V - R), 0.016 mag in the median, fainter than MAG.
    assert abs(np.median(standard["Rmag"] - field.reference["MAG"])) < 0.003


def test_plain_table():
    """Names of the pipeline are found; what is not said is filled in."""
    standard = read_reference(
        plain(Vmag=[15.0, np.nan], gmag=[16.0, 17.0], e_gmag=0.1, flag_g=[0, 1])
    )
    assert bands_of(standard) == ["V", "g"]
    assert_array_equal(standard["e_Vmag"], [np.nan, np.nan])
    assert_array_equal(standard["flag_V"], [1, 0])
    assert_array_equal(standard["e_gmag"], [0.1, 0.1])
    assert_array_equal(standard["flag_g"], [0, 1])


def test_own_names():
    """A dict names columns; what it leaves out has its usual name."""
    table = plain(v=[15.0, 16.0], dv=[0.1, 0.2], ok=[True, False], Rmag=[1.0, 2.0])
    table.rename_columns(["RAJ2000", "DEJ2000"], ["lon", "DEC"])
    names = {"ra": "lon", "magnitudes": {"V": "v"}, "errors": {"V": "dv"}}
    names["flags"] = {"V": "ok"}
    for columns in (names, ReferenceColumns(**names)):
        standard = read_reference(table, columns)
        assert bands_of(standard) == ["V"]
        assert_array_equal(standard["e_Vmag"], [0.1, 0.2])
        assert_array_equal(standard["flag_V"], [1, 0])
        assert_array_equal(standard["DEJ2000"], [-62.0, -61.0])


def test_negative_right_ascension():
    """RA comes out between 0 and 360."""
    table = plain()
    table["RAJ2000"][0] = -10
    assert_array_equal(read_reference(table)["RAJ2000"], [350, 11])


@pytest.mark.parametrize("kind", [Table, QTable])
def test_units(kind):
    """Columns with a unit are converted, AB magnitudes taken as they are."""
    table = kind(plain(Vmag=[15.0, 16.0] * u.ABmag, e_Vmag=[10.0, 20.0] * u.mmag))
    table["RAJ2000"] = [1.0, 2.0] * u.hourangle
    table["pmRA"] = [0.001, 0.002] * u.arcsec / u.yr
    table["pmDE"] = [1.0, 2.0]
    standard = read_reference(table)
    assert_allclose(standard["RAJ2000"], [15, 30], rtol=1e-15)
    assert_array_equal(standard["Vmag"], [15.0, 16.0])
    assert_allclose(standard["e_Vmag"], [0.01, 0.02], rtol=1e-15)
    assert_allclose(standard["pmRA"], [1, 2], rtol=1e-15)
    assert standard["Vmag"].unit == u.mag


def test_missing_values():
    """Masked, 99 and -99 are no magnitudes; a masked flag is not 1."""
    table = plain(
        Vmag=MaskedColumn([15.0, 16.0], mask=[False, True]),
        flag_V=MaskedColumn([1, 1], mask=[True, False]),
        Rmag=[99.0, -99.0],
    )
    standard = read_reference(table)
    assert_array_equal(standard["Vmag"], [15.0, np.nan])
    assert_array_equal(standard["flag_V"], [0, 1])
    assert np.isnan(standard["Rmag"]).all()
    assert_array_equal(standard["flag_R"], [0, 0])


@pytest.mark.parametrize(
    "epoch",
    [
        [2016.0, 2015.5],
        [2016.0, 2015.5] * u.yr,
        Time([2016.0, 2015.5], format="jyear"),
    ],
)
def test_epochs_of_stars(epoch):
    """A column of epochs goes with the proper motions."""
    table = plain(pmra=[1.0, 2.0], pmdec=[3.0, 4.0], ref_epoch=epoch)
    assert_array_equal(read_reference(table)["Epoch"], [2016.0, 2015.5])


def test_no_proper_motion():
    """Without proper motions, epochs are of no use."""
    assert "Epoch" not in read_reference(plain(Epoch=2016.0)).colnames
    standard = read_reference(plain(pmRA=1.0, pmDE=2.0))
    assert standard.colnames[-2:] == ["pmRA", "pmDE"]


def test_files(tmp_path):
    """A reference may come in a file."""
    gaiaxp().write(tmp_path / "gaiaxp.fits")
    plain(Vmag=[15.0, 16.0]).write(tmp_path / "plain.ecsv")
    assert bands_of(read_reference(tmp_path / "gaiaxp.fits")) == list("BVRI")
    assert bands_of(read_reference(str(tmp_path / "plain.ecsv"))) == ["V"]


def test_input_is_untouched():
    """The table that is read stays as it is."""
    for table in (gaiaxp(), plain(Vmag=[99.0, 16.0], pmRA=1.0, pmDE=1.0)):
        before = deepcopy(table)
        read_reference(table)["RAJ2000"][:] = 0
        assert table.colnames == before.colnames
        for name in table.colnames:
            assert_array_equal(table[name], before[name])


@pytest.mark.parametrize(
    ("table", "columns", "culprit"),
    [
        (gaiaxp(), "gaia", "must be one of auto, gaiaxp, plain, or a dict .* 'gaia'"),
        (gaiaxp(), {"DEC": "d"}, "may name ra, dec, .*, got DEC"),
        (plain(), "gaiaxp", "no Gaia XP magnitudes .* it has RAJ2000, DEJ2000"),
        (gaiaxp(), {"dec": "decl"}, "no column decl: it has RA, DEC, cstar"),
        (plain(), {"magnitudes": {"V": "v"}}, "no column v: it has RAJ2000"),
        (plain(), {"pm_ra": "pma"}, "no column pma"),
        (Table({"RA": [1.0]}), "auto", "no column DE_ICRS or .* it has RA"),
        (plain(Vmag=["a", "b"]), "auto", "column Vmag: expected numbers"),
        (plain(Vmag=[1, 2] * u.Jy), "auto", "Vmag: expected magnitudes, found .* Jy"),
        (plain(pmRA=[1, 2] * u.m, pmDE=1), "auto", "pmRA: expected mas / yr"),
        (plain(pmRA=1, pmDE=1, Epoch=57388.0), "auto", "decimal years, found 57388"),
        (plain(pmRA=1, pmDE=1), {"epoch": 57388.0}, "epoch of the reference must be"),
        (plain(pmRA=1, pmDE=1), {"epoch": "E"}, "no column E: it has"),
    ],
)
def test_bad_references(table, columns, culprit):
    """What is missing or wrong is named, with what was there."""
    with pytest.raises(KS4Error, match=culprit):
        read_reference(table, columns)


@pytest.mark.parametrize("part", ["XP_eR", "XP_Rflag", "DEC"])
def test_incomplete_gaiaxp(part):
    """A column that the pipeline writes and is not there is named."""
    table = gaiaxp()
    table.remove_column(part)
    with pytest.raises(KS4Error, match=f"no column {part}.*: it has RA"):
        read_reference(table)


# Tables of the survey's own queries


def as_queried():
    """Return what the pipeline's GAIAXP_query makes of its stored table."""
    table, expected = gaiaxp(), read_reference(gaiaxp())
    for band in "BR":
        table[f"{band}mag"] = expected[f"{band}mag"]
    renamed = {"RA": "RAJ2000", "DEC": "DEJ2000", "XP_V": "Vmag", "XP_I": "Imag"}
    renamed |= {f"XP_e{band}": f"e_{band}mag" for band in "BVRI"}
    for old, new in renamed.items():
        table.rename_column(old, new)
    return table


@pytest.mark.parametrize("columns", ["auto", "plain", {}])
def test_tables_of_the_pipeline(columns):
    """Magnitudes with the colour terms applied are read beside raw ones, with flags."""
    standard, expected = read_reference(as_queried(), columns), read_reference(gaiaxp())
    assert set(standard.colnames) == set(expected.colnames)
    for name in expected.colnames:
        assert_array_equal(standard[name], expected[name])


def test_raw_magnitudes_left_of_one_band():
    """A prepared table is one, whichever raw magnitudes it still has."""
    table = as_queried()
    table["XP_I"], table["XP_eI"] = table["Imag"] + 1, 0.01
    assert_array_equal(read_reference(table)["Imag"], XP["I"])
    assert_array_equal(read_reference(table)["Vmag"], XP["V"])


@pytest.mark.parametrize("make", [gaiaxp, as_queried])
def test_flags_by_another_name(make):
    """A later version of the pipeline calls them GAIA_Rflag."""
    table = make()
    for band in "BVRI":
        table.rename_column(f"XP_{band}flag", f"GAIA_{band}flag")
    assert_array_equal(read_reference(table)["flag_R"], [1, 0])


def test_raw_magnitudes_beside_others():
    """A magnitude of another catalog does not make a raw table a prepared one."""
    table = gaiaxp()
    table["Vmag"] = [1.0, 2.0]
    assert_array_equal(read_reference(table)["Vmag"], XP["V"])
    assert_array_equal(read_reference(table, "plain")["Vmag"], [1, 2])
    magnitudes = {"magnitudes": {"R": "XP_R"}}
    assert_array_equal(read_reference(table, magnitudes)["Rmag"], XP["R"])


@pytest.mark.parametrize("make", [gaiaxp, as_queried, plain])
@pytest.mark.parametrize("name", ["Gmag", "phot_g_mean_mag"])
def test_the_magnitude_that_selects(make, name):
    """G is read by the names of VizieR and of Gaia's archive."""
    table = make()
    table[name] = [15.5, 99.0]
    assert_array_equal(read_reference(table)["Gmag"], [15.5, np.nan])


# Epochs of positions


def of_vizier(**columns):
    """Return a star of 100 mas/yr as VizieR gives it, at two epochs."""
    table = Table({"RAJ2000": [10.0], "DEJ2000": [0.0]})
    table["RA_ICRS"], table["DE_ICRS"] = [10 + 1600 / 3.6e6], [0.0]
    table["pmRA"], table["pmDE"], table["Gmag"] = [100.0], [0.0], [15.0]
    for name, values in columns.items():
        table[name] = values
    return table


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ("auto", "RA_ICRS"),
        ("plain", "RA_ICRS"),
        ({"epoch": 2016.0}, "RA_ICRS"),
        ({"epoch": 2015.5}, "RA_ICRS"),
        ({"epoch": 2000.0}, "RAJ2000"),
        ({"ra": "RAJ2000"}, "RAJ2000"),
        ({"dec": "DEJ2000", "epoch": 2016.0}, "RAJ2000"),
        ({"ra": ("RAJ2000", "RA"), "dec": ("DEJ2000", "DEC")}, "RAJ2000"),
    ],
)
def test_positions_at_two_epochs(columns, name):
    """The pair of the reference epoch is used, and never half of each."""
    table = of_vizier(DEJ2000=[1.0])
    standard = read_reference(table, columns)
    assert standard["RAJ2000"][0] == table[name][0]
    assert standard["DEJ2000"][0] == (1 if name == "RAJ2000" else 0)


@pytest.mark.parametrize(("epoch", "name"), [(2016.0, "RA_ICRS"), (2000.0, "RAJ2000")])
def test_epoch_in_a_column(epoch, name):
    """A column of epochs decides as a number does."""
    table = of_vizier(ref_epoch=[epoch])
    assert read_reference(table)["RAJ2000"][0] == table[name][0]


def test_a_single_pair():
    """Tables with one pair of positions are read whatever the epoch."""
    table = of_vizier()
    table.remove_columns(["RA_ICRS", "DE_ICRS"])
    standard = read_reference(table, {"epoch": 2016.0})
    assert standard["RAJ2000"][0] == 10
    table["RA_ICRS"] = [11.0]
    assert read_reference(table)["RAJ2000"][0] == 10


def test_motions_beside_raw_magnitudes():
    """Tables of XP magnitudes may have proper motions as well."""
    table = gaiaxp()
    table["pmra"], table["pmdec"], table["ref_epoch"] = [1.0] * 2, [2.0] * 2, 2016.0
    standard = read_reference(table)
    assert_array_equal(standard["pmDE"], [2, 2])
    assert_array_equal(standard["Epoch"], [2016, 2016])
    table.remove_column("ref_epoch")
    standard = read_reference(table, {"epoch": 2015.5})
    assert bands_of(standard) == list("BVRI")
    assert_array_equal(standard["Epoch"], [2015.5, 2015.5])


@pytest.mark.parametrize("mark", [99, -99, 99.999, 999, -999, 9999, np.inf, 1.8e308])
def test_marks_of_no_measurement(mark):
    """A magnitude or an error of 90 or more is none."""
    table = plain(Vmag=[15.0, mark], e_Vmag=[mark, 0.01])
    standard = read_reference(table)
    assert_array_equal(standard["Vmag"], [15, np.nan])
    assert_array_equal(standard["e_Vmag"], [np.nan, 0.01])
    assert_array_equal(standard["flag_V"], [1, 0])
    table = gaiaxp()
    table["XP_V"][1] = mark
    assert_array_equal(np.isnan(read_reference(table)["Rmag"]), [False, True])


@pytest.mark.parametrize("unit", ["mag(AB)", "ABmag", "mags", "[mag]"])
def test_units_of_magnitudes(unit):
    """AB magnitudes, and plain ones by any spelling."""
    table = plain(Vmag=[15.0, 16.0])
    table["Vmag"].unit = u.Unit(unit, parse_strict="silent")
    assert_array_equal(read_reference(table)["Vmag"], [15, 16])


def test_other_magnitude_systems():
    """Magnitudes per wavelength are not AB; those of janskys are shifted."""
    table = QTable(plain())
    table["Vmag"] = u.Magnitude([15.0, 16.0], u.STmag)
    with pytest.raises(KS4Error, match=r"Vmag: expected instrumental or AB magnitudes"):
        read_reference(table)
    table["Vmag"] = u.Magnitude([6.1, 7.1], u.mag(u.Jy))
    assert_allclose(read_reference(table)["Vmag"], [15, 16], atol=1e-3)


# Synthetic photometry as published

# Johnson-Cousins magnitudes of a star of AB magnitude 0 in all bands, after Bessell,
# Castelli & Plez 1998: fluxes at magnitude 0 in 1e-20 erg / (s cm2 Hz).
FLUXES_AT_ZERO = {"U": 1.790, "B": 4.063, "V": 3.636, "R": 3.064, "I": 2.416}
SURVEY = {"B": 436.8, "V": 545.5, "R": 642.6, "I": 793.9}


def archive(number=2, **columns):
    """Return stars of the Gaia archive: gaia_source joined with the photometry."""
    table = Table({"ra": 10.0 + np.arange(number), "dec": np.full(number, -62.0)})
    table["pmra"], table["pmdec"], table["phot_g_mean_mag"] = 4.0, -5.0, 15.0
    for system, bands in (("jkc", "ubvri"), ("sdss", "ugriz"), ("ps1", "y")):
        for i, band in enumerate(bands):
            table[f"{band}_{system}_mag"] = 15.0 + 0.1 * i + np.arange(number)
    for name, values in columns.items():
        table[name] = values
    return table


@pytest.mark.parametrize("band", "UBVRI")
def test_vega_magnitudes_become_ab(band):
    """By the AB magnitude of a star of magnitude 0, to the digits of the table."""
    table = archive()
    ab = -2.5 * np.log10(FLUXES_AT_ZERO[band] * 1e-20) - 48.6
    found = read_reference(table)[f"{band}mag"] - table[f"{band.lower()}_jkc_mag"]
    assert_allclose(found, ab, atol=3e-3)


def test_ab_magnitudes_stay():
    """Those of SDSS and Pan-STARRS, and Gaia's own for the selection of stars."""
    table = archive()
    standard = read_reference(table)
    for name in ("u_sdss", "g_sdss", "r_sdss", "i_sdss", "z_sdss", "y_ps1"):
        assert_array_equal(standard[f"{name[0]}mag"], table[f"{name}_mag"])
    assert_array_equal(standard["Gmag"], 15)
    assert set(bands_of(standard)) == {*"UBVRI", *"ugriz", "y", "G"}
    assert standard["Rmag"].description == (
        "r_jkc_mag of Gaia XP spectra +0.186, AB magnitudes"
    )


@pytest.mark.parametrize(("band", "name"), [("R", "r_jkc"), ("r", "r_sdss")])
def test_errors_of_fluxes(band, name):
    """Become errors of magnitudes, whatever the unit of the fluxes."""
    table = archive()
    table[f"{name}_flux"] = [2e-17, 0.0] * u.W / u.m**2 / u.nm
    table[f"{name}_flux_error"] = [2e-19, 1e-19] * u.W / u.m**2 / u.nm
    errors = read_reference(table)[f"e_{band}mag"]
    # A change by one per cent of the flux.
    assert_allclose(errors[0], (np.log10(1.01) - np.log10(0.99)) * 1.25, rtol=1e-4)
    assert np.isnan(errors[1])


def test_errors_without_fluxes():
    """The fluxes follow from the magnitudes and the zero points of the catalog."""
    table = archive()
    # Bessell, Castelli & Plez: 217.7e-12 W / (m2 nm)  at R = 0; 3631 Jy at 0 AB mag.
    magnitudes = table["r_jkc_mag"]
    table["r_jkc_flux_error"] = 0.01 * 217.7e-13 * 10 ** (-0.4 * magnitudes)
    flux = 3.631e-23 * 10 ** (-0.4 * table["g_sdss_mag"])
    table["g_sdss_flux_error"] = 0.01 * flux
    standard = read_reference(table)
    assert_allclose(standard["e_Rmag"], 0.010857, rtol=0.05)
    assert_allclose(standard["e_gmag"], 0.010857, rtol=1e-3)
    assert np.isnan(standard["e_Bmag"]).all()


def test_validated_range():
    """A magnitude with the flag 0 is an extrapolation, and not used."""
    standard = read_reference(archive(3, v_jkc_flag=[1, 0, 1], i_sdss_flag=[0, 0, 1]))
    assert_array_equal(standard["flag_V"], [1, 0, 1])
    assert_array_equal(standard["flag_i"], [0, 0, 1])
    assert_array_equal(standard["flag_R"], [1, 1, 1])


@pytest.mark.parametrize("kind", [Table, QTable])
def test_tables_of_astroquery(kind):
    """Upper-case names, units, masks and single precision."""
    table = archive()
    table["r_jkc_mag"] = MaskedColumn(
        np.float32([15.5, 16.5]), mask=[False, True], unit="mag"
    )
    table["r_jkc_flag"] = MaskedColumn(np.int16([1, 1]), mask=[False, True])
    table["pmra"], table["ra"].unit = [4.0, 5.0] * u.mas / u.yr, "deg"
    table.rename_columns(table.colnames, [name.upper() for name in table.colnames])
    table = kind(table)
    standard = read_reference(table)
    assert_allclose(standard["Rmag"], [15.686, np.nan])
    assert_array_equal(standard["flag_R"], [1, 0])
    assert_array_equal(standard["RAJ2000"], [10, 11])
    assert_array_equal(standard["pmRA"], [4, 5])
    assert_array_equal(standard["Epoch"], [2016, 2016])
    assert_array_equal(standard["Gmag"], [15, 15])
    masked = kind(archive())
    masked["dec"] = Masked([-62.0, -61.0] * u.deg, mask=[False, True])
    assert_array_equal(read_reference(masked)["DEJ2000"], [-62, np.nan])


def vizier(name="I/360/syntphot", **columns):
    """Return stars of VizieR; upper case is Johnson-Kron-Cousins, lower case SDSS."""
    table = Table({"RA_ICRS": [10.0, 11.0], "DE_ICRS": [-62.0, -61.0]})
    table["pmRA"], table["pmDE"] = [4.0, 5.0], [-5.0, -4.0]
    for column, values in columns.items():
        table[column] = values
    table.meta["name"] = name
    return table


def test_synthetic_photometry_of_vizier():
    """Vega and AB magnitudes differ by the case of their names only."""
    table = vizier(Rmag=[15.0, 16.0], rmag=[15.2, 16.2], RFlag=[1, 0])
    table["FR"], table["e_FR"] = [1e-17, 2e-17], [1e-19, 2e-19]
    for meta in ({"name": "I/360/syntphot"}, {"EXTNAME": "I_360_syntphot"}, {}):
        table.meta = meta
        standard = read_reference(table)
        assert_allclose(standard["Rmag"], [15.186, 16.186])
        assert_array_equal(standard["flag_R"], [1, 0])
        assert_allclose(standard["e_Rmag"], 0.010857, rtol=1e-4)
    table.meta = {"ID": "I_360_syntphot"}
    assert_array_equal(read_reference(table)["rmag"], [15.2, 16.2])
    table.remove_columns(["RFlag", "FR", "e_FR"])
    assert_allclose(read_reference(table)["Rmag"], [15.186, 16.186])
    # Any other table with such names is taken as it is.
    table.meta = {"EXTNAME": "xmatch(I_360_syntphot)"}
    assert_array_equal(read_reference(table)["Rmag"], [15, 16])


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("I/355/gaiadr3", 2016.0),
        ("I/350/gaiaedr3", 2016.0),
        ("I/345/gaia2", 2015.5),
        ("I/360/syntphot", 2016.0),
        ("II/246/out", None),
        ("I/35/other", None),
    ],
)
def test_epochs_of_vizier(name, year):
    """Are those of the catalogs by their names, or by the description of a column."""
    table = vizier(name, Gmag=[15.0, 16.0])
    standard = read_reference(table)
    if year is None:
        assert "Epoch" not in standard.colnames
    else:
        assert_array_equal(standard["Epoch"], year)
    table["RA_ICRS"].description = "Right ascension (ICRS) at Ep=2015.0 (ra)"
    assert_array_equal(read_reference(table)["Epoch"], 2015)
    assert_array_equal(read_reference(table, {"epoch": 2014.0})["Epoch"], 2014)
    # Positions that VizieR moved to another epoch.
    table.rename_columns(["RA_ICRS", "DE_ICRS"], ["RAJ2000", "DEJ2000"])
    table["RAJ2000"].description = None
    assert "Epoch" not in read_reference(table).colnames


def test_names_that_are_given():
    """Of synthetic photometry are converted, too; an offset that is given wins."""
    table = archive(r_jkc_flag=[1, 0])
    standard = read_reference(table, {"magnitudes": {"R": "r_jkc_mag"}})
    assert bands_of(standard) == ["R"]
    assert_allclose(standard["Rmag"], table["r_jkc_mag"] + 0.186)
    assert_array_equal(standard["flag_R"], [1, 0])
    columns = {"magnitudes": {"R": "r_jkc_mag"}, "offsets": {"R": 0.21}}
    assert_allclose(read_reference(table, columns)["Rmag"], table["r_jkc_mag"] + 0.21)
    columns = {"offsets": {"V": 0.02}}
    standard = read_reference(plain(Vmag=[15.0, 16.0], Rmag=[1.0, 2.0]), columns)
    assert_allclose(standard["Vmag"], [15.02, 16.02])
    assert_array_equal(standard["Rmag"], [1, 2])
    with pytest.raises(OptionError, match="offset of band V"):
        read_reference(plain(Vmag=[15.0, 16.0]), {"offsets": {"V": "Vega"}})
    with pytest.raises(KS4Error, match=r"no column R_JKC_MAG: it has ra, dec"):
        read_reference(table, {"magnitudes": {"R": "R_JKC_MAG"}})


def test_columns_of_other_magnitudes_are_not_confused():
    """Gmag is not Gmag, and r not R."""
    standard = read_reference(plain(gmag=[15.0, 16.0], rmag=[14.0, 15.0]))
    assert bands_of(standard) == ["g", "r"]


def test_the_system_of_the_survey():
    """The preset gaiaxp converts published photometry as the survey did."""
    table = archive()
    standard = read_reference(table, "gaiaxp")
    xp = {}
    for band, wavelength in SURVEY.items():
        zeropoints = {"B": -25.4710, "V": -26.0861, "R": -26.6268, "I": -27.3212}
        flux = 10 ** (-0.4 * (table[f"{band.lower()}_jkc_mag"] - zeropoints[band]))
        # f_lambda in erg / (s cm2 Angstrom), the wavelength in Angstrom.
        per_hertz = flux * 100 * (10 * wavelength) ** 2 / 3e18
        xp[band] = -2.5 * np.log10(per_hertz) - 48.6
    assert_allclose(standard["Vmag"], xp["V"], atol=1e-9)
    assert_allclose(standard["Bmag"], xp["B"] - 0.30 * (xp["B"] - xp["V"]), atol=1e-9)
    assert_allclose(standard["Rmag"], xp["R"] - 0.04 * (xp["V"] - xp["R"]), atol=1e-9)
    assert_allclose(standard["Imag"], xp["I"], atol=1e-9)
    assert bands_of(standard) == ["B", "V", "R", "I", "G"]
    assert_array_equal(standard["Epoch"], 2016)


def test_magnitudes_of_the_survey_are_those_of_published_fluxes(ks4_data):
    """Its file contains logarithms of single-precision fluxes, to the last digit."""
    stars = Table.read(ks4_data / "catalogs" / "gaiaxp_0000.fits")
    for band, wavelength in SURVEY.items():
        magnitudes = np.ma.filled(stars[f"XP_{band}"], np.nan)
        magnitudes = magnitudes[np.isfinite(magnitudes)]
        zeropoint = -56.1 - 2.5 * np.log10(wavelength**2 / 3e17)
        flux = 10 ** (-0.4 * (magnitudes - zeropoint))
        assert len(flux) > 9000
        # Other numbers would deviate by up to 6e-8.
        assert_allclose(flux, flux.astype(np.float32), rtol=1e-13)


def test_bands_of_gaia_are_vega():
    """Zero points made from them are, too, which a warning says."""
    sources = Table({"ALPHA_J2000": [10.0, 11.0], "DELTA_J2000": [-62.0, -62.0]})
    table = archive()
    table.remove_columns(["pmra", "pmdec"])
    table["phot_rp_mean_mag"] = [14.0, 15.0]
    with pytest.warns(KS4Warning, match=r"band RP are in the Vega .*'RP': 0.3561"):
        match_catalogs(sources, table, band="RP")
    columns = {"offsets": {"RP": 0.3561}}
    matched = match_catalogs(sources, table, band="RP", reference_columns=columns)
    assert_allclose(matched["RPmag"], [14.3561, 15.3561])


def test_a_band_that_is_not_there():
    """The message lists the columns looked for, those found, and what to do."""
    sources = Table({"ALPHA_J2000": [10.0], "DELTA_J2000": [-62.0]})
    culprit = (
        r"band 'R' .* found bands V: looked for the columns Rmag, XP_R with XP_V, "
        r"r_jkc_mag, found RAJ2000, DEJ2000, Vmag; .* \(--reference-columns mag="
    )
    with pytest.raises(KS4Error, match=culprit):
        match_catalogs(sources, plain(Vmag=[15.0, 16.0]), band="R")
