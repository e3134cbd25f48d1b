# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test that image, catalogs and maps of a simulated field agree with the truth."""

import tarfile

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd.exceptions import GeometryError, KS4Error, OptionError
from ks4_ccd.ks4.names import APERTURES
from ks4_ccd.ks4.tiling import field_center
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.photometry.zeropoint import apply_zeropoint
from ks4_ccd.simulation._sky import Noise, PointSpread
from ks4_ccd.simulation.field import simulate_field

# Not square, so that an exchange of axes fails.
SHAPE, MAP_SHAPE = (480, 640), (16, 12)


@pytest.fixture(scope="module")
def simulated():
    """Return a small field."""
    return simulate_field(SHAPE, MAP_SHAPE, seed=7)


def corners(shape, step=1):
    """Return open grids of the pixel coordinates of an image."""
    rows, columns = shape
    return np.arange(0, columns, step), np.arange(0, rows, step)[:, np.newaxis]


def brightest(simulated, n_stars=30, margin=20):
    """Return the rows of the brightest reference stars inside the image."""
    stars = simulated.reference
    rows, columns = simulated.grid.image_shape
    inside = np.minimum(stars["x"], columns - 1 - stars["x"]) > margin
    inside &= np.minimum(stars["y"], rows - 1 - stars["y"]) > margin
    stars = stars[inside]
    return stars[np.argsort(stars["MAG"])[:n_stars]]


def test_image_planes(simulated):
    """The image is float32 adu, with a mask and a float32 standard deviation."""
    ccd = simulated.ccd
    assert ccd.shape == SHAPE
    assert ccd.unit == u.adu
    assert ccd.data.dtype == np.float32
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    assert ccd.uncertainty.array.dtype == np.float32
    assert ccd.mask.dtype == bool


