# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The calibration maps of the KMTNet Synoptic Survey, for astropy.

Public names are imported when they are first used. Importing the package
imports `astropy.nddata` and registers ``format="ks4"`` for `CCDData.read
<astropy.nddata.CCDData>` and ``CCDData.write``.
"""

from importlib import import_module

from ks4_ccd._early_exit import exit_early_from_command

__version__ = "0.1.0"

# Public name: the module that defines it.
_HOMES = {
    "AlreadyCalibratedError": "exceptions",
    "DirectionlessMapError": "exceptions",
    "DownloadError": "exceptions",
    "GeometryError": "exceptions",
    "KS4Error": "exceptions",
    "KS4Warning": "exceptions",
    "MapFormatError": "exceptions",
    "MapMismatchError": "exceptions",
    "MapNotFoundError": "exceptions",
    "StoreError": "exceptions",
    "MapGrid": "grid",
    "MisalignmentMap": "maps",
    "OffsetMap": "maps",
    "ZeroPointMap": "maps",
    "MapKey": "release.names",
    "field_center": "release.tiling",
    "field_of": "release.tiling",
    "field_flags": "release.quality",
    "MapLibrary": "release.library",
    "fetch": "release.fetch",
    "ingest": "release.store",
    "verify": "release.store",
    "apply_zeropoint": "photometry.zeropoint",
    "remove_zeropoint": "photometry.zeropoint",
    "calibrate_file": "photometry.stream",
    "calibrate_catalog": "photometry.catalog",
    "calibrate_many": "batch",
    "LookupDistortion": "astrometry.distortion",
    "add_lookup_tables": "astrometry.wcs",
    "apply_offsets": "astrometry.wcs",
    "correct_wcs": "astrometry.correction",
    "match_catalogs": "build.match",
    "build_maps": "build.maps",
    "build_misalignment_map": "build.maps",
    "build_offset_map": "build.maps",
    "build_zeropoint_map": "build.maps",
    "cross_validate": "build.validate",
    "simulate_field": "simulate",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)


exit_early_from_command()

# Registers format="ks4".
import_module("ks4_ccd.astrometry.nddata_io")
