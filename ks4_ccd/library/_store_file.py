# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Open the file of a store, and define its tables.

A store is an SQLite database with a rollback journal, SQLite's default, and
not with a write-ahead log. A log would never block readers, but it requires
shared memory beside the file, which network folders do not support and read-only
folders do not allow, and it cannot be removed while another process reads.
With a journal, a store that is not being written is one file, and reading it requires
only the permission to read. In return, readers wait for tens of milliseconds
while a transaction is committed, and the first process after a killed ingest rolls
back its last transaction, for which it needs the permission to write.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ks4_ccd.exceptions import StoreError
from ks4_ccd.library._sources import MAX_ARRAY_BYTES
from ks4_ccd.library._store_index import EMPTY_ROOT

__all__ = [
    "LOCK_SECONDS",
    "STORE_SUFFIX",
    "is_locked",
    "open_for_reading",
    "open_for_writing",
    "store_errors",
]

STORE_SUFFIX = ".ks4maps"

# "KS4m": SQLite's application id, which `file` prints.
_APPLICATION_ID = 0x4B53346D
_SCHEMA_VERSION = 3

# Arrays end in the middle of a page: with pages of 2 kB that costs 3 % of the
# file, with the usual 4 kB 7 %; smaller ones make reading slower.
_PAGE_BYTES = 2048

_CACHE_KILOBYTES = 64 * 2**10

# Steps of SQLite's virtual machine in one statement. Verifying a store of all of
# DR1 takes 2e7: only a damaged file requires this many.
_MOST_STEPS = 500_000_000
_STEPS_BETWEEN_LOOKS = 1_000_000

# A header and an array, compressed or, at worst, hardly larger than before.
_LONGEST_VALUE = MAX_ARRAY_BYTES + 2**20

# The index and its checksums: see `_store_index`.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS root (content BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS records (
        name TEXT NOT NULL PRIMARY KEY,
        content BLOB NOT NULL
    )""",
    # A reader must not confuse a new array with one that was dropped.
    """CREATE TABLE IF NOT EXISTS arrays (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        npy BLOB NOT NULL
    )""",
    f"""INSERT INTO root SELECT x'{EMPTY_ROOT.hex()}'
        WHERE NOT EXISTS (SELECT * FROM root)""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """
    Open a store for reading.

    Parameters
    ----------
    path : `~pathlib.Path`

    Returns
    -------
    connection : `sqlite3.Connection`
        In autocommit mode, usable from any thread.

    Raises
    ------
    StoreError
        If it is not a store that this version can read.
    """
    if not os.path.isfile(path):
        msg = f"{path} does not exist: expected a store written by `ks4-ccd ingest`"
        raise StoreError(msg)
    try:
        # SQLite itself opens a write-protected file for reading only. Others are opened
        # for reading and writing, so that a killed ingest can be rolled back.
        return _open(path, "mode=rw")
    except StoreError as error:
        if not _is_at_rest(path, error.__cause__):
            raise
    return _open(path, "mode=ro&immutable=1")


def open_for_writing(path: Path) -> sqlite3.Connection:
    """
    Open a store for writing, and create it if it does not exist.

    Parameters
    ----------
    path : `~pathlib.Path`

    Returns
    -------
    connection : `sqlite3.Connection`
        In autocommit mode, usable from any thread.

    Raises
    ------
    StoreError
        If the file is not a store, or cannot be written.
    """
    return _open(path, "mode=rwc", "write")


def _open(path: Path, mode: str, action: str = "open") -> sqlite3.Connection:
    with store_errors(path, action):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
    try:
        with store_errors(path, action):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            connection.execute("PRAGMA trusted_schema = 0")
            connection.execute("PRAGMA cell_size_check = 1")
            # Reading anything rolls back what a killed ingest left.
            connection.execute("PRAGMA user_version").fetchone()
            if action == "write":
                _prepare_writing(connection, path)
            else:
                connection.execute("PRAGMA query_only = 1")
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


