# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Print the report of a validation."""

from collections.abc import Mapping

from astropy import units as u
from astropy.table import Table

__all__ = ["report_of", "scale_of", "title_of"]

_SELECTION = """\
published selection: match within 0.5 arcsec, 14 to 19 mag, flags 0,
CLASS_STAR above 0.8, magnitude error below 0.05"""
_LEGEND = """\
rms, median: of calibrated minus reference; scatter: rms after clipping at 3 sigma
pull: (residual - its median at that magnitude) / quoted error, 1 if that is right;
width: standard deviation after clipping at 3 sigma; MAD: 1.4826 times the median
absolute deviation; +trend: the width without subtracting the median"""


def report_of(table: Table) -> str:
    """
    Return the report of a validation as text.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The numbers: see `~ks4_ccd.Validation`.
    """
    scale, unit = scale_of(table["rms"].unit)
    number = f"{table.meta['matched']} matched stars"
    lines = [title_of(table.meta), _origin(table.meta), f"{number}; {_SELECTION}", ""]
    head = f"{'':20}{'stars':>7}{'rms':>9}{'median':>9}{'scatter':>9}"
    lines.append(f"{head}{'pull: width':>14}{'MAD':>7}{'+trend':>8}")
    units = "".join(f"{unit:>9}" for _ in range(3))
    lines.append(f"{'':27}{units}")
    for name, number, *values in table.iterrows():
        first = "".join(f"{scale * value:9.2f}" for value in values[:3])
        pulls = f"{values[3]:14.3f}{values[4]:7.3f}{values[5]:8.3f}"
        lines.append(f"{name:20}{number:7d}{first}{pulls}")
    return "\n".join([*lines, "", _LEGEND])


def scale_of(unit: u.UnitBase) -> tuple[float, str]:
    """Return the factor to the unit in which residuals are shown, and this unit."""
    return (1000.0, "mmag") if unit == "mag" else (1.0, "mas")


def title_of(meta: Mapping) -> str:
    """Return what was validated, in a line."""
    what = "positions" if meta["kind"] == "offset" else "magnitudes"
    words = f"{meta['band']} {meta['mode']} {meta.get('aperture', '')}".rstrip()
    if "recipe" in meta:
        edges = " with edges" if meta["edges"] else ""
        how = f'{meta["folds"]}-fold, recipe "{meta["recipe"]}"{edges}'
    elif meta["calibration"] == "map":
        how = "with a given map"
    elif meta["kind"] == "offset":
        how = "uncorrected"
    else:
        how = f"zero point {meta['calibration']:g}"
    return f"Residual {what}, {words}: {how}"


def _origin(meta: Mapping) -> str:
    if "recipe" in meta:
        return "held-out stars: each star was left out of the map that calibrated it"
    return "NOT held-out stars: the calibration may have been made from them"
