# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The record of a correction: lost with its tables, or part of the pixels."""

import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D
from astropy.table import Table
from astropy.wcs import WCS

from ks4_ccd import (
    AlreadyCalibratedError,
    GeometryError,
    KS4Warning,
    MapGrid,
    MapKey,
    OffsetMap,
    ZeroPointMap,
    calibrate_catalog,
    calibrate_file,
    correct_wcs,
    field_center,
)

SHAPE = (80, 100)
CUT = (slice(15, 60), slice(22, 90))
LOST = "lookup tables of the WCS are missing"
RESAMPLED = "the image was resampled"


@pytest.fixture
def offsets():
    """An offset map of field 0403 in R, with amplitudes of half a pixel."""
    dra, ddec = np.random.default_rng(4).normal(0, 0.2, (2, 5, 4))
    key = MapKey("dra", "0403", "R", "single")
    return OffsetMap(dra, ddec, grid=MapGrid((5, 4), 20), key=key)


@pytest.fixture
def raw(make_ccd, tan_wcs):
    """An image of that field; its WCS has a name."""
    center = field_center("0403")
    wcs = tan_wcs(SHAPE, center=(center.ra.deg, center.dec.deg))
    wcs.wcs.name = "SCAMP"
    return make_ccd(SHAPE, meta=fits.Header({"FIELD1": "0403"}), wcs=wcs)


@pytest.fixture
def image(raw, offsets):
    """The same, corrected."""
    return correct_wcs(raw, offsets)


def largest_miss(one, other):
    """Return the largest distance of positions of the pixels of two WCS, in mas."""
    x, y = np.meshgrid(np.linspace(0, 40, 9), np.linspace(0, 40, 9))
    return one.pixel_to_world(x, y).separation(other.pixel_to_world(x, y)).mas.max()


def with_sip(wcs):
    """Return a WCS with SIP."""
    header = wcs.to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_1_1": 2e-5})
    return WCS(header)


def read_and_correct(path, offsets, file_format="fits", origin=None):
    """Return the image in a file, as it is read and corrected."""
    ccd = CCDData.read(path, format=file_format)
    return ccd, correct_wcs(ccd, offsets, origin=origin)


@pytest.mark.parametrize("file_format", ["fits", "ks4"])
@pytest.mark.parametrize("part", [(), CUT], ids=["whole", "slice"])
@pytest.mark.parametrize("sip", [False, True])
def test_a_correction_lost_by_astropys_format_is_repeated(
    raw, offsets, tmp_path, file_format, part, sip
):
    """With a warning, when the file is read or else when it is corrected."""
    if sip:
        raw.wcs = with_sip(raw.wcs)
    image = correct_wcs(raw, offsets)[part]
    image.write(tmp_path / "a.fits", format="fits")
    with pytest.warns(KS4Warning, match=LOST):
        lost, again = read_and_correct(
            tmp_path / "a.fits", offsets, file_format, (22, 15) if part else None
        )
    assert largest_miss(lost.wcs, image.wcs) > 10
    assert largest_miss(again.wcs, image.wcs) < 1e-3
    assert again.header["KS4OFMAP"] == offsets.name


def test_format_ks4_leaves_out_a_lost_record(image, offsets, tmp_path):
    """A lost correction is not recorded any more, and there is no second warning."""
    image.write(tmp_path / "a.fits", format="fits")
    with pytest.warns(KS4Warning, match=rf"a\.fits: .*{LOST}"):
        lost = CCDData.read(tmp_path / "a.fits", format="ks4")
    assert not {"KS4OFMAP", "KS4OFVER"} & set(lost.header)
    assert largest_miss(correct_wcs(lost, offsets).wcs, image.wcs) < 1e-3


def test_the_name_of_the_wcs(raw, image, offsets, tmp_path):
    """The own name of the WCS is kept, and the checksum is appended once."""
    name = image.wcs.wcs.name
    assert name.startswith("SCAMP ks4_ccd offsets ")
    image.write(tmp_path / "a.fits")
    with pytest.warns(KS4Warning, match=LOST):
        again = correct_wcs(CCDData.read(tmp_path / "a.fits"), offsets)
    assert again.wcs.wcs.name == name
    assert raw.wcs.wcs.name == "SCAMP"
    raw.wcs.wcs.name = "x" * 68
    assert len(correct_wcs(raw, offsets).wcs.wcs.name) == 68


