# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Test the format "ks4" of CCDData: a file contains all parts of an image."""

import pickle
import subprocess
import sys

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.registry import IORegistryError
from astropy.nddata import CCDData, Cutout2D
from astropy.wcs import WCS, DistortionLookupTable

import ks4_ccd
from ks4_ccd import (
    AlreadyCalibratedError,
    DirectionlessMapError,
    GeometryError,
    KS4Error,
    KS4Warning,
    MapGrid,
    MapKey,
    MapMismatchError,
    MisalignmentMap,
    OffsetMap,
    correct_wcs,
)

SHAPE = (80, 100)
# FITS cards give CRPIX, CRVAL and so on 14 digits.
POSITION = {"rtol": 0, "atol": 1e-11}


@pytest.fixture
def offsets():
    """An offset map of field 0403 in R, with amplitudes of half a pixel."""
    dra, ddec = np.random.default_rng(4).normal(0, 0.2, (2, 5, 4))
    key = MapKey("dra", "0403", "R", "single")
    return OffsetMap(dra, ddec, grid=MapGrid((5, 4), 20), key=key)


@pytest.fixture
def raw(make_ccd, tan_wcs):
    """An image of that field, not corrected yet."""
    meta = fits.Header({"FIELD1": "0403", "FILTER": "R", "DATE-OBS": "2021-09-07"})
    return make_ccd(SHAPE, kind="std", meta=meta, wcs=tan_wcs(SHAPE, field="0403"))


@pytest.fixture
def image(raw, offsets):
    """The same, corrected."""
    return correct_wcs(raw, offsets)


@pytest.fixture
def points():
    """Return positions on the image, its edges included."""
    rng = np.random.default_rng(5)
    return rng.uniform(-0.5, 99.5, 300), rng.uniform(-0.5, 79.5, 300)


def sky_of(wcs, x, y):
    """Return positions in degrees."""
    return np.array(wcs.all_pix2world(x, y, 0))


def astropys_wcs(path, **options):
    """Return the WCS that astropy reads, without this package."""
    with fits.open(path) as hdus:
        return WCS(hdus[0].header, fobj=hdus, **options)


def test_positions_are_corrected(raw, image, offsets):
    """Corrections are the map values at its nodes, and the input is not changed."""
    x, y = np.meshgrid(*offsets.grid.centers())
    dra, ddec = offsets.at(x, y)
    before, after = (ccd.wcs.pixel_to_world(x, y) for ccd in (raw, image))
    moved = before.spherical_offsets_to(after)
    np.testing.assert_allclose(moved[0].arcsec, dra, rtol=0, atol=1e-6)
    np.testing.assert_allclose(moved[1].arcsec, ddec, rtol=0, atol=1e-6)
    assert raw.wcs.cpdis1 is None
    assert "KS4OFMAP" not in raw.header


def test_everything_comes_back(image, tmp_path, points):
    """A file has data, unit, mask, uncertainty, header, PSF and positions."""
    image.mask = np.arange(8000).reshape(SHAPE) % 7 == 0
    image.psf = np.eye(5)
    image.write(tmp_path / "a.fits", format="ks4")
    back = CCDData.read(tmp_path / "a.fits", format="ks4")
    np.testing.assert_array_equal(back.data, image.data)
    np.testing.assert_array_equal(back.mask, image.mask)
    np.testing.assert_array_equal(back.psf, image.psf)
    np.testing.assert_array_equal(back.uncertainty.array, image.uncertainty.array)
    assert type(back.uncertainty) is type(image.uncertainty)
    assert back.unit == image.unit
    for keyword in image.header:
        assert back.header[keyword] == image.header[keyword]
    np.testing.assert_array_equal(back.wcs.cpdis1.data, image.wcs.cpdis1.data)
    np.testing.assert_allclose(
        sky_of(back.wcs, *points), sky_of(image.wcs, *points), **POSITION
    )


@pytest.mark.parametrize("kind", [None, "std", "var", "ivar"])
def test_write_read_write_is_the_identity(make_ccd, raw, offsets, tmp_path, kind):
    """An image read and written again has the same bytes, for any header."""
    header = fits.Header(raw.header)
    header.update({"CRPIX1": 3, "CD1_1": 5.0, "LONGTEXT": "x" * 100})
    header["HIERARCH a long keyword"] = 1
    header.add_history("a")
    ccd = make_ccd(SHAPE, kind=kind, meta=header, wcs=raw.wcs)
    first, second = tmp_path / "a.fits", tmp_path / "b.fits"
    correct_wcs(ccd, offsets).write(first, format="ks4")
    CCDData.read(first, format="ks4").write(second, format="ks4")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("minerr", [0.0, 1e-3])
