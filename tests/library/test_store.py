# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The store: ingested maps are read unchanged, and damage is refused."""

import gc
import gzip
import json
import multiprocessing
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from ks4_ccd import MapLibrary, ingest, verify
from ks4_ccd.cli import main
from ks4_ccd.exceptions import (
    KS4Error,
    MapFormatError,
    MapNotFoundError,
    StoreError,
)
from ks4_ccd.library import (
    _archive as _member_stream,
)
from ks4_ccd.library import (
    _store_file,
    store,
)
from ks4_ccd.library import (
    _store_writer as _batches,
)
from ks4_ccd.library._store_file import store_errors
from ks4_ccd.library._store_index import EMPTY_ROOT, Root
from ks4_ccd.library._store_source import StoreSource
from ks4_ccd.library._store_writer import StoreWriter
from ks4_ccd.maps.key import MapKey

NAME = "zp_map_0403_R_single_APER5.npy"
KEY = MapKey.from_filename(NAME)


def zp_name(field=403):
    """Return the name of a zero-point map of a field, in a folder."""
    return f"{field:04d}/zp_map_{field:04d}_R_single_APER5.npy"


def rows_of(path):
    """Return all maps in a store, with their blobs."""
    with closing(sqlite3.connect(path)) as connection:
        records = dict(connection.execute("SELECT name, content FROM records"))
        arrays = dict(connection.execute("SELECT id, npy FROM arrays"))
    rows = [
        (name, *json.loads(line))
        for name, record in records.items()
        for line in record.split(b"\n")[1:]
        if name
    ]
    return [(*row, arrays[row[-1]]) for row in sorted(rows, key=lambda row: row[-1])]


def edit(name, old, new):
    """Return the statement that replaces a text in a record of the index."""
    content = f"CAST(replace(content, '{old}', '{new}') AS BLOB)"
    return f"UPDATE records SET content = {content} WHERE name = '{name}'"


