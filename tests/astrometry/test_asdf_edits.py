# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""ASDF files that were edited by hand are right, or refused with the node's name."""

import copy
import io
import json

import asdf
import numpy as np
import pytest
from asdf.exceptions import AsdfConversionWarning, ValidationError
from astropy import units as u
from astropy.wcs import WCS, DistortionLookupTable, Sip

from ks4_ccd import MapFormatError, MapGrid, OffsetMap, apply_offsets
from ks4_ccd.astrometry._fits_models import FITSPixelToSky
from ks4_ccd.astrometry.asdf.converters import (
    FITSModelConverter,
    LookupDistortionConverter,
)

HEAD = """\
#ASDF 1.0.0
#ASDF_STANDARD 1.5.0
%YAML 1.1
%TAG ! tag:stsci.edu:asdf/
--- !core/asdf-1.1.0
model: !<asdf://ks4-ccd.org/tags/NAME-1.0.0> """


def as_yaml(node):
    """Return a node in the flow style of YAML, a superset of JSON."""
    if isinstance(node, dict):
        return "{" + ", ".join(f"{k}: {as_yaml(v)}" for k, v in node.items()) + "}"
    if isinstance(node, list | tuple):
        return "[" + ", ".join(as_yaml(value) for value in node) + "]"
    if isinstance(node, np.ndarray):
        array = {"data": node.tolist(), "datatype": node.dtype.name}
        return f"!core/ndarray-1.0.0 {as_yaml(array | {'shape': list(node.shape)})}"
    if isinstance(node, float) and not np.isfinite(node):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}[str(node)]
    return json.dumps(node)


def read(name, node):
    """Return the object that asdf reads from a node in a file."""
    text = f"{HEAD.replace('NAME', name)}{as_yaml(node)}\n...\n"
    with asdf.open(io.BytesIO(text.encode())) as file:
        return file["model"]


def convert(name, node):
    """Return the object that the converter creates from a node, without asdf."""
    is_fits = name.startswith("fits")
    converter = FITSModelConverter() if is_fits else LookupDistortionConverter()
    tag = f"asdf://ks4-ccd.org/tags/{name}-1.0.0"
    return converter.from_yaml_tree_transform(node, tag, None)


ENDS = {"inputs": ["x", "y"], "outputs": ["x", "y"]}
TABLES = ENDS | {
    "dx": np.array([[0.0, 0.5], [0.0, 0.5]]),
    "dy": np.array([[0.0, 0.0], [1.0, 1.0]]),
    "step": [20.0, 40],
    "first": [9.5, 19.5],
}


class _Context:
    """Replace the context of asdf during writing; blocks remain arrays."""

    version = "1.5.0"

    def generate_block_key(self):
        return None

    def find_available_block_index(self, array, _):
        self.array = array()
        return 0


@pytest.fixture
def fits_node(monkeypatch):
    """Return the node of a WCS with SIP and detector tables, and its model."""
    from ks4_ccd.astrometry.asdf import _wcs_nodes

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
    wcs.wcs.crval, wcs.wcs.crpix = (100 / 3, -62 - 1 / 7), (50 + 1 / 3, 40.0)
    wcs.wcs.cd = np.array([[-0.4, 1e-3], [2e-3, 0.4]]) / 3600
    a, b = np.zeros((2, 3, 3))
    a[2, 0], b[0, 2] = 1e-5 / 3, 2e-5 / 3
    wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    table = np.full((2, 3), 0.25, np.float32)
    wcs.det2im1, wcs.det2im2 = (
        DistortionLookupTable(t, (1, 1), (10, 10), (20, 20)) for t in (table, -table)
    )
    wcs.pixel_shape = 100, 80
    model = FITSPixelToSky(wcs)
    monkeypatch.setattr(_wcs_nodes, "block", lambda array, ctx: np.array(array))
    node = FITSModelConverter().to_yaml_tree_transform(model, "", _Context())
    return ENDS | json_numbers(node), model


