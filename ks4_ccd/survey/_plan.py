# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Sort the images of a batch into those to calibrate and those to skip."""

import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ks4_ccd.library.library import MapLibrary
from ks4_ccd.survey._manifest import Manifest, ManifestRow, one_line, readable
from ks4_ccd.survey._task import (
    BatchSettings,
    BatchTask,
    LibraryAddress,
    image_files,
    input_state,
)

__all__ = ["address_of", "plan_batch", "recorded"]


def address_of(
    library: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | MapLibrary,
) -> LibraryAddress:
    """
    Return the paths of a library, after checking that it can be opened.

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
    rows, columns = library.image_shape
    return LibraryAddress(paths, (rows, columns), _stamp(paths))


def _stamp(paths: Sequence[str]) -> str:
    """Return a digest of names, sizes and times of the files of a library."""
    digest = sha256()
    for path in paths:
        files = [path]
        for folder, _, names in sorted(os.walk(path)):
            files += [os.path.join(folder, name) for name in sorted(names)]
        for file in files:
            with suppress(OSError):
                state = os.stat(file)
                # The time of a folder does not depend on the contents of its files.
                is_folder = file == path and len(files) > 1
                facts = () if is_folder else (state.st_size, state.st_mtime_ns)
                digest.update(repr((file, *facts)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:12]


def plan_batch(
    images: Sequence[Path],
    targets: Sequence[Path],
    settings: BatchSettings,
    manifest: Manifest,
    overwrite: bool,
) -> tuple[dict[Path, ManifestRow], list[BatchTask]]:
    """
    Select the images to calibrate.

    Parameters
    ----------
    images, targets : sequence of `~pathlib.Path`
    settings : `BatchSettings`
    manifest : `~ks4_ccd.survey._manifest.Manifest`
        The outcomes of earlier runs. Refused images are added.
    overwrite : bool
        Whether files that were not written by an earlier run may be replaced.

    Returns
    -------
    rows : dict
        The rows of images that are skipped or refused, by image.
    tasks : list of `~ks4_ccd.survey._task.BatchTask`
        The other images.
    """
    rows: dict[Path, ManifestRow] = {}
    tasks: list[BatchTask] = []
    for image, target in zip(images, targets, strict=True):
        name, now = readable(str(image)), _state(target)
        before = manifest.get(name)
        row = ManifestRow(name, readable(target.name), "started")
        row = row._replace(library=settings.stamp, options=settings.digest)
        known = None
        if before is not None and _recorded_state(before, settings.digest) == now != (
            0,
            0,
        ):
            if before.library == settings.stamp and _source(before) == _input(image):
                rows[image] = before._replace(outcome="skipped")
                continue
            known = before.input_checksum, before.maps, before.maps_checksum
            row = before._replace(outcome="started", library=settings.stamp)
        elif os.path.lexists(target) and not (overwrite or _is_own_result(before, row)):
            rows[image] = _refused(row, target)
            manifest.append(rows[image])
            continue
        # Only a file that exists now may be replaced, not one created later.
        replace = overwrite or os.path.lexists(target)
        task = BatchTask(str(image), str(target), row, known, settings, replace)
        tasks.append(task)
    return rows, tasks


def recorded(row: ManifestRow) -> ManifestRow:
    """Return a row for the manifest, where the outcome of a skipped image is done."""
    return row._replace(outcome="done") if row.outcome == "skipped" else row


def _state(path: Path) -> tuple[int, int]:
    with suppress(OSError):
        state = os.stat(path)
        return state.st_size, state.st_mtime_ns
    return 0, 0


def _input(image: Path) -> tuple[int, int]:
    with suppress(OSError):
        return input_state(image_files(image))
    return 0, 0


def _source(row: ManifestRow) -> tuple[int, int]:
    return row.input_size, row.input_mtime_ns


def _recorded_state(row: ManifestRow, digest: str) -> tuple[int, int] | None:
    """Return size and time of a target made with these options, or `None`."""
    if row.outcome != "done" or row.options != digest:
        return None
    return row.target_size, row.target_mtime_ns


def _is_own_result(before: ManifestRow | None, row: ManifestRow) -> bool:
    """Return whether an earlier run wrote the existing target."""
    if before is None or before.target != row.target:
        return False
    return before.outcome == "started" or before.target_mtime_ns != 0


def _refused(row: ManifestRow, target: Path) -> ManifestRow:
    msg = (
        f"{target} already exists, and was not written by an earlier run; use "
        "overwrite=True (--overwrite) to replace it"
    )
    return row._replace(outcome="failed", message=one_line(msg))
