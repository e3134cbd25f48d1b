# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the builders of maps: recipe of DR1, accuracy, edges and arguments."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable, Table, vstack
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd import (
    MapLibrary,
    apply_zeropoint,
    build_maps,
    build_misalignment_map,
    build_offset_map,
    build_zeropoint_map,
    cross_validate,
    simulate_field,
)
from ks4_ccd.cli import main
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    GeometryError,
    KS4Error,
    MapMismatchError,
    OptionError,
)

STACK = (22000, 22000)
AMPLIFIERS = np.arange(1, 16) * 1375.0 - 1, [10999.0]
CHIPS = [10999.0], [10999.0]


@pytest.fixture(scope="module")
def field():
    """A simulated field of 2200 x 2200 pixels."""
    return simulate_field(seed=5)


@pytest.fixture
def make_stars():
    """A factory of matched stars about a zero point and an offset."""

    def make(n=800, size=1000, *, seed=1, noise=0.01, zeropoint=None, offset=None):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(-0.5, size - 0.5, (2, n))
        mag = rng.uniform(14.5, 18.5, n)
        zero = 30 + (zeropoint(x, y) if zeropoint else 0)
        dra, ddec = offset(x, y) if offset else np.zeros((2, n))
        table = Table({"X_IMAGE": x + 1, "Y_IMAGE": y + 1})
        table["MAG_AUTO"] = mag - zero + noise * rng.normal(size=n)
        table["MAGERR_AUTO"] = np.full(n, max(noise, 1e-4))
        table["FLAGS"] = table["IMAFLAGS_ISO"] = np.zeros(n, int)
        table["CLASS_STAR"] = np.ones(n)
        table["Rmag"], table["e_Rmag"], table["Vmag"] = mag, 0 * mag, mag
        table["dra"] = dra + noise * rng.normal(size=n)
        table["ddec"] = ddec + noise * rng.normal(size=n)
        table["sep"] = np.hypot(table["dra"], table["ddec"]) / 3600
        return table

    return make


def build(table, size=1000, **options):
    """Return the zero-point map of AUTO."""
    options = {"band": "R", "aperture": "AUTO", "shape": (20, 20)} | options
    return build_zeropoint_map(table, (size, size), **options)


def step(x, y):
    """Return a zero point with a step of 0.1 mag at x = 500."""
    return np.where(x >= 500, 0.1, 0.0) + 1e-5 * y


# The recipe of DR1


def assert_maps_equal(made, published):
    """Assert that counts are equal, and medians and deviations to 1e-12."""
    assert_array_equal(made.count, published.count)
    assert_allclose(made.values, published.values, rtol=0, atol=1e-12)
    assert_allclose(made.error, published.error, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("band", "mode"), [("R", "single"), ("R", "dual"), ("I", "single")]
)
def test_command_reproduces_the_published_maps(ks4_data, tmp_path, capsys, band, mode):
    """The recipe of DR1 reproduces the published maps of all apertures and modes."""
    catalogs = ks4_data / "catalogs"
    command = ["build", catalogs / f"ks4_0000_{band}_{mode}.fits"]
    command += ["--reference", catalogs / "gaiaxp_0000.fits", "--recipe", "dr1"]
    command += ["--field", "0000", "--band", band, "--mode", mode, "-o", tmp_path]
    if mode == "dual":
        command += ["--single", catalogs / f"ks4_0000_{band}_single.fits"]
    assert main(list(map(str, command))) == 0
    assert "6 maps" in capsys.readouterr().out
    with (
        MapLibrary(tmp_path) as made,
        MapLibrary(ks4_data / "archives") as published,
    ):
        assert_maps_equal(
            made.misalignment("0000", band, mode),
            published.misalignment("0000", band, mode),
        )
        for aperture in ("FWHM", "APER3", "APER5", "APER10", "AUTO"):
            where = "0000", band, mode, aperture
            assert_maps_equal(made.zeropoint(*where), published.zeropoint(*where))


