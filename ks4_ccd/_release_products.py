# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Maps by the recipe of the release, in archives laid out like those of it.

For the simulated field, whose sources and reference stars need no matching.
"""

import gzip
import io
import tarfile

import numpy as np

from ks4_ccd.build.cells import cell_members, cell_statistics, clipped_statistics
from ks4_ccd.grid import MapGrid
from ks4_ccd.maps import MisalignmentMap, OffsetMap, ZeroPointMap
from ks4_ccd.release.names import APERTURES, MapKey

__all__ = [
    "ARCHIVES",
    "dr1_misalignment_map",
    "dr1_zeropoint_maps",
    "median_offset_map",
    "write_archive",
]

ARCHIVES = {
    "zp": "KS4_DR1_ZeroPoint_Maps",
    "zperr": "KS4_DR1_ZeroPointError_Maps",
    "pstar": "KS4_DR1_PhotCalibNumStars_Maps",
    "align": "KS4_DR1_Astrometry_Maps",
    "alerr": "KS4_DR1_AstrometryError_Maps",
    "astar": "KS4_DR1_AstroCalibNumStars_Maps",
}
# The members bear the day of the release, so that equal maps give equal bytes.
_RELEASE_TIME = 1_760_486_400

_EMPTY_ZEROPOINT = 30.0
_BRIGHTEST, _FAINTEST = 14.0, 19.0  # mag, for zero points


def _good_stars(sources):
    return (
        (sources["FLAGS"] == 0)
        & (sources["IMAFLAGS_ISO"] == 0)
        & (sources["CLASS_STAR"] > 0.8)
    )


def _positions(sources):
    return np.asarray(sources["X_IMAGE"], float) - 1, np.asarray(
        sources["Y_IMAGE"], float
    ) - 1


def _separation(sources, stars):
    """Return how far the sources are from their stars, in degrees."""
    return np.hypot(*_errors_of_positions(sources, stars))


def _errors_of_positions(sources, stars):
    """Return measured minus true positions in degrees, along RA cos(dec) and Dec."""
    delta_ra = (sources["ALPHA_J2000"] - stars.ra + 180) % 360 - 180
    dra = np.asarray(delta_ra * np.cos(np.radians(stars.dec)))
    return dra, np.asarray(sources["DELTA_J2000"] - stars.dec)


def dr1_misalignment_map(sources, stars, bright, grid, key):
    """
    Make the astrometric map: median separations in overlapping windows.

    Parameters
    ----------
    sources : `~astropy.table.Table`
    stars : `~ks4_ccd._sky.Stars`
        Row by row those of ``sources``.
    bright : 1D `~numpy.ndarray` of bool
        Which stars pass the magnitude cut.
    grid : `~ks4_ccd.MapGrid`
        That of the zero-point maps; this one has cells half as wide.
    key : `~ks4_ccd.MapKey`

    Returns
    -------
    misalignment : `~ks4_ccd.MisalignmentMap`
    separation : 1D `~numpy.ndarray`
        Of each source from its star, in degrees.
    """
    separation = np.asarray(_separation(sources, stars))
    shape = tuple(2 * n for n in grid.shape)
    fine = MapGrid(shape, tuple(size / 2 for size in grid.cell_size), grid.origin)
    found = _in_windows(sources, separation, bright, fine)
    misalignment = MisalignmentMap(
        3600 * np.nan_to_num(found.median),
        3600 * np.nan_to_num(found.scatter),
        found.count,
        grid=fine,
        key=key,
    )
    return misalignment, separation


def _in_windows(sources, values, bright, grid):
    """Return the statistics of the good stars in overlapping windows."""
    used = np.asarray(_good_stars(sources) & (sources["MAGERR_AUTO"] < 0.05) & bright)
    x, y = _positions(sources)
    # Windows five cells wide: 1000 pixels around 200 in the release.
    return cell_statistics(
        x[used],
        y[used],
        values[used],
        grid,
        padding=tuple(2 * size for size in grid.cell_size),
        sigma=None,
    )


def median_offset_map(sources, stars, bright, misalignment):
    """
    Make the offset map that goes with a misalignment map.

    Parameters
    ----------
    sources : `~astropy.table.Table`
    stars : `~ks4_ccd._sky.Stars`
        Row by row those of ``sources``.
    bright : 1D `~numpy.ndarray` of bool
        Which stars pass the magnitude cut.
    misalignment : `~ks4_ccd.MisalignmentMap`
        Made from the same stars, in the same windows.

    Returns
    -------
    offsets : `~ks4_ccd.OffsetMap`
        The medians of both components of the stars' reference minus measured
        positions.
    """
    grid = misalignment.grid
    along_ra, along_dec = (
        _in_windows(sources, -3600 * error, bright, grid)
        for error in _errors_of_positions(sources, stars)
    )
    scatter = np.hypot(along_ra.scatter, along_dec.scatter) / np.sqrt(2)
    return OffsetMap(
        np.nan_to_num(along_ra.median),
        np.nan_to_num(along_dec.median),
        np.nan_to_num(scatter),
        along_ra.count,
        grid=grid,
        key=misalignment.key,
    )


def dr1_zeropoint_maps(sources, reference_mag, separation, misalignment, grid, key):
    """
    Make the zero-point maps of all apertures: clipped medians in the cells.

    Parameters
    ----------
    sources : `~astropy.table.Table`
    reference_mag : 1D `~numpy.ndarray`
        The reference magnitude of each source.
    separation : 1D `~numpy.ndarray`
        Of each source from its star, in degrees.
    misalignment : `~ks4_ccd.MisalignmentMap`
    grid : `~ks4_ccd.MapGrid`
    key : `~ks4_ccd.MapKey`
        Its field, band and mode are those of the maps.

    Returns
    -------
    maps : dict
        A `~ks4_ccd.ZeroPointMap` an aperture.
    """
    used = _good_stars(sources) & (reference_mag > _BRIGHTEST)
    used &= reference_mag < _FAINTEST
    if key.mode == "single":
        used &= sources["MAGERR_AUTO"] < 0.05
    x, y = _positions(sources)
    star, cell = cell_members(x, y, grid)
    # The release compares degrees with arcseconds, and takes the map of finer
    # cells at the index of these: a cut only where that map is 0.
    columns, rows = grid.shape
    radius = np.maximum(0.5 / 3600, misalignment.values[:columns, :rows].ravel())
    near = np.asarray(used)[star] & (separation[star] < radius[cell])
    star, cell = star[near], cell[near]
    maps = {}
    for aperture in APERTURES:
        mag = np.asarray(_magnitude(sources, aperture), dtype=float)[star]
        measured = mag != 99
        found = clipped_statistics(
            cell[measured], (reference_mag[star] - mag)[measured], columns * rows
        )
        values = np.where(found.count > 0, found.median, _EMPTY_ZEROPOINT)
        parts = values, np.nan_to_num(found.scatter), found.count
        maps[aperture] = ZeroPointMap(
            *(part.reshape(grid.shape) for part in parts),
            grid=grid,
            key=MapKey("zp", key.field, key.band, key.mode, aperture, key.tile),
        )
    return maps


def _magnitude(sources, aperture):
    if aperture == "AUTO":
        return sources["MAG_AUTO"]
    return sources["MAG_APER"][:, APERTURES.index(aperture)]


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
