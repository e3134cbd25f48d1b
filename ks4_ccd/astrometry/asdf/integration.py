# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Entry points for asdf: schemas, manifests and converters.

asdf calls these functions in every process that opens a file, with this
package in use or not: they import nothing heavy.
"""

from importlib.resources import files

from asdf.extension import ManifestExtension
from asdf.resource import DirectoryResourceMapping

from ks4_ccd.astrometry.asdf import converters

__all__ = ["MANIFESTS", "get_extensions", "get_resource_mappings"]

_AUTHORITY = "asdf://ks4-ccd.org"

# The newest first: asdf writes with the first extension that knows a type. A
# manifest that has been released is never changed, and never taken out: it is
# what makes old files readable. A change is a new manifest, here on top.
MANIFESTS = ("ks4_ccd-1.0.0",)


def get_resource_mappings():
    """
    Return where asdf finds the schemas and manifests.

    Returns
    -------
    mappings : list of `~asdf.resource.DirectoryResourceMapping`
    """
    resources = files("ks4_ccd.astrometry.asdf") / "resources"
    return [
        DirectoryResourceMapping(resources / kind, f"{_AUTHORITY}/{kind}/")
        for kind in ("schemas", "manifests")
    ]


def get_extensions():
    """
    Return how asdf writes and reads the models of this package.

    Returns
    -------
    extensions : list of `~asdf.extension.ManifestExtension`
    """
    return [
        ManifestExtension.from_uri(
            f"{_AUTHORITY}/manifests/{manifest}",
            converters=[
                converters.LookupDistortionConverter(),
                converters.FITSModelConverter(),
            ],
        )
        for manifest in MANIFESTS
    ]