def test_table_of_the_pipeline(ks4_data):
    """Separations without a unit are read in degrees, as the pipeline writes them."""
    matched = Table.read(ks4_data / "catalogs" / "matched.0000.R.single.fits")
    with MapLibrary(ks4_data / "archives") as published:
        made = build_zeropoint_map(matched, band="R", aperture="AUTO", recipe="dr1")
        assert_maps_equal(made, published.zeropoint("0000", "R", aperture="AUTO"))


# Accuracy


def truth_of(ks4_data):
    """Return the matched stars, positions on the stack, and the truth there."""
    matched = Table.read(ks4_data / "catalogs" / "matched.0000.R.single.fits")
    with np.load(ks4_data / "truth" / "truth_0000_R.npz") as file:
        x, y = np.meshgrid(file["grid"] - 1, file["grid"] - 1, indexing="ij")
        return matched, x, y, file["zp"], file["offset"]


@pytest.mark.parametrize(
    ("aperture", "edges", "limit"),
    [
        ("APER10", None, 0.0044),
        ("AUTO", None, 0.0046),
        ("APER10", AMPLIFIERS, 0.0015),
        ("AUTO", AMPLIFIERS, 0.0022),
    ],
)
def test_zero_points_on_real_stars(ks4_data, aperture, edges, limit):
    """The RMS error of zero points, in cells with stars, is below a limit."""
    matched, x, y, true, _ = truth_of(ks4_data)
    zpmap = build_zeropoint_map(matched, band="R", aperture=aperture, edges=edges)
    with MapLibrary(ks4_data / "archives") as published:
        cells = published.zeropoint("0000", "R", aperture=aperture)
    starry = cells.valid[cells.grid.cell_of(x, y)]
    assert np.std((zpmap.at(x, y) - true)[starry]) < limit


@pytest.mark.parametrize(("edges", "limit"), [(None, 9.0), (CHIPS, 3)])
def test_positions_on_real_stars(ks4_data, edges, limit):
    """The RMS error of offsets, in mas, is below a limit."""
    matched, x, y, _, wrong = truth_of(ks4_data)
    dra, ddec = build_offset_map(matched, band="R", edges=edges).at(x, y)
    left = np.hypot(wrong[0] + dra, wrong[1] + ddec)
    assert 1000 * np.sqrt(np.mean(left**2)) < limit


def test_errors_are_smaller_than_those_of_dr1(field):
    """Errors are below those of the recipe of DR1, even more so with known edges."""
    x, y = np.meshgrid(*2 * [np.arange(4, 2200, 9)], indexing="ij")
    true = field.zeropoint(x, y)

    def residual(zpmap):
        return np.std(zpmap.at(x, y) - true)

    options = {"band": "R", "aperture": "AUTO"}
    plain = build_zeropoint_map(field.matched, (2200, 2200), **options)
    options["edges"] = field.edges["amplifier"]
    stepped = build_zeropoint_map(field.matched, (2200, 2200), **options)
    ones = CCDData(np.ones((2200, 2200)), unit="adu")
    factor = apply_zeropoint(ones, field.maps["AUTO"], method="dr1").data[y, x]
    published = np.std(-2.5 * np.log10(factor) - true)
    assert residual(plain) < 0.65 * published
    assert residual(stepped) < 0.25 * published


def test_plane_is_exact(make_stars):
    """A plane is recovered from stars without noise, to the ridge of the fit."""
    table = make_stars(noise=0, zeropoint=lambda x, y: 1e-4 * x - 2e-5 * y)
    zpmap = build(table)
    x, y = np.meshgrid(*zpmap.grid.centers(), indexing="ij")
    assert_allclose(zpmap.values, 30 + 1e-4 * x - 2e-5 * y, atol=1e-5)


