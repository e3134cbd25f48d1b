# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Simulate the camera: its zero points, distortions and bad pixels.

Four chips in two rows, with eight amplifiers side by side on each, as at KMTNet.
All sizes are fractions of the image, so that a small image has the structure of a
full stack.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.simulation._sky import Noise, PointSpread, Stars

__all__ = ["Camera", "build_camera", "expose"]

_AMPLIFIERS = 16  # along x, on both chips of a row together
_ZEROPOINT_RMS = 0.03  # mag
_STEP_FRACTION = 0.4  # of the zero-point RMS, by the steps between amplifiers
_OFFSET_RMS = 0.08  # arcsec, length of the offset
_BAD_COLUMN_SPACING = 275  # pixels, mean
_BAD_PIXEL_FRACTION = 1e-5

_STAMP_HALF = 5  # FWHM
_STARS_AT_ONCE = 2000
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Camera:
    """
    The true zero points, position errors and bad pixels of a simulated image.

    Parameters
    ----------
    image_shape : tuple of int
        The shape ``(rows, columns)`` of the image.
    waves : 2D `~numpy.ndarray`
        The terms of the smooth zero-point surface, one per row: amplitude (mag),
        frequency (cycles per image) and phase along x, frequency and phase along y.
    steps : 2D `~numpy.ndarray`
        The zero point of each amplifier, ``[along x, along y]``.
    chips : 4D `~numpy.ndarray`
        Polynomial coefficients of the offset in arcsec, ``[component,
        chip along x, chip along y, term]``.
    columns : 2D `~numpy.ndarray` of int
        Bad columns: the column, its first bad row, and the row after its last.
    pixels : 2D `~numpy.ndarray` of int
        Bad pixels: column, row.
    """

    image_shape: tuple[int, int]
    waves: np.ndarray
    steps: np.ndarray
    chips: np.ndarray
    columns: np.ndarray
    pixels: np.ndarray

    @property
    def edges(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The edges of chips and of amplifiers along x and y, 0-based pixels."""
        rows, columns = self.image_shape
        chip = np.array([0.5])
        amplifier = np.arange(1, _AMPLIFIERS) / _AMPLIFIERS
        return {
            "chip": (chip * columns - 0.5, chip * rows - 0.5),
            "amplifier": (amplifier * columns - 0.5, chip * rows - 0.5),
        }

    def _fractions(self, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        # 0 at the left edge of the first pixel, 1 at the right edge of the last.
        rows, columns = self.image_shape
        return (np.asarray(x) + 0.5) / columns, (np.asarray(y) + 0.5) / rows

    def zeropoint(self, x: ArrayLike, y: ArrayLike) -> float | np.ndarray:
        """Return the true zero point in mag at 0-based pixel coordinates."""
        u, v = self._fractions(x, y)
        total = self.steps[_part(u, _AMPLIFIERS), _part(v, 2)]
        for amplitude, cycles_x, phase_x, cycles_y, phase_y in self.waves:
            # A product of two one-dimensional waves is fast on open grids.
            along_x = np.cos(2 * np.pi * cycles_x * u + phase_x)
            along_y = np.cos(2 * np.pi * cycles_y * v + phase_y)
            total = total + amplitude * along_x * along_y
        return total if np.ndim(total) else float(total)

    def offset(
        self, x: ArrayLike, y: ArrayLike
    ) -> tuple[float | np.ndarray, float | np.ndarray]:
        """
        Return the true position errors at 0-based pixel coordinates.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, broadcast against each other.

        Returns
        -------
        dra, ddec : float or `~numpy.ndarray`
            Measured minus true in arcsec, along RA cos(dec) and Dec.
        """
        u, v = self._fractions(x, y)
        chip = _part(u, 2), _part(v, 2)
        # -1 to 1 on each chip.
        p, q = 4 * u - 2 * chip[0] - 1, 4 * v - 2 * chip[1] - 1
        terms = (1.0, p, q, p**2, p * q, q**2)
        totals = (
            sum(
                coefficient[chip] * term
                for term, coefficient in zip(
                    terms, np.moveaxis(coefficients, -1, 0), strict=True
                )
            )
            for coefficients in self.chips
        )
        dra, ddec = (total if np.ndim(total) else float(total) for total in totals)
        return dra, ddec

    def bad_pixels(self) -> np.ndarray:
        """Return an image that is True at bad pixels."""
        mask = np.zeros(self.image_shape, dtype=bool)
        for column, start, stop in self.columns:
            mask[start:stop, column] = True
        mask[self.pixels[:, 1], self.pixels[:, 0]] = True
        return mask

    def near_bad_pixel(self, x: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
        """Return which positions are within ``reach`` pixels of a bad pixel."""
        from scipy.spatial import KDTree

        distance, _ = KDTree(self.pixels).query(np.column_stack([x, y]))
        near = distance <= reach
        for column, start, stop in self.columns:
            near |= (
                (np.abs(x - column) <= reach)
                & (y >= start - reach)
                & (y < stop + reach)
            )
        return near


def _part(fraction: np.ndarray, n_parts: int) -> np.ndarray:
    """Return the index of the equal part of the image that contains a position."""
    return np.clip(np.floor(fraction * n_parts), 0, n_parts - 1).astype(np.intp)


def build_camera(image_shape: tuple[int, int], rng: np.random.Generator) -> Camera:
    """
    Draw a camera at random.

    Parameters
    ----------
    image_shape : tuple of int
        The shape ``(rows, columns)`` of the image.
    rng : `~numpy.random.Generator`

    Returns
    -------
    camera : `Camera`
    """
    rows, columns = image_shape
    cycles = rng.uniform(0.3, 2.5, (2, 12))
    phase = rng.uniform(0, 2 * np.pi, (2, 12))
    # Low frequencies have the large amplitudes, as in flat fields and scattered light.
    strength = rng.normal(size=12) / (1 + (cycles**2).sum(axis=0))
    waves = np.column_stack([strength, cycles[0], phase[0], cycles[1], phase[1]])
    steps = rng.normal(size=(_AMPLIFIERS, 2))

    chips = np.zeros((2, 2, 2, 6))
    chips[..., 0] = rng.normal(size=(2, 2, 2))
    # A chip rotated by a small angle moves (p, q) by angle * (-q, p); east is left.
    angle = rng.normal(size=(2, 2))
    chips[0, ..., 2] = chips[1, ..., 1] = angle
    chips[..., 3:] = 0.3 * rng.normal(size=(2, 2, 2, 3))

    n_columns = max(2, round(columns / _BAD_COLUMN_SPACING))
    start = rng.integers(0, max(rows // 2, 1), n_columns)
    length = rng.integers(max(rows // 10, 1), max(rows // 2, 2), n_columns)
    bad_columns = np.column_stack(
        [rng.integers(0, columns, n_columns), start, np.minimum(start + length, rows)]
    )
    n_pixels = max(4, round(rows * columns * _BAD_PIXEL_FRACTION))
    pixels = rng.integers(0, (columns, rows), (n_pixels, 2))

    unscaled = Camera(image_shape, waves, steps, chips, bad_columns, pixels)
    return _scaled(unscaled)


def _scaled(camera: Camera) -> Camera:
    """Scale the errors of a camera to their RMS, and its mean zero point to 30."""
    rows, columns = camera.image_shape
    x = np.linspace(0, columns - 1, 320)
    y = np.linspace(0, rows - 1, 320)[:, np.newaxis]
    flat = np.zeros_like(camera.steps)
    smooth = replace(camera, steps=flat).zeropoint(x, y)
    waves = camera.waves.copy()
    waves[:, 0] *= np.sqrt(1 - _STEP_FRACTION**2) * _ZEROPOINT_RMS / np.std(smooth)
    steps = camera.steps - camera.steps.mean()
    steps *= _STEP_FRACTION * _ZEROPOINT_RMS / steps.std()
    # Steps and waves are correlated by chance, so their sum is scaled once more.
    total = replace(camera, waves=waves, steps=steps).zeropoint(x, y)
    scale = _ZEROPOINT_RMS / np.std(total)
    waves[:, 0] *= scale
    steps = 30 + scale * (steps - np.mean(total))
    length = np.hypot(*camera.offset(x, y))
    chips = camera.chips * (_OFFSET_RMS / np.sqrt(np.mean(length**2)))
    return replace(camera, waves=waves, steps=steps, chips=chips)


def expose(
    camera: Camera,
    stars: Stars,
    psf: PointSpread,
    noise: Noise,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Draw an image of the stars, with noise and bad pixels.

    Parameters
    ----------
    camera : `Camera`
    stars : `~ks4_ccd.simulation._sky.Stars`
    psf : `~ks4_ccd.simulation._sky.PointSpread`
    noise : `~ks4_ccd.simulation._sky.Noise`
    rng : `~numpy.random.Generator`

    Returns
    -------
    image, sigma : 2D `~numpy.ndarray` of float32
        The image and the standard deviation of its noise, in adu. Bad pixels are 0
        in the image.
    mask : 2D `~numpy.ndarray` of bool
        True at bad pixels.
    """
    mask = camera.bad_pixels()
    image = _light(stars, psf, camera.image_shape)
    sigma = np.empty_like(image)
    x = np.arange(image.shape[1])
    # In bands of rows, because a full stack has 484 million pixels.
    for start in range(0, image.shape[0], _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        counts, error = image[rows], sigma[rows]
        y = np.arange(start, start + len(counts))[:, np.newaxis]
        sensitivity = 10 ** (0.4 * (np.asarray(camera.zeropoint(x, y)) - 30))
        counts *= sensitivity.astype(np.float32)
        np.sqrt(counts / noise.gain + noise.sky**2, out=error)
        counts += error * rng.standard_normal(counts.shape, dtype=np.float32)
        counts[mask[rows]] = 0
    return image, sigma, mask


def _light(stars: Stars, psf: PointSpread, image_shape: Sequence[int]) -> np.ndarray:
    """Draw the stars without noise, for a zero point of 30."""
    half = int(np.ceil(_STAMP_HALF * psf.fwhm))
    # A margin, for stamps that extend beyond the image.
    canvas = np.zeros([n + 2 * half for n in image_shape], dtype=np.float32)
    step = np.arange(-half, half + 1)
    width = len(step)
    for start in range(0, len(stars.x), _STARS_AT_ONCE):
        some = slice(start, start + _STARS_AT_ONCE)
        x, y = stars.x[some], stars.y[some]
        column, row = np.rint(x).astype(int), np.rint(y).astype(int)
        squared_x = (step + (column - x)[:, np.newaxis]) ** 2
        squared_y = (step + (row - y)[:, np.newaxis]) ** 2
        squared = (squared_y[:, :, np.newaxis] + squared_x[:, np.newaxis]).astype("f4")
        total = 10 ** (0.4 * (30 - stars.mag[some]))
        stamps = psf.surface_brightness(squared)
        stamps *= total.astype("f4")[:, np.newaxis, np.newaxis]
        for stamp, i, j in zip(stamps, row.tolist(), column.tolist(), strict=True):
            canvas[i : i + width, j : j + width] += stamp
    return canvas[half:-half, half:-half].copy()
