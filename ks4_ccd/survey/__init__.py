# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibrate many images at once."""
