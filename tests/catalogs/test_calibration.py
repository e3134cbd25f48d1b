# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test calibrated catalogs against literal indexing, map values and true magnitudes."""

import copy

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.stats import mad_std
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from ks4_ccd import (
    AlreadyCalibratedError,
    DirectionlessMapError,
    GeometryError,
    KS4Error,
    KS4Warning,
    MapGrid,
    MapKey,
    MapLibrary,
    MapMismatchError,
    MapNotFoundError,
    MisalignmentMap,
    OffsetMap,
    ZeroPointMap,
    calibrate_catalog,
    field_center,
    simulate_field,
)
from ks4_ccd.ks4.names import APERTURES

SHAPE, SIZE = (5, 4), 20
WIDTH, HEIGHT = 100, 80
VECTOR = APERTURES[:4]


@pytest.fixture
def make_maps(make_map, make_key):
    """Return a factory of zero-point maps of all apertures."""

    def make(apertures=APERTURES, **options):
        key_options = {k: options.pop(k) for k in ("field", "band") if k in options}
        return {
            aperture: make_map(
                seed=seed, key=make_key(aperture=aperture, **key_options), **options
            )
            for seed, aperture in enumerate(apertures, 5)
        }

    return make


@pytest.fixture
def misalignment():
    """Return a misalignment map with cells half as wide, one of them empty."""
    rng = np.random.default_rng(3)
    count = rng.integers(1, 30, (10, 8))
    count[2, 3] = 0
    values, error = rng.uniform(0.02, 0.2, (2, 10, 8)) * (count > 0)
    return MisalignmentMap(values, error, count, grid=MapGrid((10, 8), 10))


@pytest.fixture
def offset_map():
    """Return an offset map with offsets of some arcsec."""
    dra, ddec = np.random.default_rng(4).normal(0, 2, (2, 5, 4))
    return OffsetMap(dra, ddec, grid=MapGrid(SHAPE, SIZE))


def stack_wcs(field, image_shape=(HEIGHT, WIDTH)):
    """Return the WCS of a small stack of a field."""
    center = field_center(field)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = center.ra.deg, center.dec.deg
    wcs.wcs.crpix = [(n + 1) / 2 for n in reversed(image_shape)]
    wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    return wcs


def make_catalog(
    rows=300, dtype=np.float32, *, seed=0, field="0403", image_shape=(HEIGHT, WIDTH)
):
    """Return a catalog with SExtractor's columns and some missing magnitudes."""
    rng = np.random.default_rng(seed)
    magnitudes = rng.normal(-9, 2, (rows, 5)).astype(dtype)
    errors = rng.uniform(0.001, 0.3, (rows, 5)).astype(dtype)
    missing = rng.random((rows, 5)) < 0.05
    magnitudes[missing], errors[missing] = 99, 99
    x = rng.uniform(0.5, WIDTH + 0.5, rows).astype(dtype)
    y = rng.uniform(0.5, HEIGHT + 0.5, rows).astype(dtype)
    ra, dec = stack_wcs(field, image_shape).wcs_pix2world(x, y, 1)
    table = Table(
        {
            "NUMBER": np.arange(rows),
            "ALPHA_J2000": ra,
            "DELTA_J2000": dec,
            "X_IMAGE": x,
            "Y_IMAGE": y,
            "MAG_APER": magnitudes[:, :4],
            "MAGERR_APER": errors[:, :4],
            "MAG_AUTO": magnitudes[:, 4],
            "MAGERR_AUTO": errors[:, 4],
            "FLAGS": np.zeros(rows, np.int16),
        }
    )
    for name in ("ALPHA_J2000", "DELTA_J2000"):
        table[name].unit = "deg"
    for name in ("MAG_APER", "MAGERR_APER", "MAG_AUTO", "MAGERR_AUTO"):
        table[name].unit = "mag"
        table[name].format = "%8.4f"
    table["FLAGS"].description = "of the extraction"
    table.meta["COMMENT"] = ["a catalog"]
    return table


def instrumental(table, aperture, what="MAG"):
    """Return the column of an aperture of the raw catalog, in float64."""
    if aperture == "AUTO":
        return np.asarray(table[f"{what}_AUTO"], float)
    return np.asarray(table[f"{what}_APER"], float)[:, VECTOR.index(aperture)]


def bare(column):
    """Return the values of a column of any class, without its mask."""
    return np.asarray(getattr(column, "unmasked", column).view(np.ndarray))


def is_masked(column):
    """Return the mask of a column of any class."""
    return np.broadcast_to(getattr(column, "mask", False), np.shape(column))


def assert_tables_equal(actual, expected, names=None):
    """Compare values, masks, dtypes, units, formats and descriptions of columns."""
    for name in names or expected.colnames:
        for part in ("unit", "format", "description", "dtype"):
            assert getattr(actual[name].info, part) == getattr(
                expected[name].info, part
            ), (name, part)
        assert type(actual[name]) is type(expected[name])
        np.testing.assert_array_equal(
            is_masked(actual[name]), is_masked(expected[name])
        )
        np.testing.assert_array_equal(bare(actual[name]), bare(expected[name]))


# Method "dr1"


def literal_dr1(table, maps, misalignment, size):
    """
    Calibrate a catalog as the code of DR1 does.

    Returns a dict of columns; magnitudes are those of the catalog plus zp.
    """
    columns = {}

    def cells(n, size):
        edges = np.arange(0, n + 1) * size
        x, y = np.asarray(table["X_IMAGE"]), np.asarray(table["Y_IMAGE"])
        return tuple(np.clip(np.digitize(p, edges) - 1, 0, n - 1) for p in (x, y))

    for aperture, zpmap in maps.items():
        n = zpmap.values.shape[0]
        i, j = cells(n, size)
        zp, zperr = zpmap.values[i, j], zpmap.error[i, j]
        columns[f"ZP_{aperture}"], columns[f"ZPERR_{aperture}"] = zp, zperr
        columns[f"NUMPHOTO_{aperture}"] = columns["NUMPHOTO"] = zpmap.count[i, j]
        magnitude = instrumental(table, aperture)
        error = instrumental(table, aperture, "MAGERR")
        dtype = table["MAG_AUTO"].dtype.newbyteorder("=")
        columns[f"MAG_{aperture}"] = (magnitude + zp).astype(dtype)
        columns[f"MAGERR_{aperture}"] = np.hypot(error, zperr).astype(dtype)
    n = misalignment.values.shape[0]
    i, j = cells(n, size / 2)
    columns["MISALIGN"] = misalignment.values[i, j]
    columns["MISALIGNERR"] = misalignment.error[i, j]
    columns["NUMASTRO"] = misalignment.count[i, j]
    return columns


