# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""DR1 flags of fields."""

import pytest
from astropy.table import Table

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.names import BANDS
from ks4_ccd.ks4.quality import FLAGS, field_flags, in_dr1
from ks4_ccd.ks4.tiling import tile_name

N_FIELDS = 2749


def flagged(flag):
    """Return the numbers of the fields that have a flag in any band."""
    return [
        number
        for number in range(N_FIELDS)
        if any(flag in field_flags(number, band) for band in BANDS)
    ]


@pytest.mark.parametrize(
    ("flag", "count"),
    [
        ("poor_flat", 32),
        ("stray_light", 19),
        ("satellite", 11),
        ("wrong_zp", 2),
        ("tracking", 1),
    ],
)
def test_number_of_flagged_fields(flag, count):
    """The number of flagged fields is the published one."""
    assert len(flagged(flag)) == count


def test_number_of_fields():
    """DR1 has 979 fields."""
    assert sum(in_dr1(number) for number in range(N_FIELDS)) == 979


def test_flagged_fields_are_in_dr1():
    """Only fields of DR1 are flagged."""
    assert all(in_dr1(number) for flag in FLAGS for number in flagged(flag))


def test_flags_are_those_of_the_dr1_table(ks4_data):
    """Fields and flags are those of the table of DR1, band by band."""
    table = Table.read(ks4_data / "ks4_dr1_fields.ecsv").filled("")
    assert tuple(table.colnames[2:]) == FLAGS
    assert {n for n in range(N_FIELDS) if in_dr1(n)} == set(table["field_id"])
    for row in table:
        assert tile_name(row["field_id"]) == row["name"]
        for band in BANDS:
            expected = tuple(flag for flag in FLAGS if band in row[flag])
            assert field_flags(row["field_id"], band) == expected


@pytest.mark.parametrize(
    "field", ["0619", 619, tile_name(619), "0619." + tile_name(619)]
)
def test_flags_come_in_a_fixed_order(field):
    """Two flags of a field are in the documented order, for any name of the field."""
    assert field_flags(field, "R") == ("stray_light", "satellite")


def test_flags_are_per_band():
    """A flag of one band does not apply to another."""
    assert field_flags("0619", "I") == ()


def test_field_outside_dr1():
    """A KS4 field outside DR1 has no flags."""
    assert not in_dr1("0015")
    assert field_flags("0015", "R") == ()


@pytest.mark.parametrize("band", ["r", "BV", "", "G", None, ["R"]])
def test_bad_band(band):
    """The message quotes a band that is not one of BVRI."""
    with pytest.raises(KS4Error, match="band") as caught:
        field_flags("0001", band)
    assert repr(band) in str(caught.value)


@pytest.mark.parametrize("field", ["2749", "M31", "0403.123-72"])
def test_bad_field(field):
    """The message quotes a field outside the tiling."""
    for call in (in_dr1, lambda name: field_flags(name, "R")):
        with pytest.raises(KS4Error) as caught:
            call(field)
        assert repr(field) in str(caught.value)
