# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Write to a store in whole batches, each with the progress that it represents.

A batch of maps, the position reached in its archive and the checksums of the index
are written in one transaction. A store therefore never has a map twice or lacks one,
whenever an ingest is killed; and of two ingests of the same archive the second one
is noticed.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import numpy as np

from ks4_ccd.exceptions import MapFormatError, StoreError
from ks4_ccd.library._arrays import read_array
from ks4_ccd.library._store_file import open_for_writing, store_errors
from ks4_ccd.library._store_index import IndexWriter
from ks4_ccd.library._store_rows import StoredRow, pack, shape_text, unpack

__all__ = ["NOTHING_YET", "Batches", "Row", "StoreWriter"]

NOTHING_YET = -1

_WHERE = "(field, band, mode, aperture, family) = (?, ?, ?, ?, ?)"
_INSERT_ARRAY = "INSERT INTO arrays (npy) VALUES (?)"
_INSERT_MAP = f"INSERT INTO maps VALUES ({', '.join('?' * len(StoredRow._fields))})"
_CHECKSUM = f"SELECT sha256 FROM maps WHERE {_WHERE}"
_DUPLICATE = f"""SELECT name, npy, maps.* FROM maps
    JOIN archives ON archives.id = archive JOIN arrays ON arrays.id = array
    WHERE {_WHERE}"""
