# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read the decompressed content of a file from any position."""

import bz2
import io
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.files.gzip import Checkpoints, GzipReader
from ks4_ccd.files.writing import check_regular

__all__ = ["Content"]

_PIECE = 2**20
_UNKNOWN_SIZE = 2**62


class Content:
    """
    The content of a file, decompressed where necessary.

    A compressed file is first read to its end, which verifies its checksums
    and determines its size. A later read starts near its position (gzip) or at
    the beginning of the file (bzip2, xz, zip).

    Parameters
    ----------
    path : `~pathlib.Path`
    verify : bool, optional
        Whether to read a compressed file to its end.

    Attributes
    ----------
    size : int
        The number of bytes of the content; a large number if unknown.

    Raises
    ------
    KS4Error
        If the file is not a regular file, is damaged or is cut.
    OSError
        If the file cannot be read.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        self.path = path
        check_regular(path)
        self._state = _state_of(path)
        with open(path, "rb") as file:
            self._open = _opener_for(file.read(6))
        self._checkpoints = Checkpoints()
        self.size: int = os.stat(path).st_size
        if self._open is not open:
            self.size = self._decompressed_size() if verify else _UNKNOWN_SIZE

    def open(self, position: int = 0) -> BinaryIO:
        """
        Open the content as a new binary file object.

        Parameters
        ----------
        position : int, optional
            The position of its first read, in bytes.
        """
        self.check_unchanged()
        if self._open is _GzipFile:
            file: Any = _GzipFile(self.path, self._checkpoints, self.size)
        else:
            file = self._open(self.path, "rb")
        try:
            file.seek(position)
        except BaseException:
            file.close()
            raise
        return file

    def check_unchanged(self) -> None:
        """Raise `KS4Error` if the file was modified after this object was created."""
        if _state_of(self.path) != self._state:
            msg = (
                f"{self.path} was changed while it was read; try again when it is "
                "complete"
            )
            raise KS4Error(msg)

    def _decompressed_size(self) -> int:
        try:
            with self.open() as file:
                while file.read(_PIECE):
                    pass
                return file.tell()
        except (MapFormatError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
            reason: Exception = error
        except OSError as error:
            # bz2 reports damaged data by an OSError without a number.
            if error.errno is not None:
                raise
            reason = error
        msg = f"{self.path} is truncated or damaged ({reason}); get a complete copy"
        raise KS4Error(msg)


def _state_of(path: Path) -> tuple[int, int, int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open_zip(path: Path, _mode: str) -> Any:
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

    def __init__(self, path: Path, checkpoints: Checkpoints, size: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed with this object
        self._reader = GzipReader(self._file, str(path), checkpoints)
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        return self._reader.read(size)

    def readinto(self, buffer: Any) -> int:
        data = self._reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}
        return self._reader.seek(max(0, start[whence] + offset))

    def tell(self) -> int:
        return self._reader.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


_MAGIC: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": _GzipFile,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"PK\x03\x04": _open_zip,
}


def _opener_for(beginning: bytes) -> Callable[..., Any]:
    for magic, opener in _MAGIC.items():
        if beginning.startswith(magic):
            return opener
    return open