def assert_equals_literal(result, table, literal):
    """Compare every row; missing magnitudes of the catalog remain missing."""
    for name, expected in literal.items():
        missing = np.zeros(len(table), bool)
        if name.startswith("MAG"):
            missing = instrumental(table, name.split("_")[1]) == 99
        if name.startswith("MAGERR"):
            missing |= instrumental(table, name.split("_")[1], "MAGERR") >= 90
        np.testing.assert_array_equal(is_masked(result[name]), missing, err_msg=name)
        np.testing.assert_array_equal(
            bare(result[name])[~missing], expected[~missing], err_msg=name
        )


@pytest.mark.parametrize("mode", ["single", "dual"])
def test_dr1_equals_indexing_of_the_archives(ks4_data, mode):
    """Method "dr1" equals indexing for the acceptance catalogs, to the last bit."""
    table = Table.read(ks4_data / "catalogs" / f"ks4_0000_R_{mode}.fits")
    with MapLibrary(ks4_data / "archives") as library:
        maps = {a: library.zeropoint("0000", "R", mode, a) for a in APERTURES}
        misalignment = library.misalignment("0000", "R", mode)
        result = calibrate_catalog(
            table, library, field="0000", band="R", mode=mode, method="dr1"
        )
    literal = literal_dr1(table, maps, misalignment, 400)
    assert_equals_literal(result, table, literal)
    np.testing.assert_array_equal(result["ZPFLAG"], literal["NUMPHOTO"] == 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_dr1_equals_indexing_on_edges_and_beyond(make_maps, dtype):
    """It does so on the edges of cells, one rounding beside them, and off the image."""
    edges = np.arange(-1, 8) * SIZE
    beside = (np.nextafter(edges, t, dtype=np.float32) for t in (-np.inf, np.inf))
    x = np.concatenate([edges, *beside])
    x, y = (p.ravel() for p in np.meshgrid(x, x))
    table = make_catalog(x.size, dtype)
    table["X_IMAGE"], table["Y_IMAGE"] = x.astype(dtype), y.astype(dtype)
    table.remove_columns(["ALPHA_J2000", "DELTA_J2000"])
    maps = make_maps(shape=(4, 4))
    rng = np.random.default_rng(0)
    values, error = rng.uniform(0.01, 0.1, (2, 8, 8))
    fine = MapGrid((8, 8), SIZE / 2)
    misalignment = MisalignmentMap(values, error, 1 * (values > 0.05), grid=fine)
    result = calibrate_catalog(
        table,
        maps,
        misalignment=misalignment,
        method="dr1",
        uncalibrated="fill",
        origin=(0, 0),
    )
    assert_equals_literal(result, table, literal_dr1(table, maps, misalignment, SIZE))


# The other methods


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("error_kind", ["scatter", "median"])
@pytest.mark.parametrize("reduction", [{}, {"smooth": 1.2}, {"denoise": "none"}])
def test_values_are_those_of_the_maps(
    make_maps, misalignment, method, error_kind, reduction
):
    """Zero points and uncertainties are the map values at the positions."""
    table, maps = make_catalog(), make_maps()
    options = {"method": method, "error_kind": error_kind, **reduction}
    result = calibrate_catalog(
        table, maps, misalignment=misalignment, uncalibrated="fill", **options
    )
    x, y = (np.asarray(table[f"{axis}_IMAGE"], float) - 1 for axis in "XY")
    for aperture, zpmap in maps.items():
        if "smooth" in reduction:
            zpmap = zpmap.smoothed(reduction["smooth"])
        elif reduction:
            zpmap = zpmap.denoised(None)
        zp = zpmap.at(x, y, method)
        error = zpmap.error_at(x, y, method=method, error_kind=error_kind)
        np.testing.assert_allclose(result[f"ZP_{aperture}"], zp, rtol=1e-14)
        np.testing.assert_allclose(result[f"ZPERR_{aperture}"], error, rtol=1e-12)
        good = instrumental(table, aperture) != 99
        np.testing.assert_array_equal(is_masked(result[f"MAG_{aperture}"]), ~good)
        np.testing.assert_allclose(
            bare(result[f"MAG_{aperture}"])[good],
            (instrumental(table, aperture) + zp)[good],
            rtol=1e-7,
        )
        np.testing.assert_allclose(
            bare(result[f"MAGERR_{aperture}"])[good],
            np.hypot(instrumental(table, aperture, "MAGERR"), error)[good],
            rtol=1e-7,
        )
    np.testing.assert_allclose(
        result["MISALIGN"], misalignment.at(x, y, method), rtol=1e-12
    )
    np.testing.assert_allclose(
        result["MISALIGNERR"], misalignment.error_at(x, y, method=method), rtol=1e-12
    )
    cell = misalignment.grid.cell_of(x, y)
    np.testing.assert_array_equal(result["NUMASTRO"], misalignment.count[cell])


def test_columns_are_those_of_dr1(make_maps, misalignment):
    """The vector column is split in place, and columns have units and descriptions."""
    table = make_catalog()
    result = calibrate_catalog(table, make_maps(), misalignment=misalignment)
    names = list(table.colnames)
    for name in ("MAG_APER", "MAGERR_APER"):
        place, prefix = names.index(name), name.split("_")[0]
        names[place : place + 1] = [f"{prefix}_{aperture}" for aperture in VECTOR]
    per_aperture = [
        f"{prefix}_{a}" for a in APERTURES for prefix in ("ZP", "ZPERR", "NUMPHOTO")
    ]
    quality = ["MISALIGN", "MISALIGNERR", "NUMASTRO", "NUMPHOTO", "ZPFLAG"]
    assert result.colnames == names + per_aperture + quality
    units = {"MAG": "mag", "MAGERR": "mag", "ZP": "mag", "ZPERR": "mag"}
    units |= {"MISALIGN": "arcsec", "MISALIGNERR": "arcsec"}
    for name in result.colnames:
        if name not in table.colnames or name.startswith("MAG"):
            unit = units.get(name.split("_")[0])
            assert result[name].unit == (unit and u.Unit(unit)), name
            assert result[name].description, name
    assert result["MAG_APER3"].format == "%8.4f"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_in_is_dtype_out(make_maps, dtype):
    """Magnitudes keep their dtype."""
    result = calibrate_catalog(make_catalog(dtype=dtype), make_maps(), flux=True)
    for name in ("MAG", "MAGERR", "FLUX", "FLUXERR"):
        for aperture in ("APER5", "AUTO"):
            assert result[f"{name}_{aperture}"].dtype == dtype


def test_numphoto_is_of_the_last_aperture(make_maps):
    """NUMPHOTO is that of AUTO, or else of the last aperture."""
    table, maps = make_catalog(), make_maps()
    result = calibrate_catalog(table, maps)
    np.testing.assert_array_equal(result["NUMPHOTO"], result["NUMPHOTO_AUTO"])
    del maps["AUTO"]
    with pytest.warns(KS4Warning, match="AUTO"):
        result = calibrate_catalog(table, maps)
    np.testing.assert_array_equal(result["NUMPHOTO"], result["NUMPHOTO_APER10"])


def test_errors_can_be_ignored(make_maps):
    """With zp_error="ignore" MAGERR is unchanged, and maps need no uncertainties."""
    table, maps = make_catalog(), make_maps(empty=0)
    result = calibrate_catalog(table, maps, zp_error="ignore")
    good = ~is_masked(result["MAGERR_AUTO"])
    np.testing.assert_array_equal(
        bare(result["MAGERR_AUTO"])[good], table["MAGERR_AUTO"][good]
    )
    assert "ZPERR_AUTO" in result.colnames
    bare_maps = {a: ZeroPointMap(m.values, grid=m.grid) for a, m in maps.items()}
    with pytest.raises(KS4Error, match="no error array"):
        calibrate_catalog(table, bare_maps)
    result = calibrate_catalog(table, bare_maps, zp_error="ignore")
    assert not {"ZPERR_AUTO", "NUMPHOTO", "NUMPHOTO_AUTO"} & set(result.colnames)


def test_a_catalog_without_errors(make_maps):
    """Without MAGERR the only uncertainties are those of the zero points."""
    table = make_catalog()
    table.remove_columns(["MAGERR_APER", "MAGERR_AUTO"])
    result = calibrate_catalog(table, make_maps(), flux=True)
    assert not [name for name in result.colnames if "MAGERR" in name]
    assert "FLUXERR_AUTO" not in result.colnames
    assert "ZPERR_AUTO" in result.colnames


# Kinds of tables


@pytest.mark.parametrize("kind", [Table, QTable])
def test_same_kind_out(make_maps, kind):
    """The result has the class of the input, which is not changed."""
    table = kind(make_catalog())
    before = copy.deepcopy(table)
    result = calibrate_catalog(table, make_maps(), flux=True)
    assert_tables_equal(table, before)
    assert table.meta == before.meta
    assert type(result) is kind
    column_class = u.Quantity if kind is QTable else Column
    for name in ("MAG_AUTO", "ZP_AUTO", "FLUX_AUTO"):
        assert isinstance(result[name], column_class)
    assert_tables_equal(result, before, ["NUMBER", "ALPHA_J2000", "X_IMAGE", "FLAGS"])
    assert result.meta["COMMENT"] == ["a catalog"]
    result["FLAGS"][0] = 7
    assert table["FLAGS"][0] == 0


def test_masked_columns(make_maps):
    """Masked magnitudes are missing, and masked columns remain masked columns."""
    table = make_catalog()
    table["MAG_AUTO"] = MaskedColumn(table["MAG_AUTO"], mask=table["NUMBER"] < 10)
    table["FLAGS"] = MaskedColumn(table["FLAGS"], mask=table["NUMBER"] == 3)
    result = calibrate_catalog(table, make_maps())
    assert is_masked(result["MAG_AUTO"])[:10].all()
    assert is_masked(result["MAGERR_AUTO"])[:10].all()
    table["MAG_AUTO"] = MaskedColumn(np.full(len(table), -9.0))
    whole = calibrate_catalog(table, make_maps(empty=0))
    assert isinstance(whole["MAG_AUTO"], MaskedColumn)
    np.testing.assert_array_equal(result["FLAGS"].mask, table["FLAGS"].mask)
    everything = Table(make_catalog(), masked=True)
    result = calibrate_catalog(everything, make_maps())
    assert result.masked
    assert isinstance(result["ZP_AUTO"], MaskedColumn)


@pytest.mark.parametrize("missing", [99, -99, np.nan, np.inf])
def test_missing_magnitudes_are_masked(make_maps, missing):
    """Missing magnitudes are NaN under the mask; their zero points are not masked."""
    table = make_catalog()
    table["MAG_AUTO"][5] = missing
    result = calibrate_catalog(table, make_maps(empty=0), flux=True)
    for name in ("MAG", "MAGERR", "FLUX", "FLUXERR"):
        assert is_masked(result[f"{name}_AUTO"])[5]
    assert np.isnan(bare(result["MAG_AUTO"])[5])
    assert not is_masked(result["ZP_AUTO"]).any()


def test_a_missing_error_is_masked_alone(make_maps):
    """A missing uncertainty does not mask the magnitude."""
    table = make_catalog()
    table["MAG_AUTO"][5], table["MAGERR_AUTO"][5] = -9, 99
    result = calibrate_catalog(table, make_maps(empty=0))
    assert is_masked(result["MAGERR_AUTO"])[5]
    assert not is_masked(result["MAG_AUTO"])[5]


def test_indices_and_mixins_stay(make_maps):
    """Table indices of magnitudes become indices of calibrated magnitudes."""
    table = make_catalog()
    table["sky"] = SkyCoord(table["ALPHA_J2000"], table["DELTA_J2000"])
    table["MAG_AUTO"][:] = np.linspace(-12, -5, len(table))
    table.add_index("MAG_AUTO")
    table.add_index("NUMBER", unique=True)
    result = calibrate_catalog(table, make_maps(empty=0))
    assert isinstance(result["sky"], SkyCoord)
    assert result.primary_key == ("MAG_AUTO",)
    assert result.loc[result["MAG_AUTO"][17]]["NUMBER"] == 17
    unique = {i.columns[0].info.name: i.data.unique for i in result.indices}
    assert unique == {"MAG_AUTO": False, "NUMBER": True}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 299), max_size=40))
