# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command `ks4-ccd`: one verb, one public function."""

import argparse
import os
import sys
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path

import ks4_ccd
from ks4_ccd._targets import targets_of
from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.release.names import APERTURES, BANDS, MODES

__all__ = ["main"]

_EPILOG = """\
examples:
  ks4-ccd demo --out demo
  ks4-ccd maps KS4_DR1_ZeroPoint_Maps.tar.gz
  ks4-ccd calibrate stack.fits --maps KS4_DR1_*.tar.gz -o calibrated.fits
  ks4-ccd plot KS4_DR1_*.tar.gz --field 0403 --band R -o map.png
  ks4-ccd field 122.1 -72.3
"""


def main(argv=None):
    """
    Run the command.

    Parameters
    ----------
    argv : list of str, optional
        The arguments, by default those of the process.

    Returns
    -------
    status : int
        0, or 1 if something could not be done. Wrong usage exits with 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["field"] and not {"-h", "--help", "--"} & set(argv):
        # A declination of -62:30:00 is not an option.
        argv.insert(1, "--")
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("always", KS4Warning)
        warnings.showwarning = _show_warning
        try:
            return arguments.run(arguments) or 0
        except BrokenPipeError:
            # Whoever reads the output has seen enough, as `head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (KS4Error, OSError) as error:
            if arguments.debug:
                raise
            return _complain(error)
        except KeyboardInterrupt:
            return _complain("interrupted; no partial file is left") and 130


def _complain(error):
    print(f"ks4-ccd: {error}", file=sys.stderr)
    return 1


def _show_warning(message, category, *_, **__):
    print(f"ks4-ccd: {category.__name__}: {message}", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser(
        prog="ks4-ccd",
        description="Apply the calibration maps of the KMTNet Synoptic Survey.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=ks4_ccd.__version__)
    parser.add_argument(
        "--debug", action="store_true", help="show where in the code an error arose"
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_demo, _add_calibrate, _add_maps, _add_plot, _add_field):
        add(verbs)
    return parser


def _add_verb(verbs, name, run, summary, description):
    verb = verbs.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    verb.set_defaults(run=run)
    return verb


def _add_demo(verbs):
    verb = _add_verb(
        verbs,
        "demo",
        _demo,
        "simulate a field, calibrate it and compare with the truth",
        "Simulate a KS4 field with its maps, calibrate its image through the archives "
        "as with real ones, and print how far the zero point is from the truth before "
        "and after. Needs no data and takes well under half a minute.",
    )
    verb.add_argument("--out", metavar="DIR", default="ks4-demo", help="where to write")
    verb.add_argument("--seed", type=int, default=0, help="of the random numbers")


def _add_calibrate(verbs):
    verb = _add_verb(
        verbs,
        "calibrate",
        _calibrate,
        "give images the same zero point everywhere",
        "Find the map of each image's field (FIELD1) and band (FILTER), and write the "
        "image, its uncertainty (extension UNCERT) and mask (MASK) calibrated. A "
        "cut-out says itself which part of the stack it is (WCS, LTV1 and LTV2).",
    )
    verb.add_argument("images", metavar="IMAGE", nargs="+", help="FITS files")
    _add_map_options(verb)
    verb.add_argument(
        "--offsets",
        metavar="PATH",
        nargs="+",
        help="folders or archives with offset maps: correct the positions, too",
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
        "--zp-error",
        choices=("propagate", "ignore"),
        default="propagate",
        help="whether the zero point's error goes into the uncertainty",
    )
    verb.add_argument(
        "--error-kind",
        choices=("scatter", "median"),
        default="scatter",
        help="that error: the scatter of a cell's stars, or that of their median",
    )
    verb.add_argument(
        "--uncalibrated",
        choices=("mask", "fill", "raise"),
        default="mask",
        help="what becomes of pixels far from any cell with stars",
    )
    verb.add_argument(
        "--origin",
        type=float,
        nargs=2,
        metavar=("X", "Y"),
        help="first pixel of the image on the stack, from 0, if it does not say so",
    )
    verb.add_argument("--field", help="the field, if the header does not name it")
    verb.add_argument("--band", choices=BANDS, help="the band, likewise")
    verb.add_argument(
        "--recalibrate",
        action="store_true",
        help="calibrate even what was calibrated before",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace existing files")
    verb.add_argument(
        "-o",
        dest="out",
        metavar="OUT|DIR",
        help="the file for one image (ends in .fits), or a folder; by default "
        "IMAGE_cal.fits beside each image",
    )


def _add_map_options(verb, positional=False):
    if positional:
        verb.add_argument("maps", metavar="PATH", nargs="+", help="folders or archives")
    else:
        verb.add_argument(
            "--maps",
            metavar="PATH",
            nargs="+",
            required=True,
            help="folders or archives (.tar, .tar.gz) with the maps",
        )
    verb.add_argument(
        "--aperture", choices=APERTURES, default="APER5", help="aperture of the map"
    )
    verb.add_argument(
        "--mode", choices=(*MODES, "Idual"), default="single", help="mode of the map"
    )
    verb.add_argument(
        "--smooth",
        type=float,
        nargs="?",
        const=0.8,
        metavar="CELLS",
        help="smooth the map, weighted by star counts, on this scale (by itself, 0.8)",
    )
    verb.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("NX", "NY"),
        default=(22000, 22000),
        help="pixels of the whole stacks that the maps cover",
    )


def _add_maps(verbs):
    verb = _add_verb(
        verbs,
        "maps",
        _maps,
        "list the maps in folders and archives",
        "List the maps that can be loaded, and which of their arrays are there.",
    )
    verb.add_argument("maps", metavar="PATH", nargs="+", help="folders or archives")
    verb.add_argument(
        "--format", help="write the table in a format of astropy, such as ascii.csv"
    )


def _add_plot(verbs):
    verb = _add_verb(
        verbs,
        "plot",
        _plot,
        "draw a map",
        "Draw a map in the orientation of the image and write a picture of it.",
    )
    _add_map_options(verb, positional=True)
    verb.add_argument("--field", required=True, help="0403, 122-72 or 0403.122-72")
    verb.add_argument("--band", required=True, choices=BANDS, help="the filter")
    verb.add_argument(
        "--kind",
        choices=("zeropoint", "misalignment", "offset"),
        default="zeropoint",
        help="which map of the field",
    )
    verb.add_argument(
        "--part",
        choices=("values", "error", "count"),
        default="values",
        help="which array of the map",
    )
    verb.add_argument(
        "-o", dest="out", metavar="PNG", default="map.png", help="the picture"
    )


def _add_field(verbs):
    verb = _add_verb(
        verbs,
        "field",
        _field,
        "tell which field a position is in",
        "Tell the KS4 field of a position, where in it the position is, and what the "
        "release flags about it.",
    )
    verb.add_argument("ra", metavar="RA", help="degrees, or hours as 8:08:34")
    verb.add_argument("dec", metavar="DEC", help="degrees, or -72:18:00 or -72d18m")


def _demo(arguments):
    from ks4_ccd.demo import run_demo

    run_demo(arguments.out, seed=arguments.seed)


def _open_library(arguments, paths=None):
    columns, rows = arguments.image_size
    return ks4_ccd.MapLibrary(paths or arguments.maps, image_shape=(rows, columns))


def _calibrate(arguments):
    images = [Path(image) for image in arguments.images]
    targets = targets_of(images, arguments.out)
    names = ("mode", "aperture", "smooth", "zeropoint", "method", "zp_error")
    names += ("error_kind", "uncalibrated", "origin", "unit")
    names += ("recalibrate", "overwrite")
    options = {name: getattr(arguments, name) for name in names}
    status = 0
    with ExitStack() as opened:
        maps = library = opened.enter_context(_open_library(arguments))
        offsets = None
        if arguments.offsets:
            offsets = opened.enter_context(_open_library(arguments, arguments.offsets))
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
                target.parent.mkdir(parents=True, exist_ok=True)
                ks4_ccd.calibrate_file(image, target, maps, offsets=offsets, **options)
            except (KS4Error, OSError) as error:
                if arguments.debug or len(images) == 1:
                    raise
                status = _complain(f"{image}: {error}")
            else:
                print(f"{image} -> {target}")
    return status


def _maps(arguments):
    from astropy.io.registry import IORegistryError

    with ks4_ccd.MapLibrary(arguments.maps) as library:
        table = library.table()
    if arguments.format is None:
        print("\n".join(table.pformat(max_lines=-1, max_width=-1, show_unit=False)))
        return
    with tempfile.TemporaryDirectory() as folder:
        # Some of astropy's writers want a file, and text and bytes differ.
        path = Path(folder) / "maps"
        try:
            table.write(path, format=arguments.format)
        except (IORegistryError, OSError, ValueError, TypeError, ImportError) as error:
            msg = f"--format {arguments.format}: {str(error).splitlines()[0]}"
            raise KS4Error(msg) from error
        sys.stdout.flush()
        sys.stdout.buffer.write(path.read_bytes())


def _plot(arguments):
    where = arguments.field, arguments.band, arguments.mode
    with _open_library(arguments) as library:
        if arguments.kind == "zeropoint":
            drawn = library.zeropoint(*where, arguments.aperture)
        else:
            drawn = getattr(library, arguments.kind)(*where)
    if arguments.smooth is not None:
        drawn = drawn.smoothed(arguments.smooth)
    ax = drawn.plot(part=arguments.part)
    try:
        ax.figure.savefig(arguments.out, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        msg = f"cannot write {arguments.out}: {error}"
        raise KS4Error(msg) from error
    print(arguments.out)


def _field(arguments):
    from ks4_ccd.release.quality import in_dr1
    from ks4_ccd.release.tiling import field_center, field_of, tile_name

    position = _position(arguments.ra, arguments.dec)
    field = field_of(position)
    center = field_center(field)
    print(f"field     {field}.{tile_name(field)}")
    print(f"centre    {center.to_string('decimal', precision=4)}")
    print(f"distance  {center.separation(position).deg:.3f} deg from the centre")
    print(f"in DR1    {'yes' if in_dr1(field) else 'no'}")
    for band in BANDS:
        flags = ks4_ccd.field_flags(field, band)
        print(f"flags {band}   {', '.join(flags) or 'none'}")


def _position(ra, dec):
    from astropy import units as u
    from astropy.coordinates import Angle, Latitude, SkyCoord

    try:
        in_degrees = ra.lstrip("+-").replace(".", "", 1).isdigit()
        return SkyCoord(
            Angle(ra, u.deg if in_degrees else u.hourangle), Latitude(dec, u.deg)
        )
    except ValueError as error:
        msg = f"{ra} {dec} is not a position in RA and declination: {error}"
        raise KS4Error(msg) from error


if __name__ == "__main__":
    sys.exit(main())
