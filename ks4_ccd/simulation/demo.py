# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Demonstrate a calibration from end to end on a simulated field.

Maps are written in the layout of DR1, read again and applied to an image, whose
residual zero-point errors are measured against the true zero points.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from astropy.nddata import CCDData
from astropy.table import Table
from numpy.typing import ArrayLike
from tqdm import tqdm

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry.stream import calibrate_file
from ks4_ccd.photometry.zeropoint import apply_zeropoint
from ks4_ccd.plotting import plot_calibration
from ks4_ccd.simulation._sky import ARCSEC_PER_PIXEL
from ks4_ccd.simulation.field import SimulatedField, simulate_field

__all__ = ["run_demo"]

APERTURE = "APER5"
_DIAMETER = 5 / ARCSEC_PER_PIXEL  # pixels

# Name, method of `apply_zeropoint`, and whether the map is smoothed first.
_METHODS = (
    ("nearest cell", "nearest", False),
    ("as published", "dr1", False),
    ("bilinear", "bilinear", False),
    ("bilinear, smoothed", "bilinear", True),
)
_UNCALIBRATED = "no map"
_TRUTH = "true zero point"

_STEP = 4  # pixels, of the grid on which maps are compared with the truth
_BRIGHT = 16.5  # mag, limit of the stars that are measured
_ISOLATION = 20  # pixels


def run_demo(
    directory: str | os.PathLike[str],
    *,
    seed: int = 0,
    report: Callable[[str], object] = print,
) -> Table:
    """
    Simulate a field, calibrate its image, and measure the residuals.

    Parameters
    ----------
    directory : path-like
        The folder for the files, created if it does not exist.
    seed : int, optional
        The seed of the simulation.
    report : callable, optional
        Called with each line of the report: the files, then the table.

    Returns
    -------
    residuals : `~astropy.table.Table`
        One row per method: ``zeropoint_rms``, the RMS residual of the zero point on
        a fine grid in cells with stars, and ``star_rms``, that of aperture
        magnitudes of bright isolated stars in the calibrated image, whose noise is
        the value in the row of the true zero point. Both are in mmag, and
        their mean is subtracted. ``gain`` is the ratio of the zero-point
        residual without a map to that of the method. ``residuals.meta`` contains
        the paths of the files.
    """
    directory = Path(directory)
    # disable=None: no progress bar without a terminal.
    with tqdm(total=4 + len(_METHODS), disable=None, leave=False) as progress:

        def step(what: str) -> None:
            progress.set_description(what)
            progress.update()

        step("simulating a field")
        simulated = simulate_field(seed=seed)
        paths = simulated.write(directory)
        raw = CCDData.read(paths.image)
        truth = _Truth(simulated)
        maps: dict[str, np.ndarray] = {}
        stars: dict[str, np.ndarray] = {}

        with MapLibrary(paths.archives) as library:
            n_maps = len(library.table())
            zpmap = library.for_header(raw.meta, aperture=APERTURE)
            step("calibrating the file")
            calibrated_path = directory / f"{paths.image.stem}.calibrated.fits"
            calibrate_file(
                paths.image,
                calibrated_path,
                library,
                aperture=APERTURE,
                overwrite=True,
                progress=False,
            )

        maps[_UNCALIBRATED] = truth.residual(np.full_like(truth.zeropoint, 30.0))
        stars[_UNCALIBRATED] = truth.star_residual(raw.data)
        for name, method, smooth in _METHODS:
            step(f"measuring: {name}")
            applied = zpmap.smoothed() if smooth else zpmap
            maps[name] = truth.residual(_zeropoint_of(applied, method, truth))
            if (method, smooth) == ("bilinear", False):
                image = CCDData.read(calibrated_path).data
            else:
                image = apply_zeropoint(raw, applied, method=method).data
            stars[name] = truth.star_residual(image)
        maps[_TRUTH] = np.zeros_like(truth.zeropoint)
        stars[_TRUTH] = truth.star_residual(truth.calibrate(raw.data))

        table = _table(maps, stars)
        step("drawing")
        del maps[_TRUTH]
        title = (
            f"Simulated field {simulated.field}, {simulated.band}: calibration with "
            f"{APERTURE}"
        )
        figure_path = _draw(directory, zpmap, title, image, maps, raw.mask, report)
        step("done")
    table.meta = {
        "field": simulated.field,
        "band": simulated.band,
        "seed": seed,
        "image": str(paths.image),
        "calibrated": str(calibrated_path),
        "figure": str(figure_path or ""),
    }
    report(f"simulated field {simulated.field}, {len(simulated.sources)} stars")
    report(f"{n_maps} maps in {len(paths.archives)} archives; applied: {zpmap.key}")
    report(f"raw image         {paths.image}")
    report(f"calibrated image  {calibrated_path}")
    if figure_path is not None:
        report(f"figure            {figure_path}")
    report("")
    for line in table.pformat(max_lines=-1, max_width=-1):
        report(line)
    return table