def test_slicing_commutes_with_calibration(rows):
    """Calibrating selected rows gives these rows of the calibrated catalog."""
    rng = np.random.default_rng(1)
    count = rng.integers(0, 5, SHAPE)
    values, error = 30 + rng.normal(0, 0.1, SHAPE), 0.02 * (count > 1)
    zpmap = ZeroPointMap(values, error, count, grid=MapGrid(SHAPE, SIZE))
    table = make_catalog()
    table.remove_columns(["MAG_APER", "MAGERR_APER"])
    table["MAG_AUTO"] = MaskedColumn(table["MAG_AUTO"])
    rows = np.array([0, *rows])
    table["MAG_AUTO"][0] = -9
    whole = calibrate_catalog(table, zpmap, flux=True)
    part = calibrate_catalog(table[rows], zpmap, flux=True)
    for name in part.colnames:
        np.testing.assert_array_equal(
            is_masked(part[name]), is_masked(whole[name])[rows]
        )
        np.testing.assert_array_equal(bare(part[name]), bare(whole[name])[rows])


def test_an_empty_table(make_maps, misalignment, offset_map):
    """A table without rows has all columns of the result."""
    result = calibrate_catalog(
        make_catalog(0), make_maps(), misalignment=misalignment, offsets=offset_map
    )
    assert len(result) == 0
    assert {"MAG_FWHM", "ZP_AUTO", "MISALIGN", "ZPFLAG"} <= set(result.colnames)
    assert "KS4ZPMAP" in result.meta


