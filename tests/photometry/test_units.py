# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Units of images: equal to that of the map, converted to it, or refused."""

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty

from ks4_ccd import (
    AlreadyCalibratedError,
    KS4Error,
    MapGrid,
    MapMismatchError,
    ZeroPointMap,
    apply_zeropoint,
    calibrate_file,
    calibrate_many,
    remove_zeropoint,
)

GAIN = 4.8 * u.electron / u.adu
SHAPE = 80, 100


@pytest.fixture
def calibrate(make_map, tmp_path):
    """Return functions that calibrate an image in memory and from file to file."""

    def in_memory(ccd, zpmap=None, **options):
        return apply_zeropoint(ccd, zpmap or make_map(), **options)

    def by_file(ccd, zpmap=None, **options):
        ccd.write(tmp_path / "raw.fits", overwrite=True)
        if ccd.unit == "":
            fits.setval(tmp_path / "raw.fits", "BUNIT", value="")
        target = calibrate_file(
            tmp_path / "raw.fits",
            tmp_path / "cal.fits",
            zpmap or make_map(),
            overwrite=True,
            progress=False,
            **options,
        )
        return CCDData.read(target)

    return {"memory": in_memory, "file": by_file}


@pytest.mark.parametrize("how", ["memory", "file"])
@pytest.mark.parametrize("unit", [u.adu, u.DN, u.ct, u.adu / u.pix])
def test_counts_of_any_name_are_counts(make_ccd, calibrate, how, unit):
    """The result keeps the unit of the image."""
    result = calibrate[how](make_ccd(unit=unit))
    expected = calibrate["memory"](make_ccd())
    np.testing.assert_array_equal(result.data, expected.data)
    assert result.unit == unit


@pytest.mark.parametrize("how", ["memory", "file"])
@pytest.mark.parametrize(
    ("unit", "error", "words"),
    [
        ("electron", MapMismatchError, "in electron.*before ccdproc.gain_correct"),
        ("photon", MapMismatchError, r"gain=4.8 \* u.ph / u.adu"),
        ("electron/s", MapMismatchError, "a rate.*before dividing by the exposure"),
        ("adu/s", MapMismatchError, "a rate, in adu / s"),
        ("ct/h", MapMismatchError, "a rate"),
        ("", MapMismatchError, "without a unit: set ccd.unit = 'adu'"),
        ("-1 adu", MapMismatchError, "in -1 adu: convert it to adu first"),
        ("adu/arcsec2", MapMismatchError, "convert it to adu first"),
        ("nJy", AlreadyCalibratedError, "calibrated already"),
        ("MJy/sr", AlreadyCalibratedError, "calibrated already"),
        ("nmgy", AlreadyCalibratedError, "calibrated already"),
        ("erg/(s cm2 Hz)", AlreadyCalibratedError, "calibrated already"),
        ("mag", AlreadyCalibratedError, "calibrated already"),
        ("K", AlreadyCalibratedError, "calibrated already"),
    ],
)
def test_other_units_are_refused(
    make_ccd, calibrate, tmp_path, how, unit, error, words
):
    """The message contains the remedy; a gain does not help for most units."""
    ccd = make_ccd(unit=unit)
    with pytest.raises(error, match=words):
        calibrate[how](ccd)
    if unit not in ("electron", "photon"):
        with pytest.raises(error, match=words):
            calibrate[how](ccd, gain=GAIN)
    assert not (tmp_path / "cal.fits").exists()


@pytest.mark.parametrize(
    ("bunit", "error"),
    [
        ("ADU", None),
        ("counts", None),
        ("ELECTRONS", MapMismatchError),
        ("e-/s", MapMismatchError),
        ("MJY/SR", AlreadyCalibratedError),
        ("JY/PIXEL", AlreadyCalibratedError),
        ("nanomaggy", AlreadyCalibratedError),
        ("unknown", KS4Error),
    ],
)
def test_units_that_astropy_does_not_read(make_map, tmp_path, bunit, error):
    """Units other than counts are refused; the result has a valid unit."""
    header = fits.Header({"BUNIT": bunit})
    fits.PrimaryHDU(np.ones(SHAPE, "f4"), header).writeto(tmp_path / "a.fits")
    files = tmp_path / "a.fits", tmp_path / "b.fits"
    if error is not None:
        with pytest.raises(error):
            calibrate_file(*files, make_map(), progress=False)
        assert not files[1].exists()
    else:
        result = CCDData.read(calibrate_file(*files, make_map(), progress=False))
        assert result.unit in (u.adu, u.ct)
        assert result.header["KS4OUNIT"] == bunit