_OF_ARCHIVE = "SELECT * FROM maps WHERE archive = ?"
_DROP = (
    "DELETE FROM arrays WHERE id IN (SELECT array FROM maps WHERE archive = ?)",
    "DELETE FROM maps WHERE archive = ?",
)
_INSERT_PROBLEM = "INSERT INTO problems VALUES (?, ?, ?)"
_PROBLEMS = "SELECT * FROM problems WHERE archive = ? ORDER BY rowid"
_FORGET_PROBLEMS = "DELETE FROM problems WHERE archive = ?"
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
        with self._transaction() as (execute, index):
            index.check_problems()
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
            # Read from the start: what was wrong may have been corrected.
            row = (archive, *identity, NOTHING_YET, "partial")
            insert = "INSERT OR REPLACE INTO archives VALUES (?, ?, ?, ?, ?, ?, ?)"
            new = execute(insert, row).lastrowid
            index.remove_problems([*execute(_PROBLEMS, (archive,))])
            execute(_FORGET_PROBLEMS, (archive,))
        return new, NOTHING_YET, False

    def problems(self, archive):
        """Return member and problem for each problem of an archive."""
        with store_errors(self.path, "read"):
            rows = self._connection.execute(_PROBLEMS, (archive,)).fetchall()
        return [problem for _, *problem in rows]

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
        with self._transaction() as (execute, index):
            self._claim(execute, archive, span, state)
            for row in rows:
                written += self._insert(execute, index, archive, row)
            self._note(execute, index, archive, problems)
        return written

    def drop(self, archive, reached, problem):
        """Remove all maps of an archive again, as any of them may be wrong."""
        with self._transaction() as (execute, index):
            self._claim(execute, archive, (reached, NOTHING_YET), "broken")
            for row in execute(_OF_ARCHIVE, (archive,)).fetchall():
                index.remove(row)
            for statement in _DROP:
                execute(statement, (archive,))
            self._note(execute, index, archive, [("", problem)])

    def _claim(self, execute, archive, span, state):
        before, now = span
        if execute(_CLAIM, (now, state, archive, before)).rowcount != 1:
            msg = (
                f"another ingest writes the same archive to {self.path}: let it finish "
                "(or end it), then ingest again, which resumes from there"
            )
            raise StoreError(msg)

    def _insert(self, execute, index, archive, row):
        key = row.key
        where = key.place, key.band, key.mode, key.aperture or "", key.family
        there = execute(_CHECKSUM, where).fetchone()
        if there is None:
            array = execute(_INSERT_ARRAY, (row.npy,)).lastrowid
            checks = row.shape, archive, row.member, row.sha256, row.crc32
            stored = (*where, key.tile or "", *checks, array)
            execute(_INSERT_MAP, stored)
            index.add(stored)
            return 1
        if there != (row.sha256,):
            name, npy, *stored = execute(_DUPLICATE, where).fetchone()
            (own_name,) = execute(_NAME, (archive,)).fetchone()
            self._refuse_unequal(name, npy, StoredRow(*stored), own_name, row)
        return 0

    def _refuse_unequal(self, name, npy, stored, own_name, row):
        # As in a library, the same numbers in another type or order are the same.
        places = f"{name}:{stored.member}", f"{own_name}:{row.member}"
        key = stored.key(self.path)
        data = unpack(npy, stored.crc32, key, stored.member, self.path)
        own = unpack(row.npy, row.crc32, row.key, row.member, self.path)
        arrays = [
            read_array(content, key, place)
            for content, place in zip((data, own), places, strict=True)
        ]
        if not np.array_equal(*arrays, equal_nan=True):
            msg = (
                f"{places[0]} (in {self.path}) and {places[1]} are the same map and "
                "differ: ingest only the one that is right, into a new store"
            )
            raise MapFormatError(msg)

    @staticmethod
    def _note(execute, index, archive, problems):
        rows = [(archive, *problem) for problem in problems]
        for row in rows:
            execute(_INSERT_PROBLEM, row)
        index.add_problems(rows)

    @contextmanager
    def _transaction(self):
        connection = self._connection
        with store_errors(self.path, "write"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                index = IndexWriter(connection.execute, self.path)
                yield connection.execute, index
                index.write()
                connection.execute("COMMIT")
            finally:
                # SQLite may have rolled a full disk's transaction back itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")


# As .npy files. Readers wait while a batch is committed, and a killed ingest has
# to repeat one.
_BATCH_BYTES = 24 * 2**20
# One task of a thread. Handing over each map alone costs as much as compressing it.
_TASK_BYTES = 2**20
_PACKERS = max(1, min(8, os.cpu_count() or 1))


class Batches:
    """
    The members of one archive, to be written to a store.

    Parameters
    ----------
    writer : `StoreWriter`
    archive : int
        The number of the archive in the store.
    reached : int
        The position of the last member that the store has.

    Attributes
    ----------
    arrays, written : int
        The number of arrays that were added, and of those that the store did
        not have.

    Notes
    -----
    One batch is compressed and collected while another one is committed.
    """

    def __init__(self, writer, archive, reached):
        self.arrays = self.written = 0
        self._writer = writer
        self._archive = archive
        # Compressing, hashing and SQLite all release the lock of the interpreter.
        self._packers = ThreadPoolExecutor(_PACKERS)
        self._committer = ThreadPoolExecutor(1)
        self._commit = None
        self._before = self._now = reached
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._packers.shutdown(cancel_futures=True)
        self._committer.shutdown(cancel_futures=True)

    def _start(self):
        self._tasks, self._problems, self._bytes = [], [], 0
        self._members, self._bytes_of_task = [], 0

    def add(self, member, array):
        """Add a map that was checked."""
        self._members.append((member, shape_text(array)))
        self._bytes_of_task += len(member.data)
        self._bytes += len(member.data)
        self.arrays += 1
        if self._bytes_of_task >= _TASK_BYTES:
            self._pack()

    def _pack(self):
        self._tasks.append(self._packers.submit(_packed, self._members))
        self._members, self._bytes_of_task = [], 0

    def report(self, name, problem):
        """Add a problem with a member, or, with no name, with the archive."""
        self._problems.append((name, problem))

    def pass_by(self, member):
        """Note that a member has been dealt with."""
        self._now = member.position
        if self._bytes >= _BATCH_BYTES:
            self._write("partial")

    def finish(self, state):
        """Write the rest, and the state of the archive."""
        self._write(state)
        self._wait()

    def drop(self, problem):
        """Remove all maps of the archive again."""
        self._wait()
        self._writer.drop(self._archive, self._before, problem)
        self.written = 0

    def _write(self, state):
        self._pack()
        self._wait()
        work = (self._before, self._now), self._tasks, self._problems, state
        self._commit = self._committer.submit(self._write_rows, *work)
        self._before = self._now
        self._start()

    def _write_rows(self, span, tasks, problems, state):
        # Another ingest may write until the transaction begins: not before all maps
        # are compressed.
        rows = list(chain.from_iterable(task.result() for task in tasks))
        return self._writer.write(self._archive, span, rows, problems, state)

    def _wait(self):
        if self._commit is not None:
            self.written += self._commit.result()
            self._commit = None


def _packed(members):
    return [
        Row(m.key, m.name, shape, *pack(m.data, m.key, m.name)) for m, shape in members
    ]
