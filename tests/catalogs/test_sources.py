# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test source catalogs of SExtractor and photutils, and their columns."""

import subprocess
import sys
import warnings
from copy import deepcopy

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd.catalogs.calibration import calibrate_catalog
from ks4_ccd.catalogs.columns import PRESETS, SourceColumns, plain_column, unit_of
from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import KS4Error, OptionError
from ks4_ccd.files.tables import read_table, write_table
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.zeropoint import ZeroPointMap

KS4_APERTURES = ("FWHM", "APER3", "APER5", "APER10")


def sextractor(**columns):
    """Return two sources with the columns of SExtractor."""
    table = Table({"X_IMAGE": [1.0, 11.0], "Y_IMAGE": [2.0, 12.0]})
    table["ALPHA_J2000"] = [10.0, 11.0] * u.deg
    table["DELTA_J2000"] = [-62.0, -61.0] * u.deg
    table["MAG_APER"] = np.array([[1, 2, 3, 4], [5, 6, 99, -99]], dtype="f4")
    table["MAGERR_APER"] = np.array([[1, 2, 3, 4], [5, -6, 99, 8]], dtype="f4")
    table["MAG_AUTO"] = np.array([20.0, 21.0], dtype="f4") * u.mag
    for name, values in columns.items():
        table[name] = values
    return table


def photutils(**columns):
    """Return two sources with the columns of photutils."""
    table = QTable({"xcentroid": [0.0, 10.0], "ycentroid": [1.0, 11.0]})
    table["kron_flux"] = [100.0, -1.0] * u.adu
    table["kron_fluxerr"] = [1.0, 1.0] * u.adu
    for name, values in columns.items():
        table[name] = values
    return table


def test_sextractor_counts_from_one():
    """Pixel coordinates are 0-based for any flavour."""
    for sources in (Sources(sextractor()), Sources(photutils(), "photutils")):
        x, y = sources.positions()
        assert_array_equal(x, [0, 10])
        assert_array_equal(y, [1, 11])


def test_apertures_of_ks4():
    """The four elements of the vector are the apertures of the survey."""
    sources = Sources(sextractor())
    assert sources.apertures == (*KS4_APERTURES, "AUTO")
    assert sources.place_of("APER5") == ("MAG_APER", 2)
    assert_array_equal(sources.magnitudes("APER3"), [2, 6])
    assert sources.magnitudes("AUTO").dtype == float


def test_vector_in_single_columns():
    """ASCII catalogs have a column for each element."""
    table = sextractor()
    for name in ("MAG_APER", "MAGERR_APER"):
        vector = np.array(table[name])
        table.remove_column(name)
        table[name] = vector[:, 0]
        for i in range(1, 4):
            table[f"{name}_{i}"] = vector[:, i]
    single, vector = Sources(table), Sources(sextractor())
    assert single.apertures == vector.apertures
    assert single.place_of("APER10") == ("MAG_APER_3", None)
    for aperture in KS4_APERTURES:
        assert_array_equal(single.magnitudes(aperture), vector.magnitudes(aperture))
        assert_array_equal(
            single.magnitude_errors(aperture), vector.magnitude_errors(aperture)
        )


def test_own_apertures():
    """Another number of apertures requires their names."""
    table = sextractor(MAG_APER=np.zeros((2, 2)), MAGERR_APER=np.ones((2, 2)))
    assert Sources(table).apertures == ("AUTO",)
    with pytest.raises(
        KS4Error, match="name the apertures of MAG_APER with apertures="
    ):
        Sources(table).magnitudes("APER5")
    sources = Sources(table, apertures=("APER10", "APER2"))
    assert sources.apertures == ("APER10", "AUTO", "APER2")
    assert sources.place_of("APER2") == ("MAG_APER", 1)
    for wrong in (("APER5",), "AB"):
        with pytest.raises(KS4Error, match="must name the 2 apertures of MAG_APER"):
            Sources(table, apertures=wrong)


def test_single_column_beats_the_vector():
    """A column of its own contains the magnitudes of an aperture."""
    sources = Sources(sextractor(MAG_APER5=[7.0, 8.0]))
    assert_array_equal(sources.magnitudes("APER5"), [7, 8])