def test_astropy_reads_the_same_positions(image, tmp_path, points, minerr):
    """The same positions are read by astropy, also if it ignores small corrections."""
    image.write(tmp_path / "a.fits", format="ks4")
    wcs = astropys_wcs(tmp_path / "a.fits", minerr=minerr)
    np.testing.assert_allclose(
        sky_of(wcs, *points), sky_of(image.wcs, *points), **POSITION
    )


def test_the_file_is_standard(image, tmp_path):
    """A file has two float32 tables, and cards with their largest values."""
    image.write(tmp_path / "a.fits", format="ks4")
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == [
            "PRIMARY",
            "UNCERT",
            "WCSDVARR",
            "WCSDVARR",
        ]
        largest = max(np.abs(hdus["WCSDVARR", n].data).max() for n in (1, 2))
        for axis in (1, 2):
            assert hdus["WCSDVARR", axis].header["BITPIX"] == -32
            assert hdus[0].header[f"CPERR{axis}"] == pytest.approx(largest)


def test_sip_and_lookup_tables_together(raw, offsets, tmp_path, points):
    """The header does not repeat the coefficients in the WCS."""
    header = raw.wcs.to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_1_1": 2e-5})
    raw.wcs = WCS(header)
    image = correct_wcs(raw, offsets)
    image.write(tmp_path / "a.fits", format="ks4")
    back = CCDData.read(tmp_path / "a.fits", format="ks4")
    assert not {"A_2_0", "CTYPE1", "CPDIS1", "DP1.EXTVER"} & set(back.header)
    np.testing.assert_allclose(
        sky_of(back.wcs, *points), sky_of(image.wcs, *points), **POSITION
    )


def test_hst_tables_of_the_detector_are_kept(raw, tmp_path, points):
    """D2IMARR is kept, which astropy writes without D2IMERR."""
    tables = np.random.default_rng(6).normal(0, 0.3, (2, 4, 5)).astype(np.float32)
    raw.wcs.det2im1, raw.wcs.det2im2 = (
        DistortionLookupTable(table, (1, 1), (10, 10), (20, 20)) for table in tables
    )
    raw.write(tmp_path / "a.fits", format="ks4")
    back = CCDData.read(tmp_path / "a.fits", format="ks4")
    np.testing.assert_allclose(
        sky_of(back.wcs, *points), sky_of(raw.wcs, *points), **POSITION
    )


def test_a_plain_file_is_read_as_astropy_reads_it(raw, tmp_path):
    """Without lookup tables, header and WCS are those that astropy reads."""
    raw.write(tmp_path / "a.fits")
    ours = CCDData.read(tmp_path / "a.fits", format="ks4")
    theirs = CCDData.read(tmp_path / "a.fits")
    ours.header.remove("EXTEND", ignore_missing=True)
    storage = {"SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND"}
    assert [k for k in ours.header if k not in storage] == [
        k for k in theirs.header if k not in storage
    ]
    assert ours.wcs.to_header_string() == theirs.wcs.to_header_string()
    np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.parametrize(
    ("said", "given", "expected"),
    [
        (None, None, u.adu),
        ("ADU", None, u.adu),
        ("electron", None, u.electron),
        ("adu", "nJy", u.nJy),
        ("", None, u.dimensionless_unscaled),
    ],
)
def test_units(tmp_path, said, given, expected):
    """Without BUNIT the unit is adu; the argument takes precedence."""
    header = fits.Header() if said is None else fits.Header({"BUNIT": said})
    fits.PrimaryHDU(np.ones(SHAPE), header).writeto(tmp_path / "a.fits")
    ccd = CCDData.read(tmp_path / "a.fits", format="ks4", unit=given)
    assert ccd.unit == expected


def test_an_unknown_unit_is_named(tmp_path):
    """An unknown unit is named, with the file."""
    header = fits.Header({"BUNIT": "furlongs per"})
    fits.PrimaryHDU(np.ones(SHAPE), header).writeto(tmp_path / "a.fits")
    with pytest.raises(KS4Error, match=r"a\.fits: BUNIT.*furlongs per"):
        CCDData.read(tmp_path / "a.fits", format="ks4")


