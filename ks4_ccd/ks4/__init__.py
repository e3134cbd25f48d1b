# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Facts about KS4 and its DR1: names, tiling, quality, recipe."""

from ks4_ccd.ks4.quality import field_flags, in_dr1
from ks4_ccd.ks4.tiling import field_center, field_of

__all__ = ["field_center", "field_flags", "field_of", "in_dr1"]
