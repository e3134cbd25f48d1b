# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibration maps of any camera: cells, interpolation, uncertainties."""

from ks4_ccd.maps.color import ColorTerm
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap

__all__ = [
    "ColorTerm",
    "MapGrid",
    "MapKey",
    "MisalignmentMap",
    "OffsetMap",
    "ZeroPointMap",
]