def json_numbers(node):
    """Return a node with numpy scalars as Python numbers."""
    if isinstance(node, dict):
        return {key: json_numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [json_numbers(value) for value in node]
    return node.item() if isinstance(node, np.generic) else node


def edited(node, path, value):
    """Return a copy of a node with one value replaced, or removed if it is `None`."""
    node = copy.deepcopy(node)
    *above, last = path.split(".")
    inner = node
    for key in above:
        inner = inner[key]
    del inner[last]
    if isinstance(value, dict):
        inner.update(value)
    elif value is not None:
        inner[last] = value
    return node


@pytest.fixture(params=[True, False], ids=["validated", "not validated"])
def _validation(request):
    """Read with schema validation (the default until asdf 6), or without."""
    with asdf.config_context() as config:
        config.validate_on_read = request.param
        yield


REFUSED = MapFormatError, ValidationError, AsdfConversionWarning


@pytest.mark.usefixtures("_validation")
def test_unedited_nodes_are_read(fits_node):
    """The nodes that the other tests edit are valid."""
    model = read("lookup_distortion", TABLES)
    assert (model.step, model.first) == ((20, 40), (9.5, 19.5))
    node, written = fits_node
    x, y = np.array([3.0, 90.0]), np.array([70.0, 5.0])
    for model in (read("fits_pixel_to_sky", node), convert("fits_pixel_to_sky", node)):
        np.testing.assert_array_equal(model(x, y), written(x, y))


@pytest.mark.usefixtures("_validation")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("step", [5.0]),
        ("step", 5.0),
        ("step", [np.nan, 5.0]),
        ("step", {"stepp": [5.0, 5.0]}),
        ("first", [5.0]),
        ("first", {"frist": [9.5, 19.5]}),
        ("dx", np.array([0.0, 0.5])),
        ("dx", np.array([[np.nan, 0.5], [0.0, 0.5]])),
        ("dx", [[0.0, 0.5], [0.0, 0.5]]),
        ("dy", None),
    ],
    ids=str,
)
def test_files_with_wrong_tables(path, value):
    """Wrong tables are refused with and without schemas, by any version of asdf."""
    with pytest.raises(REFUSED):
        read("lookup_distortion", edited(TABLES, path, value))


PAIRS = [
    [5.0],
    [5.0, 5.0, 5.0],
    5.0,
    [],
    "far",
    ["5", "5"],
    [True, True],
    [None, 5.0],
    [np.nan, 5.0],
    [5.0, np.inf],
    [[5.0, 5.0]],
    np.array([5.0, 5.0]),
    {20.0: 1, 40.0: 2},
]


def refuse(name, node, words=""):
    """Assert that the converter refuses a node with the node's name."""
    with pytest.raises(MapFormatError, match=rf"the ASDF node {name} .*{words}"):
        convert(name, node)


@pytest.mark.parametrize("value", [*PAIRS, [0.0, 5.0], [5.0, -5.0]], ids=str)
def test_a_wrong_step(value):
    """A step has two finite, positive numbers, or is absent."""
    refuse("lookup_distortion", TABLES | {"step": value}, "step must be")


@pytest.mark.parametrize("value", PAIRS, ids=str)
def test_a_wrong_first_node(value):
    """A first node has two finite numbers, or is absent."""
    refuse("inverse_lookup_distortion", TABLES | {"first": value}, "first must be two")


@pytest.mark.parametrize("key", ["dx", "dy", "step", "first"])
def test_a_missing_or_misspelt_key(key):
    """No key has a default."""
    refuse("lookup_distortion", edited(TABLES, key, None), f"has no {key}")
    misspelt = edited(TABLES, key, {f"{key}s": TABLES[key]})
    refuse("lookup_distortion", misspelt, f"has no {key}")


SQUARE = np.array([[0.0, 0.5], [0.0, 0.5]])


@pytest.mark.parametrize(
    "value",
    [
        SQUARE[0],
        SQUARE[:1],
        SQUARE[None],
        SQUARE[:0],
        np.array([[0.0, np.nan], [0.0, 0.5]]),
        np.array([[0.0, np.inf], [0.0, 0.5]]),
        SQUARE > 0,
        SQUARE + 1j,
        SQUARE.astype(str),
        SQUARE.astype(object),
        np.ma.masked_equal(SQUARE, 0.5),
        SQUARE * u.arcsec,
        SQUARE.tolist(),
        [[0.0, 0.5], [0.0]],
        "zero",
        0.0,
        None,
    ],
    ids=repr,
)
@pytest.mark.parametrize("key", ["dx", "dy"])
def test_wrong_tables(key, value):
    """Tables are 2D arrays of finite real numbers, of one shape, without a unit."""
    refuse("lookup_distortion", TABLES | {key: value})


@pytest.mark.parametrize("dtype", ["i2", "u1", "f4", ">f8"])
def test_tables_of_other_real_numbers(dtype):
    """Tables of other real dtypes have the same values in float64."""
    model = convert("lookup_distortion", TABLES | {"dy": TABLES["dy"].astype(dtype)})
    assert model.dy.dtype == np.float64
    np.testing.assert_array_equal(model.dy, TABLES["dy"])


@pytest.mark.parametrize("key", ["crpix", "crval", "cdelt", "pole"])
@pytest.mark.parametrize("value", PAIRS, ids=str)
def test_a_wrong_number_of_a_wcs(fits_node, key, value):
    """Numbers of a WCS are pairs of finite numbers."""
    node = copy.deepcopy(fits_node[0])
    node["wcs"][key] = value
    refuse("fits_pixel_to_sky", node, f"{key} must be two finite numbers")


