# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Units in headers: spellings, types of uncertainties, conversions."""

import pytest
from astropy import units as u

from ks4_ccd import KS4Error
from ks4_ccd.files.uncertainties import (
    uncertainty_factor,
    uncertainty_kind,
)
from ks4_ccd.files.units import (
    as_gain,
    bunit_of,
    conversion,
    parse_unit,
)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ADU", u.adu),
        ("adu ", u.adu),
        ("[adu]", u.adu),
        ("COUNTS", u.ct),
        ("Counts", u.ct),
        ("cts", u.ct),
        ("Dn", u.DN),
        ("ELECTRONS", u.electron),
        ("e-", u.electron),
        ("photons", u.ph),
        ("e-/s", u.electron / u.s),
        ("ELECTRONS/S", u.electron / u.s),
        ("counts per second", u.ct / u.s),
        ("ADU/sec/pixel", u.adu / u.s / u.pix),
        ("MJY/SR", u.MJy / u.sr),
        ("mJy/beam", u.mJy / u.beam),
        ("JY/PIXEL", u.Jy / u.pix),
        ("nanomaggies", u.nmgy),
        ("1000 adu", 1000 * u.adu),
    ],
)
def test_spellings_of_units(text, unit):
    """Units in capitals, in the plural and abbreviated are read."""
    assert parse_unit(text) == unit


@pytest.mark.parametrize("text", ["unknown", "flux", "DU", "furlongs per", "raw adus"])
def test_invalid_units(text):
    """An unknown word is not interpreted as counts."""
    with pytest.raises(KS4Error, match=f"a.fits: BUNIT: expected.*found '{text}'"):
        bunit_of({"BUNIT": text}, "a.fits")


def test_a_missing_unit_is_none():
    """A blank unit is dimensionless, as in astropy."""
    assert bunit_of({}, "a.fits") is None
    assert bunit_of({"BUNIT": ""}, "a.fits") == u.dimensionless_unscaled


@pytest.mark.parametrize(
    ("unit", "target", "factor"),
    [
        (u.DN, u.adu, 1),
        (u.ct, u.DN, 1),
        (u.adu / u.pix, u.adu, 1),
        (u.ct**2, u.adu**2, 1),
        (1 / u.DN**2, u.adu**-2, 1),
        (1000 * u.adu, u.ct, 1000),
        (u.electron, u.adu, None),
        (u.adu / u.s, u.adu, None),
        (u.adu**2, u.adu, None),
        (u.Magnitude(0).unit, u.adu, None),
    ],
)
def test_counts_are_counts(unit, target, factor):
    """Counts are recognised in any spelling, per pixel or not; other units are not."""
    assert conversion(u.Unit(unit), target) == factor


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("StdDevUncertainty", "std"),
        ("stddev", "std"),
        ("STD", "std"),
        ("Standard Deviation", "std"),
        ("VarianceUncertainty", "var"),
        ("variance", "var"),
        ("Var", "var"),
        ("IVAR", "ivar"),
        ("inverse_variance", "ivar"),
        ("InverseVariance", "ivar"),
    ],
)
def test_kinds_of_uncertainties(text, kind):
    """UTYPE is read in upper and lower case."""
    assert uncertainty_kind({"UTYPE": text}, "a.fits") == kind
    assert uncertainty_kind({}, "a.fits") == "std"


@pytest.mark.parametrize("text", ["weight", "rms", "unknown", "", 1])
def test_other_kinds_are_refused(text):
    """Other types are not interpreted as standard deviations."""
    with pytest.raises(KS4Error, match="expected UTYPE of the extension UNCERT"):
        uncertainty_kind({"UTYPE": text}, "a.fits")


def test_the_unit_of_uncertainties():
    """BUNIT is converted to the unit of the image, as a square for variances."""
    for header in ({}, {"BUNIT": " "}):
        assert uncertainty_factor(header, "std", u.adu, "a.fits") == 1
    assert uncertainty_factor({"BUNIT": "DN2"}, "var", u.adu, "a.fits") == 1
    header = {"BUNIT": "1000 adu"}
    assert uncertainty_factor(header, "std", u.adu, "a.fits") == 1000
    with pytest.raises(KS4Error, match="a unit that converts to adu2, found adu"):
        uncertainty_factor({"BUNIT": "adu"}, "var", u.adu, "a.fits")
    with pytest.raises(KS4Error, match=r"a.fits\[UNCERT\]: BUNIT: .*'what'"):
        uncertainty_factor({"BUNIT": "what"}, "std", u.adu, "a.fits")


@pytest.mark.parametrize(
    "gain",
    [
        4.8,
        "4.8",
        [4.8, 4.9] * u.electron / u.adu,
        4.8 * u.adu / u.electron,
        4.8 * u.electron,
        -4.8 * u.electron / u.adu,
        0 * u.electron / u.adu,
        float("nan") * u.electron / u.adu,
        u.electron / u.adu * float("inf"),
        object(),
    ],
)
def test_a_gain_has_a_unit(gain):
    """A plain number, an inverse gain and one that is not positive are refused."""
    with pytest.raises(KS4Error, match=r"positive Quantity in electron / adu"):
        as_gain(gain)


def test_gains():
    """A gain is a Quantity, or its text, in electrons or photons per count."""
    for gain in (4.8 * u.electron / u.adu, "4.8 electron / adu", 4.8 * u.ph / u.ct):
        assert as_gain(gain).value == 4.8
    assert as_gain(None) is None
