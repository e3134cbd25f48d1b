# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The files in an archive, one after the other, each looked at once."""

import os
import zlib
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.release._archive import ARCHIVE_SUFFIXES, open_reader, plain_files
from ks4_ccd.release._gzip import Checkpoints, GzipReader
from ks4_ccd.release._source import map_key
from ks4_ccd.release.names import MapKey

__all__ = ["BrokenArchiveError", "Identity", "Member", "MemberStream"]

_HEAD_BYTES = 2**10
_TAIL_BYTES = 2**16


class BrokenArchiveError(MapFormatError):
    """
    An archive cannot be read to its end.

    ``is_corrupt`` is whether its checksums are wrong, so that any of its
    members may be; else it was just cut off.
    """

    def __init__(self, message, is_corrupt):
        super().__init__(message)
        self.is_corrupt = is_corrupt


class Identity(NamedTuple):
    """
    What tells an archive from others, wherever it lies.

    ``head`` and ``tail`` are checksums of its ends. The last bytes of a .gz are a
    checksum of its content: what has the same name, size and tail is the
    same. What has the same name and head only is another state of it, such
    as a download that was cut off.
    """

    name: str
    size: int
    head: str
    tail: str


class Member(NamedTuple):
    """One file in an archive; ``key`` is `None` if it is no map."""

    key: MapKey | None
    name: str
    position: int
    data: bytes


class MemberStream:
    """
    An archive, to be read from its beginning to its end.

    Parameters
    ----------
    path : path-like
        A tar file, gzipped or not.

    Raises
    ------
    KS4Error
        If it cannot be read.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.name.endswith(ARCHIVE_SUFFIXES):
            msg = (
                f"{self.path} must be an archive of maps, whose name ends in "
                f"{', '.join(ARCHIVE_SUFFIXES)}; of a folder, name the archives in it"
            )
            raise KS4Error(msg)
        with self._open() as file:
            self.size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES)
            file.seek(max(0, self.size - _TAIL_BYTES))
            ends = [sha256(end).hexdigest() for end in (head, file.read())]
        self.identity = Identity(_text(self.path.name), self.size, *ends)

    def _open(self):
        try:
            return open(self.path, "rb")
        except OSError as error:
            msg = f"cannot read {self.path}: {error.strerror or error}"
            raise KS4Error(msg) from error

    def members(self, after, passed):
        """
        Yield the files of the archive.

        Parameters
        ----------
        after : int
            The position of the last member that is already known.
        passed : callable
            Is called with the number of bytes read of the archive, now and
            then.

        Yields
        ------
        member : `Member`

        Raises
        ------
        BrokenArchiveError
            If the archive is truncated or damaged, or has a member that an
            archive of maps has no business with.
        KS4Error
            If it cannot be read.
        """
        with self._open() as file:
            try:
                # Nobody goes back here: no checkpoints.
                reader = open_reader(file, self.path, Checkpoints(spacing=2**62))
                try:
                    for info in plain_files(reader, self.path):
                        if info.offset_data > after:
                            yield _member(reader, info, self.path)
                        passed(file.tell())
                    _drain(reader)
                except MapFormatError as error:
                    is_corrupt = _is_corrupt(reader, error)
                    raise BrokenArchiveError(str(error), is_corrupt) from error
            except OSError as error:
                msg = f"cannot read {self.path}: {error.strerror or error}"
                raise KS4Error(msg) from error


def _member(reader, info, path):
    key = map_key(info.name.rpartition("/")[2])
    data = b""
    if key is not None:
        reader.seek(info.offset_data)
        data = reader.read(info.size)
        if len(data) < info.size:
            msg = f"{path} is truncated: it ends within its member {info.name}"
            raise MapFormatError(msg)
    return Member(key, _text(info.name), info.offset_data, data)


def _drain(reader):
    if isinstance(reader, GzipReader):
        reader.drain()


def _is_corrupt(reader, error):
    # What looks like a bad tar file may come from a wrong byte before: only the
    # checksum at the end of a .gz tells.
    try:
        _drain(reader)
    except MapFormatError as later:
        error = later
    return isinstance(error.__cause__, zlib.error)


def _text(name):
    # Names in archives need not be text; those in a store must.
    return name.encode("utf-8", "backslashreplace").decode()
