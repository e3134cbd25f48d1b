# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Locate images on maps, and correct their WCS by offset maps."""

from ks4_ccd.astrometry.correction import correct_wcs
from ks4_ccd.astrometry.distortion import LookupDistortion
from ks4_ccd.astrometry.wcs import add_lookup_tables, apply_offsets

__all__ = ["LookupDistortion", "add_lookup_tables", "apply_offsets", "correct_wcs"]
