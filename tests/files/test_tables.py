# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tables in the formats of SExtractor and astropy: complete, damaged or wrong."""

import gzip
from contextlib import nullcontext

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable.tree import Resource, VOTableFile
from astropy.table import QTable, Table
from numpy.testing import assert_array_equal

from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.files.tables import read_table, write_table

ASCII_HEAD = """\
#   1 NUMBER          Running object number
#   2 ALPHA_J2000     Right ascension of barycenter (J2000)         [deg]
#   3 MAG_APER        Fixed aperture magnitude vector               [mag]
#   7 FLAGS           Extraction flags
         1   1.6452533 20.1 20.2 20.3 20.4   0
         2   1.6552533 99.0 21.2 21.3 21.4   3
"""


def catalog(n_rows=200):
    """Return a SExtractor catalog with a vector column."""
    table = Table({"NUMBER": np.arange(1, n_rows + 1, dtype="i4")})
    table["ALPHA_J2000"] = np.linspace(0, 1, n_rows) * u.deg
    table["MAG_APER"] = np.arange(4.0 * n_rows, dtype="f4").reshape(n_rows, 4) * u.mag
    return table


def assert_same_table(found, expected):
    """Assert that names, units and values are equal."""
    assert found.colnames == expected.colnames
    for name in expected.colnames:
        assert found[name].unit == expected[name].unit
        assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("name", ["a.fits", "a.cat", "a.fits.gz"])
def test_fits_1_0(tmp_path, name):
    """FITS is recognised by its content, under any file name."""
    path = tmp_path / "plain.fits"
    catalog().write(path)
    content = path.read_bytes()
    written = gzip.compress(content) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(written)
    assert_same_table(read_table(tmp_path / name), catalog())


def test_fits_ldac(tmp_path):
    """The catalog of an LDAC file is read, not the image header."""
    header = Table({"Field Header Card": np.array([["SIMPLE  = T"]])})
    hdus = [fits.PrimaryHDU()]
    hdus += [fits.table_to_hdu(header), fits.table_to_hdu(catalog())]
    hdus[1].name, hdus[2].name = "LDAC_IMHEAD", "LDAC_OBJECTS"
    fits.HDUList(hdus).writeto(tmp_path / "a.ldac")
    assert_same_table(read_table(tmp_path / "a.ldac"), catalog())


def test_several_tables(tmp_path):
    """The first of several catalogs is read, with a warning."""
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((9, 9)))]
    hdus += [fits.table_to_hdu(catalog(3)), fits.table_to_hdu(catalog(4))]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    with pytest.warns(KS4Warning, match="contains 2 tables, in its extensions 2, 3"):
        assert len(read_table(tmp_path / "a.fits")) == 3


def test_ascii_head(tmp_path):
    """Elements of a vector column get numbered names, with its unit."""
    path = tmp_path / "a.cat"
    path.write_text(ASCII_HEAD)
    table = read_table(path)
    apertures = ["MAG_APER", "MAG_APER_1", "MAG_APER_2", "MAG_APER_3"]
    assert table.colnames == ["NUMBER", "ALPHA_J2000", *apertures, "FLAGS"]
    assert [table[name].unit for name in apertures] == [u.mag] * 4
    assert_array_equal(table["MAG_APER_3"], [20.4, 21.4])
    assert_array_equal(table["FLAGS"], [0, 3])


def test_ascii_head_that_ends_with_a_vector(tmp_path):
    """The length of the last vector is determined from the rows."""
    path = tmp_path / "a.cat"
    lines = ASCII_HEAD.splitlines()
    del lines[3]
    path.write_text("\n".join([*lines[:3], *(line[:-4] for line in lines[3:]), ""]))
    table = read_table(path)
    assert table.colnames[-2:] == ["MAG_APER_2", "MAG_APER_3"]
    assert table["MAG_APER_3"].unit == u.mag
    assert_array_equal(table["MAG_APER_3"], [20.4, 21.4])


def test_ascii_head_without_sources(tmp_path):
    """A catalog without rows is read."""
    path = tmp_path / "a.cat"
    path.write_text("".join(ASCII_HEAD.splitlines(keepends=True)[:4]))
    assert len(read_table(path)) == 0