# Other columns


def test_columns_of_ascii_head(make_maps):
    """Each of MAG_APER, MAG_APER_1 and so on becomes the column of its aperture."""
    table = make_catalog()
    expected = calibrate_catalog(table, make_maps())
    for name in ("MAG_APER", "MAGERR_APER"):
        vector = table[name]
        place = table.colnames.index(name)
        table.remove_column(name)
        for k in range(4)[::-1]:
            own = name if k == 0 else f"{name}_{k}"
            column = Column(vector[:, k], unit="mag", format="%8.4f")
            table.add_column(column, name=own, index=place)
    result = calibrate_catalog(table, make_maps())
    assert result.colnames == expected.colnames
    assert_tables_equal(result, expected)


def test_other_apertures(make_map, make_key):
    """Other apertures, in any order, are given by their names."""
    table = make_catalog()
    table["MAG_APER"] = table["MAG_APER"][:, :2]
    table["MAGERR_APER"] = table["MAGERR_APER"][:, :2]
    maps = {"AUTO": make_map(seed=1), "R2": make_map(seed=2), "FWHM": make_map(seed=3)}
    result = calibrate_catalog(table, maps, apertures=["R2", "FWHM"])
    np.testing.assert_allclose(
        bare(result["MAG_R2"] - result["ZP_R2"])[~is_masked(result["MAG_R2"])],
        table["MAG_APER"][:, 0][~is_masked(result["MAG_R2"])],
        atol=4e-6,
    )
    assert not {"MAG_APER", "MAGERR_APER"} & set(result.colnames)


def test_other_names(make_map):
    """Columns with own names are replaced by those of DR1."""
    table = Table({"x": [10.0], "y": [20.0], "m": [-9.0], "e": [0.1]})
    columns = {"x": "x", "y": "y", "magnitudes": {"AUTO": "m"}, "errors": {"AUTO": "e"}}
    zpmap = make_map(empty=0)
    result = calibrate_catalog(table, zpmap, columns=columns)
    assert result.colnames[:4] == ["x", "y", "MAG_AUTO", "MAGERR_AUTO"]
    assert result["MAG_AUTO"][0] == pytest.approx(zpmap.at(9, 19) - 9)


def make_photutils(flux=(1000.0, -50.0, 0.0), error=(10.0, 10.0, 10.0)):
    """Return a table with photutils' columns."""
    return QTable(
        {
            "xcentroid": [10.0, 30.0, 55.5][: len(flux)],
            "ycentroid": [20.0, 40.0, 60.0][: len(flux)],
            "kron_flux": np.array(flux),
            "kron_fluxerr": np.array(error),
        }
    )


def test_counts_of_photutils(make_map):
    """Fluxes in adu stay; magnitudes are added, and physical fluxes even below 0."""
    table, zpmap = make_photutils(), make_map(empty=0)
    result = calibrate_catalog(table, zpmap, columns="photutils", flux=True)
    np.testing.assert_array_equal(result["kron_flux"], table["kron_flux"])
    x, y = np.array(table["xcentroid"]), np.array(table["ycentroid"])
    zp, zp_error = zpmap.at(x, y), zpmap.error_at(x, y)
    assert is_masked(result["MAG_AUTO"]).tolist() == [False, True, True]
    assert bare(result["MAG_AUTO"])[0] == pytest.approx(-7.5 + zp[0])
    error = 2.5 / np.log(10) * 0.01
    assert bare(result["MAGERR_AUTO"])[0] == pytest.approx(np.hypot(error, zp_error[0]))
    factor = (zp * u.ABmag).to_value(u.nJy)
    np.testing.assert_allclose(
        result["FLUX_AUTO"].to_value(u.nJy), table["kron_flux"] * factor, rtol=1e-12
    )
    relative = 0.4 * np.log(10) * zp_error
    expected = np.hypot(10 * factor, table["kron_flux"] * factor * relative)
    np.testing.assert_allclose(result["FLUXERR_AUTO"].value, expected, rtol=1e-12)


def test_fluxes_are_ab(make_maps):
    """Fluxes are those of astropy's AB magnitudes, uncertainties to first order."""
    result = calibrate_catalog(make_catalog(dtype=float), make_maps(), flux=True)
    for aperture in APERTURES:
        good = ~is_masked(result[f"MAG_{aperture}"])
        magnitude, error, flux, flux_error = (
            bare(result[f"{what}_{aperture}"])[good]
            for what in ("MAG", "MAGERR", "FLUX", "FLUXERR")
        )
        expected = (magnitude * u.ABmag).to_value(u.nJy)
        np.testing.assert_allclose(flux, expected, rtol=1e-12)
        change = (expected - ((magnitude + 1e-4) * u.ABmag).to_value(u.nJy)) / 1e-4
        np.testing.assert_allclose(flux_error, change * error, rtol=1e-4)
        assert result[f"FLUX_{aperture}"].unit == u.nJy


def test_instrumental_fluxes_are_replaced(make_maps):
    """SExtractor's FLUX_AUTO is instrumental; with flux=True it is in nJy."""
    table = make_catalog()
    table["FLUX_AUTO"] = Column(np.ones(len(table), np.float32), unit="ct")
    assert calibrate_catalog(table, make_maps())["FLUX_AUTO"].unit == u.ct
    result = calibrate_catalog(table, make_maps(), flux=True)
    assert result["FLUX_AUTO"].unit == u.nJy
    assert result.colnames.count("FLUX_AUTO") == 1


# Cells without stars, and positions


@pytest.fixture
def sparse():
    """Return a map with stars only in the cells on the left."""
    count = np.zeros((6, 4))
    count[0] = 5
    values = np.where(count > 0, 29.5, 30)
    error = np.where(count > 0, 0.02, 0)
    return ZeroPointMap(values, error, count, grid=MapGrid((6, 4), 20))


def make_row(*x):
    """Return a catalog of one aperture with sources in a row."""
    n = len(x)
    return Table(
        {
            "X_IMAGE": np.array(x, float),
            "Y_IMAGE": np.full(n, 41.0),
            "MAG_AUTO": np.full(n, -9.0),
            "MAGERR_AUTO": np.full(n, 0.1),
        }
    )


def test_flags_describe_the_cell(sparse):
    """Flags mark cells without stars, and sources off the image or without position."""
    table = make_row(10, 30, 50, 119, 125, -3, np.nan)
    result = calibrate_catalog(table, sparse)
    assert result["ZPFLAG"].tolist() == [0, 1, 3, 3, 7, 4, 8]
    masked = [False, False, True, True, True, False, True]
    for name in ("MAG_AUTO", "MAGERR_AUTO", "ZP_AUTO", "ZPERR_AUTO"):
        assert is_masked(result[name]).tolist() == masked
    np.testing.assert_allclose(bare(result["MAG_AUTO"])[:2], 20.5)
    assert np.isnan(bare(result["MAG_AUTO"])[-1])
    for name in ("NUMPHOTO", "NUMPHOTO_AUTO"):
        assert result[name].tolist() == [5, 0, 0, 0, 0, 5, 0]
    assert "sum of 1" in result["ZPFLAG"].description


