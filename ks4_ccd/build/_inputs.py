# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check the arguments of the builders, and the zero points that they find."""

import numpy as np

from ks4_ccd._arguments import one_of
from ks4_ccd._magnitude_zeropoint import CONTAINED, zeropoint_columns
from ks4_ccd.build._stars import MatchedStars
from ks4_ccd.exceptions import AlreadyCalibratedError, KS4Error, MapMismatchError
from ks4_ccd.grid import MapGrid
from ks4_ccd.release.names import BANDS, MODE_ALIASES, MapKey

__all__ = [
    "RECIPES",
    "check_zeropoints",
    "map_key",
    "refuse_calibrated",
    "stars_and_grid",
]

RECIPES = ("default", "dr1")
# Where there are edges, half a cell without interpolation is to be short.
_SHAPE_WITH_EDGES = (220, 220)
# No camera has zero points beyond these, for magnitudes of its counts.
_ZEROPOINTS = 10.0, 50.0


def stars_and_grid(
    matched,
    image_shape,
    band,
    columns,
    apertures,
    mag_zeropoint,
    shape,
    recipe,
    edges,
    default_shape,
):
    """Return the stars and the grid that arguments mean, once they are checked."""
    one_of("recipe", recipe, RECIPES)
    if recipe == "dr1" and edges is not None:
        msg = 'edges are not for recipe="dr1": the release smooths over them'
        raise KS4Error(msg)
    if not isinstance(band, str) or not band:
        msg = f"band must be a name such as R, got {band!r}"
        raise KS4Error(msg)
    stars = MatchedStars(matched, band, columns, apertures, mag_zeropoint)
    if shape is None:
        shape = default_shape if edges is None else _SHAPE_WITH_EDGES
    grid = MapGrid.for_image(shape, image_shape, ((), ()) if edges is None else edges)
    rows, columns_ = grid.image_shape
    if not (np.isfinite(stars.x) & np.isfinite(stars.y)).any():
        msg = f"none of the {len(matched)} matched stars has a position on the image"
        raise KS4Error(msg)
    if not stars.on_image(grid.image_shape).any():
        msg = (
            f"no star is on the image of {columns_} x {rows} pixels: stars have x of "
            f"{np.nanmin(stars.x):.0f} to {np.nanmax(stars.x):.0f}, y of "
            f"{np.nanmin(stars.y):.0f} to {np.nanmax(stars.y):.0f} (is image_shape "
            "that of the image of the catalog?)"
        )
        raise MapMismatchError(msg)
    return stars, grid


def refuse_calibrated(sources):
    """
    Refuse magnitudes that contain the zero points of maps.

    Without a constant such as 30 they would give a map of constants.

    Parameters
    ----------
    sources : `~ks4_ccd.sources.Sources`

    Raises
    ------
    AlreadyCalibratedError
        If the table has columns of zero points, or the record of a calibration.
    """
    if sources.columns.fluxes:
        return
    found = [f"column {name}" for name in zeropoint_columns(sources.table)]
    if CONTAINED in sources.table.meta:
        found.append(f"{CONTAINED} in its meta")
    if found:
        msg = (
            "the catalog was calibrated before: expected instrumental magnitudes to "
            f"make zero points from, found {', '.join(found)}. Give the catalog as it "
            "was measured, or subtract these zero points; then remove or rename what "
            "was found"
        )
        raise AlreadyCalibratedError(msg)


def check_zeropoints(values, count, stars, aperture):
    """
    Refuse zero points that no camera has.

    Parameters
    ----------
    values, count : 2D `~numpy.ndarray`
        Zero points, and numbers of stars, of the cells of a map.
    stars : `~ks4_ccd.build._stars.MatchedStars`
    aperture : str

    Raises
    ------
    MapMismatchError
        If that of a cell with stars is below 10 or above 50.
    """
    lowest, highest = _ZEROPOINTS
    valid = values[count > 0]
    wrong = valid[(valid < lowest) | (valid > highest)]
    if not wrong.size:
        return
    median = np.median(valid)
    contained = stars.sources.mag_zeropoint
    msg = (
        f"zero points of {aperture} in {stars.band}: expected values between "
        f"{lowest:g} and {highest:g}, found {wrong[0]:.3f} (median {median:.3f}) from "
        f"{stars.band}mag minus {stars.sources.place_of(aperture)[0]}; "
    )
    if stars.sources.columns.fluxes:
        msg += "give fluxes in counts (adu), and reference magnitudes"
    elif lowest <= median <= highest:
        msg += "remove the stars with such magnitudes"
    elif median < lowest and not contained:
        msg += (
            "the magnitudes contain a zero point already: give that of the "
            "measurement (mag_zeropoint=30 or --mag-zeropoint 30 for SExtractor's "
            "MAG_ZEROPOINT 30), and do not build from a calibrated catalog"
        )
    else:
        msg += f"mag_zeropoint={contained:g} was subtracted: is it in the magnitudes?"
    raise MapMismatchError(msg)


def map_key(field, band, mode, aperture=None):
    """Return the key of a map, none without a field."""
    mode = MODE_ALIASES[one_of("mode", mode, tuple(MODE_ALIASES))]
    if field is None:
        return None
    one_of("band", band, BANDS)
    family = "align" if aperture is None else "zp"
    return MapKey(family, field, band, mode, aperture)
