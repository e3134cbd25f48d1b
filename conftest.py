# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fixtures of all tests, including the examples in the documentation."""

import sys

import pytest
from _pytest.doctest import DoctestItem

# Sphinx runs these files, and they contain no examples.
collect_ignore_glob = ["docs/*.py"]


@pytest.fixture(autouse=True)
def _examples_write_elsewhere(request):
    """Run each documented example in a temporary folder."""
    if isinstance(request.node, DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(
            request.getfixturevalue("tmp_path")
        )


@pytest.fixture(autouse=True)
def _figures_are_closed():
    """Close the figures of pyplot, in which maps are plotted by default."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