def test_a_source_without_position_has_nothing(make_map):
    """A source without a position has no misalignment and no flux, even under masks."""
    table, one = make_photutils(), np.ones((5, 4))
    table["xcentroid"][1] = np.nan
    misalignment = MisalignmentMap(one, one, 2 * one, grid=MapGrid(SHAPE, SIZE))
    result = calibrate_catalog(
        table,
        make_map(empty=0),
        misalignment=misalignment,
        columns="photutils",
        flux=True,
    )
    for name in ("MISALIGN", "MISALIGNERR", "ZP_AUTO", "FLUX_AUTO", "FLUXERR_AUTO"):
        assert is_masked(result[name]).tolist() == [False, True, False]
    for name in ("MAG_AUTO", "FLUX_AUTO", "FLUXERR_AUTO"):
        assert np.isnan(bare(result[name])[1])
    assert result["NUMASTRO"].tolist() == [2, 0, 2]


def test_uncalibrated_sources_can_be_filled_or_refused(sparse):
    """Uncalibrated sources are filled or refused, as pixels of images are."""
    table = make_row(10, 50)
    result = calibrate_catalog(table, sparse, uncalibrated="fill")
    np.testing.assert_allclose(result["MAG_AUTO"], 20.5)
    assert result["ZPFLAG"].tolist() == [0, 3]
    with pytest.raises(MapMismatchError, match="found 1 .the first in row 1."):
        calibrate_catalog(table, sparse, uncalibrated="raise")
    calibrate_catalog(table[:1], sparse, uncalibrated="raise")


def test_dr1_has_30_in_empty_cells(sparse):
    """Method "dr1" has 30 in empty cells, as DR1 has, under masks, too."""
    result = calibrate_catalog(make_row(10, 30, 50), sparse, method="dr1")
    assert bare(result["ZP_AUTO"]).tolist() == [29.5, 30, 30]
    assert bare(result["ZPERR_AUTO"]).tolist() == [0.02, 0, 0]
    assert is_masked(result["MAG_AUTO"]).tolist() == [False, False, True]
    assert bare(result["MAG_AUTO"]).tolist() == [20.5, 21, 21]


@pytest.mark.parametrize("how", ["origin", "LTV"])
def test_catalogs_of_cutouts(make_maps, how):
    """The origin of a cut-out is given by origin=, or by LTV1 and LTV2 in the meta."""
    table, maps = make_catalog(), make_maps()
    part = table[(table["X_IMAGE"] > 41) & (table["Y_IMAGE"] > 21)]
    expected = calibrate_catalog(part, maps)
    shifted = part.copy()
    shifted["X_IMAGE"] -= np.float32(40)
    shifted["Y_IMAGE"] -= np.float32(20)
    options = {}
    if how == "origin":
        options["origin"] = (40, 20)
    else:
        shifted.meta |= {"LTV1": -40.0, "LTV2": -20.0}
    result = calibrate_catalog(shifted, maps, **options)
    # Both have float32 pixel coordinates, which are rounded differently.
    np.testing.assert_allclose(result["ZP_AUTO"], expected["ZP_AUTO"], atol=1e-6)
    with pytest.raises(GeometryError, match="contradict each other. Placed by origin="):
        calibrate_catalog(shifted, maps, origin=(400, 20))
    shifted.remove_columns(["ALPHA_J2000", "DELTA_J2000"])
    with pytest.raises(GeometryError, match="not part of the stack"):
        calibrate_catalog(shifted, maps, origin=(400, 20))


@pytest.mark.parametrize("dec", [-62.0, -89.9995, 0.0, 89.99999])
def test_positions_move_by_the_offsets(make_map, offset_map, dec):
    """Positions move as in astropy, also at the pole and across RA 0."""
    table = make_row(*np.linspace(2, 98, 40))
    table["ALPHA_J2000"] = np.linspace(359.9, 360.1, 40) % 360
    table["DELTA_J2000"] = np.full(40, dec)
    result = calibrate_catalog(table, make_map(empty=0), offsets=offset_map)
    before, after = (
        SkyCoord(t["ALPHA_J2000"], t["DELTA_J2000"], unit="deg")
        for t in (table, result)
    )
    dra, ddec = offset_map.at(np.asarray(table["X_IMAGE"]) - 1, 40)
    expected = before.spherical_offsets_by(dra * u.arcsec, ddec * u.arcsec)
    # Both differ in the second order of offsets of some arcsec.
    assert after.separation(expected).to_value(u.arcsec).max() < 1e-3
    if abs(dec) < 89:
        assert after.separation(expected).to_value(u.arcsec).max() < 1e-4
        moved = (result["ALPHA_J2000"] - table["ALPHA_J2000"] + 180) % 360 - 180
        on_sky = moved * np.cos(np.radians(dec)) * 3600
        np.testing.assert_allclose(on_sky, dra, atol=1e-3)
    assert ((result["ALPHA_J2000"] >= 0) & (result["ALPHA_J2000"] < 360)).all()
    assert result.meta["KS4OFMAP"] == offset_map.name


def test_all_columns_of_positions_are_corrected(make_map, offset_map):
    """Windowed positions are corrected, too, in their units and dtypes."""
    table = make_row(10, 30, np.nan)
    sky = np.array([10.0, 11, 12]), np.array([-30.0, -31, -32])
    for ra, dec, unit in (
        ("ALPHA_J2000", "DELTA_J2000", "deg"),
        ("ALPHAWIN_J2000", "DELTAWIN_J2000", "rad"),
    ):
        for name, angle in zip((ra, dec), sky, strict=True):
            table[name] = Column((angle * u.deg).to_value(unit), unit=unit)
    for kind in (Table, QTable):
        result = calibrate_catalog(kind(table), make_map(empty=0), offsets=offset_map)
        for name in ("ALPHA", "DELTA"):
            plain, windowed = (
                u.Quantity(result[f"{name}{w}_J2000"]).to_value("deg")
                for w in ("", "WIN")
            )
            np.testing.assert_allclose(plain, windowed, rtol=1e-14)
            assert result[f"{name}WIN_J2000"].unit == u.rad
            assert (plain[:2] != sky[name == "DELTA"][:2]).all()
            np.testing.assert_allclose(plain[2], sky[name == "DELTA"][2], rtol=1e-15)


