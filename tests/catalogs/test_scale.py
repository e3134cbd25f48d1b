# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test contained zero points, missing values and units of magnitudes and fluxes."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table

from ks4_ccd import (
    AlreadyCalibratedError,
    KS4Error,
    MapGrid,
    MapMismatchError,
    OffsetMap,
    ZeroPointMap,
    calibrate_catalog,
)

ZEROPOINT, ZPERR = 29.95, 0.03
MISSING = [
    99,
    -99,
    99.999,
    99.99,
    999,
    -999,
    9999,
    1.8e308,
    90,
    np.inf,
    -np.inf,
    np.nan,
]
APER = ("APER3", "APER5")


@pytest.fixture
def zpmap():
    """Return a map of one zero point and one uncertainty."""
    array = np.ones((2, 2))
    return ZeroPointMap(
        ZEROPOINT * array,
        error=ZPERR * array,
        grid=MapGrid((2, 2), 50),
    )


def catalog(magnitudes=None, errors=None, **columns):
    """Return sources with magnitudes of 14 to 21 for a zero point of 0."""
    if magnitudes is None:
        magnitudes = np.linspace(14, 21, 20) - ZEROPOINT
    n = len(magnitudes)
    table = Table({"X_IMAGE": np.linspace(5, 95, n), "Y_IMAGE": np.linspace(5, 95, n)})
    table["MAG_AUTO"] = magnitudes
    table["MAGERR_AUTO"] = np.full(n, 0.04) if errors is None else errors
    for name, values in columns.items():
        table[name] = values
    return table


def masked(column):
    """Return the mask of a column."""
    return np.ma.getmaskarray(column)


# Zero points contained in magnitudes


@pytest.mark.parametrize("zeropoint", [30.0, 25, 28.5 - 1e-9])
@pytest.mark.parametrize("method", ["bilinear", "nearest", "dr1"])
def test_zero_point_of_the_magnitudes(zpmap, zeropoint, method):
    """mag_zeropoint is subtracted from magnitudes once, and recorded."""
    table = catalog()
    expected = calibrate_catalog(table, zpmap, method=method, flux=True)
    assert expected.meta["KS4ZPMZP"] == 0
    table["MAG_AUTO"] += zeropoint
    before = table.copy()
    result = calibrate_catalog(
        table, zpmap, method=method, flux=True, mag_zeropoint=zeropoint
    )
    for name in ("MAG_AUTO", "MAGERR_AUTO", "ZP_AUTO", "FLUX_AUTO", "FLUXERR_AUTO"):
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-12)
    assert result.meta["KS4ZPMZP"] == zeropoint
    np.testing.assert_array_equal(table["MAG_AUTO"], before["MAG_AUTO"])


def test_missing_values_before_the_subtraction(zpmap):
    """99 remains a missing value if 30 is subtracted."""
    table = catalog(np.array([16.0, 99.0, 17.0, -99.0]))
    result = calibrate_catalog(table, zpmap, mag_zeropoint=30)
    np.testing.assert_array_equal(masked(result["MAG_AUTO"]), [0, 1, 0, 1])
    assert result["MAG_AUTO"][0] == pytest.approx(16 - 30 + ZEROPOINT)


@pytest.mark.parametrize("shift", [30.0, 25.0, 18.0])
def test_magnitudes_that_contain_a_zero_point(zpmap, shift):
    """Magnitudes that contain a zero point would be fainter than any source."""
    table = catalog()
    table["MAG_AUTO"] += shift
    with pytest.raises(AlreadyCalibratedError, match="MAG_AUTO: expected .*mag_zero"):
        calibrate_catalog(table, zpmap)
    with pytest.raises(AlreadyCalibratedError):
        calibrate_catalog(table, zpmap, recalibrate=True, method="dr1")


def test_a_median_of_exactly_30(zpmap):
    """Medians between 0 and 30 are accepted."""
    for limit in (30.0, 0.0):
        table = catalog(np.full(3, limit - ZEROPOINT))
        table["MAG_AUTO"] = np.nextafter(table["MAG_AUTO"], 15 - ZEROPOINT)
        assert len(calibrate_catalog(table, zpmap)) == 3
    with pytest.raises(AlreadyCalibratedError, match="found 30.01"):
        calibrate_catalog(catalog(np.full(3, 30.01 - ZEROPOINT)), zpmap)


def test_the_median_decides_not_single_sources(zpmap):
    """A few magnitudes outside these limits are accepted."""
    table = catalog()
    table["MAG_AUTO"][:3] = 40.0
    assert calibrate_catalog(table, zpmap)["MAG_AUTO"][0] == 40 + ZEROPOINT


