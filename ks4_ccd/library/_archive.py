# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read maps in a .tar or .tar.gz archive in place.

An archive is scanned once per process. Its index contains the position of each map;
nothing is extracted.
"""

import os
import re
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ks4_ccd.exceptions import BrokenArchiveError, KS4Error, MapFormatError, OptionError
from ks4_ccd.files.gzip import Checkpoints, GzipReader
from ks4_ccd.library._sources import Entry, map_key, printable
from ks4_ccd.library._tar import (
    Reader,
    TarMember,
    open_reader,
    read_member,
    tar_members,
)
from ks4_ccd.maps.key import MapKey

__all__ = [
    "ARCHIVE_SUFFIXES",
    "ArchiveSource",
    "Identity",
    "Member",
    "MemberStream",
    "archive_name",
]

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")

# Download programs may keep the query of an address in the file name, and replace
# characters that a file system does not allow.
_ARCHIVE_NAME = re.compile(
    r"(?P<stem>[^/]+)(?P<suffix>\.tar|\.tar\.gz|\.tgz)"
    r"(?:\?.*|(?:@|_|%3f)download=.*)?",
    re.IGNORECASE | re.DOTALL,
)

_MOST_INDEXES = 32


def archive_name(name: str) -> str | None:
    """
    Return the name of an archive as it was published, `None` if it is not one.

    Examples
    --------
    >>> from ks4_ccd.library._archive import archive_name
    >>> archive_name("KS4_DR1_ZeroPoint_Maps.TAR.GZ?download=1")
    'KS4_DR1_ZeroPoint_Maps.tar.gz'
    """
    match = _ARCHIVE_NAME.fullmatch(name)
    return match and match["stem"] + match["suffix"].lower()


class _Index(NamedTuple):
    # By key: the keys with their own tiles, and the members.
    members: dict[MapKey, list[tuple[MapKey, TarMember]]]
    checkpoints: Checkpoints


# (path, size, modification time): _Index, the latest used last.
_indexes: OrderedDict[tuple, _Index] = OrderedDict()
_indexes_lock = threading.Lock()


class ArchiveSource:
    """
    The maps in one archive.

    Parameters
    ----------
    path : path-like
        A tar file, gzipped or not.

    Raises
    ------
    MapFormatError
        If the file is empty, truncated, damaged or not a tar archive.
    KS4Error
        If the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            file = open(self.path, "rb")  # noqa: SIM115 (open as long as the source)
            # Also closes the file of a source that is no longer referenced.
            self._closer = weakref.finalize(self, file.close)
            self._file = file
            self._state = _state_of(file)
            self._index = _index_of(self._state, file, self.path)
            self._reader = open_reader(file, self.path, self._index.checkpoints)
        except OSError as error:
            msg = f"cannot read {printable(self.path)}: {error.strerror or error}"
            raise KS4Error(msg) from error
        except KS4Error:
            self.close()
            raise

    def keys(self) -> Iterable[MapKey]:
        """Return the keys of all arrays."""
        return self._index.members.keys()

    def find(self, *keys: MapKey) -> list[Entry]:
        """Return the entries of the arrays of one map: none, one or more of each."""
        return [
            Entry(own_key, f"{printable(self.path)}:{member.name}", member)
            for key in keys
            for own_key, member in self._index.members.get(key, ())
        ]

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of an array's file."""
        try:
            with self._lock:
                self._refuse_changed()
                return read_member(self._reader, entry.location, self.path)
        except OSError as error:
            msg = f"cannot read {entry.path}: {error.strerror or error}"
            raise KS4Error(msg) from error

    def _refuse_changed(self) -> None:
        if _state_of(self._file) != self._state:
            path = printable(self.path)
            msg = f"{path} has changed since it was opened: open it again"
            raise MapFormatError(msg)

    def close(self) -> None:
        """Close the file."""
        self._closer()


