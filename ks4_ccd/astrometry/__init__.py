# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where an image lies on a map, and offset maps as steps of its WCS."""
