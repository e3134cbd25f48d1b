# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The acceptance data, and factories of small maps and images."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

from ks4_ccd import MapGrid, MapKey, ZeroPointMap, field_center

UNCERTAINTIES = {
    "std": (StdDevUncertainty, lambda sigma: sigma),
    "var": (VarianceUncertainty, lambda sigma: sigma**2),
    "ivar": (InverseVariance, lambda sigma: 1 / sigma**2),
}


@pytest.fixture(scope="session")
def ks4_data():
    """Return the folder of the acceptance data."""
    folder = os.environ.get("KS4_CCD_DATA")
    if not folder:
        pytest.skip("KS4_CCD_DATA, the folder of the acceptance data, is not set")
    return Path(folder)


@pytest.fixture
def make_map():
    """Return a factory of zero-point maps with empty cells and cells of one star."""

    def make(shape=(5, 4), cell_size=20, *, seed=1, empty=0.2, **options):
        rng = np.random.default_rng(seed)
        count = rng.integers(1, 9, shape)
        count[rng.random(shape) < empty] = 0
        values = np.where(count > 0, 30 + rng.normal(0, 0.05, shape), 30)
        error = np.where(count > 1, rng.uniform(0.01, 0.03, shape), 0)
        options = {"grid": MapGrid(shape, cell_size)} | options
        return ZeroPointMap(values, error, count, **options)

    return make


@pytest.fixture
def make_key():
    """Return a factory of keys of zero-point maps."""

    def make(field="0403", band="R", mode="single", aperture="APER5"):
        return MapKey("zp", field, band, mode, aperture)

    return make


@pytest.fixture
def make_ccd():
    """Return a factory of images, optionally with an uncertainty."""

    def make(shape=(80, 100), dtype=np.float32, kind=None, *, seed=2, **options):
        rng = np.random.default_rng(seed)
        data = rng.normal(500, 100, shape).astype(dtype)
        if kind is not None:
            uncertainty_class, from_sigma = UNCERTAINTIES[kind]
            sigma = from_sigma(rng.uniform(5, 20, shape)).astype(dtype)
            options["uncertainty"] = uncertainty_class(sigma)
        return CCDData(data, **({"unit": "adu"} | options))

    return make


@pytest.fixture
def tan_wcs():
    """Return a factory of the WCS of a stack: TAN at the field centre, 0.4 arcsec."""

    def make(image_shape, center=None, scale=0.4, *, field="0000"):
        if center is None:
            middle = field_center(field)
            center = middle.ra.deg, middle.dec.deg
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        wcs.wcs.crval = center
        wcs.wcs.crpix = [(n + 1) / 2 for n in reversed(image_shape)]
        wcs.wcs.cdelt = -scale / 3600, scale / 3600
        wcs.wcs.set()
        return wcs

    return make


@pytest.fixture
def pixels():
    """Return a function that returns the 0-based coordinates x, y of all pixels."""

    def make(shape):
        y, x = np.indices(shape)
        return x, y

    return make
