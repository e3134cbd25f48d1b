# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The stars of the simulated field, and what a source extractor finds of them.

The measurements follow from the truth by formula: no image is needed.
"""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from ks4_ccd.ks4.tiling import PIXEL_SCALE
from ks4_ccd.mapmaking.reference import COLOUR_TERMS

__all__ = [
    "Noise",
    "PointSpread",
    "Stars",
    "draw_stars",
    "measure_sources",
    "reference_table",
    "tangent_wcs",
]

ARCSEC_PER_PIXEL = PIXEL_SCALE.to_value("arcsec")
BRIGHTEST, FAINTEST = 14.0, 20.0  # mag
_SLOPE = 0.13  # growth of star counts a magnitude, log10
_CROWDING = 6.0  # star density at the right edge over that at the left edge
_CLOSEST = 2.0  # the closest pairs, in FWHM
_BLENDED = 1.5  # pairs closer than this are flagged, in FWHM
_COLOUR_SCATTER = 0.008  # mag, what colour does to a star's zero point

_MEAN_COLOUR = {"B": 1.15, "V": 0.40, "R": 0.0, "I": -0.10}  # XP_band - XP_R


@dataclass(frozen=True)
class Noise:
    """
    The noise of an image: sky in adu a pixel (RMS), gain in electrons an adu.

    Pixels above ``saturation`` (adu) are saturated.
    """

    sky: float = 25.0
    gain: float = 4.8
    saturation: int = 400_000


@dataclass(frozen=True)
class PointSpread:
    """
    A round Moffat profile.

    Parameters
    ----------
    fwhm : float
        In pixels.
    beta : float, optional
        The exponent of the wings; low, as those of stacks are.
    """

    fwhm: float
    beta: float = 3.0

    @property
    def radius(self):
        """The scale radius in pixels."""
        return 0.5 * self.fwhm / np.sqrt(2 ** (1 / self.beta) - 1)

    def enclosed(self, radius):
        """Return the share of the flux within a radius in pixels."""
        return 1 - (1 + (radius / self.radius) ** 2) ** (1 - self.beta)

    def surface_brightness(self, squared_radius):
        """Return the share of the flux in a pixel at a squared distance."""
        peak = (self.beta - 1) / (np.pi * self.radius**2)
        return peak * (1 + squared_radius / self.radius**2) ** -self.beta


@dataclass(frozen=True, eq=False)
class Stars:
    """
    The true stars.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        Where their light falls, 0-based pixel coordinates.
    ra, dec : 1D `~numpy.ndarray`
        Where they are, in degrees.
    mag : 1D `~numpy.ndarray`
        In the band of the image, AB.
    blended : 1D `~numpy.ndarray` of bool
        Which ones have a close neighbour.
    """

    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    mag: np.ndarray
    blended: np.ndarray


def tangent_wcs(center, image_shape):
    """Return the WCS of an image centred on a position: north up, east left."""
    rows, columns = image_shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crpix = (columns + 1) / 2, (rows + 1) / 2
    wcs.wcs.crval = center.ra.deg, center.dec.deg
    wcs.wcs.cdelt = -ARCSEC_PER_PIXEL / 3600, ARCSEC_PER_PIXEL / 3600
    wcs.wcs.cunit = "deg", "deg"
    wcs.wcs.radesys = "ICRS"
    wcs.pixel_shape = columns, rows
    wcs.wcs.set()
    return wcs


def draw_stars(n_stars, camera, wcs, hole, fwhm, rng):
    """
    Draw stars all over the image but in the hole.

    Parameters
    ----------
    n_stars : int
    camera : `~ks4_ccd.simulation._camera.Camera`
        Tells how far from its star the light falls.
    wcs : `~astropy.wcs.WCS`
        Of the image.
    hole : tuple of float
        ``(x_min, x_max, y_min, y_max)``, where no star is.
    fwhm : float
        In pixels; stars keep apart.
    rng : `~numpy.random.Generator`

    Returns
    -------
    stars : `Stars`
        Ordered by ``y``, as in a SExtractor catalog.
    """
    place, closest = _draw_places(n_stars, camera.image_shape, hole, fwhm, rng)
    order = np.argsort(place[:, 1])
    x, y = place[order].T
    growth = 10 ** (_SLOPE * (FAINTEST - BRIGHTEST)) - 1
    mag = BRIGHTEST + np.log10(1 + growth * rng.uniform(size=n_stars)) / _SLOPE
    # The light falls where the star seems to be: take the error off the sky position.
    dra, ddec = camera.offset(x, y)
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    ra = (ra - dra / 3600 / np.cos(np.radians(dec))) % 360
    blended = closest[order] < _BLENDED * fwhm
    return Stars(x, y, ra, dec - ddec / 3600, mag, blended)


def _draw_places(n_stars, image_shape, hole, fwhm, rng):
    """Draw positions that keep apart, as far as there is room for that."""
    from scipy.spatial import KDTree

    rows, columns = image_shape
    place = np.zeros((n_stars, 2))
    to_draw = np.arange(n_stars)
    for _ in range(30):
        while to_draw.size:
            share = rng.uniform(size=(2, len(to_draw)))
            # The density grows along x, so that maps have full and sparse parts.
            share[0] = np.log1p(share[0] * (_CROWDING - 1)) / np.log(_CROWDING)
            x, y = columns * share[0] - 0.5, rows * share[1] - 0.5
            place[to_draw] = np.column_stack([x, y])
            inside = (hole[0] <= x) & (x < hole[1]) & (hole[2] <= y) & (y < hole[3])
            to_draw = to_draw[inside]
        if n_stars < 2:
            return place, np.full(n_stars, np.inf)
        tree = KDTree(place)
        pairs = tree.query_pairs(_CLOSEST * fwhm, output_type="ndarray")
        if not len(pairs):
            break
        to_draw = np.unique(pairs.max(axis=1))
    return place, KDTree(place).query(place, k=2)[0][:, 1]


def measure_sources(stars, camera, wcs, psf, apertures, noise, rng):
    """
    Measure the stars as SExtractor would, with magnitude zero point 0.

    Parameters
    ----------
    stars : `Stars`
    camera : `~ks4_ccd.simulation._camera.Camera`
    wcs : `~astropy.wcs.WCS`
        The nominal one of the image.
    psf : `PointSpread`
    apertures : list of float
        Diameters in pixels.
    noise : `Noise`
        Of the image.
    rng : `~numpy.random.Generator`

    Returns
    -------
    sources : `~astropy.table.Table`
        With SExtractor's column names, types and units.
    """
    n = len(stars.x)
    total = 10 ** (0.4 * (camera.zeropoint(stars.x, stars.y) - stars.mag))
    total *= 10 ** (0.4 * _COLOUR_SCATTER * rng.normal(size=n))
    mag, error = zip(
        *(_aperture(total, 0.5 * diameter, psf, noise, rng) for diameter in apertures),
        strict=True,
    )
    # Kron apertures differ from star to star, the more the fainter they are.
    spread = np.clip(0.02 + 4 * error[0], 0, 0.2)
    kron = 1.7 * psf.fwhm * np.exp(spread * rng.normal(size=n))
    mag_auto, error_auto = _aperture(total, kron, psf, noise, rng)

    blur = psf.fwhm / 2.355 * np.hypot(error[0], 0.005)
    x, y = np.array([stars.x, stars.y]) + blur * rng.normal(size=(2, n))
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    star_like = np.where(rng.uniform(size=n) < 0.02, rng.uniform(0.1, 0.8, n), 0.98)
    star_like -= np.abs(rng.normal(size=n)) * (0.005 + 2 * error[0])
    flags = np.where(stars.blended, 3, 0) | np.where(rng.uniform(size=n) < 0.02, 2, 0)
    peak = total * psf.surface_brightness(0.0)
    flags |= np.where(peak > noise.saturation, 4, 0)
    bad = camera.near_bad_pixel(stars.x, stars.y, psf.fwhm)

    columns = {
        "NUMBER": (np.arange(1, n + 1), "i4", None),
        "ALPHA_J2000": (ra % 360, "f8", "deg"),
        "DELTA_J2000": (dec, "f8", "deg"),
        "X_IMAGE": (x + 1, "f4", "pix"),
        "Y_IMAGE": (y + 1, "f4", "pix"),
        "MAG_AUTO": (mag_auto, "f4", "mag"),
        "MAGERR_AUTO": (error_auto, "f4", "mag"),
        "MAG_APER": (np.column_stack(mag), "f4", "mag"),
        "MAGERR_APER": (np.column_stack(error), "f4", "mag"),
        "FWHM_IMAGE": (psf.fwhm * (1 + 0.02 * rng.normal(size=n)), "f4", "pix"),
        "ELLIPTICITY": (0.02 * np.abs(rng.normal(size=n)), "f4", None),
        "CLASS_STAR": (np.clip(star_like, 0, 1), "f4", None),
        "FLAGS": (flags, "i2", None),
        "IMAFLAGS_ISO": (bad, "i4", None),
    }
    table = Table()
    for name, (values, dtype, unit) in columns.items():
        table[name] = np.asarray(values).astype(dtype)
        table[name].unit = unit
    return table


def _aperture(total, radius, psf, noise, rng):
    """Return a noisy aperture magnitude and the error that is quoted with it."""
    flux = total * psf.enclosed(radius)
    sigma = np.sqrt(np.pi * radius**2 * noise.sky**2 + flux / noise.gain)
    measured = flux + sigma * rng.normal(size=flux.size)
    found = measured > 0
    measured = np.where(found, measured, 1.0)
    mag = np.where(found, -2.5 * np.log10(measured), 99.0)
    error = np.where(found, 2.5 / np.log(10) * sigma / measured, 99.0)
    return mag, error


def reference_table(stars, band, rng):
    """
    Return the reference catalog, laid out like a Gaia XP file of the pipeline.

    Parameters
    ----------
    stars : `Stars`
    band : str
        The band that ``stars.mag`` is in.
    rng : `~numpy.random.Generator`

    Returns
    -------
    reference : `~astropy.table.Table`
        Ordered by RA. The true ``MAG`` of the band, the position ``x, y`` of
        the light and the true ``RA, DEC``; the ``XP`` magnitudes have errors.
    """
    n = len(stars.x)
    redness = np.exp(0.35 * rng.normal(size=n))
    colour = {b: mean * redness for b, mean in _MEAN_COLOUR.items()}
    first, factor, blue, red = COLOUR_TERMS[band]
    own = stars.mag + factor * (colour[blue] - colour[red])
    error = 0.003 + 0.006 * 10 ** (0.3 * (stars.mag - FAINTEST))
    table = Table({"RA": stars.ra, "DEC": stars.dec})
    table["cstar"] = (0.01 * rng.normal(size=n)).astype("f4")
    for b in COLOUR_TERMS:
        true = own - colour[first] + colour[b]
        table[f"XP_{b}"] = true + error * rng.normal(size=n)
        table[f"XP_e{b}"] = error
        table[f"XP_{b}flag"] = np.ones(n, dtype="u1")
    table["MAG"], table["x"], table["y"] = stars.mag, stars.x, stars.y
    for name in ("RA", "DEC", "MAG", "x", "y"):
        table[name].unit = {"MAG": "mag", "x": "pix", "y": "pix"}.get(name, "deg")
    return table[np.argsort(stars.ra, kind="stable")]
