# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Simulate the stars of a field, their catalog and the reference catalog.

The catalog is computed from the true values, without an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.wcs import WCS

from ks4_ccd.ks4.tiling import PIXEL_SCALE
from ks4_ccd.mapmaking.reference import COLOUR_TERMS

if TYPE_CHECKING:
    # The module of the camera imports this one.
    from ks4_ccd.simulation._camera import Camera

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
_SLOPE = 0.13  # slope of log10(number of stars) per magnitude
_CROWDING = 6.0  # ratio of star densities at the right and at the left edge
_CLOSEST = 2.0  # separation of the closest pairs, in FWHM
_BLENDED = 1.5  # pairs closer than this are flagged, in FWHM
_COLOUR_SCATTER = 0.008  # mag, scatter of zero points due to the colours of stars

_MEAN_COLOUR = {"B": 1.15, "V": 0.40, "R": 0.0, "I": -0.10}  # XP_band - XP_R


@dataclass(frozen=True)
class Noise:
    """
    The noise of an image.

    Parameters
    ----------
    sky : float, optional
        The noise of the sky in adu per pixel (RMS).
    gain : float, optional
        In electrons per adu.
    saturation : int, optional
        Pixels above this value, in adu, are saturated.
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
        The exponent of the wings; low for the extended wings of stacks.
    """

    fwhm: float
    beta: float = 3.0

    @property
    def radius(self) -> float:
        """The scale radius in pixels."""
        return 0.5 * self.fwhm / np.sqrt(2 ** (1 / self.beta) - 1)

    def enclosed(self, radius: float | np.ndarray) -> float | np.ndarray:
        """Return the fraction of the flux within a radius in pixels."""
        return 1 - (1 + (radius / self.radius) ** 2) ** (1 - self.beta)

    def surface_brightness(
        self, squared_radius: float | np.ndarray
    ) -> float | np.ndarray:
        """Return the fraction of the flux in a pixel at a squared distance."""
        peak = (self.beta - 1) / (np.pi * self.radius**2)
        return peak * (1 + squared_radius / self.radius**2) ** -self.beta


@dataclass(frozen=True, eq=False)
class Stars:
    """
    The true positions and magnitudes of stars.

    Parameters
    ----------
    x, y : 1D `~numpy.ndarray`
        The 0-based pixel coordinates of their light on the detector.
    ra, dec : 1D `~numpy.ndarray`
        Their positions on the sky, in degrees.
    mag : 1D `~numpy.ndarray`
        AB magnitudes in the band of the image.
    blended : 1D `~numpy.ndarray` of bool
        True for stars with a close neighbour.
    """

    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    mag: np.ndarray
    blended: np.ndarray


def tangent_wcs(center: SkyCoord, image_shape: Sequence[int]) -> WCS:
    """Return the TAN WCS of an image centred on a position, north up, east left."""
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


def draw_stars(
    n_stars: int,
    camera: "Camera",
    wcs: WCS,
    hole: Sequence[float],
    fwhm: float,
    rng: np.random.Generator,
) -> Stars:
    """
    Draw the positions and magnitudes of stars at random.

    Parameters
    ----------
    n_stars : int
        The number of stars.
    camera : `~ks4_ccd.simulation._camera.Camera`
        The camera, which displaces the light of the stars.
    wcs : `~astropy.wcs.WCS`
        The nominal WCS of the image.
    hole : tuple of float
        The limits ``(x_min, x_max, y_min, y_max)`` of a region without stars.
    fwhm : float
        The seeing in pixels, the unit of the smallest separation of stars.
    rng : `~numpy.random.Generator`

    Returns
    -------
    stars : `Stars`
        Sorted by ``y``, as in a SExtractor catalog.
    """
    positions, closest = _draw_positions(n_stars, camera.image_shape, hole, fwhm, rng)
    order = np.argsort(positions[:, 1])
    x, y = positions[order].T
    growth = 10 ** (_SLOPE * (FAINTEST - BRIGHTEST)) - 1
    mag = BRIGHTEST + np.log10(1 + growth * rng.uniform(size=n_stars)) / _SLOPE
    # x and y are measured positions: the true position is without the error.
    dra, ddec = camera.offset(x, y)
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    ra = (ra - dra / 3600 / np.cos(np.radians(dec))) % 360
    blended = closest[order] < _BLENDED * fwhm
    return Stars(x, y, ra, dec - ddec / 3600, mag, blended)


