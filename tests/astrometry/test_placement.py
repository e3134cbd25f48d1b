# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images and catalogs of any pixels: calibrated right, or refused, never wrong."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS, Sip

from ks4_ccd import (
    KS4Error,
    KS4Warning,
    MapGrid,
    MapKey,
    ZeroPointMap,
    apply_zeropoint,
    calibrate_catalog,
    calibrate_file,
)
from ks4_ccd.cli import main

STACK = (120, 150)
PART = (60, 80)
PART_ORIGIN = (40, 20)
GRID = MapGrid.for_image((15, 12), STACK)
# The zero point changes by up to 1.5 and 1.8 mmag from pixel to pixel, along x and y.
# Placements of images agree to a pixel along each axis, those of the median source
# to three pixels.
LARGEST, MEDIAN = 3.3e-3, 3 * 2.4e-3


@pytest.fixture(scope="module")
def zpmap():
    """Return a map whose zero point is different in each pixel."""
    x, y = np.indices(GRID.shape)
    key = MapKey("zp", "0403", "R", "single", "APER5")
    values = 29.5 + 0.015 * x + 0.0008 * y**2
    return ZeroPointMap(values, 0.01 + 0 * values, grid=GRID, key=key)


def changed(wcs, change):
    """Return the WCS of an image that was computed from one with another WCS."""
    angle = np.radians({"rotated": 90, "turned": 180, "tilted": 3}.get(change, 0))
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    flip = np.diag([-1, 1]) if change == "mirrored" else np.eye(2)
    scale = {"coarser": 2.0, "finer": 0.65}.get(change, 1)
    wcs.wcs.pc = scale * np.array(turn) @ flip
    if change == "recentred":
        wcs.wcs.crval = np.add(wcs.wcs.crval, (0.01, -0.003))
    wcs.wcs.crpix += {"shifted": (12, -7), "half": (0.4, -0.3)}.get(change, (0, 0))
    wcs.wcs.set()
    return wcs


def distorted(wcs, form):
    """Return a WCS with second-order terms of four pixels at the edge."""
    size = 4 / 75**2
    if form == "SIP":
        wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
        terms = np.zeros((3, 3))
        terms[2, 0] = size
        wcs.sip = Sip(terms, 0 * terms, None, None, wcs.wcs.crpix)
    elif form == "TPV":
        cards = wcs.to_header()
        cards["CTYPE1"], cards["CTYPE2"] = "RA---TPV", "DEC--TPV"
        cards["PV1_1"], cards["PV2_1"] = 1.0, 1.0
        cards["PV1_4"] = size * 3600 / 0.4
        wcs = WCS(cards)
    return wcs


def zeropoint_there(wcs, x, y, zpmap, stack):
    """Return the zero points at the positions of astropy's WCS, NaN off the stack."""
    lon, lat = wcs.all_pix2world(x, y, 0)
    there = stack.wcs_world2pix(lon, lat, 0)
    on = np.ones(np.shape(x), bool)
    for position, length in zip(there, reversed(STACK), strict=True):
        on &= (position > 0) & (position < length - 1)
    values = np.full(np.shape(x), np.nan)
    values[on] = zpmap.at(*(position[on] for position in there))
    return values


def in_memory(ccd, zpmap, tmp_path, options):
    """Return the zero points that were applied to an image."""
    data = apply_zeropoint(ccd, zpmap, uncalibrated="fill", **options).data
    return 30 - 2.5 * np.log10(data / ccd.data)


def from_file_to_file(ccd, zpmap, tmp_path, options):
    """Return the zero points that `calibrate_file` applied."""
    ccd.write(tmp_path / "raw.fits", overwrite=True)
    target = tmp_path / "cal.fits"
    options = {"uncalibrated": "fill", "overwrite": True} | options
    calibrate_file(tmp_path / "raw.fits", target, zpmap, **options)
    return 30 - 2.5 * np.log10(fits.getdata(target) / ccd.data)


