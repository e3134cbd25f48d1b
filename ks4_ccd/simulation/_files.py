# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The files of a simulated field, laid out like those of the release."""

import gzip
import io
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.record import ARCHIVES
from ks4_ccd.maps.key import FAMILIES

__all__ = ["FieldPaths", "write_archive", "write_field"]

# The members bear the day of the release, so that equal maps give equal bytes.
_RELEASE_TIME = 1_760_486_400


class FieldPaths(NamedTuple):
    """
    Where a field was written.

    Attributes
    ----------
    image, sources, reference : `~pathlib.Path`
        FITS files.
    archives : list of `~pathlib.Path`
        The six ``.tar.gz`` archives.
    offsets : `~pathlib.Path`
        The folder of the offset map's files.
    """

    image: Path
    sources: Path
    reference: Path
    archives: list
    offsets: Path


def write_field(simulated, directory):
    """
    Write the image, the catalogs and the maps of a simulated field.

    Parameters
    ----------
    simulated : `~ks4_ccd.simulation.field.SimulatedField`
    directory : path-like
        Made if it is not there; files of the same names are replaced.

    Returns
    -------
    paths : `FieldPaths`

    Raises
    ------
    KS4Error
        If a file cannot be written.
    """
    directory = Path(directory)
    stem = f"ks4_{simulated.field}_{simulated.band}"
    paths = FieldPaths(
        directory / f"{stem}_stack.fits",
        directory / f"{stem}_{simulated.mode}.fits",
        directory / f"gaiaxp_{simulated.field}.fits",
        [directory / name for name in ARCHIVES.values()],
        directory / "offsets",
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write_all(simulated, paths)
    except OSError as error:
        msg = f"cannot write the simulated field to {directory}: {error}"
        raise KS4Error(msg) from error
    return paths


def _write_all(simulated, paths):
    simulated.ccd.write(paths.image, overwrite=True)
    simulated.sources.write(paths.sources, overwrite=True)
    simulated.reference.write(paths.reference, overwrite=True)
    for path, family in zip(paths.archives, ARCHIVES, strict=True):
        folder = f"{path.name.removesuffix('.tar.gz')}/{simulated.field}"
        write_archive(path, folder, _arrays(simulated, family))
    simulated.offsets.save(paths.offsets)


def _arrays(simulated, family):
    """Return the arrays of a family of maps, by the names of their files."""
    kind, part = FAMILIES[family]
    maps = [*simulated.maps.values(), simulated.misalignment]
    return {
        map_.key.with_family(family).filename: getattr(map_, part)
        for map_ in maps
        if map_.key.kind == kind
    }


def write_archive(path, folder, arrays):
    """
    Write arrays as .npy members of a .tar.gz archive.

    Parameters
    ----------
    path : `~pathlib.Path`
        Equal arrays give equal bytes.
    folder : str
        The folder in the archive.
    arrays : dict
        Arrays by file name.
    """
    with (
        open(path, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=_RELEASE_TIME) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(arrays[name], dtype=float), allow_pickle=False)
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = buffer.tell()
            member.mtime = _RELEASE_TIME
            buffer.seek(0)
            archive.addfile(member, buffer)