def test_missing_magnitudes():
    """99, -99, masked values and negative uncertainties are NaN."""
    table = sextractor(MAG_AUTO=MaskedColumn([20.0, 21.0], mask=[True, False]))
    sources = Sources(table)
    assert_array_equal(sources.magnitudes("APER5"), [3, np.nan])
    assert_array_equal(sources.magnitudes("APER10"), [4, np.nan])
    assert_array_equal(sources.magnitudes("AUTO"), [np.nan, 21])
    assert_array_equal(sources.magnitude_errors("APER5"), [3, np.nan])
    assert_array_equal(sources.magnitude_errors("APER3"), [2, np.nan])
    assert sources.place_of_error("AUTO") is None
    assert np.isnan(sources.magnitude_errors("AUTO")).all()


def test_fluxes():
    """Fluxes are converted to instrumental magnitudes, with their uncertainties."""
    sources = Sources(photutils(), "photutils")
    assert sources.apertures == ("AUTO",)
    assert_allclose(sources.magnitudes("AUTO"), [-5, np.nan])
    expected = [2.5 / np.log(10) * 0.01, np.nan]
    assert_allclose(sources.magnitude_errors("AUTO"), expected, rtol=1e-15)


def test_aperture_sums_of_photutils():
    """The columns of aperture photometry are numbered from 0."""
    table = photutils(aperture_sum_0=[1.0, 10.0], aperture_sum_1=[100.0, 1e3])
    sources = Sources(table, "photutils", apertures=("APER3", "APER5"))
    assert sources.apertures == ("APER3", "APER5", "AUTO")
    assert_allclose(sources.magnitudes("APER5"), [-5, -7.5])


def test_fluxes_are_not_taken_for_magnitudes():
    """A column with a unit of flux must be declared as fluxes."""
    table = sextractor(MAG_AUTO=[1.0, 2.0] * u.nJy)
    with pytest.raises(KS4Error, match="MAG_AUTO: expected magnitudes, found .* nJy"):
        Sources(table).magnitudes("AUTO")


@pytest.mark.parametrize("unit", [u.mag, u.ABmag, u.dimensionless_unscaled, None])
def test_units_of_magnitudes(unit):
    """Magnitudes may be quantities or have no unit."""
    table = sextractor()
    table["MAG_AUTO"].unit = unit
    for kind in (Table, QTable):
        assert_array_equal(Sources(kind(table)).magnitudes("AUTO"), [20, 21])


def test_millimagnitudes():
    """Magnitudes and uncertainties in equivalent units are converted."""
    table = sextractor(MAG_AUTO=[20e3, 21e3] * u.mmag)
    table["MAGERR_AUTO"] = [5.0, 6.0] * u.mmag
    assert_allclose(Sources(table).magnitudes("AUTO"), [20, 21], rtol=1e-15)
    assert_allclose(Sources(table).magnitude_errors("AUTO"), [5e-3, 6e-3], rtol=1e-15)


def test_sky():
    """Sky positions are in degrees, from angles in any unit or from coordinates."""
    table = sextractor()
    expected = [[10.0, 11.0], [-62.0, -61.0]]
    assert_array_equal(Sources(table).sky(), expected)
    table["ALPHA_J2000"] = (table["ALPHA_J2000"].quantity).to(u.rad)
    assert_allclose(Sources(QTable(table)).sky(), expected, rtol=1e-15)
    coordinates = SkyCoord(*expected, unit="deg").galactic
    sources = Sources(photutils(sky_centroid=coordinates), "photutils")
    assert_allclose(sources.sky(), expected, rtol=1e-13)


def test_no_sky():
    """A column of None, as of an image without a WCS, has no sky positions."""
    table = photutils(sky_centroid=np.array([None, None]))
    for catalog in (table, photutils()):
        with pytest.raises(
            KS4Error,
            match="no sky coordinates in sky_centroid or .*: its columns are x",
        ):
            Sources(catalog, "photutils").sky()
    table = sextractor(ALPHA_J2000=[1.0, 2.0] * u.pix)
    with pytest.raises(KS4Error, match="ALPHA_J2000: expected deg .* found pix"):
        Sources(table).sky()
    table["ALPHA_J2000"].unit = u.Unit("furlongs", parse_strict="silent")
    with pytest.raises(KS4Error, match="ALPHA_J2000: expected deg .* found furlongs"):
        Sources(table).sky()


def test_good_stars():
    """Good stars have flags of 0 and a class above 0.8."""
    table = sextractor(FLAGS=[0, 1], IMAFLAGS_ISO=[0, 0], CLASS_STAR=[0.9, 0.9])
    assert_array_equal(Sources(table).good_stars(strict=True), [True, False])
    table["CLASS_STAR"] = [0.8, 0.9]
    table["FLAGS"] = MaskedColumn([0, 0], mask=[False, True])
    assert_array_equal(Sources(table).good_stars(), [False, False])


