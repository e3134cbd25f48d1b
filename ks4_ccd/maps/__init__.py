# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibration maps of any camera: cells, interpolation, uncertainties."""
