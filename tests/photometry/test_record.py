# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The record of a calibration, its recognition, and outdated measurements."""

import ccdproc
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

from ks4_ccd import (
    AlreadyCalibratedError,
    KS4Error,
    MapGrid,
    MapLibrary,
    MapMismatchError,
    ZeroPointMap,
    apply_zeropoint,
    calibrate_catalog,
    calibrate_file,
    remove_zeropoint,
)
from ks4_ccd.files.tables import read_table, write_table
from ks4_ccd.ks4.record import doi_of
from ks4_ccd.maps.identity import checksum_of

MEASURED = {
    "ZPFWHM": 28.932,
    "ZEFWHM": 0.021,
    "ZSFWHM": 8339,
    "ZPAPER3": 29.666,
    "ZSAPER3": 8288,
    "ZPAPER5": 29.896,
    "ZEAPER5": 0.022,
    "ZSAPER5": 8284,
    "ZPAPER10": 30.002,
    "ZEAPER10": 0.022,
    "ZSAPER10": 8287,
    "ZPAUTO": 29.941,
    "ZEAUTO": 0.022,
    "ZSAUTO": 8371,
    "RMSPHOT": 0.011,
    "DEPTH5": 22.316,
    "ZEROERR": 0.03,
    "ZPSTAR": 5000,
}
RENAMED = {"ZPAPER5": "KS4OZP05", "ZEAUTO": "KS4OZEAU", "ZSFWHM": "KS4OZSFW"}
RENAMED |= {"ZSAPER10": "KS4OZS10", "RMSPHOT": "KS4ORMS", "DEPTH5": "KS4ODEP5"}


@pytest.fixture
def header():
    """Return the header of a stack as written by the pipeline."""
    header = fits.Header({"FILTER": "R", "MAGZERO": 30.0, "PHOTREF": "Gaia XP"})
    for keyword, value in MEASURED.items():
        header[keyword] = value, f"{keyword} of the pipeline"
    header["SATURATE"] = 60000, "[adu] Saturation level"
    header["UNDERSAT"] = -100
    return header


def cards_of(header):
    """Return cards for a comparison, without the log of calls."""
    logged = ("APPLYZP", "REMOVEZP")
    return [tuple(card) for card in header.cards if card.keyword not in logged]


@pytest.mark.parametrize("options", [{}, {"unit": "nJy"}, {"zeropoint": 25}])
@pytest.mark.parametrize("kind", [fits.Header, dict])
def test_measurements_of_the_raw_image_are_renamed(
    make_ccd, make_map, header, options, kind
):
    """All measurements are renamed, and restored with the image and their comments."""
    ccd = make_ccd(meta=header if kind is fits.Header else dict(header))
    result = apply_zeropoint(ccd, make_map(), **options)
    assert not set(MEASURED) & set(result.meta)
    for keyword, new in RENAMED.items():
        assert result.meta[new] == MEASURED[keyword]
    kept = [keyword for keyword in result.meta if keyword.startswith("KS4OZ")]
    # All of them and MAGZERO, except RMSPHOT and DEPTH5.
    assert len(kept) == len(MEASURED) - 1
    assert all(len(keyword) <= 8 for keyword in result.meta)
    back = remove_zeropoint(result, make_map())
    if kind is dict:
        del back.meta["APPLYZP"], back.meta["REMOVEZP"]
        assert back.meta == ccd.meta
    else:
        assert sorted(cards_of(back.header)) == sorted(cards_of(ccd.header))


def test_measurements_in_files_are_renamed(make_map, header, tmp_path):
    """calibrate_file renames them, and they are restored after reading."""
    fits.PrimaryHDU(np.ones((80, 100)), header).writeto(tmp_path / "a.fits")
    files = tmp_path / "a.fits", tmp_path / "b.fits"
    calibrate_file(*files, make_map(), unit="nJy", progress=False)
    result = CCDData.read(files[1])
    assert not set(MEASURED) & set(result.header)
    assert result.header.comments["SATURATE"] == "[nJy] Saturation level"
    back = remove_zeropoint(result, make_map())
    assert {k: back.header[k] for k in MEASURED} == MEASURED
    assert back.header["SATURATE"] == 60000
    assert back.header.comments["SATURATE"] == "[adu] Saturation level"


def test_measurements_of_the_calibrated_image_are_removed(make_ccd, make_map):
    """A zero point measured after calibration is removed with the calibration."""
    result = apply_zeropoint(make_ccd(), make_map())
    result.meta["ZPAPER5"] = 30.001
    assert "ZPAPER5" not in remove_zeropoint(result, make_map()).meta