@pytest.mark.parametrize("bunit", ["MJy/sr", "electron", "ELECTRONS/S", "nanomaggy"])
@pytest.mark.parametrize("form", ["fits", "ks4"])
def test_a_unit_given_to_the_reader(make_map, tmp_path, bunit, form):
    """An image read with unit="adu" is refused if its header has another unit."""
    header = fits.Header({"BUNIT": bunit})
    fits.PrimaryHDU(np.ones(SHAPE, "f4"), header).writeto(tmp_path / "a.fits")
    ccd = CCDData.read(tmp_path / "a.fits", unit="adu", format=form)
    with pytest.raises(MapMismatchError, match=f"records '{bunit}' .*in adu"):
        apply_zeropoint(ccd, make_map())
    del ccd.meta["BUNIT"]
    apply_zeropoint(ccd, make_map())


@pytest.mark.parametrize("bunit", ["DN", "", "unknown", 5, None])
def test_a_unit_in_the_header_that_does_not_contradict(make_ccd, make_map, bunit):
    """Other names of counts, and invalid units, in the header are ignored."""
    expected = apply_zeropoint(make_ccd(), make_map())
    result = apply_zeropoint(make_ccd(meta={"BUNIT": bunit}), make_map())
    np.testing.assert_array_equal(result.data, expected.data)
    electrons = ccdproc.gain_correct(make_ccd(meta={"BUNIT": "adu"}), GAIN)
    result = apply_zeropoint(electrons, make_map(), gain=GAIN)
    np.testing.assert_allclose(result.data, expected.data, rtol=1e-6)


def test_an_unrecognized_unit_in_memory(make_ccd, make_map):
    """A unit that astropy keeps as text is interpreted as in a file, or refused."""
    ccd = make_ccd(unit=u.Unit("Counts", parse_strict="silent"))
    expected = apply_zeropoint(make_ccd(), make_map())
    np.testing.assert_array_equal(apply_zeropoint(ccd, make_map()).data, expected.data)
    ccd = make_ccd(unit=u.Unit("whatever", parse_strict="silent"))
    with pytest.raises(MapMismatchError, match="not a valid astropy unit"):
        apply_zeropoint(ccd, make_map())


@pytest.mark.parametrize("how", ["memory", "file"])
@pytest.mark.parametrize("kind", [None, "std", "var", "ivar"])
@pytest.mark.parametrize("unit", [None, "nJy"])
def test_gain_undoes_gain_correct(make_ccd, make_map, calibrate, how, kind, unit):
    """The result is that of the image before gain_correct."""
    ccd = make_ccd(dtype=float, kind=kind)
    electrons = ccdproc.gain_correct(ccd, GAIN, add_keyword=False)
    assert electrons.unit == u.electron
    result = calibrate[how](electrons, gain=GAIN, unit=unit)
    expected = apply_zeropoint(ccd, make_map(), unit=unit)
    np.testing.assert_allclose(result.data, expected.data, rtol=1e-12)
    assert result.unit == expected.unit
    if kind is not None:
        assert type(result.uncertainty) is type(ccd.uncertainty)
        np.testing.assert_allclose(
            result.uncertainty.array, expected.uncertainty.array, rtol=1e-12
        )
    back = remove_zeropoint(result, make_map())
    assert back.unit == u.electron
    np.testing.assert_allclose(back.data, electrons.data, rtol=1e-12)
    if kind is not None:
        np.testing.assert_allclose(
            back.uncertainty.array, electrons.uncertainty.array, rtol=1e-9
        )


def test_gain_for_counts_is_refused(make_ccd, make_map):
    """Either the gain or the unit is wrong."""
    with pytest.raises(KS4Error, match="the image is in adu, as the map is"):
        apply_zeropoint(make_ccd(), make_map(), gain=GAIN)