class _Truth:
    """The true zero points of a simulated field, and isolated stars to measure."""

    def __init__(self, simulated: SimulatedField) -> None:
        self._simulated = simulated
        rows, columns = simulated.grid.image_shape
        self.x = np.arange(_STEP // 2, columns, _STEP)
        self.y = np.arange(_STEP // 2, rows, _STEP)[:, np.newaxis]
        self.zeropoint = np.asarray(simulated.zeropoint(self.x, self.y))
        self._has_stars = self._in_good_cell(self.x, self.y)
        self._choose_stars()

    def _in_good_cell(self, x: ArrayLike, y: ArrayLike) -> np.ndarray:
        grid = self._simulated.grid
        i, j = grid.cell_of(x, y)
        return self._simulated.maps[APERTURE].valid[i, j]

    def _choose_stars(self) -> None:
        from scipy.spatial import KDTree

        reference = self._simulated.reference
        positions = np.column_stack([reference["x"], reference["y"]])
        mag = np.asarray(reference["MAG"])
        rows, columns = self._simulated.grid.image_shape
        away = np.minimum(positions, (columns - 1, rows - 1) - positions).min(axis=1)
        neighbour = KDTree(positions).query(positions, k=2)[0][:, 1]
        chosen = (mag < _BRIGHT) & (neighbour > _ISOLATION) & (away > _DIAMETER)
        chosen &= self._in_good_cell(*positions.T)
        mask = self._simulated.ccd.mask
        chosen[chosen] = aperture_sums(mask, positions[chosen], _DIAMETER) == 0
        self._positions, self._mag = positions[chosen], mag[chosen]

    def residual(self, zeropoint: np.ndarray) -> np.ndarray:
        """Return the error of zero points on the fine grid, NaN in empty cells."""
        error = np.where(self._has_stars, zeropoint - self.zeropoint, np.nan)
        return error - np.nanmean(error)

    def star_residual(self, image: np.ndarray) -> np.ndarray:
        """Return the errors of the stars' magnitudes in an image of zero point 30."""
        counts = aperture_sums(image, self._positions, _DIAMETER)
        error = 30 - 2.5 * np.log10(counts) - self._mag
        return error - np.mean(error)

    def calibrate(self, image: np.ndarray) -> np.ndarray:
        """Return an image calibrated with the true zero point."""
        rows, columns = image.shape
        x, y = np.arange(columns), np.arange(rows)[:, np.newaxis]
        return image * 10 ** (0.4 * (30 - self._simulated.zeropoint(x, y)))


def aperture_sums(
    image: ArrayLike, positions: np.ndarray, diameter: float
) -> np.ndarray:
    """
    Sum the pixels of an image in circular apertures.

    Parameters
    ----------
    image : 2D array-like
    positions : 2D `~numpy.ndarray`
        The 0-based pixel coordinates ``x, y`` of the centres, one per row, at
        least ``diameter`` from the edges of the image.
    diameter : float
        In pixels.

    Returns
    -------
    sums : 1D `~numpy.ndarray`

    Notes
    -----
    The weight of a pixel decreases linearly from 1 to 0 between half a pixel inside
    and half a pixel outside the aperture.
    """
    half = int(np.ceil(diameter / 2)) + 1
    step = np.arange(-half, half + 1)
    middle = np.rint(positions).astype(int)
    x = middle[:, :1] + step
    y = middle[:, 1:] + step
    distance = np.hypot(
        (y - positions[:, 1:])[:, :, np.newaxis],
        (x - positions[:, :1])[:, np.newaxis],
    )
    weight = np.clip(diameter / 2 + 0.5 - distance, 0, 1)
    stamps = np.asarray(image)[y[:, :, np.newaxis], x[:, np.newaxis]]
    return (stamps * weight).sum(axis=(1, 2), dtype=float)


def _zeropoint_of(zpmap: ZeroPointMap, method: str, truth: _Truth) -> np.ndarray:
    """Return the zero point that `apply_zeropoint` uses, on the grid of the truth."""
    ones = CCDData(np.ones(zpmap.grid.image_shape), unit=zpmap.image_unit)
    factor = apply_zeropoint(ones, zpmap, method=method).data[truth.y, truth.x]
    return 30 - 2.5 * np.log10(factor)


def _table(maps: Mapping[str, np.ndarray], stars: Mapping[str, np.ndarray]) -> Table:
    def rms(values: np.ndarray) -> float:
        return 1000 * np.sqrt(np.nanmean(np.square(values)))

    names = list(maps)
    table = Table()
    table["method"] = names
    table["zeropoint_rms"] = [rms(maps[name]) for name in names]
    table["star_rms"] = [rms(stars[name]) for name in names]
    left = np.ma.masked_equal(np.asarray(table["zeropoint_rms"]), 0)
    table["gain"] = np.ma.divide(left[0], left)
    for name in ("zeropoint_rms", "star_rms"):
        table[name].unit = "mmag"
        table[name].format = ".1f"
    table["gain"].format = ".1f"
    return table


def _draw(
    directory: Path,
    zpmap: ZeroPointMap,
    title: str,
    image: np.ndarray,
    residuals: Mapping[str, np.ndarray],
    mask: np.ndarray,
    report: Callable[[str], object],
) -> Path | None:
    """Write the figure and return its path; without matplotlib, report the reason."""
    path = directory / "calibration.png"
    try:
        figure = plot_calibration(zpmap, image, residuals, mask=mask, title=title)
    except KS4Error as error:
        report(f"no figure: {error}")
        return None
    figure.savefig(path, dpi=120)
    return path
