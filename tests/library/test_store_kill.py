# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""An ingest that is killed at any time loses no map and repeats no work."""

import io
import random
import re
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from ks4_ccd import MapLibrary, verify
from ks4_ccd.exceptions import StoreError

KILLS = 8
FIELDS = 200
LONGEST_DELAY = 0.02  # seconds from a message to the kill: about that of two batches

# Print the number of written maps after each batch, and once more at the end.
INGEST = """
import sys
from ks4_ccd import ingest
from ks4_ccd.library import _store_writer as _batches
from ks4_ccd.library._store_writer import StoreWriter
_batches._BATCH_BYTES = 200_000
write, written = StoreWriter.write, 0
def write_and_print(*arguments):
    global written
    now = write(*arguments)
    written += now
    print(written, flush=True)
    return now
StoreWriter.write = write_and_print
report = ingest(sys.argv[2:], sys.argv[1])
assert len(report.problems) == 0
assert sum(report.archives["written"]) == written
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Return three archives of maps, about 15 MB of arrays."""
    folder = tmp_path_factory.mktemp("archives")
    rng = np.random.default_rng(13)
    paths = [folder / f"{family}.tar.gz" for family in ("zp", "zperr", "pstar")]
    for path in paths:
        family = path.name.removesuffix(".tar.gz")
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for field in range(FIELDS):
                file = io.BytesIO()
                np.save(file, rng.uniform(1, 2, (55, 55)).round(3))
                name = f"{field:04d}/{family}_map_{field:04d}_R_single_APER5.npy"
                info = tarfile.TarInfo(name)
                info.size = file.tell()
                file.seek(0)
                archive.addfile(info, file)
    return paths


def run(store, archives, batches=None, delay=0):
    """Ingest in another process, killed after some batches; return its output."""
    process = subprocess.Popen(
        [sys.executable, "-c", INGEST, store, *archives],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        counts = [int(line) for line in islice(process.stdout, batches)]
        if batches is None or len(counts) < batches:
            assert process.wait() == 0
            return counts, True
        # At any time during the following batches, or their commits.
        time.sleep(delay)
        process.kill()
        rest = [int(line) for line in process.stdout if line.endswith("\n")]
        return counts + rest, process.wait() == 0


def contents(store):
    """Return all maps in a store, byte for byte."""
    with closing(sqlite3.connect(store)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("arrays", "records", "root")
        ]


def check(store):
    """Return the number of arrays in a killed ingest's store, which must be intact."""
    try:
        problems = verify(store)
    except StoreError as error:
        # Killed before the store was created: the file is not a store.
        if re.search("does not exist|is empty", str(error)):
            return 0
        raise
    assert len(problems) == 0
    with MapLibrary(store) as library:
        table = library.table()
        if len(table):
            library.zeropoint(table["field"][-1], "R")
    return len(contents(store)[0])


def test_killed_ingests(archives, tmp_path):
    """After any number of kills, a store equals that of an uninterrupted ingest."""
    whole, store = tmp_path / "whole.ks4maps", tmp_path / "killed.ks4maps"
    counts, is_done = run(whole, archives)
    assert is_done
    assert counts[-1] == 3 * FIELDS
    batches = len(counts)
    rng = random.Random(17)
    kills, there = 0, 0
    while kills < KILLS:
        wanted, delay = rng.randint(0, batches // 3), LONGEST_DELAY * rng.random()
        counts, is_done = run(store, archives, wanted, delay)
        now = check(store)
        # Committed maps are kept.
        assert now >= there + max(counts, default=0)
        there = now
        if is_done:
            assert there == 3 * FIELDS
            check_finished(store, whole)
            store.unlink()
            there = 0
        else:
            kills += 1
    counts, is_done = run(store, archives)
    assert is_done
    assert max(counts, default=0) == 3 * FIELDS - there
    check_finished(store, whole)


def check_finished(store, whole):
    """Compare a store with another one; no other file may exist beside them."""
    assert contents(store) == contents(whole)
    assert len(verify(store)) == 0
    files = {path.name for path in store.parent.iterdir()}
    assert files == {whole.name, store.name}
