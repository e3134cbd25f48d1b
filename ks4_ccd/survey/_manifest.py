# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The manifest of a folder of calibrated images: a row an image, never torn."""

import csv
import os
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.files.writing import written_whole

__all__ = [
    "Manifest",
    "ManifestRow",
    "one_line",
    "readable",
    "table_of",
    "what_went_wrong",
]


class ManifestRow(NamedTuple):
    """
    What became of an image.

    `calibrate_many` documents the columns. ``outcome`` is ``"started"`` from
    when the image is given away until there is another one.
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


_TYPES = [ManifestRow.__annotations__[name] for name in ManifestRow._fields]


class Manifest:
    """
    The rows of a manifest, in memory and on disk.

    Rows are appended, a line each, and are on the disk when `append` returns.
    A line that a killed process did not finish is dropped. Of several rows of
    an image the last one counts: the others go with `tidy`.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, an ECSV table. Nobody else may write it.
    options : dict
        By their digest, the options that rows refer to; those of this run
        are added to those in the file.

    Raises
    ------
    KS4Error
        If the file is there and no manifest, or cannot be read or written.
    """

    def __init__(self, path, options):
        self.path = path
        self._rows, self._image_of = {}, {}
        self._options = {}
        self._read()
        self._options |= options
        self.tidy()

    def __iter__(self):
        return iter(self._rows.values())

    def get(self, image):
        """Return the row of an image, by its path, or `None`."""
        return self._rows.get(image)

    def append(self, row):
        """Add a row; it replaces that of the same image, or of the same target."""
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

    def tidy(self):
        """Write the file anew, with one row an image."""
        meta = {"options": self._options}
        with (
            written_whole(self.path, overwrite=True) as partial,
            open(partial, "w", encoding="utf-8", newline="") as file,
        ):
            table_of([], meta).write(file, format="ascii.ecsv", delimiter=",")
            _write_rows(file, self)

    def _put(self, row):
        for image in (row.image, self._image_of.pop(row.target, None)):
            self._rows.pop(image, None)
        self._rows[row.image] = row
        self._image_of[row.target] = row.image

    def _read(self):
        try:
            # Only a line with an end was written to its end.
            whole = self.path.read_bytes().rpartition(b"\n")[0]
            table = Table.read(whole.decode().split("\n"), format="ascii.ecsv")
            self._options = dict(table.meta["options"])
            # An empty text is read as a masked one.
            columns = [table[name].tolist() for name in ManifestRow._fields]
        except FileNotFoundError:
            return
        except Exception as error:
            # A file of something else has many ways to be no such table.
            msg = (
                f"{self.path} cannot be read as a manifest of calibrated images: "
                f"{what_went_wrong(error)}. Move it away to begin a new one"
            )
            raise KS4Error(msg) from error
        for values in zip(*columns, strict=True):
            self._put(ManifestRow(*map(_typed, _TYPES, values)))


def _typed(kind, value):
    return kind() if value is None else kind(value)


def _write_rows(file, rows):
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerows(rows)


def table_of(rows, meta=None):
    """Return rows as an `~astropy.table.Table`."""
    columns = list(zip(*rows, strict=True)) or [()] * len(_TYPES)
    return Table(
        [
            np.array(column, dtype=np.int64 if kind is int else kind)
            for column, kind in zip(columns, _TYPES, strict=True)
        ],
        names=ManifestRow._fields,
        meta=meta,
    )


def readable(text):
    """Return a text, such as a path, as one that can be printed in a line."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text, most=1000):
    """Return what somebody has to say as one line that is not too long."""
    return readable(" ".join(text.split()))[:most]


def what_went_wrong(error):
    """Return the message of an error as one line."""
    if isinstance(error, KS4Error):
        return one_line(str(error))
    if isinstance(error, OSError) and error.filename:
        return one_line(f"{error.filename}: {error.strerror}")
    name = type(error).__name__
    return one_line(f"{name}: {error}" if str(error) else name)
