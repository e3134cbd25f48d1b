# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""calibrate_file: agreement with apply_zeropoint, complete files, and bad files."""

import os
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from ks4_ccd import (
    AlreadyCalibratedError,
    GeometryError,
    KS4Error,
    MapGrid,
    MapKey,
    MapLibrary,
    MapMismatchError,
    MapNotFoundError,
    OffsetMap,
    apply_zeropoint,
    calibrate_file,
    correct_wcs,
)
from ks4_ccd.photometry import stream

CARDS = {"FIELD1": "0403", "FILTER": "R", "SATURATE": 60000, "BUNIT": "adu"}


@pytest.fixture
def zpmap(make_map, make_key):
    """Return a map of field 0403 in R, with a corner far from any star."""
    plain = make_map((6, 5), 20, empty=0)
    count = plain.count.copy()
    count[:3, :3] = 0
    return type(plain)(
        plain.values, plain.error, count, grid=plain.grid, key=make_key()
    )


@pytest.fixture
def library(zpmap, tmp_path):
    """Return a library of the map."""
    zpmap.save(tmp_path / "maps")
    return MapLibrary(tmp_path / "maps", image_shape=(100, 120))


@pytest.fixture
def small_bands(monkeypatch):
    """Set bands of seven rows, which end within cells and blocks."""
    monkeypatch.setattr(stream, "_BAND_BYTES", 7 * 120 * 4)