def test_steps_at_edges_are_not_smoothed_over(make_stars):
    """A pixel on either side of an edge has the zero point of its side."""
    table = make_stars(zeropoint=step, noise=0.005)
    zpmap = build(table, edges=([500.0], []), shape=None)
    y = np.linspace(100, 900, 9)
    for x in (450.0, 499.0, 500.0, 550.0):
        assert_allclose(zpmap.at(x, y), 30 + step(x, y), atol=0.004)
    smooth = build(table)
    assert np.abs(smooth.at(499.0, y) - 30 - step(499.0, y)).max() > 0.02


def test_chip_edges_of_offsets(make_stars):
    """Offsets of two chips, each shifted and rotated, are recovered."""

    def offset(x, y):
        side = np.where(x >= 500, 1.0, -1.0)
        return 0.1 * side + 1e-4 * y * side, 5e-5 * x * side

    table = make_stars(offset=offset, noise=0.005)
    offsets = build_offset_map(table, (1000, 1000), band="R", edges=([500.0], []))
    y = np.linspace(50, 950, 10)
    for x in (499.0, 500.0, 900.0):
        found = offsets.at(x, y)
        assert_allclose(found, np.broadcast_arrays(*offset(x, y)), atol=0.005)


def wave(x, y):
    """Return a smooth zero point that is not a polynomial."""
    return 0.02 * np.sin(x / 150) * np.cos(y / 200)


def test_error_of_the_map(make_stars):
    """Errors of many maps agree with the quoted ones (error_kind "median")."""
    x, y = np.meshgrid(*2 * [np.linspace(100, 900, 5)], indexing="ij")
    pulls = []
    for seed in range(40):
        table = make_stars(1000, seed=seed, zeropoint=wave)
        zpmap = build(table)
        off = zpmap.at(x, y) - 30 - wave(x, y)
        pulls.append(off / zpmap.error_at(x, y, error_kind="median"))
    # 1000 pulls; those of one map are not independent.
    assert 0.8 < np.std(pulls) < 1.2


def test_the_scatter_of_single_stars_is_kept(make_stars):
    """`error` is the scatter of single stars, whatever their density."""
    zpmap = build(make_stars(3000, noise=0.02))
    # From about 50 stars each, at the corners from half as many.
    assert_allclose(zpmap.error[zpmap.valid], 0.02, rtol=0.6)
    assert np.median(zpmap.error) == pytest.approx(0.02, rel=0.05)


def test_bright_stars_do_not_shift_the_map(make_stars):
    """A trend with magnitude is removed, where magnitudes depend on position."""
    table = make_stars(2000)
    left = table["X_IMAGE"] < 500
    table["Rmag"][left] -= 0.0
    keep = left | (table["Rmag"] > 16)
    table = table[keep]
    table["MAG_AUTO"] -= 0.02 * (np.asarray(table["Rmag"]) - 16)
    zpmap = build(table)
    assert np.ptp([np.mean(zpmap.values[:8]), np.mean(zpmap.values[12:])]) < 0.004


def test_wrong_matches_are_ignored(make_stars):
    """Wrong matches, here 5 % of the stars, do not affect maps."""
    table = make_stars(2000)
    table["MAG_AUTO"][::20] += 1.0
    table["dra"][::20] += 1.5
    zpmap = build(table)
    assert np.abs(zpmap.values - 30).max() < 0.006
    offsets = build_offset_map(table, (1000, 1000), band="R", shape=(20, 20))
    assert np.abs(offsets.dra).max() < 0.006


def test_separations_are_cut_in_arcsec(make_stars):
    """Large separations are wrong matches, unless those of all stars are large."""
    table = make_stars(1000)
    table["MAG_AUTO"][::3] += 0.05
    table["sep"][::3] = 1.8 / 3600
    assert np.abs(build(table).values - 30).max() < 0.01
    table["sep"] = 1.8 / 3600
    assert build(table).values.mean() == pytest.approx(29.98, abs=0.02)


