# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Define the recipe of DR1.

``method="dr1"`` of `~ks4_ccd.apply_zeropoint` and `~ks4_ccd.calibrate_file` repeats
the image homogenization of DR1: the flux factor ``10**(0.4 (zeropoint - value))``,
with a value of 30 in empty cells, is interpolated linearly after stretching the map
from the first to the last pixel of the image, and published uncertainties are quoted
unchanged. In `~ks4_ccd.calibrate_catalog` it gives the values of the cell of a source,
empty or not, as in the catalogs of DR1.
"""

from ks4_ccd.maps.key import EMPTY_MARKS

__all__ = [
    "ASTROMETRIC_RANGE",
    "EMPTY_ZEROPOINT",
    "LARGEST_MAGNITUDE_ERROR",
    "MATCH_RADIUS",
    "METHOD",
    "PHOTOMETRIC_RANGE",
    "WINDOW_PADDING",
]

# The name of the recipe among the methods of interpolation.
METHOD = "dr1"

# The value of a cell without stars in a zero-point map.
EMPTY_ZEROPOINT = EMPTY_MARKS["zp"]

# Separation, in degrees, below which a star is used for zero points; larger if the
# scatter of positions is larger. The published accuracy refers to such stars.
MATCH_RADIUS = 0.5 / 3600

# Magnitudes of the stars used for positions (in G, or V) and for zero points (in
# the band of the map), and their largest uncertainty (in AUTO).
ASTROMETRIC_RANGE = 14.0, 20.0
PHOTOMETRIC_RANGE = 14.0, 19.0
LARGEST_MAGNITUDE_ERROR = 0.05

# Windows of astrometric cells extend by two cells on each side: 1000 pixels around
# cells of 200.
WINDOW_PADDING = 2
