# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the quoted uncertainties of maps by their coverage."""

import numpy as np
import pytest
from astropy.table import Table

from ks4_ccd import build_offset_map, build_zeropoint_map

SIZE = 2200  # pixels
SIGMA = 0.02  # mag, or arcsec
FIELDS = 20  # at most; fewer for many stars


def constant(rng):
    """Return a field without structure."""
    return lambda x, y: np.zeros(np.shape(x))


def smooth(rng):
    """Return a field of a few waves, 0.03 RMS."""
    cycles, phase = rng.uniform(0.3, 2, (2, 6)), rng.uniform(0, 2 * np.pi, (2, 6))

    def field(x, y):
        (a, b), (p, q) = 2 * np.pi * cycles / SIZE, phase
        x, y = np.asarray(x)[..., None], np.asarray(y)[..., None]
        waves = np.cos(a * x + p) * np.cos(b * y + q)
        return 0.03 * np.sqrt(4 / 6) * waves.sum(axis=-1)

    return field


def stepped(rng):
    """Return a field of eight amplifiers in two rows, whose edges are not specified."""
    levels = 0.03 * rng.normal(size=(4, 2))
    return lambda x, y: levels[
        np.clip((np.asarray(x) * 4 / SIZE).astype(int), 0, 3),
        np.clip((np.asarray(y) * 2 / SIZE).astype(int), 0, 1),
    ]


def make_stars(rng, number, zeropoint, dra, ddec):
    """Return a table of matched stars with normal errors of the quoted size."""
    x, y = rng.uniform(0, SIZE - 1, (2, number))
    mag = rng.uniform(14.2, 18.8, number)
    wrong = SIGMA * rng.normal(size=(3, number))
    columns = {
        "X_IMAGE": x + 1,
        "Y_IMAGE": y + 1,
        "MAG_AUTO": mag - 30 - zeropoint(x, y) - wrong[0],
        "MAGERR_AUTO": np.full(number, SIGMA),
        "FLAGS": np.zeros(number, int),
        "IMAFLAGS_ISO": np.zeros(number, int),
        "CLASS_STAR": np.ones(number),
        "Rmag": mag,
        "e_Rmag": np.zeros(number),
        "sep": np.zeros(number),
        "dra": dra(x, y) + wrong[1],
        "ddec": ddec(x, y) + wrong[2],
    }
    return Table(columns)


def coverage(kind, make_field, number):
    """Return the fractions of errors, and of new stars, within one sigma, by field."""
    within = []
    for seed in range(min(FIELDS, 5000 // number)):
        rng = np.random.default_rng([seed, number])
        fields = [make_field(rng) for _ in range(3)]
        stars = make_stars(rng, number, *fields)
        x, y = rng.uniform(0, SIZE - 1, (2, 500))
        options = {"band": "R", "shape": (11, 11)}
        if kind == "zeropoint":
            map_ = build_zeropoint_map(stars, (SIZE, SIZE), aperture="AUTO", **options)
            off = np.array([map_.at(x, y) - 30 - fields[0](x, y)])
        else:
            map_ = build_offset_map(stars, (SIZE, SIZE), **options)
            off = np.array(map_.at(x, y)) - [field(x, y) for field in fields[1:]]
        star = off + SIGMA * rng.normal(size=off.shape)
        within.append(
            [
                np.mean(np.abs(left) <= map_.error_at(x, y, error_kind=error_kind))
                for left, error_kind in ((off, "median"), (star, "scatter"))
            ]
        )
    return within


@pytest.mark.parametrize("kind", ["zeropoint", "offset"])
@pytest.mark.parametrize("number", [20, 49, 120, 600])
@pytest.mark.parametrize("make_field", [constant, smooth, stepped])
def test_uncertainties_hold(kind, number, make_field):
    """About 68 % of the errors are below the quoted ones, for few stars and many."""
    within = coverage(kind, make_field, number)
    of_map, of_stars = np.mean(within, axis=0)
    # The error of the mean level is common to a field: positions are not independent.
    chance = 3 * np.std(within, axis=0)[0] / np.sqrt(len(within))
    assert 0.62 - chance < of_map < (0.85 if make_field is constant else 0.74) + chance
    assert 0.62 < of_stars < 0.74
