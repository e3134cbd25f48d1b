# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A survey of images calibrated by many processes, on one machine or on many."""

import os
import shutil
import warnings
from contextlib import closing, suppress
from numbers import Integral
from pathlib import Path

from tqdm import tqdm

from ks4_ccd.exceptions import KS4Error, KS4Warning, one_of
from ks4_ccd.files.writing import as_path, make_folder
from ks4_ccd.ks4.names import APERTURES, MODES
from ks4_ccd.photometry.options import FileCalibrationOptions
from ks4_ccd.survey._cluster import run_tasks, workers_for
from ks4_ccd.survey._lock import RunLock
from ks4_ccd.survey._manifest import Manifest, ManifestRow, table_of
from ks4_ccd.survey._plan import address_of, plan_batch, recorded
from ks4_ccd.survey._task import BatchSettings, calibrate_one, failed_row
from ks4_ccd.survey.targets import targets_in

__all__ = ["calibrate_many"]

_MANIFEST = "manifest.ecsv"

# Seconds to wait for images that are with workers of a cluster when a batch is
# interrupted; a stack takes a tenth of that.
_LONGEST_WAIT = 300


def calibrate_many(
    images,
    library,
    out_dir,
    *,
    client=None,
    workers=None,
    mode="single",
    aperture="APER5",
    smooth=None,
    offsets=None,
    zeropoint=30.0,
    method="bilinear",
    zp_error="propagate",
    error_kind="scatter",
    uncalibrated="mask",
    unit=None,
    gain=None,
    recalibrate=False,
    hdu=None,
    overwrite=False,
    progress=None,
):
    """
    Give many images the same zero point everywhere, several at a time.

    Each image is calibrated by `calibrate_file`, in one of many processes. An
    image that cannot be calibrated fails alone. What became of each one is in
    a manifest beside the results, by which the next call skips what is done:
    a batch that was interrupted, in whatever way, goes on when it is called
    again.

    Parameters
    ----------
    images : list of path-like
        The FITS files.
    library : path-like, list of path-like or `~ks4_ccd.MapLibrary`
        Where the maps are. A store, which `~ks4_ccd.ingest` makes, is the
        fastest. Each process opens it for itself.
    out_dir : path-like
        The folder for the results; it is made if it is not there. The image
        ``x.fits`` becomes ``x_cal.fits`` there.
    client : `distributed.Client`, optional
        A connection to dask workers, on a cluster for instance. All of them
        must have this package and see ``images``, ``library`` and ``out_dir``
        under the same names. By default, processes of this machine that end
        with the call.
    workers : int, optional
        How many of these to start, by default one a core.
    mode, aperture, smooth, zeropoint, method, zp_error, error_kind, \
uncalibrated, unit, gain, recalibrate, hdu
        As in `calibrate_file`.
    offsets : path-like, list of path-like or `~ks4_ccd.MapLibrary`, optional
        Correct the positions, too, by the offset maps that are there.
    overwrite : bool, optional
        Replace files that no earlier call made. What an earlier one made is
        replaced in any case, if its image, its maps or the options changed.
    progress : bool, optional
        Show a progress bar; by default where there is a terminal.

    Returns
    -------
    table : `~astropy.table.Table`
        A row per image, in the order of ``images``, with the columns of the
        manifest: see Notes.

    Raises
    ------
    KS4Error
        If nothing can be done: an argument is wrong, the folder cannot be
        written or another call writes to it, there is no library, dask is not
        installed. Its kinds are those of `~ks4_ccd.MapLibrary`.

    Warns
    -----
    KS4Warning
        If DR1 flags the field of an image in its band, or if the disk
        is likely to be too small.

    See Also
    --------
    calibrate_file : The same for one image.

    Notes
    -----
    The manifest, ``manifest.ecsv`` in ``out_dir``, has a row per image of all
    calls, in these columns:

    - ``image``, its path, and ``target``, the name of its result;
    - ``outcome``: ``"done"`` or ``"failed"``; ``"started"`` where a call was
      interrupted. In the table returned, ``"skipped"`` where there was nothing
      to do;
    - ``message``: what is wrong, or what the warnings were;
    - ``input_size`` [bytes], ``input_mtime_ns``, ``input_checksum`` (SHA-256)
      of the image, with the mask file beside it, ``target_size`` and
      ``target_mtime_ns`` of its result;
    - ``library``: a digest of what was in the library, by names, sizes and
      times; ``maps``: the names of the maps applied; ``maps_checksum``:
      SHA-256 of their contents;
    - ``options``: a digest of the options, which are in the table's ``meta``;
    - ``seconds`` that it took, ``memory`` [MB], the most that its process had
      resident so far, ``worker`` (host and process), ``version`` of this
      package, ``time`` (UTC).

    An image is skipped if its result is as it was left, with the same options,
    and image and maps are unchanged: by size and time of the files, or else
    by their checksums.

    In a script, the processes of this machine need the guard of
    `multiprocessing`: ``if __name__ == "__main__":``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from ks4_ccd import MapLibrary, calibrate_many, simulate_field
    >>> simulated = simulate_field((660, 660), map_shape=(33, 33), field="0403", seed=1)
    >>> with TemporaryDirectory() as folder:
    ...     files = simulated.write(folder)
    ...     library = MapLibrary(files.archives, image_shape=(660, 660))
    ...     table = calibrate_many([files.image], library, f"{folder}/calibrated")
    >>> print(table["target", "outcome"])
              target          outcome
    ------------------------- -------
    ks4_0403_R_stack_cal.fits    done
    """
    options = FileCalibrationOptions(
        mode=one_of("mode", mode, (*MODES, "Idual")),
        aperture=one_of("aperture", aperture, APERTURES),
        smooth=smooth,
        zeropoint=zeropoint,
        method=method,
        zp_error=zp_error,
        error_kind=error_kind,
        uncalibrated=uncalibrated,
        unit=unit,
        gain=gain,
        recalibrate=recalibrate,
        hdu=hdu,
    )
    _check_workers(workers, client)
    images = _absolute("images", images)
    (folder,) = _absolute("out_dir", [out_dir])
    settings = BatchSettings(
        lock=str(folder / f"{_MANIFEST}.lock"),
        library=address_of(library),
        offsets=None if offsets is None else address_of(offsets),
        options=options,
    )
    targets = targets_in(images, folder)
    _refuse_images(images, targets)
    make_folder(folder)
    with RunLock(Path(settings.lock)) as lock:
        record = {settings.digest: options.as_dict()}
        manifest = Manifest(folder / _MANIFEST, record)
        lock.share([*targets, manifest.path, *(folder / r.target for r in manifest)])
        rows, tasks = plan_batch(images, targets, settings, manifest, overwrite)
        if tasks:
            _warn_of_space(folder, tasks)
            try:
                with workers_for(client, workers, len(tasks)) as client:
                    rows |= _run(client, tasks, manifest, progress)
            finally:
                # Nothing can stop a worker of somebody else's in an image.
                lock.wait(_LONGEST_WAIT)
        manifest.tidy()
    for row in rows.values():
        if row.outcome == "done" and row.message:
            warnings.warn(f"{row.image}: {row.message}", KS4Warning, stacklevel=2)
    return table_of([rows[image] for image in images], {"options": record})


