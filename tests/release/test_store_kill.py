# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""An ingest that is killed at any moment loses nothing and repeats nothing."""

import io
import random
import re
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing

import numpy as np
import pytest

from ks4_ccd import MapLibrary, verify
from ks4_ccd.exceptions import StoreError

KILLS = 20
FIELDS = 300
LONGEST = 25.0  # seconds for all kills

# Says when it begins, as importing takes longer than the ingest.
INGEST = """
import sys
from ks4_ccd import ingest
from ks4_ccd.release import _batches
_batches._BATCH_BYTES = 200_000
print("ready", flush=True)
sys.stdin.readline()
report = ingest(sys.argv[2:], sys.argv[1])
assert len(report.problems) == 0
print(sum(report.archives["written"]))
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Three archives of maps, about 22 MB of arrays."""
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


def start(store, archives):
    """Start an ingest in another process, as far as its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", INGEST, store, *archives],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process, seconds=None):
    """Let an ingest run to its end, or kill it; return what it wrote and how long."""
    begun = time.monotonic()
    with process:
        process.stdin.write("go\n")
        process.stdin.flush()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return None, seconds
        out = process.stdout.read()
        assert process.returncode == 0
    return int(out), time.monotonic() - begun


def contents(store):
    """Return all that a store has of maps, byte for byte."""
    with closing(sqlite3.connect(store)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("maps", "arrays", "archives")
        ]


def check(store):
    """Return how many arrays are in a killed ingest's store, which must be good."""
    try:
        problems = verify(store)
    except StoreError as error:
        # Killed before it was a store: nothing that could be mistaken for one.
        if re.search("is not there|is empty", str(error)):
            return 0
        raise
    assert len(problems) == 0
    with MapLibrary(store) as library:
        table = library.table()
        if len(table):
            library.zeropoint(table["field"][-1], "R")
    return len(contents(store)[0])


def test_killed_ingests(archives, tmp_path):
    """After any number of kills a store equals that of an uninterrupted ingest."""
    whole, store = tmp_path / "whole.ks4maps", tmp_path / "killed.ks4maps"
    written, seconds = go(start(whole, archives))
    assert written == 3 * FIELDS
    rng = random.Random(17)
    began, kills, there = time.monotonic(), 0, 0
    while kills < KILLS and time.monotonic() - began < LONGEST:
        written, _ = go(start(store, archives), 0.9 * seconds * rng.random())
        now = check(store)
        if written is None:
            kills += 1
            assert now >= there
            there = now
        else:
            assert written == 3 * FIELDS - there
            check_finished(store, whole)
            store.unlink()
            there = 0
    assert kills >= KILLS // 2
    written, _ = go(start(store, archives))
    assert written == 3 * FIELDS - there
    check_finished(store, whole)


def check_finished(store, whole):
    """Compare a store with another one; nothing may be left beside them."""
    assert contents(store) == contents(whole)
    assert len(verify(store)) == 0
    files = {path.name for path in store.parent.iterdir()}
    assert files == {whole.name, store.name}