def rotated(wcs):
    """Return a WCS whose north is elsewhere."""
    turned = WCS(wcs.to_header())
    turned.wcs.pc = [[0.8, 0.6], [-0.6, 0.8]]
    return turned


@pytest.mark.parametrize(
    "target",
    [
        lambda raw, image: raw.wcs,
        lambda raw, image: rotated(image.wcs),
        lambda raw, image: WCS(image.wcs.to_header()),
    ],
    ids=["uncorrected", "rotated", "its linear part"],
)
def test_a_resampled_image_is_not_corrected_twice(
    raw, image, offsets, tmp_path, target
):
    """Its positions are right already: in memory, and from file to file."""
    projected = ccdproc.wcs_project(image, target(raw, image))
    with pytest.raises(AlreadyCalibratedError, match=RESAMPLED):
        correct_wcs(projected, offsets)
    projected.write(tmp_path / "a.fits", format="ks4")
    read = CCDData.read(tmp_path / "a.fits", format="ks4")
    assert read.header["KS4OFMAP"] == offsets.name
    flat = ZeroPointMap(np.full((5, 4), 30.0), grid=offsets.grid)
    # Pixels elsewhere on the stack are refused before positions are looked at.
    with pytest.raises((AlreadyCalibratedError, GeometryError)):
        calibrate_file(tmp_path / "a.fits", tmp_path / "b.fits", flat, offsets=offsets)
    assert not (tmp_path / "b.fits").exists()


def test_an_image_resampled_before_it_was_corrected(raw, offsets, tmp_path):
    """Cards of ccdproc before the record of the correction have no effect."""
    image = correct_wcs(ccdproc.wcs_project(raw, raw.wcs), offsets)
    image.write(tmp_path / "a.fits")
    with pytest.warns(KS4Warning, match=LOST):
        again = correct_wcs(CCDData.read(tmp_path / "a.fits"), offsets)
    assert largest_miss(again.wcs, image.wcs) < 1e-3


def test_resampling_by_hand_is_noticed_by_the_name(raw, image, offsets):
    """The WCS of a resampled image is not the corrected one, even without a card."""
    by_hand = CCDData(image.data, unit="adu", meta=image.header, wcs=raw.wcs)
    with pytest.raises(AlreadyCalibratedError, match="delete KS4OFMAP"):
        correct_wcs(by_hand, offsets)
    del by_hand.header["KS4OFMAP"]
    correct_wcs(by_hand, offsets)


def test_a_wcs_that_was_fitted_anew(image, offsets, tmp_path):
    """A new solution has other numbers, even with the same name."""
    image.write(tmp_path / "a.fits")
    fits.setval(tmp_path / "a.fits", "CRVAL1", value=122.03390)
    with pytest.raises(AlreadyCalibratedError, match="its WCS was replaced"):
        correct_wcs(CCDData.read(tmp_path / "a.fits"), offsets)


def test_files_that_lost_the_correction(raw, image, offsets, tmp_path):
    """calibrate_file corrects such files again, and names the WCS that it writes."""
    flat = ZeroPointMap(np.full((5, 4), 30.0), grid=offsets.grid)
    raw.write(tmp_path / "raw.fits")
    names = [tmp_path / f"{name}.fits" for name in "abc"]
    calibrate_file(tmp_path / "raw.fits", names[0], flat, offsets=offsets)
    first = CCDData.read(names[0], format="ks4")
    assert first.wcs.wcs.name == image.wcs.wcs.name
    first.write(names[1])
    with pytest.warns(KS4Warning, match=LOST):
        calibrate_file(names[1], names[2], flat, offsets=offsets, recalibrate=True)
    again = CCDData.read(names[2], format="ks4")
    assert largest_miss(again.wcs, image.wcs) < 1e-3
    assert again.wcs.wcs.name == image.wcs.wcs.name