def _run(client, tasks, manifest, progress):
    """Calibrate images; return their rows, by image."""
    rows, failed = {}, 0
    bar = tqdm(
        total=len(tasks),
        unit="image",
        disable=None if progress is None else not progress,
    )
    results = run_tasks(client, calibrate_one, tasks, lambda t: manifest.append(t.row))
    with bar, closing(results):
        for task, result in results:
            row = (
                result if isinstance(result, ManifestRow) else failed_row(task, result)
            )
            manifest.append(recorded(row))
            rows[Path(task.image)] = row
            failed += row.outcome == "failed"
            bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update()
    return rows


def _check_workers(workers, client):
    if workers is None:
        return
    if client is not None:
        msg = "workers is for processes of this machine: a client brings its own"
        raise KS4Error(msg)
    if isinstance(workers, bool) or not isinstance(workers, Integral) or workers < 1:
        msg = f"workers must be a positive integer, got {workers!r}"
        raise KS4Error(msg)


def _absolute(name, paths):
    if isinstance(paths, (str, bytes, os.PathLike)):
        msg = f"{name} must be a list of files, got the single path {paths!r}"
        raise KS4Error(msg)
    return [Path(os.path.abspath(as_path(name, path))) for path in paths]


def _refuse_images(images, targets):
    for image in sorted(set(images) & set(targets)):
        msg = f"the image {image} would be replaced by the result of another image"
        raise KS4Error(msg)


def _warn_of_space(folder, tasks):
    """Warn if results that are as large as their images will not fit."""
    needed = 0
    for task in tasks:
        # An image that is not there fails later, and alone.
        with suppress(OSError):
            needed += os.path.getsize(task.image)
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{folder} has {free / 1e9:.1f} GB free, and the {len(tasks)} images to "
            f"calibrate have {needed / 1e9:.1f} GB: what does not fit will fail"
        )
        warnings.warn(msg, KS4Warning, stacklevel=3)
