# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Provide schemas, manifests and converters to asdf, as entry points."""

from importlib.resources import files

from asdf.extension import ManifestExtension
from asdf.resource import DirectoryResourceMapping

from ks4_ccd.astrometry.asdf import converters

__all__ = ["MANIFESTS", "get_extensions", "get_resource_mappings"]

_AUTHORITY = "asdf://ks4-ccd.org"

# The newest first: asdf writes with the first extension that supports a type. A
# released manifest is never changed or removed, because old files require it. A
# change is a new manifest at the top.
MANIFESTS = ("ks4_ccd-1.0.0",)


def get_resource_mappings() -> list[DirectoryResourceMapping]:
    """
    Return the locations of the schemas and manifests.

    Returns
    -------
    mappings : list of `~asdf.resource.DirectoryResourceMapping`
    """
    resources = files("ks4_ccd.astrometry.asdf") / "resources"
    return [
        DirectoryResourceMapping(resources / kind, f"{_AUTHORITY}/{kind}/")
        for kind in ("schemas", "manifests")
    ]


def get_extensions() -> list[ManifestExtension]:
    """
    Return the extensions that write and read the models of this package.

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