@pytest.mark.parametrize("name", ["a.ecsv", "a.fits", "a.ECSV"])
def test_photutils_tables(tmp_path, name):
    """Coordinates and quantities are unchanged."""
    table = QTable({"label": [1, 2], "kron_flux": [3.0, 4.0] * u.nJy})
    table["sky_centroid"] = SkyCoord([1.0, 2.0], [3.0, 4.0], unit="deg")
    write_table(table, tmp_path / name)
    found = read_table(tmp_path / name)
    assert found["kron_flux"].unit == u.nJy
    assert_array_equal(found["sky_centroid"].dec.deg, [3.0, 4.0])


def ldac(path, headers, tables):
    """Write an LDAC file as SExtractor does: each image header before its catalog."""
    hdus = [fits.PrimaryHDU()]
    for header, table in zip(headers, tables, strict=True):
        cards = np.array([header.tostring(padding=False)], dtype="S")
        cards = cards.view("S80").reshape(1, -1)
        column = fits.Column(
            "Field Header Card", f"{cards.size * 80}A", dim=f"(80, {cards.size})"
        )
        head = fits.BinTableHDU.from_columns([column], nrows=1)
        head.data["Field Header Card"][0] = cards[0]
        head.name = "LDAC_IMHEAD"
        objects = fits.table_to_hdu(table)
        objects.name = "LDAC_OBJECTS"
        hdus += [head, objects]
    fits.HDUList(hdus).writeto(path)


