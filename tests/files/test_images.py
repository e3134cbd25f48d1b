# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""FITS images are read completely, as by astropy, or refused."""

import bz2
import gzip
import lzma
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from ks4_ccd import GeometryError, KS4Error, KS4Warning
from ks4_ccd.files import _content as content_module
from ks4_ccd.files import pixels as plane_rows
from ks4_ccd.files._datasum import DataSum
from ks4_ccd.files.images import SourceImage, image_header, mask_beside

SHAPE = (37, 23)


def compress_zip(data):
    """Return a zip archive of one file."""
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.fits", data)
    return file.getvalue()


def two_members(data):
    """Return a gzip file of two members, padded with zeros."""
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(data[half:]) + bytes(512)


COMPRESSED = {
    "gz": gzip.compress,
    "members.gz": two_members,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": compress_zip,
}


@pytest.fixture
def noise():
    """Return an image that does not compress."""
    return np.random.default_rng(0).normal(1000, 50, SHAPE).astype(np.float32)


@pytest.fixture
def stack(noise, tmp_path):
    """Return a file of an image, a mask and a table, without checksums."""
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.arange(5.0))])
    mask = fits.ImageHDU((noise > 1050).astype(np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(noise), mask, table]).writeto(tmp_path / "a.fits")
    return tmp_path / "a.fits"


def read(path, step=None, **options):
    """Return all rows of the image, read in bands."""
    with SourceImage(path, **options) as image:
        rows = image.shape[0]
        step = step or rows
        data = np.empty(image.shape, image.dtype(image.image))
        for start in range(0, rows, step):
            band = image.read(image.image, start, min(start + step, rows))
            assert band.dtype == data.dtype
            data[start : start + step] = band
        mask = image.read_mask(0, rows) if image.has_mask else None
        image.finish()
    return data, mask


@pytest.mark.parametrize("step", [1, 7, 40])
@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_files_are_read(stack, noise, kind, step):
    """Compressed files are read in bands of any height, with their mask."""
    path = stack.with_suffix(f".fits.{kind}")
    path.write_bytes(COMPRESSED[kind](stack.read_bytes()))
    stack.unlink()
    data, mask = read(path, step)
    np.testing.assert_array_equal(data, noise)
    np.testing.assert_array_equal(mask, noise > 1050)


def test_each_plane_is_decompressed_once(stack, monkeypatch):
    """Reading bands in order decompresses each byte of a gzip file once."""
    path = stack.with_suffix(".fits.gz")
    path.write_bytes(gzip.compress(stack.read_bytes()))
    with SourceImage(path) as image:
        restored = []
        reader = content_module.GzipReader
        restore = reader._restore
        monkeypatch.setattr(
            reader, "_restore", lambda *a: restored.append(a) or restore(*a)
        )
        for row in range(SHAPE[0]):
            image.read(image.image, row, row + 1)
            image.read_mask(row, row + 1)
        assert len(restored) == 2
        monkeypatch.undo()
        # Reading in another order returns the same rows.
        again = image.read(image.image, 3, 9)
        np.testing.assert_array_equal(again, fits.getdata(stack)[3:9])


@pytest.mark.parametrize("step", [1, 10, 37])
@pytest.mark.parametrize(
    ("dtype", "cards"),
    [
        ("u1", {}),
        ("u1", {"BZERO": -128}),
        ("u1", {"BSCALE": 0.5, "BLANK": 7}),
        (">i2", {}),
        (">i2", {"BZERO": 32768}),
        (">i2", {"BZERO": 32768, "BSCALE": 2}),
        (">i2", {"BZERO": 100.5, "BSCALE": 0.01, "BLANK": -32768}),
        (">i2", {"BLANK": 12}),
        (">i4", {}),
        (">i4", {"BZERO": 2147483648}),
        (">i4", {"BSCALE": 0.1, "BLANK": -7}),
        (">i8", {"BZERO": 9223372036854775808}),
        (">i8", {"BSCALE": 3}),
        (">f4", {}),
        (">f4", {"BSCALE": 2.5, "BZERO": 7}),
        (">f4", {"BLANK": 0}),
        (">f8", {"BZERO": -0.1}),
    ],
)
def test_values_are_those_of_astropy(tmp_path, dtype, cards, step):
    """Pixel values are bit-identical for every BITPIX and scaling."""
    rng = np.random.default_rng(1)
    stored = rng.normal(0, 1e3, SHAPE).astype(dtype)
    if stored.dtype.kind != "f":
        stored = rng.integers(0, 256, (*SHAPE, stored.itemsize), np.uint8)
        stored = stored.view(dtype)[..., 0]
    stored.flat[:3] = cards.get("BLANK", 0)
    write_stored(tmp_path / "a.fits", stored, cards)
    data, _ = read(tmp_path / "a.fits", step)
    with (
        warnings.catch_warnings(action="ignore", category=fits.verify.VerifyWarning),
        fits.open(tmp_path / "a.fits", memmap=False) as hdus,
    ):
        expected = hdus[0].data
    assert data.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(data, expected)


