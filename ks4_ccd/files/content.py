# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The decompressed content of a file, read forwards from any position."""

import bz2
import io
import lzma
import os
import zipfile

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.files.gzip import Checkpoints, GzipReader
from ks4_ccd.files.writing import check_regular

__all__ = ["Content"]

_PIECE = 2**20
_UNKNOWN_SIZE = 2**62


class Content:
    """
    The content of a file, decompressed if the file is compressed.

    A compressed file is read to its end at once, which verifies its checksums
    and determines its size. A later read begins near its position (gzip) or at
    the beginning of the file (bzip2, xz, zip).

    Parameters
    ----------
    path : `~pathlib.Path`
    verify : bool, optional
        Whether to read a compressed file to its end.

    Attributes
    ----------
    size : int
        The number of bytes of the content, a large number if it is not known.

    Raises
    ------
    KS4Error
        If the file is not a regular file, is damaged or is cut.
    OSError
        If the file cannot be read.
    """

    def __init__(self, path, *, verify=True):
        self.path = path
        check_regular(path)
        self._state = _state_of(path)
        with open(path, "rb") as file:
            self._open = _opener_for(file.read(6))
        self._checkpoints = Checkpoints()
        self.size = os.stat(path).st_size
        if self._open is not open:
            self.size = self._decompressed_size() if verify else _UNKNOWN_SIZE

    def open(self, position=0):
        """
        Return a new binary file object of the content.

        Parameters
        ----------
        position : int, optional
            The position of its first read, in bytes.
        """
        self.check_unchanged()
        if self._open is _GzipFile:
            file = _GzipFile(self.path, self._checkpoints, self.size)
        else:
            file = self._open(self.path, "rb")
        try:
            file.seek(position)
        except BaseException:
            file.close()
            raise
        return file

    def check_unchanged(self):
        """Raise `KS4Error` if the file changed since this object was made."""
        if _state_of(self.path) != self._state:
            msg = (
                f"{self.path} was changed while it was read: try again when it is "
                "complete"
            )
            raise KS4Error(msg)

    def _decompressed_size(self):
        try:
            with self.open() as file:
                while file.read(_PIECE):
                    pass
                return file.tell()
        except (MapFormatError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
            reason = error
        except OSError as error:
            # Without a number it is bz2's, about the data.
            if error.errno is not None:
                raise
            reason = error
        msg = f"{self.path} is damaged or cut ({reason}): get a complete copy"
        raise KS4Error(msg)


def _state_of(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open_zip(path, _mode):
    """Open the only member of a zip archive."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            msg = f"{path}: expected a zip archive of one file, found {len(names)}"
            raise KS4Error(msg)
        # The member keeps the archive's file open until it is closed itself.
        return archive.open(names[0])


class _GzipFile(io.RawIOBase):
    """A gzip file as a seekable binary file object."""

    def __init__(self, path, checkpoints, size):
        self._file = open(path, "rb")  # noqa: SIM115 - closed with this object
        self._reader = GzipReader(self._file, path, checkpoints)
        self._size = size

    def readable(self):
        return True

    def seekable(self):
        return True

    def read(self, size=-1):
        if size is None or size < 0:
            return self.readall()
        return self._reader.read(size)

    def readinto(self, buffer):
        data = self._reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset, whence=os.SEEK_SET):
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}
        return self._reader.seek(max(0, start[whence] + offset))

    def tell(self):
        return self._reader.tell()

    def close(self):
        self._file.close()
        super().close()


_MAGIC = {
    b"\x1f\x8b": _GzipFile,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"PK\x03\x04": _open_zip,
}


def _opener_for(beginning):
    for magic, opener in _MAGIC.items():
        if beginning.startswith(magic):
            return opener
    return open
