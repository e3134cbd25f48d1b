# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Signals end the command with one line and its exit status, without partial files."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from ks4_ccd.cli import main
from ks4_ccd.cli._signals import Signals, Terminated

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of Unix")
SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"]

# A command that prints a line for each band of rows, and then waits.
_SLOW = """
import sys, time
from ks4_ccd.cli import main
from ks4_ccd.photometry import stream
stream._BAND_BYTES = 480
write = stream._write_band
def slow(planes, start, band):
    write(planes, start, band)
    print(start, flush=True)
    time.sleep(0.05)
stream._write_band = slow
sys.exit(main())
"""


@pytest.fixture
def folder(tmp_path, make_map, make_key):
    """Return a folder with an image of field 0403 in R, and its map."""
    make_map((6, 5), key=make_key(), empty=0).save(tmp_path / "maps")
    header = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    image = np.ones((100, 120), np.float32)
    fits.PrimaryHDU(image, header).writeto(tmp_path / "a.fits")
    return tmp_path


def start(folder, code, ignored=()):
    """Start `ks4-ccd calibrate` in a separate process."""
    command = [sys.executable, "-c", code, "calibrate", folder / "a.fits"]
    command += ["--maps", folder / "maps", "--image-size", "120", "100"]

    def set_handlers():
        for name in SIGNALS:
            handler = signal.SIG_IGN if name in ignored else signal.SIG_DFL
            signal.signal(getattr(signal, name), handler)

    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=set_handlers,
    )


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_remove_the_partial_file(folder, name):
    """The signal arrives while the file is written."""
    process = start(folder, _SLOW)
    for _ in range(3):
        process.stdout.readline()
    assert list(folder.glob(".a_cal.fits.*.part"))
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert errors.endswith("no partial file is left\n")
    assert "Traceback" not in errors
    assert {path.name for path in folder.iterdir()} == {"a.fits", "maps"}


def test_ignored_signals_stay_ignored(folder):
    """The command continues under nohup."""
    process = start(folder, _SLOW, ignored=["SIGHUP", "SIGINT"])
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (folder / "a_cal.fits").exists()


@pytest.mark.parametrize("form", ["module", "script"])
def test_ctrl_c_while_modules_are_imported(tmp_path, form):
    """No file has to be removed, and no traceback is printed."""
    # The interpreter imports this when it starts; then every import of a module outside
    # of this package waits.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'astropy':\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    script = tmp_path / "ks4-ccd"
    script.write_text("from ks4_ccd.cli import main\nmain()\n")
    process = subprocess.Popen(
        [sys.executable, *(["-m", "ks4_ccd"] if form == "module" else [script])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 130
    assert errors == "ks4-ccd: interrupted\n"


def test_other_programs_keep_their_ctrl_c():
    """Only the command handles Ctrl-C itself, and only while it starts."""
    code = "import ks4_ccd.cli, signal; print(signal.getsignal(signal.SIGINT))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "default_int_handler" in done.stdout


def test_handlers_are_restored(folder):
    """After `main`, the signal handlers of the caller are restored."""
    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    with pytest.raises(SystemExit):
        main(["--help"])
    assert [signal.getsignal(getattr(signal, name)) for name in SIGNALS] == before


def test_a_second_signal_does_not_interrupt_the_cleanup():
    """A closing terminal may send several signals."""
    with Signals() as signals:
        signals.interrupt()
        with pytest.raises(Terminated, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
