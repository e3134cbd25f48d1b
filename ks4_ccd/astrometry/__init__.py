# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Offset maps as steps of a world coordinate system."""
