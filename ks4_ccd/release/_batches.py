# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Batches of maps, compressed and written while the archive is read further."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from ks4_ccd.release._store_rows import pack, shape_text
from ks4_ccd.release._store_writer import Row

__all__ = ["Batches"]

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
