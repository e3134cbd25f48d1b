# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read and write catalogs in any table format of astropy."""

import gzip
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from itertools import takewhile
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from xml.sax.saxutils import unescape

import numpy as np
from astropy.io import fits, registry, votable
from astropy.io.fits.card import Undefined
from astropy.io.votable.exceptions import W50
from astropy.io.votable.tree import Param, TableElement, VOTableFile
from astropy.table import Table
from astropy.table.column import BaseColumn
from astropy.units import Quantity, UnitsWarning

from ks4_ccd.exceptions import KS4Error, KS4Warning, OptionError, reason_of
from ks4_ccd.files.magnitudes import SEXTRACTOR as _SEXTRACTOR_ZEROPOINT
from ks4_ccd.files.writing import as_path, written_whole

__all__ = ["read_table", "table_of", "write_table"]

_FITS, _GZIP = b"SIMPLE  =", b"\x1f\x8b"
# "#   4 MAG_APER     Fixed aperture magnitude vector     [mag]"
_SEXTRACTOR_LINE = re.compile(r"#\s*(\d+)\s+(\S+)")
# Messages of astropy about truncated FITS files.
_BROKEN = ("truncated", "Error validating header")
# Formats that astropy recognises by content only.
_FORMATS = {".vot": "votable", ".votable": "votable", ".xml": "votable"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".z", ".zip")
# Keywords of an image's header that describe its pixels as stored, not the image.
_OF_STORAGE = re.compile(
    "SIMPLE|XTENSION|BITPIX|NAXIS[0-9]*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK"
    "|EXTNAME|EXTVER|EXTLEVEL|INHERIT|CHECKSUM|DATASUM|COMMENT|HISTORY|CONTINUE|END|"
)


def read_table(path: str | os.PathLike[str]) -> Table:
    """
    Read a catalog.

    Parameters
    ----------
    path : str or path-like
        SExtractor's FITS_1.0, FITS_LDAC or ASCII_HEAD, or any other format
        that astropy reads, among them the ECSV and FITS tables of photutils.

    Returns
    -------
    table : `~astropy.table.Table`
        Vector columns of ASCII_HEAD become ``MAG_APER``, ``MAG_APER_1``...
        The meta contains the keywords of the image's header from FITS_LDAC files,
        such as FIELD1, FILTER, LTV1 and EXPTIME, and SEXMGZPT (MAG_ZEROPOINT) from
        FITS_1.0.

    Raises
    ------
    KS4Error
        If the file does not exist, is truncated, does not match its gzip checksum,
        or is not a table.

    Warns
    -----
    KS4Warning
        If a FITS file or a VOTable contains several tables: the first is read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from astropy.table import Table
    >>> from ks4_ccd.files.tables import read_table, write_table
    >>> with TemporaryDirectory() as folder:
    ...     write_table(Table({"NUMBER": [1, 2]}), f"{folder}/stars.fits")
    ...     table = read_table(f"{folder}/stars.fits")
    >>> table.colnames
    ['NUMBER']
    """
    path = as_path("the catalog", path)
    try:
        start = _start_of(path)
        if not start:
            msg = f"{path}: expected a table, found an empty file"
            raise KS4Error(msg)
        if start.startswith(_FITS):
            return _read_fits(path, _decompressed(path))
        if start.startswith(b"#") and _SEXTRACTOR_LINE.match(start.decode("latin-1")):
            return _read_sextractor(path)
        if path.suffix.lower() in _FORMATS or votable.is_votable(str(path)):
            return _read_votable(path)
        return _read_other(path)
    except KS4Error:
        raise
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise KS4Error(msg) from error
    except Exception as error:
        # The readers of astropy raise errors of many kinds.
        msg = f"cannot read {path} as a table: {reason_of(error)}"
        raise KS4Error(msg) from error


def _start_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        start = file.read(80)
    if start.startswith(_GZIP):
        with gzip.open(path) as file:
            try:
                start = file.read(80)
            except EOFError as error:
                msg = f"{path} is truncated"
                raise KS4Error(msg) from error
    return start


def _decompressed(path: Path) -> Path | BytesIO:
    """Return a source for `fits.open`, after verifying the checksum of gzip."""
    with open(path, "rb") as file:
        if file.read(2) != _GZIP:
            return path
    try:
        with gzip.open(path) as file:
            return BytesIO(file.read())
    except EOFError as error:
        msg = f"{path} is truncated"
        raise KS4Error(msg) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        msg = (
            f"{path} is damaged: expected gzip data that match their checksum, found "
            f"others ({error}); get a complete copy"
        )
        raise KS4Error(msg) from error


