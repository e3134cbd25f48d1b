# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fill a store, one file for many maps, and verify it."""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from astropy.table import Table
from tqdm import tqdm

from ks4_ccd.exceptions import (
    BrokenArchiveError,
    MapFormatError,
    OptionError,
    StoreError,
    one_of,
)
from ks4_ccd.files.tables import table_of
from ks4_ccd.files.writing import as_path
from ks4_ccd.library._archive import Member, MemberStream
from ks4_ccd.library._arrays import read_array
from ks4_ccd.library._sources import printable
from ks4_ccd.library._store_file import (
    STORE_SUFFIX,
    is_locked,
    open_for_reading,
    store_errors,
)
from ks4_ccd.library._store_index import (
    ALL_RECORDS,
    ARCHIVES,
    ARRAY,
    ArrayRow,
    arrays_in,
    inflate,
    records_and_damage,
)
from ks4_ccd.library._store_writer import Batches, StoreWriter
from ks4_ccd.library.library import Paths, as_paths
from ks4_ccd.maps.key import MapKey

__all__ = ["IngestReport", "ingest", "verify"]

_REMEDY = 'on_error="skip" (--on-error skip) leaves it out'


class IngestReport(NamedTuple):
    """
    The result of `ingest`.

    Attributes
    ----------
    archives : `~astropy.table.Table`
        A row per archive: ``archive``, its name; the number of maps
        ``written``, of those ``known`` (already in the store), of
        ``other`` files in the archive, and of its ``problems``; and its
        ``state``: ``"whole"``, ``"broken"`` (it cannot be read to its end)
        or ``"there"`` (it is in the store already, and was not read).
    problems : `~astropy.table.Table`
        A row per member that is damaged and was left out, or archive that cannot
        be read to its end: ``archive``, ``member`` (``""`` for the archive as a
        whole) and ``problem``.
    """

    archives: Table
    problems: Table


def ingest(
    archives: Paths,
    store: str | os.PathLike[str],
    *,
    on_error: str = "skip",
    progress: bool | None = None,
) -> IngestReport:
    """
    Put the maps in archives into a store.

    Each archive is read once, from its beginning to its end; nothing is
    extracted to disk. Every array is checked. Maps are added to an existing
    store, and an interrupted ingest resumes when it is called again.

    Parameters
    ----------
    archives : path-like or list of path-like
        Archives of maps: .tar, .tar.gz or .tgz, in upper or lower case, also
        with the query of a download after it, as in ``X.tar.gz?download=1``.
    store : path-like
        The store, a file with a name that ends in .ks4maps. Libraries may read it
        during the ingest.
    on_error : {"skip", "raise"}, optional
        Whether to leave out and report a damaged member, or an archive that
        cannot be read to its end, or to raise an error. The complete maps of
        a truncated archive are kept. If the checksum of an archive is
        wrong, none of its maps are kept, as any byte may be wrong.
    progress : bool, optional
        Show a progress bar; by default if the output is a terminal.

    Returns
    -------
    report : `~ks4_ccd.library.store.IngestReport`
        The tables ``archives`` and ``problems``.

    Raises
    ------
    MapFormatError
        If a map exists twice with different contents; with
        ``on_error="raise"``, if a member or an archive is damaged.
    StoreError
        If the store cannot be written, is damaged or not a store, was written by
        another version, or is being filled from the same archive by another
        process. Maps that were written before are safe.
    OptionError
        If an argument is wrong.
    KS4Error
        If an archive cannot be read.

    See Also
    --------
    verify : Check a store.
    ks4_ccd.MapLibrary : Load maps from a store.

    Notes
    -----
    An archive is identified by its name, its size, and its first and last bytes, in
    any folder. An archive with problems is read again from its beginning.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ks4_ccd import MapLibrary, ingest, simulate_field
    >>> simulated = simulate_field((660, 660), map_shape=(33, 33), field="0403", seed=1)
    >>> with TemporaryDirectory() as folder:
    ...     store = Path(folder) / "maps.ks4maps"
    ...     report = ingest(simulated.write(folder).archives, store)
    ...     with MapLibrary(store, image_shape=(660, 660)) as library:
    ...         zpmap = library.zeropoint("0403", "R")
    >>> len(report.problems), zpmap.values.shape
    (0, (33, 33))
    """
    one_of("on_error", on_error, ("skip", "raise"))
    store = as_path("store", store)
    if store.suffix != STORE_SUFFIX:
        msg = f"store must be a file named *{STORE_SUFFIX}, got {store}"
        raise OptionError(msg)
    streams = [MemberStream(path) for path in as_paths(archives)]
    rows, problems = [], []
    total = sum(stream.size for stream in streams)
    with closing(StoreWriter(store)) as writer, _bar(total, "B", progress) as bar:
        for stream in streams:
            row, found = _ingest_one(stream, writer, on_error, bar)
            rows.append((str(stream.path), *row))
            problems += [(str(stream.path), *problem) for problem in found]
    numbers = dict.fromkeys(("written", "known", "other", "problems"), int)
    return IngestReport(
        table_of(rows, {"archive": str, **numbers, "state": str}),
        table_of(problems, dict.fromkeys(("archive", "member", "problem"), str)),
    )