def image_header(**keywords):
    """Return the header of an image."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2)])
    header["NAXIS1"], header["NAXIS2"], header["BZERO"] = 300, 200, 0.0
    header["FIELD1"], header["FILTER"], header["EXPTIME"] = "0403", "R", 120.0
    header["LTV1"], header["CTYPE1"] = -100.0, "RA---TAN"
    header["OBSERVER"] = "N'kosi / Lee"
    header["EMPTY"] = None
    header["HISTORY"] = "stacked"
    for keyword, value in keywords.items():
        header[keyword] = value
    return header


def test_image_header_in_ldac(tmp_path):
    """The keywords of the image are in meta, except those of its storage."""
    ldac(tmp_path / "a.ldac", [image_header(SEXMGZPT=30.0)], [catalog()])
    meta = read_table(tmp_path / "a.ldac").meta
    expected = {"FIELD1": "0403", "FILTER": "R", "EXPTIME": 120.0, "LTV1": -100.0}
    expected |= {"CTYPE1": "RA---TAN", "OBSERVER": "N'kosi / Lee", "SEXMGZPT": 30.0}
    assert meta == expected | {"EXTNAME": "LDAC_OBJECTS"}
    result = catalog()
    result.meta |= meta
    write_table(result, tmp_path / "b.fits")
    assert expected.items() <= read_table(tmp_path / "b.fits").meta.items()


def test_header_of_each_chip(tmp_path):
    """The first of several catalogs is read, with the header of its own image."""
    headers = [image_header(FILTER="V", CHIP=1), image_header(CHIP=2)]
    ldac(tmp_path / "a.ldac", headers, [catalog(5), catalog(6)])
    with pytest.warns(KS4Warning, match="contains 2 tables, in its extensions 2, 4"):
        table = read_table(tmp_path / "a.ldac")
    assert len(table) == 5
    assert (table.meta["FILTER"], table.meta["CHIP"]) == ("V", 1)


def test_own_keywords_of_an_ldac_table(tmp_path):
    """Keywords of the table itself are not replaced."""
    table = catalog()
    table.meta["FILTER"] = "I"
    ldac(tmp_path / "a.ldac", [image_header()], [table])
    assert read_table(tmp_path / "a.ldac").meta["FILTER"] == "I"


@pytest.mark.parametrize("content", [b"", b"FILTER\xff = \0", b"FILTER  = 'R"])
def test_odd_headers_in_ldac(tmp_path, content):
    """Cards that violate the standard are omitted, and the table is read."""
    ldac(tmp_path / "a.ldac", [image_header()], [catalog()])
    whole = (tmp_path / "a.ldac").read_bytes()
    card = b"FILTER  = 'R       '"
    assert card in whole
    broken = whole.replace(card, content.ljust(len(card)))
    (tmp_path / "a.ldac").write_bytes(broken)
    table = read_table(tmp_path / "a.ldac")
    assert_array_equal(table["NUMBER"], catalog()["NUMBER"])
    assert table.meta["FIELD1"] == "0403"
    assert table.meta.get("FILTER", "R") == "R"


def test_configuration_in_fits_1_0(tmp_path):
    """The MAG_ZEROPOINT that SExtractor records before the table is read."""
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(catalog())])
    hdus[0].header["SEXMGZPT"], hdus[0].header["SEXGAIN"] = 30.0, 0.0
    hdus[1].name = "OBJECTS"
    hdus.writeto(tmp_path / "a.cat")
    meta = read_table(tmp_path / "a.cat").meta
    assert meta == {"SEXMGZPT": 30.0, "EXTNAME": "OBJECTS"}


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot"])
def test_nonstandard_units(tmp_path, suffix):
    """Units that no standard defines are written unchanged, without warnings."""
    table = Table({"A": [1.0], "B": [2.0]})
    for name, unit in (("A", "[mag]"), ("B", "DEGREE")):
        table[name].unit = u.Unit(unit, parse_strict="silent")
    write_table(table, tmp_path / f"a.{suffix}")
    found = read_table(tmp_path / f"a.{suffix}")
    assert [str(found[name].unit) for name in "AB"] == ["[mag]", "DEGREE"]


@pytest.mark.parametrize("name", ["a.vot", "a.xml", "a.dat", "a.vot.gz"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_votables_of_several_tables(tmp_path, name, number):
    """The first table is read, with a warning; the format is that of the content."""
    votable = VOTableFile()
    for n_rows in range(number, 0, -1):
        table = Table({"NUMBER": np.arange(n_rows)})
        resource = Resource()
        resource.tables.extend(VOTableFile.from_table(table).resources[0].tables)
        votable.resources.append(resource)
    votable.to_xml(str(tmp_path / "plain"))
    content = (tmp_path / "plain").read_bytes()
    content = gzip.compress(content) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(content)
    several = pytest.warns(KS4Warning, match=f"{number} tables: the first is read")
    with several if number > 1 else nullcontext():
        table = read_table(tmp_path / name)
    assert_array_equal(table["NUMBER"], np.arange(number))


def test_votable_without_a_table(tmp_path):
    """The message names the file."""
    VOTableFile().to_xml(str(tmp_path / "a.vot"))
    with pytest.raises(KS4Error, match="a.vot: expected a table, found a VOTable"):
        read_table(tmp_path / "a.vot")


@pytest.mark.parametrize("name", ["a.csv", "a.vot", "a.xml", "a.ecsv"])
def test_any_format(tmp_path, name):
    """Written tables of any format can be read."""
    table = Table({"NUMBER": [1, 2], "x": [0.5, 1.5]})
    write_table(table, tmp_path / name)
    found = read_table(tmp_path / name)
    assert_array_equal(found["x"], table["x"])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_columns_in_a_text_file(tmp_path):
    """A text file of another name is read as columns."""
    (tmp_path / "a.txt").write_text("# NUMBER x\n1 2.5\n2 3.5\n")
    assert_array_equal(read_table(tmp_path / "a.txt")["x"], [2.5, 3.5])


def image_bytes(tmp_path):
    """Return a FITS file without a table."""
    fits.PrimaryHDU(np.zeros((10, 10))).writeto(tmp_path / "image.fits")
    return (tmp_path / "image.fits").read_bytes()


def test_image(tmp_path):
    """An image is not a table."""
    image_bytes(tmp_path)
    with pytest.raises(KS4Error, match="fits: expected a table, found PrimaryHDU"):
        read_table(tmp_path / "image.fits")


@pytest.mark.parametrize("length", [40, 3000, 5000, 6000, 9000, -10])
def test_truncated_fits(tmp_path, length):
    """The message names a FITS file that is cut at any position."""
    path = tmp_path / "a.fits"
    catalog().write(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(KS4Error, match="a.fits"):
        read_table(path)


@pytest.mark.parametrize("length", [5, 30, 1500])
def test_truncated_gzip(tmp_path, length):
    """A truncated compressed file is refused."""
    path = tmp_path / "a.fits.gz"
    catalog().write(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(KS4Error, match="a.fits.gz"):
        read_table(path)


@pytest.mark.parametrize("cut", [1, 3, 10, 30])
def test_truncated_ascii(tmp_path, cut):
    """A truncated number is refused."""
    path = tmp_path / "a.cat"
    path.write_text(ASCII_HEAD[:-cut])
    with pytest.raises(KS4Error, match="a.cat is truncated"):
        read_table(path)


def test_row_of_another_length(tmp_path):
    """A row that does not match the header is refused."""
    path = tmp_path / "a.cat"
    path.write_text(ASCII_HEAD + "3 1.6\n4 1.7 20 20 20 20 0\n")
    with pytest.raises(KS4Error, match="cannot read .*a.cat as a table"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (b"", "expected a table, found an empty file"),
        (
            b"dear diary,\n\nit rained again today\nand so\n",
            "a table in a format",
        ),
        (np.random.default_rng(1).bytes(4000), "a.dat"),
    ],
)
def test_files_that_are_not_tables(tmp_path, content, culprit):
    """Text and noise are not tables."""
    (tmp_path / "a.dat").write_bytes(content)
    with pytest.raises(KS4Error, match=culprit):
        read_table(tmp_path / "a.dat")


def test_missing_files(tmp_path):
    """A missing file, a folder and a number are refused."""
    with pytest.raises(KS4Error, match="cannot read .*a.fits: No such file"):
        read_table(tmp_path / "a.fits")
    with pytest.raises(KS4Error, match="cannot read"):
        read_table(tmp_path)
    with pytest.raises(KS4Error, match="must be the name of a file, got 5"):
        read_table(5)


def test_written_whole_or_not_at_all(tmp_path):
    """If the format cannot hold a table, the existing file is kept."""
    path = tmp_path / "a.csv"
    path.write_text("precious")
    with pytest.raises(KS4Error, match="already exists"):
        write_table(Table({"a": [1]}), path)
    with pytest.raises(KS4Error, match="cannot write the table to .* as ascii.csv"):
        write_table(catalog(), path, overwrite=True)
    assert path.read_text() == "precious"
    write_table(Table({"a": [1]}), path, overwrite=True)
    assert_array_equal(read_table(path)["a"], [1])
    assert len(list(tmp_path.iterdir())) == 1


def test_table_is_not_modified(tmp_path):
    """Writing modifies neither columns nor meta."""
    table = catalog()
    table.meta["FIELD1"] = "0403"
    write_table(table, tmp_path / "a.fits")
    assert_same_table(table, catalog())
    assert dict(table.meta) == {"FIELD1": "0403"}
    assert read_table(tmp_path / "a.fits").meta["FIELD1"] == "0403"


@pytest.mark.parametrize("name", ["a", "a.dat", "a.fits.gz", "a.zip"])
def test_suffixes_without_a_format(tmp_path, name):
    """The suffix must specify a format, and none is compressed."""
    with pytest.raises(KS4Error, match="expected a suffix such as"):
        write_table(catalog(), tmp_path / name)


def test_missing_folder(tmp_path):
    """The message names a file that cannot be written."""
    with pytest.raises(KS4Error, match="cannot write .*a.fits"):
        write_table(catalog(), tmp_path / "none" / "a.fits")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-2000], "is truncated"),
        (lambda data: data[:-8] + b"\0" + data[-7:], "is damaged: expected gzip data"),
    ],
    ids=["cut", "checksum"],
)
def test_damaged_gzip(tmp_path, change, message):
    """The checksum of a compressed table is verified, unlike in astropy."""
    rng = np.random.default_rng(1)
    Table({"MAG_AUTO": rng.normal(size=3000)}).write(tmp_path / "whole.fits")
    data = gzip.compress((tmp_path / "whole.fits").read_bytes())
    path = tmp_path / "stars.fits.gz"
    path.write_bytes(data)
    assert len(read_table(path)) == 3000
    path.write_bytes(change(data))
    with pytest.raises(KS4Error, match=message):
        read_table(path)