def test_cells_far_from_stars_are_empty(make_stars):
    """Cells far from stars have DR1's value of empty cells."""
    table = make_stars(2000)
    table = table[(table["X_IMAGE"] < 500) | (table["X_IMAGE"] > 800)]
    zpmap = build(table)
    assert not zpmap.valid[13].any()
    assert (zpmap.values[13] == 30).all()
    assert zpmap.valid[[0, 9, 17, 19]].all()


def test_windows_grow_where_stars_are_few(make_stars):
    """The default misalignment map has values in cells that are empty in DR1's."""
    table = make_stars(40, offset=lambda x, y: (0.1 + 0 * x, 0 * y))
    options = {"band": "R", "shape": (40, 40)}
    published = build_misalignment_map(table, (1000, 1000), recipe="dr1", **options)
    ours = build_misalignment_map(table, (1000, 1000), **options)
    assert (published.count == 0).any()
    assert np.median(ours.count) >= 3
    assert_allclose(ours.values[ours.valid], 0.1, atol=0.03)


# Arguments


def test_all_maps_at_once(field):
    """The maps are those of the other builders."""
    maps = build_maps(field.matched, (2200, 2200), band="R", field="0000", recipe="dr1")
    assert [m.key.family for m in maps] == ["align"] + 5 * ["zp"]
    single = build_zeropoint_map(
        field.matched, (2200, 2200), band="R", aperture="APER3", recipe="dr1"
    )
    assert_array_equal(maps[2].values, single.values)
    assert single.key is None


def test_input_is_not_modified_and_may_be_a_qtable(make_stars):
    """Tables are not modified, and quantity columns give the same maps."""
    table = make_stars()
    before = table.copy()
    plain = build(table)
    assert (table == before).all()
    quantities = QTable(table, copy=True)
    quantities["sep"] = quantities["sep"] * u.deg
    quantities["MAG_AUTO"] = quantities["MAG_AUTO"] * u.mag
    assert_allclose(build(quantities).values, plain.values)


def test_duplicate_stars_are_ignored(make_stars):
    """Duplicate sources do not change a map or its errors."""
    table = make_stars()
    once, twice = build(table), build(vstack([table, table]))
    assert_array_equal(twice.values, once.values)
    assert_array_equal(twice.count, once.count)


@pytest.mark.parametrize("unknown", [np.nan, 99.0, np.inf, 1e200])
@pytest.mark.parametrize("name", ["MAGERR_AUTO", "e_Rmag"])
def test_weights_of_stars_without_an_error(make_stars, name, unknown):
    """Stars without a valid error do not outweigh the others."""
    table = make_stars(noise=0.01)
    table["e_Rmag"] = 0.01
    table["MAG_AUTO"][::5] += 0.03 * np.random.default_rng(0).normal(size=160)
    table[name][::5] = unknown
    zpmap = build(table, mode="dual") if name == "e_Rmag" else build(table)
    assert_allclose(zpmap.values, 30, atol=0.01)


def test_stars_without_scatter(make_stars):
    """Stars without scatter give a valid map."""
    zpmap = build(make_stars(noise=0.0))
    assert zpmap.valid.all()
    assert_allclose(zpmap.values, 30)


@pytest.mark.parametrize("n", [3, 6, 12, 25])
def test_uncertainties_of_few_stars(make_stars, n):
    """Uncertainties of maps of few stars are positive."""
    zpmap = build(make_stars(n))
    for kind in ("scatter", "median"):
        assert zpmap.error_at(500, 500, error_kind=kind) > 0


def test_stars_outside_of_the_image_are_ignored(make_stars):
    """Stars outside of the image do not affect cells at its edge."""
    table = make_stars()
    beside = make_stars(200, seed=2)
    beside["X_IMAGE"] += 1200
    beside["MAG_AUTO"] += 1.0
    beside["dra"] += 1.0
    both = vstack([table, beside])
    assert_array_equal(build(both).values, build(table).values)
    options = {"band": "R", "shape": (20, 20)}
    offsets = [build_offset_map(t, (1000, 1000), **options) for t in (both, table)]
    assert_array_equal(offsets[0].dra, offsets[1].dra)


