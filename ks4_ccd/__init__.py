# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The calibration maps of the KMTNet Synoptic Survey, for astropy.

All public names are imported here. ``format="ks4"`` of `CCDData.read
<astropy.nddata.CCDData>` and ``CCDData.write`` is registered as well.
"""

# ruff: noqa: E402 (Ctrl-C is handled from here on)
from ks4_ccd.cli._early_exit import exit_early_from_command

exit_early_from_command()

from importlib.metadata import version

import ks4_ccd.astrometry.connect  # noqa: F401 (registers format="ks4")
from ks4_ccd.astrometry import (
    LookupDistortion,
    add_lookup_tables,
    apply_offsets,
    correct_wcs,
)
from ks4_ccd.catalogs import SourceColumns, calibrate_catalog
from ks4_ccd.exceptions import (
    AlreadyCalibratedError,
    BrokenArchiveError,
    DirectionlessMapError,
    DownloadError,
    FileWriteError,
    GeometryError,
    KS4Error,
    KS4Warning,
    MapFormatError,
    MapMismatchError,
    MapNotFoundError,
    OptionError,
    SeveralImagesError,
    StoreError,
)
from ks4_ccd.ks4 import field_center, field_flags, field_of, in_dr1
from ks4_ccd.library import IngestReport, MapLibrary, fetch, ingest, verify
from ks4_ccd.mapmaking import (
    ReferenceColumns,
    Validation,
    build_maps,
    build_misalignment_map,
    build_offset_map,
    build_zeropoint_map,
    cross_validate,
    match_catalogs,
    read_reference,
    reference_stars,
)
from ks4_ccd.maps import (
    ColorTerm,
    MapGrid,
    MapKey,
    MisalignmentMap,
    OffsetMap,
    ZeroPointMap,
)
from ks4_ccd.photometry import apply_zeropoint, calibrate_file, remove_zeropoint
from ks4_ccd.plotting import plot_map, plot_offsets
from ks4_ccd.simulation import SimulatedField, simulate_field
from ks4_ccd.survey import calibrate_many

__version__ = version("ks4_ccd")

__all__ = [
    "AlreadyCalibratedError",
    "BrokenArchiveError",
    "ColorTerm",
    "DirectionlessMapError",
    "DownloadError",
    "FileWriteError",
    "GeometryError",
    "IngestReport",
    "KS4Error",
    "KS4Warning",
    "LookupDistortion",
    "MapFormatError",
    "MapGrid",
    "MapKey",
    "MapLibrary",
    "MapMismatchError",
    "MapNotFoundError",
    "MisalignmentMap",
    "OffsetMap",
    "OptionError",
    "ReferenceColumns",
    "SeveralImagesError",
    "SimulatedField",
    "SourceColumns",
    "StoreError",
    "Validation",
    "ZeroPointMap",
    "__version__",
    "add_lookup_tables",
    "apply_offsets",
    "apply_zeropoint",
    "build_maps",
    "build_misalignment_map",
    "build_offset_map",
    "build_zeropoint_map",
    "calibrate_catalog",
    "calibrate_file",
    "calibrate_many",
    "correct_wcs",
    "cross_validate",
    "fetch",
    "field_center",
    "field_flags",
    "field_of",
    "in_dr1",
    "ingest",
    "match_catalogs",
    "plot_map",
    "plot_offsets",
    "read_reference",
    "reference_stars",
    "remove_zeropoint",
    "simulate_field",
    "verify",
]