def _state_of(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _index_of(state: tuple[int, int], file: BinaryIO, path: Path) -> _Index:
    identity = (os.path.realpath(path), *state)
    with _indexes_lock:
        if identity not in _indexes:
            _indexes[identity] = _scan(file, path)
        _indexes.move_to_end(identity)
        while len(_indexes) > _MOST_INDEXES:
            _indexes.popitem(last=False)
        return _indexes[identity]


def _scan(file: BinaryIO, path: Path) -> _Index:
    """Read an archive once and index its maps."""
    checkpoints = Checkpoints()
    reader = open_reader(file, path, checkpoints)
    members: dict[MapKey, list[tuple[MapKey, TarMember]]] = {}
    for member in tar_members(reader, path):
        key = map_key(member.name.rpartition("/")[2])
        if key is not None:
            members.setdefault(key, []).append((key, member))
    if isinstance(reader, GzipReader):
        reader.drain()
    return _Index(members, checkpoints)


_HEAD_BYTES = 2**10
_TAIL_BYTES = 2**16

_MEMBERS_BETWEEN_REPORTS = 32

# Bytes kept of recent maps, to which links may point. For earlier ones, the archive is
# read again from the last checkpoint before them.
_RECENT_BYTES = 2**25


class Identity(NamedTuple):
    """
    Properties that identify an archive, independent of its location.

    ``head`` and ``tail`` are checksums of its first and last bytes. The last bytes of
    a .gz contain a checksum of its content: two archives with the same name, size and
    tail are identical. An archive with only the same name and head is another state of
    it, such as a truncated download.
    """

    name: str
    size: int
    head: str
    tail: str


class Member(NamedTuple):
    """
    One file in an archive.

    ``key`` is `None` if it is not a map, ``problem`` the reason why it cannot be read.
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

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        name = archive_name(self.path.name)
        if name is None:
            msg = (
                f"{printable(self.path)} must be an archive of maps, with a name that "
                f"ends in {', '.join(ARCHIVE_SUFFIXES)}. To ingest a folder, name the "
                "archives in it"
            )
            raise OptionError(msg)
        if self.path.exists() and not self.path.is_file():
            # A named pipe would block.
            msg = (
                f"{printable(self.path)} must be an archive of maps, found a folder or "
                "a special file"
            )
            raise KS4Error(msg)
        with self._open() as file:
            self.size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES)
            file.seek(max(0, self.size - _TAIL_BYTES))
            ends = [sha256(end).hexdigest() for end in (head, file.read())]
        self.identity = Identity(printable(name), self.size, *ends)

    def _open(self) -> BinaryIO:
        try:
            return open(self.path, "rb")
        except OSError as error:
            msg = f"cannot read {printable(self.path)}: {error.strerror or error}"
            raise KS4Error(msg) from error

    def members(self, after: int, passed: Callable[[int], object]) -> Iterator[Member]:
        """
        Yield the files of the archive.

        Parameters
        ----------
        after : int
            The position of the last member of an earlier pass.
        passed : callable
            Called regularly with the number of bytes of the archive that were read.

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
    """Read members, and keep the latest ones for links that point to them."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self._reader, self._path = reader, path
        self._kept: OrderedDict[tuple, bytes] = OrderedDict()
        self._bytes = 0

    def read(self, member: TarMember) -> Member:
        key = map_key(member.name.rpartition("/")[2])
        data, problem = b"", member.problem
        if key is not None and problem is None:
            data = self._kept.get(member.pieces, b"")
            if not data:
                data = read_member(self._reader, member, self._path)
                self._keep(member.pieces, data)
        return Member(key, member.name, member.position, data, problem)

    def _keep(self, pieces: tuple, data: bytes) -> None:
        self._kept[pieces] = data
        self._bytes += len(data)
        while self._bytes > _RECENT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)


def _drain(reader: Reader) -> None:
    if isinstance(reader, GzipReader):
        reader.drain()


def _is_corrupt(reader: Reader, error: MapFormatError) -> bool:
    # An earlier wrong byte can cause a bad tar header: only the checksum at the end of
    # a .gz distinguishes this from a truncated archive.
    try:
        _drain(reader)
    except MapFormatError as later:
        error = later
    return isinstance(error.__cause__, zlib.error)