def test_units_of_separations_and_offsets(make_stars):
    """Separations and offsets are converted from their units."""
    table = make_stars()
    other = table.copy()
    other["sep"] = (table["sep"] * u.deg).to(u.arcsec)
    for name in ("dra", "ddec"):
        other[name] = (table[name] * u.arcsec).to(u.mas)
    options = {"band": "R", "shape": (20, 20)}
    made = [build_offset_map(t, (1000, 1000), **options) for t in (table, other)]
    assert_allclose(made[1].dra, made[0].dra, atol=1e-9)
    other["sep"] = np.array(table["sep"]) * u.s
    with pytest.raises(KS4Error, match="sep: expected deg"):
        build(other)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stars_without_an_offset_are_ignored(make_stars, value):
    """Stars without a finite offset are ignored."""
    table = make_stars()
    others = np.arange(len(table)) % 9 != 0
    expected = build_offset_map(table[others], (1000, 1000), band="R", shape=(9, 9))
    table["dra"][~others] = value
    offsets = build_offset_map(table, (1000, 1000), band="R", shape=(9, 9))
    assert_array_equal(offsets.dra, expected.dra)


@pytest.mark.parametrize(
    "edges", [([-0.5], []), ([-0.5, -0.5], [999.5]), ([-50, 5000], [500, 500])]
)
def test_edges_outside_of_the_image(make_stars, edges):
    """Edges outside of the image, and stars at its border, are harmless."""
    table = make_stars()
    table["X_IMAGE"][:2] = -0.2, 1000.9
    assert_allclose(build(table, edges=edges).values, 30, atol=0.01)


def test_cells_of_one_pixel(make_stars):
    """Cells of the finer map of positions are not smaller than a pixel."""
    table = make_stars(size=10)
    assert build(table, size=10, shape=(8, 10)).valid.all()
    maps = build_maps(table, (10, 10), band="R", shape=(8, 10))
    assert maps[0].grid.shape == (10, 10)


@pytest.mark.parametrize("edges", [None, ([500.0], [500.0])])
def test_three_stars(make_stars, edges):
    """A map of three stars is within their scatter."""
    table = make_stars(3, noise=0.001)
    zpmap = build(table, edges=edges)
    assert np.abs(zpmap.values[zpmap.valid] - 30).max() < 0.02


def test_structure_of_few_stars(make_stars):
    """A map of twenty stars varies less than they scatter."""
    zpmap = build(make_stars(20, noise=0.02))
    assert np.std(zpmap.values[zpmap.valid]) < 0.02 / 2
    assert zpmap.values[zpmap.valid].mean() == pytest.approx(30, abs=0.02)
    assert np.median(zpmap.error[zpmap.valid]) == pytest.approx(0.02, rel=0.5)