def test_a_dimensionless_image_stays_so(make_ccd, tmp_path):
    """A dimensionless image remains dimensionless."""
    make_ccd(SHAPE, unit="").write(tmp_path / "a.fits", format="ks4")
    assert CCDData.read(tmp_path / "a.fits", format="ks4").unit == u.Unit("")


@pytest.fixture
def masked(tmp_path):
    """Return two stacks with mask files beside them, and their masks."""
    mask = np.arange(8000).reshape(SHAPE) % 11 == 0
    data = np.ones(SHAPE, np.float32)
    fits.PrimaryHDU(mask.astype("u1") * 4).writeto(tmp_path / "a.mask.fits.gz")
    fits.PrimaryHDU(mask.astype("u1")).writeto(tmp_path / "b.mask.fits")
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    fits.CompImageHDU(data).writeto(tmp_path / "b.fits.fz")
    return mask


@pytest.mark.parametrize("name", ["a.fits", "b.fits.fz"])
def test_the_mask_beside_a_stack(masked, tmp_path, name):
    """Pixels other than 0 in NAME.mask.fits, compressed or not, are masked."""
    ccd = CCDData.read(tmp_path / name, format="ks4")
    np.testing.assert_array_equal(ccd.mask, masked)


def test_masks_that_the_caller_chooses(masked, tmp_path):
    """The mask is None, or that of a path."""
    read = CCDData.read
    assert read(tmp_path / "a.fits", format="ks4", mask=None).mask is None
    path = tmp_path / "b.mask.fits"
    ccd = read(tmp_path / "a.fits", format="ks4", mask=path)
    np.testing.assert_array_equal(ccd.mask, masked)


def test_a_mask_of_another_shape(tmp_path):
    """The message names both files."""
    fits.PrimaryHDU(np.ones(SHAPE)).writeto(tmp_path / "a.fits")
    fits.PrimaryHDU(np.ones((3, 3), "u1")).writeto(tmp_path / "a.mask.fits")
    with pytest.raises(GeometryError, match=r"a\.mask\.fits has.*\(3, 3\).*a\.fits"):
        CCDData.read(tmp_path / "a.fits", format="ks4")


def test_compressed_images(image, tmp_path, points):
    """Images compressed by fpack are read with their lookup tables."""
    image.write(tmp_path / "a.fits", format="ks4")
    with fits.open(tmp_path / "a.fits") as hdus:
        packed = fits.CompImageHDU(
            hdus[0].data, hdus[0].header, compression_type="GZIP_2", quantize_level=0
        )
        fits.HDUList([fits.PrimaryHDU(), packed, *hdus[1:]]).writeto(tmp_path / "a.fz")
    back = CCDData.read(tmp_path / "a.fz", format="ks4")
    np.testing.assert_array_equal(back.data, image.data)
    np.testing.assert_allclose(
        sky_of(back.wcs, *points), sky_of(image.wcs, *points), **POSITION
    )


def break_file(path, change):
    """Change the HDUs of a file."""
    with fits.open(path, mode="update") as hdus:
        change(hdus)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h[0].header.remove("CPDIS2"), "CPDIS1 without CPDIS2"),
        (lambda h: h[0].header.remove("CPDIS1"), "CPDIS2 without CPDIS1"),
        (
            lambda h: h.__delitem__(-1),
            "CPDIS2 requires WCSDVARR,2, which does not exist",
        ),
        (
            lambda h: h[0].header.set("CPDIS1", "POLYNOMIAL"),
            "CPDIS1 must be LOOKUP, got POLYNOMIAL",
        ),
        (
            lambda h: h["WCSDVARR", 1].data.__setitem__((0, 0), np.nan),
            "WCSDVARR,1 must be finite, got 1 of 20",
        ),
    ],
)
def test_incomplete_tables_are_refused(image, tmp_path, change, words):
    """The message names the file and its error."""
    path = tmp_path / "a.fits"
    image.write(path, format="ks4")
    break_file(path, change)
    with pytest.raises(KS4Error, match=rf"a\.fits.*{words}"):
        CCDData.read(path, format="ks4")