@pytest.fixture
def write_image(make_ccd, tmp_path):
    """Return a factory of FITS images of field 0403 in R; returns image and path."""

    def write(name="raw.fits", **options):
        ccd = make_ccd((100, 120), meta=fits.Header(CARDS), **options)
        ccd.write(tmp_path / name)
        return ccd, tmp_path / name

    return write


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("kind", [None, "std", "var", "ivar"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_the_result_is_that_of_apply_zeropoint(
    write_image, library, zpmap, tmp_path, kind, dtype
):
    """Data, uncertainty, mask and header are bit-identical."""
    if kind is not None and dtype is np.int16:
        pytest.skip("an uncertainty of int16 is all zeros or ones")
    mask = np.arange(12000).reshape(100, 120) % 17 == 0
    ccd, source = write_image(kind=kind, dtype=dtype, mask=mask)
    calibrate_file(source, tmp_path / "cal.fits", library)
    ours = CCDData.read(tmp_path / "cal.fits")
    expected = apply_zeropoint(ccd, zpmap)
    np.testing.assert_array_equal(ours.data, expected.data)
    np.testing.assert_array_equal(ours.mask, expected.mask)
    assert ours.unit == expected.unit
    if kind is not None:
        assert type(ours.uncertainty) is type(expected.uncertainty)
        np.testing.assert_array_equal(
            ours.uncertainty.array, expected.uncertainty.array
        )
    for keyword in expected.header:
        assert ours.header[keyword] == expected.header[keyword]


@pytest.mark.usefixtures("small_bands")
def test_an_image_without_a_mask_gets_one_where_stars_are_missing(
    write_image, library, zpmap, tmp_path
):
    """The mask exists only if such pixels exist and are to be masked."""
    ccd, source = write_image()
    calibrate_file(source, tmp_path / "cal.fits", library)
    expected = apply_zeropoint(ccd, zpmap).mask
    np.testing.assert_array_equal(CCDData.read(tmp_path / "cal.fits").mask, expected)
    calibrate_file(source, tmp_path / "filled.fits", library, uncalibrated="fill")
    assert CCDData.read(tmp_path / "filled.fits").mask is None


def test_the_map_is_written_to_extensions(write_image, library, zpmap, tmp_path):
    """ZPMAP, ZPERRMAP and ZPCOUNT are images whose axes are those of the stack."""
    _, source = write_image()
    calibrate_file(source, tmp_path / "cal.fits", library)
    with fits.open(tmp_path / "cal.fits") as hdus:
        np.testing.assert_array_equal(hdus["ZPMAP"].data, zpmap.values.T)
        np.testing.assert_array_equal(hdus["ZPERRMAP"].data, zpmap.error.T)
        np.testing.assert_array_equal(hdus["ZPCOUNT"].data, zpmap.count.T)
        header = hdus["ZPMAP"].header
        centers = (np.arange(1, 7) - header["CRPIX1"]) * header["CDELT1"]
        np.testing.assert_allclose(centers - 1, zpmap.grid.centers()[0])


def test_the_file_is_standard(write_image, library, tmp_path):
    """The file passes verification by astropy; WCS and other extensions are kept."""
    _, source = write_image(kind="std")
    fits.append(source, np.arange(5.0), fits.Header({"EXTNAME": "OTHER"}))
    calibrate_file(source, tmp_path / "cal.fits", library)
    with fits.open(tmp_path / "cal.fits") as hdus:
        hdus.verify("exception")
        names = [hdu.name for hdu in hdus]
        assert names[:3] == ["PRIMARY", "MASK", "UNCERT"]
        np.testing.assert_array_equal(hdus["OTHER"].data, np.arange(5.0))
    assert os.path.getsize(tmp_path / "cal.fits") % 2880 == 0


def test_compressed_and_scaled_images_are_read(make_ccd, library, zpmap, tmp_path):
    """Tile-compressed, gzipped and BZERO integer images are read."""
    data = np.random.default_rng(1).integers(0, 60000, (100, 120)).astype("u2")
    header = fits.Header(CARDS)
    fits.CompImageHDU(data, header).writeto(tmp_path / "raw.fits.fz")
    fits.PrimaryHDU(data, header).writeto(tmp_path / "raw.fits.gz")
    fits.PrimaryHDU(data, header).writeto(tmp_path / "scaled.fits")
    expected = apply_zeropoint(CCDData(data, unit="adu"), zpmap).data
    for name in ("raw.fits.fz", "raw.fits.gz", "scaled.fits"):
        target = calibrate_file(
            tmp_path / name, tmp_path / f"cal_{name[-2:]}.fits", library
        )
        result = CCDData.read(target)
        np.testing.assert_array_equal(result.data, expected)
        assert fits.getheader(target)["BITPIX"] == -32
        assert "BZERO" not in fits.getheader(target)


def test_the_primary_header_is_inherited(library, tmp_path):
    """Field and band of an image in an extension are read from the primary header."""
    data = np.ones((100, 120), np.float32)
    hdus = [fits.PrimaryHDU(header=fits.Header(CARDS)), fits.ImageHDU(data, name="SCI")]
    fits.HDUList(hdus).writeto(tmp_path / "raw.fits")
    calibrate_file(tmp_path / "raw.fits", tmp_path / "cal.fits", library)
    assert fits.getheader(tmp_path / "cal.fits")["FIELD1"] == "0403"


def test_physical_units_and_smoothing(write_image, library, zpmap, tmp_path):
    """BUNIT contains the unit, and the record the smoothing of the map."""
    ccd, source = write_image()
    calibrate_file(source, tmp_path / "cal.fits", library, unit="nJy", smooth=1)
    result = CCDData.read(tmp_path / "cal.fits")
    expected = apply_zeropoint(ccd, zpmap.smoothed(1), unit="nJy")
    np.testing.assert_array_equal(result.data, expected.data)
    assert result.unit == expected.unit
    assert result.header["KS4ZPMAP"].endswith("smoothed(1)")


def test_denoised_maps(write_image, library, zpmap, tmp_path):
    """The surface is applied, and the map in the file is the denoised one."""
    ccd, source = write_image()
    edges = [(40.0,), (61.0,)]
    calibrate_file(source, tmp_path / "cal.fits", library, denoise=edges)
    result = CCDData.read(tmp_path / "cal.fits")
    expected = apply_zeropoint(ccd, zpmap.denoised(edges))
    np.testing.assert_array_equal(result.data, expected.data)
    assert result.header["KS4ZPMAP"].endswith("denoised(edges=1+1)")
    with pytest.raises(KS4Error, match="found both"):
        calibrate_file(source, tmp_path / "x", library, denoise="none", smooth=1)


def test_in_place_and_overwriting(write_image, library, tmp_path):
    """A file is replaced only on request; the target may be the source."""
    _, source = write_image()
    before = source.read_bytes()
    with pytest.raises(KS4Error, match=r"raw.fits already exists; use overwrite"):
        calibrate_file(source, source, library)
    assert source.read_bytes() == before
    calibrate_file(source, source, library, overwrite=True)
    assert fits.getheader(source)["KS4ZPMTH"] == "bilinear"
    with pytest.raises(AlreadyCalibratedError):
        calibrate_file(source, tmp_path / "again.fits", library)


def test_a_progress_bar_counts_the_rows(write_image, library, tmp_path, capsys):
    """The progress bar is on standard error, and is not shown without a terminal."""
    _, source = write_image()
    calibrate_file(source, tmp_path / "a.fits", library)
    assert capsys.readouterr().err == ""
    calibrate_file(source, tmp_path / "b.fits", library, progress=True)
    assert "100/100" in capsys.readouterr().err


@pytest.fixture
def offsets():
    """Return an offset map of field 0403 in R."""
    dra, ddec = np.random.default_rng(4).normal(0, 0.2, (2, 6, 5))
    key = MapKey("dra", "0403", "R", "single")
    return OffsetMap(dra, ddec, grid=MapGrid((6, 5), 20), key=key)


def sky_of(path):
    """Return positions on the image according to astropy alone."""
    x, y = np.random.default_rng(5).uniform(0, 99, (2, 100))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        return np.array(WCS(hdus[0].header, fobj=hdus).all_pix2world(x, y, 0))


@pytest.mark.parametrize("form", ["map", "library", "same library"])
def test_offsets_correct_the_positions(
    write_image, library, offsets, tan_wcs, tmp_path, form
):
    """The WCS is that of correct_wcs, also for astropy; a second time is refused."""
    ccd, source = write_image(wcs=tan_wcs((100, 120), field="0403"))
    offsets.save(tmp_path / "offsets")
    if form == "same library":
        offsets.save(tmp_path / "maps")
        library = MapLibrary(tmp_path / "maps", image_shape=(100, 120))
    given = {
        "map": offsets,
        "library": MapLibrary(tmp_path / "offsets", image_shape=(100, 120)),
        "same library": library,
    }[form]
    target = calibrate_file(source, tmp_path / "cal.fits", library, offsets=given)
    expected = correct_wcs(ccd, offsets)
    expected.write(tmp_path / "expected.fits", format="ks4")
    np.testing.assert_allclose(
        sky_of(target), sky_of(tmp_path / "expected.fits"), rtol=0, atol=1e-11
    )
    assert np.abs(sky_of(target) - sky_of(source)).max() > 0.1 / 3600
    back = CCDData.read(target, format="ks4")
    assert back.header["KS4OFMAP"] == expected.header["KS4OFMAP"]
    with pytest.raises(AlreadyCalibratedError, match="KS4OFMAP"):
        calibrate_file(
            target, tmp_path / "b.fits", library, offsets=offsets, recalibrate=True
        )
    assert not (tmp_path / "b.fits").exists()


def test_lookup_tables_are_kept(make_ccd, library, offsets, tan_wcs, tmp_path):
    """Those of an image with corrected positions are unchanged."""
    ccd = make_ccd(
        (100, 120), meta=fits.Header(CARDS), wcs=tan_wcs((100, 120), field="0403")
    )
    correct_wcs(ccd, offsets).write(tmp_path / "raw.fits", format="ks4")
    target = calibrate_file(tmp_path / "raw.fits", tmp_path / "cal.fits", library)
    np.testing.assert_array_equal(sky_of(target), sky_of(tmp_path / "raw.fits"))
    assert fits.getheader(target)["KS4OFMAP"] == offsets.name


def test_an_image_without_a_wcs_has_no_positions(
    write_image, library, offsets, tmp_path
):
    """Offsets for an image without a WCS are refused, and no file is written."""
    _, source = write_image()
    with pytest.raises(GeometryError, match="with a celestial WCS, found none"):
        calibrate_file(source, tmp_path / "cal.fits", library, offsets=offsets)
    assert not (tmp_path / "cal.fits").exists()


@pytest.mark.parametrize(
    ("cards", "error", "words"),
    [
        ({"FIELD1": None}, MapMismatchError, "FIELD1"),
        ({"FILTER": None}, MapMismatchError, "FILTER"),
        ({"FILTER": "I"}, MapNotFoundError, "I"),
        ({"FIELD1": "0404"}, MapNotFoundError, "0404"),
    ],
)
def test_the_header_must_name_a_map(library, tmp_path, cards, error, words):
    """Field and band select the map."""
    header = fits.Header(CARDS | cards)
    for keyword in [k for k, v in cards.items() if v is None]:
        header.remove(keyword)
    fits.PrimaryHDU(np.ones((100, 120), "f4"), header).writeto(tmp_path / "raw.fits")
    with pytest.raises(error, match=words):
        calibrate_file(tmp_path / "raw.fits", tmp_path / "cal.fits", library)
    assert {p.name for p in tmp_path.iterdir()} == {"raw.fits", "maps"}


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (np.ones((3, 100, 120), "f4"), GeometryError, r"2D image.*\(3, 100, 120\)"),
        (np.ones((99, 120), "f4"), GeometryError, "120 x 99"),
        (None, KS4Error, "contains no image"),
    ],
)
def test_wrong_images_are_refused(library, tmp_path, data, error, words):
    """Cubes, images of another size, and files without an image are refused."""
    fits.PrimaryHDU(data, fits.Header(CARDS)).writeto(tmp_path / "raw.fits")
    with pytest.raises(error, match=words):
        calibrate_file(tmp_path / "raw.fits", tmp_path / "cal.fits", library)
    assert not (tmp_path / "cal.fits").exists()


