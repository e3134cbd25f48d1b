# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read the maps of a store for a library, in any thread and any process."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import StoreError
from ks4_ccd.library._sources import Entry
from ks4_ccd.library._store_file import open_for_reading, store_errors
from ks4_ccd.library._store_index import (
    ALL_RECORDS,
    ARCHIVES,
    ARRAY,
    RECORD,
    arrays_in,
    find_array,
    inflate,
    record_of,
    records_and_damage,
)
from ks4_ccd.maps.key import MapKey

__all__ = ["StoreSource"]

# SQLite requires that a forked process neither uses nor closes the connections of its
# parent.
_of_parents: list[sqlite3.Connection] = []


class _Opened(NamedTuple):
    """A connection, the process that may use it, and the lock to use it under."""

    connection: sqlite3.Connection
    process: int
    lock: threading.Lock


class _Reconnecting:
    """The lock under which the threads of a forked process reconnect a source."""

    lock = threading.Lock()

    @classmethod
    def renew(cls) -> None:
        """Replace the lock, which another thread may have held during the fork."""
        cls.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Reconnecting.renew)


class StoreSource:
    """
    The maps in a store.

    A source may be shared by threads, carried over a fork, and pickled.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    StoreError
        If it is not a store that this version can read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._is_closed = False
        self._opened = self._connect()

    def __reduce__(self) -> tuple[Callable, tuple]:
        return type(self), (self.path.absolute(),)

    def _connect(self) -> _Opened:
        connection = open_for_reading(self.path)
        opened = _Opened(connection, os.getpid(), threading.Lock())
        # Also closes the connection of a source that is no longer referenced.
        self._close = weakref.finalize(self, _close, connection, opened.process)
        return opened

    def _opened_here(self) -> _Opened:
        """Return the connection of this process, which is renewed after a fork."""
        if self._opened.process != os.getpid():
            with _Reconnecting.lock:
                if self._opened.process != os.getpid():
                    self._close()
                    self._opened = self._connect()
        return self._opened

    def keys(self) -> list[MapKey]:
        """Return the keys of all arrays."""
        records, messages = records_and_damage(self._select(ALL_RECORDS), self.path)
        if messages:
            raise StoreError(messages[0])
        return [
            row.key(field, self.path)
            for field, record in records.items()
            if field != ARCHIVES
            for row in arrays_in(record, field, self.path).values()
        ]

    def find(self, *keys: MapKey) -> list[Entry]:
        """Return the entries of the arrays of one map."""
        place = keys[0].place
        record = record_of(self._select(RECORD, place), place, self.path)
        entries = []
        for key in keys:
            row = find_array(record, key, self.path)
            if row is not None:
                own_key = replace(key, tile=row.tile) if row.tile else key
                entries.append(Entry(own_key, f"{self.path}:{row.member}", row))
        return entries

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of an array's file."""
        found = self._select(ARRAY, entry.location.array)
        if not found:
            msg = (
                f"{self.path} is damaged or has changed since it was opened: expected "
                f"{entry.key.filename}, found no array. Open it again; if the error "
                "persists, `ks4-ccd verify` lists all damage"
            )
            raise StoreError(msg)
        return inflate(found[0][0], entry.location, entry.key, self.path)

    def close(self) -> None:
        """Close the file, once the queries of other threads are done."""
        self._is_closed = True
        opened = self._opened
        if opened.process != os.getpid():
            self._close()
            return
        with opened.lock:
            self._close()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            msg = f"{self.path} is closed: load maps before closing it"
            raise StoreError(msg)

    def _select(self, query: str, *arguments: object) -> list[tuple]:
        self._refuse_closed()
        opened = self._opened_here()
        with opened.lock:
            # It may have been closed since.
            self._refuse_closed()
            with store_errors(self.path, "read"):
                return opened.connection.execute(query, arguments).fetchall()


def _close(connection: sqlite3.Connection, process: int) -> None:
    if process == os.getpid():
        connection.close()
    else:
        _of_parents.append(connection)
