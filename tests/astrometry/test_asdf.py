# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""ASDF: models and gWCS go to a file and back, bit for bit."""

import io
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import asdf
import numpy as np
import pytest
from asdf.exceptions import AsdfConversionWarning, ValidationError
from astropy.modeling.models import Shift
from astropy.wcs import WCS, Sip

from ks4_ccd import (
    LookupDistortion,
    MapFormatError,
    MapGrid,
    OffsetMap,
    apply_offsets,
)
from ks4_ccd.astrometry._fits_models import FITSPixelToSky
from ks4_ccd.astrometry.asdf import integration

TABLE = "!core/ndarray-1.0.0"
OLD_FILE = """\
#ASDF 1.0.0
#ASDF_STANDARD 1.5.0
%YAML 1.1
%TAG ! tag:stsci.edu:asdf/
--- !core/asdf-1.1.0
distortion: !<asdf://ks4-ccd.org/tags/lookup_distortion-1.0.0>
  dx: {dx}
  dy: {dy}
  step: {step}
  first: [9.5, 19.5]
  inputs: [x, y]
  outputs: [x, y]
...
"""
GOOD = {
    "dx": TABLE + " {data: [[0.0, 0.5], [0.0, 0.5]], shape: [2, 2], datatype: float64}",
    "dy": TABLE + " {data: [[0, 0], [1, 1]], shape: [2, 2], datatype: float64}",
    "step": "[20.0, 40.0]",
}


ONE_D = TABLE + " {data: [0.0, 0.5], shape: [2], datatype: float64}"
OTHER_SHAPE = TABLE + " {data: [[0.0, 0.5]], shape: [1, 2], datatype: float64}"
WITH_NAN = GOOD["dx"].replace("[[0.0, 0.5]", "[[0.0, .nan]")
WITHOUT_DY = OLD_FILE.replace("  dy: {dy}\n", "").format(**GOOD)


def edited(**parts):
    """Return the text of a file of version 1.0.0 with replaced parts."""
    return OLD_FILE.format(**GOOD | parts)


@pytest.fixture(autouse=True)
def _extension():
    """Register the extensions as the entry points of an installed package do."""
    with asdf.config_context() as config:
        if not entry_points(group="asdf.extensions", name="ks4_ccd"):
            for mapping in integration.get_resource_mappings():
                config.add_resource_mapping(mapping)
            for extension in integration.get_extensions():
                config.add_extension(extension)
        yield


@pytest.fixture
def distortion():
    """Return random tables of 4 rows and 5 columns."""
    tables = np.random.default_rng(1).normal(0, 0.1, (2, 4, 5))
    return LookupDistortion(*tables, step=(20, 30.5), first=(9.5, 1 / 3), name="d")