def test_the_record_has_checksum_and_doi(make_map, make_ccd, make_key, tmp_path):
    """The DOI is recorded for maps read from files with the names of DR1."""
    zpmap = make_map(key=make_key())
    zpmap.save(tmp_path)
    with MapLibrary(tmp_path, image_shape=(80, 100)) as library:
        read = library.zeropoint("0403", "R")
    result = apply_zeropoint(make_ccd(), read)
    assert result.meta["KS4ZPDOI"] == "10.5281/zenodo.17336382"
    assert result.meta["KS4ZPSUM"] == checksum_of(zpmap) == checksum_of(read)
    assert doi_of(read.smoothed()) == result.meta["KS4ZPDOI"]
    grid = MapGrid((5, 4), 20, edges=([50], []))
    own = {"key": read.key, "source": read.source, "grid": grid}
    assert doi_of(ZeroPointMap(read.values, **own)) is None, "none of it has edges"
    again = apply_zeropoint(result, zpmap, recalibrate=True)
    assert "KS4ZPDOI" not in again.meta
    assert apply_zeropoint(make_ccd(), make_map()).meta.get("KS4ZPDOI") is None
    sources = Table({"X_IMAGE": [5.0], "Y_IMAGE": [5.0], "MAG_AUTO": [-10.0]})
    meta = calibrate_catalog(
        sources, {"AUTO": read}, zp_error="ignore", origin=(0, 0)
    ).meta
    assert meta["KS4ZPSUM"] == result.meta["KS4ZPSUM"]
    assert meta["KS4ZPDOI"] == result.meta["KS4ZPDOI"]


def test_the_checksum_is_that_of_what_is_applied(make_map):
    """Each part of the map changes it; the content of an empty cell does not."""
    zpmap = make_map()
    checksum = checksum_of(zpmap)
    parts = zpmap.values, zpmap.error, zpmap.count
    assert checksum_of(ZeroPointMap(*parts, grid=zpmap.grid)) == checksum
    others = [zpmap.smoothed(), make_map(seed=3)]
    for n, part in enumerate(parts):
        changed = part.copy()
        changed[np.unravel_index(zpmap.valid.argmax(), part.shape)] += 1
        arrays = [*parts[:n], changed, *parts[n + 1 :]]
        others.append(ZeroPointMap(*arrays, grid=zpmap.grid))
    others.append(ZeroPointMap(*parts[:2], grid=zpmap.grid))
    for grid in (
        MapGrid((5, 4), 21),
        MapGrid((5, 4), 20, origin=(0, -1)),
        MapGrid((5, 4), 20, edges=([50], [])),
    ):
        others.append(ZeroPointMap(*parts, grid=grid))
    others.append(ZeroPointMap(*parts, grid=zpmap.grid, image_unit="electron"))
    checksums = {checksum_of(other) for other in others} | {checksum}
    assert len(checksums) == len(others) + 1
    values = np.where(zpmap.valid, zpmap.values, 0)
    same = ZeroPointMap(values, *parts[1:], grid=zpmap.grid)
    assert checksum_of(same) == checksum
    marked, known = (
        ZeroPointMap([[first, 29.0]], grid=MapGrid((1, 2), 20)) for first in (30.0, 0.0)
    )
    assert checksum_of(marked) != checksum_of(known)


def test_another_map_of_the_name_is_refused(make_ccd, make_map, make_key):
    """The checksum decides; a record without one is accepted."""
    key = make_key()
    result = apply_zeropoint(make_ccd(), make_map(key=key))
    with pytest.raises(MapMismatchError, match="another map called .*KS4ZPSUM"):
        remove_zeropoint(result, make_map(key=key, seed=3))
    smoothed = apply_zeropoint(make_ccd(), make_map(key=key).smoothed())
    remove_zeropoint(smoothed, make_map(key=key).smoothed())
    with pytest.raises(MapMismatchError):
        remove_zeropoint(smoothed, make_map(key=key))
    with pytest.raises(MapMismatchError, match="another map called .*smoothed"):
        remove_zeropoint(smoothed, make_map(key=key, seed=3).smoothed())
    del result.meta["KS4ZPSUM"]
    remove_zeropoint(result, make_map(key=key))


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"KS4ZPMAP": "x.npy"}, r"with x.npy \(KS4ZPMAP\)"),
        ({"KS4ZPMTH": "bilinear", "KS4ZPNUM": 1}, "as KS4ZPMTH, KS4ZPNUM record"),
        ({"PHOTREF": "GAIA DR3", "EMAGZERO": 0.02}, "by DR1"),
    ],
)
def test_calibrations_are_recognised(make_ccd, make_map, tmp_path, meta, words):
    """Any part of a record, and the keywords of DR1's function, are recognised."""
    with pytest.raises(AlreadyCalibratedError, match=words):
        apply_zeropoint(make_ccd(meta=meta), make_map())
    fits.PrimaryHDU(np.ones((80, 100)), fits.Header(meta)).writeto(tmp_path / "a.fits")
    with pytest.raises(AlreadyCalibratedError, match=words):
        calibrate_file(tmp_path / "a.fits", tmp_path / "b.fits", make_map())
    apply_zeropoint(make_ccd(meta=meta), make_map(), recalibrate=True)
    sources = Table({"X_IMAGE": [5.0], "Y_IMAGE": [5.0], "MAG_AUTO": [-10.0]})
    sources.meta |= meta
    with pytest.raises(AlreadyCalibratedError, match=words):
        calibrate_catalog(sources, {"AUTO": make_map()}, zp_error="ignore")


