# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The format "ks4" made known to astropy, as soon as there is a CCDData.

astropy's registry wants the class, and importing it costs more than all of
this package: so it is registered when somebody else imports it.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder

__all__ = ["register", "register_with_astropy"]

_AWAITED = "astropy.nddata"


def register():
    """Register the reader and the writer of the format "ks4"."""
    from astropy.io import registry
    from astropy.nddata import CCDData

    from ks4_ccd.astrometry.nddata_io import read_ccd, write_ccd

    # There is no identifier: the format is only used when it is asked for.
    with registry.delay_doc_updates(CCDData):
        registry.register_reader("ks4", CCDData, read_ccd, force=True)
        registry.register_writer("ks4", CCDData, write_ccd, force=True)


def register_with_astropy():
    """Register the format now, or when `astropy.nddata` is imported."""
    if _AWAITED in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Leaves every import to the finders behind it, and sees one go by."""

    def find_spec(self, name, path=None, target=None):
        if name != _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                register()

            spec.loader.exec_module = exec_module
        return spec
