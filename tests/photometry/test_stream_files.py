# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""calibrate_file: files of several HDUs, masks beside images, checksums, races."""

import gzip
import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from ks4_ccd import (
    GeometryError,
    KS4Error,
    KS4Warning,
    MapGrid,
    MapKey,
    OffsetMap,
    ZeroPointMap,
    calibrate_file,
)
from ks4_ccd.files.planes import TargetPlanes
from ks4_ccd.photometry import stream
from ks4_ccd.survey import _task as batch_task

SHAPE = (40, 60)
FACTOR = np.float32(10**0.04)


@pytest.fixture
def zpmap():
    """Return a map that multiplies an image by 10**0.04."""
    return ZeroPointMap(np.full((3, 2), 29.9), grid=MapGrid((3, 2), 20))


def plane(name, value, shape=SHAPE, dtype=np.float32, **cards):
    """Return an image extension of a constant value."""
    hdu = fits.ImageHDU(np.full(shape, value, dtype), name=name)
    hdu.header.update(cards)
    return hdu


def table():
    """Return a table extension."""
    column = fits.Column("FLUX", "D", array=np.arange(5.0))
    return fits.BinTableHDU.from_columns([column], name="CATALOG")


@pytest.fixture
def write(tmp_path):
    """Return a factory of files of several HDUs; by default the primary is empty."""

    def write(*hdus, primary=None, name="raw.fits", **options):
        hdus = fits.HDUList([fits.PrimaryHDU(primary), *hdus])
        hdus.writeto(tmp_path / name, **options)
        return tmp_path / name

    return write


@pytest.fixture
def calibrate(zpmap, tmp_path):
    """Return a function that calibrates a file and returns its HDUs by name."""

    def calibrate(source, **options):
        options = {"progress": False, "overwrite": True} | options
        target = calibrate_file(source, tmp_path / "cal.fits", zpmap, **options)
        with fits.open(target, checksum=True) as hdus:
            hdus.verify("exception")
            return {
                (hdu.name if n else "PRIMARY"): (np.asarray(hdu.data), hdu.header)
                for n, hdu in enumerate(hdus)
            }

    return calibrate


def test_several_detectors_are_refused_by_name(write, calibrate):
    """Only one of them would be calibrated."""
    source = write(*(plane(name, 100) for name in ("KK", "MM", "NN", "TT")))
    with pytest.raises(KS4Error, match=r"60 x 40 pixels: 1 \(KK\), 2 \(MM\).*hdu="):
        calibrate(source)
    with pytest.raises(KS4Error, match=r"1 \(KK\), 2 \(MM\)"):
        CCDData.read(source, format="ks4")


@pytest.mark.parametrize(
    "names", [("ERR",), ("DQ",), ("WEIGHT",), ("ivar", "X"), ("",)]
)
@pytest.mark.parametrize("shape", [SHAPE, (1, *SHAPE)])
def test_planes_of_unknown_meaning_are_refused(write, calibrate, names, shape):
    """Such planes are refused, because they would remain unscaled."""
    image = np.full(SHAPE, 100, np.float32)
    source = write(*(plane(name, 3, shape) for name in names), primary=image)
    with pytest.raises(KS4Error, match=f"1.*{names[0].upper()}.*UNCERT"):
        calibrate(source)


@pytest.mark.parametrize("hdu", [2, "MM", "mm", ("MM", 1)])
def test_one_of_several_images(write, calibrate, hdu):
    """The result contains that one, and no uncalibrated image of its shape."""
    detectors = [plane(name, value) for value, name in enumerate(("KK", "MM", "NN"), 1)]
    source = write(*detectors, table(), plane("THUMB", 7, (4, 6)))
    hdus = calibrate(source, hdu=hdu)
    assert list(hdus) == ["PRIMARY", "CATALOG", "THUMB", "ZPMAP"]
    np.testing.assert_allclose(hdus["PRIMARY"][0], 2 * FACTOR)
    assert CCDData.read(source, format="ks4", hdu=hdu).data[0, 0] == 2