@pytest.fixture
def fits_wcs():
    """Return a WCS whose numbers are not exact in FITS cards."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 100 / 3, -62 - 1 / 7
    wcs.wcs.crpix = 50 + 1 / 3, 40 - 1 / 7
    wcs.wcs.cdelt = -0.4 / 3600, 0.4 / 3600
    wcs.wcs.set()
    wcs.pixel_shape = 100, 80
    return wcs


@pytest.fixture
def points():
    """Return positions on the image and slightly outside."""
    rng = np.random.default_rng(2)
    return rng.uniform(0, 99, 200), rng.uniform(0, 79, 200)


def write(model, **options):
    """Return the bytes of a file that contains a model."""
    file = io.BytesIO()
    asdf.AsdfFile({"model": model}).write_to(file, **options)
    return file.getvalue()


def through_file(model, **options):
    """Return a model written to a file and read again."""
    with asdf.open(io.BytesIO(write(model, **options))) as file:
        return file["model"]


@pytest.mark.parametrize("direction", [lambda d: d, lambda d: d.inverse])
def test_both_directions_are_written(distortion, direction, points):
    """Class, tables, steps and results are equal to the last bit."""
    model = direction(distortion)
    back = through_file(model)
    assert type(back) is type(model)
    assert (back.step, back.first, back.name) == (model.step, model.first, model.name)
    np.testing.assert_array_equal(back.dx, model.dx)
    np.testing.assert_array_equal(back.dy, model.dy)
    np.testing.assert_array_equal(back(*points), model(*points))


def test_a_bounding_box_is_kept(distortion):
    """The order of a bounding box is kept."""
    distortion.bounding_box = (-0.5, 79.5), (-0.5, 99.5)
    back = through_file(distortion)
    assert back.bounding_box == distortion.bounding_box


def test_a_compound_model(distortion, points):
    """A distortion between two shifts is written and read."""
    model = Shift(1) & Shift(2) | distortion | Shift(0.1) & Shift(0.2)
    back = through_file(model)
    np.testing.assert_array_equal(back(*points), model(*points))
    np.testing.assert_array_equal(back.inverse(*points), model.inverse(*points))


def test_an_inverse_that_the_user_set(distortion, points):
    """An inverse that the user set is kept, instead of the default inverse."""
    distortion.inverse = Shift(1) & Shift(2)
    back = through_file(distortion)
    np.testing.assert_array_equal(back.inverse(*points), distortion.inverse(*points))


@pytest.mark.parametrize("inverse", [False, True])
def test_a_fits_wcs_as_a_model(fits_wcs, points, inverse):
    """A FITS WCS with SIP is exact, although FITS cards have 14 digits."""
    fits_wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
    a, b = np.zeros((2, 3, 3))
    a[2, 0], b[0, 2] = 1e-7 / 3, 2e-7 / 3
    fits_wcs.sip = Sip(a, b, None, None, fits_wcs.wcs.crpix)
    model = FITSPixelToSky(fits_wcs)
    back = through_file(model)
    if inverse:
        points, model, back = model(*points), model.inverse, back.inverse
    np.testing.assert_array_equal(back(*points), model(*points))


def test_projection_parameters_are_kept(fits_wcs, points):
    """The coefficients of TPV, which are numbers of cards, are kept."""
    fits_wcs.wcs.ctype = "RA---TPV", "DEC--TPV"
    fits_wcs.wcs.set_pv([(1, 1, 1 + 1e-5 / 3), (2, 1, 1.0), (1, 4, 1e-4 / 7)])
    fits_wcs.wcs.set()
    model = FITSPixelToSky(fits_wcs)
    np.testing.assert_array_equal(through_file(model)(*points), model(*points))


@pytest.fixture
def corrected(fits_wcs):
    """Return a gWCS with an offset map."""
    dra, ddec = np.random.default_rng(3).normal(0, 0.05, (2, 5, 4))
    offsets = OffsetMap(dra, ddec, grid=MapGrid((5, 4), 20))
    return apply_offsets(fits_wcs, offsets)


def test_a_corrected_gwcs(corrected, points):
    """Frames, bounding box, shape and positions in both directions are kept."""
    back = through_file(corrected)
    assert back.available_frames == corrected.available_frames
    assert back.bounding_box == corrected.bounding_box
    assert back.pixel_shape == corrected.pixel_shape
    sky = corrected(*points)
    np.testing.assert_array_equal(back(*points), sky)
    np.testing.assert_array_equal(back.invert(*sky), corrected.invert(*sky))


def test_an_edited_file_keeps_its_tables(corrected, tmp_path, points):
    """Tables are kept after an update in place, too."""
    path = tmp_path / "image.asdf"
    path.write_bytes(write(corrected))
    with asdf.open(path, mode="rw") as file:
        file["more"] = np.arange(5000)
        file.update()
    with asdf.open(path) as file:
        back = file["model"]
    np.testing.assert_array_equal(back(*points), corrected(*points))


@pytest.mark.parametrize("setting", ["array_inline_threshold", "all_array_storage"])
def test_tables_are_blocks_for_any_configuration(distortion, setting):
    """Tables are never written as decimal numbers in YAML."""
    with asdf.config_context() as config:
        setattr(config, setting, {"all_array_storage": "inline"}.get(setting, 10**6))
        content = write(distortion)
    text, _, blocks = content.partition(b"\n...\n")
    assert text.count(b"source:") == 2
    assert distortion.dx.tobytes() in blocks


def test_the_tables_of_a_closed_file_stay(distortion):
    """Tables are copies, not views of a file."""
    back = through_file(distortion)
    np.testing.assert_array_equal(back.dx + 0, distortion.dx)
    assert not back.dx.flags.writeable


def open_text(**parts):
    """Return the model in such a text."""
    with asdf.open(io.BytesIO(edited(**parts).encode())) as file:
        return file["distortion"]


def test_a_file_of_manifest_1_0_0_is_read():
    """A file with tables written by hand is read."""
    assert "ks4_ccd-1.0.0" in integration.MANIFESTS
    distortion = open_text()
    assert distortion.step == (20, 40)
    assert distortion(19.5, 59.5) == (19.75, 60.5)


@pytest.fixture
def validated():
    """Validate files on reading, the default before asdf 6."""
    with asdf.config_context() as config:
        config.validate_on_read = True
        yield


@pytest.mark.usefixtures("validated")
@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"dx": "[[0.0, 0.5], [0.0, 0.5]]"}, "ndarray"),
        ({"dx": ONE_D}, "number of dimensions"),
        ({"step": "[20.0, -40.0]"}, "-40"),
        ({"step": "[20.0, 0.0]"}, "0.0"),
        ({"step": "[20.0]"}, "too short"),
        ({"step": "far"}, "far"),
    ],
)
def test_the_schema_refuses_a_wrong_edit(parts, words):
    """Lists, tables of other dimensions and invalid steps are refused."""
    with pytest.raises(ValidationError, match=words):
        open_text(**parts)


@pytest.mark.usefixtures("validated")
def test_the_schema_requires_both_tables():
    """A missing property is named."""
    with pytest.raises(ValidationError, match="'dy' is a required property"):
        asdf.open(io.BytesIO(WITHOUT_DY.encode()))


WRONG_TEXTS = [
    (WITHOUT_DY, "the ASDF node lookup_distortion has no dy"),
    (edited(dx=ONE_D), r"lookup_distortion is not usable: dx must be a 2D table"),
    (edited(dx=WITH_NAN), "dx must be finite, got nan at the node .0, 1."),
    (edited(dx=OTHER_SHAPE), r"dx has the shape \(1, 2\), dy \(2, 2\)"),
    (edited(step="[20.0, -40.0]"), r"step must be positive, got \(20.0, -40.0\)"),
    (edited(step="far"), "step must be two finite numbers"),
]


@pytest.fixture
def unvalidated():
    """Do not validate files on reading, the default since asdf 6."""
    with asdf.config_context() as config:
        config.validate_on_read = False
        yield config


@pytest.mark.parametrize(("text", "words"), WRONG_TEXTS)
def test_wrong_tables_are_refused(unvalidated, text, words):
    """Without a schema, too, the message names the node and its error."""
    if hasattr(unvalidated, "warn_on_failed_conversion"):
        # asdf 6 makes a warning of any error by default.
        unvalidated.warn_on_failed_conversion = False
    with pytest.raises(MapFormatError, match=words):
        asdf.open(io.BytesIO(text.encode()))


@pytest.mark.usefixtures("unvalidated")
@pytest.mark.parametrize(("text", "words"), WRONG_TEXTS)
def test_wrong_tables_never_pass_for_a_distortion(text, words):
    """If asdf issues a warning instead of the error, it has the same text."""
    with pytest.raises((MapFormatError, AsdfConversionWarning), match=words):
        asdf.open(io.BytesIO(text.encode()))


def test_manifests_and_schemas_agree():
    """Each tag of each manifest has a schema and a converter."""
    resources = {
        uri: content
        for mapping in integration.get_resource_mappings()
        for uri, content in mapping.items()
    }
    extensions = integration.get_extensions()
    assert len(extensions) == len(integration.MANIFESTS)
    assert {f"asdf://ks4-ccd.org/manifests/{m}" for m in integration.MANIFESTS} == {
        uri for uri in resources if "/manifests/" in uri
    }
    for extension in extensions:
        for tag in extension.tags:
            assert set(tag.schema_uris) <= set(resources)
    for uri in resources:
        if "/schemas/" in uri:
            asdf.schema.check_schema(asdf.schema.load_schema(uri))


@pytest.mark.parametrize("group", ["asdf.extensions", "asdf.resource_mappings"])
def test_asdf_finds_the_package(group):
    """The entry points of the package exist and return lists."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if not project.exists():
        pytest.skip("the tests are not where the project is")
    declared = tomllib.loads(project.read_text())["project"]["entry-points"]
    assert EntryPoint("ks4_ccd", declared[group]["ks4_ccd"], group).load()()