def test_sky_coordinates_of_photutils(make_map, offset_map):
    """A SkyCoord column is corrected in its own frame."""
    table = make_photutils((10.0, 20.0), (1.0, 1.0))
    sky = SkyCoord([10, 11], [-30, -31], unit="deg")
    table["sky_centroid"] = sky.galactic
    options = {"columns": "photutils", "offsets": offset_map}
    result = calibrate_catalog(table, make_map(empty=0), **options)
    assert result["sky_centroid"].frame.name == "galactic"
    x, y = (np.array(table[f"{axis}centroid"]) for axis in "xy")
    moved = sky.spherical_offsets_by(*(o * u.arcsec for o in offset_map.at(x, y)))
    assert moved.separation(result["sky_centroid"]).arcsec.max() < 1e-4


def test_a_second_correction_is_refused(make_map, offset_map):
    """Corrected positions are refused unless offsets="ignore"."""
    table = make_row(10, 30)
    table["ALPHA_J2000"], table["DELTA_J2000"] = [10.0, 10.0], [-30.0, -30.0]
    zpmap = make_map(empty=0)
    result = calibrate_catalog(table, [zpmap, offset_map])
    assert (result["ALPHA_J2000"] != table["ALPHA_J2000"]).all()
    # As in a catalog measured on an image with corrected positions.
    table.meta["KS4OFMAP"] = result.meta["KS4OFMAP"]
    with pytest.raises(AlreadyCalibratedError, match="KS4OFMAP"):
        calibrate_catalog(table, [zpmap, offset_map])
    again = calibrate_catalog(table, [zpmap, offset_map], offsets="ignore")
    np.testing.assert_array_equal(again["ALPHA_J2000"], table["ALPHA_J2000"])


@pytest.fixture(scope="module")
def simulated():
    """Return a simulated field."""
    return simulate_field((660, 660), map_shape=(33, 33), field="0403", seed=1)


def test_calibration_reduces_errors(simulated, tmp_path):
    """Calibration reduces magnitude and position errors of a simulated field."""
    paths = simulated.write(tmp_path)
    table = simulated.sources.copy()
    table.meta |= {"FIELD1": "0403", "FILTER": "R"}
    with MapLibrary(tmp_path, image_shape=(660, 660)) as library:
        result = calibrate_catalog(table, library)
        plain = calibrate_catalog(table, library, method="dr1")
    truth = simulated.reference[simulated.reference["MAG"] < 17]
    sky = SkyCoord(truth["RA"], truth["DEC"], unit="deg")
    measured = SkyCoord(table["ALPHA_J2000"], table["DELTA_J2000"])
    of_truth, _, _ = sky.match_to_catalog_sky(measured)

    def scatter(magnitudes):
        difference = magnitudes[of_truth] - truth["MAG"]
        return mad_std(difference)

    def distance(t):
        own = SkyCoord(t["ALPHA_J2000"], t["DELTA_J2000"])[of_truth]
        return np.median(own.separation(sky).to_value(u.arcsec))

    raw = scatter(table["MAG_APER"][:, 3])
    assert scatter(result["MAG_APER10"]) < 0.4 * raw
    assert distance(result) < 0.4 * distance(table)
    assert result.meta["KS4OFMAP"] == "dra_map_0403_R_single.npy"
    # DR1 has no offset maps.
    assert distance(plain) == distance(table)
    asked = calibrate_catalog(
        table, simulated.maps, method="dr1", offsets=simulated.offsets
    )
    assert distance(asked) == distance(result)
    by_path = calibrate_catalog(table, simulated.maps, offsets=simulated.offsets)
    np.testing.assert_array_equal(by_path["ALPHA_J2000"], result["ALPHA_J2000"])
    assert paths.offsets.is_dir()


# Records, files


@pytest.mark.parametrize("form", ["fits", "ascii.ecsv", "votable"])
@pytest.mark.parametrize("kind", [Table, QTable])
def test_files_keep_the_refusal(make_maps, tmp_path, form, kind):
    """Calibrated catalogs that were written and read are equal, and refused."""
    maps = make_maps()
    result = calibrate_catalog(kind(make_catalog()), maps, flux=True)
    path = tmp_path / "calibrated"
    result.write(path, format=form)
    back = kind.read(path, format=form)
    for name in result.colnames:
        masked = is_masked(result[name])
        np.testing.assert_array_equal(is_masked(back[name]), masked)
        np.testing.assert_array_equal(
            bare(back[name])[~masked], bare(result[name])[~masked]
        )
        assert back[name].unit == result[name].unit
    with pytest.raises(AlreadyCalibratedError, match="calibrated before"):
        calibrate_catalog(back, maps)


def test_a_catalog_of_a_calibrated_image(make_maps):
    """recalibrate=True calibrates magnitudes measured on a calibrated image."""
    maps = make_maps(empty=0)
    first = calibrate_catalog(make_catalog(), maps)
    assert first.meta["KS4ZPNUM"] == 1
    assert first.meta["KS4ZPMAP"].split(", ") == [m.name for m in maps.values()]
    table = make_catalog()
    table.meta |= {"KS4ZPMAP": "zp_map_0403_R_single_APER5", "KS4ZPNUM": 1}
    with pytest.raises(AlreadyCalibratedError, match="recalibrate=True"):
        calibrate_catalog(table, maps)
    second = calibrate_catalog(table, maps, recalibrate=True)
    assert second.meta["KS4ZPNUM"] == 2
    np.testing.assert_array_equal(bare(second["MAG_AUTO"]), bare(first["MAG_AUTO"]))


@pytest.mark.parametrize("recalibrate", [False, True])
def test_a_catalog_never_gets_a_second_zero_point(make_maps, tmp_path, recalibrate):
    """Calibrated magnitudes are refused by their columns, or else by the meta."""
    options = {"recalibrate": recalibrate}
    maps = make_maps(empty=0)
    table = calibrate_catalog(make_catalog(), maps)
    with pytest.raises(AlreadyCalibratedError, match=r"ZP_FWHM, .* KS4ZPMAP in its"):
        calibrate_catalog(table, maps, **options)
    table.write(tmp_path / "calibrated.fits")
    table = Table.read(tmp_path / "calibrated.fits")
    table.remove_columns([name for name in table.colnames if name.startswith("ZP")])
    with pytest.raises(AlreadyCalibratedError, match="found KS4ZPMAP in its meta, KS4"):
        calibrate_catalog(table, maps, **options)


@pytest.mark.parametrize("recalibrate", [False, True])
@pytest.mark.parametrize(
    "name",
    ["ZP_AUTO", "ZPERR_APER3", "zp_aper5", "zperr_auto_r", "R_ZP_AUTO", "ZPFLAG", "zp"],
)
def test_published_catalogs_are_calibrated(make_maps, name, recalibrate):
    """Published catalogs are refused by their columns of zero points."""
    table = make_catalog()
    table[name] = 30.0
    with pytest.raises(AlreadyCalibratedError, match=f"found column {name}. A second"):
        calibrate_catalog(table, make_maps(), recalibrate=recalibrate)