@pytest.mark.parametrize(
    ("hdu", "words"),
    [
        ("XX", r"no HDU of the file, which contains 0 \(PRIMARY\), 1 \(KK\)"),
        (7, "no HDU of the file"),
        (("KK", 2), "no HDU of the file"),
        ("MM", r"several HDUs: 2 \(MM\), 3 \(MM,2\)"),
        (0, r"must be an image other than.*1 \(KK\), 2 \(MM\)"),
        ("MASK", "must be an image other than a mask"),
        ("CATALOG", "must be an image other than"),
        ("CUBE", "expected a 2D image"),
        (-1, "hdu must be the number"),
        (True, "hdu must be the number"),
        (1.0, "hdu must be the number"),
        ("", "hdu must be the number"),
        (("KK", "1"), "hdu must be the number"),
    ],
)
def test_wrong_hdus(write, calibrate, tmp_path, hdu, words):
    """The message lists the existing HDUs."""
    source = write(
        plane("KK", 1),
        plane("MM", 1),
        plane("MM", 1, EXTVER=2),
        plane("MASK", 0, dtype=np.uint8, EXTVER=3),
        table(),
        plane("CUBE", 1, (2, *SHAPE)),
    )
    with pytest.raises(KS4Error, match=words):
        calibrate(source, hdu=hdu)
    assert not (tmp_path / "cal.fits").exists()


def test_excluded_planes_warn(write, calibrate):
    """Planes with such names belong to the image; other detectors are ignored."""
    source = write(plane("SCI", 1), plane("ERR", 1), plane("DQ", 0), plane("OTHER", 1))
    with pytest.warns(KS4Warning, match=r"HDU 2 \(ERR\), 3 \(DQ\) left out"):
        hdus = calibrate(source, hdu="SCI")
    assert list(hdus) == ["PRIMARY", "ZPMAP"]


def test_planes_belong_to_the_image_of_their_version(write, calibrate):
    """Among several images, EXTVER determines the owner of mask and uncertainty."""
    hdus = []
    for version in (1, 2):
        hdus += [
            plane("SCI", version, EXTVER=version),
            plane("MASK", version == 2, dtype=np.uint8, EXTVER=version),
            plane("UNCERT", 10 * version, EXTVER=version, UTYPE="StdDevUncertainty"),
        ]
    source = write(*hdus)
    for version in (1, 2):
        result = calibrate(source, hdu=("SCI", version), zp_error="ignore")
        np.testing.assert_allclose(result["PRIMARY"][0], version * FACTOR)
        np.testing.assert_array_equal(result["MASK"][0], version == 2)
        np.testing.assert_allclose(result["UNCERT"][0], 10 * version * FACTOR)


def test_planes_belong_to_the_primary_image(write, calibrate):
    """Files of CCDData are read so; another image of that shape has no planes."""
    image = np.full(SHAPE, 100, np.float32)
    source = write(plane("MASK", 1, dtype="u1"), plane("OTHER", 5), primary=image)
    np.testing.assert_array_equal(calibrate(source, hdu=0)["MASK"][0], 1)
    other = calibrate(source, hdu="OTHER")
    assert "MASK" not in other
    np.testing.assert_allclose(other["PRIMARY"][0], 5 * FACTOR)


@pytest.mark.parametrize("names", [("KK", "MM", "MASK"), ("KK", "MASK", "MASK")])
def test_ambiguous_masks_are_refused(write, calibrate, names):
    """A mask for one of two detectors, and two masks for one, are refused."""
    source = write(*(plane(name, 1) for name in names))
    with pytest.raises(KS4Error, match=r"expected one extension MASK for HDU 1 \(KK\)"):
        calibrate(source, hdu="KK")


def test_tables_and_other_images_are_copied_byte_for_byte(write, calibrate, tmp_path):
    """Scaled, compressed and with checksums; those of the result are valid."""
    scaled = fits.ImageHDU(np.arange(12, dtype=np.uint16).reshape(3, 4), name="SCALED")
    tiles = fits.CompImageHDU(np.arange(600, dtype="i4").reshape(20, 30), name="TILES")
    mask = plane("MASK", 0, dtype="u1")
    source = write(plane("SCI", 1), table(), scaled, tiles, mask, checksum=True)
    hdus = calibrate(source)
    assert list(hdus)[2:5] == ["CATALOG", "SCALED", "TILES"]
    np.testing.assert_array_equal(hdus["SCALED"][0], scaled.data)
    np.testing.assert_array_equal(hdus["TILES"][0], tiles.data)
    copied, whole = stored(tmp_path / "cal.fits"), stored(source)
    assert [copied[k] == whole[k] for k in ("CATALOG", "SCALED", "TILES")] == [True] * 3


