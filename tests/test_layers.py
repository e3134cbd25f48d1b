# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Allowed imports between the rooms of the package, and private modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ks4_ccd

PACKAGE = Path(ks4_ccd.__file__).parent

# Room: the rooms, or single modules of rooms, that it may import from.
ALLOWED = {
    "exceptions": (),
    "files": ("exceptions",),
    "surfaces": ("exceptions",),
    "plotting": ("exceptions",),
    "maps": ("exceptions", "files", "surfaces"),
    "ks4": ("exceptions", "maps.key"),
    "library": ("exceptions", "files", "maps", "ks4"),
    "astrometry": ("exceptions", "files", "maps", "ks4"),
    "photometry": ("exceptions", "files", "maps", "ks4", "library", "astrometry"),
    "catalogs": (
        *("exceptions", "files", "maps", "ks4", "library", "astrometry"),
        "photometry.options",
    ),
    "mapmaking": ("exceptions", "files", "maps", "ks4", "surfaces", "catalogs"),
    "survey": (
        *("exceptions", "files", "maps", "ks4", "library", "astrometry"),
        *("photometry", "catalogs", "mapmaking"),
    ),
    "simulation": (
        *("exceptions", "files", "maps", "ks4", "library", "astrometry"),
        *("photometry", "catalogs", "mapmaking", "survey", "surfaces", "plotting"),
    ),
    "cli": (
        *("exceptions", "files", "maps", "ks4", "library", "astrometry"),
        *("photometry", "catalogs", "mapmaking", "survey", "surfaces", "plotting"),
        "simulation",
    ),
    # `python -m ks4_ccd`
    "__main__": ("cli",),
}
# Any room may import plotting inside a function.
DRAWN_BY_ALL = "plotting"
MOST_FOLDERS, MOST_FILES = 12, 4


