# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Write to a store in whole batches, each with the progress that it represents.

A batch of arrays, their lines in the index and the position reached in their archive
are written in one transaction. A store therefore never contains an array twice or
lacks one, whenever an ingest is killed; and the second of two ingests of the same
archive is noticed.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import MapFormatError, StoreError
from ks4_ccd.library._archive import Identity, Member
from ks4_ccd.library._arrays import read_array, same_array
from ks4_ccd.library._store_file import open_for_writing, store_errors
from ks4_ccd.library._store_index import (
    ALL_RECORDS,
    ARCHIVES,
    ARRAY,
    RECORD,
    ArchiveRow,
    ArrayRow,
    Root,
    archives_in,
    arrays_in,
    deflate,
    inflate,
    name_of,
    record_of,
    record_with,
    records_and_damage,
)
from ks4_ccd.maps.key import MapKey

__all__ = ["NOTHING_YET", "Batches", "StoreWriter"]

NOTHING_YET = -1

_REPLACE = """INSERT INTO records VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET content = excluded.content"""

# Bytes of .npy files in a batch. Readers wait while a batch is committed, and a killed
# ingest has to repeat one.
_BATCH_BYTES = 24 * 2**20
# Bytes in one task of a thread: submitting single arrays costs as much as compressing.
_TASK_BYTES = 2**20
_PACKERS = max(1, min(8, os.cpu_count() or 1))


class _Packed(NamedTuple):
    """An array to be written."""

    key: MapKey
    member: str
    crc32: int
    npy: bytes