@pytest.mark.parametrize("name", ["ZPOS", "XZP1", "NUMPHOTO", "RAZP_OFF", "MAGZP"])
def test_other_columns_are_no_zero_points(make_maps, name):
    """Names that merely contain the letters ZP are accepted."""
    table = make_catalog()
    table[name] = 30.0
    assert "ZP_AUTO" in calibrate_catalog(table, make_maps()).colnames


def test_counts_are_calibrated_again(make_map):
    """Fluxes remain in adu, so that another map replaces the magnitudes."""
    table, maps = make_photutils(), [make_map(seed=seed, empty=0) for seed in (1, 2)]
    first, expected = (
        calibrate_catalog(table, zpmap, columns="photutils") for zpmap in maps
    )
    with pytest.raises(AlreadyCalibratedError, match="recalibrate=True"):
        calibrate_catalog(first, maps[1], columns="photutils")
    again = calibrate_catalog(first, maps[1], columns="photutils", recalibrate=True)
    for name in ("MAG_AUTO", "ZP_AUTO", "ZPERR_AUTO"):
        np.testing.assert_array_equal(bare(again[name])[0], bare(expected[name])[0])
    assert bare(again["MAG_AUTO"])[0] != bare(first["MAG_AUTO"])[0]


@pytest.mark.parametrize("unit", [u.ABmag, "mag(AB)"])
def test_ab_magnitudes_are_calibrated(make_map, unit):
    """AB magnitudes are refused, with recalibrate=True, too."""
    table = make_row(10)
    table["MAG_AUTO"].unit = unit
    with pytest.raises(AlreadyCalibratedError, match="MAG_AUTO"):
        calibrate_catalog(table, make_map(), recalibrate=True)


def test_physical_fluxes_are_calibrated(make_map):
    """Physical fluxes of a calibrated image are refused."""
    table = make_photutils()
    table["kron_flux"] = table["kron_flux"] * u.nJy
    with pytest.raises(AlreadyCalibratedError, match="kron_flux is in nJy"):
        calibrate_catalog(table, make_map(), columns="photutils")


# Maps


def test_some_apertures_have_no_map(make_maps):
    """Apertures without a map are left unchanged, with a warning that names them."""
    table = make_catalog()
    with pytest.warns(KS4Warning, match="APER3, APER10 of the catalog"):
        result = calibrate_catalog(table, make_maps(("FWHM", "APER5", "AUTO")))
    assert_tables_equal(result, table, ["MAG_APER", "MAGERR_APER"])
    assert {"MAG_FWHM", "MAG_APER5", "ZP_AUTO"} <= set(result.colnames)
    assert not {"MAG_APER3", "ZP_APER10"} & set(result.colnames)


@pytest.mark.parametrize(
    "form", ["path", "paths", "iterator", "library", "dict", "list", "one"]
)
def test_maps_in_all_forms(make_maps, tmp_path, form):
    """All forms of the argument give the same result."""
    maps = make_maps()
    for zpmap in maps.values():
        zpmap.save(tmp_path)
    table = make_catalog()
    expected = calibrate_catalog(table, maps)
    # A library requires the size of the image.
    table.meta |= {"FIELD1": 403, "FILTER": "R", "KS4NAX1": WIDTH, "KS4NAX2": HEIGHT}
    library = MapLibrary(tmp_path)
    given = {
        "path": tmp_path,
        "paths": [str(tmp_path)],
        "iterator": iter([tmp_path]),
        "library": library,
        "dict": maps,
        "list": (zpmap for zpmap in maps.values()),
        "one": maps["AUTO"],
    }[form]
    if form == "one":
        table.remove_columns(["MAG_APER", "MAGERR_APER"])
    result = calibrate_catalog(table, given)
    names = ["MAG_AUTO", "ZP_AUTO"] if form == "one" else expected.colnames
    assert_tables_equal(result, expected, names)
    assert result.meta["KS4ZPMAP"].endswith("AUTO.npy")
    library.close()


def test_field_and_band_by_argument(make_maps, tmp_path):
    """Field and band are arguments or in the meta, and must not contradict it."""
    maps = make_maps(shape=(5, 5))
    for zpmap in maps.values():
        zpmap.save(tmp_path)
    table = make_catalog(image_shape=(100, 100))
    with MapLibrary(tmp_path, image_shape=(100, 100)) as library:
        with pytest.raises(MapMismatchError, match="field= and band="):
            calibrate_catalog(table, library)
        with pytest.raises(MapMismatchError, match="give field="):
            calibrate_catalog(table, library, band="R")
        calibrate_catalog(table, library, field="0403", band="R")
        with pytest.raises(MapNotFoundError, match="0404"):
            calibrate_catalog(table, library, field="0404", band="R")
        table.meta["FIELD1"] = "0404"
        with pytest.raises(MapMismatchError, match="field 0404"):
            calibrate_catalog(table, library, field="0403", band="R")
    with pytest.raises(MapMismatchError, match="band I"):
        calibrate_catalog(make_catalog(), maps, band="I")


def test_no_aperture_has_a_map(make_map, make_key):
    """The message names the apertures of the catalog and of the maps."""
    table = make_row(10)
    zpmap = make_map(key=make_key(aperture="APER3"))
    with pytest.raises(
        MapNotFoundError, match="of the catalog .AUTO., found maps of APER3"
    ):
        calibrate_catalog(table, [zpmap])
    table.remove_column("MAG_AUTO")
    with pytest.raises(MapNotFoundError, match=".none., found maps of APER3"):
        calibrate_catalog(table, [zpmap])


@pytest.mark.parametrize("zp_error", ["propagate", "ignore"])
@pytest.mark.parametrize("kind", ["scatter", "median"])
def test_uncertainties_are_described_by_kind(make_map, kind, zp_error):
    """The description of ZPERR is that of its kind, propagated or not."""
    zpmap = make_map()
    options = {"error_kind": kind, "zp_error": zp_error}
    calibrated = calibrate_catalog(make_row(10), zpmap, **options)
    (name,) = (name for name in calibrated.colnames if name.startswith("ZPERR_"))
    expected = {"scatter": "standard deviation", "median": "standard error"}[kind]
    assert expected in calibrated[name].description
    aperture = name.removeprefix("ZPERR_")
    words = calibrated[f"MAGERR_{aperture}"].description
    assert ("including" in words) == (zp_error == "propagate")


def test_a_map_without_an_aperture(make_map):
    """A map without a key is that of the only aperture, or is given in a dict."""
    calibrate_catalog(make_row(10), make_map())
    with pytest.raises(KS4Error, match="give a dict"):
        calibrate_catalog(make_catalog(), make_map())
    for nothing in ([], None, 5):
        with pytest.raises(KS4Error):
            calibrate_catalog(make_row(10), nothing, field="0403", band="R")
    with pytest.raises(KS4Error, match="found two"):
        calibrate_catalog(make_row(10), [make_map(), make_map()])