def write_stored(path, stored, cards):
    """Write unscaled numbers to a FITS file, with cards about their meaning."""
    stored = stored.astype(stored.dtype.newbyteorder(">"))
    header = fits.PrimaryHDU(np.zeros(stored.shape, stored.dtype)).header
    header.update(cards)
    data = stored.tobytes()
    path.write_bytes(header.tostring().encode() + data + bytes(-len(data) % 2880))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "cards"),
    [
        ("u2", {"BLANK": -32768}),
        ("u4", {"BLANK": -2147483648}),
        ("i2", {"BLANK": 0}),
        ("i2", {"BLANK": 12}),
    ],
)
def test_blank_pixels_are_nan(tmp_path, dtype, cards, compressed):
    """Unlike in astropy, also in unsigned integers and for a BLANK of 0."""
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    hdu = fits.CompImageHDU(values) if compressed else fits.PrimaryHDU(values)
    hdu.header["BLANK"] = cards["BLANK"]
    hdu.writeto(tmp_path / "a.fits")
    data, _ = read(tmp_path / "a.fits", 10)
    number = 0 if dtype[0] == "u" else cards["BLANK"]
    np.testing.assert_array_equal(np.isnan(data), values == number)
    np.testing.assert_array_equal(data[values != number], values[values != number])


@pytest.mark.parametrize("kind", COMPRESSED)
def test_every_flipped_bit_is_detected(stack, noise, kind):
    """A flipped bit raises an error, or leaves all pixels right."""
    path = stack.with_suffix(f".fits.{kind}")
    whole = COMPRESSED[kind](stack.read_bytes())
    places = np.random.default_rng(2).integers(0, len(whole), 60)
    places = [*range(10), *range(len(whole) - 10, len(whole)), *places.tolist()]
    refused = 0
    for number, place in enumerate(places):
        content = bytearray(whole)
        content[place] ^= 1 << number % 8
        path.write_bytes(content)
        try:
            data, mask = read(path, 10)
        except KS4Error:
            refused += 1
            continue
        np.testing.assert_array_equal(data, noise)
        np.testing.assert_array_equal(mask, noise > 1050)
    assert refused > 60


# Messages of the package, and of astropy for a file without a full header.
_CUT = "truncated|damaged|No SIMPLE card|corrupt FITS file"


@pytest.mark.parametrize("kind", ["", *COMPRESSED])
def test_every_cut_is_detected(stack, kind):
    """A cut in a header, in data or in padding is refused, except between two HDUs."""
    whole = stack.read_bytes()
    ends = {2880 * k for k in (1, 2)}
    path = stack.with_name(f"cut.fits.{kind}" if kind else "cut.fits")
    if kind:
        whole, ends = COMPRESSED[kind](whole), set()
    with fits.open(stack) as hdus:
        ends |= {h.fileinfo()["hdrLoc"] for h in hdus} if not kind else set()
    cuts = np.random.default_rng(3).integers(1, len(whole) - 520, 50).tolist()
    cuts += [1, 79, 80, 2879, 2881, len(whole) - 520]
    for cut in {*cuts} - (ends if not kind else set()):
        if cut >= len(whole):
            continue
        path.write_bytes(whole[:cut])
        with pytest.raises(KS4Error, match=_CUT):
            read(path)


def test_a_cut_in_the_padding_of_a_header_is_detected(stack):
    """The last HDU is an extension without data."""
    with fits.open(stack, mode="append") as hdus:
        hdus.append(fits.ImageHDU(name="NOTES"))
    content = stack.read_bytes()
    assert content.endswith(b" " * 1000)
    stack.write_bytes(content[:-1000])
    with pytest.raises(KS4Error, match="damaged: the 1880 bytes after HDU 2"):
        read(stack)


