# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Apply zero-point maps to images, in memory and from file to file."""
