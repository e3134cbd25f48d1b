# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The file of a store: its layout, and how it is opened.

A store is an SQLite database with a rollback journal, SQLite's default, and
not with a write-ahead log. A log would never block readers; but it needs
shared memory beside the file, which no network folder has and no read-only
folder allows, and it could not be removed again while another process reads.
With a journal, a store at rest is one file that needs nothing but reading. The
price is that readers wait while a transaction is committed, for tens of
milliseconds, and that the first process after a killed ingest rolls its
last transaction back, for which it needs the permission to write.
"""

import os
import sqlite3
from contextlib import closing, contextmanager
from functools import cache

from ks4_ccd.exceptions import StoreError
from ks4_ccd.library._sources import MAX_ARRAY_BYTES
from ks4_ccd.library._store_index import EMPTY_ROOT

__all__ = [
    "LOCK_SECONDS",
    "STORE_SUFFIX",
    "is_locked",
    "one_state",
    "open_for_reading",
    "open_for_writing",
    "store_errors",
]

STORE_SUFFIX = ".ks4maps"

# "KS4m": what `file` and SQLite call the application id.
_APPLICATION_ID = 0x4B53346D
_SCHEMA_VERSION = 2

# Arrays end in the middle of a page: with pages of 2 kB that costs 3 % of the
# file, with the usual 4 kB 7 %; smaller ones make reading slower.
_PAGE_BYTES = 2048

_CACHE_KILOBYTES = 64 * 2**10

# Steps of SQLite's virtual machine in one statement. Checking a store of the whole
# release takes 2e7; what takes more is no query of ours on a store of ours.
_MOST_STEPS = 500_000_000
_STEPS_BETWEEN_LOOKS = 1_000_000

# A header and an array, compressed or, at worst, hardly larger than before.
_LONGEST_VALUE = MAX_ARRAY_BYTES + 2**20

_SCHEMA = (
    # `reached` is the position of the data of the last member dealt with.
    """CREATE TABLE IF NOT EXISTS archives (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        head TEXT NOT NULL,
        tail TEXT NOT NULL,
        reached INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('partial', 'whole', 'broken'))
    )""",
    # A row is found, and a whole survey listed, without touching an array.
    """CREATE TABLE IF NOT EXISTS maps (
        field TEXT NOT NULL,
        band TEXT NOT NULL,
        mode TEXT NOT NULL,
        aperture TEXT NOT NULL,
        family TEXT NOT NULL,
        tile TEXT NOT NULL,
        shape TEXT NOT NULL,
        archive INTEGER NOT NULL REFERENCES archives,
        member TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        crc32 INTEGER NOT NULL,
        array INTEGER NOT NULL UNIQUE REFERENCES arrays,
        PRIMARY KEY (field, band, mode, aperture, family)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS arrays (id INTEGER PRIMARY KEY, npy BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS problems (
        archive INTEGER NOT NULL REFERENCES archives,
        member TEXT NOT NULL,
        problem TEXT NOT NULL
    )""",
    # Checksums of the rows above: see `_store_index`.
    """CREATE TABLE IF NOT EXISTS fields (
        field TEXT NOT NULL PRIMARY KEY,
        maps BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS root (
        version INTEGER PRIMARY KEY,
        content BLOB NOT NULL
    )""",
    f"""INSERT INTO root SELECT 0, x'{EMPTY_ROOT.hex()}'
        WHERE NOT EXISTS (SELECT * FROM root)""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)


def open_for_reading(path):
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
        # SQLite itself opens a file that may not be written for reading only.
        # Others are opened for both: or nobody could roll a killed ingest back.
        return _open(path, "mode=rw", _prepare_reading)
    except StoreError as error:
        if not _is_at_rest(path, error.__cause__):
            raise
    return _open(path, "mode=ro&immutable=1", _prepare_reading)


def open_for_writing(path):
    """
    Open a store for writing, and make it if there is none.

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
        If something else is there, or if the folder cannot be written.
    """
    return _open(path, "mode=rwc", _prepare_writing, "write")


@contextmanager
def one_state(connection):
    """Keep an ingest from committing between several statements that read."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # SQLite ends the transaction itself after some errors.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _open(path, mode, prepare, action="open"):
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
            prepare(connection, path)
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


class _Connection(sqlite3.Connection):
    """A connection on which no statement runs without end, whatever is in the file."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._steps = 0
        self.set_progress_handler(self._is_endless, _STEPS_BETWEEN_LOOKS)

    def execute(self, *arguments):
        self._steps = 0
        return super().execute(*arguments)

    def _is_endless(self):
        self._steps += _STEPS_BETWEEN_LOOKS
        return self._steps > _MOST_STEPS


def _prepare_reading(connection, path):
    connection.execute("PRAGMA query_only = 1")


def _prepare_writing(connection, path):
    # A transaction that does not fit would be written, and lock readers out,
    # before its end.
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KILOBYTES}")
    if path.stat().st_size == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")


def _is_at_rest(path, error):
    # Where a file system has no locks, a store can still be read if it lies
    # where we may not write and no transaction is under way.
    no_locks = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_CANTOPEN)
    return (
        getattr(error, "sqlite_errorcode", 0) & 0xFF in no_locks
        and not os.access(path, os.W_OK)
        and not os.path.lexists(f"{path}-journal")
    )