def test_cuts_of_missing_columns():
    """Missing columns of cuts are an error only with strict=True."""
    table = sextractor(FLAGS=[0, 1])
    assert_array_equal(Sources(table).good_stars(), [True, False])
    with pytest.raises(
        KS4Error, match="the cuts of DR1 require the column IMAFLAGS_ISO"
    ):
        Sources(table).good_stars(strict=True)


def test_own_names():
    """Columns may have any names."""
    table = Table({"x": [1.0], "y": [2.0], "m": [[15.0, 16.0]], "dm": [0.1]})
    names = {"x": "x", "y": "y", "first_pixel": 0, "errors": {"APER5": "dm"}}
    names["magnitudes"] = {"APER5": ("m", 1)}
    for columns in (names, SourceColumns(**names)):
        sources = Sources(table, columns)
        assert_array_equal(sources.positions(), [[1], [2]])
        assert_array_equal(sources.magnitudes("APER5"), [16])
        assert_array_equal(sources.magnitude_errors("APER5"), [0.1])


@pytest.mark.parametrize(
    ("columns", "culprit"),
    [
        ("SExtractor", "columns must be one of sextractor, photutils, or a dict"),
        (5, "columns must be one of"),
        ({"x": "x"}, "expected the keys x and y, .* found x"),
        ({"x": "x", "y": "y", "mag": "m"}, "optionally dec, .*; found x, y, mag"),
    ],
)
def test_bad_columns(columns, culprit):
    """Unknown presets and parameters are refused; the error is also a ValueError."""
    with pytest.raises(OptionError, match=culprit):
        Sources(sextractor(), columns)


def test_missing_columns():
    """The missing column is named, and those of the catalog."""
    table = sextractor()
    table.remove_column("X_IMAGE")
    with pytest.raises(
        KS4Error, match="no column X_IMAGE or .*: its columns are Y_IMAGE, ALPHA_J2000"
    ):
        Sources(table).positions()
    table.remove_columns(["MAG_AUTO", "MAG_APER"])
    with pytest.raises(
        KS4Error, match="aperture AUTO .*MAG_AUTO.*, only of no aperture"
    ):
        Sources(table).place_of("AUTO")
    with pytest.raises(OptionError, match="must be an astropy Table, got dict"):
        Sources({})


def test_plain_columns():
    """Masked values of each class become NaN, in a copy."""
    masked = MaskedColumn([1, 2], mask=[False, True])
    quantity = Masked([1.0, 2.0] * u.mag, mask=[False, True])
    array = Masked(np.array([1.0, 2.0]), mask=[False, True])
    for values in (masked, quantity, array):
        table = QTable({"a": values})
        assert_array_equal(plain_column(table, "a"), [1, np.nan])
        plain_column(table, "a")[:] = 5
        assert table["a"][0] == values[0]
    assert_array_equal(plain_column(Table({"a": [True, False]}), "a"), [1, 0])


@pytest.mark.parametrize(
    ("values", "element", "culprit"),
    [
        (["a", "b"], None, "expected numbers, found <U1, such as .*'a'.*; convert"),
        (SkyCoord([1, 2], [3, 4], unit="deg"), None, "expected numbers"),
        (np.ones((2, 3)), None, r"one number per row, .* \(3,\); specify an element"),
        (np.ones((2, 3)), 3, "expected an element from 0 to 2, got 3"),
    ],
)
def test_columns_without_numbers(values, element, culprit):
    """Columns of text, coordinates or vectors do not have one number per row."""
    with pytest.raises(KS4Error, match=culprit):
        plain_column(Table({"a": values}), "a", element)


def test_input_is_untouched():
    """No method changes the catalog."""
    for table, columns in ((sextractor(), "sextractor"), (photutils(), "photutils")):
        before = deepcopy(table)
        sources = Sources(table, columns)
        for aperture in sources.apertures:
            sources.magnitudes(aperture)[:] = 0
            sources.magnitude_errors(aperture)[:] = 0
        sources.positions()[0][:] = 0
        sources.good_stars()[:] = False
        if sources.has("ra"):
            sources.sky()[0][:] = 0
        assert table.colnames == before.colnames
        for name in table.colnames:
            assert_array_equal(table[name], before[name])


