# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Errors and warnings: where they are defined, and what they derive from."""

import ast
from pathlib import Path

import numpy as np
import pytest

import ks4_ccd
from ks4_ccd import DirectionlessMapError, KS4Error, OptionError, exceptions
from ks4_ccd.exceptions import finite, one_of

PACKAGE = Path(ks4_ccd.__file__).parent


def bases_of(path):
    """Yield each class that a module defines, and the names of its bases."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node.name, {ast.unparse(base).split(".")[-1] for base in node.bases}


def test_all_errors_are_defined_in_one_module():
    """No other module derives a class from an error of the package."""
    own = set(exceptions.__all__)
    found = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "exceptions.py"
        for name, bases in bases_of(path)
        if bases & own
    ]
    assert found == []


def test_all_errors_are_public():
    """Whoever catches an error can import it from the package."""
    classes = {name for name in exceptions.__all__ if name[0].isupper()}
    assert classes <= set(ks4_ccd.__all__)
    for name in classes - {"KS4Warning"}:
        assert issubclass(getattr(ks4_ccd, name), KS4Error)


@pytest.mark.parametrize("value", ["cubic", 1, None, ["nearest"]])
def test_a_wrong_option_is_a_value_error(value):
    """The message lists the allowed values, and the one that was given."""
    with pytest.raises(
        ValueError, match="method must be one of nearest, dr1"
    ) as caught:
        one_of("method", value, ("nearest", "dr1"))
    assert isinstance(caught.value, OptionError)
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize("value", [np.nan, "inf", [1.0], None, 1j])
def test_a_number_that_is_not_finite_is_a_value_error(value):
    """Strings of numbers are numbers, as on the command line."""
    with pytest.raises(OptionError, match="zeropoint must be a finite number"):
        finite("zeropoint", value)
    assert finite("zeropoint", "30") == 30.0


def test_misalignment_maps_have_no_components():
    """`hasattr` is false, and the error explains why."""
    values = np.ones((2, 2))
    grid = ks4_ccd.MapGrid((2, 2), 10)
    found = ks4_ccd.MisalignmentMap(values, values, values, grid=grid)
    assert not hasattr(found, "dra")
    with pytest.raises(DirectionlessMapError, match="direction"):
        _ = found.ddec