def test_medians_of_many_sources(zpmap):
    """A large catalog is refused by the median of all sources, not that of a sample."""
    rows = 40_000
    table = catalog(np.full(rows, 16.0) - ZEROPOINT)
    for mark in (99.0, 15.0):
        table["MAG_AUTO"][:: rows // 10_000] = mark
        result = calibrate_catalog(table, zpmap)
        assert np.ma.median(result["MAG_AUTO"]) == pytest.approx(16)
    table["MAG_AUTO"] = 15.0
    with pytest.raises(AlreadyCalibratedError, match="found 44.95"):
        calibrate_catalog(table, zpmap)


@pytest.mark.parametrize("given", [30.0, None])
def test_magnitudes_too_bright(zpmap, given):
    """A zero point that was subtracted but not contained is an error."""
    table = catalog() if given else catalog(np.full(4, -40.0))
    culprit = "mag_zeropoint=30 was subtracted" if given else "give the zero-point map"
    with pytest.raises(MapMismatchError, match=culprit):
        calibrate_catalog(table, zpmap, mag_zeropoint=given)


def test_only_the_aperture_concerned_is_named(zpmap):
    """All apertures are checked, and the wrong one is named."""
    table = catalog(MAG_APER5=catalog()["MAG_AUTO"] + 30)
    with pytest.raises(AlreadyCalibratedError, match=r"MAG_APER5: .*aperture APER5 "):
        calibrate_catalog(table, {"AUTO": zpmap, "APER5": zpmap})


def test_no_magnitudes(zpmap):
    """Catalogs without rows or without magnitudes are accepted."""
    assert len(calibrate_catalog(catalog()[:0], zpmap)) == 0
    with pytest.warns(UserWarning, match="no source has a magnitude"):
        result = calibrate_catalog(catalog(np.full(2, 99.0)), zpmap)
    assert masked(result["MAG_AUTO"]).all()


def test_zero_points_with_a_unit(zpmap):
    """The zero point may be a quantity, in instrumental or AB magnitudes."""
    table = catalog()
    table["MAG_AUTO"] += 30
    for given in (30 * u.mag, 30 * u.ABmag, np.float32(30)):
        result = calibrate_catalog(table, zpmap, mag_zeropoint=given)
        assert result["MAG_AUTO"][0] == pytest.approx(14)
        assert type(result.meta["KS4ZPMZP"]) is float


@pytest.mark.parametrize(
    "wrong", ["thirty", np.nan, np.inf, [30, 30], True, 30 * u.Jy, 30 * u.STmag]
)
def test_zero_points_of_other_types(zpmap, wrong):
    """Other values are refused, and the argument is named."""
    with pytest.raises(KS4Error, match="mag_zeropoint must be a finite number"):
        calibrate_catalog(catalog(), zpmap, mag_zeropoint=wrong)


def test_zero_point_of_sextractor_is_checked(zpmap):
    """SEXMGZPT must agree with mag_zeropoint; it is removed after the calibration."""
    table = catalog()
    table["MAG_AUTO"] += 30
    table.meta["SEXMGZPT"] = 30.0
    for given in (None, 0, 28.0):
        with pytest.raises(KS4Error, match="SEXMGZPT in its meta records .* of 30"):
            calibrate_catalog(table, zpmap, mag_zeropoint=given)
    result = calibrate_catalog(table, zpmap, mag_zeropoint=30.0004)
    assert result.meta["KS4ZPMZP"] == 30.0004
    assert "SEXMGZPT" not in result.meta
    assert table.meta == {"SEXMGZPT": 30.0}
    table.meta["SEXMGZPT"] = "30.0"
    with pytest.raises(KS4Error, match="records that they contain a zero point of 30"):
        calibrate_catalog(table, zpmap)
    table = catalog()
    table.meta["SEXMGZPT"] = 0.0
    assert "KS4ZPMZP" in calibrate_catalog(table, zpmap).meta


# Missing measurements


def per_aperture(kind, values):
    """Return columns with values in APER5, and the options for them."""
    if kind == "vector":
        columns = {"MAG_APER": np.column_stack([np.full(len(values), -12.0), values])}
        return columns, {"apertures": APER}
    return {"MAG_APER5": values}, {}


@pytest.mark.parametrize("dtype", ["f8", "f4", ">f4"])
@pytest.mark.parametrize("kind", ["scalar", "vector", "masked", "quantity"])
def test_missing_magnitudes_are_masked(zpmap, dtype, kind):
    """Magnitudes of 90 or more in absolute value are missing."""
    with np.errstate(over="ignore"):
        values = np.array([*MISSING, -12.0, -13.0]).astype(dtype)
    table = catalog(np.full(len(values), -12.0))
    columns, options = per_aperture(kind, values)
    expected = [True] * len(MISSING) + [False, kind == "masked"]
    for name, column in columns.items():
        table[name] = column
        if kind == "masked":
            table[name] = MaskedColumn(
                column, mask=[False] * (len(values) - 1) + [True]
            )
        if kind == "quantity":
            table[name].unit = "mag"
            table = QTable(table)
    maps = dict.fromkeys(
        (*APER, "AUTO") if kind == "vector" else ("APER5", "AUTO"), zpmap
    )
    result = Table(calibrate_catalog(table, maps, **options))
    np.testing.assert_array_equal(masked(result["MAG_APER5"]), expected)
    for name in maps.keys() - {"APER5"}:
        assert not masked(result[f"MAG_{name}"]).any()


def test_missing_errors_are_masked(zpmap):
    """So are uncertainties; their magnitudes are not masked."""
    with np.errstate(over="ignore"):
        errors = np.array([*MISSING, 0.04], "f4")
    result = calibrate_catalog(catalog(np.full(errors.size, -12.0), errors), zpmap)
    expected = [True] * len(MISSING) + [False]
    np.testing.assert_array_equal(masked(result["MAGERR_AUTO"]), expected)
    assert result["MAGERR_AUTO"][-1] == pytest.approx(0.05)
    assert not masked(result["MAG_AUTO"]).any()


def test_missing_integers(zpmap):
    """Integer magnitudes and missing values are treated as floats."""
    table = catalog(np.array([-12, 99, -99, 9999]), np.array([0, 99, 0, -99]))
    result = calibrate_catalog(table, zpmap)
    np.testing.assert_array_equal(masked(result["MAG_AUTO"]), [0, 1, 1, 1])
    np.testing.assert_array_equal(masked(result["MAGERR_AUTO"]), [0, 1, 1, 1])


def test_magnitudes_below_90(zpmap):
    """A magnitude below 90 is a measurement."""
    table = catalog(np.array([-12.0, -12.0, -12.0, 89.99, -89.99]))
    result = calibrate_catalog(table, zpmap)
    assert not masked(result["MAG_AUTO"]).any()


# Units


def counts(unit, value=1000.0):
    """Return photometry of photutils in a unit."""
    table = QTable({"xcentroid": [10.0, 20.0], "ycentroid": [10.0, 20.0]})
    table["kron_flux"] = [value, -value] * u.Unit(unit)
    table["kron_fluxerr"] = [value / 100, value / 100] * u.Unit(unit)
    return table


@pytest.mark.parametrize("unit", ["adu", "ct", "DN", "count", ""])
def test_counts_by_any_name(zpmap, unit):
    """adu, DN, counts and no unit are the same unit."""
    result = calibrate_catalog(counts(unit), zpmap, columns="photutils", flux=True)
    result = Table(result)
    assert result["MAG_AUTO"][0] == pytest.approx(-7.5 + ZEROPOINT)
    assert result["FLUX_AUTO"][1] < 0


@pytest.mark.parametrize(
    ("unit", "remedy"),
    [
        ("electron", "divide by the gain"),
        ("ph", "divide by the gain"),
        ("adu/s", "multiply by the exposure time"),
        ("electron/s", "divide by the gain .* and multiply by the exposure"),
        ("adu2", "convert other units to adu"),
        ("mag", "convert other units to adu"),
    ],
)
def test_other_fluxes_are_refused(zpmap, unit, remedy):
    """Fluxes in other units than that of the map are refused, with a remedy."""
    with pytest.raises(KS4Error, match=f"kron_flux: expected fluxes in adu.*{remedy}"):
        calibrate_catalog(counts(unit), zpmap, columns="photutils")
    table = counts("adu")
    table["kron_fluxerr"] = table["kron_fluxerr"].value * u.Unit(unit)
    with pytest.raises(KS4Error, match="kron_fluxerr: expected fluxes in adu"):
        calibrate_catalog(table, zpmap, columns="photutils")


def test_maps_of_electrons(zpmap):
    """A map of images in electrons calibrates fluxes in electrons."""
    expected = calibrate_catalog(counts("adu"), zpmap, columns="photutils", flux=True)
    array = np.ones((2, 2))
    electrons = ZeroPointMap(
        zpmap.values, ZPERR * array, grid=zpmap.grid, image_unit="electron"
    )
    options = {"columns": "photutils", "flux": True}
    result = calibrate_catalog(counts("electron"), electrons, **options)
    for name in ("MAG_AUTO", "MAGERR_AUTO", "FLUX_AUTO", "FLUXERR_AUTO"):
        np.testing.assert_array_equal(Table(result)[name], Table(expected)[name])
    with pytest.raises(KS4Error, match="expected fluxes in electron, .* found adu"):
        calibrate_catalog(counts("adu"), electrons, **options)
    thousands = counts("adu", 1.0)
    for name in ("kron_flux", "kron_fluxerr"):
        thousands[name] = thousands[name].value * u.Unit("1000 adu")
    result = calibrate_catalog(thousands, zpmap, **options)
    np.testing.assert_allclose(result["FLUX_AUTO"], expected["FLUX_AUTO"])


@pytest.mark.parametrize("unit", ["nJy", "nmgy", "mgy", "erg / (s cm2 Hz)"])
def test_physical_fluxes_are_calibrated(zpmap, unit):
    """Physical fluxes are refused."""
    with pytest.raises(AlreadyCalibratedError, match="kron_flux is in"):
        calibrate_catalog(counts(unit), zpmap, columns="photutils", recalibrate=True)


def test_physical_fluxes_without_a_unit(zpmap):
    """Fluxes in Jy or maggies without a unit result in magnitudes beyond 30."""
    with pytest.raises(MapMismatchError, match="give fluxes in adu"):
        calibrate_catalog(counts("", 1e-5), zpmap, columns="photutils")


def test_no_zero_point_in_fluxes(zpmap):
    """mag_zeropoint is refused for fluxes."""
    with pytest.raises(
        KS4Error, match="mag_zeropoint=30: expected magnitudes, found f"
    ):
        calibrate_catalog(counts("adu"), zpmap, columns="photutils", mag_zeropoint=30)
    result = calibrate_catalog(counts("adu"), zpmap, columns="photutils")
    assert "KS4ZPMZP" not in result.meta


@pytest.mark.parametrize("unit", ["[mag]", "mags", "Mag", "MAG", "magnitude"])
@pytest.mark.parametrize("kind", [Table, QTable])
def test_magnitudes_by_any_name(zpmap, unit, kind):
    """Spellings of mag are accepted; the result has astropy's unit."""
    table = catalog()
    for name in ("MAG_AUTO", "MAGERR_AUTO"):
        table[name].unit = unit
    expected = calibrate_catalog(catalog(), zpmap)
    result = calibrate_catalog(kind(table), zpmap)
    np.testing.assert_array_equal(Table(result)["MAG_AUTO"], expected["MAG_AUTO"])
    assert result["MAG_AUTO"].unit == u.mag


@pytest.mark.parametrize("unit", ["[deg]", "DEGREE", "degrees"])
def test_corrected_positions_by_any_name(zpmap, unit):
    """Sky coordinates are corrected in their unit, and keep its spelling."""
    dra, ddec = np.full((2, 2), 3.6), np.full((2, 2), 7.2)
    offsets = OffsetMap(dra, ddec, grid=zpmap.grid)
    table = catalog(ALPHA_J2000=np.full(20, 10.0), DELTA_J2000=np.full(20, 0.0))
    for name in ("ALPHA_J2000", "DELTA_J2000"):
        table[name].unit = u.Unit(unit, parse_strict="silent")
    result = calibrate_catalog(table, [zpmap, offsets])
    np.testing.assert_allclose(result["ALPHA_J2000"].value, 10.001, rtol=1e-9)
    np.testing.assert_allclose(result["DELTA_J2000"].value, 0.002, rtol=1e-6)
    assert str(result["ALPHA_J2000"].unit) == unit


@pytest.mark.parametrize("unit", ["mag(AB)", "ABmag", "AB mag", "mag_AB", "mag [AB]"])
def test_ab_magnitudes_by_any_name(zpmap, unit):
    """AB magnitudes are refused in any spelling."""
    table = catalog()
    table["MAG_AUTO"].unit = u.Unit(unit, parse_strict="silent")
    with pytest.raises(AlreadyCalibratedError, match="MAG_AUTO is in"):
        calibrate_catalog(table, zpmap)


@pytest.mark.parametrize("unit", ["dex", "dB", "mag / s", "mag / arcsec2"])
def test_other_units_than_magnitudes(zpmap, unit):
    """Units that increase with the flux are refused, for uncertainties, too."""
    for name in ("MAG_AUTO", "MAGERR_AUTO"):
        table = catalog()
        table[name].unit = unit
        with pytest.raises(KS4Error, match=f"{name}: expected magnitudes"):
            calibrate_catalog(table, zpmap)


def test_magnitudes_of_rates(zpmap):
    """Magnitudes of count rates have another zero point, and are refused."""
    table = QTable(catalog())
    table["MAG_AUTO"] = u.Magnitude(table["MAG_AUTO"].value, u.mag(u.ct / u.s))
    with pytest.raises(KS4Error, match="instrumental or AB magnitudes"):
        calibrate_catalog(table, zpmap)
    table["MAG_AUTO"] = u.Magnitude(table["MAG_AUTO"].value, u.mag(u.ct))
    assert calibrate_catalog(table, zpmap)["MAG_AUTO"][0].value == pytest.approx(14)