@pytest.mark.parametrize(
    ("columns", "culprit"),
    [
        ({"magnitudes": ["MAG_AUTO"]}, "magnitudes"),
        ({"errors": {"AUTO": 5}}, "errors"),
        ({"x": 5}, "x"),
        ({"star_class": 5}, "star_class"),
        ({"first_pixel": "1"}, "first_pixel"),
    ],
)
def test_columns_of_other_types(columns, culprit):
    """The parameter of a wrong type is named; the error is also a ValueError."""
    with pytest.raises(OptionError, match=f"^{culprit} of columns: expected"):
        Sources(sextractor(), {"x": "X_IMAGE", "y": "Y_IMAGE"} | columns)


def test_a_single_flag():
    """A single name is not taken for a sequence of letters."""
    columns = {"x": "X_IMAGE", "y": "Y_IMAGE", "flags": "FLAGS"}
    assert not Sources(sextractor(FLAGS=[4, 4]), columns).good_stars().any()


def test_apertures_of_other_types():
    """A number is not accepted as a sequence of names."""
    with pytest.raises(OptionError, match="apertures must name the 4 apertures"):
        Sources(sextractor(), apertures=4)


# Columns of SExtractor by other names


@pytest.mark.parametrize("name", ["{}WIN_IMAGE", "{}_IMAGE_DBL"])
def test_other_pixel_coordinates(name):
    """XWIN_IMAGE and X_IMAGE_DBL replace a missing X_IMAGE, in pairs."""
    table = sextractor()
    for axis in "XY":
        table[name.format(axis)] = table[f"{axis}_IMAGE"] + 0.25
    assert_array_equal(Sources(table).positions()[0], [0, 10])
    table.remove_column("Y_IMAGE")
    x, y = Sources(table).positions()
    assert_array_equal(x, [0.25, 10.25])
    assert_array_equal(y, [1.25, 11.25])


def test_sky_coordinates_in_pairs():
    """RA and declination are of the same pair of columns."""
    table = sextractor(ALPHAWIN_J2000=[20.0, 21.0], DELTAWIN_J2000=[-30.0, -31.0])
    assert_array_equal(Sources(table).sky(), [[10, 11], [-62, -61]])
    table.remove_column("ALPHA_J2000")
    assert_array_equal(Sources(table).sky(), [[20, 21], [-30, -31]])


@pytest.mark.parametrize("unit", ["pixel", "pix", "pixels", "Pixel", "[pixel]", None])
def test_units_of_pixels(unit):
    """Pixel coordinates may have no unit, or the unit pixel in any spelling."""
    table = sextractor()
    table["X_IMAGE"].unit = unit
    assert_array_equal(Sources(table).positions()[0], [0, 10])


def test_pixels_in_arcsec():
    """Angles are not accepted as pixel coordinates."""
    table = sextractor(X_IMAGE=[1.0, 11.0] * u.arcsec)
    with pytest.raises(KS4Error, match="X_IMAGE: expected pix .*, found arcsec"):
        Sources(table).positions()


@pytest.mark.parametrize(
    "unit", ["deg", "[deg]", "degrees", "DEGREE", "Deg", "degree", "DEG", ""]
)
@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot", "dict"])
def test_units_of_angles_in_files(unit, suffix, tmp_path):
    """Degrees and magnitudes are read in any spelling from any format."""
    table = sextractor()
    units = {"DELTA_J2000": unit, "MAG_AUTO": "Mag" if unit.isupper() else "[mag]"}
    if suffix in ("fits", "vot"):
        # astropy writes standard units only.
        path = tmp_path / f"a.{suffix}"
        write_table(table, path)
        content = path.read_bytes()
        for name, own in units.items():
            written = str(table[name].unit)
            if suffix == "fits":
                number = table.colnames.index(name) + 1
                old, new = (f"TUNIT{number:<3}= '{w:<8}'" for w in (written, own))
            else:
                old, new = (f'{name}" unit="{w}"' for w in (written, own))
            content = content.replace(old.encode(), new.encode())
        path.write_bytes(content)
        table = read_table(path)
    else:
        for name, own in units.items():
            values, own = table[name].value, u.Unit(own, parse_strict="silent")
            table[name] = Column(values, unit=own)
        if suffix == "ecsv":
            write_table(table, tmp_path / "a.ecsv")
            table = read_table(tmp_path / "a.ecsv")
    assert str(table["MAG_AUTO"].unit) == units["MAG_AUTO"]
    sources = Sources(table)
    assert_array_equal(sources.sky()[1], [-62, -61])
    assert_array_equal(sources.magnitudes("AUTO"), [20, 21])


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("arcsecs", u.arcsec),
        ("[mas/yr]", u.mas / u.yr),
        ("MAS/YEAR", u.mas / u.yr),
        ("milliarcsec yr-1", u.mas / u.yr),
        ("years", u.yr),
        ("ADU", u.adu),
        ("counts", u.ct),
        ("mag(AB)", u.ABmag),
        ("ABmag", u.ABmag),
        ("nmgy", u.nmgy),
        ("---", None),
        ("", u.dimensionless_unscaled),
        (None, None),
    ],
)
@pytest.mark.parametrize("form", ["generic", "fits", "vounit"])
def test_spellings_of_units(spelling, unit, form):
    """Spellings are understood in any format, also by astropy's parser."""

    class Spelled:
        unit = None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if spelling is not None:
            Spelled.unit = u.Unit(spelling, format=form, parse_strict="silent")
    assert unit_of(Spelled) == unit