def test_gain_of_a_batch(make_ccd, make_map, make_key, tmp_path):
    """The gain is passed to the workers, with its unit."""
    make_map(key=make_key()).save(tmp_path / "maps")
    meta = fits.Header({"FIELD1": "0403", "FILTER": "R", "BUNIT": "electron"})
    meta["KS4NAX1"], meta["KS4NAX2"] = 100, 80
    electrons = make_ccd(unit="electron", meta=meta)
    electrons.write(tmp_path / "raw.fits")
    table = calibrate_many(
        [tmp_path / "raw.fits"],
        tmp_path / "maps",
        tmp_path / "out",
        gain=GAIN,
        workers=1,
        progress=False,
    )
    assert table["outcome"][0] == "done", table["message"][0]
    result = CCDData.read(tmp_path / "out" / "raw_cal.fits")
    expected = apply_zeropoint(electrons, make_map(), gain=GAIN)
    np.testing.assert_array_equal(result.data, expected.data)
    assert result.unit == u.adu


def test_a_map_for_electrons(make_ccd, make_map):
    """A map records the unit of its images; images in another unit need the gain."""
    plain = make_map()
    zpmap = ZeroPointMap(
        plain.values, plain.error, plain.count, grid=plain.grid, image_unit="electron"
    )
    assert zpmap.smoothed().image_unit == u.electron
    result = apply_zeropoint(make_ccd(unit="electron"), zpmap)
    np.testing.assert_array_equal(result.data, apply_zeropoint(make_ccd(), plain).data)
    with pytest.raises(MapMismatchError, match="applies to images in electron"):
        apply_zeropoint(make_ccd(), zpmap)
    counts = apply_zeropoint(make_ccd(dtype=float), zpmap, gain=GAIN)
    electrons = ccdproc.gain_correct(make_ccd(dtype=float), GAIN)
    expected = apply_zeropoint(electrons, zpmap)
    np.testing.assert_allclose(counts.data, expected.data, rtol=1e-12)
    assert counts.unit == u.electron


def test_a_map_for_electrons_is_not_saved_as_a_dr1_map(make_map, make_key):
    """Files of DR1 maps cannot record the unit of images, and saving is refused."""
    plain = make_map()
    zpmap = ZeroPointMap(
        plain.values, grid=plain.grid, key=make_key(), image_unit="electron"
    )
    with pytest.raises(KS4Error, match="they apply to images in adu"):
        zpmap.save("maps")
    for unit in ("nJy", "mag", "", "what"):
        with pytest.raises(KS4Error, match="image_unit must be a unit"):
            ZeroPointMap(plain.values, grid=plain.grid, image_unit=unit)


def test_scaled_counts(make_ccd, make_map):
    """Thousands of counts are converted, and the result is in counts."""
    ccd = make_ccd(dtype=float, unit=1000 * u.adu)
    result = apply_zeropoint(ccd, make_map())
    expected = apply_zeropoint(make_ccd(dtype=float), make_map())
    np.testing.assert_allclose(result.data, 1000 * expected.data, rtol=1e-12)
    assert result.unit == u.adu


def test_the_limits_of_an_image_in_electrons(make_ccd, make_map):
    """SATURATE and UNDERSAT are rescaled if the comment has a unit, else renamed."""
    header = fits.Header()
    header["SATURATE"] = 60000.0, "[adu] Saturation level"
    header["UNDERSAT"] = -100.0
    ccd = make_ccd(unit="electron", meta=header)
    result = apply_zeropoint(ccd, make_map(), gain=GAIN)
    expected = apply_zeropoint(make_ccd(meta=header), make_map())
    assert result.meta["SATURATE"] == pytest.approx(expected.meta["SATURATE"])
    assert "UNDERSAT" not in result.meta
    header["SATURATE"] = 60000.0 * 4.8, "[electron] Saturation level"
    ccd = make_ccd(unit="electron", meta=header)
    result = apply_zeropoint(ccd, make_map(), gain=GAIN)
    assert result.meta["SATURATE"] == pytest.approx(expected.meta["SATURATE"])
    assert result.header.comments["SATURATE"] == "[adu] Saturation level"
    back = remove_zeropoint(result, make_map(), add_keyword=False)
    del back.meta["APPLYZP"]
    assert [*map(tuple, back.header.cards)] == [*map(tuple, ccd.header.cards)]


