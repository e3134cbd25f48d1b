# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Format the report of a validation."""

from collections.abc import Mapping

from astropy import units as u
from astropy.table import Table

__all__ = ["report_of", "scale_of", "title_of"]

_SELECTION = """\
published selection: match within 0.5 arcsec, 14 to 19 mag, flags 0,
CLASS_STAR above 0.8, magnitude error below 0.05"""
_LEGEND = """\
rms, median: of calibrated minus reference; scatter: rms after clipping at 3 sigma
pull: (residual - median residual at that magnitude) / quoted error;
width: standard deviation of pulls after clipping at 3 sigma, expected to be 1;
MAD: 1.4826 times the median absolute deviation of pulls;
+trend: width without subtracting the median residual"""


def report_of(table: Table) -> str:
    """
    Format the report of a validation.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table of a `~ks4_ccd.Validation`.

    Returns
    -------
    report : str
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
    """Return the factor to the unit of residuals in the report, and this unit."""
    return (1000.0, "mmag") if unit == "mag" else (1.0, "mas")


def title_of(meta: Mapping) -> str:
    """Return the title of a report or a figure."""
    quantity = "positions" if meta["kind"] == "offset" else "magnitudes"
    catalog = f"{meta['band']} {meta['mode']} {meta.get('aperture', '')}".rstrip()
    if "recipe" in meta:
        edges = " with edges" if meta["edges"] else ""
        calibration = f'{meta["folds"]}-fold, recipe "{meta["recipe"]}"{edges}'
    elif meta["calibration"] == "map":
        calibration = "with a given map"
    elif meta["kind"] == "offset":
        calibration = "uncorrected"
    else:
        calibration = f"zero point {meta['calibration']:g}"
    return f"Residual {quantity}, {catalog}: {calibration}"


def _origin(meta: Mapping) -> str:
    if "recipe" in meta:
        return "held-out stars: no star contributes to the map that calibrates it"
    return "stars not held out: the calibration may have been derived from them"
