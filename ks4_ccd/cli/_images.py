# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Verbs about images: demo and calibrate."""

from contextlib import ExitStack
from pathlib import Path

from ks4_ccd.cli._options import (
    add_map_options,
    add_verb,
    complain,
    file_name,
    hdu_in,
    open_library,
)
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.files.units import as_gain
from ks4_ccd.files.writing import make_folder
from ks4_ccd.ks4.names import BANDS
from ks4_ccd.photometry.stream import calibrate_file
from ks4_ccd.survey.targets import targets_of

__all__ = [
    "add_calibrate",
    "add_calibration_options",
    "add_demo",
    "calibration_options",
]


def add_demo(verbs):
    verb = add_verb(
        verbs,
        "demo",
        _demo,
        "simulate a field, calibrate it and compare with the truth",
        "Simulate a KS4 field with its maps, calibrate its image through the archives "
        "as with real ones, and print how far the zero point is from the truth before "
        "and after. Needs no data and takes well under half a minute.",
    )
    verb.add_argument(
        "--out",
        type=file_name,
        metavar="DIR",
        default="ks4-demo",
        help="where to write",
    )
    verb.add_argument("--seed", type=int, default=0, help="of the random numbers")


def add_calibrate(verbs):
    verb = add_verb(
        verbs,
        "calibrate",
        _calibrate,
        "give images the same zero point everywhere",
        "Find the map of each image's field (FIELD1) and band (FILTER), and write the "
        "image, its uncertainty (extension UNCERT) and mask (MASK) calibrated. A "
        "cut-out says itself which part of the stack it is (WCS, LTV1 and LTV2).",
    )
    verb.add_argument("images", metavar="IMAGE", nargs="+", help="FITS files")
    add_calibration_options(verb)
    verb.add_argument(
        "--origin",
        type=float,
        nargs=2,
        metavar=("X", "Y"),
        help="for a cut-out without a WCS, its first pixel on the whole stack, from 0; "
        "a WCS has to agree",
    )
    verb.add_argument("--field", help="the field, if the header does not name it")
    verb.add_argument("--band", choices=BANDS, help="the band, likewise")
    verb.add_argument(
        "-o",
        dest="out",
        type=file_name,
        metavar="OUT|DIR",
        help="the file for one image (ends in .fits), or a folder; by default "
        "IMAGE_cal.fits beside each image",
    )


def add_calibration_options(verb):
    """Add the options that any number of images have in common."""
    add_map_options(verb)
    verb.add_argument(
        "--offsets",
        metavar="PATH",
        nargs="+",
        help="folders, archives or stores with offset maps: correct the positions, too",
    )
    verb.add_argument(
        "--method",
        choices=("bilinear", "nearest", "dr1"),
        default="bilinear",
        help="interpolation between cells; dr1 repeats what the release did",
    )
    verb.add_argument(
        "--zeropoint", type=float, default=30.0, help="AB zero point of the result"
    )
    verb.add_argument("--unit", help="give fluxes in this unit, such as nJy")
    verb.add_argument(
        "--gain",
        type=float,
        metavar="GAIN",
        help="for images in electrons (BUNIT): the gain of the detector in electron / "
        "adu, such as 4.8, by which they are converted to adu, the unit of the maps; "
        "an image in adu needs none",
    )
    verb.add_argument(
        "--zp-error",
        choices=("propagate", "ignore"),
        default="propagate",
        help="whether the zero point's error goes into the uncertainty",
    )
    verb.add_argument(
        "--error-kind",
        choices=("scatter", "median"),
        default="scatter",
        help="that error: how far a star lies from the map (scatter), or the standard "
        "error of the map's value (median)",
    )
    verb.add_argument(
        "--uncalibrated",
        choices=("mask", "fill", "raise"),
        default="mask",
        help="what becomes of pixels far from any cell with stars",
    )
    verb.add_argument(
        "--hdu",
        type=hdu_in,
        metavar="HDU",
        help="the image to calibrate, in files that contain several of one shape: the "
        "number of its HDU (0 is the primary one), its EXTNAME, or EXTNAME,EXTVER; the "
        "others are left out",
    )
    verb.add_argument(
        "--recalibrate",
        action="store_true",
        help="calibrate even what was calibrated before",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace existing files")


def calibration_options(arguments):
    """Return those of them that need no library, as `calibrate_file` has them."""
    names = ("mode", "aperture", "smooth", "zeropoint", "method", "zp_error")
    names += ("error_kind", "uncalibrated", "unit", "recalibrate", "overwrite", "hdu")
    options = {name: getattr(arguments, name) for name in names}
    if arguments.gain is not None:
        options["gain"] = as_gain(f"{arguments.gain!r} electron / adu")
    return options


def _demo(arguments):
    from ks4_ccd.simulation.demo import run_demo

    run_demo(arguments.out, seed=arguments.seed)


def _calibrate(arguments):
    images = [Path(image) for image in arguments.images]
    targets = targets_of(images, arguments.out)
    options = calibration_options(arguments) | {"origin": arguments.origin}
    status = 0
    with ExitStack() as opened:
        maps = library = opened.enter_context(open_library(arguments))
        offsets = None
        if arguments.offsets:
            offsets = opened.enter_context(open_library(arguments, arguments.offsets))
        if arguments.field or arguments.band:
            if not (arguments.field and arguments.band):
                msg = "--field and --band go together: they name the map"
                raise KS4Error(msg)
            maps = library.zeropoint(
                arguments.field, arguments.band, arguments.mode, arguments.aperture
            )
            if offsets is not None:
                where = arguments.field, arguments.band, arguments.mode
                offsets = offsets.offset(*where)
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