@pytest.mark.parametrize(
    "meta", [{"PHOTREF": "GAIA DR3"}, {"PHOTREF": "Gaia XP", "EMAGZERO": 0.1}]
)
def test_raw_images_are_not_taken_for_calibrated_ones(make_ccd, make_map, meta):
    """One of the two keywords is not sufficient."""
    result = apply_zeropoint(make_ccd(meta=meta), make_map())
    expected = apply_zeropoint(make_ccd(), make_map())
    np.testing.assert_array_equal(result.data, expected.data)


def test_calibrated_images_after_ccdproc(make_ccd, make_map, tan_wcs):
    """Metadata that are kept, or a physical unit, prevent a second calibration."""
    options = {"wcs": tan_wcs((80, 100)), "meta": fits.Header()}
    counts = apply_zeropoint(make_ccd(**options), make_map())
    fluxes = apply_zeropoint(make_ccd(**options), make_map(), unit="nJy")
    products = [
        ccdproc.combine([counts, counts]),
        counts.subtract(counts, handle_meta="first_found"),
        ccdproc.Combiner([fluxes, fluxes]).average_combine(),
        fluxes.subtract(fluxes),
        fluxes[10:50],
        counts[10:50],
    ]
    for product in products:
        with pytest.raises(AlreadyCalibratedError):
            apply_zeropoint(product, make_map(), origin=(0, 0))
    combined = ccdproc.Combiner([counts, counts]).average_combine()
    combined.meta = counts.meta.copy()
    with pytest.raises(AlreadyCalibratedError):
        apply_zeropoint(combined, make_map(), origin=(0, 0))


@pytest.mark.parametrize("times", ["x", True, 1.5, np.nan, -1, None])
def test_a_number_of_calibrations_is_a_number(make_ccd, make_map, times):
    """A value of any other type raises a KS4Error."""
    result = apply_zeropoint(make_ccd(), make_map())
    meta = dict(result.meta) | {"KS4ZPNUM": times}
    changed = CCDData(result.data, unit=result.unit, meta=meta)
    for call in (
        lambda: apply_zeropoint(changed, make_map(), recalibrate=True),
        lambda: remove_zeropoint(changed, make_map()),
    ):
        with pytest.raises(KS4Error, match="expected a number of calibrations"):
            call()


def test_a_number_of_calibrations_in_catalogs(make_map):
    """The same applies to the meta of a table."""
    sources = Table({"X_IMAGE": [5.0], "Y_IMAGE": [5.0], "MAG_AUTO": [-10.0]})
    sources.meta["KS4ZPNUM"] = "x"
    with pytest.raises(KS4Error, match="KS4ZPNUM"):
        calibrate_catalog(sources, {"AUTO": make_map()}, recalibrate=True)


@pytest.mark.parametrize("value", [None, 5, [1], np.ones(2)])
@pytest.mark.parametrize("keyword", ["KS4ZPMTH", "KS4ZPERR", "KS4ZPUNI", "KS4ZPNEW"])
def test_records_of_other_types_are_refused(make_ccd, make_map, keyword, value):
    """Values of any type in a dictionary are refused."""
    result = apply_zeropoint(make_ccd(), make_map())
    result.meta = dict(result.meta) | {keyword: value}
    with pytest.raises(KS4Error):
        remove_zeropoint(result, make_map())


def test_names_that_cards_cannot_hold(make_ccd, make_map):
    """Names with other characters are escaped, and recognised."""
    zpmap = make_map(source="größe\n.npy")
    result = apply_zeropoint(make_ccd(meta=fits.Header()), zpmap, add_keyword=None)
    assert result.meta["KS4ZPMAP"] == r"gr\xf6\xdfe\n.npy"
    remove_zeropoint(result, zpmap)


