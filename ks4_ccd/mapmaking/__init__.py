# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Make calibration maps from star catalogs."""
