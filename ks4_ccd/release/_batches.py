# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Batches of maps, compressed and written while the archive is read on."""

import os
from concurrent.futures import ThreadPoolExecutor

from ks4_ccd.release._store_rows import pack, shape_text
from ks4_ccd.release._store_writer import Row

__all__ = ["Batches"]

# As .npy files. Readers wait while a batch is committed, and it is what an
# ingest that is killed has to do again.
_BATCH_BYTES = 24 * 2**20
_PACKERS = max(1, min(8, os.cpu_count() or 1))


class Batches:
    """
    The members of one archive on their way into a store.

    Parameters
    ----------
    writer : `StoreWriter`
    archive : int
        The number of the archive in the store.
    reached : int
        The position of the last member that the store knows.

    Attributes
    ----------
    arrays, written : int
        How many arrays were added, and how many of them the store did not
        have.

    Notes
    -----
    One batch is compressed and collected while another one is committed.
    """

    def __init__(self, writer, archive, reached):
        self.arrays = self.written = 0
        self._writer = writer
        self._archive = archive
        # Compressing, hashing and SQLite all let other threads run.
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
        self._rows, self._problems, self._bytes = [], [], 0

    def add(self, member, array):
        """Take up a map that was found good."""
        self._rows.append(self._packers.submit(_packed, member, shape_text(array)))
        self._bytes += len(member.data)
        self.arrays += 1

    def report(self, name, problem):
        """Take up a problem with a member, or, with no name, with the archive."""
        self._problems.append((name, problem))

    def pass_by(self, member):
        """Note that a member has been dealt with."""
        self._now = member.position
        if self._bytes >= _BATCH_BYTES:
            self._write("partial")

    def finish(self, state):
        """Write what is left, and how it stands with the archive."""
        self._write(state)
        self._wait()

    def drop(self, problem):
        """Take out again all that came from the archive."""
        self._wait()
        self._writer.drop(self._archive, self._before, problem)
        self.written = 0

    def _write(self, state):
        self._wait()
        work = (self._before, self._now), self._rows, self._problems, state
        self._commit = self._committer.submit(self._write_rows, *work)
        self._before = self._now
        self._start()

    def _write_rows(self, span, rows, problems, state):
        # All compressed before the transaction begins: others may write meanwhile.
        rows = [row.result() for row in rows]
        return self._writer.write(self._archive, span, rows, problems, state)

    def _wait(self):
        if self._commit is not None:
            self.written += self._commit.result()
            self._commit = None


def _packed(member, shape):
    key, name = member.key, member.name
    return Row(key, name, shape, *pack(member.data, key, name))
