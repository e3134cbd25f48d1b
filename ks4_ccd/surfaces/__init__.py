# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Smooth surfaces with steps through scattered points."""
