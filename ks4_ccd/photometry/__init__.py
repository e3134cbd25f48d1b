# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Apply zero-point maps to images, in memory and from file to file."""

from ks4_ccd.photometry.stream import calibrate_file
from ks4_ccd.photometry.zeropoint import apply_zeropoint, remove_zeropoint

__all__ = ["apply_zeropoint", "calibrate_file", "remove_zeropoint"]
