# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibration of real stars with a known true zero point: the acceptance data."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from scipy.ndimage import zoom

from ks4_ccd import MapLibrary, apply_zeropoint
from ks4_ccd.cli import main
from ks4_ccd.maps.grid import corners

STACK = (22000, 22000)


@pytest.fixture(scope="module")
def library(ks4_data):
    """Open a library of the six archives."""
    with MapLibrary(ks4_data / "archives") as opened:
        yield opened


def truth(ks4_data, band):
    """Return 0-based pixel coordinates and the true zero point there."""
    with np.load(ks4_data / "truth" / f"truth_0000_{band}.npz") as file:
        x, y = np.meshgrid(file["grid"] - 1, file["grid"] - 1, indexing="ij")
        return x, y, file["zp"]


@pytest.mark.parametrize("aperture", ["APER10", "APER5", "AUTO"])
def test_the_residual_zero_point(ks4_data, library, aperture):
    """In cells with stars, the residual is below that of the published method."""
    x, y, true = truth(ks4_data, "R")
    zpmap = library.zeropoint("0000", "R", aperture=aperture)
    starry = zpmap.valid[zpmap.grid.cell_of(x, y)]

    def residual(drawn):
        return np.std((drawn.at(x, y) - true)[starry])

    assert residual(zpmap) < 0.0072
    assert residual(zpmap.smoothed()) < 0.0050
    stretched = corners(zpmap.grid.stretched(0, x), zpmap.grid.stretched(1, y))
    factor = 10 ** (0.4 * (30 - zpmap.marked(30)["values"]))
    published = -2.5 * np.log10(sum(factor[cell] * w for cell, w in stretched))
    assert residual(zpmap) < np.std((published - true)[starry])


@pytest.mark.parametrize("smooth", [[], ["--smooth"]])
def test_the_command_calibrates_a_cut_out(ks4_data, tmp_path, smooth):
    """The factor that the command applies to pixels agrees with the true zero point."""
    raw = ks4_data / "images" / "cutout_0000_R.fits"
    target = tmp_path / "calibrated.fits"
    archives = str(ks4_data / "archives")
    command = ["calibrate", str(raw), "--maps", archives, "-o", str(target), *smooth]
    assert main(command) == 0
    before, after = fits.getdata(raw), fits.getdata(target)
    x, y, true = truth(ks4_data, "R")
    column, row = x - 10200, y - 10100
    inside = (column >= 0) & (column < 1600) & (row >= 0) & (row < 1600)
    place = row[inside].astype(int), column[inside].astype(int)
    applied = 30 - 2.5 * np.log10(after[place].astype(float) / before[place])
    assert np.std(applied - true[inside]) < 0.0072
    assert np.std(applied - true[inside]) < np.std(true[inside]) / 2


def test_a_mask_file_beside_the_image_is_kept(ks4_data, library):
    """A mask that is given as an array is kept."""
    ccd = CCDData.read(ks4_data / "images" / "cutout_0000_R.fits", unit="adu")
    ccd.mask = fits.getdata(ks4_data / "images" / "cutout_0000_R.mask.fits.gz") > 0
    result = apply_zeropoint(ccd, library.for_header(ccd.header))
    np.testing.assert_array_equal(result.mask, ccd.mask)


def test_dr1_on_a_full_stack_is_the_published_function(library):
    """All pixels are bit-identical, except ties in fewer than one of ten million."""
    zpmap = library.zeropoint("0000", "R")
    factor = 10 ** (0.4 * (30 - zpmap.values))
    big = zoom(factor, STACK[0] // factor.shape[0], order=1)
    data = np.random.default_rng(3).random((5500, STACK[1]), dtype=np.float32)
    different = 0
    for first in range(0, STACK[0], len(data)):
        ours = apply_zeropoint(
            CCDData(data, unit="adu"), zpmap, method="dr1", origin=(0, first)
        )
        published = (data * np.transpose(big[:, first : first + len(data)])).astype(
            "f4"
        )
        different += np.count_nonzero(ours.data != published)
    assert different < STACK[0] * STACK[1] / 1e7
