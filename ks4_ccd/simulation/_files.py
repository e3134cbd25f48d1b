# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write a simulated field as files in the layout of DR1."""

import gzip
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ks4_ccd.exceptions import KS4Error
from ks4_ccd.ks4.record import ARCHIVES
from ks4_ccd.maps.key import FAMILIES

if TYPE_CHECKING:
    # The module of fields imports this one.
    from ks4_ccd.simulation.field import SimulatedField

__all__ = ["FieldPaths", "write_archive", "write_field"]

# All members have the date of DR1, so that equal maps result in equal bytes.
_RELEASE_TIME = 1_760_486_400


class FieldPaths(NamedTuple):
    """
    The files of a simulated field.

    Attributes
    ----------
    image, sources, reference : `~pathlib.Path`
        FITS files.
    archives : list of `~pathlib.Path`
        The six ``.tar.gz`` archives.
    offsets : `~pathlib.Path`
        The folder with the files of the offset map.
    """

    image: Path
    sources: Path
    reference: Path
    archives: list[Path]
    offsets: Path


def write_field(
    simulated: "SimulatedField", directory: str | os.PathLike[str]
) -> FieldPaths:
    """
    Write the image, the catalogs and the maps of a simulated field.

    Parameters
    ----------
    simulated : `~ks4_ccd.simulation.field.SimulatedField`
    directory : path-like
        The folder, created if it does not exist. Files of the same names are
        replaced.

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


def _write_all(simulated: "SimulatedField", paths: FieldPaths) -> None:
    simulated.ccd.write(paths.image, overwrite=True)
    simulated.sources.write(paths.sources, overwrite=True)
    simulated.reference.write(paths.reference, overwrite=True)
    for path, family in zip(paths.archives, ARCHIVES, strict=True):
        folder = f"{path.name.removesuffix('.tar.gz')}/{simulated.field}"
        write_archive(path, folder, _arrays(simulated, family))
    simulated.offsets.save(paths.offsets)


def _arrays(simulated: "SimulatedField", family: str) -> dict[str, np.ndarray]:
    """Return the arrays of a family of maps by file name."""
    kind, part = FAMILIES[family]
    maps = [*simulated.maps.values(), simulated.misalignment]
    return {
        map_.key.with_family(family).filename: getattr(map_, part)
        for map_ in maps
        if map_.key is not None and map_.key.kind == kind
    }


def write_archive(path: Path, folder: str, arrays: Mapping[str, np.ndarray]) -> None:
    """
    Write arrays as .npy members of a .tar.gz archive.

    Parameters
    ----------
    path : `~pathlib.Path`
        The archive. Equal arrays result in equal bytes.
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
