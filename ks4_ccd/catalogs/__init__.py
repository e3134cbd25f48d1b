# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Source tables: columns, calibration and positions."""

from ks4_ccd.catalogs.calibration import calibrate_catalog
from ks4_ccd.catalogs.columns import SourceColumns

__all__ = ["SourceColumns", "calibrate_catalog"]