def test_catalogs_of_images_that_lost_the_correction(image, offsets, tmp_path):
    """The positions of their catalogs are corrected once if the meta has the header."""
    image.write(tmp_path / "a.fits")
    header = fits.getheader(tmp_path / "a.fits")
    x, y = np.array([30.0, 60.0]), np.array([20.0, 50.0])
    bare = WCS(header)
    lon, lat = bare.all_pix2world(x, y, 0)
    table = Table({"X_IMAGE": x + 1, "Y_IMAGE": y + 1, "MAG_APER5": [-5.0, -6.0]})
    table["ALPHA_J2000"], table["DELTA_J2000"] = lon, lat
    table.meta.update(header)
    flat = ZeroPointMap(np.full((5, 4), 30.0), grid=offsets.grid)
    options = {"offsets": offsets, "zp_error": "ignore"}
    corrected = calibrate_catalog(table, {"APER5": flat}, **options)
    expected = image.wcs.all_pix2world(x, y, 0)
    found = corrected["ALPHA_J2000"], corrected["DELTA_J2000"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    # The same sources with the magnitudes of another run of photometry.
    measured = corrected[table.colnames]
    measured["MAG_APER5"] = table["MAG_APER5"]
    for keyword in [key for key in measured.meta if str(key).startswith("KS4ZP")]:
        del measured.meta[keyword]
    with pytest.raises(AlreadyCalibratedError, match="KS4OFMAP"):
        calibrate_catalog(measured, {"APER5": flat}, **options)
    table.meta["CPDIS1"] = "LOOKUP"
    with pytest.raises(AlreadyCalibratedError, match="KS4OFMAP"):
        calibrate_catalog(table, {"APER5": flat}, **options)


def test_a_file_of_format_ks4_read_by_astropys(image, offsets, tmp_path):
    """Such an image has no WCS: the message names the format that keeps it."""
    image.write(tmp_path / "a.fits", format="ks4")
    ccd = CCDData.read(tmp_path / "a.fits")
    assert ccd.wcs is None
    with pytest.raises(GeometryError, match='format="ks4"'):
        correct_wcs(ccd, offsets)


def test_combined_files(image, tmp_path):
    """ccdproc.combine passes the format on, and its result can be written."""
    paths = [str(tmp_path / f"{name}.fits") for name in "ab"]
    for path in paths:
        image.write(path, format="ks4")
    combined = ccdproc.combine(paths, method="median", format="ks4")
    np.testing.assert_array_equal(combined.data, image.data)
    combined.write(tmp_path / "c.fits", format="ks4")
    back = CCDData.read(tmp_path / "c.fits", format="ks4")
    for ccd in (combined, back):
        assert largest_miss(ccd.wcs, image.wcs) < 1e-3


def test_collections_of_files_without_tables(raw, image, offsets, tmp_path):
    """Files of a collection are corrected after they were read."""
    for name in "ab":
        raw.write(tmp_path / f"{name}.fits", format="ks4")
    collection = ccdproc.ImageFileCollection(tmp_path)
    for ccd in collection.ccds(field1="0403"):
        assert largest_miss(correct_wcs(ccd, offsets).wcs, image.wcs) < 1e-3
    paths = collection.files_filtered(field1="0403", include_path=True)
    assert len(paths) == 2


def test_a_cutout_keeps_the_name_and_its_plain_file_is_recognised(
    image, offsets, tmp_path
):
    """Cutout2D shifts the reference pixel, which the checksum leaves out."""
    cut = Cutout2D(image.data, (55.5, 37), (45, 68), wcs=image.wcs)
    part = CCDData(cut.data, unit="adu", meta=image.header, wcs=cut.wcs)
    part.write(tmp_path / "a.fits")
    with pytest.warns(KS4Warning, match=LOST):
        again = correct_wcs(CCDData.read(tmp_path / "a.fits"), offsets, origin=cut)
    assert largest_miss(again.wcs, part.wcs) < 1e-3
