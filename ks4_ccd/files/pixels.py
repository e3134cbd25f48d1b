# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How FITS stores pixels: the cards about it, and integers that mean no value."""

from numbers import Integral, Real

import numpy as np
from astropy.io.fits import CompImageHDU

from ks4_ccd.files.datasum import DataSum

__all__ = ["SCALING_CARDS", "PlaneRows", "Scaling", "blank_value"]

# They hold for the numbers in the file, and not for an image in memory.
SCALING_CARDS = ("BSCALE", "BZERO", "BLANK")


def blank_value(header, dtype):
    """
    Return the value of pixels without a value, `None` if there is none.

    Parameters
    ----------
    header : mapping
        The header of the file, with BLANK.
    dtype : `~numpy.dtype`
        That of the pixels as astropy reads them. Blank pixels of signed
        integers are NaN by then; those of unsigned ones are left as they are.

    Returns
    -------
    value : int or `None`
    """
    blank = header.get("BLANK")
    if dtype.kind not in "iu" or isinstance(blank, bool) or not isinstance(blank, Real):
        return None
    if blank % 1:
        # Neither NaN nor a fraction is a value of integers.
        return None
    # Unsigned integers are stored as signed ones, from the middle of their range.
    shift = 2 ** (8 * dtype.itemsize - 1) if dtype.kind == "u" else 0
    shift = shift if dtype.itemsize > 1 else 0
    value = int(blank) + shift
    limits = np.iinfo(dtype)
    return value if limits.min <= value <= limits.max else None


class Scaling:
    """
    The conversion of stored pixels by BSCALE, BZERO and BLANK.

    The values are those of astropy, except that BLANK is NaN in every image of
    integers, those of unsigned integers and a BLANK of 0 included.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header of the file.
    """

    def __init__(self, header):
        self._scale, self._zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        blank = header.get("BLANK") if header["BITPIX"] > 0 else None
        self._blank = blank if isinstance(blank, Integral) else None

    def applied(self, stored):
        """Return stored values converted to those that they stand for."""
        scale, zero, blank = self._scale, self._zero, self._blank
        if (scale, zero, blank) == (1, 0, None):
            return stored
        values, bits = stored, 8 * stored.itemsize
        if stored.dtype.kind != "f":
            if scale == 1 and zero == 2 ** (bits - 1) and bits > 8:
                # Unsigned integers are stored as signed ones: their first bit differs.
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

    def blanked(self, values):
        """Return values that astropy converted with those left as numbers blanked."""
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
    content : `~ks4_ccd.files.content.Content`
        The content of the file of the HDU.
    """

    def __init__(self, hdu, content):
        self._hdu = hdu
        self._content = content
        self._scaling = Scaling(hdu.header)
        self._file = None
        self._next = 0
        self._tiles = 0, np.empty((0, *hdu.shape[1:]))
        self._tile_height = 1
        if isinstance(hdu, CompImageHDU):
            self._tile_height = int(hdu.tile_shape[0])
        self._sum = DataSum() if "DATASUM" in hdu.header else None

    @property
    def dtype(self):
        """The dtype of the rows."""
        if isinstance(self._hdu, CompImageHDU):
            return self.read(0, 1).dtype
        return self._scaling.applied(np.zeros(1, self._stored_dtype)).dtype

    @property
    def _stored_dtype(self):
        return np.dtype(_DTYPES[self._hdu.header["BITPIX"]])

    def read(self, start, stop):
        """Return the rows from ``start`` up to ``stop``."""
        if isinstance(self._hdu, CompImageHDU):
            return self._scaling.blanked(self._decompressed(start, stop))
        if self._file is None or start != self._next:
            self._go_to(start)
        stored = np.empty((stop - start, *self._hdu.shape[1:]), self._stored_dtype)
        _fill(self._file, stored)
        self._next = stop
        if self._sum is not None:
            self._sum.add(stored)
        return self._scaling.applied(stored)

    def _decompressed(self, start, stop):
        """Return rows of a tile-compressed image; consecutive ones share a tile."""
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

    def _go_to(self, row):
        self.close()
        if row != 0:
            self._sum = None
        width = self._hdu.size // self._hdu.shape[0]
        start = self._hdu.fileinfo()["datLoc"]
        self._file = self._content.open(start + row * width)

    def datasum(self):
        """
        Return the checksum of the stored data, as DATASUM.

        It is `None` without such a card, and unless all rows were read once, from
        the first to the last.
        """
        if self._sum is None or self._next != self._hdu.shape[0]:
            return None
        padding = self._hdu.fileinfo()["datSpan"] - self._hdu.size
        self._sum.add(self._file.read(padding))
        self.close()
        return self._sum.value

    def close(self):
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _fill(file, array):
    """Read an array from a file object, in pieces."""
    buffer = memoryview(array.reshape(-1).view(np.uint8))
    while buffer:
        size = file.readinto(buffer[:_PIECE])
        if not size:
            msg = "the file ends too early"
            raise EOFError(msg)
        buffer = buffer[size:]
