# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Locate images on maps, and correct their WCS by offset maps."""
