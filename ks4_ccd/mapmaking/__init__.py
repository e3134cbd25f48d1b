# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Make calibration maps from star catalogs."""

from ks4_ccd.mapmaking.builders import (
    build_maps,
    build_misalignment_map,
    build_offset_map,
    build_zeropoint_map,
)
from ks4_ccd.mapmaking.gaia import reference_stars
from ks4_ccd.mapmaking.matching import match_catalogs
from ks4_ccd.mapmaking.reference import ReferenceColumns, read_reference
from ks4_ccd.mapmaking.validation import Validation, cross_validate

__all__ = [
    "ReferenceColumns",
    "Validation",
    "build_maps",
    "build_misalignment_map",
    "build_offset_map",
    "build_zeropoint_map",
    "cross_validate",
    "match_catalogs",
    "read_reference",
    "reference_stars",
]