def by_command(ccd, zpmap, tmp_path, options):
    """Return the zero points that the command applied."""
    ccd.write(tmp_path / "raw.fits", overwrite=True)
    zpmap.save(tmp_path / "maps")
    target = tmp_path / "cal.fits"
    words = ["calibrate", tmp_path / "raw.fits", "--maps", tmp_path / "maps"]
    words += ["-o", target, "--overwrite", "--uncalibrated", "fill"]
    words += ["--image-size", *reversed(STACK)]
    if "origin" in options:
        words += ["--origin", *options["origin"]]
    if main([str(word) for word in words]):
        raise KS4Error
    return 30 - 2.5 * np.log10(fits.getdata(target) / ccd.data)


def of_catalog(ccd, zpmap, tmp_path, options):
    """Return the zero points of sources at all pixels, and their sky positions."""
    y, x = (p.ravel() for p in np.indices(ccd.shape))
    table = Table({"X_IMAGE": x + 1.0, "Y_IMAGE": y + 1.0, "MAG_APER5": 0.0 * x - 10})
    table.meta.update(ccd.meta)
    sky = ccd.wcs.all_pix2world(x, y, 0)
    table["ALPHA_J2000"], table["DELTA_J2000"] = sky
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KS4Warning)
        result = calibrate_catalog(table, zpmap, uncalibrated="fill", **options)
    return np.asarray(result["ZP_APER5"]).reshape(ccd.shape)


# The routes, and the kinds of WCS that they are tested with.
ROUTES = {
    in_memory: ["TAN", "SIP", "TPV"],
    from_file_to_file: ["TAN", "SIP"],
    by_command: ["TAN"],
    of_catalog: ["TAN", "SIP", "TPV"],
}
GIVEN = [{}, {"origin": (0, 0)}, {"origin": PART_ORIGIN}, {"LTV1": -12.0, "LTV2": 0.0}]
CHANGES = ["none", "half", "shifted", "recentred", "rotated", "turned", "tilted"]
CHANGES += ["mirrored", "coarser", "finer"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("change", CHANGES)
def test_right_or_refused(tan_wcs, zpmap, tmp_path, change, route):
    """All functions place full stacks and cut-outs alike, for three kinds of WCS."""
    stack = tan_wcs(STACK, field="0403")
    refused = set()
    for shape in (STACK, PART):
        wcs = stack.deepcopy()
        if shape == PART:
            x, y = PART_ORIGIN
            wcs = wcs[y : y + PART[0], x : x + PART[1]]
        for form in ROUTES[route]:
            own = distorted(changed(wcs.deepcopy(), change), form)
            pixels = np.indices(shape)[::-1]
            expected = zeropoint_there(own, *pixels, zpmap, stack)
            for number, given in enumerate(GIVEN):
                meta = {"FIELD1": "0403", "FILTER": "R"} | given
                options = {"origin": meta.pop("origin")} if "origin" in given else {}
                ccd = CCDData(np.full(shape, 100.0), unit="adu", wcs=own, meta=meta)
                try:
                    found = route(ccd, zpmap, tmp_path, options)
                except KS4Error:
                    refused.add((shape, form, number))
                    continue
                miss = np.abs(found - expected)
                assert np.nanmedian(miss) < MEDIAN
                assert route is of_catalog or np.nanmax(miss) < LARGEST
    if change in ("none", "half"):
        # What is right is not refused: placements by shape, WCS and origin=.
        for right in ((STACK, "TAN", 0), (STACK, "TAN", 1), (STACK, "TAN", 3)):
            assert right not in refused
        for right in ((PART, "TAN", 0), (PART, "TAN", 2), (PART, "TAN", 3)):
            assert right not in refused
    elif change not in ("shifted", "recentred", "tilted"):
        assert len(refused) == 2 * len(ROUTES[route]) * len(GIVEN)
