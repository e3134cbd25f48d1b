# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Calibrate many images in parallel, on one machine or on a cluster."""

import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from astropy import units as u
from astropy.table import Table
from tqdm import tqdm

from ks4_ccd.exceptions import KS4Warning, OptionError, one_of
from ks4_ccd.files.tables import table_of
from ks4_ccd.files.writing import as_path, make_folder
from ks4_ccd.ks4.names import APERTURES, MODES
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.denoising import Edges
from ks4_ccd.photometry.options import FileCalibrationOptions
from ks4_ccd.survey._cluster import run_tasks, workers_for
from ks4_ccd.survey._lock import RunLock
from ks4_ccd.survey._manifest import COLUMNS, Manifest, ManifestRow
from ks4_ccd.survey._plan import address_of, plan_batch, recorded
from ks4_ccd.survey._task import BatchSettings, BatchTask, calibrate_one, failed_row
from ks4_ccd.survey.targets import targets_in

if TYPE_CHECKING:
    import distributed

__all__ = ["calibrate_many"]

_MANIFEST = "manifest.ecsv"

# Seconds to wait for images on workers of a cluster when a batch is interrupted; a
# stack takes a tenth of that.
_LONGEST_WAIT = 300


def calibrate_many(
    images: Sequence[str | os.PathLike[str]],
    library: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | MapLibrary,
    out_dir: str | os.PathLike[str],
    *,
    client: object = None,
    workers: int | None = None,
    mode: str = "single",
    aperture: str = "APER5",
    smooth: float | None = None,
    denoise: str | Edges | None = None,
    offsets: (
        str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | MapLibrary | None
    ) = None,
    zeropoint: float = 30.0,
    method: str = "bilinear",
    zp_error: str = "propagate",
    error_kind: str = "scatter",
    uncalibrated: str = "mask",
    unit: u.UnitBase | str | None = None,
    gain: u.Quantity | None = None,
    recalibrate: bool = False,
    hdu: int | str | tuple[str, int] | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Table:
    """
    Bring many images to a common zero point, several at a time.

    Each image is calibrated by `calibrate_file`, in one of many processes. A bad
    image does not stop the batch. The outcome for each image is recorded in a
    manifest beside the results, from which the next call finds the images to skip:
    an interrupted batch resumes when the function is called again.

    Parameters
    ----------
    images : sequence of path-like
        The FITS files.
    library : path-like, sequence of path-like or `~ks4_ccd.MapLibrary`
        The maps, which each process opens separately. A store, written by
        `~ks4_ccd.ingest`, is the fastest.
    out_dir : path-like
        The folder for the results, created if it does not exist. The result for the
        image ``x.fits`` is ``x_cal.fits``.
    client : `distributed.Client`, optional
        A connection to dask workers, for example on a cluster. This package must be
        installed on all of them, and ``images``, ``library`` and ``out_dir`` must be
        accessible under the same paths. By default, processes are started on this
        machine, which end with the call.
    workers : int, optional
        The number of processes to start, by default one per core.
    mode, aperture, smooth, denoise, zeropoint, method, zp_error, error_kind, \
uncalibrated, unit, gain, recalibrate, hdu
        As in `calibrate_file`.
    offsets : path-like, sequence of path-like or `~ks4_ccd.MapLibrary`, optional
        Correct the positions as well, with offset maps of this library.
    overwrite : bool, optional
        Replace files that were not written by an earlier call. A result of an earlier
        call is always replaced if its image, its maps or the options have changed.
    progress : bool, optional
        Show a progress bar; by default if the output is a terminal.

    Returns
    -------
    table : `~astropy.table.Table`
        A row per image, in the order of ``images``, with the columns of the
        manifest: see Notes.

    Raises
    ------
    OptionError
        If an option is wrong.
    KS4Error
        If no image can be calibrated: the folder cannot be written or is in use by
        another call, the library does not exist, or dask is not installed. Subclasses
        are those of `~ks4_ccd.MapLibrary`.

    Warns
    -----
    KS4Warning
        If DR1 flags the field of an image in its band, or if the disk is
        probably too small.

    See Also
    --------
    calibrate_file : The same for one image.

    Notes
    -----
    The manifest, ``manifest.ecsv`` in ``out_dir``, has a row per image of all
    calls, in these columns:

    - ``image``, its path, and ``target``, the name of its result;
    - ``outcome``: ``"done"`` or ``"failed"``; ``"started"`` if a call was
      interrupted. In the returned table, ``"skipped"`` for results that are up
      to date;
    - ``message``: the error, or the warnings;
    - ``input_size`` [bytes], ``input_mtime_ns``, ``input_checksum`` (SHA-256)
      of the image, with the mask file beside it, ``target_size`` and
      ``target_mtime_ns`` of its result;
    - ``library``: a digest of names, sizes and times of the files of the
      library; ``maps``: the names of the maps applied; ``maps_checksum``: the
      checksums of their contents, as in KS4ZPSUM;
    - ``options``: a digest of the options, which are in the table's ``meta``;
    - ``seconds``: the elapsed time; ``memory`` [MB]: the peak resident memory
      of the process so far; ``worker`` (host and process), ``version`` of this
      package, ``time`` (UTC).

    An image is skipped if its result is unchanged and was calibrated with the same
    options, and if image and maps are unchanged according to the sizes and times of
    their files, or else to their checksums.

    In a script, the processes of this machine require the guard of
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
        mode=mode,
        aperture=aperture,
        smooth=smooth,
        denoise=denoise,
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
    _check_names(library, mode, aperture)
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
                # A worker of a cluster cannot be stopped within an image.
                lock.wait(_LONGEST_WAIT)
        manifest.tidy()
    for row in rows.values():
        if row.outcome == "done" and row.message:
            warnings.warn(f"{row.image}: {row.message}", KS4Warning, stacklevel=2)
    return table_of([rows[image] for image in images], COLUMNS, {"options": record})


def _run(
    client: "distributed.Client",
    tasks: Sequence[BatchTask],
    manifest: Manifest,
    progress: bool | None,
) -> dict[Path, ManifestRow]:
    """Calibrate images; return their rows, by image."""
    rows: dict[Path, ManifestRow] = {}
    failed = 0
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


def _check_workers(workers: object, client: object) -> None:
    if workers is None:
        return
    if client is not None:
        msg = "workers is the number of processes to start: leave it out with a client"
        raise OptionError(msg)
    if isinstance(workers, bool) or not isinstance(workers, Integral) or workers < 1:
        msg = f"workers must be a positive integer, got {workers!r}"
        raise OptionError(msg)


def _check_names(
    library: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | MapLibrary,
    mode: str,
    aperture: str,
) -> None:
    """Refuse a mode or an aperture that exists neither in KS4 nor in the library."""
    if mode in (*MODES, "Idual") and aperture in APERTURES:
        # Listing all maps of DR1 is slow.
        return
    with ExitStack() as opened:
        if isinstance(library, MapLibrary):
            table = library.table()
        else:
            table = opened.enter_context(MapLibrary(library)).table()
    table = table[table["kind"] == "zeropoint"]
    one_of("mode", mode, sorted(set(table["mode"].tolist())))
    one_of("aperture", aperture, sorted(set(table["aperture"].tolist())))


def _absolute(name: str, paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    if isinstance(paths, (str, bytes, os.PathLike)):
        msg = f"{name} must be a list of files, got the single path {paths!r}"
        raise OptionError(msg)
    return [Path(os.path.abspath(as_path(name, path))) for path in paths]


def _refuse_images(images: Sequence[Path], targets: Sequence[Path]) -> None:
    for image in sorted(set(images) & set(targets)):
        msg = (
            f"the image {image} would be replaced by the result of another image: give "
            "another out_dir (-o)"
        )
        raise OptionError(msg)


def _warn_of_space(folder: Path, tasks: Sequence[BatchTask]) -> None:
    """Warn if there is no space for results as large as their images."""
    needed = 0
    for task in tasks:
        # An image that does not exist fails later, without stopping the batch.
        with suppress(OSError):
            needed += os.path.getsize(task.image)
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"expected {needed / 1e9:.1f} GB free in {folder} for {len(tasks)} images, "
            f"found {free / 1e9:.1f} GB free: free space, or some images will fail"
        )
        warnings.warn(msg, KS4Warning, stacklevel=3)
