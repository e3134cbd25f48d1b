# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Facts about KS4 and its DR1: names, tiling, quality, recipe."""
