# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find maps in folders, archives and stores, and download those of DR1."""
