# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""ASDF: the distortion of an offset map, written and read with its gWCS."""
