# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write and read gWCS with the distortion of an offset map as ASDF."""