@pytest.mark.parametrize("place", ["XTENSION", "BITPIX", "NAXIS1", "END"])
def test_damaged_headers_of_extensions_are_detected(stack, place):
    """A damaged header is refused, because the mask could be lost silently."""
    content = bytearray(stack.read_bytes())
    with fits.open(stack) as hdus:
        start = hdus["MASK"].fileinfo()["hdrLoc"]
    card = content.index(place.ljust(8).encode(), start)
    if place in ("BITPIX", "NAXIS1"):
        content[card + 10 : card + 30] = b"32".rjust(20)
    else:
        content[card] ^= 1
    stack.write_bytes(content)
    with pytest.raises(KS4Error, match=r"a\.fits"):
        read(stack)


def test_padding_after_the_last_hdu(stack, noise):
    """Zeros, as on tapes, are ignored; other bytes are refused."""
    whole = stack.read_bytes()
    stack.write_bytes(whole + bytes(28800))
    np.testing.assert_array_equal(read(stack)[0], noise)
    stack.write_bytes(whole + bytes(28800) + b"x")
    with pytest.raises(KS4Error, match=f"truncate -s {len(whole)}"):
        read(stack)


def test_trailing_garbage_of_gzip_is_refused(stack):
    """Bytes after a gzip file are refused: they may be a damaged second member."""
    path = stack.with_suffix(".fits.gz")
    path.write_bytes(gzip.compress(stack.read_bytes()) + b"garbage")
    with pytest.raises(KS4Error, match="truncated or damaged"):
        read(path)


@pytest.mark.parametrize("data", [b"", b"a", b"abcd", bytes(12), b"\xff" * 8])
def test_datasum_of_pieces_is_that_of_the_whole(data):
    """The sum is that of astropy, also for pieces of any number of bytes."""
    rng = np.random.default_rng(4)
    data += rng.integers(0, 256, 5000 * bool(data), np.uint8).tobytes()
    total = DataSum()
    position = 0
    while position < len(data):
        size = int(rng.integers(1, 700))
        total.add(data[position : position + size])
        position += size
    padded = data + bytes(-len(data) % 2880)
    hdu = fits.ImageHDU(np.frombuffer(padded, np.uint8))
    assert total.value == int(hdu.add_datasum() or hdu.header["DATASUM"])


@pytest.mark.parametrize("value", [0, 2**32 - 1, 2**31])
def test_datasum_of_whole_words(value):
    """Zero and minus zero of the ones' complement are those of astropy."""
    hdu = fits.ImageHDU(np.full(720, value, np.uint32).view(np.int32))
    total = DataSum()
    total.add(hdu.data.astype(">i4"))
    assert total.value == int(hdu.add_datasum() or hdu.header["DATASUM"])


@pytest.mark.parametrize("kind", ["plain", "gz", "fz"])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_wrong_datasum_warns(noise, tmp_path, kind, damaged):
    """Wrong checksums of image and mask issue a warning that names the HDU."""
    image = fits.ImageHDU(noise)
    if kind == "fz":
        image = fits.CompImageHDU(noise, compression_type="GZIP_1", quantize_level=0)
    mask = fits.ImageHDU((noise > 1050).astype(np.uint8), name="MASK")
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), image, mask]).writeto(path, checksum=True)
    if damaged:
        content = bytearray(path.read_bytes())
        with fits.open(path) as hdus:
            start = hdus["MASK"].fileinfo()["datLoc"]
        content[start] ^= 1
        # The padding of the image is part of the sum, and not of any pixel.
        content[start - 2880 - 1] ^= 64
        path.write_bytes(content)
    if kind == "gz":
        (tmp_path / "a.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.fits.gz"
    if not damaged:
        np.testing.assert_array_equal(read(path, 10)[0], noise)
        return
    with pytest.warns(KS4Warning, match=r"HDU 1.*, 2 \(MASK\) do not match") as caught:
        data, _ = read(path, 10)
    assert len(caught) == 1
    np.testing.assert_array_equal(data, noise)


def test_a_change_of_the_source_is_detected(stack):
    """A change is detected during reading, before another plane, and at the end."""
    with SourceImage(stack) as image:
        image.read(image.image, 0, 5)
        os.utime(stack, ns=(1, 1))
        with pytest.raises(KS4Error, match=r"a\.fits was changed while it was read"):
            image.read_mask(0, 5)
        with pytest.raises(KS4Error, match="was changed"):
            image.finish()


def test_a_replacement_of_the_source_is_detected(stack, tmp_path):
    """A replacement by a file of the same size and time is detected."""
    state = os.stat(stack)
    with SourceImage(stack) as image:
        (tmp_path / "b.fits").write_bytes(stack.read_bytes())
        os.utime(tmp_path / "b.fits", ns=(state.st_atime_ns, state.st_mtime_ns))
        os.replace(tmp_path / "b.fits", stack)
        with pytest.raises(KS4Error, match="was changed"):
            image.finish()


def test_special_files_are_not_read(tmp_path):
    """A named pipe, which cannot be read twice, is refused."""
    os.mkfifo(tmp_path / "pipe.fits")
    for function in (SourceImage, image_header):
        with pytest.raises(KS4Error, match="found a named pipe"):
            function(tmp_path / "pipe.fits")
        with pytest.raises(KS4Error, match="found a folder"):
            function(tmp_path)


def test_the_header_alone_is_read_from_the_beginning(tmp_path):
    """The header of a file that is cut in its image is read."""
    data = np.random.default_rng(6).normal(size=(400, 300))
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes())[:-1000])
    assert image_header(path)["NAXIS1"] == 300
    with pytest.raises(KS4Error, match="truncated"):
        SourceImage(path)