def test_a_damaged_tile_is_refused(library, tmp_path):
    """The compressed bytes of an fpack file are overwritten."""
    data = np.random.default_rng(0).integers(0, 9999, (100, 120)).astype("i4")
    fits.CompImageHDU(data, fits.Header(CARDS)).writeto(tmp_path / "raw.fits")
    content = bytearray((tmp_path / "raw.fits").read_bytes())
    content[-9000:-8000] = b"\xff" * 1000
    (tmp_path / "raw.fits").write_bytes(content)
    with pytest.raises(KS4Error, match="cannot read"):
        calibrate_file(tmp_path / "raw.fits", tmp_path / "cal.fits", library)
    assert not (tmp_path / "cal.fits").exists()


def test_threads_do_not_disturb_each_other(write_image, zpmap, tmp_path):
    """Good files are read beside truncated ones, and one target has several writers."""
    _, good = write_image()
    bad = tmp_path / "bad.fits"
    bad.write_bytes(good.read_bytes()[:9000])

    def calibrate(number):
        source = (good, bad)[number % 2]
        target = tmp_path / f"cal{number % 4 // 2}.fits"
        try:
            calibrate_file(source, target, zpmap, overwrite=True, progress=False)
        except KS4Error as error:
            return str(error)
        return "done"

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(calibrate, range(80)))
    assert set(outcomes[::2]) == {"done"}
    assert all("bad.fits" in outcome for outcome in outcomes[1::2])
    assert warnings.filters == before


