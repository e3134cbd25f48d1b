# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The numbers of the recipe that DR1 was made with."""

__all__ = ["EMPTY_ZEROPOINT", "NARROWEST_MATCH", "WINDOW_PADDING"]

# The value of a cell without stars in a zero-point map.
EMPTY_ZEROPOINT = 30.0

# Stars nearer than this were matched in any case: 0.5 arcsec, in degrees.
NARROWEST_MATCH = 0.5 / 3600

# Windows of astrometric cells extend by two cells on each side: 1000 pixels around
# cells of 200.
WINDOW_PADDING = 2