def _draw_positions(
    n_stars: int,
    image_shape: Sequence[int],
    hole: Sequence[float],
    fwhm: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw positions, separated if the density allows, and their separations."""
    from scipy.spatial import KDTree

    rows, columns = image_shape
    positions = np.zeros((n_stars, 2))
    to_draw = np.arange(n_stars)
    for _ in range(30):
        while to_draw.size:
            fraction = rng.uniform(size=(2, len(to_draw)))
            # The density increases along x, so that maps have dense and sparse parts.
            fraction[0] = np.log1p(fraction[0] * (_CROWDING - 1)) / np.log(_CROWDING)
            x, y = columns * fraction[0] - 0.5, rows * fraction[1] - 0.5
            positions[to_draw] = np.column_stack([x, y])
            inside = (hole[0] <= x) & (x < hole[1]) & (hole[2] <= y) & (y < hole[3])
            to_draw = to_draw[inside]
        if n_stars < 2:
            return positions, np.full(n_stars, np.inf)
        tree = KDTree(positions)
        pairs = tree.query_pairs(_CLOSEST * fwhm, output_type="ndarray")
        if not len(pairs):
            break
        to_draw = np.unique(pairs.max(axis=1))
    return positions, KDTree(positions).query(positions, k=2)[0][:, 1]


def measure_sources(
    stars: Stars,
    camera: "Camera",
    wcs: WCS,
    psf: PointSpread,
    apertures: Sequence[float],
    noise: Noise,
    rng: np.random.Generator,
) -> Table:
    """
    Measure the stars as SExtractor does, with MAG_ZEROPOINT 0.

    Parameters
    ----------
    stars : `Stars`
    camera : `~ks4_ccd.simulation._camera.Camera`
    wcs : `~astropy.wcs.WCS`
        The nominal WCS of the image.
    psf : `PointSpread`
    apertures : sequence of float
        Diameters in pixels.
    noise : `Noise`
        The noise of the image.
    rng : `~numpy.random.Generator`

    Returns
    -------
    sources : `~astropy.table.Table`
        A catalog with SExtractor's column names, types and units.
    """
    n = len(stars.x)
    total = 10 ** (0.4 * (np.asarray(camera.zeropoint(stars.x, stars.y)) - stars.mag))
    total *= 10 ** (0.4 * _COLOUR_SCATTER * rng.normal(size=n))
    mag, error = zip(
        *(_aperture(total, 0.5 * diameter, psf, noise, rng) for diameter in apertures),
        strict=True,
    )
    # The scatter of Kron radii increases towards faint stars.
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


def _aperture(
    total: np.ndarray,
    radius: float | np.ndarray,
    psf: PointSpread,
    noise: Noise,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return aperture magnitudes with noise, and their nominal uncertainties."""
    flux = total * psf.enclosed(radius)
    sigma = np.sqrt(np.pi * radius**2 * noise.sky**2 + flux / noise.gain)
    measured = flux + sigma * rng.normal(size=flux.size)
    found = measured > 0
    measured = np.where(found, measured, 1.0)
    mag = np.where(found, -2.5 * np.log10(measured), 99.0)
    error = np.where(found, 2.5 / np.log(10) * sigma / measured, 99.0)
    return mag, error


def reference_table(stars: Stars, band: str, rng: np.random.Generator) -> Table:
    """
    Return the reference catalog, with the columns of a Gaia XP file of the pipeline.

    Parameters
    ----------
    stars : `Stars`
    band : str
        The band of ``stars.mag``.
    rng : `~numpy.random.Generator`

    Returns
    -------
    reference : `~astropy.table.Table`
        Sorted by RA, with the true magnitude ``MAG``, the pixel coordinates
        ``x, y`` of the light and the true ``RA, DEC``; the ``XP`` magnitudes have
        errors.
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
