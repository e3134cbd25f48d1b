# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Maps in a .tar or .tar.gz archive, read in place.

An archive is looked through once in a process; its index says at which
offset each map lies, and nothing is ever extracted. Members that no
honest archive of maps has (absolute names, links, devices, huge sizes) make
the whole archive refused.
"""

import os
import tarfile
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.release._gzip import Checkpoints, GzipReader
from ks4_ccd.release._source import MAX_ARRAY_BYTES, Entry, map_key

__all__ = ["ARCHIVE_SUFFIXES", "ArchiveSource", "open_reader", "plain_files"]

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")

_GZIP_MAGIC = b"\x1f\x8b"
_MOST_INDEXES = 32


class _Member(NamedTuple):
    key: object
    name: str
    offset: int
    size: int


class _Index(NamedTuple):
    members: dict  # MapKey: list of _Member
    checkpoints: Checkpoints


# (path, size, modification time): _Index, the latest used last.
_indexes = OrderedDict()
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
        If the file is empty, truncated, damaged or not a tar file, or has a
        member that an archive of maps has no business with.
    KS4Error
        If the file cannot be read.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            file = open(self.path, "rb")  # noqa: SIM115 (open as long as the source)
            # Also closes the file of a source that is forgotten.
            self._closer = weakref.finalize(self, file.close)
            self._file = file
            self._state = _state_of(file)
            self._index = _index_of(self._state, file, self.path)
            self._reader = open_reader(file, self.path, self._index.checkpoints)
        except OSError as error:
            msg = f"cannot read {self.path}: {error.strerror or error}"
            raise KS4Error(msg) from error
        except KS4Error:
            self.close()
            raise

    def keys(self):
        """Return the keys of all arrays."""
        return self._index.members.keys()

    def find(self, key):
        """Return the entries of an array: none, one or more."""
        return tuple(
            Entry(member.key, f"{self.path}:{member.name}", member)
            for member in self._index.members.get(key, ())
        )

    def read(self, entry):
        """Return the bytes of an array's file."""
        member = entry.place
        try:
            with self._lock:
                self._refuse_changed()
                self._reader.seek(member.offset)
                return self._reader.read(member.size)
        except OSError as error:
            msg = f"cannot read {entry.path}: {error.strerror or error}"
            raise KS4Error(msg) from error

    def _refuse_changed(self):
        if _state_of(self._file) != self._state:
            msg = f"{self.path} has changed since it was opened: open it again"
            raise MapFormatError(msg)

    def close(self):
        """Close the file."""
        self._closer()


def open_reader(file, path, checkpoints):
    """Return what reads the content of an archive, gzipped or not."""
    file.seek(0)
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    return GzipReader(file, path, checkpoints) if is_gzip else file


def _state_of(file):
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _index_of(state, file, path):
    identity = (os.path.realpath(path), *state)
    with _indexes_lock:
        if identity not in _indexes:
            _indexes[identity] = _scan(file, path)
        _indexes.move_to_end(identity)
        while len(_indexes) > _MOST_INDEXES:
            _indexes.popitem(last=False)
        return _indexes[identity]


def _scan(file, path):
    """Go through an archive once and note where its maps are."""
    checkpoints = Checkpoints()
    reader = open_reader(file, path, checkpoints)
    members = {}
    for info in plain_files(reader, path):
        key = map_key(info.name.rpartition("/")[2])
        if key is not None:
            member = _Member(key, info.name, info.offset_data, info.size)
            members.setdefault(key, []).append(member)
    if isinstance(reader, GzipReader):
        reader.drain()
    return _Index(members, checkpoints)


def plain_files(reader, path):
    """
    Yield the tar headers of the files in an archive, in their order.

    The reader may be moved between them.

    Raises
    ------
    MapFormatError
        If the archive is truncated, damaged or not a tar file, or has a
        member that an archive of maps has no business with.
    """
    for info in _tar_members(_BoundedReads(reader, path), path):
        _refuse_hostile(info, path)
        if info.isreg():
            yield info


def _tar_members(reader, path):
    try:
        with tarfile.open(fileobj=reader, mode="r:") as archive:
            while (info := archive.next()) is not None:
                # Or the archive would keep all of them.
                archive.members.clear()
                yield info
            end = archive.offset
        reader.seek(end)
        end_block = reader.read(tarfile.BLOCKSIZE)
    except (KS4Error, OSError):
        raise
    except Exception as error:
        # On hostile bytes tarfile raises more than it documents: ValueError,
        # OverflowError, RecursionError and others.
        msg = f"{path} is truncated, damaged or not a tar archive: {error}"
        raise MapFormatError(msg) from error
    if end_block != bytes(tarfile.BLOCKSIZE):
        # tarfile itself takes a header cut short, or overwritten, for the end.
        found = "a damaged header" if len(end_block) == tarfile.BLOCKSIZE else "nothing"
        msg = (
            f"{path} is truncated or damaged: expected a tar header or the mark of "
            f"the end at byte {end}, found {found}"
        )
        raise MapFormatError(msg)


def _refuse_hostile(info, path):
    """Raise for a member that an archive of maps has no business with."""
    reason = None
    if info.name.startswith("/") or ".." in info.name.split("/"):
        reason = "its name leads out of the archive"
    elif info.issym() or info.islnk():
        reason = "it is a link"
    elif not (info.isreg() or info.isdir()) or info.issparse():
        reason = "it is not a plain file or a folder"
    elif not 0 <= info.size <= MAX_ARRAY_BYTES:
        reason = f"it claims {info.size} bytes, more than the {MAX_ARRAY_BYTES} allowed"
    if reason is not None:
        msg = f"{path} is refused because of its member {info.name!r}: {reason}"
        raise MapFormatError(msg)


class _BoundedReads:
    """
    A reader for tarfile that never returns more at once than an array may have.

    tarfile reads long names and extended headers at the length that they
    claim.
    """

    def __init__(self, reader, path):
        self._reader = reader
        self._path = path

    def tell(self):
        return self._reader.tell()

    def seek(self, position):
        return self._reader.seek(position)

    def read(self, size):
        if not 0 <= size <= MAX_ARRAY_BYTES:
            msg = f"{self._path} is refused: a header in it claims {size} bytes"
            raise MapFormatError(msg)
        return self._reader.read(size)