def test_uncertainties_in_another_unit(make_ccd, make_map):
    """Uncertainties are converted to the unit of the image, or refused."""
    ccd = make_ccd(dtype=float, kind="std")
    expected = apply_zeropoint(ccd, make_map())
    array = ccd.uncertainty.array
    ccd.uncertainty = StdDevUncertainty(array / 1000, unit=1000 * u.adu)
    result = apply_zeropoint(ccd, make_map())
    np.testing.assert_allclose(
        result.uncertainty.array, expected.uncertainty.array, rtol=1e-12
    )
    ccd.uncertainty = VarianceUncertainty(array, unit=u.adu**2)
    ccd.unit = "electron"
    with pytest.raises(KS4Error, match="a unit that converts to electron2, found adu2"):
        apply_zeropoint(ccd, make_map(), gain=GAIN)
    ccd.unit = "DN"
    ccd.uncertainty.parent_nddata = None
    result = apply_zeropoint(ccd, make_map())
    assert result.uncertainty.unit == u.DN**2


@pytest.mark.parametrize(
    ("utype", "power"), [("variance", 2), ("std", 1), ("IVAR", -2), (None, 1)]
)
@pytest.mark.parametrize(("bunit", "scale"), [(None, 1), ("ct", 1), ("10 adu", 10)])
def test_uncertainties_in_files(make_map, tmp_path, utype, power, bunit, scale):
    """UTYPE and BUNIT of UNCERT are used, and recorded in the form of astropy."""
    sigma, factor = 50.0, 10**0.04
    hdu = fits.ImageHDU(np.full(SHAPE, (sigma / scale) ** power), name="UNCERT")
    if utype:
        hdu.header["UTYPE"] = utype
    if bunit:
        hdu.header["BUNIT"] = (u.Unit(bunit) ** power).to_string()
    image = fits.PrimaryHDU(np.full(SHAPE, 1000.0))
    fits.HDUList([image, hdu]).writeto(tmp_path / "a.fits")
    read = CCDData.read(tmp_path / "a.fits", format="ks4")
    np.testing.assert_allclose(read.uncertainty.array, sigma**power)
    zpmap = ZeroPointMap(np.full((5, 4), 29.9), grid=MapGrid((5, 4), 20))
    target = calibrate_file(
        tmp_path / "a.fits",
        tmp_path / "b.fits",
        zpmap,
        zp_error="ignore",
        unit="nJy",
        progress=False,
    )
    result = CCDData.read(target)
    factor *= (30 * u.ABmag).to_value("nJy")
    np.testing.assert_allclose(result.uncertainty.array, (factor * sigma) ** power)
    written = fits.getheader(target, "UNCERT")
    assert u.Unit(written.get("BUNIT", u.nJy**power)) == u.nJy**power


@pytest.mark.parametrize("card", [("UTYPE", "weight"), ("BUNIT", "electron")])
def test_uncertainties_of_unknown_types(make_map, tmp_path, card):
    """The file is refused before a target is written."""
    hdu = fits.ImageHDU(np.ones(SHAPE), fits.Header([card]), name="UNCERT")
    image = fits.PrimaryHDU(np.ones(SHAPE))
    fits.HDUList([image, hdu]).writeto(tmp_path / "a.fits")
    with pytest.raises(KS4Error, match="UNCERT"):
        calibrate_file(tmp_path / "a.fits", tmp_path / "b.fits", make_map())
    with pytest.raises(KS4Error, match="UNCERT"):
        CCDData.read(tmp_path / "a.fits", format="ks4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fits"]


@pytest.mark.parametrize("how", ["memory", "file"])
@pytest.mark.parametrize(
    ("value", "options", "words"),
    [
        (0.03, {}, "factor of 9.73e.11: .*MAG_ZEROPOINT"),
        (19.9, {}, "give a zeropoint= "),
        (30.0, {"zeropoint": 41}, "within 10 mag of zeropoint=41"),
        (19.9, {"unit": "nJy"}, "factor of 1.1e.04"),
    ],
)
def test_implausible_factors(make_ccd, calibrate, how, value, options, words):
    """Zero points more than 10 mag from that of the result are refused."""
    zpmap = ZeroPointMap(np.full((5, 4), value), grid=MapGrid((5, 4), 20))
    with pytest.raises(KS4Error, match=words):
        calibrate[how](make_ccd(), zpmap, **options)


