# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibrate one image of a batch, in a worker."""

import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.files.images import image_header, mask_beside
from ks4_ccd.files.writing import check_regular
from ks4_ccd.ks4.header import band_of, field_in
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.identity import checksum_of
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry.options import FileCalibrationOptions
from ks4_ccd.photometry.stream import calibrate_file_with
from ks4_ccd.survey._lock import writing
from ks4_ccd.survey._manifest import (
    ManifestRow,
    message_of,
    one_line,
)

__all__ = [
    "BatchSettings",
    "BatchTask",
    "LibraryAddress",
    "calibrate_one",
    "failed_row",
    "image_files",
    "input_state",
]


class LibraryAddress(NamedTuple):
    """The paths of a library, which each worker opens separately."""

    paths: tuple[str, ...]
    image_shape: tuple[int, int]
    # The digest of its files at the start of the run: a changed library is reopened.
    stamp: str


class BatchSettings(NamedTuple):
    """The settings that all images of a batch share."""

    lock: str
    library: LibraryAddress
    offsets: LibraryAddress | None
    options: FileCalibrationOptions

    @property
    def digest(self) -> str:
        """The digest of the options."""
        return sha256(json.dumps(self.options.as_dict()).encode()).hexdigest()[:12]

    @property
    def stamp(self) -> str:
        """The digest of the files of the libraries."""
        both = [self.library, self.offsets]
        return "+".join(address.stamp for address in both if address is not None)


class BatchTask(NamedTuple):
    """
    An image to calibrate.

    ``known`` contains the checksum of the image, and the names and checksums of its
    maps, if its target exists and was made with the same options: the image is
    skipped if they have not changed.
    """

    image: str
    target: str
    row: ManifestRow
    known: tuple[str, str, str] | None
    settings: BatchSettings
    # Whether a file at the target may be replaced.
    overwrite: bool


def calibrate_one(task: BatchTask) -> ManifestRow:
    """
    Calibrate an image, unless its target is up to date.

    Parameters
    ----------
    task : `BatchTask`

    Returns
    -------
    row : `~ks4_ccd.survey._manifest.ManifestRow`
        Its outcome is ``"done"``, ``"skipped"`` or ``"failed"``; an error is not
        raised but recorded in the row.
    """
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with writing(task.settings.lock):
                row = _calibrate(task)
        except Exception as error:
            # Damaged files raise errors of many kinds in other libraries, and a bad
            # image must not stop the batch.
            row = failed_row(task, error)
    if row.outcome == "skipped":
        return row
    if row.outcome == "done":
        texts = [str(w.message) for w in caught if issubclass(w.category, KS4Warning)]
        row = row._replace(message=one_line("; ".join(texts)))
    return row._replace(
        seconds=round(time.perf_counter() - start, 3),
        memory=_peak_memory(),
        worker=f"{socket.gethostname()}:{os.getpid()}",
        version=version("ks4_ccd"),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def failed_row(task: BatchTask, error: BaseException) -> ManifestRow:
    """Return the row of an image that cannot be calibrated."""
    row = task.row._replace(outcome="failed", message=message_of(error))
    with suppress(OSError):
        # The result of an earlier run still exists.
        return _with_target_state(row, task)
    return row._replace(target_size=0, target_mtime_ns=0)


def _calibrate(task: BatchTask) -> ManifestRow:
    image = Path(task.image)
    files = image_files(image)
    before = input_state(files)
    checksum = _digest_of(files)
    zpmap, offsets = _maps_for(task)
    maps = [zpmap] if offsets is None else [zpmap, offsets]
    row = task.row._replace(
        input_size=before[0],
        input_mtime_ns=before[1],
        input_checksum=checksum,
        maps=" ".join(a_map.name for a_map in maps),
        maps_checksum=" ".join(map(checksum_of, maps)),
    )
    if task.known == (row.input_checksum, row.maps, row.maps_checksum):
        return row._replace(outcome="skipped")
    calibrate_file_with(
        task.settings.options,
        task.image,
        task.target,
        zpmap,
        offsets=offsets,
        overwrite=task.overwrite or _is_result(task.target),
        progress=False,
    )
    if input_state(image_files(image)) != before:
        msg = f"{task.image} was changed during its calibration: calibrate it again"
        raise KS4Error(msg)
    return _with_target_state(row._replace(outcome="done"), task)


def _is_result(target: str) -> bool:
    """Return whether the target is an existing calibrated image."""
    # A task is repeated if its worker died before it returned the outcome.
    with suppress(KS4Error, OSError):
        return "KS4ZPMAP" in image_header(Path(target))
    return False


def image_files(image: Path) -> list[Path]:
    """Return the files of an image: its own, and that of the mask beside it."""
    mask = mask_beside(image)
    return [image] if mask is None else [image, mask]


def input_state(files: Sequence[Path]) -> tuple[int, int]:
    """Return the total size [bytes] and the latest time [ns] of files."""
    states = [os.stat(file) for file in files]
    return sum(s.st_size for s in states), max(s.st_mtime_ns for s in states)


def _digest_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the contents of files."""
    digest = sha256()
    for path in files:
        check_regular(path)
        with open(path, "rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def _with_target_state(row: ManifestRow, task: BatchTask) -> ManifestRow:
    """Return a row with size and time of the target."""
    state = os.stat(task.target)
    return row._replace(target_size=state.st_size, target_mtime_ns=state.st_mtime_ns)


def _maps_for(task: BatchTask) -> tuple[ZeroPointMap, OffsetMap | None]:
    settings = task.settings
    header = image_header(Path(task.image), settings.options.hdu)
    mode, aperture = settings.options.mode, settings.options.aperture
    zpmap = _open(settings.library).for_header(header, mode, aperture)
    if settings.offsets is None:
        return zpmap, None
    field, band = field_in(header), band_of(header)
    return zpmap, _open(settings.offsets).offset(field, band, mode)


@lru_cache(maxsize=4)
def _open(address: LibraryAddress) -> MapLibrary:
    return MapLibrary(list(address.paths), image_shape=address.image_shape)


def _peak_memory() -> float:
    """Return the peak resident memory of this process, in MB."""
    if sys.platform == "linux":
        # Unlike the value of getrusage, this does not include the parent process.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return round(int(status.split("VmHWM:")[1].split()[0]) * 1.024e-3, 1)
    import psutil

    return round(psutil.Process().memory_info().rss * 1e-6, 1)
