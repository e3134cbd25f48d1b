# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""FITS images and tables on disk, written completely or not at all."""