def test_mask_has_columns_and_pixels(simulated):
    """Bad pixels are parts of columns and single pixels."""
    bad_rows = simulated.ccd.mask.sum(axis=0)
    assert (bad_rows > SHAPE[0] // 20).any()
    assert (bad_rows == 1).any()
    assert simulated.ccd.mask.mean() < 0.02


def test_header(simulated):
    """The header contains the field, the band and the size of the full stack."""
    header = simulated.ccd.meta
    assert [header[k] for k in ("FIELD1", "FIELD2", "FILTER")] == [
        "0000",
        "000-62",
        "R",
    ]
    assert (header["KS4NAX1"], header["KS4NAX2"]) == SHAPE[::-1]
    assert isinstance(header["SATURATE"], int)
    assert isinstance(header["UNDERSAT"], int)
    assert {"OBJECT", "FWHM", "EXPTIME", "GAIN"} <= set(header)


def test_centre_of_the_field():
    """The centre of the image is the centre of the tile."""
    simulated = simulate_field(SHAPE, MAP_SHAPE, field="0403")
    rows, columns = SHAPE
    assert_array_equal(simulated.wcs.wcs.crpix, [(columns + 1) / 2, (rows + 1) / 2])
    centre = simulated.wcs.pixel_to_world((columns - 1) / 2, (rows - 1) / 2)
    assert centre.separation(field_center("0403")).arcsec < 1e-6


def test_north_is_up_and_east_left(simulated):
    """A pixel is 0.4 arcsec; declination increases with y, RA decreases with x."""
    here, left, above = simulated.wcs.pixel_to_world([320, 319, 320], [240, 240, 241])
    east, north = here.spherical_offsets_to(SkyCoord([left, above]))
    assert_allclose(east.arcsec, [0.4, 0], atol=1e-5)
    assert_allclose(north.arcsec, [0, 0.4], atol=1e-5)


def test_zeropoint_rms():
    """The true zero point has a mean of 30 mag and an RMS of 0.03 mag."""
    zeropoint = simulate_field(seed=2).zeropoint(*corners((2200, 2200), 11))
    assert zeropoint.mean() == pytest.approx(30, abs=1e-3)
    assert zeropoint.std() == pytest.approx(0.03, rel=0.01)


def test_zeropoint_steps_at_amplifiers(simulated):
    """The zero point has steps at the edges of amplifiers and nowhere else."""
    along_x, along_y = simulated.edges["amplifier"]
    x, y = np.arange(-0.5, 639, 0.25), 100.0
    jump = np.abs(np.diff(simulated.zeropoint(x, y)))
    at_edge = np.isin(x[1:], along_x)
    assert len(along_x) == 15
    assert np.median(jump[at_edge]) > 2 * jump[~at_edge].max()
    edge = along_y[0]
    step = simulated.zeropoint(x, edge + 1e-6) - simulated.zeropoint(x, edge - 1e-6)
    assert np.abs(step).max() > 1e-3


def test_offset_rms():
    """True position errors are 0.08 arcsec RMS."""
    dra, ddec = simulate_field(seed=2).offset(*corners((2200, 2200), 11))
    assert np.sqrt(np.mean(dra**2 + ddec**2)) == pytest.approx(0.08, rel=0.01)


def test_offset_steps_at_chips(simulated):
    """Position errors have steps at the edges of chips, and are smooth between them."""
    (edge_x,), (edge_y,) = simulated.edges["chip"]
    assert (edge_x, edge_y) == (319.5, 239.5)
    for component in simulated.offset(np.arange(0, 640), 100.0):
        jump = np.abs(np.diff(component))
        assert np.argmax(jump) == 319
        assert jump[319] > 10 * np.delete(jump, 319).max()


def test_truth_of_scalars(simulated):
    """For scalars the results are scalars, equal to the elements of arrays."""
    x, y = np.array([3.0, 600.0]), np.array([5.0, 470.0])
    assert isinstance(simulated.zeropoint(3.0, 5.0), float)
    assert simulated.zeropoint(3.0, 5.0) == simulated.zeropoint(x, y)[0]
    assert simulated.offset(3.0, 5.0)[1] == simulated.offset(x, y)[1][0]


def test_light_falls_where_the_offset_says(simulated):
    """The nominal WCS converts true position plus offset to the pixel of the light."""
    stars = simulated.reference
    dra, ddec = simulated.offset(stars["x"], stars["y"])
    measured = SkyCoord(stars["RA"], stars["DEC"]).spherical_offsets_by(
        dra * u.arcsec, ddec * u.arcsec
    )
    x, y = simulated.wcs.world_to_pixel(measured)
    assert_allclose(x, stars["x"], atol=1e-4)
    assert_allclose(y, stars["y"], atol=1e-4)


def test_image_has_the_light_there(simulated):
    """The centroids of bright stars are at the positions of the reference table."""
    step = np.arange(-4, 5)
    for star in brightest(simulated, 10):
        x, y = round(star["x"]), round(star["y"])
        stamp = simulated.ccd.data[y - 4 : y + 5, x - 4 : x + 5].astype(float)
        assert stamp.sum(axis=0) @ step / stamp.sum() == pytest.approx(
            star["x"] - x, abs=0.3
        )
        assert stamp.sum(axis=1) @ step / stamp.sum() == pytest.approx(
            star["y"] - y, abs=0.3
        )


def test_counts_follow_the_zero_point():
    """A star of magnitude m has a total of 10**(0.4 (zeropoint - m)) adu."""
    simulated = simulate_field((400, 400), (10, 10), n_stars=1, seed=4)
    (star,) = simulated.reference
    expected = 10 ** (0.4 * (simulated.zeropoint(star["x"], star["y"]) - star["MAG"]))
    x, y = round(star["x"]), round(star["y"])
    counts = simulated.ccd.data[y - 15 : y + 16, x - 15 : x + 16].sum(dtype=float)
    # 0.5 percent of the light is outside; the noise is 25 adu per pixel.
    assert counts == pytest.approx(0.995 * expected, abs=0.005 * expected + 4 * 25 * 31)


def test_uncertainty_is_that_of_the_noise(simulated):
    """The scatter of sky pixels is their standard deviation."""
    ccd = simulated.ccd
    left, right, bottom, top = np.round(simulated.hole).astype(int)
    hole = np.s_[bottom + 8 : top - 8, left + 8 : right - 8]
    good = ~ccd.mask[hole]
    pull = (ccd.data[hole] / ccd.uncertainty.array[hole])[good]
    assert np.std(pull) == pytest.approx(1, abs=4 / np.sqrt(2 * good.sum()))


def test_bright_pixels_have_photon_noise(simulated):
    """The variance of a pixel increases by its signal / gain."""
    ccd = simulated.ccd
    bright = (ccd.data > 20_000) & ~ccd.mask
    variance = ccd.uncertainty.array[bright] ** 2
    expected = 25.0**2 + ccd.data[bright] / ccd.meta["GAIN"]
    assert_allclose(variance, expected, rtol=0.1)


def test_sources_look_like_sextractor(simulated):
    """The source table has SExtractor's columns, types and units."""
    sources = simulated.sources
    assert sources.colnames[:5] == [
        "NUMBER",
        "ALPHA_J2000",
        "DELTA_J2000",
        "X_IMAGE",
        "Y_IMAGE",
    ]
    assert sources["MAG_APER"].shape == (len(sources), 4)
    assert sources["MAG_APER"].unit == u.mag
    assert sources["X_IMAGE"].dtype == np.float32
    assert sources["X_IMAGE"].unit == u.pix
    assert sources["FLAGS"].dtype == np.int16


def test_positions_in_the_catalog_are_one_based(simulated):
    """X_IMAGE of a source is the 0-based pixel coordinate of its light plus 1."""
    sources, wcs = simulated.sources, simulated.wcs
    sky = SkyCoord(sources["ALPHA_J2000"], sources["DELTA_J2000"])
    x, y = wcs.world_to_pixel(sky)
    assert_allclose(sources["X_IMAGE"], x + 1, atol=1e-3)
    assert_allclose(sources["Y_IMAGE"], y + 1, atol=1e-3)


def test_quoted_errors_of_magnitudes(simulated):
    """Magnitudes scatter about the truth by MAGERR and the scatter of colours."""
    sources, stars = simulated.sources, simulated.reference
    sky = SkyCoord(sources["ALPHA_J2000"], sources["DELTA_J2000"])
    match, separation, _ = sky.match_to_catalog_sky(SkyCoord(stars["RA"], stars["DEC"]))
    assert separation.arcsec.max() < 1
    x, y = stars["x"][match], stars["y"][match]
    error = sources["MAG_APER"][:, 3] + simulated.zeropoint(x, y) - stars["MAG"][match]
    pull = (error - np.median(error)) / np.hypot(sources["MAGERR_APER"][:, 3], 0.008)
    assert np.std(pull) == pytest.approx(1, abs=4 / np.sqrt(2 * len(pull)))


def test_bad_pixels_are_flagged(simulated):
    """IMAFLAGS_ISO is set for sources on bad pixels, and for few others."""
    x = np.rint(simulated.sources["X_IMAGE"] - 1).astype(int).clip(0, SHAPE[1] - 1)
    y = np.rint(simulated.sources["Y_IMAGE"] - 1).astype(int).clip(0, SHAPE[0] - 1)
    flagged = simulated.sources["IMAFLAGS_ISO"] > 0
    assert flagged[simulated.ccd.mask[y, x]].all()
    assert 0 < flagged.mean() < 0.2


def test_hole_has_no_stars(simulated):
    """The hole contains no star, and its cells are empty."""
    left, right, bottom, top = simulated.hole
    x, y = simulated.reference["x"], simulated.reference["y"]
    assert not ((x >= left) & (x < right) & (y >= bottom) & (y < top)).any()
    i, j = simulated.grid.cell_of((left + right) / 2, (bottom + top) / 2)
    for zpmap in simulated.maps.values():
        assert (zpmap.values[i, j], zpmap.error[i, j], zpmap.count[i, j]) == (30, 0, 0)


def test_maps_have_their_keys(simulated):
    """Each aperture has a zero-point map, and the field one misalignment map."""
    assert tuple(simulated.maps) == APERTURES
    for aperture, zpmap in simulated.maps.items():
        assert zpmap.key.filename == f"zp_map_0000_R_single_{aperture}.npy"
        assert zpmap.values.shape == MAP_SHAPE
    assert simulated.misalignment.key.filename == "align_map_0000_R_single.npy"
    assert simulated.misalignment.values.shape == (32, 24)
    assert simulated.misalignment.grid.image_shape == SHAPE


def test_map_is_about_the_truth(simulated):
    """The medians of cells with many stars agree with the true zero points there."""
    zpmap = simulated.maps["APER10"]
    x, y = simulated.grid.centers()
    truth = simulated.zeropoint(x[:, np.newaxis], y)
    full = zpmap.count >= 4
    error = (zpmap.values - truth)[full]
    assert full.sum() > 30
    assert np.std(error) < 0.5 * np.std(truth[full])


def test_misalignment_is_about_the_truth(simulated):
    """The mean of the misalignment map is the size of the true offsets."""
    x, y = simulated.misalignment.grid.centers()
    truth = np.hypot(*simulated.offset(x[:, np.newaxis], y))
    found = simulated.misalignment.values[simulated.misalignment.valid]
    assert np.median(found) == pytest.approx(np.median(truth), rel=0.2)


def test_offsets_have_the_grid_and_the_key_of_the_field(simulated):
    """The offset map has the cells of the misalignment map."""
    assert simulated.offsets.grid == simulated.misalignment.grid
    assert simulated.offsets.key.filename == "dra_map_0000_R_single.npy"


def test_offsets_correct_positions():
    """Offsets added to the true errors (measured minus true) are below 10 mas RMS."""
    simulated = simulate_field()
    x, y = np.broadcast_arrays(*corners((2200, 2200), 11))
    truth = np.array(simulated.offset(x, y))
    left = truth + np.array(simulated.offsets.at(x, y))
    before, after = (np.sqrt(np.mean(np.sum(a**2, axis=0))) for a in (truth, left))
    assert before > 0.075
    assert after < 0.010


def test_offset_files(simulated, tmp_path):
    """An offset map saved beside the archives and read by the library is unchanged."""
    paths = simulated.write(tmp_path)
    assert paths.offsets == tmp_path / "offsets"
    with MapLibrary(tmp_path, image_shape=SHAPE) as library:
        read = library.offset("0000", "R")
    assert read.grid == simulated.offsets.grid
    for part in ("dra", "ddec", "error", "count"):
        assert_array_equal(getattr(read, part), getattr(simulated.offsets, part))


def test_stars_a_cell():
    """Most cells of the default field have between three and ten clean stars."""
    count = simulate_field().maps["APER5"].count
    assert 3 <= count.mean() <= 10
    assert 0.01 < (count == 0).mean() < 0.2


def test_methods_differ():
    """On the default field, the residuals decrease from method to method."""
    simulated = simulate_field()
    x, y = corners((2200, 2200), 7)
    truth = simulated.zeropoint(x, y)
    zpmap = simulated.maps["APER5"]
    known = zpmap.valid[simulated.grid.cell_of(*np.broadcast_arrays(x, y))]

    def left(values):
        return np.std((values - truth)[known])

    ones = CCDData(np.ones((2200, 2200)), unit="adu")
    factor = apply_zeropoint(ones, zpmap, method="dr1").data[y, x]
    published = left(30 - 2.5 * np.log10(factor))
    nearest = left(zpmap.at(x, y, method="nearest"))
    bilinear = left(zpmap.at(x, y))
    smoothed = left(zpmap.smoothed().at(x, y))
    assert left(30.0) > 2 * published
    assert published > 1.2 * bilinear
    assert nearest > 1.2 * bilinear
    assert bilinear > 1.1 * smoothed


@pytest.mark.parametrize("band", ["B", "V", "R", "I"])
def test_reference_gives_the_true_magnitude(band):
    """XP magnitudes with the published colour terms are true within their errors."""
    simulated = simulate_field(SHAPE, MAP_SHAPE, band=band)
    xp = {b: np.asarray(simulated.reference[f"XP_{b}"]) for b in "BVRI"}
    own = {
        "B": xp["B"] - 0.30 * (xp["B"] - xp["V"]),
        "V": xp["V"],
        "R": xp["R"] - 0.04 * (xp["V"] - xp["R"]),
        "I": xp["I"],
    }[band]
    pull = (own - simulated.reference["MAG"]) / simulated.reference[f"XP_e{band}"]
    assert np.std(pull) < 1.15
    assert simulated.maps["AUTO"].key.band == band


def test_same_seed_same_field(simulated):
    """Equal seeds give equal fields, different seeds different ones."""
    again = simulate_field(SHAPE, MAP_SHAPE, seed=7)
    other = simulate_field(SHAPE, MAP_SHAPE, seed=8)
    assert_array_equal(again.ccd.data, simulated.ccd.data)
    assert (again.sources["MAG_AUTO"] == simulated.sources["MAG_AUTO"]).all()
    assert_array_equal(again.maps["AUTO"].values, simulated.maps["AUTO"].values)
    assert not np.array_equal(other.ccd.data, simulated.ccd.data)


def test_files_are_deterministic(simulated, tmp_path):
    """A field written twice has the same bytes in all files."""
    first = simulated.write(tmp_path / "first")
    second = simulate_field(SHAPE, MAP_SHAPE, seed=7).write(tmp_path / "second")
    pairs = list(zip(first.archives, second.archives, strict=True))
    pairs += list(zip(first[:3], second[:3], strict=True))
    for one, other in pairs:
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_archives_know_no_time_of_writing(simulated, tmp_path):
    """Members of archives have the date of DR1, and no owner."""
    for path in simulated.write(tmp_path).archives:
        assert int.from_bytes(path.read_bytes()[4:8], "little") == 1_760_486_400
        with tarfile.open(path) as archive:
            for member in archive:
                assert (member.mtime, member.uid) == (1_760_486_400, 0)


def test_image_file(simulated, tmp_path):
    """The image read from its file has all planes and the WCS."""
    path = simulated.write(tmp_path).image
    ccd = CCDData.read(path)
    assert_array_equal(ccd.data, simulated.ccd.data)
    assert_array_equal(ccd.mask, simulated.ccd.mask)
    assert_array_equal(ccd.uncertainty.array, simulated.ccd.uncertainty.array)
    assert ccd.wcs.wcs.compare(simulated.wcs.wcs, tolerance=1e-12, cmp=1)
    assert ccd.meta["FIELD1"] == "0000"


def test_catalog_files(simulated, tmp_path):
    """Both catalogs read from their files are unchanged."""
    paths = simulated.write(tmp_path)
    sources, reference = Table.read(paths.sources), Table.read(paths.reference)
    assert_array_equal(sources["MAG_APER"], simulated.sources["MAG_APER"])
    assert sources["X_IMAGE"].unit == u.pix
    assert_array_equal(reference["RA"], simulated.reference["RA"])


def test_archives_have_the_layout_of_the_release(simulated, tmp_path):
    """The archives and their members have the names of those of DR1."""
    paths = simulated.write(tmp_path)
    assert [path.name for path in paths.archives] == [
        f"KS4_DR1_{name}_Maps.tar.gz"
        for name in (
            "ZeroPoint",
            "ZeroPointError",
            "PhotCalibNumStars",
            "Astrometry",
            "AstrometryError",
            "AstroCalibNumStars",
        )
    ]
    with tarfile.open(paths.archives[0]) as archive:
        names = archive.getnames()
    assert "KS4_DR1_ZeroPoint_Maps/0000/zp_map_0000_R_single_APER5.npy" in names
    assert len(names) == len(APERTURES)


def test_library_reads_the_archives(simulated, tmp_path):
    """The library selects the map of the image by its header, on the right grid."""
    paths = simulated.write(tmp_path)
    with MapLibrary(paths.archives) as library:
        zpmap = library.for_header(simulated.ccd.meta, aperture="AUTO")
    expected = simulated.maps["AUTO"]
    assert zpmap.grid == expected.grid
    assert zpmap.key == expected.key
    for part in ("values", "error", "count"):
        assert_array_equal(getattr(zpmap, part), getattr(expected, part))


def test_mode_dual(tmp_path):
    """Maps and files have the name of the mode."""
    simulated = simulate_field(SHAPE, MAP_SHAPE, mode="dual")
    assert simulated.maps["AUTO"].key.filename == "zp_map_0000_R_dual_AUTO.npy"
    assert simulated.write(tmp_path).sources.name == "ks4_0000_R_dual.fits"


@pytest.mark.parametrize("n_stars", [0, 1, 2])
def test_few_stars(n_stars):
    """A field can have few stars or none."""
    simulated = simulate_field((100, 120), (6, 5), n_stars=n_stars)
    assert len(simulated.sources) == len(simulated.reference) == n_stars
    assert simulated.ccd.shape == (100, 120)
    with pytest.raises(KS4Error):
        simulated.maps  # noqa: B018 (built at the first access)


@pytest.mark.parametrize(
    ("keywords", "error", "culprit"),
    [
        ({"band": "Z"}, OptionError, "band must be one of B, V, R, I, got 'Z'"),
        ({"mode": "triple"}, OptionError, "mode must be one of"),
        ({"field": "9999"}, KS4Error, "9999"),
        ({"n_stars": -1}, OptionError, "n_stars must be an integer, 0 or more"),
        ({"seed": 1.5}, OptionError, "seed must be an integer"),
        ({"map_shape": (400, 12)}, GeometryError, "at least two pixels"),
    ],
)
def test_bad_arguments(keywords, error, culprit):
    """A wrong argument is named; if it is an option, it is also a ValueError."""
    with pytest.raises(error, match=culprit):
        simulate_field(**{"shape": SHAPE, "map_shape": MAP_SHAPE, **keywords})


def test_unwritable_directory(simulated, tmp_path):
    """A directory that cannot be created is named."""
    (tmp_path / "file").touch()
    with pytest.raises(KS4Error, match="cannot write the simulated field to"):
        simulated.write(tmp_path / "file" / "inside")


def test_the_header_has_what_the_pipeline_measures():
    """Zero points, depth and RMS in the header follow from the true values."""
    simulated = simulate_field((660, 660), map_shape=(33, 33), seed=1)
    header, psf = simulated.ccd.header, PointSpread(1.6 / 0.4)
    x, y = simulated.sources["X_IMAGE"] - 1.0, simulated.sources["Y_IMAGE"] - 1.0
    zeropoint = np.median(simulated.zeropoint(x, y))
    for aperture, diameter in (
        ("FWHM", psf.fwhm),
        ("APER3", 3 / 0.4),
        ("APER5", 5 / 0.4),
        ("APER10", 10 / 0.4),
    ):
        # Light outside the aperture makes stars fainter.
        expected = zeropoint + 2.5 * np.log10(psf.enclosed(diameter / 2))
        assert header[f"ZP{aperture}"] == pytest.approx(expected, abs=0.005)
        assert 0.01 < header[f"ZE{aperture}"] < 0.03
        assert 800 < header[f"ZS{aperture}"] < len(simulated.matched)
    assert header["ZPFWHM"] < header["ZPAPER5"] < header["ZPAUTO"] < header["ZPAPER10"]
    noise = Noise().sky * np.sqrt(np.pi * (psf.fwhm / 2) ** 2)
    depth = header["ZPFWHM"] - 2.5 * np.log10(5 * noise)
    assert header["DEPTH5"] == pytest.approx(depth, abs=0.002)
    assert 0.002 < header["RMSPHOT"] < 0.02
    assert (header["MAGZERO"], header["PHOTREF"]) == (30, "Gaia XP")


def test_a_header_without_stars():
    """Without stars the header contains no measurements."""
    header = simulate_field((100, 100), map_shape=(2, 2), n_stars=0).ccd.header
    assert not [key for key in header if key.startswith("ZP") or key == "DEPTH5"]
