# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Rows of the images in a FITS file, read forwards."""

import numpy as np
from astropy.io.fits import CompImageHDU

from ks4_ccd._datasum import DataSum
from ks4_ccd._pixel_storage import Scaling

__all__ = ["PlaneRows"]

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
    content : `~ks4_ccd._content.Content`
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
