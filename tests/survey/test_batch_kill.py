# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A batch that is killed or interrupted loses no result and leaves no partial file."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.skipif(
    not hasattr(os, "killpg"), reason="process groups exist on Unix only"
)

# Slow machines stop at the time below, but not before the first number of kills.
FEWEST, KILLS = 3, 10
IMAGES = 16
SIZE = 1200
LONGEST = 40.0  # seconds for all kills


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Return a folder with images of field 0403 in R, and their map."""
    from ks4_ccd import MapGrid, MapKey, ZeroPointMap

    folder = tmp_path_factory.mktemp("survey")
    rng = np.random.default_rng(3)
    values, count = 30 + rng.normal(0, 0.03, (8, 8)), rng.integers(1, 9, (8, 8))
    grid = MapGrid.for_image((8, 8), (SIZE, SIZE))
    key = MapKey("zp", "0403", "R", "single", "APER5")
    zpmap = ZeroPointMap(values, values - 29.9, count, grid=grid, key=key)
    zpmap.save(folder / "maps")
    header = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    for number in range(IMAGES):
        data = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
        fits.PrimaryHDU(data, header).writeto(folder / f"{number:02d}.fits")
    return folder


def start(survey, out, errors=False):
    """Start a batch in a separate process group."""
    command = [sys.executable, "-m", "ks4_ccd.cli", "batch"]
    command += sorted(survey.glob("*.fits"))
    command += ["--maps", survey / "maps", "--image-size", f"{SIZE}", f"{SIZE}"]
    command += ["-o", out, "--workers", "2"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if errors else subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=restore_signals,
    )


def restore_signals():
    """Restore signals that a parent ignores, as below nohup, and passes on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def kill(process, seconds):
    """Kill a batch and its workers after a delay; return whether it had finished."""
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for_the_rest(process.pid)
        return False


def wait_for_the_rest(group):
    """Wait until no process of a group exists."""
    end = time.monotonic() + 120
    while any(is_alive_in(group, process) for process in psutil.process_iter()):
        assert time.monotonic() < end, "a process of the batch is still there"
        time.sleep(0.02)


def is_alive_in(group, process):
    """Return whether a process belongs to a group and is not a zombie."""
    with suppress(OSError, psutil.Error):
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return os.getpgid(process.pid) == group and not is_zombie
    return False


def wait_for_work(process, out):
    """Wait until workers write a new file."""
    before = names_in(out)
    while process.poll() is None:
        if any("_cal.fits" in name for name in names_in(out) - before):
            return
        time.sleep(0.002)


def names_in(folder):
    """Return the names of all files in a folder, if it exists."""
    with suppress(FileNotFoundError):
        return set(os.listdir(folder))
    return set()


def results(folder):
    """Return the results in a folder, byte for byte."""
    return {path.name: path.read_bytes() for path in folder.glob("*.fits")}


def check_finished(out, whole):
    """Assert that a batch has all results and rows, and no other file."""
    assert results(out) == whole
    names = {path.name for path in out.iterdir()}
    assert names == {*whole, "manifest.ecsv"}
    table = Table.read(out / "manifest.ecsv")
    assert set(table["outcome"]) == {"done"}
    assert sorted(table["target"]) == sorted(whole)


def test_killed_batches(survey, tmp_path):
    """After any number of kills, results equal those of an uninterrupted batch."""
    process = start(survey, tmp_path / "whole")
    wait_for_work(process, tmp_path / "whole")
    begun = time.monotonic()
    while process.poll() is None and len(results(tmp_path / "whole")) < IMAGES:
        time.sleep(0.01)
    seconds = time.monotonic() - begun
    assert process.wait() == 0
    whole = results(tmp_path / "whole")
    check_finished(tmp_path / "whole", whole)

    out = tmp_path / "killed"
    rng = random.Random(23)
    began, kills, left = time.monotonic(), 0, 0
    # At least one kill has to occur during an image.
    while (
        kills < FEWEST
        or not left
        or (kills < KILLS and time.monotonic() - began < LONGEST)
    ):
        process = start(survey, out)
        wait_for_work(process, out)
        # Wait for a part of it at once, so that several kills occur in one batch.
        if kill(process, 0.6 * seconds * rng.random()):
            check_finished(out, whole)
            shutil.rmtree(out)
            continue
        kills += 1
        there = results(out)
        assert there.items() <= whole.items(), "a result is incomplete"
        left += len(list(out.glob(".*.part")))
    assert start(survey, out).wait() == 0
    check_finished(out, whole)


def test_ctrl_c(survey, tmp_path):
    """Ctrl-C ends the batch and its workers, and existing results are complete."""
    out = tmp_path / "out"
    process = start(survey, out)
    wait_for_work(process, out)
    # A terminal sends the signal to all processes of the group.
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) == 130
    wait_for_the_rest(process.pid)
    assert {name for name in names_in(out) if not name.endswith("_cal.fits")} == {
        "manifest.ecsv"
    }
    assert set(Table.read(out / "manifest.ecsv")["outcome"]) >= {"started"}
    assert start(survey, out).wait() == 0
    assert len(results(out)) == IMAGES
    check_finished(out, results(out))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_while_processes_start(survey, tmp_path, name):
    """One line is printed, and no process remains."""
    out, number = tmp_path / "out", getattr(signal, name)
    process = start(survey, out, errors=True)
    # The first process belongs to multiprocessing; the workers follow.
    wait_until(lambda: len(psutil.Process(process.pid).children()) > 1)
    # Workers would print a traceback while they import their modules.
    time.sleep(0.3)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert errors.startswith("ks4-ccd: ")
    assert errors.count("\n") == 1
    wait_for_the_rest(process.pid)
    assert names_in(out) <= {"manifest.ecsv"}


def wait_until(condition):
    """Wait until a function returns true."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
