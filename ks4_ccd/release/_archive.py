# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Maps in a .tar or .tar.gz archive, read in place.

An archive is scanned once in a process; its index has the position of each map, and
nothing is ever extracted.
"""

import os
import re
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import KS4Error, MapFormatError
from ks4_ccd.release._gzip import Checkpoints, GzipReader
from ks4_ccd.release._source import Entry, map_key, printable
from ks4_ccd.release._tar import open_reader, read_member, tar_members

__all__ = ["ARCHIVE_SUFFIXES", "ArchiveSource", "archive_name"]

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")

# Programs that download a file may keep the query of its address in the name, and
# replace characters there that a file system does not allow.
_ARCHIVE_NAME = re.compile(
    r"(?P<stem>[^/]+)(?P<suffix>\.tar|\.tar\.gz|\.tgz)"
    r"(?:\?.*|(?:@|_|%3f)download=.*)?",
    re.IGNORECASE | re.DOTALL,
)

_MOST_INDEXES = 32


def archive_name(name):
    """
    Return the name of an archive as it was published, `None` if it is not one.

    Examples
    --------
    >>> from ks4_ccd.release._archive import archive_name
    >>> archive_name("KS4_DR1_ZeroPoint_Maps.TAR.GZ?download=1")
    'KS4_DR1_ZeroPoint_Maps.tar.gz'
    """
    match = _ARCHIVE_NAME.fullmatch(name)
    return match and match["stem"] + match["suffix"].lower()


class _Index(NamedTuple):
    members: dict  # MapKey: list of MapKey (with its own tile) and TarMember
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
        If the file is empty, truncated, damaged or not a tar archive.
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
            msg = f"cannot read {printable(self.path)}: {error.strerror or error}"
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
            Entry(own_key, f"{printable(self.path)}:{member.name}", member)
            for own_key, member in self._index.members.get(key, ())
        )

    def read(self, entry):
        """Return the bytes of an array's file."""
        try:
            with self._lock:
                self._refuse_changed()
                return read_member(self._reader, entry.place, self.path)
        except OSError as error:
            msg = f"cannot read {entry.path}: {error.strerror or error}"
            raise KS4Error(msg) from error

    def _refuse_changed(self):
        if _state_of(self._file) != self._state:
            path = printable(self.path)
            msg = f"{path} has changed since it was opened: open it again"
            raise MapFormatError(msg)

    def close(self):
        """Close the file."""
        self._closer()


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
    """Read an archive once and note where its maps are."""
    checkpoints = Checkpoints()
    reader = open_reader(file, path, checkpoints)
    members = {}
    for member in tar_members(reader, path):
        key = map_key(member.name.rpartition("/")[2])
        if key is not None:
            members.setdefault(key, []).append((key, member))
    if isinstance(reader, GzipReader):
        reader.drain()
    return _Index(members, checkpoints)
