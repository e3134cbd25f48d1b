# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read and write the manifest of a folder of calibrated images."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

from astropy.table import Table

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.files.tables import table_of
from ks4_ccd.files.writing import written_whole

__all__ = [
    "COLUMNS",
    "Manifest",
    "ManifestRow",
    "message_of",
    "one_line",
    "readable",
]


class ManifestRow(NamedTuple):
    """
    The outcome for one image.

    The columns are those documented for `~ks4_ccd.calibrate_many`. ``outcome`` is
    ``"started"`` from the submission of the image to the reception of its result.
    """

    image: str
    target: str
    outcome: str
    message: str = ""
    input_size: int = 0
    input_mtime_ns: int = 0
    input_checksum: str = ""
    target_size: int = 0
    target_mtime_ns: int = 0
    library: str = ""
    maps: str = ""
    maps_checksum: str = ""
    options: str = ""
    seconds: float = 0.0
    memory: float = 0.0
    worker: str = ""
    version: str = ""
    time: str = ""


# The type of each column, by its name.
COLUMNS = dict(ManifestRow.__annotations__)


class Manifest:
    """
    The rows of a manifest, in memory and on disk.

    Rows are appended, one line each, and are on disk when `append` returns.
    An incomplete line of a killed process is dropped. The last of several rows of
    an image is valid; `tidy` removes the others.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, an ECSV table. No other process may write to it.
    options : mapping
        The options of this run by their digest, to which rows refer; they are
        added to those in the file.

    Raises
    ------
    KS4Error
        If the file exists and is not a manifest, or cannot be read or written.
    """

    def __init__(self, path: Path, options: Mapping[str, object]) -> None:
        self.path = path
        self._rows: dict[str, ManifestRow] = {}
        self._image_of: dict[str, str] = {}
        self._options: dict[str, object] = {}
        self._read()
        self._options |= options
        self.tidy()

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter(self._rows.values())

    def get(self, image: str) -> ManifestRow | None:
        """Return the row of an image, by its path, or `None`."""
        return self._rows.get(image)

    def append(self, row: ManifestRow) -> None:
        """Add a row, which replaces those of the same image or the same target."""
        try:
            with open(self.path, "r+", encoding="utf-8", newline="") as file:
                file.seek(0, os.SEEK_END)
                _write_rows(file, [row])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            msg = f"cannot write {self.path}: {error.strerror}"
            raise KS4Error(msg) from error
        self._put(row)

    def tidy(self) -> None:
        """Rewrite the file with one row per image."""
        meta = {"options": self._options}
        with (
            written_whole(self.path, overwrite=True) as partial,
            open(partial, "w", encoding="utf-8", newline="") as file,
        ):
            table_of([], COLUMNS, meta).write(file, format="ascii.ecsv", delimiter=",")
            _write_rows(file, self)

    def _put(self, row: ManifestRow) -> None:
        for image in (row.image, self._image_of.pop(row.target, row.image)):
            self._rows.pop(image, None)
        self._rows[row.image] = row
        self._image_of[row.target] = row.image

    def _read(self) -> None:
        try:
            # A line without a line end is incomplete.
            whole = self.path.read_bytes().rpartition(b"\n")[0]
            table = Table.read(whole.decode().split("\n"), format="ascii.ecsv")
            self._options = dict(table.meta["options"])
            # An empty text is read as a masked one.
            columns = [table[name].tolist() for name in ManifestRow._fields]
        except FileNotFoundError:
            return
        except Exception as error:
            # Reading another kind of file can fail in many ways.
            msg = (
                f"{self.path} cannot be read as a manifest of calibrated images: "
                f"{message_of(error)}. Move it to another folder to start a new one"
            )
            raise KS4Error(msg) from error
        for values in zip(*columns, strict=True):
            typed = zip(COLUMNS.values(), values, strict=True)
            self._put(ManifestRow(*(t() if v is None else t(v) for t, v in typed)))


def _write_rows(file: TextIO, rows: Iterable[ManifestRow]) -> None:
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerows(rows)


def readable(text: str) -> str:
    """Return text, such as a path, with characters escaped that are not printable."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text: str, most: int = 1000) -> str:
    """Return a message as one line of limited length."""
    return readable(" ".join(text.split()))[:most]


def message_of(error: BaseException) -> str:
    """Return the message of an error as one line."""
    if isinstance(error, KS4Error):
        return one_line(str(error))
    if isinstance(error, OSError) and error.filename:
        return one_line(f"{error.filename}: {error.strerror}")
    name = type(error).__name__
    return one_line(f"{name}: {error}" if str(error) else name)
