# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The options of a calibration are the same for images, files and batches."""

from dataclasses import FrozenInstanceError, fields
from inspect import signature

import numpy as np
import pytest
from astropy import units as u

from ks4_ccd import (
    KS4Error,
    OptionError,
    apply_zeropoint,
    calibrate_file,
    calibrate_many,
)
from ks4_ccd.photometry.options import CalibrationOptions, FileCalibrationOptions


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (apply_zeropoint, CalibrationOptions),
        (calibrate_file, FileCalibrationOptions),
        (calibrate_many, FileCalibrationOptions),
    ],
)
def test_functions_have_all_options(function, options):
    """Keywords and defaults are those of the class."""
    keywords = signature(function).parameters
    defaults = {field.name: field.default for field in fields(options)}
    assert {name: keywords[name].default for name in defaults} == defaults


def test_options_are_recorded_if_given():
    """Recorded options are numbers and text, as in the manifest of a batch."""
    options = FileCalibrationOptions(gain=4.8 * u.electron / u.adu, unit=u.nJy)
    recorded = options.as_dict()
    assert recorded["gain"] == "4.8 electron / adu"
    assert recorded["unit"] == "nJy"
    assert "smooth" not in recorded
    assert FileCalibrationOptions(unit="nJy").as_dict()["unit"] == "nJy"


def test_edges_are_recorded_as_numbers():
    """Edges become tuples, which are compared and recorded; "none" has no edges."""
    options = FileCalibrationOptions(denoise=(np.array([3, 1]), []))
    assert options.as_dict()["denoise"] == ((1.0, 3.0), ())
    assert FileCalibrationOptions(denoise="none").denoise == ((), ())
    assert "denoise" not in FileCalibrationOptions().as_dict()
    with pytest.raises(OptionError, match='method="dr1"'):
        FileCalibrationOptions(denoise="none", method="dr1")


def test_options_are_checked_once():
    """Options are checked at creation, and cannot be changed afterwards."""
    with pytest.raises(KS4Error, match="hdu must be"):
        FileCalibrationOptions(hdu=1.5)
    with pytest.raises(KS4Error, match="smooth must be"):
        FileCalibrationOptions(smooth="x")
    with pytest.raises(FrozenInstanceError):
        CalibrationOptions().method = "nearest"
