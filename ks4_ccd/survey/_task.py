# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a worker does with an image of a batch."""

import os
import socket
import sys
import time
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.files.images import image_header, mask_beside
from ks4_ccd.files.writing import check_regular
from ks4_ccd.ks4.header import band_of, field_in
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.photometry.options import FileCalibrationOptions
from ks4_ccd.photometry.stream import calibrate_file_with
from ks4_ccd.survey._lock import writing
from ks4_ccd.survey._manifest import (
    ManifestRow,
    one_line,
    what_went_wrong,
)

__all__ = [
    "BatchTask",
    "LibraryAddress",
    "calibrate_one",
    "failed_row",
    "image_files",
    "input_state",
]


class LibraryAddress(NamedTuple):
    """Where a library is, for workers to open it themselves."""

    paths: tuple
    image_shape: tuple
    # Of what was in there when the run began: another one is opened anew.
    stamp: str


class BatchTask(NamedTuple):
    """
    An image to calibrate.

    ``known`` holds the checksums of the image and of its maps, if its target
    is there, made with the same options: when they are still the same, there
    is nothing to do.
    """

    image: str
    target: str
    row: ManifestRow
    known: tuple | None
    lock: str
    library: LibraryAddress
    offsets: LibraryAddress | None
    options: FileCalibrationOptions
    # Whether a file at the target may be replaced.
    overwrite: bool


def calibrate_one(task):
    """
    Calibrate an image, if there is anything to do.

    Parameters
    ----------
    task : `BatchTask`

    Returns
    -------
    row : `~ks4_ccd.survey._manifest.ManifestRow`
        Its outcome is ``"done"``, ``"skipped"`` or ``"failed"``: whatever is
        wrong with the image is in the row.
    """
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with writing(task.lock):
                row = _calibrate(task)
        except Exception as error:
            # Also what libraries underneath raise on damaged files: one bad
            # image is not to end the others.
            row = failed_row(task, error)
    if row.outcome == "skipped":
        return row
    if row.outcome == "done":
        told = [w.message for w in caught if issubclass(w.category, KS4Warning)]
        row = row._replace(message=one_line("; ".join(map(str, told))))
    return row._replace(
        seconds=round(time.perf_counter() - start, 3),
        memory=_peak_memory(),
        worker=f"{socket.gethostname()}:{os.getpid()}",
        version=version("ks4_ccd"),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def failed_row(task, error):
    """Return the row of an image that an error came of."""
    row = task.row._replace(outcome="failed", message=what_went_wrong(error))
    with suppress(OSError):
        # What an earlier run made is there still.
        return row._replace(**_target_state(task))
    return row._replace(target_size=0, target_mtime_ns=0)


def _calibrate(task):
    files = image_files(task.image)
    before = input_state(files)
    checksum = _digest_of(files)
    zpmap, offsets = _maps_for(task)
    maps = [a_map for a_map in (zpmap, offsets) if a_map is not None]
    row = task.row._replace(
        input_size=before[0],
        input_mtime_ns=before[1],
        input_checksum=checksum,
        maps=" ".join(a_map.name for a_map in maps),
        maps_checksum=_checksum_of(maps),
    )
    if task.known == (row.input_checksum, row.maps_checksum):
        return row._replace(outcome="skipped")
    calibrate_file_with(
        task.options,
        task.image,
        task.target,
        zpmap,
        offsets=offsets,
        overwrite=task.overwrite or _is_result(task.target),
        progress=False,
    )
    if input_state(image_files(task.image)) != before:
        msg = f"{task.image} was changed while it was calibrated"
        raise KS4Error(msg)
    return row._replace(outcome="done", **_target_state(task))


def _is_result(target):
    """Return whether there is a calibrated image: that of a lost attempt."""
    # A task is done again if its worker died before the outcome was known.
    with suppress(KS4Error, OSError):
        return "KS4ZPMAP" in image_header(Path(target))
    return False


def image_files(image):
    """Return the files of an image: its own, and that of the mask beside it."""
    image = Path(image)
    mask = mask_beside(image)
    return [image] if mask is None else [image, mask]


def input_state(files):
    """Return the size and the time of the last change of an image's files."""
    states = [os.stat(file) for file in files]
    return sum(s.st_size for s in states), max(s.st_mtime_ns for s in states)


def _digest_of(files):
    digest = sha256()
    for path in files:
        check_regular(path)
        with open(path, "rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    return digest.hexdigest()


def _target_state(task):
    state = os.stat(task.target)
    return {"target_size": state.st_size, "target_mtime_ns": state.st_mtime_ns}


def _maps_for(task):
    header = image_header(Path(task.image), task.options.hdu)
    mode, aperture = task.options.mode, task.options.aperture
    zpmap = _open(task.library).for_header(header, mode, aperture)
    offsets = None
    if task.offsets is not None:
        where = field_in(header), band_of(header), mode
        offsets = _open(task.offsets).offset(*where)
    return zpmap, offsets


@lru_cache(maxsize=4)
def _open(address):
    return MapLibrary(list(address.paths), image_shape=address.image_shape)


def _checksum_of(maps):
    """Return the SHA-256 of all that maps do to an image."""
    digest = sha256()
    for a_map in maps:
        digest.update(f"{a_map.name} {a_map.grid}".encode())
        for part in ("values", "dra", "ddec", "error", "count"):
            array = getattr(a_map, part, None)
            if array is not None:
                digest.update(part.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _peak_memory():
    """Return the most resident memory this process has had so far, in MB."""
    if sys.platform == "linux":
        # Unlike that of getrusage, this one forgets the process it came from.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return round(int(status.split("VmHWM:")[1].split()[0]) * 1.024e-3, 1)
    import psutil

    return round(psutil.Process().memory_info().rss * 1e-6, 1)