def _read_fits(path: Path, source: Path | BytesIO) -> Table:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fits.open(source, memmap=False) as hdus:
            numbers = [number for number, hdu in enumerate(hdus) if _is_table(hdu)]
            if any(sign in str(w.message) for w in caught for sign in _BROKEN):
                msg = f"{path} is truncated: it ends within its last table"
                raise KS4Error(msg)
            if not numbers:
                kinds = ", ".join(type(hdu).__name__ for hdu in hdus)
                msg = f"{path}: expected a table, found {kinds}"
                raise KS4Error(msg)
            # FITS_LDAC has a table with the image's header before each catalog.
            ldac = [i for i in numbers if hdus[i].name == "LDAC_OBJECTS"]
            numbers = ldac or numbers
            table = Table.read(hdus, hdu=numbers[0], format="fits")
            table.meta = _image_keywords(hdus, numbers[0]) | table.meta
    if len(numbers) > 1:
        extensions = ", ".join(map(str, numbers))
        _warn_of_several(path, len(numbers), f", in its extensions {extensions}")
    return table


def _warn_of_several(path: Path, number: int, where: str = "") -> None:
    msg = f"{path} contains {number} tables{where}: the first is read"
    warnings.warn(msg, KS4Warning, stacklevel=4)


def _image_keywords(hdus: fits.HDUList, number: int) -> dict[str, Any]:
    """Return keywords of the image that other HDUs of the catalog contain."""
    keywords: dict[str, Any] = {}
    if hdus[number].name == "LDAC_OBJECTS":
        # In a mosaic of chips, each catalog follows the header of its image.
        headers = [hdu for hdu in hdus[:number] if hdu.name == "LDAC_IMHEAD"]
        if headers and len(headers[-1].data):
            # The bytes: strings of astropy have lost their trailing blanks.
            rows = headers[-1].data.view(np.ndarray)
            text = rows[rows.dtype.names[0]][0].tobytes().decode("ascii", "replace")
            text = text.replace("\ufffd", "?").replace("\0", " ")
            keywords = _values_of(fits.Header.fromstring(text))
    # SExtractor's FITS_1.0 records MAG_ZEROPOINT before the table.
    if _SEXTRACTOR_ZEROPOINT in hdus[0].header:
        keywords[_SEXTRACTOR_ZEROPOINT] = hdus[0].header[_SEXTRACTOR_ZEROPOINT]
    return keywords


def _values_of(header: fits.Header) -> dict[str, Any]:
    values = {}
    for card in header.cards:
        try:
            keyword, value = card.keyword, card.value
        except fits.VerifyError:
            # A card that violates the standard has no usable value.
            continue
        if not isinstance(value, Undefined) and not _OF_STORAGE.fullmatch(keyword):
            values[keyword] = value
    return values


def _is_table(hdu: Any) -> bool:
    # A compressed image is stored as a table.
    kinds = (fits.BinTableHDU, fits.TableHDU)
    return isinstance(hdu, kinds) and not isinstance(hdu, fits.CompImageHDU)


def _read_sextractor(path: Path) -> Table:
    text = path.read_text(encoding="latin-1")
    lines = text.splitlines()
    header = list(takewhile(lambda line: line.startswith("#"), lines))
    if not text.endswith("\n"):
        msg = f"{path} is truncated: it ends in the middle of a line"
        raise KS4Error(msg)
    if len(lines) > len(header):
        # The header does not record the length of a vector in the last columns.
        last_line = _SEXTRACTOR_LINE.match(header[-1])
        if last_line is None:
            msg = f"expected '# number name' in the header, found {header[-1]!r}"
            raise ValueError(msg)
        number, name = last_line.groups()
        missing = len(lines[-1].split()) - int(number)
        if missing > 0:
            last = f"# {int(number) + missing} {name}_{missing}"
            header.append(_SEXTRACTOR_LINE.sub(last, header[-1], count=1))
            lines[len(header) - 1 : len(header) - 1] = [header[-1]]
    return Table.read(lines, format="ascii.sextractor")


def _read_votable(path: Path) -> Table:
    with warnings.catch_warnings():
        # Violations of the standard that leave the table readable.
        warnings.simplefilter("ignore")
        tables = list(votable.parse(str(path)).iter_tables())
        if not tables:
            msg = f"{path}: expected a table, found a VOTable without one"
            raise KS4Error(msg)
        table = tables[0].to_table()
    table.meta.update(_meta_of(tables[0]))
    if len(tables) > 1:
        _warn_of_several(path, len(tables))
    return table


def _read_other(path: Path) -> Table:
    with warnings.catch_warnings():
        # Units that astropy cannot read are kept unchanged.
        warnings.simplefilter("ignore")
        try:
            return Table.read(path)
        except registry.IORegistryError:
            pass
        try:
            return Table.read(path, format="ascii")
        except Exception as error:
            msg = f"{path}: expected a table in a format that astropy reads, found none"
            raise KS4Error(msg) from error


