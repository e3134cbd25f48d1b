# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Convert stored FITS pixels to values: scaling, BLANK, rows of an image HDU."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, BinaryIO

import numpy as np
from astropy.io.fits import CompImageHDU, Header

from ks4_ccd.files._content import Content
from ks4_ccd.files._datasum import DataSum

__all__ = ["SCALING_CARDS", "PlaneRows", "blank_value"]

# They describe the numbers in the file, not those of an image in memory.
SCALING_CARDS = ("BSCALE", "BZERO", "BLANK")


def blank_value(header: Mapping, dtype: np.dtype) -> int | None:
    """
    Return the integer that marks blank pixels, `None` without one.

    Parameters
    ----------
    header : mapping
        The header of the file, with BLANK.
    dtype : `~numpy.dtype`
        The dtype of the pixels as read by astropy, which turns blank pixels of
        signed integers into NaN and leaves those of unsigned integers unchanged.

    Returns
    -------
    value : int or `None`
    """
    blank = header.get("BLANK")
    if dtype.kind not in "iu" or isinstance(blank, bool) or not isinstance(blank, Real):
        return None
    if float(blank) % 1:
        # Neither NaN nor a fraction is a value of integers.
        return None
    # Unsigned integers are stored as signed ones, counted from mid-range.
    shift = 2 ** (8 * dtype.itemsize - 1) if dtype.kind == "u" else 0
    shift = shift if dtype.itemsize > 1 else 0
    value = int(blank) + shift  # type: ignore[call-overload] # real numbers have __int__
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max else None


class _Scaling:
    """
    The conversion of stored pixels by BSCALE, BZERO and BLANK.

    The values are those of astropy, except that BLANK is NaN in every image of
    integers, those of unsigned integers and a BLANK of 0 included.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header of the file.
    """

    def __init__(self, header: Header) -> None:
        self._scale, self._zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        blank: object = header.get("BLANK") if header["BITPIX"] > 0 else None
        self._blank = blank if isinstance(blank, Integral) else None

    def applied(self, stored: np.ndarray) -> np.ndarray:
        """Return stored values converted to physical values."""
        scale, zero, blank = self._scale, self._zero, self._blank
        if (scale, zero, blank) == (1, 0, None):
            return stored
        values, bits = stored, 8 * stored.itemsize
        if stored.dtype.kind != "f":
            if scale == 1 and zero == 2 ** (bits - 1) and bits > 8:
                # Unsigned integers are stored as signed ones: the first bit differs.
                values = stored.astype(f"u{stored.itemsize}")
                values ^= values.dtype.type(zero)
                zero = 0
                if blank is None:
                    return values
            elif blank is None and scale == 1 and (bits, zero) == (8, -128):
                return (stored ^ np.uint8(128)).view(np.int8)
            values = values.astype(np.float32 if bits <= 16 else np.float64)
        if scale != 1:
            values *= scale
        if zero != 0:
            values += zero
        if blank is not None:
            values[stored == blank] = np.nan
        return values

    def blanked(self, values: np.ndarray) -> np.ndarray:
        """Return values converted by astropy, with NaN for all blank pixels."""
        if self._blank is None or (values.dtype.kind == "f" and self._blank != 0):
            return values
        number = self._blank * self._scale + self._zero
        is_blank = values == number
        if values.dtype.kind != "f":
            values = values.astype(np.float32 if values.itemsize <= 2 else np.float64)
        values[is_blank] = np.nan
        return values


_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_PIECE = 8 * 2**20


class PlaneRows:
    """
    Rows of an image HDU.

    Consecutive rows are read from one file object: a compressed file is
    decompressed once. The values are those of astropy's ``hdu.data``, with one
    exception: BLANK is NaN in every image of integers, those of unsigned
    integers and a BLANK of 0 included.

    Parameters
    ----------
    hdu : image HDU
    content : `~ks4_ccd.files._content.Content`
        The content of the file of the HDU.
    """

    def __init__(self, hdu: Any, content: Content) -> None:
        self._hdu = hdu
        self._content = content
        self._scaling = _Scaling(hdu.header)
        self._file: BinaryIO | None = None
        self._next = 0
        self._tiles = 0, np.empty((0, *hdu.shape[1:]))
        self._tile_height = 1
        if isinstance(hdu, CompImageHDU):
            self._tile_height = int(hdu.tile_shape[0])
        self._sum = DataSum() if "DATASUM" in hdu.header else None

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the rows."""
        if isinstance(self._hdu, CompImageHDU):
            return self.read(0, 1).dtype
        return self._scaling.applied(np.zeros(1, self._stored_dtype)).dtype

    @property
    def _stored_dtype(self) -> np.dtype:
        return np.dtype(_DTYPES[self._hdu.header["BITPIX"]])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the rows from ``start`` up to ``stop``."""
        if isinstance(self._hdu, CompImageHDU):
            return self._scaling.blanked(self._decompressed(start, stop))
        file = self._file
        if file is None or start != self._next:
            file = self._opened_at(start)
        stored = np.empty((stop - start, *self._hdu.shape[1:]), self._stored_dtype)
        _fill(file, stored)
        self._next = stop
        if self._sum is not None:
            self._sum.add(stored)
        return self._scaling.applied(stored)

    def _decompressed(self, start: int, stop: int) -> np.ndarray:
        """Return rows of a tile-compressed image; consecutive rows share a tile."""
        first, rows = self._tiles
        end = first + len(rows)
        if not first <= start <= end:
            first = end = start // self._tile_height * self._tile_height
            rows = rows[:0]
        if stop > end:
            whole_tiles = -(-stop // self._tile_height) * self._tile_height
            more = self._hdu.section[end : min(whole_tiles, self._hdu.shape[0])]
            rows = (
                np.concatenate([rows[start - first :], more]) if start < end else more
            )
            first = min(start, end)
        self._tiles = first, rows
        return rows[start - first : stop - first]

    def _opened_at(self, row: int) -> BinaryIO:
        self.close()
        if row != 0:
            self._sum = None
        width = self._hdu.size // self._hdu.shape[0]
        start = self._hdu.fileinfo()["datLoc"]
        self._file = self._content.open(start + row * width)
        return self._file

    def datasum(self) -> int | None:
        """
        Return the checksum of the stored data, to be compared with DATASUM.

        It is `None` if the header has no DATASUM or if not all rows were read once,
        from first to last.
        """
        if self._sum is None or self._file is None or self._next != self._hdu.shape[0]:
            return None
        padding = self._hdu.fileinfo()["datSpan"] - self._hdu.size
        self._sum.add(self._file.read(padding))
        self.close()
        return self._sum.value

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _fill(file: Any, array: np.ndarray) -> None:
    """Read an array from a file object, in pieces."""
    buffer = memoryview(array.reshape(-1).view(np.uint8))
    while buffer:
        size = file.readinto(buffer[:_PIECE])
        if not size:
            msg = "the file ends before the data do"
            raise EOFError(msg)
        buffer = buffer[size:]