def spoil(table, name, values):
    """Return a copy of a table with a column replaced or removed."""
    table = table.copy()
    if values is None:
        table.remove_column(name)
    else:
        table[name] = values
    return table


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("Rmag", None, "expected a column Rmag .*, found X_IMAGE"),
        ("sep", None, "expected a column sep"),
        ("MAG_AUTO", None, "no magnitudes of aperture AUTO"),
        ("X_IMAGE", None, "no column X_IMAGE"),
        ("MAG_AUTO", 99.0, "usable for .*, found 0 of 800"),
        ("MAG_AUTO", np.nan, "usable for .*, found 0 of 800"),
        ("FLAGS", 4, "usable for .*, found 0 of 800"),
        ("X_IMAGE", np.nan, "found none among 800 stars"),
        ("Rmag", np.full(800, 5.0) * u.Jy, "fluxes"),
        ("X_IMAGE", 40000.0, "expected stars on an image of 1000 x 1000"),
        ("MAG_AUTO", np.full(800, 5.0) * u.Jy, "fluxes"),
    ],
)
@pytest.mark.parametrize("recipe", ["default", "dr1"])
def test_bad_tables(make_stars, name, values, message, recipe):
    """Missing columns and unusable values are refused with a specific message."""
    with pytest.raises(KS4Error, match=message):
        build(spoil(make_stars(), name, values), recipe=recipe)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recipe": "dr2"}, OptionError, "recipe must be one of default, dr1"),
        ({"recipe": "dr1", "edges": ([5], [])}, OptionError, "edges must be None"),
        ({"edges": "x"}, GeometryError, "edges must be two sequences"),
        ({"edges": ([np.nan], [])}, GeometryError, "finite"),
        ({"mode": "triple"}, OptionError, "mode must be one of"),
        ({"band": None}, OptionError, "band must be a name"),
        ({"shape": (2000, 5)}, GeometryError, "does not fit"),
        ({"misalignment": 3}, OptionError, "must be a MisalignmentMap"),
    ],
)
def test_bad_arguments(make_stars, options, error, message):
    """Arguments without an allowed value are refused with a specific message."""
    with pytest.raises(error, match=message) as caught:
        build(make_stars(), **options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("builder", [build_misalignment_map, build_offset_map])
def test_modes_are_checked_without_a_field(make_stars, builder):
    """The mode is checked even if the map has no key."""
    with pytest.raises(KS4Error, match="mode must be one of"):
        builder(make_stars(), (1000, 1000), band="R", mode="triple")


def test_too_few_stars(make_stars):
    """Tables of fewer than three stars are refused."""
    for n in (0, 2):
        with pytest.raises(KS4Error, match=f"at least 3 matched stars, got {n}"):
            build(make_stars(n))


def test_another_camera(make_stars):
    """Bands, apertures and image shapes of other cameras are supported."""
    table = make_stars()
    table.rename_column("MAG_AUTO", "flux_psf")
    table["flux_psf"] = 10 ** (-0.4 * table["flux_psf"])
    table["gmag"] = table["Rmag"]
    columns = {"x": "X_IMAGE", "y": "Y_IMAGE", "magnitudes": {"PSF": "flux_psf"}}
    columns |= {"fluxes": True}
    zpmap = build(table, band="g", aperture="PSF", columns=columns)
    assert_allclose(zpmap.values, 30, atol=0.01)
    with pytest.raises(MapMismatchError, match="expected stars on an image"):
        build(table[table["X_IMAGE"] > 500], size=300, band="g", columns=columns)


def test_a_misalignment_map_of_another_image(make_stars):
    """A misalignment map of an image of another shape is refused."""
    table = make_stars()
    other = build_misalignment_map(table, (2000, 2000), band="R", shape=(40, 40))
    with pytest.raises(MapMismatchError, match="must be the map of an image of shape"):
        build(table, misalignment=other)


# The command


def test_the_command_with_edges(tmp_path, capsys):
    """Edges are stored with the maps, and existing files are not replaced."""
    field = simulate_field(n_stars=2000, seed=6)
    paths = field.write(tmp_path / "field")
    x, y = field.edges["amplifier"]
    edges = [f"x={','.join(str(b + 1) for b in x)}", f"y={y[0] + 1}"]
    command = ["build", paths.sources, "--reference", paths.reference, "--field"]
    command += ["0000", "--band", "R", "--image-size", 2200, 2200, "--cells", 44, 44]
    command += ["--edges", *edges, "-o", tmp_path / "maps"]
    command = list(map(str, command))
    assert main(command) == 0
    with MapLibrary(tmp_path / "maps", image_shape=(2200, 2200)) as library:
        loaded = library.zeropoint("0000", "R", aperture="AUTO")
        assert library.offset("0000", "R").dra.shape == (88, 88)
    assert_allclose(loaded.grid.edges[0], x)
    assert_allclose(loaded.grid.edges[1], y)
    capsys.readouterr()
    assert main(command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main([*command, "--mode", "dual"]) == 0


def test_output_folder_that_is_a_file(tmp_path, capsys):
    """An output folder that is a file is refused before catalogs are read."""
    (tmp_path / "maps").touch()
    command = ["build", "a.fits", "--reference", "b.fits", "--field", "0000"]
    command += ["--band", "R", "-o", str(tmp_path / "maps")]
    assert main(command) == 1
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("edges", ["z=3", "x=one", "1375"])
def test_malformed_edges(make_stars, edges, tmp_path, capsys):
    """Malformed edges are refused."""
    command = [
        "build",
        "a.fits",
        "--reference",
        "b.fits",
        "--field",
        "0000",
        "--band",
        "R",
    ]
    assert main([*command, "--edges", edges, "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err


# The zero point that magnitudes contain


@pytest.mark.parametrize("recipe", ["default", "dr1"])
def test_zero_point_of_the_magnitudes(make_stars, recipe):
    """The zero point is subtracted once, whether given here, to the match or both."""
    table = make_stars(n=100)
    options = {"recipe": recipe, "shape": (4, 4)}
    expected = build(table, **options)
    assert_allclose(expected.values[expected.valid], 30, atol=0.02)
    table["MAG_AUTO"] += 30
    given = build(table, mag_zeropoint=30, **options)
    table.meta["MATCHMZP"] = 30.0
    for made in (given, build(table, **options)):
        assert_allclose(made.values, expected.values, atol=1e-9)
        assert_allclose(made.count, expected.count, rtol=1e-6)
    both = build(table, mag_zeropoint=30, **options)
    assert_array_equal(both.values, given.values)
    with pytest.raises(KS4Error, match="MATCHMZP in its meta records .* of 30"):
        build(table, mag_zeropoint=29, **options)


def test_zero_point_in_all_builders(make_stars):
    """All builders accept mag_zeropoint, and maps do not depend on it."""
    table = make_stars(n=45)
    expected = build_maps(table, (1000, 1000), band="R", shape=(4, 4))
    table["MAG_AUTO"] += 25
    options = {"band": "R", "mag_zeropoint": 25.0}
    made = build_maps(table, (1000, 1000), shape=(4, 4), **options)
    assert_allclose(made[-1].values, expected[-1].values, atol=1e-9)
    misalignment = build_misalignment_map(table, (1000, 1000), shape=(8, 8), **options)
    assert_array_equal(misalignment.values, made[0].values)
    offsets = build_offset_map(table, (1000, 1000), shape=(8, 8), **options)
    assert_array_equal(offsets.dra, made[1].dra)


@pytest.mark.parametrize("recipe", ["default", "dr1"])
@pytest.mark.parametrize("contained", [30.0, 25.0, 21.0])
def test_implausible_zero_points(make_stars, recipe, contained):
    """Magnitudes that contain a zero point are refused."""
    table = make_stars(n=45)
    table["MAG_AUTO"] += contained
    options = {"recipe": recipe, "shape": (2, 2)}
    with pytest.raises(
        MapMismatchError, match=r"between 10 and 50, .*mag_zeropoint=30"
    ):
        build(table, **options)
    table["MAG_AUTO"] -= contained
    with pytest.raises(MapMismatchError, match="mag_zeropoint=30 was subtracted"):
        build(table, mag_zeropoint=30, **options)


@pytest.mark.parametrize("mag_zeropoint", [None, 30])
@pytest.mark.parametrize("recorded", ["column", "meta"])
def test_calibrated_magnitudes_are_refused(make_stars, recorded, mag_zeropoint):
    """Calibrated magnitudes, whose map would be constant, are refused."""
    table = make_stars(n=45)
    table["MAG_AUTO"] += 30
    if recorded == "column":
        table["zp_auto_r"] = 30.0
    else:
        table.meta["KS4ZPMZP"] = 0.0
    for made in (build_zeropoint_map, build_maps, cross_validate):
        options = {} if made is build_maps else {"aperture": "AUTO"}
        with pytest.raises(AlreadyCalibratedError, match="(zp_auto_r|KS4ZPMZP)"):
            made(table, (1000, 1000), band="R", mag_zeropoint=mag_zeropoint, **options)
    build_offset_map(table, (1000, 1000), band="R", shape=(2, 2))


@pytest.mark.parametrize("zeropoint", [10.1, 49.9])
def test_unusual_zero_points(make_stars, zeropoint):
    """Zero points near the limits of the allowed range are accepted."""
    table = make_stars(n=45)
    table["MAG_AUTO"] += 30 - zeropoint
    made = build(table, shape=(2, 2))
    assert_allclose(made.values[made.valid], zeropoint, atol=0.02)


def test_one_star_of_another_scale(make_stars):
    """A cell with an implausible zero point is refused."""
    table = make_stars(n=60)
    table["X_IMAGE"][table["X_IMAGE"] < 101] = 150.0
    table["X_IMAGE"][0] = table["Y_IMAGE"][0] = 50.0
    table["MAG_AUTO"][0] = 20.0
    with pytest.raises(MapMismatchError, match="remove the stars"):
        build(table, recipe="dr1", shape=(10, 10))


def test_marks_of_missing_magnitudes(make_stars):
    """Marks of missing magnitudes, such as 99, are ignored."""
    table = make_stars(n=100)
    table["MAG_AUTO"][:9] = [99, -99, 99.99, 999, -999, 9999, np.inf, -np.inf, np.nan]
    table["Rmag"][9:12], table["e_Rmag"][12:14] = [99, -99, 999], [99, -99]
    for recipe in ("default", "dr1"):
        made = build(table, recipe=recipe, shape=(2, 2))
        assert_allclose(made.values, 30, atol=0.02)
        assert made.error.max() < 0.02


def test_magnitude_of_the_selection(make_stars):
    """Stars are selected by G also in a column named as in the Gaia archive."""
    table = make_stars(n=300)
    expected = build_misalignment_map(table[:100], (1000, 1000), band="R", shape=(2, 2))
    table["phot_g_mean_mag"] = np.where(np.arange(300) < 100, 15.0, 21.0)
    made = build_misalignment_map(table, (1000, 1000), band="R", shape=(2, 2))
    assert_array_equal(made.count, expected.count)


def test_command_with_a_zero_point(tmp_path, capsys):
    """The command has an option for the zero point, and refuses implausible ones."""
    field = simulate_field((300, 300), map_shape=(10, 10), field="0403", seed=2)
    table = field.sources.copy()
    for name in ("MAG_APER", "MAG_AUTO"):
        table[name] = np.where(np.abs(table[name]) < 90, table[name] + 30, 99)
    table.write(tmp_path / "shifted.fits")
    paths = field.write(tmp_path)
    made = {}
    for source, *words in (
        (paths.sources,),
        (tmp_path / "shifted.fits", "--mag-zeropoint", "30"),
    ):
        folder = tmp_path / f"maps{len(made)}"
        command = ["build", source, "--reference", paths.reference, "--field", "0403"]
        command += ["--band", "R", "--cells", 5, 5, "--image-size", 300, 300]
        command += ["--recipe", "dr1"]
        assert main([*map(str, command), *words, "-o", str(folder)]) == 0
        with MapLibrary(folder, image_shape=(300, 300)) as library:
            made[folder] = library.zeropoint("0403", "R", "single", "APER5")
    first, second = made.values()
    assert_allclose(first.values, second.values, atol=1e-5)
    assert_array_equal(first.count, second.count)
    command[1] = tmp_path / "shifted.fits"
    capsys.readouterr()
    assert main([*map(str, command), "-o", str(tmp_path / "zeros")]) == 1
    assert "--mag-zeropoint 30" in capsys.readouterr().err
    assert not (tmp_path / "zeros").exists()
