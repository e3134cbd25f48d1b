# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What all tests share, the examples in the documentation included."""

import sys

import pytest
from _pytest.doctest import DoctestItem

# These are run by Sphinx, and have no examples.
collect_ignore_glob = ["docs/*.py"]


@pytest.fixture(autouse=True)
def _examples_write_elsewhere(request):
    """Run each documented example in a folder of its own."""
    if isinstance(request.node, DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(
            request.getfixturevalue("tmp_path")
        )


@pytest.fixture(autouse=True)
def _figures_are_closed():
    """Close the figures of pyplot, into which maps are drawn by default."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