def test_maps_of_other_fields_are_refused(make_maps, make_map, make_key):
    """Other fields are refused by the meta, the other maps and the sky positions."""
    table, maps = make_catalog(), make_maps()
    table.meta["FIELD1"] = "0404"
    with pytest.raises(MapMismatchError, match="field 0404"):
        calibrate_catalog(table, maps)
    mixed = maps | {"AUTO": make_map(key=make_key(band="I", aperture="AUTO"))}
    with pytest.raises(MapMismatchError, match="maps of one band"):
        calibrate_catalog(make_catalog(), mixed)
    with pytest.raises(MapMismatchError, match="not in field 0403"):
        calibrate_catalog(make_catalog(field="0404"), maps)


def test_misalignment_may_be_of_the_other_mode(make_map, make_key):
    """DR1 has misalignment maps of mode single only; zero points are of one mode."""
    dual = make_map(key=make_key(mode="dual", aperture="AUTO"))
    single = make_map(key=make_key(aperture="FWHM"))
    key = MapKey("align", "0403", "R", "single")
    misalignment = MisalignmentMap(np.ones(SHAPE), grid=dual.grid, key=key)
    table = make_row(10)
    result = calibrate_catalog(table, [dual, misalignment], origin=(0, 0))
    assert "MISALIGN" in result.colnames
    table["MAG_FWHM"] = [-8.0]
    with pytest.raises(MapMismatchError, match="maps of one mode"):
        calibrate_catalog(table, [dual, single])


def test_a_corner_of_the_field_is_in_it(make_maps):
    """Sources in the corner of a stack are in the field; other tilings are unknown."""
    whole = (22000, 22000)
    table = make_catalog(image_shape=whole)
    for name in ("X_IMAGE", "Y_IMAGE"):
        table[name] += np.float32(21900)
    corner = stack_wcs("0403", whole).wcs_pix2world(
        table["X_IMAGE"], table["Y_IMAGE"], 1
    )
    table["ALPHA_J2000"], table["DELTA_J2000"] = corner
    for sources, maps in (
        (table, make_maps(cell_size=(4400, 5500))),
        (make_catalog(field="0404"), make_maps(field="5000")),
    ):
        # Neither off the image nor without a position.
        assert (calibrate_catalog(sources, maps)["ZPFLAG"] < 4).all()


def test_maps_of_other_images_are_refused(make_maps, make_map):
    """Maps may have cells of different sizes, but not cover different images."""
    maps = make_maps()
    other = make_map((10, 8), grid=MapGrid((10, 8), 10))
    result = calibrate_catalog(make_catalog(), maps | {"APER3": other})
    assert (result["NUMPHOTO"] == result["NUMPHOTO_AUTO"]).all()
    x, y = (np.asarray(make_catalog()[f"{axis}_IMAGE"], float) - 1 for axis in "XY")
    good = ~is_masked(result["ZP_APER3"])
    np.testing.assert_allclose(
        bare(result["ZP_APER3"])[good], other.at(x, y)[good], rtol=1e-14
    )
    with pytest.raises(MapMismatchError, match="maps of one image"):
        calibrate_catalog(make_catalog(), maps | {"AUTO": make_map(cell_size=40)})
    flat = np.full((5, 5), 0.1)
    offsets = OffsetMap(flat, flat, grid=MapGrid((5, 5), SIZE))
    with pytest.raises(MapMismatchError, match="maps of one image"):
        calibrate_catalog(make_catalog(), maps, offsets=offsets)


def test_maps_without_direction(make_map, misalignment):
    """A misalignment map corrects neither positions nor magnitudes."""
    table = make_row(10)
    with pytest.raises(DirectionlessMapError, match="separations"):
        calibrate_catalog(table, make_map(), offsets=misalignment)
    with pytest.raises(DirectionlessMapError, match="zero points"):
        calibrate_catalog(table, {"AUTO": misalignment})
    with pytest.raises(KS4Error, match="MisalignmentMap"):
        calibrate_catalog(table, make_map(), misalignment=make_map())


def test_offsets_need_positions(make_map, offset_map):
    """Missing sky coordinates cannot be corrected."""
    with pytest.raises(KS4Error, match="ALPHA_J2000"):
        calibrate_catalog(make_row(10), make_map(), offsets=offset_map)


def test_flagged_fields_warn(make_map, make_key):
    """A field that DR1 flags results in a warning, as for images."""
    zpmap = make_map(key=make_key("1311", "V", aperture="AUTO"))
    with pytest.warns(KS4Warning, match="flags field 1311"):
        calibrate_catalog(make_row(10), zpmap, origin=(0, 0))


# Bad input


def test_missing_columns_are_named(make_map):
    """A missing column is named, with the columns of the catalog."""
    table = make_row(10)
    table.remove_column("X_IMAGE")
    with pytest.raises(
        KS4Error, match="no column X_IMAGE or .*: its columns are Y_IMAGE"
    ):
        calibrate_catalog(table, make_map())


def test_fluxes_as_magnitudes_are_refused(make_map):
    """Fluxes in a column of magnitudes are refused, with a remedy."""
    table = make_row(10)
    table["MAG_AUTO"].unit = "ct"
    with pytest.raises(KS4Error, match="fluxes=True"):
        calibrate_catalog(table, make_map())


def test_no_magnitude_at_all(make_map):
    """If all magnitudes are NaN, they are masked, with a warning."""
    table = make_row(10, 30)
    table["MAG_AUTO"][:] = np.nan
    with pytest.warns(KS4Warning, match="no source has a magnitude in AUTO"):
        result = calibrate_catalog(table, make_map(empty=0))
    assert is_masked(result["MAG_AUTO"]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"method": "cubic"},
        {"zp_error": "add"},
        {"error_kind": "mean"},
        {"uncalibrated": "drop"},
        {"columns": "daophot"},
        {"origin": "corner"},
        {"apertures": ["AUTO"]},
        {"apertures": "AUTO"},
        {"misalignment": "align"},
    ],
)
def test_options_are_checked(make_maps, options):
    """A wrong option is named; the error is a KS4Error and a ValueError."""
    with pytest.raises(KS4Error, match=next(iter(options))) as caught:
        calibrate_catalog(make_catalog(), make_maps(), **options)
    assert isinstance(caught.value, ValueError)


def test_other_classes_are_refused(make_map):
    """Other objects than tables are refused by their class."""
    with pytest.raises(KS4Error, match="ndarray"):
        calibrate_catalog(np.zeros(3), make_map())


def test_fluxes_that_overflow_are_masked(make_maps):
    """Fluxes that overflow are masked, without a warning of numpy."""
    table = make_catalog(5)
    table["MAG_AUTO"][0] = -2000
    calibrated = calibrate_catalog(table, make_maps(), flux=True)
    assert is_masked(calibrated["FLUX_AUTO"]).tolist() == [True] + 4 * [False]
