# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The maps in a store, for a library: from any process and any thread."""

import os
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import StoreError
from ks4_ccd.release._source import Entry
from ks4_ccd.release._store_errors import store_errors
from ks4_ccd.release._store_file import open_for_reading
from ks4_ccd.release._store_rows import KEY_COLUMNS, key_of, unpack

__all__ = ["StoreSource"]

_FIND = """SELECT family, array, member, crc32, tile FROM maps
    WHERE (field, band, mode, aperture) = (?, ?, ?, ?)"""
_READ = "SELECT npy FROM arrays WHERE id = ?"
_KEYS = f"SELECT {KEY_COLUMNS} FROM maps"

# What a forked process inherits is its parent's: SQLite asks for it not to be
# used, nor even closed, by the child.
_of_parents = []


class _Place(NamedTuple):
    array: int
    member: str
    crc32: int


class StoreSource:
    """
    The maps in a store.

    Each thread of each process has a connection of its own, which is opened
    when it is first needed. So a source may be shared by threads, carried
    over a fork, and pickled.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    StoreError
        If it is not a store that this version can read.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._is_closed = False
        self._threads = _OfThread()
        self._connections = weakref.WeakSet()
        self._connection()

    def __reduce__(self):
        return type(self), (self.path.absolute(),)

    def keys(self):
        """Return the keys of all arrays."""
        return [key_of(columns, self.path) for columns in self._select(_KEYS)]

    def find(self, key):
        """Return the entry of an array: none or one."""
        row = self._row_of(key)
        if row is None:
            return ()
        array, member, crc32, tile = row
        if key.tile != (tile or None):
            key = replace(key, tile=tile or None)
        place = _Place(array, member, crc32)
        return (Entry(key, f"{self.path}:{member}", place),)

    def _row_of(self, key):
        # The rows of a map are looked up together: a library asks for one after
        # the other. Who asks for the same one again wants to know it anew.
        threads = self._threads
        where = key.field, key.band, key.mode, key.aperture or ""
        if where != threads.where or key.family in threads.asked:
            found = self._select(_FIND, *where)
            threads.rows = {family: row for family, *row in found}
            threads.where, threads.asked = where, set()
        threads.asked.add(key.family)
        return threads.rows.get(key.family)

    def read(self, entry):
        """Return the bytes of an array's file."""
        place = entry.place
        rows = self._select(_READ, place.array)
        if not rows:
            msg = f"{self.path} has changed since it was opened: open it again"
            raise StoreError(msg)
        return unpack(rows[0][0], place.crc32, entry.key, place.member, self.path)

    def close(self):
        """Close the connections of this process."""
        self._is_closed = True
        for connection in list(self._connections):
            connection.close()

    def _select(self, query, *arguments):
        with store_errors(self.path, "read"):
            return self._connection().execute(query, arguments).fetchall()

    def _connection(self):
        if self._is_closed:
            msg = f"{self.path} is closed: load maps before closing it"
            raise StoreError(msg)
        kept = self._threads.connection
        if kept is None or kept.process != os.getpid():
            kept = self._threads.connection = _Connection(self.path)
            self._connections.add(kept)
        return kept.sqlite


class _OfThread(threading.local):
    """What a thread has for itself: a connection, and the map it last looked up."""

    connection = None
    where = None
    asked = frozenset()


class _Connection:
    """A connection that is closed when its thread ends or it is forgotten."""

    def __init__(self, path):
        self.process = os.getpid()
        self.sqlite = open_for_reading(path)
        self.close = weakref.finalize(self, _close, self.sqlite, self.process)


def _close(connection, process):
    if process == os.getpid():
        connection.close()
    else:
        _of_parents.append(connection)