def _check(connection, path):
    with store_errors(path, "read"):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if path.stat().st_size == 0:
        msg = (
            f"{path} is empty, as an ingest leaves it that was killed before its first "
            "map: ingest again"
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
        # Whether the file is as long as it should be shows with the first table.
        connection.execute("SELECT 1 FROM maps LIMIT 1").fetchone()


def _check_schema(connection, path):
    # A view in the place of a table, or a trigger, would run whatever it holds.
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


def _schema_of(connection):
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    return frozenset(connection.execute(query))


@cache
def _expected_schema():
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in _SCHEMA:
            connection.execute(statement)
        return _schema_of(connection)


# How long to wait for another process. A commit takes a fraction of a second,
# the structural check of `verify` on a slow disk much longer.
LOCK_SECONDS = 60

_CURE = "Use an intact copy, or ingest the archives into a new store"
_SAFE = (
    "What was written before is safe: free some space and ingest again, which resumes "
    "from there"
)
# Damage that SQLite does not call corruption: a number out of range, a text that
# is not UTF-8, a length beyond the limit, a query without an end.
_ALSO_DAMAGE = (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_ERROR)


@contextmanager
def store_errors(path, action):
    """Turn errors of SQLite into a `StoreError` with the remedy."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        # Where SQLite quotes damaged text, Python cannot decode its message.
        raise StoreError(_message(path, action, error)) from error


def is_locked(error):
    """Return whether another process is why a store could not be used."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _message(path, action, error):
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    text = ascii(str(error))[1:-1]
    reason = f"{text} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
    journal = f"{path}-journal"
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return (
            f"an ingest into {path} was killed, and its last transaction has to be "
            "rolled back by a user with the permission to write: let them run "
            f"`ks4-ccd verify` on it. Do not delete {journal}"
        )
    messages = {
        sqlite3.SQLITE_BUSY: (
            f"{path} is locked: another process has been writing or checking it for "
            f"{LOCK_SECONDS} s. Let it finish (or end it), then try again"
        ),
        sqlite3.SQLITE_NOTADB: (
            f"{path} is not a store: expected an SQLite file written by "
            "`ks4-ccd ingest`, found something else"
        ),
        sqlite3.SQLITE_CORRUPT: f"{path} is truncated or damaged: {reason}. {_CURE}",
        sqlite3.SQLITE_FULL: f"the disk is full: cannot write {path}. {_SAFE}",
        sqlite3.SQLITE_CANTOPEN: (
            f"cannot {action} {path}: {reason}. Its folder must exist, and you need "
            "the permission to write in it if the store is to be written"
        ),
        sqlite3.SQLITE_READONLY: (
            f"cannot write {path}: {reason}. You need the permission to write the file "
            "and its folder"
        ),
    }
    messages[sqlite3.SQLITE_LOCKED] = messages[sqlite3.SQLITE_BUSY]
    if action != "write":
        messages |= dict.fromkeys(_ALSO_DAMAGE, messages[sqlite3.SQLITE_CORRUPT])
    if code & 0xFF == sqlite3.SQLITE_IOERR and action == "write":
        return (
            f"cannot write {path}: {reason}: the disk is full, has a limit or fails. "
            f"{_SAFE}"
        )
    # The lower byte is the kind of an error, the others its variety.
    return messages.get(code & 0xFF, f"cannot {action} {path}: {reason}")