def stored(path):
    """Return the bytes of each HDU of a file, by its name."""
    content = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        where = {hdu.name: hdu.fileinfo() for hdu in hdus}
    return {
        name: content[w["hdrLoc"] : w["datLoc"] + w["datSpan"]]
        for name, w in where.items()
    }


def test_a_primary_image_of_another_shape_is_copied(write, calibrate):
    """A primary image of another shape becomes an extension."""
    small = np.arange(12, dtype=np.int16).reshape(3, 4)
    source = write(plane("SCI", 1), primary=small, checksum=True)
    with pytest.raises(GeometryError):
        calibrate(source)
    hdus = calibrate(source, hdu="SCI")
    assert list(hdus) == ["PRIMARY", "", "ZPMAP"]
    np.testing.assert_array_equal(hdus[""][0], small)
    assert hdus[""][1]["XTENSION"] == "IMAGE"


def test_the_maps_of_an_earlier_calibration_are_replaced(write, calibrate, tmp_path):
    """The result has only those of the last one."""
    source = write(plane("SCI", 1))
    calibrate(source)
    (tmp_path / "cal.fits").rename(tmp_path / "once.fits")
    hdus = calibrate(tmp_path / "once.fits", recalibrate=True)
    assert list(hdus) == ["PRIMARY", "ZPMAP"]


def test_lookup_tables_are_replaced_by_new_ones(write, calibrate, tan_wcs, tmp_path):
    """With offsets= the old ones are not copied."""
    header = tan_wcs(SHAPE, field="0403").to_header()
    old = plane("WCSDVARR", 0, (2, 2))
    source = write(plane("SCI", 1, **header), old)
    assert "WCSDVARR" in calibrate(source)
    key = MapKey("dra", "0403", "R", "single")
    zeros = np.zeros((3, 2))
    offsets = OffsetMap(zeros, zeros, grid=MapGrid((3, 2), 20), key=key)
    calibrate(source, offsets=offsets)
    with fits.open(tmp_path / "cal.fits") as hdus:
        assert [hdu.name for hdu in hdus].count("WCSDVARR") == 2


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_masks_beside_an_image_are_kept(write, calibrate, suffix):
    """Mask files are read in bands of rows, and combined with uncalibrated pixels."""
    masked = np.zeros(SHAPE, np.uint8)
    masked[3:7, 5:50] = 1
    source = write(primary=np.ones(SHAPE, np.float32))
    write(primary=masked, name=f"raw.mask.fits{suffix}")
    np.testing.assert_array_equal(calibrate(source)["MASK"][0], masked)


def test_masks_are_not_calibrated(write, calibrate):
    """A mask file among the images is ignored; alone it is an image."""
    mask = write(primary=np.ones(SHAPE, np.uint8), name="raw.mask.fits")
    assert "ZPMAP" in calibrate(mask)
    write(primary=np.ones(SHAPE, np.float32))
    with pytest.raises(KS4Error, match=r"raw\.mask\.fits is the mask of .*raw\.fits"):
        calibrate(mask)


def test_the_extension_mask_precedes_the_mask_file(write, calibrate):
    """The order is that of CCDData.read."""
    source = write(plane("MASK", 1, dtype="u1"), primary=np.ones(SHAPE, np.float32))
    write(primary=np.zeros(SHAPE, np.uint8), name="raw.mask.fits")
    np.testing.assert_array_equal(calibrate(source)["MASK"][0], 1)
    assert CCDData.read(source, format="ks4").mask.all()


def test_masks_of_several_images_beside_them(write, calibrate):
    """Each image has the mask of its name; one mask for all is refused."""
    source = write(plane("KK", 1), plane("MM", 2))
    masks = [plane(name, n, dtype="u1") for n, name in enumerate(("KK", "MM"))]
    write(*masks, name="raw.mask.fits")
    assert not calibrate(source, hdu="KK")["MASK"][0].any()
    assert calibrate(source, hdu="MM")["MASK"][0].all()
    write(masks[0], name="raw.mask.fits", overwrite=True)
    with pytest.raises(KS4Error, match="expected a mask for each image"):
        calibrate(source, hdu="MM")


