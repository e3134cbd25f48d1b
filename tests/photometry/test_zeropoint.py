# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Comparison of apply_zeropoint and remove_zeropoint with astropy and DR1."""

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    Cutout2D,
    StdDevUncertainty,
    UnknownUncertainty,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom

from ks4_ccd import (
    AlreadyCalibratedError,
    DirectionlessMapError,
    GeometryError,
    KS4Error,
    KS4Warning,
    MapFormatError,
    MapGrid,
    MapMismatchError,
    MisalignmentMap,
    ZeroPointMap,
    apply_zeropoint,
    remove_zeropoint,
)
from ks4_ccd.maps.grid import corners
from ks4_ccd.photometry._rows import _BLOCK

KINDS = ("std", "var", "ivar")
SCALE = 0.4 * np.log(10)


def maps_of_dr1(zpmap, x, y, error_kind="scatter"):
    """Return the zero point and its error of the stretched map of DR1."""
    along_x, along_y = zpmap.grid.stretched(0, x), zpmap.grid.stretched(1, y)
    factor = 10 ** (0.4 * (30 - zpmap.marked(30.0)["values"]))
    factor = sum(factor[cell] * weight for cell, weight in corners(along_x, along_y))
    errors = zpmap.node_errors(error_kind, published=True)
    return 30 - 2.5 * np.log10(factor), errors.at(along_x, along_y)


def factor_image(ccd, zpmap, pixels, zeropoint=30.0, method="bilinear", **options):
    """Return the factor of every pixel with its error, for ccd.multiply."""
    x, y = pixels(ccd.shape)
    if method == "dr1":
        value, error = maps_of_dr1(zpmap, x, y, **options)
    else:
        value = zpmap.at(x, y, method)
        error = zpmap.error_at(x, y, method=method, **options)
    factor = 10 ** (0.4 * (zeropoint - value))
    error *= SCALE * factor
    factor, error = (plane.astype(ccd.data.dtype) for plane in (factor, error))
    return CCDData(factor, unit="", uncertainty=StdDevUncertainty(error))