def test_a_link_stays_a_link(write_image, zpmap, tmp_path):
    """The file that it points to is replaced."""
    _, source = write_image()
    (tmp_path / "link.fits").symlink_to(tmp_path / "real.fits")
    (tmp_path / "real.fits").write_bytes(b"")
    calibrate_file(source, tmp_path / "link.fits", zpmap, overwrite=True)
    assert (tmp_path / "link.fits").is_symlink()
    assert fits.getheader(tmp_path / "real.fits")["MAGZERO"] == 30


@pytest.mark.parametrize("path", [None, 5, "a\0b.fits"])
def test_paths_of_a_wrong_type_are_refused(zpmap, tmp_path, path):
    """Both the source and the target are checked."""
    with pytest.raises(KS4Error, match="source must be the name of a file"):
        calibrate_file(path, tmp_path / "cal.fits", zpmap)
    with pytest.raises(KS4Error, match="target must be the name of a file"):
        calibrate_file(tmp_path / "raw.fits", path, zpmap)


@pytest.mark.parametrize("content", [b"", b"not a FITS file" * 300, b"SIMPLE  = "])
def test_broken_files_are_refused(library, tmp_path, content):
    """The message names the file."""
    (tmp_path / "raw.fits").write_bytes(content)
    with pytest.raises(KS4Error, match=r"cannot read .*raw\.fits"):
        calibrate_file(tmp_path / "raw.fits", tmp_path / "cal.fits", library)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.8])