WRONG_WCS = [
    ("wcs", None),
    ("x_0", None),
    ("x_0", {"x0": 5.0}),
    ("x_0", "five"),
    ("y_0", np.nan),
    ("wcs.crval", [33.4, -62.1]),
    ("wcs.crpix", {"crpx": [3.0, 4.0]}),
    ("wcs.pc", [[1.0, 0.0]]),
    ("wcs.pc", [1.0, 0.0, 0.0, 1.0]),
    ("wcs.pc", [[1.0, 0.0], [0.0, 1.0]]),
    ("wcs.pv", [[1, 1]]),
    ("wcs.pv", [[7, 1, 1.0]]),
    ("wcs.pv", [[1, 1, np.nan]]),
    ("wcs.pv", 3),
    ("wcs.pixel_shape", [100]),
    ("wcs.pixel_shape", [100, -80]),
    ("wcs.pixel_shape", [100.5, 80]),
    ("wcs.cards", []),
    ("wcs.cards", "CTYPE1  = 'RA---TAN'"),
    ("wcs.cards", ["CTYPE1  = 'RA---TAN'", "WCSAXES = 1"]),
    ("wcs.sip", None),
    ("wcs.sip", {"spi": {}}),
    ("wcs.sip.a", None),
    ("wcs.sip.a", {"aa": np.zeros((3, 3))}),
    ("wcs.sip.a", np.array([[0.0, np.nan], [0.0, 0.0]])),
    ("wcs.sip.a", np.zeros(3)),
    ("wcs.sip.crpix", [50.0]),
    ("wcs.sip.crpix", None),
    ("wcs.det2im1", {"det2im": {}}),
    ("wcs.det2im1.cdelt", [20.0]),
    ("wcs.det2im1.crval", None),
    ("wcs.det2im1.data", np.zeros(3, np.float32)),
    ("wcs.det2im1.data", np.array([[0.0, np.nan]])),
]


@pytest.mark.parametrize(("path", "value"), WRONG_WCS, ids=str)
def test_a_wrong_edit_of_a_wcs(fits_node, path, value):
    """The message names it; it is never read as the WCS of other positions."""
    refuse("fits_pixel_to_sky", edited(fits_node[0], path, value))


@pytest.mark.parametrize(
    ("old", "new"),
    [("CTYPE1", "CTPYE1"), ("RA---TAN-SIP", "RA---TNA-SIP"), ("RA---TAN", "GLON-TAN")],
)
def test_a_wrong_type_of_a_wcs(fits_node, old, new):
    """A card of another name, or a projection that does not exist, is refused."""
    cards = [card.replace(old, new) for card in fits_node[0]["wcs"]["cards"]]
    refuse("fits_pixel_to_sky", edited(fits_node[0], "wcs.cards", cards))


def test_a_type_with_sip_and_no_polynomials_is_written_without(fits_node):
    """A WCS with SIP types and without polynomials is written with other types."""
    wcs = fits_node[1].wcs.deepcopy()
    wcs.sip = None
    file = io.BytesIO()
    asdf.AsdfFile({"model": FITSPixelToSky(wcs)}).write_to(file)
    with asdf.open(io.BytesIO(file.getvalue())) as opened:
        back = opened["model"]
    np.testing.assert_array_equal(back(3.0, 4.0), FITSPixelToSky(wcs)(3.0, 4.0))
    assert list(back.wcs.wcs.ctype) == ["RA---TAN", "DEC--TAN"]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"step: [20.0, 20.0]", b"step: [20.0      ]"), (b"first: [", b"frist: [")],
)
@pytest.mark.usefixtures("_validation")
@pytest.mark.filterwarnings("ignore::asdf.exceptions.AsdfConversionWarning")
def test_a_gwcs_with_a_wrong_node_has_no_positions(old, new):
    """If asdf converts errors to warnings, the returned object cannot be evaluated."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crpix, wcs.wcs.cdelt = (50, 40), (-1e-4, 1e-4)
    dra, ddec = np.random.default_rng(3).normal(0, 0.05, (2, 5, 4))
    offsets = OffsetMap(dra, ddec, grid=MapGrid((5, 4), 20))
    file = io.BytesIO()
    asdf.AsdfFile({"wcs": apply_offsets(wcs, offsets)}).write_to(file)
    content = file.getvalue()
    assert content.count(old) == 1
    content = io.BytesIO(content.replace(old, new))
    with pytest.raises((*REFUSED, TypeError)):
        positions_in(content)


def positions_in(content):
    """Return the positions that a gWCS in a file returns for a pixel."""
    with asdf.open(content) as file:
        return file["wcs"](30.0, 40.0)
