# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Commands and names in README and in the documentation exist and work."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData

import ks4_ccd
from ks4_ccd.cli import main

ROOT = Path(__file__).parents[1]
PAGES = ("README.rst", "docs/command_line.rst")


@pytest.fixture
def field(tmp_path, monkeypatch):
    """Return a folder with the documented field, and make it the current one."""
    monkeypatch.chdir(tmp_path)
    simulated = ks4_ccd.simulate_field(
        (660, 660), map_shape=(33, 33), field="0403", seed=1
    )
    simulated.write("field")
    stamp = simulated.ccd.data[100:300, 400:600]
    CCDData(np.ascontiguousarray(stamp), unit="adu").write("stamp.fits")
    return tmp_path


def documented_commands(page):
    """Return the calls of `ks4-ccd` on a page, except the demo."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    shown = (re.fullmatch(r" +(?:\$ )?ks4-ccd (.*)", line) for line in lines)
    calls = [shlex.split(match[1]) for match in shown if match]
    return [call for call in calls if call[0] != "demo"]


@pytest.mark.parametrize("page", PAGES)
def test_documented_commands_work(page, field, capsys):
    """Every documented command line succeeds."""
    calls = documented_commands(page)
    assert calls
    for call in calls:
        assert main(call) == 0, f"{call}: {capsys.readouterr().err}"


def test_reference_lists_all_public_names():
    """The reference lists every public name, and no other."""
    lines = (ROOT / "docs/api.rst").read_text(encoding="utf-8").splitlines()
    listed = {line.strip() for line in lines if re.fullmatch(r"   \w+", line)}
    assert listed == set(ks4_ccd.__all__) - {"__version__"}