def _ingest_one(
    stream: MemberStream, writer: StoreWriter, on_error: str, bar: tqdm
) -> tuple[tuple, list[tuple[str, str]]]:
    """Read one archive; return its row of the report and its problems."""
    start = bar.n
    number, archive = writer.begin(stream.identity)
    if archive.is_done:
        bar.update(stream.size)
        return (0, 0, 0, 0, "there"), []
    others = 0
    with Batches(writer, number, archive.reached) as batches:
        try:
            for member in stream.members(
                archive.reached, lambda n: bar.update(start + n - bar.n)
            ):
                if member.key is None:
                    others += 1
                else:
                    _store_member(member.key, member, stream, batches, on_error)
                batches.pass_by(member)
        except BrokenArchiveError as error:
            state = "broken"
            _end_early(error, batches, on_error)
        else:
            state = "whole"
            batches.finish(state)
    found = writer.problems(number)
    known = batches.arrays - batches.written
    return (batches.written, known, others, len(found), state), found


def _store_member(
    key: MapKey, member: Member, stream: MemberStream, batches: Batches, on_error: str
) -> None:
    path = f"{printable(stream.path)}:{member.name}"
    try:
        if member.problem is not None:
            msg = f"{path} cannot be read: {member.problem}"
            raise MapFormatError(msg)
        read_array(member.data, key, path)
    except MapFormatError as error:
        if on_error == "raise":
            batches.finish("partial")
            msg = f"{error} ({_REMEDY})"
            raise MapFormatError(msg) from error
        batches.report(member.name, str(error))
    else:
        batches.add(key, member)


def _end_early(error: BrokenArchiveError, batches: Batches, on_error: str) -> None:
    if error.is_corrupt:
        msg = f"{error}: any of its maps may be wrong, so none of them are kept"
        batches.drop(msg)
    else:
        msg = f"{error}: the maps before the damage are kept"
        if on_error == "skip":
            batches.report("", msg)
        batches.finish("broken" if on_error == "skip" else "partial")
    if on_error == "raise":
        msg = f"{msg} ({_REMEDY})"
        raise MapFormatError(msg) from error


def verify(store: str | os.PathLike[str], *, progress: bool | None = None) -> Table:
    """
    Check every map in a store.

    Parameters
    ----------
    store : path-like
        The store. Libraries may read it at the same time; an ingest may have to
        wait.
    progress : bool, optional
        Show a progress bar; by default if the output is a terminal.

    Returns
    -------
    problems : `~astropy.table.Table`
        Empty if there is no damage, else a row per problem: ``map``, the name of the
        map's file (``""`` for the store as a whole), and ``problem``.

    Raises
    ------
    StoreError
        If the file is not a store that this version can read, or is locked.

    See Also
    --------
    ingest : Fill a store.

    Notes
    -----
    SQLite checks the structure of the file. The lists of archives and of maps are
    compared with their checksums (CRC-32). Then the bytes of each array are compared
    with theirs, and the array is checked as by `ingest`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from ks4_ccd import ingest, simulate_field, verify
    >>> simulated = simulate_field((660, 660), map_shape=(33, 33), field="0403", seed=1)
    >>> with TemporaryDirectory() as folder:
    ...     store = Path(folder) / "maps.ks4maps"
    ...     report = ingest(simulated.write(folder).archives, store)
    ...     problems = verify(store)
    >>> len(problems)
    0
    """
    store = as_path("store", store)
    with closing(open_for_reading(store)) as connection:
        problems, arrays = _problems_of_file(connection, store)
        for field, row in _bar(len(arrays), " maps", progress, arrays):
            # One short query for each map, as an ingest waits until a query ends.
            problems += _problems_of_array(connection, field, row, store)
    return table_of(problems, {"map": str, "problem": str})


def _problems_of_file(
    connection: sqlite3.Connection, store: Path
) -> tuple[list[tuple[str, str]], list[tuple[str, ArrayRow]]]:
    """Return the problems of the file's structure and index, and its arrays."""
    problems, arrays = [], []
    try:
        with store_errors(store, "read"), connection:
            # Within a transaction, no ingest commits between two queries.
            connection.execute("BEGIN")
            words = connection.execute("PRAGMA integrity_check").fetchall()
            problems += [("", word) for (word,) in words if word != "ok"]
            numbers = connection.execute("SELECT id FROM arrays").fetchall()
            rows = connection.execute(ALL_RECORDS).fetchall()
        records, messages = records_and_damage(rows, store)
        problems += [("", message) for message in messages]
        for field, record in records.items():
            if field != ARCHIVES:
                found = arrays_in(record, field, store)
                arrays += [(field, row) for row in found.values()]
        if not messages:
            listed = {row.array for _, row in arrays}
            lost = [number for (number,) in numbers if number not in listed]
            problems += [(f"array {n}", "it belongs to no map") for n in lost]
    except StoreError as error:
        if is_locked(error):
            raise
        problems.append(("", str(error)))
    return problems, arrays


def _problems_of_array(
    connection: sqlite3.Connection, field: str, row: ArrayRow, store: Path
) -> list[tuple[str, str]]:
    name = f"array {row.array}"
    try:
        key = row.key(field, store)
        name = key.filename
        with store_errors(store, "read"):
            found = connection.execute(ARRAY, (row.array,)).fetchone()
        data = inflate(found and found[0], row, key, store)
        read_array(data, key, f"{store}:{row.member}")
    except (StoreError, MapFormatError) as error:
        if is_locked(error):
            raise
        return [(name, str(error))]
    return []


def _bar(
    total: int, unit: str, progress: bool | None, iterable: Iterable | None = None
) -> tqdm:
    return tqdm(
        iterable,
        total=total,
        unit=unit,
        unit_scale=True,
        disable=None if progress is None else not progress,
    )
