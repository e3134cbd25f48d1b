# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `calibrate`: apply zero-point maps to images."""

import argparse
from contextlib import ExitStack
from pathlib import Path

from ks4_ccd.cli._options import (
    BAND,
    CALIBRATION,
    FIELD,
    ORIGIN,
    OUT,
    Option,
    Verb,
    calibration_options,
    complain,
    open_library,
    open_offsets,
)
from ks4_ccd.exceptions import KS4Error, OptionError
from ks4_ccd.files.writing import make_folder
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry.stream import calibrate_file
from ks4_ccd.survey.targets import targets_of

__all__ = ["VERB"]


def _run(arguments: argparse.Namespace) -> int:
    images = [Path(image) for image in arguments.images]
    targets = targets_of(images, arguments.out)
    options = calibration_options(arguments) | {"origin": arguments.origin}
    status = 0
    with ExitStack() as opened:
        library = opened.enter_context(open_library(arguments))
        offset_library = open_offsets(arguments, opened)
        maps: MapLibrary | ZeroPointMap = library
        offsets: MapLibrary | OffsetMap | None = offset_library
        if arguments.field or arguments.band:
            if not (arguments.field and arguments.band):
                msg = "expected both --field and --band, which choose the map, or none"
                raise OptionError(msg)
            key = arguments.field, arguments.band, arguments.mode
            maps = library.zeropoint(*key, arguments.aperture)
            if offset_library is not None:
                offsets = offset_library.offset(*key)
        for image, target in zip(images, targets, strict=True):
            try:
                make_folder(target.parent)
                calibrate_file(image, target, maps, offsets=offsets, **options)
            except (KS4Error, OSError) as error:
                if arguments.debug or len(images) == 1:
                    raise
                status = complain(f"{image}: {error}")
            else:
                print(f"{image} -> {target}")
    return status


VERB = Verb(
    "calibrate",
    _run,
    "bring every pixel of images to a common zero point",
    "Find the map of each image by its field (FIELD1) and band (FILTER), and write the "
    "image, its uncertainty (extension UNCERT) and mask (MASK) calibrated. The origin "
    "of a cut-out is taken from its header (WCS, LTV1 and LTV2). Exits with 1 if any "
    "image failed.",
    "calibrate stack.fits --maps KS4_DR1_*.tar.gz -o calibrated.fits",
    (
        Option("images", metavar="IMAGE", nargs="+", help="FITS files"),
        *CALIBRATION,
        ORIGIN,
        FIELD.but(help=f"{FIELD.settings['help']}; by default that of the header"),
        BAND.but(help=f"{BAND.settings['help']}; by default that of the header"),
        OUT.but(
            metavar="OUT|DIR",
            help="output file for one image (ends in .fits), or folder; by default "
            "IMAGE_cal.fits beside each image",
        ),
    ),
)