class _Connection(sqlite3.Connection):
    """A connection that limits the steps of each statement, for damaged files."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._steps = 0
        self.set_progress_handler(self._is_endless, _STEPS_BETWEEN_LOOKS)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._steps = 0
        return super().execute(*arguments)

    def _is_endless(self) -> bool:
        self._steps += _STEPS_BETWEEN_LOOKS
        return self._steps > _MOST_STEPS


def _prepare_writing(connection: sqlite3.Connection, path: Path) -> None:
    # A transaction larger than the cache would be written, and block readers, before
    # its end.
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KILOBYTES}")
    if path.stat().st_size == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)


def _is_at_rest(path: Path, error: BaseException | None) -> bool:
    # Without locks in the file system, a store can still be read if it is
    # write-protected and no transaction is in progress.
    no_locks = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_CANTOPEN)
    return (
        getattr(error, "sqlite_errorcode", 0) & 0xFF in no_locks
        and not os.access(path, os.W_OK)
        and not os.path.lexists(f"{path}-journal")
    )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    with store_errors(path, "read"):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if path.stat().st_size == 0:
        msg = (
            f"{path} is empty: an ingest has just begun, or was killed before its "
            "first map: let it finish, or ingest again"
        )
        raise StoreError(msg)
    if application != _APPLICATION_ID:
        msg = (
            f"{path} is another program's SQLite file (its application id is "
            f"{application}, a store's is {_APPLICATION_ID}): give a file written by "
            "`ks4-ccd ingest`, or a new name to write to"
        )
        raise StoreError(msg)
    if version != _SCHEMA_VERSION:
        writer, cure = ("a newer", "Update ks4_ccd, or ingest")
        if version < _SCHEMA_VERSION:
            writer, cure = ("an older", "Ingest")
        msg = (
            f"{path} was written by {writer} ks4_ccd: its schema is version {version}, "
            f"this one reads version {_SCHEMA_VERSION}. {cure} the archives into a new "
            "store"
        )
        raise StoreError(msg)
    _check_schema(connection, path)
    with store_errors(path, "read"):
        # Reading the first table verifies the length of the file.
        connection.execute("SELECT 1 FROM records LIMIT 1").fetchone()


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    # A view in place of a table, or a trigger, would execute its statements.
    with store_errors(path, "read"):
        schema = _schema_of(connection)
    expected = _expected_schema()
    if schema != expected:
        names = {ascii(f"{kind} {name}") for kind, name, *_ in (schema ^ expected)}
        msg = (
            f"{path} is damaged or was changed by another program: expected the tables "
            f"of a store, found others ({', '.join(sorted(names))}). Use an intact "
            "copy, or ingest the archives into a new store"
        )
        raise StoreError(msg)


def _schema_of(connection: sqlite3.Connection) -> frozenset[tuple]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    return frozenset(connection.execute(query))


@cache
def _expected_schema() -> frozenset[tuple]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in _SCHEMA:
            connection.execute(statement)
        return _schema_of(connection)


# Longest wait for another process. A commit takes a fraction of a second, the
# structural check of `verify` on a slow disk much longer.
LOCK_SECONDS = 60

_CURE = "Use an intact copy, or ingest the archives into a new store"
_SAFE = (
    "Maps that were written before are safe: free some space, then ingest again, which "
    "resumes"
)
_PERMISSION = (
    "Its folder must exist; to write a store, the permission to write both the folder "
    "and the file is required"
)
# SQLite's kind of an error: the problem, and the remedy.
_MESSAGES = {
    sqlite3.SQLITE_BUSY: (
        "is locked",
        f"Another process has been writing or checking it for {LOCK_SECONDS} s: let it "
        "finish (or end it), then try again",
    ),
    sqlite3.SQLITE_NOTADB: (
        "is not a store",
        "Give a file written by `ks4-ccd ingest`",
    ),
    sqlite3.SQLITE_CORRUPT: ("is truncated or damaged", _CURE),
    sqlite3.SQLITE_FULL: (
        "cannot be written: the disk is full, has a quota or fails",
        _SAFE,
    ),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _PERMISSION),
    sqlite3.SQLITE_READONLY: ("cannot be written", _PERMISSION),
}
_MESSAGES[sqlite3.SQLITE_LOCKED] = _MESSAGES[sqlite3.SQLITE_BUSY]
# Damage that SQLite does not report as corruption: a number out of range, a text that
# is not UTF-8, a length beyond the limit, an endless query.
_DAMAGE_IF_READ = (
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_ERROR,
)


@contextmanager
def store_errors(path: Path, action: str) -> Iterator[None]:
    """Turn errors of SQLite into a `StoreError` with the remedy."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        # If SQLite quotes damaged text, Python cannot decode its message.
        raise StoreError(_message(path, action, error)) from error


def is_locked(error: Exception) -> bool:
    """Return whether a store could not be used because another process locked it."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _message(path: Path, action: str, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return (
            f"an ingest into {path} was killed, and its last transaction has to be "
            "rolled back by a user with the permission to write, who runs `ks4-ccd "
            f"verify` on it. Do not delete {path}-journal"
        )
    # The lower byte is the kind of an error, the others specify it.
    kind = code & 0xFF
    if action != "write" and kind in _DAMAGE_IF_READ:
        kind = sqlite3.SQLITE_CORRUPT
    if action == "write" and kind == sqlite3.SQLITE_IOERR:
        # A limit on the size of files causes this error.
        kind = sqlite3.SQLITE_FULL
    participle = {"open": "opened", "read": "read", "write": "written"}[action]
    problem, cure = _MESSAGES.get(kind, (f"cannot be {participle}", "Try again"))
    text = ascii(str(error))[1:-1]
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return f"{path} {problem}: {text} ({name}). {cure}"
