# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure the header cards that the survey's pipeline records in a stack."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import sigma_clip

from ks4_ccd.catalogs.sources import Sources
from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.recipe import (
    ASTROMETRIC_RANGE,
    LARGEST_MAGNITUDE_ERROR,
    MATCH_RADIUS,
    PHOTOMETRIC_RANGE,
)
from ks4_ccd.mapmaking.cells import clipped_statistics
from ks4_ccd.maps.zeropoint import ZeroPointMap

if TYPE_CHECKING:
    # The module of fields imports this one.
    from ks4_ccd.simulation.field import SimulatedField

__all__ = ["measured_cards"]

_FEWEST = 3


def measured_cards(
    simulated: "SimulatedField", sky: float, fwhm: float
) -> dict[str, tuple[float, str]]:
    """
    Measure a simulated stack as `ks4_photometry` of the pipeline does.

    Parameters
    ----------
    simulated : `~ks4_ccd.simulation.field.SimulatedField`
    sky : float
        The noise of the sky in adu per pixel (RMS).
    fwhm : float
        The seeing in pixels.

    Returns
    -------
    cards : dict
        Value and comment by keyword: for each aperture its global zero point
        (ZPAPER5), the standard deviation of its stars (ZEAPER5) and their number
        (ZSAPER5), then DEPTH5, the 5-sigma depth in an aperture of one FWHM, and
        RMSPHOT, the residual of the catalog calibrated by its map. Empty if there
        are too few stars to build maps.
    """
    try:
        matched, maps = simulated.matched, simulated.maps
    except KS4Error:
        return {}
    stars = Sources(matched, "sextractor", None)
    reference = np.asarray(matched[f"{simulated.band}mag"])
    brightness = np.asarray(matched["Vmag"])
    clean = stars.good_stars(strict=True)
    clean &= stars.magnitude_errors("AUTO") < LARGEST_MAGNITUDE_ERROR
    used = clean & _is_within(brightness, ASTROMETRIC_RANGE)
    used &= _is_within(reference, PHOTOMETRIC_RANGE)
    cards: dict[str, tuple[float, str]] = {}
    for aperture in stars.apertures:
        values = (reference - stars.magnitudes(aperture))[used]
        found = clipped_statistics(np.zeros(values.size, int), values, 1)
        zeropoint, scatter, count = (column[0] for column in found)
        if count < _FEWEST:
            return {}
        cards[f"ZP{aperture}"] = round(float(zeropoint), 3), "[mag] Zero point"
        what = "[mag] Standard deviation of its stars"
        cards[f"ZE{aperture}"] = round(float(scatter), 3), what
        cards[f"ZS{aperture}"] = int(count), "Number of its stars"
        if aperture == "FWHM":
            depth = _depth(zeropoint, sky, fwhm)
    what = "[mag] 5 sigma depth in an aperture of one FWHM"
    cards["DEPTH5"] = round(float(depth), 3), what
    near = clean & (np.asarray(matched["sep"]) < MATCH_RADIUS)
    residual = _residual(stars, maps["AUTO"], reference, near)
    if residual is not None:
        what = "[mag] RMS residual of calibrated MAG_AUTO"
        cards["RMSPHOT"] = round(residual, 3), what
    return cards


def _depth(zeropoint: float, sky: float, diameter: float) -> float:
    """Return the magnitude of five times the noise of the sky in an aperture."""
    noise = sky * np.sqrt(np.pi) * diameter / 2
    return zeropoint - 2.5 * np.log10(5 * noise)


def _residual(
    stars: Sources, zpmap: ZeroPointMap, reference: np.ndarray, used: np.ndarray
) -> float | None:
    """Return the RMS residual of magnitudes calibrated by their cell's zero point."""
    x, y = stars.positions()
    magnitude = stars.magnitudes("AUTO") + zpmap.values[zpmap.grid.cell_of(x, y)]
    used = used & _is_within(magnitude, PHOTOMETRIC_RANGE)
    if not used.any():
        return None
    kept = sigma_clip((magnitude - reference)[used], sigma=3, masked=False)
    return float(np.sqrt(np.mean(kept**2)))


def _is_within(magnitude: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    brightest, faintest = limits
    return (magnitude > brightest) & (magnitude < faintest)
