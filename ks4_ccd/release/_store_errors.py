# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Translate the errors of SQLite into messages about a store."""

import sqlite3
from contextlib import contextmanager

from ks4_ccd.exceptions import StoreError

__all__ = ["LOCK_SECONDS", "is_locked", "store_errors"]

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
