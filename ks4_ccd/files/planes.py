# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The planes of a new FITS image, written a band of rows at a time."""

import os

import numpy as np
from astropy.io import fits

from ks4_ccd.files.datasum import DataSum

__all__ = ["TargetPlanes"]

_BLOCK = 2880
_SYNC_BYTES = 256 * 2**20


class TargetPlanes:
    """
    Image HDUs of a new FITS file, their rows written from first to last.

    Parameters
    ----------
    file : file object
        Open for writing, empty.
    datasum : bool, optional
        Whether the headers have the checksums of the data (DATASUM).
    """

    def __init__(self, file, datasum=False):
        self._file = file
        self._with_datasum = datasum
        self._sums = {}
        self._planes = {}
        self._end = 0
        self._unsynced = 0

    def add(self, name, header, shape, dtype):
        """
        Append an image HDU; its rows are zeros until they are written.

        Parameters
        ----------
        name : str or `None`
            The name of the extension, `None` for the primary HDU.
        header : `~astropy.io.fits.Header`
        shape : tuple of int
        dtype : `~numpy.dtype`
        """
        # The array gives the header its shape; it takes up no memory.
        empty = np.broadcast_to(np.zeros((), dtype), shape)
        if name is None:
            hdu = fits.PrimaryHDU(empty, header)
            hdu.header.set("EXTEND", True, after="NAXIS2")
        else:
            hdu = fits.ImageHDU(empty, header, name=name)
        if self._with_datasum:
            hdu.header["DATASUM"] = ("0", "checksum of the data")
            self._sums[self._end] = hdu.header, DataSum()
        text = self._write_header(self._end, hdu.header)
        start = self._end + len(text)
        size = empty.size * empty.itemsize
        dtype = empty.dtype.newbyteorder(">")
        self._planes[name] = self._end, start, dtype, shape
        self._end = start + -(-size // _BLOCK) * _BLOCK
        self._file.truncate(self._end)

    def _write_header(self, position, header):
        text = header.tostring().encode("ascii")
        self._file.seek(position)
        self._file.write(text)
        return text

    def append(self, pieces):
        """
        Append a whole HDU.

        Parameters
        ----------
        pieces : iterable of bytes
            Its header and its data.
        """
        self._file.seek(self._end)
        for piece in pieces:
            self._file.write(piece)
            self._sync(len(piece))
            self._end += len(piece)

    def rows(self, name, first, last):
        """Return an empty array for rows of an HDU, of the dtype of the file."""
        _, _, dtype, shape = self._planes[name]
        return np.empty((last - first, shape[1]), dtype)

    def write(self, name, first, rows):
        """Write rows of an HDU, as `rows` gave them, beginning with row ``first``."""
        header, start, dtype, shape = self._planes[name]
        self._file.seek(start + first * shape[1] * dtype.itemsize)
        self._file.write(rows.data)
        if self._with_datasum:
            self._sums[header][1].add(rows)
        self._sync(rows.nbytes)

    def finish(self):
        """Write the checksums of the data, when all rows are written."""
        for position, (header, total) in self._sums.items():
            header["DATASUM"] = str(total.value)
            self._write_header(position, header)

    def _sync(self, size):
        """Have the disk write what the system keeps for it, from time to time."""
        self._unsynced += size
        if self._unsynced > _SYNC_BYTES:
            # The disk works while the next rows are made, not all at the end.
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced = 0
