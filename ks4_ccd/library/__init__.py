# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find maps in folders, archives and stores, and download those of DR1."""

from ks4_ccd.library.download import fetch
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.library.store import IngestReport, ingest, verify

__all__ = ["IngestReport", "MapLibrary", "fetch", "ingest", "verify"]
