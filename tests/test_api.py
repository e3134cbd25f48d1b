# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The public API, as editors and type checkers see it."""

import inspect
import typing
from functools import cached_property
from pathlib import Path

import pytest

import ks4_ccd

NAMES = sorted(set(ks4_ccd.__all__) - {"__version__"})


def functions_of(name):
    """Yield the functions behind a public name: a function, or methods of a class."""
    public = getattr(ks4_ccd, name)
    if inspect.isfunction(public):
        yield name, public
        return
    for member in dir(public):
        if member.startswith("_") and member != "__init__":
            continue
        found = inspect.getattr_static(public, member)
        if isinstance(found, classmethod | staticmethod):
            found = found.__func__
        elif isinstance(found, property):
            found = found.fget
        elif isinstance(found, cached_property):
            found = found.func
        if inspect.isfunction(found) and found.__module__.startswith("ks4_ccd"):
            yield f"{name}.{member}", found


def unannotated(name, function):
    """Return parameters and results without a type, or with the type Any."""
    hints = typing.get_type_hints(function)
    signature = inspect.signature(function)
    wanted = [*signature.parameters, "return"]
    if wanted[0] in ("self", "cls") and "." in name:
        del wanted[0]
    return [w for w in wanted if hints.get(w, typing.Any) is typing.Any]


@pytest.mark.parametrize("name", NAMES)
def test_all_parameters_and_results_have_types(name):
    """Annotations resolve at run time, and none is a bare Any."""
    for own_name, function in functions_of(name):
        assert unannotated(own_name, function) == [], own_name


def test_missing_types_are_found():
    """The check reports missing annotations and bare Any."""

    def annotated(x: int, *, y: "str") -> None:
        pass

    def bare(x, y: typing.Any = 1) -> None:
        pass

    assert unannotated("annotated", annotated) == []
    assert unannotated("bare", bare) == ["x", "y"]


def test_editors_complete_the_names():
    """Static analysis completes all public names."""
    jedi = pytest.importorskip("jedi")
    script = jedi.Script("import ks4_ccd\nks4_ccd.")
    assert set(NAMES) <= {completion.name for completion in script.complete(2, 8)}


@pytest.mark.parametrize("name", NAMES)
def test_editors_show_signatures(name):
    """Static analysis returns the names of the parameters."""
    jedi = pytest.importorskip("jedi")
    public = getattr(ks4_ccd, name)
    code = f"import ks4_ccd\nks4_ccd.{name}("
    shown = jedi.Script(code).get_signatures()
    assert shown
    if inspect.isfunction(public):
        (signature,) = shown
        expected = list(inspect.signature(public).parameters)
        assert [parameter.name for parameter in signature.params] == expected


def test_types_are_shipped():
    """The package contains py.typed, which type checkers require."""
    assert (Path(ks4_ccd.__file__).parent / "py.typed").exists()
