# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Verbs about the release: maps, plot and field."""

import sys
import tempfile
from pathlib import Path

from ks4_ccd.cli._options import (
    add_map_options,
    add_verb,
    file_name,
    open_library,
)
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.names import BANDS
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.plotting import new_figure

__all__ = ["add_field", "add_maps", "add_plot"]


def add_maps(verbs):
    verb = add_verb(
        verbs,
        "maps",
        _maps,
        "list the maps in folders and archives",
        "List the maps that can be loaded, and which of their arrays are there.",
    )
    verb.add_argument(
        "maps", metavar="PATH", nargs="+", help="folders, archives or stores"
    )
    verb.add_argument(
        "--format", help="write the table in a format of astropy, such as ascii.csv"
    )


def add_plot(verbs):
    verb = add_verb(
        verbs,
        "plot",
        _plot,
        "draw a map",
        "Draw a map in the orientation of the image and write a picture of it.",
    )
    add_map_options(verb, positional=True)
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
        "-o",
        dest="out",
        type=file_name,
        metavar="PNG",
        default="map.png",
        help="the picture",
    )


def add_field(verbs):
    verb = add_verb(
        verbs,
        "field",
        _field,
        "tell which field a position is in",
        "Tell the KS4 field of a position, where in it the position is, and what the "
        "release flags about it.",
    )
    verb.add_argument("ra", metavar="RA", help="degrees, or hours as 8:08:34")
    verb.add_argument("dec", metavar="DEC", help="degrees, or -72:18:00 or -72d18m")


def _maps(arguments):
    from astropy.io.registry import IORegistryError

    with MapLibrary(arguments.maps) as library:
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
    with open_library(arguments) as library:
        if arguments.kind == "zeropoint":
            drawn = library.zeropoint(*where, arguments.aperture)
        else:
            drawn = getattr(library, arguments.kind)(*where)
    if arguments.smooth is not None:
        drawn = drawn.smoothed(arguments.smooth)
    # No window is opened, whatever the backend of pyplot is.
    figure = new_figure((6.4, 5.6))
    drawn.plot(figure.subplots(), part=arguments.part)
    try:
        figure.savefig(arguments.out, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        msg = f"cannot write {arguments.out}: {error}"
        raise KS4Error(msg) from error
    print(arguments.out)


def _field(arguments):
    from ks4_ccd.ks4.quality import field_flags, in_dr1
    from ks4_ccd.ks4.tiling import field_center, field_of, tile_name

    position = _position(arguments.ra, arguments.dec)
    field = field_of(position)
    center = field_center(field)
    print(f"field     {field}.{tile_name(field)}")
    print(f"centre    {center.to_string('decimal', precision=4)}")
    print(f"distance  {center.separation(position).deg:.3f} deg from the centre")
    print(f"in DR1    {'yes' if in_dr1(field) else 'no'}")
    for band in BANDS:
        flags = field_flags(field, band)
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
