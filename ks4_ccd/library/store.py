# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fill a store, one file for all maps of the release, and check it."""

from contextlib import closing
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from tqdm import tqdm

from ks4_ccd.exceptions import (
    BrokenArchiveError,
    KS4Error,
    MapFormatError,
    StoreError,
    one_of,
)
from ks4_ccd.files.writing import as_path
from ks4_ccd.library._archive import MemberStream
from ks4_ccd.library._arrays import read_array
from ks4_ccd.library._sources import printable
from ks4_ccd.library._store_file import (
    STORE_SUFFIX,
    is_locked,
    one_state,
    open_for_reading,
    store_errors,
)
from ks4_ccd.library._store_index import (
    find_damage,
    find_damage_beside_maps,
)
from ks4_ccd.library._store_rows import (
    StoredRow,
    shape_text,
    unpack,
)
from ks4_ccd.library._store_writer import Batches, StoreWriter
from ks4_ccd.library.library import as_paths

__all__ = ["IngestReport", "ingest", "verify"]

_WAY_OUT = 'on_error="skip", --on-error skip, leaves such out'

_NUMBERS = "SELECT array FROM maps UNION SELECT id FROM arrays"
_ROW = "SELECT maps.*, npy FROM maps LEFT JOIN arrays ON id = array WHERE array = ?"


class IngestReport(NamedTuple):
    """
    The result of `ingest`.

    Attributes
    ----------
    archives : `~astropy.table.Table`
        A row per archive: ``archive``, its name; the number of maps
        ``written``, of those ``known`` (which the store had already), of
        ``other`` files in the archive, of its ``problems``, and its
        ``state``: ``"whole"``, ``"broken"`` (it cannot be read to its end)
        or ``"there"`` (the store had all of it, and it was not read).
    problems : `~astropy.table.Table`
        A row per member that is damaged and was left out, or archive that cannot
        be read to its end: ``archive``, ``member`` (``""`` for the archive as a
        whole) and ``problem``.
    """

    archives: Table
    problems: Table


def ingest(archives, store, *, on_error="skip", progress=None):
    """
    Put the maps in archives into a store.

    Each archive is read once, from its beginning to its end; nothing is
    extracted to disk. Every array is checked. An existing store
    is added to, and an interrupted ingest resumes when it is called again.

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
        cannot be read to its end, or to raise an error. The whole maps of
        an archive that was cut off are kept. If the checksum of an archive is
        wrong, none of its maps is kept, as any byte may be wrong.
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
        process. What was written before is safe.
    KS4Error
        If an archive cannot be read or an argument is wrong.

    See Also
    --------
    verify : Check a store.
    ks4_ccd.MapLibrary : Load maps from a store.

    Notes
    -----
    An archive is recognised by its name, size and ends, in any folder. One
    that had problems is read again from its beginning.

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
        raise KS4Error(msg)
    streams = [MemberStream(path) for path in as_paths(archives)]
    rows, problems = [], []
    total = sum(stream.size for stream in streams)
    with closing(StoreWriter(store)) as writer, _bar(total, "B", progress) as bar:
        for stream in streams:
            row, found = _ingest_one(stream, writer, on_error, bar)
            rows.append((str(stream.path), *row))
            problems += [(str(stream.path), *problem) for problem in found]
    names = ("archive", "written", "known", "other", "problems", "state")
    return IngestReport(
        _table(rows, names, numbers=names[1:-1]),
        _table(problems, ("archive", "member", "problem")),
    )


def _ingest_one(stream, writer, on_error, bar):
    """Read one archive; return its row of the report and its problems."""
    start = bar.n
    archive, reached, is_done = writer.begin(stream.identity)
    if is_done:
        bar.update(stream.size)
        return (0, 0, 0, 0, "there"), []
    others = 0
    with Batches(writer, archive, reached) as batches:
        try:
            for member in stream.members(
                reached, lambda n: bar.update(start + n - bar.n)
            ):
                if member.key is None:
                    others += 1
                else:
                    _take_up(member, stream, batches, on_error)
                batches.pass_by(member)
        except BrokenArchiveError as error:
            state = "broken"
            _end_early(error, batches, on_error)
        else:
            state = "whole"
            batches.finish(state)
    found = writer.problems(archive)
    known = batches.arrays - batches.written
    return (batches.written, known, others, len(found), state), found


def _take_up(member, stream, batches, on_error):
    path = f"{printable(stream.path)}:{member.name}"
    try:
        if member.problem is not None:
            msg = f"{path} cannot be read: {member.problem}"
            raise MapFormatError(msg)
        array = read_array(member.data, member.key, path)
    except MapFormatError as error:
        if on_error == "raise":
            batches.finish("partial")
            msg = f"{error} ({_WAY_OUT})"
            raise MapFormatError(msg) from error
        batches.report(member.name, str(error))
    else:
        batches.add(member, array)


def _end_early(error, batches, on_error):
    if error.is_corrupt:
        msg = f"{error}: any of its maps may be wrong, so none of them is kept"
        batches.drop(msg)
    else:
        msg = f"{error}: the maps before are kept"
        if on_error == "skip":
            batches.report("", msg)
        batches.finish("broken" if on_error == "skip" else "partial")
    if on_error == "raise":
        msg = f"{msg} ({_WAY_OUT})"
        raise MapFormatError(msg) from error


def verify(store, *, progress=None):
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
    SQLite checks the structure of the file. The list of maps is compared with
    its checksums. Then each map's bytes are compared with theirs (CRC-32, with the
    names in the row, and SHA-256), and its array is checked as by `ingest`.

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

        def select(query, *arguments):
            with store_errors(store, "read"):
                return connection.execute(query, arguments).fetchall()

        with one_state(connection):
            problems, numbers = _problems_of_file(select, store)
        for number in _bar(len(numbers), " maps", progress, numbers):
            # One query a map: a longer one would make an ingest wait for it.
            problems += _problems_of_map(select, number, store)
    return _table(problems, ("map", "problem"))


def _problems_of_file(select, store):
    """Return the problems of the file's structure and index, and its arrays."""
    problems, numbers = [], []
    try:
        found = [word for (word,) in select("PRAGMA integrity_check")]
        problems = [("", word) for word in found if word != "ok"]
        numbers = [number for (number,) in select(_NUMBERS)]
        _, messages = find_damage(select, store)
        messages += find_damage_beside_maps(select, store)
        problems += [("", message) for message in messages]
    except StoreError as error:
        if is_locked(error):
            raise
        problems.append(("", str(error)))
    return problems, numbers


def _problems_of_map(select, number, store):
    name = f"array {number}"
    try:
        rows = select(_ROW, number)
        if not rows:
            return [(name, "no map leads to it")]
        *columns, npy = rows[0]
        row = StoredRow(*columns)
        key = row.key(store)
        name = key.filename
        data = unpack(npy, row.crc32, key, row.member, store)
        array = read_array(data, key, f"{store}:{row.member}")
        if sha256(data).digest() != row.sha256 or shape_text(array) != row.shape:
            return [(name, "its SHA-256 or its shape is not what was written")]
    except (StoreError, MapFormatError) as error:
        if is_locked(error):
            raise
        return [(name, str(error))]
    return []


def _bar(total, unit, progress, iterable=None):
    return tqdm(
        iterable,
        total=total,
        unit=unit,
        unit_scale=True,
        disable=None if progress is None else not progress,
    )


def _table(rows, names, numbers=()):
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return Table(
        [
            np.array(column, dtype=int if name in numbers else str)
            for name, column in zip(names, columns, strict=True)
        ],
        names=names,
    )