@pytest.mark.parametrize("height", [1, 5, 8, 37])
def test_each_tile_is_decompressed_once(noise, tmp_path, monkeypatch, height):
    """The number of decompressions is independent of the heights of tiles and bands."""
    values = noise.astype(np.int32)
    hdu = fits.CompImageHDU(values, tile_shape=(height, SHAPE[1]))
    hdu.writeto(tmp_path / "a.fits.fz")
    with SourceImage(tmp_path / "a.fits.fz") as image:
        asked = []
        section = type(image.image.section)
        get = section.__getitem__
        monkeypatch.setattr(
            section, "__getitem__", lambda s, rows: asked.append(rows) or get(s, rows)
        )
        assert image.dtype(image.image) == np.int32
        for start in range(0, SHAPE[0], 6):
            band = image.read(image.image, start, min(start + 6, SHAPE[0]))
            np.testing.assert_array_equal(band, values[start : start + 6])
        ends = [rows.stop for rows in asked]
        assert [rows.start for rows in asked] == [0, *ends[:-1]]
        assert all(end % height == 0 or end == SHAPE[0] for end in ends)
        # Reading in another order returns the same rows.
        for start, stop in ((20, 30), (3, 9), (3, 4), (4, 36), (36, 37)):
            band = image.read(image.image, start, stop)
            np.testing.assert_array_equal(band, values[start:stop])


def test_large_files_are_read_in_pieces(stack, noise, monkeypatch):
    """A whole plane is also read in pieces."""
    monkeypatch.setattr(plane_rows, "_PIECE", 1000)
    np.testing.assert_array_equal(read(stack)[0], noise)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("x.fits", "x.mask.fits"),
        ("x.fits", "x.mask.fits.gz"),
        ("x.fits.gz", "x.mask.fits.fz"),
        ("x.fit", "x.mask.fits"),
        ("x.v1.fits.bz2", "x.v1.mask.fits"),
        ("x.fits", "x.mask.fits.bz2"),
        ("X.FITS.GZ", "X.mask.fits.xz"),
    ],
)
def test_masks_beside_an_image_are_found(noise, tmp_path, image, mask):
    """Either the image or the mask may be compressed."""
    masked = noise > 1050
    fits.PrimaryHDU(noise).writeto(tmp_path / image)
    hdu = fits.PrimaryHDU(masked.astype(np.uint8))
    if mask.endswith(".fz"):
        hdu = fits.CompImageHDU(masked.astype(np.uint8), name="MASK")
    hdu.writeto(tmp_path / "plain.fits")
    packed = {".bz2": bz2.compress, ".xz": lzma.compress}.get(Path(mask).suffix, bytes)
    (tmp_path / mask).write_bytes(packed((tmp_path / "plain.fits").read_bytes()))
    assert mask_beside(tmp_path / image) == tmp_path / mask
    assert mask_beside(tmp_path / mask) is None
    np.testing.assert_array_equal(read(tmp_path / image, 10)[1], masked)
    assert read(tmp_path / image, mask=None)[1] is None


def test_a_mask_of_another_shape_is_refused(stack, tmp_path):
    """The message names both files."""
    fits.PrimaryHDU(np.ones(SHAPE, "f4")).writeto(tmp_path / "x.fits")
    fits.PrimaryHDU(np.ones((5, 5), "u1")).writeto(tmp_path / "x.mask.fits")
    with pytest.raises(GeometryError, match=r"x\.mask\.fits has the shape \(5, 5\)"):
        SourceImage(tmp_path / "x.fits")
