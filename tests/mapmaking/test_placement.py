# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the positions of stars on the stack of a field."""

import pytest

from ks4_ccd import (
    GeometryError,
    MapMismatchError,
    build_maps,
    build_misalignment_map,
    build_offset_map,
    build_zeropoint_map,
    cross_validate,
    simulate_field,
)

BUILDERS = [build_zeropoint_map, build_offset_map, build_misalignment_map, build_maps]
SHAPE = (400, 500)


@pytest.fixture(scope="module")
def simulated():
    """A simulated field, whose tables must be copied before a change."""
    return simulate_field(SHAPE, map_shape=(10, 8), field="0403", seed=3)


@pytest.mark.parametrize("build", BUILDERS)
def test_the_size_of_the_stack(simulated, build):
    """A wrong image_shape is refused, and the message contains the right one."""
    options = {"band": "R", "shape": (5, 4)}
    build(simulated.matched, SHAPE, field="0403", **options)
    with pytest.raises(GeometryError, match=r"image_shape=\(400, 500\)"):
        build(simulated.matched, field="0403", **options)
    build(simulated.matched, (800, 1000), **options)
    build(simulated.matched, (800, 1000), field="5000", **options)


def test_stars_of_a_cutout(simulated):
    """Positions on a cut-out are refused for a field, and accepted without one."""
    x, y = (simulated.matched[name] for name in ("X_IMAGE", "Y_IMAGE"))
    cut = simulated.matched[(x > 260) & (y > 210)]
    cut["X_IMAGE"] -= 260
    cut["Y_IMAGE"] -= 210
    options = {"band": "R", "shape": (5, 4)}
    with pytest.raises(GeometryError, match=r"shifted by \(130, 105\).*Omit field="):
        build_zeropoint_map(cut, (190, 240), field="0403", **options)
    build_zeropoint_map(cut, (190, 240), **options)


@pytest.mark.parametrize("has_own_sky", [True, False])
def test_stars_of_other_pixels(simulated, has_own_sky):
    """Sky positions are those of the catalog, or those of the reference."""
    turned = simulated.matched.copy()
    turned["X_IMAGE"] = 501 - turned["X_IMAGE"]
    if not has_own_sky:
        turned.remove_columns(["ALPHA_J2000", "DELTA_J2000"])
    with pytest.raises(GeometryError, match="does not have the pixels of the stack"):
        build_zeropoint_map(turned, SHAPE, band="R", field="0403")


def test_stars_of_another_field(simulated):
    """Stars outside of the field are refused."""
    with pytest.raises(MapMismatchError, match="not in field 0404"):
        build_zeropoint_map(simulated.matched, SHAPE, band="R", field="0404")


def test_a_map_is_validated_by_stars_of_its_stack(simulated):
    """A map of an image of another shape than that of the catalog is refused."""
    turned = simulated.matched.copy()
    turned["X_IMAGE"] = 501 - turned["X_IMAGE"]
    calibration = simulated.maps["APER5"]
    options = {"band": "R", "calibration": calibration}
    cross_validate(simulated.matched, SHAPE, **options)
    with pytest.raises(GeometryError, match="contradict each other"):
        cross_validate(turned, SHAPE, **options)