@pytest.mark.parametrize("error_kind", ["scatter", "median"])
@pytest.mark.parametrize("method", ["bilinear", "nearest", "dr1"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_the_result_is_that_of_ccd_multiply(
    make_ccd, make_map, pixels, kind, dtype, rtol, method, error_kind
):
    """The result is that of ccd.multiply with an image of factors and their errors."""
    zpmap = make_map()
    ccd = make_ccd(dtype=dtype, kind=kind)
    ccd.mask = ccd.data > 600
    ours = apply_zeropoint(
        ccd, zpmap, method=method, error_kind=error_kind, uncalibrated="fill"
    )
    factor = factor_image(ccd, zpmap, pixels, method=method, error_kind=error_kind)
    factor.uncertainty = factor.uncertainty.represent_as(type(ccd.uncertainty))
    theirs = ccd.multiply(factor)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=rtol)
    np.testing.assert_allclose(
        ours.uncertainty.array, theirs.uncertainty.array, rtol=rtol
    )
    assert type(ours.uncertainty) is type(theirs.uncertainty)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert ours.data.dtype == ours.uncertainty.array.dtype == dtype


@pytest.mark.parametrize("cell_size", [1, 2.5, 7, _BLOCK, 33, (40, 9)])
def test_rows_join_without_seams(make_ccd, make_map, pixels, cell_size):
    """For any cell size, each pixel has the factor of the map at its position."""
    zpmap = make_map((9, 11), cell_size)
    ccd = make_ccd(zpmap.grid.image_shape, float)
    factor = factor_image(ccd, zpmap, pixels).data
    ours = apply_zeropoint(ccd, zpmap, uncalibrated="fill")
    np.testing.assert_allclose(ours.data, ccd.data * factor, rtol=1e-13)


def published(data, zp):
    """Return the result of the published function of DR1, copied literally."""
    factor = 10 ** (0.4 * (30 - zp))
    big = zoom(factor, data.shape[0] // zp.shape[0], order=1)
    return (data * np.transpose(big)).astype(np.float32)


@pytest.mark.parametrize("size", [55, 550, 2200])
def test_dr1_is_the_published_function_in_every_bit(make_map, size):
    """Fewer than one pixel in ten million differs, by ties of rounding."""
    zpmap = make_map((55, 55), size / 55)
    data = np.random.default_rng(8).normal(100, 30, (size, size)).astype(np.float32)
    ours = apply_zeropoint(CCDData(data, unit="adu"), zpmap, method="dr1")
    different = ours.data != published(data, zpmap.values)
    assert np.count_nonzero(different) <= max(1, size**2 // 10**7)
    assert ours.data.dtype == np.float32


def test_dr1_quotes_the_published_uncertainties(make_map):
    """Uncertainties are those of scipy's zoom of errors, with the median if unknown."""
    zpmap = make_map((6, 6), 20, empty=0)
    known = zpmap.error > 0
    published_error = np.where(known, zpmap.error, np.median(zpmap.error[known]))
    ones, none = np.ones((120, 120)), np.zeros((120, 120))
    ccd = CCDData(ones, unit="adu", uncertainty=StdDevUncertainty(none))
    ours = apply_zeropoint(ccd, zpmap, method="dr1")
    factor, error = (
        np.transpose(zoom(cells, 20, order=1))
        for cells in (10 ** (0.4 * (30 - zpmap.values)), published_error)
    )
    np.testing.assert_allclose(ours.uncertainty.array, SCALE * factor * error)


def test_the_pull_of_a_monte_carlo_has_width_one():
    """Counts and the zero point of a field are drawn from their errors many times."""
    rng = np.random.default_rng(11)
    shape, grid, sigma, scatter = (30, 40), MapGrid((4, 3), 10), 20.0, 0.03
    truth = rng.uniform(200, 2000, shape)
    error = np.full(grid.shape, scatter)
    pulls = []
    for _ in range(1500):
        drawn = 29.8 + scatter * rng.normal()
        zpmap = ZeroPointMap(np.full(grid.shape, drawn), error, grid=grid)
        counts = truth * 10 ** (0.4 * (29.8 - 30)) + rng.normal(0, sigma, shape)
        ccd = CCDData(
            counts, unit="adu", uncertainty=StdDevUncertainty(np.full(shape, sigma))
        )
        result = apply_zeropoint(ccd, zpmap)
        pulls.append((result.data - truth) / result.uncertainty.array)
    assert np.std(pulls) == pytest.approx(1, abs=0.03)


def test_the_pull_of_independent_cells_has_width_one(make_map):
    """The median of each cell is drawn from its error of kind "median"."""
    rng = np.random.default_rng(12)
    plain = make_map((4, 3), 10, empty=0)
    sigma = plain.cell_error("median")
    truth = rng.uniform(2e3, 2e4, (30, 40))
    y, x = np.indices(truth.shape)
    counts = truth * 10 ** (-0.4 * (30 - plain.at(x, y)))
    uncertainty = StdDevUncertainty(np.full(truth.shape, 20.0))
    ccd = CCDData(counts, unit="adu", uncertainty=uncertainty)
    quoted = apply_zeropoint(ccd, plain, error_kind="median").uncertainty.array
    pulls = []
    for _ in range(1500):
        drawn = plain.values + sigma * rng.normal(size=sigma.shape)
        noisy = CCDData(counts + rng.normal(0, 20, truth.shape), unit="adu")
        result = apply_zeropoint(noisy, ZeroPointMap(drawn, grid=plain.grid))
        pulls.append((result.data - truth) / quoted)
    assert np.std(pulls) == pytest.approx(1, abs=0.03)


def test_the_input_is_not_modified(make_ccd, make_map, tan_wcs):
    """The image is not modified, and shares no array with the result."""
    ccd = make_ccd(kind="std", mask=np.zeros((80, 100), bool), wcs=tan_wcs((80, 100)))
    ccd.header = fits.Header({"SATURATE": 60000, "FILTER": "R"})
    ccd.psf = np.ones((3, 3))
    before = ccd.copy()
    result = apply_zeropoint(ccd, make_map())
    np.testing.assert_array_equal(ccd.data, before.data)
    np.testing.assert_array_equal(ccd.uncertainty.array, before.uncertainty.array)
    np.testing.assert_array_equal(ccd.mask, before.mask)
    assert ccd.header == before.header
    for name in ("data", "mask", "psf"):
        assert not np.shares_memory(getattr(ccd, name), getattr(result, name))
    result.wcs.wcs.crpix = 0, 0
    result.header["SATURATE"] = 1
    assert ccd.wcs.wcs.crpix.tolist() == before.wcs.wcs.crpix.tolist()
    assert ccd.header["SATURATE"] == 60000


def test_attributes_of_the_image_are_kept(make_ccd, make_map, tan_wcs):
    """WCS, PSF, flags and other cards are in the result."""
    ccd = make_ccd(wcs=tan_wcs((80, 100)), meta={"OBSERVER": "somebody"})
    ccd.psf = np.ones((3, 3))
    ccd.flags = np.arange(8000).reshape(80, 100)
    result = apply_zeropoint(ccd, make_map())
    assert result.wcs.wcs.compare(ccd.wcs.wcs)
    np.testing.assert_array_equal(result.psf, ccd.psf)
    np.testing.assert_array_equal(result.flags, ccd.flags)
    assert result.meta["OBSERVER"] == "somebody"
    assert result.unit == u.adu


@pytest.mark.parametrize("dtype", ["u2", "i4", ">i2", "i8"])
def test_integers_become_float32(make_map, pixels, dtype):
    """Images of integers are converted."""
    data = np.random.default_rng(0).integers(0, 60000, (80, 100)) // 2
    ccd = CCDData(data.astype(dtype), unit="adu")
    result = apply_zeropoint(ccd, make_map(), uncalibrated="fill")
    expected = data * factor_image(make_ccd_like(data), make_map(), pixels).data
    assert result.data.dtype == np.float32
    np.testing.assert_allclose(result.data, expected, rtol=1e-6)


def make_ccd_like(data):
    """Return a float64 image of the same counts."""
    return CCDData(data.astype(float), unit="adu")


def test_each_plane_keeps_its_dtype(make_ccd, make_map):
    """A float64 uncertainty of a float32 image remains float64, in any byte order."""
    ccd = make_ccd(kind="std")
    ccd.uncertainty = StdDevUncertainty(ccd.uncertainty.array.astype(">f8"))
    result = apply_zeropoint(ccd, make_map())
    assert result.data.dtype == np.float32
    assert result.uncertainty.array.dtype == np.float64


def test_a_map_of_30_changes_nothing(make_ccd):
    """A flat map at the requested zero point is the identity."""
    zpmap = ZeroPointMap(np.full((5, 4), 30.0), grid=MapGrid((5, 4), 20))
    ccd = make_ccd()
    np.testing.assert_array_equal(apply_zeropoint(ccd, zpmap).data, ccd.data)


def test_magnitudes_are_unchanged_by_calibration(make_ccd):
    """A magnitude with the map equals that with MAGZERO after calibration."""
    zpmap = ZeroPointMap(np.full((5, 4), 29.3), grid=MapGrid((5, 4), 20))
    ccd = make_ccd(dtype=float)
    result = apply_zeropoint(ccd, zpmap, zeropoint=25)
    before, after = -2.5 * np.log10(ccd.data) + 29.3, -2.5 * np.log10(result.data) + 25
    np.testing.assert_allclose(after, before, rtol=1e-14)
    assert result.meta["MAGZERO"] == 25


def test_fluxes_in_nanojansky(make_ccd, make_map):
    """AB 30 is 3.631 nJy per count, and MAGZERO is that of 1 nJy."""
    ccd = make_ccd(dtype=float, kind="std")
    counts = apply_zeropoint(ccd, make_map())
    for unit, scale in ((u.nJy, 3.6307805), ("uJy", 3.6307805e-3)):
        flux = apply_zeropoint(ccd, make_map(), unit=unit)
        assert flux.unit == u.Unit(unit)
        np.testing.assert_allclose(flux.data, counts.data * scale, rtol=1e-7)
        np.testing.assert_allclose(
            flux.uncertainty.array, counts.uncertainty.array * scale, rtol=1e-7
        )
    assert apply_zeropoint(ccd, make_map(), unit="nJy").meta[
        "MAGZERO"
    ] == pytest.approx(31.4, abs=1e-5)


def test_fluxes_do_not_underflow_float32(make_ccd, make_map):
    """In W / (m2 Hz) the squares of fluxes are below the range of float32."""
    ccd = make_ccd(kind="std")
    unit = u.W / u.m**2 / u.Hz
    flux, njy = (apply_zeropoint(ccd, make_map(), unit=x) for x in (unit, u.nJy))
    np.testing.assert_allclose(
        flux.uncertainty.array / flux.data, njy.uncertainty.array / njy.data, rtol=1e-5
    )
    assert (flux.uncertainty.array > 0).all()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_slicing_commutes_with_calibration(data):
    """The calibrated slice is the slice of the calibrated image."""
    rng = np.random.default_rng(4)
    grid = MapGrid((6, 5), (11, 13))
    zpmap = ZeroPointMap(rng.normal(30, 0.1, grid.shape), grid=grid)
    ccd = CCDData(rng.normal(100, 9, grid.image_shape), unit="adu")
    rows, columns = grid.image_shape
    y = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(1, rows))
    x = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(1, columns))
    part = slice(min(y), max(y) + 1), slice(min(x), max(x) + 1)
    whole = apply_zeropoint(ccd, zpmap)
    sliced = apply_zeropoint(ccd[part], zpmap, origin=(min(x), min(y)))
    np.testing.assert_allclose(sliced.data, whole.data[part], rtol=1e-13)


def test_slices_and_cutouts_of_a_stack_are_located(make_map, make_key, tan_wcs):
    """The origin of slices, trimmed images and a Cutout2D is determined."""
    rng = np.random.default_rng(4)
    zpmap = make_map((6, 5), 40, empty=0, key=make_key("0000"))
    ccd = CCDData(
        rng.normal(100, 9, (200, 240)),
        unit="adu",
        wcs=tan_wcs((200, 240)),
        meta={"FIELD1": "0000", "FILTER": "R"},
    )
    whole = apply_zeropoint(ccd, zpmap)
    np.testing.assert_allclose(
        apply_zeropoint(ccd[30:120, 50:230], zpmap).data, whole.data[30:120, 50:230]
    )
    trimmed = ccdproc.trim_image(ccd, fits_section="[51:230, 31:120]")
    np.testing.assert_allclose(
        apply_zeropoint(trimmed, zpmap).data, whole.data[30:120, 50:230]
    )
    cut = Cutout2D(ccd.data, (100, 90), (50, 70), wcs=ccd.wcs)
    part = CCDData(cut.data, unit="adu")
    np.testing.assert_allclose(
        apply_zeropoint(part, zpmap, origin=cut).data,
        whole.data[cut.slices_original],
    )


def test_pixels_far_from_stars_are_masked_kept_or_refused(make_ccd, make_map):
    """A pixel is calibrated if its cell or an adjacent one has stars."""
    count = np.ones((5, 4))
    count[:3, :3] = 0
    plain = make_map(empty=0)
    zpmap = ZeroPointMap(plain.values, plain.error, count, grid=plain.grid)
    ccd = make_ccd()
    expected = np.zeros(ccd.shape, bool)
    # X_IMAGE 1 to 39 and Y_IMAGE 1 to 39: cells [0:2, 0:2].
    expected[:39, :39] = True
    masked = apply_zeropoint(ccd, zpmap)
    np.testing.assert_array_equal(masked.mask, expected)
    kept = apply_zeropoint(ccd, zpmap, uncalibrated="fill")
    assert kept.mask is None
    np.testing.assert_array_equal(kept.data, masked.data)
    with pytest.raises(MapMismatchError, match="far from any cell with stars"):
        apply_zeropoint(ccd, zpmap, uncalibrated="raise")


def test_masks_are_combined(make_ccd, make_map):
    """Masked pixels remain masked, for any type of mask."""
    count = np.ones((5, 4))
    count[:3, :3] = 0
    plain = make_map(empty=0)
    zpmap = ZeroPointMap(plain.values, plain.error, count, grid=plain.grid)
    mask = np.zeros((80, 100), np.uint8)
    mask[70, 90] = 4
    result = apply_zeropoint(make_ccd(mask=mask), zpmap)
    assert result.mask.dtype == bool
    assert result.mask[70, 90]
    assert result.mask[0, 0]
    assert np.count_nonzero(result.mask) == 39 * 39 + 1


def test_the_header_records_the_calibration(make_ccd, make_map, make_key):
    """The header has MAGZERO, EMAGZERO, PHOTREF, limits, and a record of the map."""
    zpmap = make_map(key=make_key(), empty=0)
    meta = fits.Header({"SATURATE": 60000, "UNDERSAT": -100, "MAGZERO": 27.0})
    result = apply_zeropoint(make_ccd(meta=meta), zpmap, method="dr1")
    factor = np.mean(10 ** (0.4 * (30 - zpmap.values)))
    header = result.header
    assert header["MAGZERO"] == 30
    assert header["EMAGZERO"] == round(zpmap.error[zpmap.error > 0].mean(), 3)
    assert header["PHOTREF"] == "GAIA DR3"
    assert header["SATURATE"] == int(60000 * factor)
    assert header["UNDERSAT"] == int(-100 * factor)
    assert header["KS4ZPMAP"] == zpmap.key.filename
    assert header["KS4ZPMTH"] == "dr1"
    assert header["KS4ZPERR"] == "ignore", "without an uncertainty there is no error"
    assert "method=dr1" in header["APPLYZP"]
    assert all(len(keyword) <= 8 for keyword in header)


@pytest.mark.parametrize("kind", ["scatter", "median"])
def test_the_mean_of_the_quoted_errors_is_in_the_header(make_ccd, make_map, kind):
    """EMAGZERO is the mean error of the cells with stars."""
    zpmap = make_map()
    result = apply_zeropoint(make_ccd(kind="std"), zpmap, error_kind=kind)
    expected = zpmap.cell_error(kind)[zpmap.valid].mean()
    assert result.header["EMAGZERO"] == pytest.approx(expected, abs=6e-5)
    ignored = apply_zeropoint(make_ccd(), zpmap, error_kind=kind).header["EMAGZERO"]
    assert ignored == pytest.approx(zpmap.cell_error()[zpmap.valid].mean(), abs=6e-5)
    unknown = ZeroPointMap(zpmap.values, 0 * zpmap.error, grid=zpmap.grid)
    result = apply_zeropoint(make_ccd(meta={"EMAGZERO": 0.1}), unknown)
    assert "EMAGZERO" not in result.header


@pytest.mark.parametrize(
    ("add_keyword", "expected"),
    [
        (False, {}),
        (None, {}),
        ("ZPDONE", {"ZPDONE": None}),
        ({"ZPBY": "me"}, {"ZPBY": "me"}),
        (ccdproc.Keyword("ZPKEY", value="yes"), {"ZPKEY": "yes"}),
    ],
)
def test_the_log_is_that_of_ccdproc(make_ccd, make_map, add_keyword, expected):
    """add_keyword accepts and writes the same as in functions of ccdproc."""
    ccd = make_ccd()
    ours = apply_zeropoint(ccd, make_map(), add_keyword=add_keyword)
    logged = {k: v for k, v in ours.meta.items() if k.startswith(("ZP", "APPLYZP"))}
    theirs = ccdproc.trim_image(ccd, add_keyword=add_keyword)
    assert logged == expected == dict(theirs.meta)


def test_a_second_calibration_is_refused(make_ccd, make_map):
    """A second calibration requires recalibrate=True."""
    once = apply_zeropoint(make_ccd(), make_map())
    with pytest.raises(AlreadyCalibratedError, match="KS4ZPMAP.*recalibrate=True"):
        apply_zeropoint(once, make_map())
    twice = apply_zeropoint(once, make_map(), recalibrate=True)
    assert not np.array_equal(twice.data, once.data)
    with pytest.raises(AlreadyCalibratedError, match="not in adu"):
        apply_zeropoint(make_ccd(unit="uJy"), make_map())


@pytest.mark.parametrize("unit", [u.mag, u.Jy / u.beam, u.erg / u.s / u.cm**2 / u.AA])
def test_images_not_in_counts_are_refused(make_ccd, make_map, unit):
    """Magnitudes and flux densities are not counts."""
    with pytest.raises(KS4Error):
        apply_zeropoint(make_ccd(unit=unit), make_map())


@pytest.mark.parametrize("method", ["bilinear", "nearest", "dr1"])
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_removing_is_the_inverse(make_ccd, make_map, kind, method):
    """Data, uncertainty, unit and header are restored."""
    meta = fits.Header({"SATURATE": 60000, "EXPTIME": 480.0, "PHOTREF": "APASS"})
    ccd = make_ccd(dtype=float, kind=kind, meta=meta)
    zpmap = make_map()
    calibrated = apply_zeropoint(ccd, zpmap, method=method, unit="nJy", zeropoint=28)
    back = remove_zeropoint(calibrated, zpmap, add_keyword=False)
    np.testing.assert_allclose(back.data, ccd.data, rtol=1e-12)
    if kind is not None:
        np.testing.assert_allclose(
            back.uncertainty.array, ccd.uncertainty.array, rtol=1e-10
        )
    assert back.unit == ccd.unit
    back.header.pop("APPLYZP")
    assert dict(back.header) == dict(ccd.header)


def test_removing_needs_the_record_and_the_map(make_ccd, make_map, make_key):
    """An image without a record, or with that of another map, is refused."""
    zpmap = make_map(key=make_key())
    with pytest.raises(KS4Error, match="expected the record of a calibration"):
        remove_zeropoint(make_ccd(), zpmap)
    calibrated = apply_zeropoint(make_ccd(), zpmap)
    with pytest.raises(MapMismatchError, match="APER5.npy, not with .*AUTO.npy"):
        remove_zeropoint(calibrated, make_map(key=make_key(aperture="AUTO")))
    with pytest.raises(MapMismatchError, match=r"smoothed\(0.8\)"):
        remove_zeropoint(calibrated, zpmap.smoothed())


def test_removing_from_a_changed_image_is_refused(make_ccd, make_map):
    """Another unit, a second map, and a changed record are refused."""
    zpmap = make_map()
    flux = apply_zeropoint(make_ccd(), zpmap, unit="nJy")
    with pytest.raises(MapMismatchError, match="in uJy, and was in nJy"):
        remove_zeropoint(flux.convert_unit_to(u.uJy), zpmap)
    twice = apply_zeropoint(apply_zeropoint(make_ccd(), zpmap), zpmap, recalibrate=True)
    with pytest.raises(KS4Error, match="calibrated 2 times"):
        remove_zeropoint(twice, zpmap)
    for keyword, value in (
        ("KS4ZPTGT", "abc"),
        ("KS4ZPSCL", 0.0),
        ("KS4ZPSCL", -1.0),
        ("KS4ZPTGT", 1e9),
        ("KS4ZPUNI", "foo"),
        ("KS4ZPMTH", "cubic"),
    ):
        changed = flux.copy()
        changed.meta[keyword] = value
        with pytest.raises(KS4Error, match=f"found other values of {keyword}"):
            remove_zeropoint(changed, zpmap)


@pytest.mark.parametrize("unit", [None, "nJy"])
def test_removing_from_a_rescaled_image_is_refused(make_ccd, make_map, unit):
    """MAGZERO has to be that of the recorded calibration."""
    zpmap = make_map()
    calibrated = apply_zeropoint(make_ccd(), zpmap, unit=unit)
    calibrated.header["MAGZERO"] = round(calibrated.header["MAGZERO"], 4)
    remove_zeropoint(calibrated, zpmap)
    scaled = calibrated.multiply(0.01, handle_meta="first_found")
    for value in (calibrated.header["MAGZERO"] - 5, "25"):
        scaled.header["MAGZERO"] = value
        with pytest.raises(KS4Error, match="expected MAGZERO to be 3.* scale it back"):
            remove_zeropoint(scaled, zpmap)
    del scaled.header["MAGZERO"]
    remove_zeropoint(scaled, zpmap)


def test_limits_of_any_number_type(make_ccd, make_map):
    """Scalars of numpy are rescaled, and NaN is unchanged."""
    meta = {"SATURATE": np.int64(60000), "UNDERSAT": np.float32("nan")}
    result = apply_zeropoint(make_ccd(meta=meta), make_map())
    assert result.meta["SATURATE"] != 60000
    assert np.isnan(result.meta["UNDERSAT"])


def test_a_misalignment_map_calibrates_nothing(make_ccd, make_map):
    """A misalignment map has neither directions nor zero points, and is refused."""
    misalignment = MisalignmentMap(np.ones((5, 4)), grid=MapGrid((5, 4), 20))
    with pytest.raises(DirectionlessMapError, match="MisalignmentMap"):
        apply_zeropoint(make_ccd(), misalignment)


def test_a_map_without_errors(make_ccd, make_map):
    """Propagation without errors is refused; zp_error="ignore" is not."""
    plain = make_map(empty=0)
    zpmap = ZeroPointMap(plain.values, grid=plain.grid)
    ccd = make_ccd(kind="std", dtype=float)
    with pytest.raises(KS4Error, match='no error array.*zp_error="ignore"'):
        apply_zeropoint(ccd, zpmap)
    result = apply_zeropoint(ccd, zpmap, zp_error="ignore")
    np.testing.assert_allclose(
        result.uncertainty.array / ccd.uncertainty.array, result.data / ccd.data
    )
    assert apply_zeropoint(make_ccd(), zpmap).uncertainty is None


@pytest.mark.parametrize("method", ["bilinear", "nearest", "dr1"])
def test_nan_in_an_empty_cell_is_equivalent_to_30(make_ccd, make_map, method):
    """Image, uncertainty, mask and limits are those of a map with 30 in such cells."""
    plain = make_map()
    values, error, count = (
        np.where(plain.valid, array, np.nan)
        for array in (plain.values, plain.error, plain.count)
    )
    zpmap = ZeroPointMap(values, error, count, grid=plain.grid)
    ccd = make_ccd(kind="std", meta={"SATURATE": 60000.0})
    result, expected = (
        apply_zeropoint(ccd, map_, method=method) for map_ in (zpmap, plain)
    )
    np.testing.assert_array_equal(result.data, expected.data)
    np.testing.assert_array_equal(result.uncertainty.array, expected.uncertainty.array)
    np.testing.assert_array_equal(result.mask, expected.mask)
    assert result.meta["SATURATE"] == expected.meta["SATURATE"]
    assert np.isfinite(result.data).all()


def test_a_flagged_field_warns(make_ccd, make_map, make_key):
    """Field 1311 has stray light in V."""
    with pytest.warns(KS4Warning, match="1311 in V: stray_light"):
        apply_zeropoint(make_ccd(), make_map(key=make_key("1311", "V")))


def test_bad_pixels_do_not_spread(make_map, make_ccd):
    """NaN and infinite pixels affect no other pixel, and issue no warning."""
    ccd = make_ccd(kind="ivar")
    ccd.data[3, 4], ccd.data[5, 6] = np.nan, np.inf
    ccd.uncertainty.array[7, 8] = 0
    result = apply_zeropoint(ccd, make_map())
    assert np.argwhere(~np.isfinite(result.data)).tolist() == [[3, 4], [5, 6]]
    assert result.uncertainty.array[7, 8] == 0


@pytest.mark.parametrize(
    ("ccd", "error", "words"),
    [
        (np.ones((80, 100)), KS4Error, "ccd must be a CCDData, got ndarray"),
        (CCDData(np.ones((2, 80, 100)), unit="adu"), GeometryError, "2D image"),
        (CCDData(np.ones((0, 100)), unit="adu"), GeometryError, "2D image"),
        (CCDData(np.ones((80, 100), complex), unit="adu"), KS4Error, "real numbers"),
        (CCDData(np.ones((80, 100), bool), unit="adu"), KS4Error, "real numbers"),
        (CCDData(np.ones((80, 99)), unit="adu"), GeometryError, "99 x 80"),
    ],
)
def test_wrong_images_are_refused(make_map, ccd, error, words):
    """The message names the problem."""
    with pytest.raises(error, match=words):
        apply_zeropoint(ccd, make_map())


def test_wrong_uncertainties_are_refused(make_ccd, make_map):
    """Only standard deviations, variances and inverse variances propagate."""
    ccd = make_ccd(uncertainty=UnknownUncertainty(np.ones((80, 100))))
    with pytest.raises(KS4Error, match="got UnknownUncertainty"):
        apply_zeropoint(ccd, make_map())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "cubic"}, "method must be one of bilinear, nearest, dr1"),
        ({"zp_error": "add"}, "zp_error must be one of propagate, ignore"),
        ({"error_kind": "mean"}, "error_kind must be one of scatter, median"),
        ({"uncalibrated": "drop"}, "uncalibrated must be one of mask, fill, raise"),
        ({"zeropoint": np.nan}, "zeropoint must be a finite number"),
        ({"zeropoint": 200}, "within 10 mag of zeropoint=200"),
        ({"unit": "km"}, "unit must be a unit to which nJy converts"),
        ({"unit": "nonsense"}, "unit must be a unit to which nJy converts"),
        (
            {"unit": "-1 Jy"},
            "unit must be a unit to which nJy converts.*its scale is -1",
        ),
        ({"unit": u.ABmag}, "magnitudes are not fluxes"),
        ({"add_keyword": 5}, "add_keyword must be True, False"),
    ],
)
def test_wrong_options_are_refused(make_ccd, make_map, options, words):
    """The message lists the allowed values."""
    with pytest.raises(KS4Error, match=words):
        apply_zeropoint(make_ccd(), make_map(), **options)


def test_wrong_maps_are_refused(make_ccd, make_map):
    """Other objects, empty maps, and maps of another field are refused."""
    with pytest.raises(KS4Error, match="zpmap must be a ZeroPointMap, got ndarray"):
        apply_zeropoint(make_ccd(), np.ones((5, 4)))
    empty = ZeroPointMap(
        np.full((5, 4), 30), count=np.zeros((5, 4)), grid=MapGrid((5, 4), 20)
    )
    with pytest.raises(MapFormatError, match="no cell with stars"):
        apply_zeropoint(make_ccd(), empty)