def module_name(path, package):
    """Return the dotted name of a file below the package, "" for its __init__."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_in(package):
    """Return the files of a package by the dotted names of its modules."""
    return {module_name(path, package): path for path in sorted(package.rglob("*.py"))}


# ruff: noqa: D102
class Imports(ast.NodeVisitor):
    """Collect the modules of the package that a module imports, at any depth."""

    def __init__(self, name, path, modules, package):
        self.found = set()  # (module, private name or None, is inside a function)
        self._modules, self._package = modules, package
        self._parts = [package, *filter(None, name.split("."))]
        if path.name != "__init__.py":
            self._parts.pop()
        self._depth = 0
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_FunctionDef(self, node):
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    def visit_If(self, node):
        test = node.test
        name = getattr(test, "id", getattr(test, "attr", None))
        for child in node.orelse if name == "TYPE_CHECKING" else [node]:
            self.generic_visit(child)

    def visit_Import(self, node):
        for alias in node.names:
            self._add(alias.name, None)

    def visit_ImportFrom(self, node):
        source = node.module or ""
        if node.level:
            above = self._parts[: len(self._parts) - node.level + 1]
            source = ".".join([*above, *filter(None, [source])])
        for alias in node.names:
            self._add(source, alias.name)

    def _add(self, source, name):
        if source != self._package and not source.startswith(f"{self._package}."):
            return
        inside = source.removeprefix(self._package).lstrip(".")
        full = f"{inside}.{name}".lstrip(".") if name else inside
        if full in self._modules and full != inside:
            inside, name = full, None
        self.found.add((inside, name, self._depth > 0))


def room_of(module):
    """Return the first part of a dotted name."""
    return module.partition(".")[0]


def violations(package, allowed=ALLOWED):
    """Return the violations of the rules by a package, one sentence each."""
    modules = modules_in(package)
    found = []
    for name, path in modules.items():
        room = room_of(name)
        if not name:
            # The package itself exports the public names of all rooms.
            continue
        if room not in allowed:
            found.append(f"{name}: the room {room} is not listed")
            continue
        for target, imported, is_inner in sorted(
            Imports(name, path, modules, package.name).found, key=str
        ):
            other = room_of(target)
            if not target:
                found.append(f"{name} imports {imported} from the package itself")
            elif other == room or (other == DRAWN_BY_ALL and is_inner):
                continue
            elif not any(f"{target}.".startswith(f"{a}.") for a in allowed[room]):
                found.append(f"{name} imports {target}")
            elif any(
                part.startswith("_") for part in [*target.split("."), imported or ""]
            ):
                found.append(f"{name} imports the private {target} {imported or ''}")
    return found


def circles(package):
    """Return the modules that import each other, in functions or outside."""
    modules = modules_in(package)
    arrows = {
        name: {
            target
            for target, _, _ in Imports(name, path, modules, package.name).found
            if target in modules and target != name
        }
        for name, path in modules.items()
    }
    # Modules that import no remaining module are in no circle.
    while True:
        free = {name for name, targets in arrows.items() if not targets & set(arrows)}
        if not free:
            return sorted(arrows)
        arrows = {name: t for name, t in arrows.items() if name not in free}


def test_rooms_have_allowed_imports_only():
    """Imports between rooms are allowed ones, and none is of a private module."""
    assert violations(PACKAGE) == []


def test_no_circles():
    """No module imports itself through other modules."""
    assert circles(PACKAGE) == []


def test_rooms_have_no_circle():
    """The listed rooms can be sorted topologically."""
    left = {room: {room_of(a) for a in allowed} for room, allowed in ALLOWED.items()}
    # Keys of maps are below the facts of the survey, which are below no map.
    left["ks4"].discard("maps")
    while left:
        free = [room for room, allowed in left.items() if not allowed & set(left)]
        assert free, f"these rooms import each other: {sorted(left)}"
        for room in free:
            del left[room]


def test_top_level_is_small():
    """The top of the package has at most 12 folders and 4 files."""
    entries = [p for p in PACKAGE.iterdir() if p.name != "__pycache__"]
    folders = sorted(p.name for p in entries if p.is_dir())
    files = sorted(p.name for p in entries if p.suffix == ".py")
    assert len(folders) <= MOST_FOLDERS, folders
    assert len(files) <= MOST_FILES, files


@pytest.fixture
def make_package(tmp_path):
    """Return a factory of packages with given modules."""

    def make(**texts):
        package = tmp_path / "ks4_ccd"
        for name, text in {"__init__": "", **texts}.items():
            path = package / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return package

    return make


@pytest.mark.parametrize(
    ("module", "text", "words"),
    [
        ("maps__in__grid", "from ks4_ccd.files.tables import read_table", None),
        ("files__in__tables", "from ks4_ccd.maps.grid import MapGrid", "maps.grid"),
        ("ks4__in__names", "from ks4_ccd.catalogs.columns import a", "catalogs"),
        ("ks4__in__names", "from ks4_ccd.maps.key import MapKey", None),
        ("ks4__in__names", "from ks4_ccd.maps.grid import MapGrid", "maps.grid"),
        ("ks4__in__tiling", "import ks4_ccd.plotting", "plotting"),
        ("ks4__in__tiling", "def f():\n    from ks4_ccd.plotting import a", None),
        ("photometry__in__rows", "from ks4_ccd.astrometry import wcs", None),
        ("photometry__in__rows", "from ks4_ccd.astrometry import _tables", "private"),
        ("photometry__in__rows", "from ks4_ccd.astrometry.wcs import _f", "private"),
        ("astrometry__in__wcs", "def f():\n    from ks4_ccd.cli import a", "cli"),
        ("astrometry__in__wcs", "from ..photometry.stream import a", "photometry"),
        ("maps__in__base", "from ks4_ccd import ZeroPointMap", "the package itself"),
        (
            "maps__in__base",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from ks4_ccd.cli import a\n",
            None,
        ),
        ("attic__in__old", "", "not listed"),
    ],
)
def test_violations_are_found(make_package, module, text, words):
    """Each forbidden arrow is reported, and no other."""
    others = {
        "files__in__tables": "read_table = 1",
        "maps__in__grid": "MapGrid = 1",
        "maps__in__key": "MapKey = 1",
        "catalogs__in__columns": "a = 1",
        "astrometry__in__wcs": "_f = 1",
        "astrometry__in___tables": "",
        "photometry__in__stream": "a = 1",
        "cli__in____init__": "a = 1",
        "plotting": "a = 1",
    }
    found = violations(make_package(**others | {module: text}))
    if words is None:
        assert found == []
    else:
        assert len(found) == 1
        assert words in found[0]


def test_circles_are_found(make_package):
    """Circular imports are reported, other imports are not."""
    package = make_package(
        maps__in__a="from ks4_ccd.maps.b import x",
        maps__in__b="def f():\n    from ks4_ccd.maps import c",
        maps__in__c="import ks4_ccd.maps.a",
        maps__in__d="from ks4_ccd.maps.a import y",
        maps__in__e="def f():\n    from ks4_ccd.maps.e import g",
        maps__in__f="from ks4_ccd.plotting import a",
        plotting="",
    )
    assert circles(package) == ["maps.a", "maps.b", "maps.c", "maps.d"]


def test_import_is_light():
    """`import ks4_ccd` loads astropy, gwcs and scipy, and no other heavy package."""
    optional = ("matplotlib", "dask", "distributed", "pyarrow", "astroquery", "lsdb")
    heavy = (*optional, "ccdproc", "asdf", "asdf_astropy", "reproject", "photutils")
    heavy += ("pandas", "pooch", "requests")
    # astropy.nddata of astropy 6.1 imports dask itself.
    code = (
        "import sys, astropy.nddata; before = set(sys.modules); import ks4_ccd; "
        f"print(*(set({heavy}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