def write_table(
    table: Table, path: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """
    Write a catalog; the file appears completely or not at all.

    Parameters
    ----------
    table : `~astropy.table.Table`
        It is not changed.
    path : str or path-like
        The suffix determines the format: .fits, .ecsv, .csv, .vot, or any other
        that astropy writes. FITS, ECSV, VOTable and parquet keep the record of a
        calibration in the table's meta, CSV does not.
    overwrite : bool, optional
        Whether an existing file may be replaced.

    Raises
    ------
    KS4Error
        If the suffix is not that of a table format, the format cannot contain the
        table, or the file already exists or cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from astropy.table import Table
    >>> from ks4_ccd.files.tables import write_table
    >>> with TemporaryDirectory() as folder:
    ...     write_table(Table({"NUMBER": [1, 2]}), f"{folder}/stars.dat")
    Traceback (most recent call last):
    ...
    ks4_ccd.exceptions.OptionError: expected a suffix such as .fits, .ecsv, .csv...
    """
    path = as_path("the catalog", path)
    kind = _format_of(table, path)
    with written_whole(path, overwrite) as partial, warnings.catch_warnings():
        # Units outside the standard are written unchanged.
        warnings.simplefilter("ignore", UnitsWarning)
        warnings.simplefilter("ignore", W50)
        try:
            if kind == "votable":
                _write_votable(table, partial)
            else:
                table.write(partial, format=kind)
        except OSError:
            raise
        except Exception as error:
            msg = f"cannot write the table to {path} as {kind}: {reason_of(error)}"
            raise KS4Error(msg) from error


def _format_of(table: Table, path: Path) -> str:
    suffix = path.suffix.lower()
    found = [_FORMATS[suffix]] if suffix in _FORMATS else []
    if not found and suffix not in _COMPRESSED:
        found = registry.identify_format(
            "write", type(table), path.name.lower(), None, [table], {}
        )
    if not found:
        msg = (
            "expected a suffix such as .fits, .ecsv, .csv or .vot (uncompressed), "
            f"found {path}"
        )
        raise OptionError(msg)
    return found[0]


def table_of(
    rows: Iterable[Sequence],
    dtypes: Mapping[str, type],
    meta: Mapping[str, object] | None = None,
) -> Table:
    """
    Return rows as a table.

    Parameters
    ----------
    rows : iterable of tuple
        There may be none.
    dtypes : mapping
        The dtype of each column by its name.
    meta : mapping, optional
    """
    # Times in ns do not fit into the integers of numpy 1 on Windows.
    kinds = [np.int64 if kind is int else kind for kind in dtypes.values()]
    # astropy 6.1 refuses an empty list of rows.
    return Table(rows=list(rows) or None, names=list(dtypes), dtype=kinds, meta=meta)


# The utype of parameters that contain entries of a meta.
_UTYPE = "ks4_ccd:meta"

# Entries of a meta that astropy writes as attributes of the table.
_ATTRIBUTES = ("ID", "name", "ref", "ucd", "utype", "description")


def _write_votable(table: Table, path: Path) -> None:
    """
    Write a table with the numbers and strings in its meta.

    Parameters
    ----------
    table : `~astropy.table.Table`
    path : `~pathlib.Path`

    Raises
    ------
    ValueError
        If a VOTable cannot contain a column.
    """
    unsupported = table.columns.not_isinstance((BaseColumn, Quantity))
    if unsupported:
        names = ", ".join(column.info.name for column in unsupported)
        msg = f"a VOTable cannot contain columns such as {names}"
        raise ValueError(msg)
    votable = VOTableFile.from_table(table)
    element = votable.get_first_table()
    for name, value in table.meta.items():
        options = _param_of(value)
        if options is not None and name not in _ATTRIBUTES:
            # Not all keywords of headers are valid XML identifiers.
            options |= {"ID": f"meta_{len(element.params)}", "utype": _UTYPE}
            element.params.append(Param(votable, name=str(name), **options))
    votable.to_xml(str(path))


def _param_of(value: object) -> dict[str, Any] | None:
    """Return the attributes of a PARAM, `None` unless it is a number or string."""
    if isinstance(value, str):
        kind = "char" if value.isascii() else "unicodeChar"
        return {"datatype": kind, "arraysize": "*", "value": str(value)}
    if isinstance(value, bool | np.bool_):
        return {"datatype": "boolean", "value": bool(value)}
    if isinstance(value, Integral) and -(2**63) <= int(value) < 2**63:
        return {"datatype": "long", "value": int(value)}
    if isinstance(value, Real):
        return {"datatype": "double", "value": float(value)}
    return None


def _meta_of(element: TableElement) -> dict[str, Any]:
    """
    Return the meta that `_write_votable` kept.

    Parameters
    ----------
    element : `~astropy.io.votable.tree.TableElement`

    Returns
    -------
    meta : dict
    """
    meta: dict[str, Any] = {}
    for param in element.params:
        if param.utype == _UTYPE:
            value = param.value
            if isinstance(value, np.generic | np.ndarray):
                value = value.item()
            if isinstance(value, bytes):
                value = value.decode()
            # astropy escapes strings twice.
            meta[param.name] = unescape(value) if isinstance(value, str) else value
    return meta