def test_unknown_units():
    """Unknown units are returned for messages."""
    unit = u.Unit("furlongs", parse_strict="silent")
    assert str(unit_of(Column([1.0], unit=unit))) == "furlongs"
    own = u.def_unit("cubit", 0.5 * u.m)
    assert unit_of([1.0] * own) is own


# Zero points contained in magnitudes


def test_zero_point_of_magnitudes():
    """The zero point is subtracted from magnitudes, not from uncertainties."""
    table = sextractor()
    plain, shifted = Sources(table), Sources(table, mag_zeropoint=30)
    for aperture in plain.apertures:
        magnitudes = plain.magnitudes(aperture)
        assert_array_equal(shifted.magnitudes(aperture), magnitudes - 30)
        assert_array_equal(
            shifted.magnitude_errors(aperture), plain.magnitude_errors(aperture)
        )


@pytest.mark.parametrize("keyword", ["MATCHMZP", "SEXMGZPT"])
def test_recorded_zero_points(keyword):
    """Recorded zero points must agree; that of match_catalogs is also the default."""
    table = sextractor()
    table.meta[keyword] = 30.0
    assert Sources(table, mag_zeropoint=30).mag_zeropoint == 30
    with pytest.raises(KS4Error, match=f"{keyword} .* found mag_zeropoint=28"):
        Sources(table, mag_zeropoint=28)
    if keyword == "MATCHMZP":
        assert Sources(table).mag_zeropoint == 30
    else:
        with pytest.raises(KS4Error, match="found none; give mag_zeropoint=30"):
            Sources(table).magnitudes("AUTO")
    # Positions do not depend on zero points, and invalid records are ignored.
    Sources(table).positions()
    table.meta[keyword] = "unknown"
    assert Sources(table).mag_zeropoint == 0


@pytest.mark.parametrize(
    ("flavour", "columns", "expected"),
    [
        ("photutils", {"sky_centroid": SkyCoord([1], [2], unit="deg")}, True),
        ("photutils", {"sky_centroid": [None]}, False),
        ("sextractor", {"ALPHA_J2000": [1.0], "DELTA_J2000": [2.0]}, True),
        ("sextractor", {"ALPHA_J2000": [1.0]}, False),
    ],
)
def test_sky_positions_in_any_columns(flavour, columns, expected):
    """They are a column of coordinates, or two of angles."""
    assert Sources(Table(columns), flavour).has_sky == expected


_DAOPHOT = """
import sys
from ks4_ccd.catalogs.columns import PRESETS, SourceColumns
PRESETS["daophot"] = SourceColumns(x="XCENTER", y="YCENTER")
from ks4_ccd.cli import main
sys.exit(main(["catalog", "--help"]))
"""


def test_a_new_flavour(monkeypatch):
    """An entry of the table of presets adds a flavour."""
    daophot = SourceColumns(x="XCENTER", y="YCENTER", magnitudes={"AUTO": "MAG"})
    monkeypatch.setitem(PRESETS, "daophot", daophot)
    table = Table({"XCENTER": [25.0], "YCENTER": [25.0], "MAG": [-10.0]})
    zpmap = ZeroPointMap([[29.9]], grid=MapGrid((1, 1), 50))
    calibrated = calibrate_catalog(
        table, {"AUTO": zpmap}, columns="daophot", zp_error="ignore"
    )
    assert_allclose(calibrated["MAG_AUTO"], 19.9)


def test_a_new_flavour_in_the_command():
    """The command has the choices of the same table."""
    # In a separate process, because options are defined at import.
    done = subprocess.run(
        [sys.executable, "-c", _DAOPHOT], capture_output=True, text=True, check=True
    )
    assert "daophot" in done.stdout