def test_tables_that_could_not_be_read_are_not_written(image, tmp_path):
    """Tables with NaN or of one axis are refused, and no file remains."""
    image.wcs.cpdis1.data[1, 1] = np.nan
    with pytest.raises(KS4Error, match="WCSDVARR,1 must be finite"):
        image.write(tmp_path / "a.fits", format="ks4")
    image.wcs.cpdis1 = None
    with pytest.raises(KS4Error, match="no cpdis1"):
        image.write(tmp_path / "a.fits", format="ks4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("linear", [False, True])
def test_a_wcs_without_ctype(tmp_path, linear):
    """The cards of a WCS without CTYPE remain cards, as in astropy's format."""
    cards = {"OBJECT": "flat"} | ({"CRPIX1": 3.0, "CDELT2": 2.0} if linear else {})
    header = fits.Header(cards)
    first, second, theirs = (tmp_path / f"{name}.fits" for name in "abc")
    ccd = CCDData(np.ones(SHAPE, "f4"), unit="adu", meta=header, wcs=WCS(header))
    ccd.write(first, format="ks4")
    back = CCDData.read(first, format="ks4")
    assert back.wcs is None
    np.testing.assert_array_equal(back.data, ccd.data)
    ccd.write(theirs)
    astropys = CCDData.read(theirs).header
    assert dict(back.header) | {"EXTEND": True} == dict(astropys) | {"EXTEND": True}
    back.write(second, format="ks4")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("pc", [[np.nan, 0], [0, 1]], "ccd.wcs is not usable: .*singular"),
        ("crpix", [np.inf, 0], "ccd.wcs is not usable: .*CRPIX1"),
    ],
)
def test_a_wcs_that_cannot_be_written(raw, tmp_path, name, value, words):
    """Errors of wcslib and astropy become KS4Errors, and no file remains."""
    setattr(raw.wcs.wcs, name, value)
    with pytest.raises(KS4Error, match=rf"cannot write .*a\.fits: {words}"):
        raw.write(tmp_path / "a.fits", format="ks4")
    assert list(tmp_path.iterdir()) == []


def test_tables_that_were_not_read_are_missed(image, tmp_path):
    """Lookup tables lost by astropy's format result in a warning."""
    image.write(tmp_path / "a.fits", format="ks4")
    ccd = CCDData.read(tmp_path / "a.fits")
    with pytest.warns(KS4Warning, match="contains the WCS without them"):
        ccd.write(tmp_path / "b.fits", format="ks4")
    with pytest.warns(KS4Warning, match="the positions are not corrected"):
        back = CCDData.read(tmp_path / "b.fits", format="ks4")
    assert back.wcs.cpdis1 is None
    assert "KS4OFMAP" not in back.header


def test_overwriting_is_asked_for(image, tmp_path):
    """The error is also an OSError, as in astropy's formats."""
    path = tmp_path / "a.fits"
    image.write(path, format="ks4")
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"a\.fits already exists") as caught:
        image.write(path, format="ks4")
    assert isinstance(caught.value, KS4Error)
    assert path.read_bytes() == before
    image.write(path, format="ks4", overwrite=True)
    assert path.read_bytes() == before


def test_other_files_are_left_to_astropy(raw, tmp_path):
    """Formats are guessed as before by astropy, and "ks4" is not guessed."""
    raw.write(tmp_path / "a.fits")
    assert CCDData.read(tmp_path / "a.fits").header["FIELD1"] == "0403"
    (tmp_path / "a.ks4").write_bytes(b"something")
    with pytest.raises(IORegistryError):
        CCDData.read(tmp_path / "a.ks4")