@pytest.mark.parametrize("kind", [None, "std"])
def test_truncated_files_leave_nothing_behind(
    write_image, library, tmp_path, kept, kind
):
    """The file may end in a header or in data."""
    _, source = write_image(kind=kind)
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(KS4Error, match=r"raw\.fits"):
        calibrate_file(source, tmp_path / "cal.fits", library)
    assert {p.name for p in tmp_path.iterdir()} == {"raw.fits", "maps"}


def test_a_missing_source_and_a_wrong_target(write_image, library, tmp_path):
    """The message names a file that cannot be read or written."""
    with pytest.raises(KS4Error, match=r"cannot read .*nowhere\.fits"):
        calibrate_file(tmp_path / "nowhere.fits", tmp_path / "cal.fits", library)
    _, source = write_image()
    with pytest.raises(KS4Error, match=r"must end in \.fits"):
        calibrate_file(source, tmp_path / "cal.fits.fz", library)
    with pytest.raises(KS4Error, match=r"cannot write .*No such file"):
        calibrate_file(source, tmp_path / "no" / "folder" / "cal.fits", library)


def test_planes_of_other_shapes_are_refused(write_image, library, tmp_path):
    """An uncertainty must have the shape of its image."""
    _, source = write_image()
    fits.append(source, np.ones((5, 5)), fits.Header({"EXTNAME": "UNCERT"}))
    with pytest.raises(GeometryError, match="UNCERT has the shape"):
        calibrate_file(source, tmp_path / "cal.fits", library)


_CHILD = """
import sys
import numpy as np
from ks4_ccd import KS4Error, MapLibrary, calibrate_file
from ks4_ccd.photometry import stream
{setup}
library = MapLibrary(sys.argv[3], image_shape=(100, 120))
try:
    calibrate_file(sys.argv[1], sys.argv[2], library)
except KS4Error as error:
    sys.exit(f"KS4Error: {{error}}")
"""


def run_child(setup, source, target, maps):
    """Start calibrate_file in a separate process."""
    # A parent that ignores SIGINT, as with nohup, passes this on.
    setup = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n" + setup
    )
    command = [sys.executable, "-c", _CHILD.format(setup=setup), source, target, maps]
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("library")
def test_a_full_disk_leaves_nothing_behind(write_image, tmp_path):
    """A limit on the size of files simulates a full disk."""
    _, source = write_image()
    setup = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))"
    )
    child = run_child(setup, source, tmp_path / "cal.fits", tmp_path / "maps")
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "KS4Error: cannot write" in errors
    assert {p.name for p in tmp_path.iterdir()} == {"raw.fits", "maps"}


@pytest.mark.usefixtures("library")
def test_an_interruption_leaves_nothing_behind(write_image, tmp_path):
    """Ctrl-C is sent while the file is written."""
    _, source = write_image()
    setup = (
        "import time\n"
        "stream._BAND_BYTES = 480\n"
        "write = stream._write_band\n"
        "def slow(planes, start, band):\n"
        "    print(start, flush=True)\n"
        "    time.sleep(0.05)\n"
        "    write(planes, start, band)\n"
        "stream._write_band = slow"
    )
    child = run_child(setup, source, tmp_path / "cal.fits", tmp_path / "maps")
    for _ in range(5):
        child.stdout.readline()
    assert list(tmp_path.glob(".cal.fits.*.part"))
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert {p.name for p in tmp_path.iterdir()} == {"raw.fits", "maps"}


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_image(tmp_path, make_key, make_map):
    """A stack of 8000 x 8000 needs little more memory than the imports."""
    size = 8000
    make_map((5, 5), key=make_key("0404")).save(tmp_path / "maps")
    header = fits.Header({"FIELD1": "0404", "FILTER": "R"})
    fits.PrimaryHDU(np.ones((size, size), "f4"), header).writeto(tmp_path / "raw.fits")
    script = _CHILD.format(setup="").replace("(100, 120)", str((size, size)))
    # The high-water mark of this process alone; getrusage includes its parent's.
    script += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    arguments = [tmp_path / "raw.fits", tmp_path / "cal.fits", tmp_path / "maps"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(done.stdout) / 1024 < 300
