# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulate a KS4 field whose true calibration is known."""

import os
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property
from numbers import Integral

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import GeometryError, OptionError, one_of
from ks4_ccd.ks4.names import BANDS, MODE_ALIASES
from ks4_ccd.ks4.tiling import field_center, field_number, tile_name
from ks4_ccd.mapmaking.builders import build_maps, build_offset_map
from ks4_ccd.mapmaking.matching import match_catalogs
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.simulation._camera import Camera, build_camera, expose
from ks4_ccd.simulation._files import FieldPaths, write_field
from ks4_ccd.simulation._sky import (
    ARCSEC_PER_PIXEL,
    Noise,
    PointSpread,
    Stars,
    draw_stars,
    measure_sources,
    reference_table,
    tangent_wcs,
)
from ks4_ccd.simulation._stack_header import measured_cards

__all__ = ["SimulatedField", "simulate_field"]

_FWHM = 1.6  # arcsec
_APERTURES = (3, 5, 10)  # arcsec, in addition to one FWHM
_STARS_PER_CELL = 5
_UNDERSATURATION = -1000


@dataclass(frozen=True, eq=False)
class SimulatedField:
    """
    A simulated image with its catalogs, maps and the true calibration.

    Returned by `simulate_field`.

    Attributes
    ----------
    field, band, mode : str
        The number of the field, the filter, and the mode of the catalog.
    grid : `~ks4_ccd.MapGrid`
        The cells of the zero-point maps.
    wcs : `~astropy.wcs.WCS`
        The nominal WCS: TAN, north up, east left.
    sources : `~astropy.table.Table`
        The catalog of the image, with SExtractor's columns: instrumental
        magnitudes and 1-based pixel coordinates.
    reference : `~astropy.table.Table`
        The stars, with the columns of a Gaia XP file of the pipeline
        (``RA`` and ``DEC`` are exact, the ``XP`` magnitudes have errors)
        and the true magnitude ``MAG`` and pixel position ``x, y`` (0-based)
        of their light.
    hole : tuple of float
        ``(x_min, x_max, y_min, y_max)`` of a region without stars, 0-based.

    Examples
    --------
    >>> from ks4_ccd import simulate_field
    >>> simulated = simulate_field((300, 400), map_shape=(8, 6), seed=1)
    >>> len(simulated.sources), len(simulated.reference)
    (240, 240)
    >>> round(float(simulated.zeropoint(100, 100)), 3)
    30.04
    """

    field: str
    band: str
    mode: str
    grid: MapGrid
    wcs: WCS
    sources: Table
    reference: Table
    hole: tuple[float, float, float, float]
    _camera: Camera = dataclass_field(repr=False)
    _stars: Stars = dataclass_field(repr=False)
    _noise: Noise = dataclass_field(repr=False)
    _psf: PointSpread = dataclass_field(repr=False)
    _seed: int = dataclass_field(repr=False)

    @property
    def edges(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """
        The edges of chips and amplifiers.

        Returns
        -------
        edges : dict
            ``"chip"`` (steps of position) and ``"amplifier"`` (steps of zero
            point): each a pair of arrays, edges along x and along y, in
            0-based pixel coordinates.
        """
        return self._camera.edges

    def zeropoint(self, x: ArrayLike, y: ArrayLike) -> float | np.ndarray:
        """
        Return the true zero point.

        Parameters
        ----------
        x, y : float or array_like
            0-based pixel coordinates, broadcast against each other.

        Returns
        -------
        zeropoint : float or `~numpy.ndarray`
            In AB magnitudes: a source with a total of ``c`` adu has the
            magnitude ``-2.5 log10(c) + zeropoint``.
        """
        return self._camera.zeropoint(x, y)

    def offset(
        self, x: ArrayLike, y: ArrayLike
    ) -> tuple[float | np.ndarray, float | np.ndarray]:
        """
        Return the true astrometric errors, measured minus true.

        Parameters
        ----------
        x, y : float or array_like
            0-based pixel coordinates, broadcast against each other.

        Returns
        -------
        dra, ddec : float or `~numpy.ndarray`
            In arcsec, along RA cos(dec) and Dec.
        """
        return self._camera.offset(x, y)

    @cached_property
    def matched(self) -> Table:
        """The sources matched with the reference stars by `match_catalogs`."""
        return match_catalogs(self.sources, self.reference, band=self.band)

    @cached_property
    def _dr1_maps(self) -> list[ZeroPointMap | MisalignmentMap | OffsetMap]:
        return build_maps(
            self.matched,
            self.grid.image_shape,
            band=self.band,
            mode=self.mode,
            field=self.field,
            shape=self.grid.shape,
            recipe="dr1",
        )

    @property
    def misalignment(self) -> MisalignmentMap:
        """The `~ks4_ccd.MisalignmentMap` built by the recipe of DR1."""
        (found,) = (m for m in self._dr1_maps if isinstance(m, MisalignmentMap))
        return found

    @property
    def maps(self) -> dict[str, ZeroPointMap]:
        """The `~ks4_ccd.ZeroPointMap` of each aperture, built by the recipe of DR1."""
        return {
            map_.key.aperture: map_
            for map_ in self._dr1_maps
            if isinstance(map_, ZeroPointMap) and map_.key and map_.key.aperture
        }

    @cached_property
    def offsets(self) -> OffsetMap:
        """The `~ks4_ccd.OffsetMap` built by `build_offset_map`."""
        return build_offset_map(
            self.matched,
            self.grid.image_shape,
            band=self.band,
            mode=self.mode,
            field=self.field,
            shape=(2 * self.grid.shape[0], 2 * self.grid.shape[1]),
        )

    @cached_property
    def ccd(self) -> CCDData:
        """
        The raw image, computed at the first access.

        A `~astropy.nddata.CCDData` in adu, float32, with a mask, the
        standard deviation (sky and photon noise) and the nominal WCS. Its header
        contains the measurements that the survey's pipeline records in stacks:
        ZPAPER5, ZEAPER5 and ZSAPER5, and the same for the other apertures, DEPTH5
        and RMSPHOT.
        """
        image, sigma, mask = expose(
            self._camera,
            self._stars,
            self._psf,
            self._noise,
            np.random.default_rng([self._seed, 1]),
        )
        return CCDData(
            image,
            unit="adu",
            mask=mask,
            uncertainty=StdDevUncertainty(sigma, copy=False),
            wcs=self.wcs.deepcopy(),
            meta=self._header(),
        )

    def _header(self) -> fits.Header:
        rows, columns = self._camera.image_shape
        header = fits.Header()
        cards = {
            "FIELD1": (self.field, "Number of the field"),
            "FIELD2": (tile_name(self.field), "Tile of the field"),
            "FILTER": (self.band, "Filter"),
            "OBJECT": (self.field, "Name of the target"),
            "OBSERVAT": ("CTIO", "Observatory"),
            "DATE-OBS": ("2021-09-07T03:12:45.000", "Start of the first exposure"),
            "MJD-OBS": (59464.133854166664, "[d] Start of the first exposure"),
            "EXPTIME": (480.0, "[s] Exposure time"),
            "SATURATE": (self._noise.saturation, "[adu] Saturation level"),
            "UNDERSAT": (_UNDERSATURATION, "[adu] Lowest good value"),
            "FWHM": (round(self._psf.fwhm * ARCSEC_PER_PIXEL, 3), "[arcsec] Seeing"),
            "GAIN": (self._noise.gain, "[electron/adu] Gain"),
            "MAGZERO": (30.0, "[mag] Common zero point of the scaled frames"),
            "PHOTREF": ("Gaia XP", "Photometric reference"),
            **measured_cards(self, self._noise.sky, self._psf.fwhm),
            "KS4NAX1": (columns, "[pixel] Width of the full stack"),
            "KS4NAX2": (rows, "[pixel] Height of the full stack"),
            "ORIGIN": ("ks4_ccd", "Simulated field, not an observation"),
        }
        header.update(cards)
        return header

    def write(self, directory: str | os.PathLike[str]) -> FieldPaths:
        """
        Write the image, the catalogs and the maps in the layout of DR1.

        Parameters
        ----------
        directory : path-like
            The folder, created if it does not exist. Files of the same names
            are replaced.

        Returns
        -------
        paths : ``FieldPaths``

        Raises
        ------
        KS4Error
            If a file cannot be written.
        """
        return write_field(self, directory)


def simulate_field(
    shape: tuple[int, int] = (2200, 2200),
    map_shape: tuple[int, int] = (55, 55),
    *,
    field: str | int = "0000",
    band: str = "R",
    mode: str = "single",
    n_stars: int | None = None,
    seed: int = 0,
) -> SimulatedField:
    """
    Simulate a KS4 field: stars, image, catalogs, maps and the true calibration.

    Parameters
    ----------
    shape : tuple of int, optional
        The shape ``(rows, columns)`` of the image.
    map_shape : tuple of int, optional
        The shape of the zero-point maps, ``(cells along x, cells along y)``.
        The astrometric map has twice as many along each axis.
    field : str or int, optional
        The KS4 field whose centre is the centre of the image.
    band : {"B", "V", "R", "I"}, optional
        The filter.
    mode : {"single", "dual"}, optional
        The mode in the keys of the maps.
    n_stars : int, optional
        The number of stars between 14 and 20 mag; by default five per cell, of
        which between three and four pass the cuts of DR1. Their density increases
        from left to right.
    seed : int, optional
        The seed of the random numbers. Fields of equal seeds are identical.

    Returns
    -------
    simulated : `SimulatedField`

    Raises
    ------
    OptionError
        If an argument is not one of the allowed values.
    GeometryError
        If the cells of the maps would be smaller than two pixels.

    Notes
    -----
    The zero point is a smooth surface with steps at the edges of
    amplifiers, with a mean of 30 mag and an RMS of 0.03 mag; shifts, rotations and
    distortions of the four chips displace positions by 0.08 arcsec RMS. A star
    contributes ``10**(0.4 (zeropoint(x, y) - mag))`` adu to the image, whose sky
    has a mean of 0. A region without stars results in empty cells.

    Examples
    --------
    >>> from ks4_ccd import simulate_field
    >>> simulated = simulate_field((300, 400), map_shape=(8, 6), seed=1)
    >>> simulated.maps["APER5"].values.shape, simulated.ccd.shape
    ((8, 6), (300, 400))
    """
    one_of("band", band, BANDS)
    grid = MapGrid.for_image(map_shape, shape)
    if min(grid.cell_size) < 2:
        msg = (
            f"expected cells of at least two pixels, found {grid.cell_size} for the "
            f"map_shape {grid.shape} and an image of shape {shape}: give a smaller "
            "map_shape"
        )
        raise GeometryError(msg)
    if n_stars is None:
        n_stars = _STARS_PER_CELL * grid.shape[0] * grid.shape[1]
    for name, number in (("n_stars", n_stars), ("seed", seed)):
        if not isinstance(number, Integral) or number < 0:
            msg = f"{name} must be an integer, 0 or more, got {number!r}"
            raise OptionError(msg)
    one_of("mode", mode, tuple(MODE_ALIASES))
    field = field_number(field)
    rng = np.random.default_rng([seed, 0])
    wcs = tangent_wcs(field_center(field), grid.image_shape)
    hole = _hole(grid)
    camera = build_camera(grid.image_shape, rng)
    psf = PointSpread(_FWHM / ARCSEC_PER_PIXEL)
    noise = Noise()
    stars = draw_stars(n_stars, camera, wcs, hole, psf.fwhm, rng)
    diameters = [psf.fwhm, *(arcsec / ARCSEC_PER_PIXEL for arcsec in _APERTURES)]
    sources = measure_sources(stars, camera, wcs, psf, diameters, noise, rng)
    reference = reference_table(stars, band, rng)
    return SimulatedField(
        field=field,
        band=band,
        mode=MODE_ALIASES[mode],
        grid=grid,
        wcs=wcs,
        sources=sources,
        reference=reference,
        hole=hole,
        _camera=camera,
        _stars=stars,
        _noise=noise,
        _psf=psf,
        _seed=seed,
    )


def _hole(grid: MapGrid) -> tuple[float, float, float, float]:
    """Return the limits of a region of whole cells, 0.06 of the image wide."""
    limits: list[float] = []
    for n, edges, start in zip(
        grid.shape, grid.cell_edges(), (0.68, 0.36), strict=True
    ):
        width = max(1, round(0.06 * n))
        first = min(round(start * n), n - width)
        limits += edges[[first, first + width]].tolist()
    x_min, x_max, y_min, y_max = limits
    return x_min, x_max, y_min, y_max
