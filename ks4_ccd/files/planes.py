# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write the planes of a new FITS image, a band of rows at a time."""

import os
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import DTypeLike, NDArray

from ks4_ccd.files._datasum import DataSum

__all__ = ["TargetPlanes"]

_BLOCK = 2880
_SYNC_BYTES = 256 * 2**20


class TargetPlanes:
    """
    Image HDUs of a new FITS file, written from the first row to the last.

    Parameters
    ----------
    file : binary file object
        Open for writing, empty.
    datasum : bool, optional
        Whether to record the checksums of the data (DATASUM).
    """

    def __init__(self, file: BinaryIO, datasum: bool = False) -> None:
        self._file = file
        self._with_datasum = datasum
        self._sums: dict[int, tuple[fits.Header, DataSum]] = {}
        self._planes: dict[str | None, tuple[int, int, np.dtype, tuple[int, ...]]] = {}
        self._end = 0
        self._unsynced = 0

    def add(
        self,
        name: str | None,
        header: fits.Header,
        shape: tuple[int, ...],
        dtype: DTypeLike,
    ) -> None:
        """
        Append an image HDU; its rows are zero until they are written.

        Parameters
        ----------
        name : str or `None`
            The name of the extension, `None` for the primary HDU.
        header : `~astropy.io.fits.Header`
        shape : tuple of int
        dtype : `~numpy.dtype`
        """
        # The array defines the NAXIS cards; it takes up no memory.
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

    def _write_header(self, position: int, header: fits.Header) -> bytes:
        text = header.tostring().encode("ascii")
        self._file.seek(position)
        self._file.write(text)
        return text

    def append(self, pieces: Iterable[bytes]) -> None:
        """
        Append a complete HDU.

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

    def rows(self, name: str | None, first: int, last: int) -> NDArray:
        """Return an empty array for rows of an HDU, in the dtype of the file."""
        _, _, dtype, shape = self._planes[name]
        return np.empty((last - first, shape[1]), dtype)

    def write(self, name: str | None, first: int, rows: NDArray) -> None:
        """Write an array from `rows`, beginning with row ``first`` of an HDU."""
        header, start, dtype, shape = self._planes[name]
        self._file.seek(start + first * shape[1] * dtype.itemsize)
        self._file.write(rows.data)
        if self._with_datasum:
            self._sums[header][1].add(rows)
        self._sync(rows.nbytes)

    def finish(self) -> None:
        """Write the checksums of the data after all rows."""
        for position, (header, total) in self._sums.items():
            header["DATASUM"] = str(total.value)
            self._write_header(position, header)

    def _sync(self, size: int) -> None:
        """Flush the file to the disk after every 256 MB."""
        self._unsynced += size
        if self._unsynced > _SYNC_BYTES:
            # The disk is busy while the next rows are computed, not only at the end.
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced = 0