def test_plausible_factors(make_ccd):
    """10 mag are allowed; unit, gain and empty cells are not part of the difference."""
    values = np.full((5, 4), 29.9)
    values[0, 0] = 0
    grid = MapGrid((5, 4), 20)
    with pytest.raises(KS4Error, match="mark it as empty by a star count of 0"):
        apply_zeropoint(make_ccd(), ZeroPointMap(values, grid=grid))
    zpmap = ZeroPointMap(values, count=np.sign(values), grid=grid)
    apply_zeropoint(make_ccd(), zpmap, zeropoint=20)
    apply_zeropoint(make_ccd(), zpmap, zeropoint=20, unit="erg / (s cm2 Hz)")
    electrons = make_ccd(unit="electron")
    apply_zeropoint(electrons, zpmap, gain=1e5 * u.electron / u.adu)
    with pytest.raises(KS4Error, match="found 0 mag"):
        apply_zeropoint(make_ccd(), zpmap, method="dr1")


@pytest.mark.parametrize("how", ["memory", "file"])
@pytest.mark.parametrize("dtype", ["u2", "u4", "u8"])
def test_blank_pixels_of_unsigned_integers(make_map, tmp_path, how, dtype):
    """BLANK is relative to the middle of their range; such pixels are NaN."""
    data = np.random.default_rng(3).integers(100, 900, SHAPE).astype(dtype)
    data[3, 4:9] = 0
    hdu = fits.PrimaryHDU(data)
    hdu.header["BLANK"] = int(-(2 ** (8 * data.itemsize - 1)))
    hdu.writeto(tmp_path / "a.fits")
    if how == "memory":
        image = CCDData.read(tmp_path / "a.fits", unit="adu")
        result = apply_zeropoint(image, make_map(), uncalibrated="fill")
        assert not {"BLANK", "BZERO", "BSCALE"} & set(result.header)
    else:
        files = tmp_path / "a.fits", tmp_path / "b.fits"
        options = {"uncalibrated": "fill", "progress": False}
        result = CCDData.read(calibrate_file(*files, make_map(), **options))
    plain = CCDData(data.astype(float), unit="adu")
    expected = apply_zeropoint(plain, make_map(), uncalibrated="fill").data
    expected[3, 4:9] = np.nan
    np.testing.assert_allclose(result.data, expected, rtol=1e-6)
    read = CCDData.read(tmp_path / "a.fits", format="ks4").data
    np.testing.assert_array_equal(
        np.argwhere(np.isnan(read)), [[3, x] for x in range(4, 9)]
    )


@pytest.mark.parametrize("dtype", ["i2", "u1", ">i4"])
def test_integer_uncertainties_do_not_overflow(make_map, tmp_path, dtype):
    """The square of 250 exceeds the range of small integers."""
    hdus = [fits.PrimaryHDU(np.full(SHAPE, 1000.0))]
    hdus += [fits.ImageHDU(np.full(SHAPE, 250, dtype), name="UNCERT")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    files = tmp_path / "a.fits", tmp_path / "b.fits"
    result = CCDData.read(calibrate_file(*files, make_map(), progress=False))
    image = CCDData(hdus[0].data, unit="adu")
    image.uncertainty = StdDevUncertainty(np.full(SHAPE, 250.0))
    expected = apply_zeropoint(image, make_map())
    np.testing.assert_allclose(
        result.uncertainty.array, expected.uncertainty.array, rtol=1e-6
    )


def test_half_precision_does_not_overflow(make_ccd, make_map):
    """The result of a half-precision image is in single precision."""
    data = np.full(SHAPE, 60000, np.float16)
    uncertainty = StdDevUncertainty(np.full(SHAPE, 30000, np.float16))
    ccd = CCDData(data, unit="adu", uncertainty=uncertainty)
    result = apply_zeropoint(ccd, make_map(), unit="nJy")
    assert result.data.dtype == result.uncertainty.array.dtype == np.float32
    assert np.isfinite(result.data).all()
    assert np.isfinite(result.uncertainty.array).all()


@pytest.mark.parametrize("unit", ["W / (m2 Hz)", "erg / (s cm2 Hz)"])
@pytest.mark.parametrize("kind", ["std", "var", "ivar"])
def test_single_precision_does_not_underflow(make_ccd, make_map, calibrate, kind, unit):
    """The variance of a flux in cgs units is below the range of float32."""
    ccd = make_ccd(kind=kind)
    double = make_ccd(dtype=float, kind=kind)
    expected = apply_zeropoint(double, make_map(), unit=unit)
    for how in ("memory", "file"):
        result = calibrate[how](ccd, unit=unit)
        single = unit.startswith("erg")
        assert (result.data.dtype.itemsize == 4) == single, "it holds these"
        np.testing.assert_allclose(
            result.uncertainty.array, expected.uncertainty.array, rtol=1e-5
        )
