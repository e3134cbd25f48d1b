# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The verb `field`: find the KS4 field of a position."""

import argparse

from astropy import units as u
from astropy.coordinates import Angle, Latitude, SkyCoord

from ks4_ccd.cli._options import Option, Verb
from ks4_ccd.exceptions import OptionError
from ks4_ccd.ks4.names import BANDS
from ks4_ccd.ks4.quality import field_flags, in_dr1
from ks4_ccd.ks4.tiling import field_center, field_of, tile_name

__all__ = ["VERB", "position_in"]


def _run(arguments: argparse.Namespace) -> None:
    position = position_in(arguments.ra, arguments.dec)
    field = str(field_of(position))
    center = field_center(field)
    print(f"field     {field}.{tile_name(field)}")
    print(f"centre    {center.to_string('decimal', precision=4)}")
    print(f"distance  {center.separation(position).deg:.3f} deg from the centre")
    print(f"in DR1    {'yes' if in_dr1(field) else 'no'}")
    for band in BANDS:
        flags = field_flags(field, band)
        print(f"flags {band}   {', '.join(flags) or 'none'}")


def position_in(ra: str, dec: str) -> SkyCoord:
    """Return the position of two words, or raise `OptionError`."""
    ra, dec = ra.strip(), dec.strip()
    try:
        in_degrees = ra.lstrip("+-").replace(".", "", 1).isdigit()
        return SkyCoord(
            Angle(ra, u.deg if in_degrees else u.hourangle), Latitude(dec, u.deg)
        )
    except ValueError as error:
        msg = f"{ra} {dec} is not a position in RA and declination: {error}"
        raise OptionError(msg) from error


VERB = Verb(
    "field",
    _run,
    "find the KS4 field of a position",
    "Print the KS4 field that contains a position, its centre, the distance of the "
    "position from it, whether the field is in DR1, and the flags of DR1 in each band.",
    "field 122.1 -72.3",
    (
        Option("ra", metavar="RA", help="degrees, or hours as 8:08:34"),
        Option("dec", metavar="DEC", help="degrees, or -72:18:00 or -72d18m"),
    ),
)
