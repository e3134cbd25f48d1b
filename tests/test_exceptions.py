# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Errors and warnings: location of their definitions, and base classes."""

import ast
from pathlib import Path

import numpy as np
import pytest

import ks4_ccd
from ks4_ccd import DirectionlessMapError, KS4Error, OptionError, exceptions
from ks4_ccd.cli._options import edges_in
from ks4_ccd.exceptions import finite, one_of
from ks4_ccd.files.images import as_hdu
from ks4_ccd.files.tables import write_table
from ks4_ccd.files.units import as_gain, count_unit
from ks4_ccd.files.writing import as_path, check_suffix
from ks4_ccd.photometry.options import CalibrationOptions
from ks4_ccd.plotting import plot_calibration, plot_map
from ks4_ccd.survey.targets import targets_of

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
    """Every error can be imported from the package."""
    classes = {name for name in exceptions.__all__ if name[0].isupper()}
    assert classes <= set(ks4_ccd.__all__)
    for name in classes - {"KS4Warning"}:
        assert issubclass(getattr(ks4_ccd, name), KS4Error)


@pytest.mark.parametrize("value", ["cubic", 1, None, ["nearest"]])
def test_a_wrong_option_is_a_value_error(value):
    """The message lists the allowed values and the given one."""
    with pytest.raises(
        ValueError, match="method must be one of nearest, dr1"
    ) as caught:
        one_of("method", value, ("nearest", "dr1"))
    assert isinstance(caught.value, OptionError)
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize("value", [np.nan, "inf", [1.0], None, 1j])
def test_a_number_that_is_not_finite_is_a_value_error(value):
    """Strings of numbers are accepted, as on the command line."""
    with pytest.raises(OptionError, match="zeropoint must be a finite number"):
        finite("zeropoint", value)
    assert finite("zeropoint", "30") == 30.0


def test_misalignment_maps_have_no_components():
    """`hasattr` returns False, and the error explains why."""
    values = np.ones((2, 2))
    grid = ks4_ccd.MapGrid((2, 2), 10)
    found = ks4_ccd.MisalignmentMap(values, values, values, grid=grid)
    assert not hasattr(found, "dra")
    with pytest.raises(DirectionlessMapError, match="direction"):
        _ = found.ddec


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        # files
        (lambda: as_path("out", 3), "out must be the name of a file"),
        (lambda: check_suffix(Path("x.png")), "target must end in .fits"),
        (lambda: as_hdu(-1), "hdu must be the number of an HDU"),
        (lambda: as_gain(4.8), "gain must be a positive Quantity"),
        (lambda: count_unit("unit", "nJy"), "unit must be a unit of counts"),
        (lambda: write_table(ks4_ccd.in_dr1, "x.dat"), "expected a suffix such as"),
        # ks4
        (lambda: ks4_ccd.field_center("9999"), "expected 0000 to 2748"),
        (lambda: ks4_ccd.field_flags("0403", "U"), "band must be one of B, V, R, I"),
        (lambda: ks4_ccd.field_of("0403"), "coord must be a SkyCoord"),
        # library
        (lambda: ks4_ccd.MapLibrary([]), "path must name at least one folder"),
        (lambda: ks4_ccd.fetch("flux"), "families must be one of zp"),
        (lambda: ks4_ccd.ingest("x.tar", "x.fits"), "store must be a file named"),
        (lambda: ks4_ccd.ingest("x.zip", "x.ks4maps"), "must be an archive of maps"),
        # photometry
        (lambda: CalibrationOptions(unit="mag"), "unit must be a unit to which nJy"),
        (lambda: CalibrationOptions(method="cubic"), "method must be one of"),
        (lambda: ks4_ccd.apply_zeropoint(None, None), "zpmap must be a ZeroPointMap"),
        # survey
        (
            lambda: targets_of([Path("x.fits")], "x.fits.gz"),
            "expected an uncompressed file",
        ),
        (lambda: ks4_ccd.calibrate_many("x", "y", "z"), "images must be a list"),
        # cli
        (lambda: edges_in(["z=4"], "--edges"), "--edges must be given as x=1375"),
        # plotting
        (lambda: plot_map(None, part="error"), "None has no error to plot"),
        (lambda: plot_calibration(None, None, {}), "residuals must be two or more"),
    ],
)
def test_wrong_options_of_all_rooms_are_value_errors(call, expected):
    """A wrong option raises a KS4Error and ValueError whose message names it."""
    with pytest.raises(ValueError, match=expected) as caught:
        call()
    assert isinstance(caught.value, OptionError)
