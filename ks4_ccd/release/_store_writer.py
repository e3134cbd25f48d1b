# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Writing to a store: whole batches, each with the progress it stands for.

A batch of maps and how far its archive is known with it are one transaction.
So a store never has a map twice or lacks one, whenever an ingest is killed;
and of two ingests of the same archive the one that comes second notices.
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ks4_ccd.exceptions import MapFormatError, StoreError
from ks4_ccd.release._store_errors import store_errors
from ks4_ccd.release._store_file import open_for_writing
from ks4_ccd.release._store_rows import KEY_COLUMNS, key_of, read_stored, unpack

__all__ = ["NOTHING_YET", "Row", "StoreWriter"]

NOTHING_YET = -1

_WHERE = "(field, band, mode, aperture, family) = (?, ?, ?, ?, ?)"
_INSERT_ARRAY = "INSERT INTO arrays (npy) VALUES (?)"
_INSERT_MAP = """INSERT INTO maps (field, band, mode, aperture, family, tile, member,
    shape, sha256, crc32, archive, array) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_CHECKSUM = f"SELECT sha256 FROM maps WHERE {_WHERE}"
_TWIN = f"""SELECT name, npy, crc32, member, {KEY_COLUMNS} FROM maps
    JOIN archives ON archives.id = archive JOIN arrays ON arrays.id = array
    WHERE {_WHERE}"""
_DROP = (
    "DELETE FROM arrays WHERE id IN (SELECT array FROM maps WHERE archive = ?)",
    "DELETE FROM maps WHERE archive = ?",
)
_NAME = "SELECT name FROM archives WHERE id = ?"
_SAME = "SELECT id, reached, state FROM archives WHERE (name, size, head, tail) = "
_OTHER_STATE = """SELECT id FROM archives WHERE name = ? AND head = ? AND (
    state != 'whole' OR id IN (SELECT archive FROM problems))"""
_CLAIM = """UPDATE archives SET reached = ?, state = ?
    WHERE id = ? AND reached = ? AND state = 'partial'"""


class Row(NamedTuple):
    """One array, as the store keeps it."""

    key: object
    member: str
    shape: str
    sha256: bytes
    crc32: int
    npy: bytes


class StoreWriter:
    """
    A store, to be written by one thread at a time.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file; it is made if it is not there.

    Raises
    ------
    StoreError
        If it cannot be written or is something else.
    """

    def __init__(self, path):
        self.path = path
        self._connection = open_for_writing(path)

    def close(self):
        """Close the file."""
        self._connection.close()

    def begin(self, identity):
        """
        Look up what is known of an archive.

        Parameters
        ----------
        identity : `Identity`

        Returns
        -------
        archive : int
            Its number in the store.
        reached : int
            The position of the last of its members that was dealt with.
        is_done : bool
            Whether there is nothing left to do.
        """
        with self._transaction() as execute:
            same = execute(f"{_SAME} (?, ?, ?, ?)", identity).fetchone()
            if same is not None:
                archive, reached, state = same
                if state == "partial":
                    return archive, reached, False
                if state == "whole" and not self.problems(archive):
                    return archive, reached, True
            else:
                other = _OTHER_STATE, (identity.name, identity.head)
                (archive,) = execute(*other).fetchone() or (None,)
            # Read from the start: what was wrong may have been set right.
            row = (archive, *identity, NOTHING_YET, "partial")
            insert = "INSERT OR REPLACE INTO archives VALUES (?, ?, ?, ?, ?, ?, ?)"
            new = execute(insert, row).lastrowid
            execute("DELETE FROM problems WHERE archive = ?", (archive,))
        return new, NOTHING_YET, False

    def problems(self, archive):
        """Return member and problem of what was wrong with an archive."""
        query = "SELECT member, problem FROM problems WHERE archive = ? ORDER BY rowid"
        with store_errors(self.path, "read"):
            return self._connection.execute(query, (archive,)).fetchall()

    def write(self, archive, span, rows, problems, state="partial"):
        """
        Write a batch.

        Parameters
        ----------
        archive : int
            The number of its archive.
        span : tuple of int
            The position that had been reached and the one that is now.
        rows : iterable of `Row`
        problems : iterable of tuple of str
            Member and problem.
        state : {"partial", "whole", "broken"}, optional
            Whether the archive has been read to its end, or as far as it can.

        Returns
        -------
        written : int
            The number of rows that the store did not have.

        Raises
        ------
        MapFormatError
            If the store has an array with another content.
        StoreError
            If the batch cannot be written, or if another ingest did that.
        """
        written = 0
        with self._transaction() as execute:
            self._claim(execute, archive, span, state)
            for row in rows:
                written += self._insert(execute, archive, row)
            self._note(execute, archive, problems)
        return written

    def drop(self, archive, reached, problem):
        """Take all maps of an archive out again, as any of them may be wrong."""
        with self._transaction() as execute:
            self._claim(execute, archive, (reached, NOTHING_YET), "broken")
            for statement in _DROP:
                execute(statement, (archive,))
            self._note(execute, archive, [("", problem)])

    def _claim(self, execute, archive, span, state):
        before, now = span
        if execute(_CLAIM, (now, state, archive, before)).rowcount != 1:
            msg = (
                f"another ingest writes the same archive to {self.path}: let it finish "
                "(or end it), then ingest again, which goes on from there"
            )
            raise StoreError(msg)

    def _insert(self, execute, archive, row):
        key = row.key
        where = key.field, key.band, key.mode, key.aperture or "", key.family
        twin = execute(_CHECKSUM, where).fetchone()
        if twin is None:
            array = execute(_INSERT_ARRAY, (row.npy,)).lastrowid
            checks = row.member, row.shape, row.sha256, row.crc32
            execute(_INSERT_MAP, (*where, key.tile or "", *checks, archive, array))
            return 1
        if twin != (row.sha256,):
            name, *there = execute(_TWIN, where).fetchone()
            (own_name,) = execute(_NAME, (archive,)).fetchone()
            self._refuse_unequal(name, there, own_name, row)
        return 0

    def _refuse_unequal(self, name, there, own_name, row):
        # As in a library, the same numbers in another type or order are the same.
        npy, crc32, member, *columns = there
        places = f"{name}:{member}", f"{own_name}:{row.member}"
        key = key_of(columns, self.path)
        stored = unpack(npy, crc32, key, member, self.path)
        own = unpack(row.npy, row.crc32, row.key, row.member, self.path)
        arrays = [
            read_stored(data, key, place)
            for data, place in zip((stored, own), places, strict=True)
        ]
        if not np.array_equal(*arrays, equal_nan=True):
            msg = (
                f"{places[0]} (in {self.path}) and {places[1]} are the same map and "
                "differ: ingest only the one that is right, into a new store"
            )
            raise MapFormatError(msg)

    @staticmethod
    def _note(execute, archive, problems):
        for problem in problems:
            execute("INSERT INTO problems VALUES (?, ?, ?)", (archive, *problem))

    @contextmanager
    def _transaction(self):
        connection = self._connection
        with store_errors(self.path, "write"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection.execute
                connection.execute("COMMIT")
            finally:
                # SQLite may have rolled a full disk's transaction back itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
