# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The architecture: imports point one way, and `import ks4_ccd` is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ks4_ccd

PACKAGE = Path(ks4_ccd.__file__).parent

# From the lowest level to the highest. A module imports from its own row and
# from those above it in this list. "name.*" stands for a package and all in it,
# but for modules that an earlier row names.
ROWS = (
    ("exceptions", "_early_exit"),
    (
        "_arguments",
        "_arrows",
        "_calibration_map",
        "_cell_arrays",
        "_cell_errors",
        "_clipped_samples",
        "_figures",
        "_content",
        "_datasum",
        "_files",
        "_hdu_choice",
        "_image_units",
        "_magnitude_zeropoint",
        "_map_errors",
        "_map_files",
        "_mask_files",
        "_neighbours",
        "_node_errors",
        "_pixel_storage",
        "_plane_rows",
        "_residual_figure",
        "_smoothing",
        "_source_columns",
        "_source_image",
        "_stored_hdu",
        "_table_columns",
        "_targets",
        "_uncertainty_headers",
        "_value_map",
        "_votable",
        "grid",
        "plotting",
        "release",
        "release._gzip",
        "release.names",
        "release.quality",
        "release.tiling",
        "sources",
        "table_files",
    ),
    ("maps",),
    ("release.*", "footprint", "_sky_placement", "_source_placement"),
    ("build.*",),
    ("photometry.*", "astrometry.*"),
    ("simulate", "_camera", "_field_files", "_sky", "_stack_header"),
    (
        "batch",
        "_batch_plan",
        "_batch_task",
        "_cluster",
        "_manifest",
        "_run_lock",
        "_worker_start",
    ),
    ("demo",),
    ("cli.*",),
)

# Leaves that may import these modules of the package and no other.
LEAVES = {
    "plotting": {"_arrows", "_figures", "exceptions"},
    "_arrows": set(),
    "_figures": {"exceptions"},
    "_residual_figure": {"_figures"},
}

LONGEST_MODULE = 400


def modules():
    """Return the dotted names of all modules below the package, and their files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts:
            found[".".join(parts)] = path
    return found


MODULES = modules()


def row_of(module):
    """Return the row of a module, `None` if it has none."""
    for number, names in enumerate(ROWS):
        for name in names:
            package = name.removesuffix(".*")
            inside = name.endswith(".*") and module.startswith(f"{package}.")
            if inside or module == package:
                return number
    return None


def imports_of(path, module):
    """Return the names below the package that a file imports, at any depth."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = ["ks4_ccd", *filter(None, package.split("."))]
                above = above[: len(above) - node.level + 1]
                source = ".".join([*above, *filter(None, [source])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
    prefix = "ks4_ccd."
    inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    # `from ks4_ccd.maps import ZeroPointMap` imports the module `maps`
    return {
        name if name in MODULES else name.rpartition(".")[0] or name for name in inside
    }


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_row(module):
    """Every module has its place in the architecture."""
    assert row_of(module) is not None, f"give {module} a row in ROWS"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    """No module imports from a row below its own."""
    imported = imports_of(MODULES[module], module) - {"__version__"}
    strangers = imported - set(MODULES)
    assert not strangers, "import from the module that defines it, not from ks4_ccd"
    rows = {name: row_of(name) for name in imported}
    below = [name for name, row in rows.items() if row is None or row > row_of(module)]
    assert not below


@pytest.mark.parametrize("module", LEAVES)
def test_leaves_import_little(module):
    """A leaf depends on nothing of the package but what is listed."""
    if module not in MODULES:
        pytest.skip(f"there is no module {module}")
    assert imports_of(MODULES[module], module) <= LEAVES[module]


def test_relative_imports_are_resolved(tmp_path):
    """The parser sees through relative imports and imports in functions."""
    path = tmp_path / "zeropoint.py"
    path.write_text(
        "def f():\n    from ..maps import ZeroPointMap\n    from . import b\n"
    )
    found = imports_of(path, "photometry.zeropoint")
    assert "maps" in found
    assert found == {"maps", "photometry"}


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short(module):
    """A module that passes 400 lines is two modules."""
    text = MODULES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE


def test_import_is_light():
    """`import ks4_ccd` loads `astropy.nddata`, and nothing heavy besides."""
    heavy = ("matplotlib", "scipy", "ccdproc", "dask", "asdf", "gwcs", "reproject")
    code = (
        "import sys, astropy.nddata; before = set(sys.modules); import ks4_ccd;"
        f"print(*(set({heavy}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_public_names_are_there():
    """Every name in `__all__` can be had, and `dir` shows it."""
    for name in ks4_ccd.__all__:
        assert getattr(ks4_ccd, name) is not None
    assert set(ks4_ccd.__all__) <= set(dir(ks4_ccd))


def test_unknown_name():
    """A name that does not exist is an AttributeError, lazy imports or not."""
    with pytest.raises(AttributeError, match="no_such_name"):
        ks4_ccd.no_such_name  # noqa: B018
