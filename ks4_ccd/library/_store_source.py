# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The maps in a store, for a library: from any process and any thread."""

import os
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ks4_ccd.exceptions import StoreError
from ks4_ccd.library._sources import Entry
from ks4_ccd.library._store_file import one_state, open_for_reading, store_errors
from ks4_ccd.library._store_index import (
    ROOT,
    check_map,
    find_damage,
    parse_root,
)
from ks4_ccd.library._store_rows import StoredRow, unpack

__all__ = ["StoreSource"]

# One statement reads one state of the store. It has a row for a map that is missing,
# too, so that its absence is checked.
_MAP = """SELECT version, fields.maps, maps.* FROM root
    LEFT JOIN fields ON fields.field = ?1
    LEFT JOIN maps ON (maps.field, band, mode, aperture) = (?1, ?2, ?3, ?4)"""
_MOST_COMMITS = 100
_READ = "SELECT id, npy FROM arrays WHERE id IN"

# A forked process inherits connections of its parent: SQLite requires that they
# are neither used nor closed by the child.
_of_parents = []


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
        with store_errors(self.path, "read"), one_state(self._connection()):
            rows, messages = find_damage(self._select, self.path)
        if messages:
            raise StoreError(messages[0])
        return [StoredRow(*row).key(self.path) for row in rows]

    def find(self, key):
        """Return the entry of an array: none or one."""
        row = self._row_of(key)
        if row is None:
            return ()
        if key.tile != (row.tile or None):
            key = replace(key, tile=row.tile or None)
        return (Entry(key, f"{self.path}:{row.member}", row),)

    def _row_of(self, key):
        # The rows of a map are looked up together: a library asks for one after
        # the other. Who asks for the same one again wants to know it anew.
        threads = self._threads
        where = key.place, key.band, key.mode, key.aperture or ""
        if where != threads.where or key.family in threads.asked:
            threads.where = None
            threads.rows = {row.family: row for row in self._rows_at(where)}
            threads.where, threads.asked = where, set()
        threads.asked.add(key.family)
        return threads.rows.get(key.family)

    def _rows_at(self, where):
        for _ in range(_MOST_COMMITS):
            found = self._select(_MAP, *where)
            if found and self._threads.root["version"] == found[0][0]:
                break
            # An ingest has committed since; it may do so again in between.
            self._threads.root = parse_root(self._select(ROOT), self.path)
        else:
            msg = f"{self.path} changes too fast to be read: wait for the ingest"
            raise StoreError(msg)
        rows = [row[2:] for row in found if row[2] is not None]
        check_map(self._threads.root, where, found[0][1], rows, self.path)
        return [StoredRow(*row) for row in rows]

    def read(self, entry):
        """Return the bytes of an array's file."""
        row = entry.place
        npy = self._npy_of(row)
        if npy is None:
            msg = (
                f"{self.path} is damaged or has changed since it was opened: it has no "
                f"{entry.key.filename} any more. Open it again; if that does not help, "
                "`ks4-ccd verify` lists all damage"
            )
            raise StoreError(msg)
        return unpack(npy, row.crc32, entry.key, row.member, self.path)

    def _npy_of(self, row):
        # A library reads all arrays of a map, one after the other.
        threads = self._threads
        if row.array not in threads.arrays:
            rows = threads.rows.values()
            numbers = [row.array for row in rows] if row in rows else [row.array]
            query = f"{_READ} ({', '.join('?' * len(numbers))})"
            threads.arrays = dict(self._select(query, *numbers))
        return threads.arrays.pop(row.array, None)

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
    root: ClassVar[dict] = {"version": None}
    rows: ClassVar[dict] = {}
    arrays: ClassVar[dict] = {}
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