def change(path, *statements):
    """Change a store without the functions of the package."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def path(tmp_path):
    """Return the path of a store that does not exist yet."""
    return tmp_path / "dr1.ks4maps"


@pytest.fixture
def six(write_archive, zeropoints):
    """Return maps of six fields, by member name."""
    return {zp_name(field): zeropoints(field) for field in range(6)}


@pytest.fixture
def filled(path, write_archive, six):
    """Return a store with the maps of six fields."""
    ingest(write_archive("maps.tar.gz", six), path)
    return path


@pytest.fixture
def small_batches(monkeypatch):
    """Make every map a separate batch."""
    monkeypatch.setattr(_batches, "_BATCH_BYTES", 1)


@pytest.fixture
def impatient(monkeypatch):
    """Set a short time limit for locks."""
    monkeypatch.setattr(_store_file, "LOCK_SECONDS", 0.05)


# Round trip


def test_store_is_a_library(path, write_archive, zeropoints):
    """A store contains the maps of the archives that it was filled from."""
    count = np.arange(20).reshape(5, 4)
    photometry = {
        f"a/{family}_map_0403.122-72_R_Idual_APER3.npy": array
        for family, array in (
            ("zp", zeropoints()),
            ("zperr", np.full((5, 4), 0.01)),
            ("pstar", count),
        )
    }
    astrometry = {
        "b/align_map_0403_R_single.npy": np.full((10, 8), 0.1),
        "b/astar_map_0403_R_single.npy": np.arange(80.0).reshape(10, 8),
        "b/dra_map_0405_R_single.npy": np.full((10, 8), 0.2),
        "b/ddec_map_0405_R_single.npy": np.full((10, 8), -0.2),
        "b/offedge_map_0405_R_single.npy": np.array([[0.0, 11000.0]]),
    }
    archives = [
        write_archive("one.tar.gz", photometry | {"read.me": b"hello"}),
        write_archive("two.tar", astrometry),
    ]
    report = ingest(archives, path)
    assert list(report.archives["written"]) == [3, 5]
    assert list(report.archives["other"]) == [1, 0]
    assert list(report.archives["state"]) == ["whole", "whole"]
    assert len(report.problems) == 0
    header = {"FIELD1": "0403", "FILTER": "R"}
    with MapLibrary(path) as library, MapLibrary(archives) as expected:
        table, expected_table = library.table(), expected.table()
        for name in set(table.colnames) - {"source"}:
            assert list(table[name]) == list(expected_table[name])
        zpmap = library.for_header(header, "dual", "APER3")
        np.testing.assert_array_equal(zpmap.values, zeropoints())
        np.testing.assert_array_equal(zpmap.count, count)
        assert zpmap.key.tile == "122-72"
        assert zpmap.source == f"{path}:{next(iter(photometry))}"
        align = library.misalignment("0403", "R")
        np.testing.assert_array_equal(align.values, 0.1)
        offsets = library.offset("0405", "R")
        np.testing.assert_array_equal(offsets.dra, 0.2)
        assert offsets.grid == expected.offset("0405", "R").grid


def test_store_returns_the_files(filled, six, npy):
    """A store returns the bytes of each .npy file."""
    with closing(StoreSource(filled)) as source:
        for name, array in six.items():
            key = MapKey.from_filename(name.rpartition("/")[2])
            (entry,) = source.find(key)
            assert source.read(entry) == npy(array)


@pytest.mark.parametrize("maps_of_a_task", [1, 2, 4, 6])
def test_tasks_of_a_batch(path, write_archive, six, npy, monkeypatch, maps_of_a_task):
    """All maps that are compressed together are written, in their order."""
    size = len(npy(six[zp_name(0)]))
    monkeypatch.setattr(_batches, "_TASK_BYTES", maps_of_a_task * size)
    report = ingest(write_archive("maps.tar.gz", six), path)
    assert list(report.archives["written"]) == [6]
    assert [row[0] for row in rows_of(path)] == [f"{field:04d}" for field in range(6)]
    assert len(verify(path)) == 0


def test_store_is_a_single_file(filled, tmp_path):
    """A store is a single file, whether it is open or not."""
    with MapLibrary(filled) as library:
        library.zeropoint("0003", "R")
        there = {file.name for file in tmp_path.iterdir()}
    assert there == {"dr1.ks4maps", "maps.tar.gz"}


def test_missing_map(filled):
    """The message about a missing map is that of other libraries."""
    with MapLibrary(filled) as library, pytest.raises(KS4Error, match="0000, 0001"):
        library.zeropoint("0403", "R")


def test_noise_and_repetitions_are_unchanged(path, write_archive, npy):
    """Arrays of any content are read unchanged."""
    rng = np.random.default_rng(3)
    arrays = {
        zp_name(0): rng.normal(size=(110, 110)),
        zp_name(1): np.zeros((110, 110)),
        zp_name(2): rng.poisson(3, (55, 55)),
        zp_name(3): np.ones((1, 1), np.float32),
    }
    ingest(write_archive("maps.tar", arrays), path)
    assert len(verify(path)) == 0
    with MapLibrary(path) as library:
        for field in (0, 2):
            zpmap = library.zeropoint(field, "R")
            np.testing.assert_array_equal(zpmap.values, arrays[zp_name(field)])


def test_store_grows(filled, write_archive, zeropoints):
    """Maps of another archive are added; an open library finds them."""
    with MapLibrary(filled) as library:
        with pytest.raises(KS4Error, match="0403"):
            library.zeropoint("0403", "R")
        ingest(write_archive("more.tar", {zp_name(): zeropoints()}), filled)
        assert library.zeropoint("0403", "R").key == KEY
    with MapLibrary(filled) as library:
        assert len(library.table()) == 7


def test_same_archive_again(filled, tmp_path):
    """An archive that is in the store is not read again, from any folder."""
    before = filled.read_bytes()
    moved = tmp_path / "elsewhere" / "maps.tar.gz"
    moved.parent.mkdir()
    (tmp_path / "maps.tar.gz").rename(moved)
    report = ingest(moved, filled)
    assert list(report.archives["state"]) == ["there"]
    assert filled.read_bytes() == before


def test_every_map_is_listed(filled):
    """The keys of a source are those of all its arrays."""
    with closing(StoreSource(filled)) as source:
        assert sorted(key.field for key in source.keys()) == [  # noqa: SIM118
            f"{field:04d}" for field in range(6)
        ]


# Duplicate maps


def test_equal_duplicates_are_one_map(filled, write_archive, six):
    """A map that the store contains is counted as known, in any dtype."""
    name = zp_name(2)
    duplicates = {name: six[name].astype(">f8"), f"again/{name}": six[name]}
    report = ingest(write_archive("duplicates.tar", duplicates), filled)
    assert list(report.archives["written"]) == [0]
    assert list(report.archives["known"]) == [2]
    assert len(rows_of(filled)) == 6


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_different_duplicates(filled, write_archive, six, on_error):
    """If a map differs from that in the store, the message names both."""
    name = zp_name(2)
    other = write_archive(
        "duplicates.tar", {zp_name(8): six[name], name: six[name] + 1}
    )
    words = (
        rf"maps\.tar\.gz:{name} .* duplicates\.tar:{name} are the same map and differ"
    )
    with pytest.raises(MapFormatError, match=words):
        ingest(other, filled, on_error=on_error)
    assert len(verify(filled)) == 0


# Damaged members and archives


@pytest.fixture
def damaged(write_archive, six, npy):
    """Return an archive with a truncated member among good ones."""
    six[zp_name(3)] = npy(six[zp_name(3)])[:-8]
    return write_archive("maps.tar.gz", six)


def test_damaged_member_is_skipped(path, damaged, write_archive, zeropoints):
    """A damaged map is skipped and listed; the intact archive completes the store."""
    report = ingest(damaged, path, on_error="skip")
    assert list(report.archives["written"]) == [5]
    (problem,) = report.problems
    assert problem["archive"] == str(damaged)
    assert problem["member"] == zp_name(3)
    assert "is truncated: expected 160 bytes" in problem["problem"]
    assert len(verify(path)) == 0
    six = {zp_name(field): zeropoints(field) for field in range(6)}
    report = ingest(write_archive("maps.tar.gz", six), path)
    assert list(report.archives["written"]) == [1]
    assert list(report.archives["known"]) == [5]
    assert len(report.problems) == 0


def test_damaged_member_is_fatal(path, damaged):
    """With on_error="raise" a damaged map stops the ingest; the message names it."""
    words = rf"{zp_name(3)} is truncated.*--on-error skip"
    with pytest.raises(MapFormatError, match=words):
        ingest(damaged, path, on_error="raise")
    assert len(rows_of(path)) == 3
    report = ingest(damaged, path)
    assert list(report.archives["written"]) == [2]
    assert len(report.problems) == 1


@pytest.mark.parametrize("name", ["maps.tar", "maps.tar.gz"])
def test_truncated_archive(path, write_archive, six, name):
    """The complete maps of an archive that is cut within a member are kept."""
    archive = write_archive(name, six)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) * 3 // 8])
    report = ingest(archive, path)
    kept = report.archives["written"][0]
    assert 0 < kept < 6
    assert list(report.archives["state"]) == ["broken"]
    assert "truncated" in report.problems["problem"][0]
    assert len(verify(path)) == 0
    archive.write_bytes(whole)
    report = ingest(archive, path)
    assert report.archives["written"][0] == 6 - kept
    assert len(report.problems) == 0
    assert len(verify(path)) == 0
    assert len(rows_of(path)) == 6


def test_truncated_archive_is_fatal(path, write_archive, six):
    """With on_error="raise" a truncated archive is an error; its maps are kept."""
    archive = write_archive("maps.tar", six)
    archive.write_bytes(archive.read_bytes()[:2700])
    with pytest.raises(MapFormatError, match="truncated.*--on-error skip"):
        ingest(archive, path, on_error="raise")
    assert len(rows_of(path)) == 2


@pytest.mark.parametrize("on_error", ["skip", "raise"])
@pytest.mark.usefixtures("small_batches")
def test_archive_of_wrong_checksum(path, write_archive, six, on_error):
    """If the checksum of an archive is wrong, no map of it is kept."""
    archive = write_archive("maps.tar.gz", six)
    whole = bytearray(archive.read_bytes())
    whole[-8] ^= 1
    archive.write_bytes(whole)
    if on_error == "raise":
        with pytest.raises(MapFormatError, match="none of them are kept"):
            ingest(archive, path, on_error=on_error)
    else:
        report = ingest(archive, path, on_error=on_error)
        assert report.archives["written"][0] == 0
        assert "none of them are kept" in report.problems["problem"][0]
    assert rows_of(path) == []
    assert len(verify(path)) == 0
    whole[-8] ^= 1
    archive.write_bytes(whole)
    assert ingest(archive, path).archives["written"][0] == 6


@pytest.mark.usefixtures("small_batches")
def test_wrong_checksum_after_batches(path, write_archive, monkeypatch):
    """Maps that were written before a wrong checksum was found are removed again."""
    rng = np.random.default_rng(5)
    maps = {zp_name(field): rng.normal(size=(110, 110)) for field in range(6)}
    archive = write_archive("maps.tar.gz", maps)
    whole = bytearray(archive.read_bytes())
    whole[-8] ^= 1
    archive.write_bytes(whole)
    drop, before = StoreWriter.drop, []

    def count_and_drop(writer, *arguments):
        before.append(len(rows_of(path)))
        drop(writer, *arguments)

    monkeypatch.setattr(StoreWriter, "drop", count_and_drop)
    report = ingest(archive, path)
    assert before[0] > 1
    assert rows_of(path) == []
    assert report.archives["written"][0] == 0
    assert len(verify(path)) == 0
    whole[-8] ^= 1
    archive.write_bytes(whole)
    assert ingest(archive, path).archives["written"][0] == 6


def test_archive_that_differs_at_its_end(path, write_archive, six):
    """An archive that differs at its end only is recognised, and is read."""
    ingest(write_archive("maps.tar", six), path)
    six[zp_name(9)] = six.pop(zp_name(5))
    report = ingest(write_archive("maps.tar", six), path)
    assert list(report.archives["state"]) == ["whole"]
    assert list(report.archives["written"]) == [1]


def test_member_that_cannot_be_read(path, write_archive, tar_member, six):
    """A link without a target affects one map; the others are written."""
    name = zp_name(7)
    link = tar_member(name, type=tarfile.LNKTYPE, linkname="/etc/\x1b[2Jpasswd")
    archive = write_archive("maps.tar", six, [link])
    report = ingest(archive, path)
    (problem,) = report.problems
    assert problem["member"] == name
    assert "is a hard link to /etc/\\x1b[2Jpasswd" in problem["problem"]
    assert list(report.archives["state"]) == ["whole"]
    assert list(report.archives["written"]) == [6]
    with pytest.raises(MapFormatError, match="is a hard link.*--on-error skip"):
        ingest(archive, path, on_error="raise")


@pytest.mark.parametrize("kept", [2**25, 0], ids=["near", "far"])
@pytest.mark.parametrize("name", ["maps.tar", "maps.tar.gz"])
def test_links(path, write_archive, tar_member, monkeypatch, name, kept):
    """A link is written as the map that it refers to, at any distance."""
    monkeypatch.setattr(_member_stream, "_RECENT_BYTES", kept)
    rng = np.random.default_rng(5)
    maps = {zp_name(field): rng.normal(size=(110, 110)) for field in range(6)}
    links = [
        tar_member(zp_name(field + 10), type=tarfile.LNKTYPE, linkname=zp_name(field))
        for field in (5, 0, 3)
    ]
    report = ingest(write_archive(name, maps, links), path)
    assert list(report.archives["written"]) == [9]
    assert len(verify(path)) == 0
    with MapLibrary(path) as library:
        for field in (5, 0, 3):
            zpmap = library.zeropoint(field + 10, "R")
            np.testing.assert_array_equal(zpmap.values, maps[zp_name(field)])


@pytest.mark.usefixtures("small_batches")
def test_links_when_an_ingest_resumes(path, write_archive, tar_member, monkeypatch):
    """A link to a map that an interrupted ingest has written is written."""
    rng = np.random.default_rng(5)
    maps = {zp_name(field): rng.normal(size=(110, 110)) for field in range(3)}
    link = tar_member(zp_name(10), type=tarfile.LNKTYPE, linkname=zp_name(1))
    archive = write_archive("maps.tar.gz", maps, [link])
    read_array = store.read_array

    def read(data, key, where):
        if key.field == "0010":
            raise Killed
        return read_array(data, key, where)

    monkeypatch.setattr(store, "read_array", read)
    with pytest.raises(Killed):
        ingest(archive, path)
    monkeypatch.setattr(store, "read_array", read_array)
    report = ingest(archive, path)
    assert report.archives["written"][0] <= 2
    with MapLibrary(path) as library:
        values = library.zeropoint(10, "R").values
    np.testing.assert_array_equal(values, maps[zp_name(1)])


def test_concatenated_archives(path, write_archive, six):
    """`cat a.tar.gz b.tar.gz` is read completely; archives in one stream are not."""
    items = list(six.items())
    parts = [write_archive(f"{n}.tar.gz", items[n::2]) for n in range(2)]
    both = parts[0].with_name("both.tar.gz")
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    report = ingest(both, path)
    assert list(report.archives["written"]) == [6]
    assert len(report.problems) == 0
    both.write_bytes(
        gzip.compress(b"".join(gzip.decompress(part.read_bytes()) for part in parts))
    )
    report = ingest(both, path)
    assert list(report.archives["state"]) == ["broken"]
    assert "found other data from byte" in report.problems["problem"][0]


@pytest.mark.parametrize("name", ["maps.tar.gz?download=1", "MAPS.TGZ"])
def test_names_of_downloaded_archives(path, tmp_path, write_archive, six, name):
    """An archive is read under any name of its download, and only once."""
    archive = write_archive("maps.tar.gz", six)
    archive.rename(tmp_path / name)
    report = ingest(tmp_path / name, path)
    assert list(report.archives["written"]) == [6]
    (tmp_path / name).rename(tmp_path / name.partition("?")[0])
    report = ingest(tmp_path / name.partition("?")[0], path)
    assert list(report.archives["state"]) == ["there"]


def test_names_that_are_not_utf8(path, write_archive, zeropoints):
    """Folders whose names are not UTF-8 are supported."""
    archive = write_archive("maps.tar", {f"\udcff/{NAME}": zeropoints()})
    assert len(ingest(archive, path).problems) == 0
    assert rows_of(path)[0][7] == rf"\udcff/{NAME}"


# Resuming


class Killed(BaseException):
    """Simulate the end of the process."""


@pytest.mark.parametrize("after", range(6))
@pytest.mark.usefixtures("small_batches")
def test_interrupted_ingest_resumes(
    path, tmp_path, write_archive, six, monkeypatch, after
):
    """Written maps are neither verified nor written again, and none is missing."""
    archive = write_archive("maps.tar.gz", six)
    whole = tmp_path / "whole.ks4maps"
    ingest(archive, whole)
    checked, limit = [], after
    read_array = store.read_array

    def read(data, key, where):
        if len(checked) == limit:
            raise Killed
        checked.append(key)
        return read_array(data, key, where)

    monkeypatch.setattr(store, "read_array", read)
    with pytest.raises(Killed):
        ingest(archive, path)
    limit, checked[:] = None, []
    there = len(rows_of(path))
    assert there <= after
    report = ingest(archive, path)
    assert len(checked) == report.archives["written"][0] == 6 - there
    assert rows_of(path) == rows_of(whole)
    assert len(verify(path)) == 0


@pytest.mark.usefixtures("small_batches")
def test_archive_that_changed_meanwhile(path, write_archive, six, monkeypatch):
    """An archive that was changed is read from its beginning."""
    archive = write_archive("maps.tar", six)
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(MapFormatError):
        ingest(archive, path, on_error="raise")
    first = {"0009/first.txt": b"new"} | {zp_name(9): six[zp_name(0)]}
    report = ingest(write_archive("maps.tar", first | six), path)
    assert len(report.problems) == 0
    assert len(rows_of(path)) == 7


@pytest.mark.usefixtures("small_batches")
def test_two_ingests_of_one_archive(path, write_archive, six, monkeypatch):
    """The second of two ingests of one archive writes; the first one is refused."""
    archive = write_archive("maps.tar", six)
    read_array, inner = store.read_array, []

    def read(data, key, where):
        if not inner:
            inner.append(True)
            ingest(archive, path)
        return read_array(data, key, where)

    monkeypatch.setattr(store, "read_array", read)
    with pytest.raises(StoreError, match="another ingest writes the same archive"):
        ingest(archive, path)
    assert len(rows_of(path)) == 6
    assert len(verify(path)) == 0


def test_ingests_of_different_archives(path, write_archive, six):
    """Concurrent ingests of different archives are all completed."""
    archives = [
        write_archive(f"{number}.tar", {zp_name(number * 10 + k): a})
        for number, a in enumerate(six.values())
        for k in [number]
    ]
    threads = [threading.Thread(target=ingest, args=(a, path)) for a in archives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows_of(path)) == 6
    assert len(verify(path)) == 0


# Files that are not valid stores


def other_program(path):
    """Write an SQLite file of another program."""
    change(path, "CREATE TABLE t (x)")


def newer(path):
    """Write a store of a later schema."""
    change(path, "PRAGMA user_version = 99")


def shorter(path):
    """Truncate a store."""
    path.write_bytes(path.read_bytes()[:8000])


BAD_FILES = {
    "not SQLite": (lambda path: path.write_bytes(b"no" * 999), "is not a store"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "other program": (other_program, "another program's SQLite file"),
    "newer": (newer, "newer ks4_ccd: its schema is version 99"),
    "truncated": (shorter, "is truncated or damaged"),
    "older": (lambda path: change(path, "PRAGMA user_version = 1"), "an older ks4_ccd"),
    "folder": (lambda path: path.mkdir(), "does not exist|cannot be opened"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file(kind, path, write_archive, six):
    """The message names a file that is not a valid store; the file is unchanged."""
    spoil, words = BAD_FILES[kind]
    archive = write_archive("maps.tar", six)
    if kind in ("newer", "older", "truncated"):
        ingest(archive, path)
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    calls = [StoreSource, verify]
    if kind != "empty":
        calls.append(lambda path: ingest(archive, path))
    for call in calls:
        with pytest.raises(StoreError, match=words) as caught:
            call(path)
        assert str(path) in str(caught.value)
    if before is not None:
        assert path.read_bytes() == before
        with pytest.raises(StoreError, match=words):
            MapLibrary(path)


def test_empty_file_becomes_a_store(path, write_archive, six):
    """An empty file, as left by an ingest killed at its start, is filled."""
    path.touch()
    ingest(write_archive("maps.tar", six), path)
    assert len(rows_of(path)) == 6


def test_missing_store(path):
    """The message names a store that does not exist."""
    with pytest.raises(StoreError, match=r"dr1\.ks4maps does not exist"):
        verify(path)


def blob_of(path, row):
    """Return the position of the bytes of an array in the file of a store."""
    content, blob = path.read_bytes(), rows_of(path)[row][-1]
    # The end of a blob is contiguous.
    return content.index(blob[-60:]) + 30


def test_flipped_byte(filled):
    """A wrong byte in an array is detected when it is read, and by verify."""
    content = bytearray(filled.read_bytes())
    content[blob_of(filled, 3)] ^= 16
    filled.write_bytes(content)
    with MapLibrary(filled) as library:
        library.zeropoint("0002", "R")
        with pytest.raises(StoreError, match=r"dr1\.ks4maps is damaged: zp_map_0003"):
            library.zeropoint("0003", "R")
    (problem,) = verify(filled)
    assert problem["map"] == "zp_map_0003_R_single_APER5.npy"


@pytest.fixture
def with_parts(path, write_archive, zeropoints):
    """Return a store of maps of six fields, each with its error and count."""
    parts = {
        f"{field:04d}/{family}_map_{field:04d}_R_single_APER5.npy": array
        for field in range(6)
        for family, array in (
            ("zp", zeropoints(field)),
            ("zperr", np.full((5, 4), 0.01 + field / 1000)),
            ("pstar", np.full((5, 4), 1.0 + field)),
        )
    }
    ingest(write_archive("maps.tar.gz", parts), path)
    return path


def contents_of(path):
    """Return all maps of a store of six fields, as a library reads them."""
    with MapLibrary(path) as library:
        maps = [library.zeropoint(field, "R") for field in range(6)]
        with pytest.raises(MapNotFoundError):
            library.zeropoint(7, "R")
        return [tuple(row) for row in library.table()], [
            (
                zpmap.source,
                *(
                    None if array is None else array.tolist()
                    for array in (zpmap.values, zpmap.error, zpmap.count)
                ),
            )
            for zpmap in maps
        ]


def test_any_flipped_bit(with_parts):
    """With any flipped bit, a library returns the written values or a StoreError."""
    good, rng = with_parts.read_bytes(), np.random.default_rng(11)
    expected = contents_of(with_parts)
    outcomes = Counter()
    for position in rng.integers(0, len(good), 300):
        content = bytearray(good)
        content[position] ^= 1 << rng.integers(8)
        with_parts.write_bytes(content)
        try:
            assert contents_of(with_parts) == expected
            outcomes["right"] += 1
        except StoreError:
            outcomes["refused"] += 1
    assert min(outcomes["right"], outcomes["refused"]) > 50


FIRST_LINE = "substr(content, 1, instr(substr(content, 2), x'0a'))"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE records SET content = {FIRST_LINE} WHERE name = '0003'",
        edit("0003", '"zperr"', '"zpedge"'),
        edit("0003", "0003/zperr_", "0003/other_"),
        edit("0003", '"zperr",""', '"zperr","122-72"'),
        edit("0003", ",11]", ",99]"),
        "DELETE FROM records WHERE name = '0003'",
        "UPDATE records SET name = '0013' WHERE name = '0003'",
        "UPDATE records SET content = x'0a' WHERE name = '0003'",
        "UPDATE records SET content = 'text' WHERE name = '0003'",
        "DELETE FROM records",
        "DELETE FROM root",
        "INSERT INTO root SELECT * FROM root",
        "UPDATE root SET content = x'7b7d'",
        "UPDATE root SET content = 'text'",
        f"UPDATE root SET content = x'{EMPTY_ROOT.hex()}'",
    ],
)
def test_part_that_disappeared(with_parts, statement):
    """Reading a map without a part that was ingested is an error."""
    change(with_parts, statement)
    with MapLibrary(with_parts) as library:
        with pytest.raises(StoreError, match="is damaged.*`ks4-ccd verify`"):
            library.zeropoint("0003", "R")
        with pytest.raises(StoreError, match="is damaged"):
            library.table()
    assert len(verify(with_parts)) > 0


def test_old_state_of_a_field(path, write_archive, zeropoints):
    """An earlier, valid state of a field without its errors is detected."""
    first = {"zp_map_0003_R_single_APER5.npy": zeropoints()}
    ingest(write_archive("first.tar", first), path)
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT content FROM records WHERE name = '0003'"
        ((record,),) = connection.execute(query)
    second = {"zperr_map_0003_R_single_APER5.npy": np.full((5, 4), 0.01)}
    ingest(write_archive("second.tar", second), path)
    change(path, f"UPDATE records SET content = x'{record.hex()}' WHERE name = '0003'")
    with closing(StoreSource(path)) as source:
        for call in (source.keys, lambda: source.find(MapKey("align", "0003", "R"))):
            with pytest.raises(StoreError, match="maps of field '0003'"):
                call()


@pytest.mark.parametrize("text", [b"[1]", b"{", b"5", b"[" * 100_000])
def test_root_of_another_kind(with_parts, text):
    """A root with the right checksum and invalid content is damaged."""
    content = b"%08x " % zlib.crc32(text) + text
    change(with_parts, f"UPDATE root SET content = x'{content.hex()}'")
    with MapLibrary(with_parts) as library, pytest.raises(StoreError, match="fields"):
        library.zeropoint("0001", "R")
    assert "list of its fields" in verify(with_parts)["problem"][0]


def test_map_that_disappeared(with_parts):
    """The absence of a map is verified as well as its presence."""
    change(with_parts, "DELETE FROM records WHERE name = '0003'")
    with closing(StoreSource(with_parts)) as source:
        with pytest.raises(StoreError, match="the list of the maps of field '0003'"):
            source.find(MapKey("zp", "0003", "R", "single", "APER5"))
        assert source.find(MapKey("zp", "0007", "R", "single", "APER5")) == []
        assert source.find(MapKey("zp", "0002", "R", "single", "AUTO")) == []


def test_record_of_another_kind(with_parts):
    """A record with the right checksum and without a valid key is damaged."""
    with closing(sqlite3.connect(with_parts)) as connection:
        records = dict(connection.execute("SELECT name, content FROM records"))
    good = records["0003"]
    for record, words in (
        (good.replace(b'"zperr"', b'"what"'), "must be one of"),
        (good.replace(b'"zperr"', b"{}"), "does not match"),
        (good + b"\n[1]", "does not match"),
        (good + b"\n5", "does not match"),
        (good + b"\n" + b"[" * 100_000, "does not match"),
    ):
        root = Root(EMPTY_ROOT, with_parts)
        for name, content in (records | {"0003": record}).items():
            root.replace(name, content)
        change(
            with_parts,
            f"UPDATE records SET content = x'{record.hex()}' WHERE name = '0003'",
            f"UPDATE root SET content = x'{root.content().hex()}'",
        )
        source = StoreSource(with_parts)
        with closing(source), pytest.raises(StoreError, match=words):
            source.keys()
        assert re.search(words, " ".join(verify(with_parts)["problem"]))


def test_damaged_root(with_parts):
    """With a damaged list of fields, no map is read."""
    with closing(sqlite3.connect(with_parts)) as connection:
        ((content,),) = connection.execute("SELECT content FROM root")
    wrong = content.replace(b'"0003":', b'"0033":')
    change(with_parts, f"UPDATE root SET content = x'{wrong.hex()}'")
    with MapLibrary(with_parts) as library:
        for call in (library.table, lambda: library.zeropoint("0001", "R")):
            with pytest.raises(StoreError, match="the list of its fields"):
                call()


def test_array_of_another_map(with_parts):
    """An array of another map is refused."""
    change(
        with_parts,
        "UPDATE arrays SET id = -id",
        "UPDATE arrays SET id = CASE id WHEN -1 THEN 4 WHEN -4 THEN 1 ELSE -id END",
    )
    with MapLibrary(with_parts) as library, pytest.raises(StoreError, match="checksum"):
        library.zeropoint("0000", "R")


def test_ingest_keeps_damaged_fields_damaged(with_parts, write_archive):
    """No map is added to a damaged field."""
    change(with_parts, edit("0003", '"zperr"', '"zpedge"'))
    edges = {"zpedge_map_0003_R_single_APER5.npy": np.array([[0.0, 11000.0]])}
    with pytest.raises(StoreError, match="field '0003' does not match"):
        ingest(write_archive("edges.tar", edges), with_parts)
    with MapLibrary(with_parts) as library:
        with pytest.raises(StoreError, match="is damaged"):
            library.zeropoint("0003", "R")
        assert library.zeropoint("0002", "R").error is not None


@pytest.mark.parametrize(
    "statement",
    [
        edit("", '"whole"', '"partial"'),
        edit("", '"maps.tar.gz"', '"other.tar.gz"'),
        edit("", zp_name(3), zp_name(4)),
        "DELETE FROM records WHERE name = ''",
        "DELETE FROM root",
    ],
)
def test_ingest_into_a_damaged_store(path, damaged, six, write_archive, statement):
    """An ingest into a store with damaged records is refused."""
    ingest(damaged, path)
    change(path, statement)
    with pytest.raises(StoreError, match="is damaged"):
        ingest(write_archive("maps.tar.gz", six), path)
    assert len(verify(path)) > 0


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE records", f"CREATE VIEW records AS {ENDLESS} SELECT x, x FROM c"],
        ["DROP TABLE root", f"CREATE VIEW root AS {ENDLESS} SELECT x FROM c"],
        [f"CREATE VIEW more AS {ENDLESS} SELECT * FROM c"],
        ["CREATE TRIGGER t INSERT ON arrays BEGIN DELETE FROM arrays; END"],
        ["CREATE INDEX i ON records (content)"],
        ["CREATE TABLE more (x)"],
        ["DROP TABLE arrays"],
    ],
)
def test_added_tables_views_and_triggers(filled, write_archive, zeropoints, statements):
    """A store with other tables, views or triggers is refused before it is read."""
    change(filled, *statements)
    archive = write_archive("more.tar", {zp_name(): zeropoints()})
    for call in (MapLibrary, verify, lambda path: ingest(archive, path)):
        with pytest.raises(StoreError, match="expected the tables of a store"):
            call(filled)


def test_number_of_steps_of_a_query_is_limited(filled, monkeypatch):
    """A query that takes more steps than any store needs is stopped."""
    monkeypatch.setattr(_store_file, "_MOST_STEPS", 2_000_000)
    with closing(_store_file.open_for_reading(filled)) as connection:
        for _ in range(3):
            connection.execute(f"{ENDLESS} SELECT * FROM c LIMIT 100000").fetchall()
        with pytest.raises(StoreError, match="damaged"), store_errors("x", "read"):
            connection.execute(f"{ENDLESS} SELECT * FROM c LIMIT 1000000").fetchall()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE records SET name = '0007' WHERE name = '0002'", "field '0007'"),
        (edit("0002", '"zp"', '"zperr"'), "field '0002'"),
        (
            "UPDATE arrays SET npy = x'00' WHERE id = 3",
            "0002.*differs from the map",
        ),
        (
            "UPDATE arrays SET npy = 'text' WHERE id = 3",
            "0002.*differs from the map",
        ),
        ("DELETE FROM arrays WHERE id = 3", "0002.*differs from the map"),
        ("INSERT INTO arrays VALUES (99, x'00')", "array 99 it belongs to no map"),
        (edit("", '"whole"', '"broken"'), "the list of archives"),
    ],
)
def test_verify_lists_damage(filled, statement, words):
    """Damage is listed with the map and the record that disagrees."""
    change(filled, statement)
    problems = verify(filled)
    assert 1 <= len(problems) <= 3
    assert re.search(words, " ".join(map(" ".join, problems)))
    if "arrays" not in statement:
        assert "does not match its checksum" in problems["problem"][0]


# Locks, disks and permissions


@pytest.mark.usefixtures("impatient")
def test_locked_store(filled, write_archive, zeropoints):
    """The message about a store that another program locks states this."""
    archive = write_archive("more.tar", {zp_name(): zeropoints()})
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for call in (MapLibrary, verify, lambda path: ingest(archive, path)):
            with pytest.raises(StoreError, match=r"dr1\.ks4maps is locked: .*Another"):
                call(filled)
        other.execute("ROLLBACK")
    assert ingest(archive, filled).archives["written"][0] == 1


def test_verify_does_not_report_a_lock_as_damage(filled, monkeypatch):
    """A store that is locked during verification is not reported as damaged."""
    read_array = store.read_array
    monkeypatch.setattr(_store_file, "LOCK_SECONDS", 0.05)
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:

        def read(*arguments):
            if not other.in_transaction:
                other.execute("BEGIN EXCLUSIVE")
            return read_array(*arguments)

        monkeypatch.setattr(store, "read_array", read)
        with pytest.raises(StoreError, match="is locked"):
            verify(filled)


FULL = """
import resource, signal, sys
from ks4_ccd import ingest
from ks4_ccd.exceptions import StoreError
from ks4_ccd.library import _store_writer as _batches
_batches._BATCH_BYTES = 100_000
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    ingest(sys.argv[1], sys.argv[2])
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [5_000, 300_000])
def test_full_disk(path, write_archive, limit):
    """If the disk is full, the store remains valid, and the next ingest resumes."""
    rng = np.random.default_rng(5)
    maps = {zp_name(field): rng.normal(size=(55, 55)) for field in range(40)}
    archive = write_archive("maps.tar", maps)
    done = subprocess.run(
        [sys.executable, "-c", FULL, archive, path, str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{path} cannot be written" in done.stdout
    assert "free some space" in done.stdout
    assert not os.path.lexists(f"{path}-journal")
    there = 0
    if limit > 5_000:
        assert len(verify(path)) == 0
        there = len(rows_of(path))
        assert 0 < there < 40
    assert ingest(archive, path).archives["written"][0] == 40 - there
    assert len(verify(path)) == 0


def test_full_message():
    """The message about a full disk states that written maps are safe."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    words = "x cannot be written: the disk is full.*written before are safe"
    with pytest.raises(StoreError, match=words), store_errors("x", "write"):
        raise error


@pytest.fixture
def as_nobody(tmp_path):
    """Run a call as a user without write permission, also if root runs the tests."""
    is_root = os.geteuid() == 0
    names = ("pytest-", "popen-")
    ours = [tmp_path] + [f for f in tmp_path.parents if f.name.startswith(names)]
    modes = [folder.stat().st_mode for folder in ours]

    def call(function, *arguments):
        if is_root:
            os.seteuid(65534)
        try:
            return function(*arguments)
        finally:
            if is_root:
                os.seteuid(0)

    for folder in ours:
        folder.chmod(0o755)
    yield call
    for folder, mode in zip(ours, modes, strict=True):
        folder.chmod(mode)


def test_read_only_folder(filled, tmp_path, write_archive, six, as_nobody):
    """A store can be read in a read-only folder; ingest reports the permission."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    kept = filled.rename(folder / "dr1.ks4maps")
    kept.chmod(0o444)
    folder.chmod(0o555)
    more = write_archive("more.tar", {zp_name(): six[zp_name(0)]})

    def read():
        with MapLibrary(kept) as library:
            return library.zeropoint("0003", "R").values.shape

    try:
        as_nobody(read)
        assert len(as_nobody(verify, kept)) == 0
        for target, words in (
            (folder / "new.ks4maps", "cannot be .*permission to write"),
            (kept, "cannot be written.*permission to write"),
        ):
            with pytest.raises(StoreError, match=words):
                as_nobody(ingest, more, target)
        assert [file.name for file in folder.iterdir()] == ["dr1.ks4maps"]
    finally:
        folder.chmod(0o755)


def test_file_system_without_locks(filled, monkeypatch):
    """A read-only store is read in a file system without locks."""
    connect, asked = sqlite3.connect, []

    def without_locks(database, **options):
        asked.append(database)
        if "immutable" not in database:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
            raise error
        return connect(database, **options)

    monkeypatch.setattr(sqlite3, "connect", without_locks)
    with pytest.raises(StoreError, match="disk I/O error"):
        MapLibrary(filled)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with MapLibrary(filled) as library:
        assert library.zeropoint("0003", "R").key.field == "0003"
    assert len(asked) == 3


def test_killed_ingest_that_may_not_be_rolled_back():
    """Without write permission, the message names the command for a rollback."""
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY_ROLLBACK
    words = "who runs `ks4-ccd verify` on it. Do not delete x-journal"
    with pytest.raises(StoreError, match=words), store_errors("x", "read"):
        raise error


# Processes and threads


def load(library, field):
    """Return the zero points of a field."""
    return library.zeropoint(field, "R").values


def test_pickled_library(filled, six):
    """An unpickled library opens its store again."""
    with MapLibrary(filled, image_shape=(1000, 1000)) as library:
        copy = pickle.loads(pickle.dumps(library))
    with copy:
        np.testing.assert_array_equal(load(copy, 3), six[zp_name(3)])
        assert copy.image_shape == (1000, 1000)
    with pytest.raises(KS4Error, match="closed"):
        pickle.dumps(library)


@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe elsewhere")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_forked_library(filled, six):
    """Forked processes use an open library immediately."""
    with MapLibrary(filled) as library:
        load(library, 0)
        (source,) = library._sources
        inherited = source._opened.connection

        def child(results):
            for field in range(6):
                results.put((field, load(library, field)))
            # SQLite does not allow a child to use or close its parent's connection.
            assert source._opened.connection is not inherited
            library.close()
            assert inherited.execute("SELECT 1").fetchone() == (1,)

        context = multiprocessing.get_context("fork")
        results = context.Queue()
        children = [context.Process(target=child, args=(results,)) for _ in range(3)]
        for process in children:
            process.start()
        for _ in range(18):
            field, values = results.get(timeout=20)
            np.testing.assert_array_equal(values, six[zp_name(field)])
        for process in children:
            process.join()
            assert process.exitcode == 0
        load(library, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe elsewhere")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_threads_of_a_forked_process_wait_for_its_connection(filled, six, monkeypatch):
    """Threads wait for a new connection, and do not use that of the parent."""
    with MapLibrary(filled) as library:
        load(library, 0)
        (source,) = library._sources
        inherited = source._opened.connection
        connect = StoreSource._connect

        def slowly(self):
            time.sleep(0.2)
            return connect(self)

        def child(results):
            used = []
            select = StoreSource._opened_here

            def recorded(self):
                opened = select(self)
                used.append(opened.connection is inherited)
                return opened

            monkeypatch.setattr(StoreSource, "_connect", slowly)
            monkeypatch.setattr(StoreSource, "_opened_here", recorded)
            threads = [
                threading.Thread(target=load, args=(library, k)) for k in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            results.put((len(used), any(used)))

        context = multiprocessing.get_context("fork")
        results = context.Queue()
        process = context.Process(target=child, args=(results,))
        process.start()
        number, parents = results.get(timeout=20)
        process.join()
        assert number >= 4
        assert not parents


CLOSE = """
import sys, threading, time
from ks4_ccd import MapLibrary
from ks4_ccd.exceptions import KS4Error
messages = []
for _ in range(40):
    with MapLibrary(sys.argv[1]) as library:
        def run():
            try:
                while True:
                    library.zeropoint("0001", "R")
            except KS4Error as error:
                messages.append(str(error))
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.004)
    for thread in threads:
        thread.join()
assert len(messages) == 160
assert all("is closed" in message for message in messages), messages
"""


def test_closed_while_threads_load(filled):
    """Threads get an error; no query uses a closed connection."""
    subprocess.run([sys.executable, "-c", CLOSE, filled], check=True, timeout=120)


def test_fields_and_detectors_are_distinguished(tmp_path, write_archive, zeropoints):
    """A field with @ in its name differs from a field with a detector."""
    keys = [
        MapKey("zp", "a@b", "R", aperture="AUTO"),
        MapKey("zp", "a", "R", aperture="AUTO", detector="b"),
        MapKey("zp", "a%40b", "R", aperture="AUTO"),
    ]
    maps = {key.filename: zeropoints(k) for k, key in enumerate(keys)}
    path = tmp_path / "a.ks4maps"
    ingest(write_archive("a.tar", maps), path)
    with MapLibrary(path, image_shape=(1000, 1000)) as library:
        for key in keys:
            found = library.zeropoint(
                key.field, "R", aperture="AUTO", detector=key.detector
            )
            assert found.key == key
            np.testing.assert_array_equal(found.values, maps[key.filename])


def test_a_map_of_two_archives_survives_a_broken_one(tmp_path, write_archive, six):
    """A map that a dropped archive shared with another is stored by the next ingest."""
    path, name = tmp_path / "a.ks4maps", zp_name(0)
    whole = gzip.compress(write_archive("whole.tar", six).read_bytes(), mtime=0)
    archive = tmp_path / "first.tar.gz"
    archive.write_bytes(whole[: len(whole) * 2 // 3])
    ingest(archive, path)
    other = write_archive("second.tar", {name: six[name]})
    ingest(other, path)
    archive.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    ingest(archive, path)
    ingest(other, path)
    with MapLibrary(path) as library:
        np.testing.assert_array_equal(load(library, 0), six[name])


def test_threads_share_a_library(filled, six):
    """Threads load maps from one library concurrently."""
    wrong = []

    def read(library):
        for field in [*range(6)] * 20:
            if not np.array_equal(load(library, field), six[zp_name(field)]):
                wrong.append(field)

    with MapLibrary(filled) as library:
        threads = [threading.Thread(target=read, args=(library,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_ended_threads_leave_nothing_open(filled, recwarn):
    """Neither ended threads nor a dropped library leave an open file."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    library = MapLibrary(filled)
    for _ in range(5):
        thread = threading.Thread(target=load, args=(library, 0))
        thread.start()
        thread.join()
    del library
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    assert not recwarn


def test_closed_source(filled):
    """A closed source raises an error; closing it again has no effect."""
    source = StoreSource(filled)
    source.close()
    source.close()
    with pytest.raises(StoreError, match=r"dr1\.ks4maps is closed"):
        source.find(KEY)


READER = """
import sys, time
import numpy as np
from ks4_ccd import MapLibrary
from ks4_ccd.exceptions import MapNotFoundError
seen = 0
with MapLibrary(sys.argv[1]) as library:
    print("ready", flush=True)
    end = time.monotonic() + 60
    while seen < 40 and time.monotonic() < end:
        for field in range(40):
            try:
                values = library.zeropoint(field, "R").values
            except MapNotFoundError:
                continue
            expected = np.random.default_rng(field).normal(29.9, 0.05, (55, 55))
            np.testing.assert_array_equal(values, expected)
            seen = max(seen, field + 1)
print(seen)
"""


@pytest.mark.usefixtures("small_batches")
def test_readers_while_an_ingest_runs(path, write_archive, zeropoints):
    """Processes that read during an ingest get complete maps and no error."""
    maps = {zp_name(field): zeropoints(field, (55, 55)) for field in range(40)}
    ingest(write_archive("first.tar", {zp_name(0): maps[zp_name(0)]}), path)
    command = [sys.executable, "-c", READER, path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    report = ingest(write_archive("maps.tar.gz", maps), path)
    assert report.archives["written"][0] == 39
    for reader in readers:
        out, err = reader.communicate(timeout=90)
        assert (out, err) == ("40\n", "")


# Arguments and the command


@pytest.mark.parametrize(
    ("archives", "target", "options", "words"),
    [
        ("maps.tar", "dr1.db", {}, r"store must be a file named \*\.ks4maps"),
        ("maps.tar", "dr1.ks4maps", {"on_error": "no"}, "on_error must be one of"),
        ("", "dr1.ks4maps", {}, "name the archives in it"),
        ("map.npy", "dr1.ks4maps", {}, "must be an archive"),
        ("gone.tar", "dr1.ks4maps", {}, "cannot read .*gone.tar: No such file"),
        ("pipe.tar", "dr1.ks4maps", {}, "found a folder or a special file"),
    ],
)
def test_bad_arguments(tmp_path, write_archive, six, archives, target, options, words):
    """The message quotes a wrong argument, and no store is created."""
    write_archive("maps.tar", six)
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(KS4Error, match=words):
        ingest(tmp_path / archives, tmp_path / target, **options)
    assert not (tmp_path / target).exists()


def test_command(path, tmp_path, write_archive, six, damaged, capsys):
    """The command fills and verifies a store, and its status reports problems."""
    good = write_archive("good.tar", {zp_name(8): six[zp_name(0)]})
    assert main(["ingest", str(good), "-o", str(path)]) == 0
    assert "1 maps written" in capsys.readouterr().out
    assert main(["verify", str(path)]) == 0
    assert "all maps match their checksums" in capsys.readouterr().out
    assert main(["ingest", str(good), str(damaged), "-o", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "already in the store" in out
    assert "5 maps written" in out
    assert zp_name(3) in err
    assert main(["ingest", str(damaged), "-o", str(path), "--on-error", "raise"]) == 1
    assert "--on-error skip" in capsys.readouterr().err
    change(path, "DELETE FROM arrays WHERE id = 3")
    assert main(["verify", str(path)]) == 1
    assert "has 1 problems" in capsys.readouterr().err
    assert main(["maps", str(path)]) == 0


def test_progress(path, write_archive, six, capsys):
    """The progress bar reaches the end of the archives."""
    ingest(write_archive("maps.tar.gz", six), path, progress=True)
    assert "100%" in capsys.readouterr().err
    verify(path, progress=False)
    assert capsys.readouterr().err == ""
