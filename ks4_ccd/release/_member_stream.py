# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The files in an archive, read once, in their order."""

import os
import zlib
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.release._archive import ARCHIVE_SUFFIXES, archive_name
from ks4_ccd.release._gzip import Checkpoints, GzipReader
from ks4_ccd.release._source import map_key, printable
from ks4_ccd.release._tar import open_reader, read_member, tar_members
from ks4_ccd.release.names import MapKey

__all__ = ["BrokenArchiveError", "Identity", "Member", "MemberStream"]

_HEAD_BYTES = 2**10
_TAIL_BYTES = 2**16

_MEMBERS_BETWEEN_REPORTS = 32

# Maps that a link may lead to: those a little before it. For others the archive is
# read again from the last checkpoint before them.
_RECENT_BYTES = 2**25


class BrokenArchiveError(MapFormatError):
    """
    An archive cannot be read to its end.

    ``is_corrupt`` is whether its checksums are wrong, so that any of its
    members may be; otherwise it was cut off.
    """

    def __init__(self, message, is_corrupt):
        super().__init__(message)
        self.is_corrupt = is_corrupt


class Identity(NamedTuple):
    """
    Properties that distinguish an archive from others, wherever it is.

    ``head`` and ``tail`` are checksums of its ends. The last bytes of a .gz are a
    checksum of its content: two archives of the same name, size and tail are the
    same. One that has only the same name and head is another state of it, such
    as a download that was cut off.
    """

    name: str
    size: int
    head: str
    tail: str


class Member(NamedTuple):
    """
    One file in an archive.

    ``key`` is `None` if it is not a map, ``problem`` is why it cannot be read.
    """

    key: MapKey | None
    name: str
    position: int
    data: bytes
    problem: str | None = None


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
        name = archive_name(self.path.name)
        if name is None:
            msg = (
                f"{printable(self.path)} must be an archive of maps, with a name that "
                f"ends in {', '.join(ARCHIVE_SUFFIXES)}. To ingest a folder, name the "
                "archives in it"
            )
            raise KS4Error(msg)
        if self.path.exists() and not self.path.is_file():
            # A named pipe would block.
            msg = f"{printable(self.path)} must be an archive of maps, found no file"
            raise KS4Error(msg)
        with self._open() as file:
            self.size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES)
            file.seek(max(0, self.size - _TAIL_BYTES))
            ends = [sha256(end).hexdigest() for end in (head, file.read())]
        self.identity = Identity(printable(name), self.size, *ends)

    def _open(self):
        try:
            return open(self.path, "rb")
        except OSError as error:
            msg = f"cannot read {printable(self.path)}: {error.strerror or error}"
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
            If the archive is truncated or damaged.
        KS4Error
            If it cannot be read.
        """
        with self._open() as file:
            try:
                reader = open_reader(file, self.path, Checkpoints())
                recent = _Recent(reader, self.path)
                try:
                    for number, member in enumerate(tar_members(reader, self.path)):
                        if member.position > after:
                            yield recent.read(member)
                        if number % _MEMBERS_BETWEEN_REPORTS == 0:
                            passed(file.tell())
                    _drain(reader)
                except MapFormatError as error:
                    is_corrupt = _is_corrupt(reader, error)
                    raise BrokenArchiveError(str(error), is_corrupt) from error
            except OSError as error:
                msg = f"cannot read {printable(self.path)}: {error.strerror or error}"
                raise KS4Error(msg) from error


class _Recent:
    """Reads members, and keeps the last ones for links that lead to them."""

    def __init__(self, reader, path):
        self._reader, self._path = reader, path
        self._kept, self._bytes = OrderedDict(), 0

    def read(self, member):
        key = map_key(member.name.rpartition("/")[2])
        data, problem = b"", member.problem
        if key is not None and problem is None:
            data = self._kept.get(member.pieces)
            if data is None:
                data = read_member(self._reader, member, self._path)
                self._keep(member.pieces, data)
        return Member(key, member.name, member.position, data, problem)

    def _keep(self, pieces, data):
        self._kept[pieces] = data
        self._bytes += len(data)
        while self._bytes > _RECENT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)


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
