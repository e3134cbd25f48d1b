# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What of a batch is to be done, and what is done."""

import json
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ks4_ccd.library.library import MapLibrary
from ks4_ccd.photometry.options import FileCalibrationOptions
from ks4_ccd.survey._manifest import ManifestRow, one_line, readable
from ks4_ccd.survey._task import (
    BatchTask,
    LibraryAddress,
    image_files,
    input_state,
)

__all__ = ["BatchSettings", "address_of", "plan_batch", "recorded"]


class BatchSettings(NamedTuple):
    """What all images of a batch have in common."""

    lock: Path
    library: LibraryAddress
    offsets: LibraryAddress | None
    options: FileCalibrationOptions

    @property
    def digest(self):
        """A short name for the options."""
        return sha256(json.dumps(self.options.as_dict()).encode()).hexdigest()[:12]

    @property
    def stamp(self):
        """A short name for what was in the libraries."""
        both = [self.library, self.offsets]
        return "+".join(address.stamp for address in both if address is not None)


def address_of(library):
    """
    Return where a library is, having opened it to see that it can be.

    Parameters
    ----------
    library : path-like, list of path-like or `~ks4_ccd.MapLibrary`

    Returns
    -------
    address : `~ks4_ccd.survey._task.LibraryAddress`
    """
    if not isinstance(library, MapLibrary):
        with MapLibrary(library) as opened:
            return address_of(opened)
    paths = tuple(os.path.abspath(path) for path in library.paths)
    return LibraryAddress(paths, library.image_shape, _stamp(paths))


def _stamp(paths):
    """Return a digest of names, sizes and times of the files of a library."""
    digest = sha256()
    for path in paths:
        files = [path]
        for folder, _, names in sorted(os.walk(path)):
            files += [os.path.join(folder, name) for name in sorted(names)]
        for file in files:
            with suppress(OSError):
                state = os.stat(file)
                # The time of a folder tells nothing of the files in it.
                is_folder = file == path and len(files) > 1
                facts = () if is_folder else (state.st_size, state.st_mtime_ns)
                digest.update(repr((file, *facts)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:12]


def plan_batch(images, targets, settings, manifest, overwrite):
    """
    Tell what is to be done.

    Parameters
    ----------
    images, targets : list of `~pathlib.Path`
    settings : `BatchSettings`
    manifest : `~ks4_ccd.survey._manifest.Manifest`
        What earlier runs did. Images that are refused are added.
    overwrite : bool
        Whether files that no earlier run made may be replaced.

    Returns
    -------
    rows : dict
        By image, the rows of those that there is nothing to do for.
    tasks : list of `~ks4_ccd.survey._task.BatchTask`
        The other images.
    """
    rows, tasks = {}, []
    for image, target in zip(images, targets, strict=True):
        name, now = readable(str(image)), _state(target)
        before = manifest.get(name)
        row = ManifestRow(name, readable(target.name), "started")
        row = row._replace(library=settings.stamp, options=settings.digest)
        known = None
        if before is not None and _made(before, settings.digest) == now != (0, 0):
            if before.library == settings.stamp and _source(before) == _input(image):
                rows[image] = before._replace(outcome="skipped")
                continue
            known = before.input_checksum, before.maps_checksum
            row = before._replace(outcome="started", library=settings.stamp)
        elif os.path.lexists(target) and not (overwrite or _is_ours(before, row)):
            rows[image] = _refused(row, target)
            manifest.append(rows[image])
            continue
        common = settings._replace(lock=str(settings.lock))
        # Only a file that is there now may be replaced, not one that appears later.
        replace = overwrite or os.path.lexists(target)
        tasks.append(BatchTask(str(image), str(target), row, known, *common, replace))
    return rows, tasks


def recorded(row):
    """Return a row as the manifest has it: what is skipped is done."""
    return row._replace(outcome="done") if row.outcome == "skipped" else row


def _state(path):
    with suppress(OSError):
        state = os.stat(path)
        return state.st_size, state.st_mtime_ns
    return 0, 0


def _input(image):
    with suppress(OSError):
        return input_state(image_files(image))
    return 0, 0


def _source(row):
    return row.input_size, row.input_mtime_ns


def _made(row, digest):
    """Return the state of the target that a run left, `None` if it is of no use."""
    if row.outcome != "done" or row.options != digest:
        return None
    return row.target_size, row.target_mtime_ns


def _is_ours(before, row):
    """Return whether an earlier run wrote the target that is there."""
    if before is None or before.target != row.target:
        return False
    return before.outcome == "started" or before.target_mtime_ns != 0


def _refused(row, target):
    msg = (
        f"{target} already exists, and no earlier run made it; use overwrite=True "
        "(--overwrite) to replace it"
    )
    return row._replace(outcome="failed", message=one_line(msg))
