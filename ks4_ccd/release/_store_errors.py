# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the errors of SQLite mean to somebody who has a store."""

import sqlite3
from contextlib import contextmanager

from ks4_ccd.exceptions import StoreError

__all__ = ["LOCK_SECONDS", "is_locked", "store_errors"]

# How long to wait for another process. A commit takes a fraction of a second,
# the structural check of `verify` on a slow disk much longer.
LOCK_SECONDS = 60


@contextmanager
def store_errors(path, action):
    """Turn errors of SQLite into a `StoreError` that says what to do."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # Where SQLite quotes damaged text, Python cannot decode its message.
        raise StoreError(_message(path, action, error)) from error


def is_locked(error):
    """Return whether another process is why a store could not be used."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _message(path, action, error):
    is_text = isinstance(error, UnicodeDecodeError)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT if is_text else 0)
    reason = f"{error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
    journal = f"{path}-journal"
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return (
            f"an ingest into {path} was killed, and its last transaction has to be "
            f"rolled back by somebody who may write: let them run `ks4-ccd verify` on "
            f"it. Do not delete {journal}"
        )
    messages = {
        sqlite3.SQLITE_BUSY: (
            f"{path} is locked: another process has been writing or checking it for "
            f"{LOCK_SECONDS} s. Let it finish (or end it), then try again"
        ),
        sqlite3.SQLITE_NOTADB: (
            f"{path} is not a store: expected an SQLite file as `ks4-ccd ingest` "
            f"writes it, found something else"
        ),
        sqlite3.SQLITE_CORRUPT: (
            f"{path} is truncated or damaged: {reason}. Take a good copy, or ingest "
            "the archives into a new store"
        ),
        sqlite3.SQLITE_FULL: (
            f"the disk is full: cannot write {path}. What was written before is safe: "
            "make room and ingest again, which goes on from there"
        ),
        sqlite3.SQLITE_CANTOPEN: (
            f"cannot {action} {path}: {reason}. Its folder must be there, and one "
            "that you may write if you are to write the store"
        ),
        sqlite3.SQLITE_READONLY: (
            f"cannot write {path}: {reason}. The file and its folder must be yours to "
            "write"
        ),
    }
    messages[sqlite3.SQLITE_LOCKED] = messages[sqlite3.SQLITE_BUSY]
    if code & 0xFF == sqlite3.SQLITE_IOERR and action == "write":
        return (
            f"cannot write {path}: {reason}: the disk is full, has a limit or fails. "
            "What was written before is safe: make room and ingest again, which goes "
            "on from there"
        )
    # The lower byte is the kind of an error, the others its variety.
    return messages.get(code & 0xFF, f"cannot {action} {path}: {reason}")
