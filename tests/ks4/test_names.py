# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Names that KS4 uses."""

import pytest

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.names import canonical_key, key_of_file, normalize_field, sort_key
from ks4_ccd.maps.key import MapKey


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0403", ("0403", None)),
        (403, ("0403", None)),
        (" 7 ", ("0007", None)),
        ("0403.122-72", ("0403", "122-72")),
    ],
)
def test_normalize_field(name, expected):
    """The number of a field is converted to four digits."""
    assert normalize_field(name) == expected


@pytest.mark.parametrize("name", ["M31", "", -1, 40310, 403.0])
def test_other_fields_are_refused(name):
    """The message quotes a name that is not that of a KS4 field."""
    with pytest.raises(KS4Error, match="field") as caught:
        normalize_field(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "mode", "expected"),
    [
        (403, "Idual", ("0403", "dual")),
        ("0403", "dual", ("0403", "dual")),
        ("M31", "Idual", ("M31", "dual")),
        ("12345", "deep", ("12345", "deep")),
    ],
)
def test_canonical_key(field, mode, expected):
    """Numbers are converted to four digits and `Idual` to `dual`; others are kept."""
    key = canonical_key(MapKey("zp", field, "R", mode, "AUTO"))
    assert (key.field, key.mode) == expected


def test_both_names_of_dual():
    """`dual` and `Idual` in a file name are exchanged; the rest is unchanged."""
    one, other = (key_of_file(f"zp_map_403.122-72_R_{mode}_AUTO.npy") for mode in MODES)
    assert one == other
    assert (one.field, one.tile) == ("403", "122-72")


MODES = ("dual", "Idual")


def test_bands_are_sorted_by_wavelength():
    """Bands of KS4 come first, from blue to red, before others."""
    bands = ["r", "I", "B", "V", "R"]
    keys = [MapKey("align", 1, band) for band in bands]
    assert [key.band for key in sorted(keys, key=sort_key)] == [*"BVRI", "r"]