@pytest.mark.parametrize(
    "imports",
    [
        "import ks4_ccd; from astropy.nddata import CCDData",
        "from astropy.nddata import CCDData; import ks4_ccd",
        "from ks4_ccd import MapGrid; import astropy.nddata; "
        "CCDData = astropy.nddata.CCDData",
        "import ks4_ccd, ccdproc; from ccdproc import CCDData",
        "import importlib.util, ks4_ccd; importlib.util.find_spec('astropy.nddata'); "
        "from astropy.nddata import CCDData",
        "import importlib.util; importlib.util.find_spec('astropy.nddata'); "
        "import ks4_ccd; from astropy.nddata import CCDData",
        "import ks4_ccd.astrometry.connect; from astropy.nddata import CCDData",
    ],
)
def test_the_format_is_there_in_any_order_of_imports(imports):
    """The format is registered whenever `astropy.nddata` was imported."""
    code = (
        f"{imports}\nassert 'ks4' in CCDData.read.__doc__\n"
        "assert 'ks4' in CCDData.write.__doc__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


CUT = (slice(15, 60), slice(22, 90))


@pytest.mark.parametrize(
    "tool",
    [
        lambda ccd: ccd.copy(),
        lambda ccd: pickle.loads(pickle.dumps(ccd)),
        lambda ccd: ccdproc.flat_correct(ccd, CCDData(np.ones(SHAPE), unit="")),
        lambda ccd: ccd.multiply(2 * u.s, handle_meta="first_found"),
    ],
    ids=["copy", "pickle", "flat_correct", "multiply"],
)
def test_positions_survive(image, points, tool):
    """Copies, pickles and the tools of ccdproc keep positions."""
    wcs = tool(image).wcs
    np.testing.assert_allclose(
        sky_of(wcs, *points), sky_of(image.wcs, *points), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize(
    "cut",
    [
        lambda ccd: ccd[CUT].wcs,
        lambda ccd: ccdproc.trim_image(ccd[CUT]).wcs,
        lambda ccd: ccdproc.trim_image(ccd, fits_section="[23:90, 16:60]").wcs,
        lambda ccd: Cutout2D(ccd.data, (55.5, 37), (45, 68), wcs=ccd.wcs).wcs,
    ],
    ids=["slice", "slice and trim", "trim_image", "Cutout2D"],
)
def test_positions_survive_cuts(image, tmp_path, points, cut, read):
    """Cut-outs of corrected and of read images keep positions."""
    if read:
        image.write(tmp_path / "a.fits", format="ks4")
        image = CCDData.read(tmp_path / "a.fits", format="ks4")
    x, y = points
    np.testing.assert_allclose(
        sky_of(cut(image), x - 22, y - 15), sky_of(image.wcs, x, y), rtol=0, atol=1e-9
    )


def test_a_cut_out_is_written_with_its_tables(image, tmp_path, points):
    """A cut-out is written with its lookup tables in place."""
    image[CUT].write(tmp_path / "a.fits", format="ks4")
    x, y = points
    wcs = astropys_wcs(tmp_path / "a.fits")
    np.testing.assert_allclose(
        sky_of(wcs, x - 22, y - 15), sky_of(image.wcs, x, y), **POSITION
    )


def test_a_second_correction_is_refused(image, offsets, tmp_path):
    """A second correction is refused by the header, or by the tables."""
    assert image.header["KS4OFMAP"] == offsets.name
    assert image.header["KS4OFVER"] == ks4_ccd.__version__
    with pytest.raises(AlreadyCalibratedError, match="KS4OFMAP"):
        correct_wcs(image, offsets)
    image.write(tmp_path / "a.fits", format="ks4")
    with pytest.raises(AlreadyCalibratedError, match="KS4OFMAP"):
        correct_wcs(CCDData.read(tmp_path / "a.fits", format="ks4"), offsets)
    del image.header["KS4OFMAP"]
    with pytest.raises(AlreadyCalibratedError, match="CPDIS"):
        correct_wcs(image, offsets)


def test_what_cannot_be_corrected(raw, offsets):
    """Another field, a missing WCS and a map without direction are refused."""
    separations = MisalignmentMap(np.ones((5, 4)), grid=offsets.grid)
    with pytest.raises(DirectionlessMapError):
        correct_wcs(raw, separations)
    raw.header["FIELD1"] = "0404"
    with pytest.raises(MapMismatchError, match="0404"):
        correct_wcs(raw, offsets)
    raw.header["FIELD1"] = "0403"
    raw.wcs = None
    with pytest.raises(GeometryError, match="with a celestial WCS, found none"):
        correct_wcs(raw, offsets)


def test_a_cut_out_before_the_correction(raw, image, offsets, points):
    """The position of a cut-out on the stack is an argument."""
    cut = correct_wcs(raw[CUT], offsets, origin=(22, 15))
    x, y = points
    np.testing.assert_allclose(
        sky_of(cut.wcs, x - 22, y - 15), sky_of(image.wcs, x, y), rtol=0, atol=1e-9
    )
