# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of dask arrays are calibrated lazily."""

import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData

from ks4_ccd import GeometryError, apply_zeropoint, remove_zeropoint

da = pytest.importorskip("dask.array", reason="dask is an optional dependency")

SHAPE = 80, 100


@pytest.fixture
def as_dask():
    """Return an image of dask arrays that cannot be computed yet."""
    computed = []

    def noted(block):
        computed.append(block.shape)
        return block

    def make(ccd, chunks=(30, 45), planes=("data", "error")):
        def lazy(array):
            blocks = da.from_array(array, chunks=chunks)
            return blocks.map_blocks(noted, meta=np.empty((0, 0), array.dtype))

        options = {"unit": ccd.unit, "meta": ccd.meta, "wcs": ccd.wcs}
        if ccd.uncertainty is not None:
            array = ccd.uncertainty.array
            array = lazy(array) if "error" in planes else array
            options["uncertainty"] = type(ccd.uncertainty)(array, copy=False)
        if ccd.mask is not None:
            # CCDData converts any mask to a numpy array.
            options["mask"] = ccd.mask
        data = lazy(ccd.data) if "data" in planes else ccd.data
        result = CCDData(data, **options)
        computed.clear()
        return result, computed

    return make


@pytest.mark.parametrize("kind", [None, "std", "var", "ivar"])
@pytest.mark.parametrize("method", ["bilinear", "nearest", "dr1"])
@pytest.mark.parametrize("chunks", [(30, 45), (80, 7), (11, 100)])
def test_a_lazy_image_becomes_a_lazy_image(
    make_ccd, make_map, as_dask, kind, method, chunks
):
    """Values are those in memory, block by block, for any edges of blocks."""
    ccd = make_ccd(kind=kind)
    ccd.mask = ccd.data > 600
    lazy, computed = as_dask(ccd, chunks)
    options = {"method": method, "unit": "nJy"}
    result = apply_zeropoint(lazy, make_map(), **options)
    assert not computed
    assert isinstance(result.data, da.Array)
    assert result.unit == u.nJy
    expected = apply_zeropoint(ccd, make_map(), **options)
    assert result.data.dtype == expected.data.dtype
    np.testing.assert_allclose(result.data.compute(), expected.data, rtol=2e-6)
    np.testing.assert_array_equal(result.mask, expected.mask)
    if kind is not None:
        error = result.uncertainty.array
        assert isinstance(error, da.Array)
        assert error.dtype == np.float32
        np.testing.assert_allclose(
            error.compute(), expected.uncertainty.array, rtol=4e-6
        )
    computed.clear()
    back = remove_zeropoint(result, make_map())
    assert not computed
    np.testing.assert_allclose(back.data.compute(), ccd.data, rtol=4e-6)


@pytest.mark.parametrize("planes", [("data",), ("error",), ()])
def test_planes_of_both_kinds(make_ccd, make_map, as_dask, planes):
    """One lazy plane makes the other one lazy; the values are the same."""
    ccd = make_ccd(kind="std", mask=np.zeros(SHAPE, bool))
    lazy, computed = as_dask(ccd, planes=planes)
    result = apply_zeropoint(lazy, make_map())
    assert not computed
    assert isinstance(result.data, da.Array) == bool({"data", "error"} & {*planes})
    expected = apply_zeropoint(ccd, make_map())
    np.testing.assert_allclose(np.asarray(result.data), expected.data, rtol=2e-6)
    np.testing.assert_allclose(
        np.asarray(result.uncertainty.array), expected.uncertainty.array, rtol=2e-6
    )
    np.testing.assert_array_equal(np.asarray(result.mask), expected.mask)


def test_blocks_of_different_sizes(make_ccd, make_map, as_dask):
    """The uncertainty has the blocks of the data."""
    ccd = make_ccd(kind="std")
    lazy, _ = as_dask(ccd, (30, 45))
    lazy.uncertainty.array = lazy.uncertainty.array.rechunk((11, 100))
    result = apply_zeropoint(lazy, make_map())
    expected = apply_zeropoint(ccd, make_map()).uncertainty.array
    np.testing.assert_allclose(result.uncertainty.array.compute(), expected, rtol=2e-6)


def test_lazy_integers_and_electrons(make_map, as_dask):
    """Types, blank pixels and gain are treated as in memory."""
    data = np.random.default_rng(1).integers(0, 900, SHAPE).astype("u2")
    data[3, 40:60] = 0
    ccd = CCDData(data, unit="electron", meta={"BLANK": -32768})
    gain = 4.8 * u.electron / u.adu
    lazy, _ = as_dask(ccd)
    result = apply_zeropoint(lazy, make_map(), gain=gain)
    expected = apply_zeropoint(ccd, make_map(), gain=gain)
    assert result.data.dtype == np.float32
    assert np.isnan(expected.data[3, 40:60]).all()
    np.testing.assert_allclose(result.data.compute(), expected.data, rtol=2e-6)


def test_an_unknown_shape_is_refused(make_map):
    """An image of unknown shape has no defined location on the map."""
    blocks = da.ones(SHAPE, chunks=40, dtype="f4")
    unknown = blocks[blocks[:, 0] > 0]
    with pytest.raises(GeometryError, match="compute_chunk_sizes"):
        apply_zeropoint(CCDData(unknown, unit="adu"), make_map())


class OnDisk:
    """An array that returns rows on request, like those of HDF5 files."""

    def __init__(self, data):
        self._data = data
        self.shape, self.dtype = data.shape, data.dtype

    def __getitem__(self, item):
        return self._data[item]

    def __array__(self, dtype=None, copy=None):
        return np.array(self._data, dtype=dtype)


def test_arrays_of_other_kinds_are_read(make_ccd, make_map):
    """Arrays with the array interface are converted to numpy arrays."""
    ccd = make_ccd()
    image = CCDData(OnDisk(ccd.data), unit="adu")
    assert isinstance(image.data, OnDisk)
    result = apply_zeropoint(image, make_map())
    np.testing.assert_array_equal(result.data, apply_zeropoint(ccd, make_map()).data)


def test_dask_is_not_needed(make_ccd, make_map, monkeypatch):
    """Images in memory are calibrated without dask."""
    expected = apply_zeropoint(make_ccd(), make_map())
    monkeypatch.setitem(sys.modules, "dask.array", None)
    result = apply_zeropoint(make_ccd(), make_map())
    np.testing.assert_array_equal(result.data, expected.data)