class StoreWriter:
    """
    A store, to be written by one thread at a time.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file; it is created if it does not exist.

    Raises
    ------
    StoreError
        If it cannot be written, or is not a store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = open_for_writing(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def begin(self, identity: Identity) -> tuple[int, ArchiveRow]:
        """
        Look up the progress of an archive.

        Parameters
        ----------
        identity : `Identity`

        Returns
        -------
        number : int
            Its number in the store.
        archive : `ArchiveRow`
            How far it was read.
        """
        with self._transaction() as index:
            candidates = [
                number
                for number, archive in enumerate(index.archives)
                if archive.identity == identity or archive.is_earlier_state(identity)
            ]
            same = [n for n in candidates if index.archives[n].identity == identity]
            number = [*same, *candidates, len(index.archives)][0]
            if same:
                archive = index.archives[number]
                if archive.state == "partial" or archive.is_done:
                    return number, archive
            # Read from the start: problems may have been corrected.
            archive = ArchiveRow(identity, NOTHING_YET, "partial", [])
            index.archives[number : number + 1] = [archive]
        return number, archive

    def problems(self, number: int) -> list[tuple[str, str]]:
        """Return member and problem for each problem of an archive."""
        with store_errors(self.path, "read"):
            rows = self._connection.execute(RECORD, (ARCHIVES,)).fetchall()
        archives = archives_in(record_of(rows, ARCHIVES, self.path), self.path)
        return archives[number].problems

    def write(
        self,
        number: int,
        span: tuple[int, int],
        arrays: Iterable[_Packed],
        problems: Iterable[tuple[str, str]],
        state: str = "partial",
    ) -> int:
        """
        Write a batch.

        Parameters
        ----------
        number : int
            The number of its archive.
        span : tuple of int
            The positions reached before and after the batch.
        arrays : iterable of packed arrays
        problems : iterable of tuple of str
            Member and problem.
        state : {"partial", "whole", "broken"}, optional
            Whether the archive has been read to its end, or as far as it can.

        Returns
        -------
        written : int
            The number of arrays that were not in the store.

        Raises
        ------
        MapFormatError
            If the store contains the array with other values.
        StoreError
            If the batch cannot be written, or was written by another ingest.
        """
        with self._transaction() as index:
            self._advance(index, number, span, state, problems)
            return sum(self._insert(index, number, array) for array in arrays)

    def drop(self, number: int, reached: int, problem: str) -> None:
        """Remove all arrays of an archive again, as any of them may be wrong."""
        with self._transaction() as index:
            span = reached, NOTHING_YET
            self._advance(index, number, span, "broken", [("", problem)])
            # Maps that other archives contain as well are stored once, for this one.
            index.archives[:] = [
                archive
                if archive.state == "broken"
                else archive._replace(reached=NOTHING_YET, state="partial", problems=[])
                for archive in index.archives
            ]
            for arrays in index.all_fields():
                for name, row in [*arrays.items()]:
                    if row.archive == number:
                        del arrays[name]
                        index.execute("DELETE FROM arrays WHERE id = ?", (row.array,))

    def _advance(
        self,
        index: "_Index",
        number: int,
        span: tuple[int, int],
        state: str,
        problems: Iterable[tuple[str, str]],
    ) -> None:
        archive, (before, now) = index.archives[number], span
        if (archive.state, archive.reached) != ("partial", before):
            msg = (
                f"another ingest writes the same archive to {self.path}: let it finish "
                "(or end it), then ingest again, which resumes"
            )
            raise StoreError(msg)
        all_problems = [*archive.problems, *problems]
        archive = ArchiveRow(archive.identity, now, state, all_problems)
        index.archives[number] = archive

    def _insert(self, index: "_Index", number: int, array: _Packed) -> int:
        key, member, crc32, npy = array
        arrays = index.arrays_of(key.place)
        present = arrays.get(name_of(key))
        if present is not None:
            self._refuse_unequal(index, present, array, number)
            return 0
        insert = "INSERT INTO arrays (npy) VALUES (?)"
        row_id = index.execute(insert, (npy,)).lastrowid
        row = ArrayRow(*name_of(key), key.tile or "", number, member, crc32, row_id)
        arrays[name_of(key)] = row
        return 1

    def _refuse_unequal(
        self, index: "_Index", row: ArrayRow, array: _Packed, number: int
    ) -> None:
        npy = index.execute(ARRAY, (row.array,)).fetchone() or (None,)
        key = row.key(array.key.place, self.path)
        data = inflate(npy[0], row, key, self.path)
        own = inflate(array.npy, row._replace(crc32=array.crc32), key, self.path)
        if data == own:
            return
        # As in a library, equal numbers of another type or order are equal.
        places = [
            f"{index.archives[archive].identity.name}:{member}"
            for archive, member in ((row.archive, row.member), (number, array.member))
        ]
        values = read_array(data, key, places[0])
        if not same_array(values, read_array(own, key, places[1])):
            msg = (
                f"{places[0]} (in {self.path}) and {places[1]} are the same map and "
                "differ: ingest only the correct one, into a new store"
            )
            raise MapFormatError(msg)

    @contextmanager
    def _transaction(self) -> Iterator["_Index"]:
        # It is rolled back if the block raises an error.
        with store_errors(self.path, "write"), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            index = _Index(self._connection.execute, self.path)
            yield index
            index.write()


class _Index:
    """
    The index of a store during one transaction that changes it.

    Parameters
    ----------
    execute : callable
        Executes a statement in that transaction.
    path : path-like

    Raises
    ------
    StoreError
        If a record that is to be changed is damaged.
    """

    def __init__(self, execute: Callable, path: Path) -> None:
        self.execute, self._path = execute, path
        roots = execute("SELECT content FROM root").fetchall()
        self._root = Root(roots[0][0] if len(roots) == 1 else None, path)
        self._before = {ARCHIVES: self._record(ARCHIVES)}
        self.archives = archives_in(self._before[ARCHIVES], path)
        self._fields: dict[str, dict] = {}

    def _record(self, name: str) -> bytes:
        return record_of(self.execute(RECORD, (name,)).fetchall(), name, self._path)

    def arrays_of(self, field: str) -> dict[tuple, ArrayRow]:
        """Return the lines of the record of a field, to be changed."""
        if field not in self._fields:
            self._before[field] = self._record(field)
            self._fields[field] = arrays_in(self._before[field], field, self._path)
        return self._fields[field]

    def all_fields(self) -> Iterator[dict[tuple, ArrayRow]]:
        """Yield the lines of the record of each field, to be changed."""
        rows = self.execute(ALL_RECORDS).fetchall()
        records, messages = records_and_damage(rows, self._path)
        if messages:
            raise StoreError(messages[0])
        return (self.arrays_of(name) for name in records if name != ARCHIVES)

    def write(self) -> None:
        """Write the records that have changed, and the root."""
        rows = {name: arrays.values() for name, arrays in self._fields.items()}
        for name, lines in {ARCHIVES: self.archives, **rows}.items():
            record = record_with(lines)
            if record == self._before[name]:
                continue
            self._root.replace(name, record)
            if record:
                self.execute(_REPLACE, (name, record))
            else:
                self.execute("DELETE FROM records WHERE name = ?", (name,))
        self.execute("UPDATE root SET content = ?", (self._root.content(),))


class Batches:
    """
    The members of one archive, to be written to a store.

    Parameters
    ----------
    writer : `StoreWriter`
    number : int
        The number of the archive in the store.
    reached : int
        The position of the last member that was read before.

    Attributes
    ----------
    arrays, written : int
        The number of arrays that were added, and of those that were not in the
        store.
    """

    def __init__(self, writer: StoreWriter, number: int, reached: int) -> None:
        self.arrays = self.written = 0
        self._writer = writer
        self._number = number
        # Compressing releases the lock of the interpreter.
        self._packers = ThreadPoolExecutor(_PACKERS)
        self._before = self._now = reached
        self._start()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception: object) -> None:
        self._packers.shutdown(cancel_futures=True)

    def _start(self) -> None:
        self._tasks: list[Future[list[_Packed]]] = []
        self._members: list[tuple[MapKey, Member]] = []
        self._problems: list[tuple[str, str]] = []
        self._bytes = self._bytes_of_task = 0

    def add(self, key: MapKey, member: Member) -> None:
        """Add an array that was checked."""
        self._members.append((key, member))
        self._bytes += len(member.data)
        self._bytes_of_task += len(member.data)
        self.arrays += 1
        if self._bytes_of_task >= _TASK_BYTES:
            self._pack()

    def _pack(self) -> None:
        self._tasks.append(self._packers.submit(_packed, self._members))
        self._members, self._bytes_of_task = [], 0

    def report(self, name: str, problem: str) -> None:
        """Add a problem with a member, or, with an empty name, with the archive."""
        self._problems.append((name, problem))

    def pass_by(self, member: Member) -> None:
        """Record that a member has been read."""
        self._now = member.position
        if self._bytes >= _BATCH_BYTES:
            self.finish("partial")

    def finish(self, state: str) -> None:
        """Write the rest of the batch, and the state of the archive."""
        self._pack()
        arrays = [array for task in self._tasks for array in task.result()]
        span = self._before, self._now
        self.written += self._writer.write(
            self._number, span, arrays, self._problems, state
        )
        self._before = self._now
        self._start()

    def drop(self, problem: str) -> None:
        """Remove all arrays of the archive again."""
        self._writer.drop(self._number, self._before, problem)
        self.written = 0


def _packed(members: list[tuple[MapKey, Member]]) -> list[_Packed]:
    return [
        _Packed(key, m.name, zlib.crc32(m.data), deflate(m.data)) for key, m in members
    ]