def test_a_damaged_mask_is_refused(write, calibrate, tmp_path):
    """The message names the mask file."""
    source = write(primary=np.ones(SHAPE, np.float32))
    mask = write(primary=np.zeros(SHAPE, np.uint8), name="raw.mask.fits")
    content = bytearray(gzip.compress(mask.read_bytes()))
    mask.unlink()
    content[len(content) // 2] ^= 1
    (tmp_path / "raw.mask.fits.gz").write_bytes(content)
    with pytest.raises(KS4Error, match=r"raw\.mask\.fits\.gz is damaged"):
        calibrate(source)
    assert not (tmp_path / "cal.fits").exists()


@pytest.mark.parametrize("checksum", [True, False])
def test_checksums_of_rewritten_planes(write, calibrate, monkeypatch, checksum):
    """Checksums are those of the new data, or absent if the source has none."""
    monkeypatch.setattr(stream, "_BAND_BYTES", 7 * SHAPE[1] * 4)
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    sigma = plane("UNCERT", 3, UTYPE="StdDevUncertainty")
    source = write(
        sigma, plane("MASK", 1, dtype="u1"), primary=noise, checksum=checksum
    )
    # astropy issues a warning if they do not match.
    hdus = calibrate(source, zp_error="ignore")
    for name in ("PRIMARY", "MASK", "UNCERT"):
        assert ("DATASUM" in hdus[name][1]) == checksum
        assert "CHECKSUM" not in hdus[name][1]


@pytest.mark.parametrize("name", ["PRIMARY", "MASK", "CATALOG"])
def test_data_that_do_not_match_their_checksum_warn(write, zpmap, tmp_path, name):
    """The warning is issued for rewritten and for copied data."""
    image = np.ones(SHAPE, np.float32)
    source = write(plane("MASK", 1, dtype="u1"), table(), primary=image, checksum=True)
    content = bytearray(source.read_bytes())
    with fits.open(source) as hdus:
        content[hdus[name].fileinfo()["datLoc"] + 3] ^= 2
    source.write_bytes(content)
    with pytest.warns(KS4Warning, match=rf"HDU \d \({name}\) do not match"):
        calibrate_file(source, tmp_path / "cal.fits", zpmap, progress=False)


def disturb(monkeypatch, action):
    """Call a function while a file is calibrated."""
    finish = TargetPlanes.finish

    def disturbed(self):
        finish(self)
        action()

    monkeypatch.setattr(TargetPlanes, "finish", disturbed)


def test_a_target_that_appears_meanwhile_is_kept(
    write, calibrate, tmp_path, monkeypatch
):
    """Without overwriting it is not replaced, and no other file remains."""
    source = write(primary=np.ones(SHAPE, np.float32))
    target = tmp_path / "cal.fits"
    disturb(monkeypatch, lambda: target.write_bytes(b"other"))
    with pytest.raises(KS4Error, match=r"cal\.fits already exists"):
        calibrate(source, overwrite=False)
    assert target.read_bytes() == b"other"
    assert {path.name for path in tmp_path.iterdir()} == {"raw.fits", "cal.fits"}


@pytest.mark.parametrize("changed", ["raw.fits", "raw.mask.fits"])
def test_a_source_that_changes_meanwhile_is_refused(
    write, calibrate, tmp_path, monkeypatch, changed
):
    """The image or its mask changes; no result is written."""
    source = write(primary=np.ones(SHAPE, np.float32))
    write(primary=np.zeros(SHAPE, np.uint8), name="raw.mask.fits")
    disturb(monkeypatch, lambda: os.utime(tmp_path / changed, ns=(1, 1)))
    with pytest.raises(KS4Error, match=f"{changed} was changed"):
        calibrate(source)
    assert {p.name for p in tmp_path.iterdir()} == {"raw.fits", "raw.mask.fits"}


def test_a_hard_link_to_the_source_is_replaced_alone(write, calibrate, tmp_path):
    """The source is unchanged under its other name."""
    source = write(primary=np.ones(SHAPE, np.float32))
    before = source.read_bytes()
    os.link(source, tmp_path / "cal.fits")
    calibrate(source)
    assert source.read_bytes() == before
    assert fits.getheader(tmp_path / "cal.fits")["MAGZERO"] == 30


def test_the_result_of_a_lost_attempt_is_recognised(write, zpmap, tmp_path):
    """A batch may replace it, but not other files that appear in its folder."""
    source, target = write(primary=np.ones(SHAPE, np.float32)), tmp_path / "cal.fits"
    assert not batch_task._is_result(target)
    target.write_bytes(b"other")
    assert not batch_task._is_result(target)
    assert not batch_task._is_result(source)
    calibrate_file(source, target, zpmap, overwrite=True)
    assert batch_task._is_result(target)