def test_duplicate_cards_and_long_comments(make_ccd, make_map):
    """All cards of the name are removed, and no comment is truncated."""
    header = fits.Header({"ZPAPER5": 29.9})
    header.append(("ZPAPER5", 29.8))
    header["SATURATE"] = 60000, "[adu] a comment that leaves little room in it"
    header["UNDERSAT"] = -1.5, "a comment that leaves no room for anything else"
    result = apply_zeropoint(make_ccd(meta=header), make_map(), unit="W / (m2 Hz)")
    assert "ZPAPER5" not in result.header
    assert all(len(str(card)) % 80 == 0 for card in result.header.cards)
    back = remove_zeropoint(result, make_map())
    assert back.header["ZPAPER5"] == 29.9
    for keyword in ("SATURATE", "UNDERSAT"):
        assert back.header.comments[keyword] == header.comments[keyword]


def test_values_that_are_not_finite_are_kept(make_ccd, make_map):
    """NaN in a dictionary is restored."""
    meta = {"MAGZERO": float("nan"), "SATURATE": float("inf")}
    result = apply_zeropoint(make_ccd(meta=meta), make_map())
    back = remove_zeropoint(result, make_map(), add_keyword=None)
    assert np.isnan(back.meta["MAGZERO"])
    assert back.meta["SATURATE"] == np.inf


def test_keywords_of_dr1_are_renamed_to_eight_characters():
    """No two measurements have the same keyword."""
    from ks4_ccd.ks4.calibrated import RECORD
    from ks4_ccd.photometry._record import _KEPT, _MEASURED

    kept = [*_KEPT.values(), *_MEASURED.values()]
    assert len(set(kept) | set(RECORD)) == len(kept) + len(RECORD)
    assert all(len(keyword) <= 8 for keyword in (*kept, *RECORD))


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot", "xml", "parquet"])
def test_files_keep_the_record_of_a_catalog(make_map, make_key, tmp_path, suffix):
    """The record is in every format with metadata, also without zero-point columns."""
    if suffix == "parquet":
        for name in ("pyarrow", "pandas"):
            pytest.importorskip(name, reason=f"astropy needs {name} for parquet")
    apertures = "FWHM", "APER3", "APER5", "APER10"
    maps = [make_map(key=make_key(aperture=aperture)) for aperture in apertures]
    sources = Table({"X_IMAGE": [5.0], "Y_IMAGE": [5.0], "MAG_APER": [[-10.0] * 4]})
    sources["MAG_APER"].unit = "mag"
    sources.meta |= {"FIELD1": "0403", "FILTER": "R", "EXPTIME": 480.0}
    calibrated = calibrate_catalog(sources, maps, zp_error="ignore", origin=(0, 0))
    for aperture in apertures:
        calibrated.remove_column(f"ZP_{aperture}")
    write_table(calibrated, tmp_path / f"a.{suffix}")
    read = read_table(tmp_path / f"a.{suffix}")
    assert {key: read.meta[key] for key in calibrated.meta} == dict(calibrated.meta)
    assert len(read.meta["KS4ZPSUM"].split(", ")) == 4
    with pytest.raises(AlreadyCalibratedError):
        calibrate_catalog(read, maps, zp_error="ignore")


def test_meta_in_votables(tmp_path):
    """Numbers and strings are restored; other metadata are omitted."""
    meta = {"a": 1, "b": 2.5, "c": True, "d": "größe & <x>", "e": np.float32(0.5)}
    meta |= {"DATE-OBS": "2021-09-07", "empty": "", "n": np.int64(7)}
    table = Table({"x": [1.0, 2.0]}, meta=meta | {"description": "two", "f": [1]})
    write_table(table, tmp_path / "a.vot")
    read = read_table(tmp_path / "a.vot")
    assert dict(read.meta) == meta | {"description": "two"}
    assert [type(read.meta[key]) for key in "abcd"] == [int, float, bool, str]
    text = (tmp_path / "a.vot").read_text(encoding="utf-8")
    (tmp_path / "b.vot").write_text(text.replace("ks4_ccd:meta", "other"))
    assert "a" not in read_table(tmp_path / "b.vot").meta


def test_votables_cannot_hold_everything(tmp_path):
    """The message names a column of positions, and no file is created."""
    table = Table({"place": SkyCoord([1, 2], [3, 4], unit="deg")})
    with pytest.raises(KS4Error, match="cannot contain columns such as place"):
        write_table(table, tmp_path / "a.vot")
    assert not any(tmp_path.iterdir())
