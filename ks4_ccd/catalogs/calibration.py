# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Apply maps to source catalogs: Table in, Table out."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
from astropy.nddata import Cutout2D
from astropy.table import Table
from numpy.typing import ArrayLike

from ks4_ccd.catalogs import _record as _catalog_record
from ks4_ccd.catalogs._color import check_color, colors_of, with_color
from ks4_ccd.catalogs._columns import NewColumn, ResultTable
from ks4_ccd.catalogs._magnitudes import (
    Magnitudes,
    refuse_impossible,
    warn_missing,
)
from ks4_ccd.catalogs._maps import CatalogMaps, find_maps
from ks4_ccd.catalogs._positions import (
    corrected_columns,
    is_off_image,
    positions_on_map,
)
from ks4_ccd.catalogs._values import UNREACHABLE, AtSources, sample
from ks4_ccd.catalogs.columns import SourceColumns
from ks4_ccd.catalogs.sources import Place, Sources
from ks4_ccd.exceptions import MapMismatchError
from ks4_ccd.ks4.header import field_in, has_value
from ks4_ccd.ks4.recipe import METHOD
from ks4_ccd.library.library import MapLibrary
from ks4_ccd.maps.base import CalibrationMap
from ks4_ccd.maps.denoising import Edges, NoiseReduction
from ks4_ccd.maps.misalignment import MisalignmentMap
from ks4_ccd.maps.offset import OffsetMap
from ks4_ccd.maps.zeropoint import ZeroPointMap
from ks4_ccd.photometry.options import CalibrationOptions, warn_flags

__all__ = ["calibrate_catalog"]

# A library, its path or paths, or maps.
Maps = (
    MapLibrary
    | str
    | os.PathLike
    | CalibrationMap
    | Mapping[str, ZeroPointMap]
    | Iterable[CalibrationMap | str | os.PathLike]
)

# Bits of ZPFLAG, in addition to those of `_values`.
_OFF_IMAGE, _NO_POSITION = 4, 8
_BITS = (
    "sum of 1: no stars in the cell of the source, 2: nor in any cell around it, "
    "4: off the image, 8: no position, 16: no colour"
)


def calibrate_catalog(
    table: Table,
    library_or_maps: Maps,
    *,
    columns: str | SourceColumns | Mapping = "sextractor",
    apertures: Sequence[str] | None = None,
    field: str | int | None = None,
    band: str | None = None,
    mode: str = "single",
    misalignment: MisalignmentMap | None = None,
    offsets: OffsetMap | MapLibrary | str | os.PathLike | None = None,
    smooth: float | None = None,
    denoise: str | Edges | None = None,
    method: str = "bilinear",
    zp_error: str = "propagate",
    error_kind: str = "scatter",
    uncalibrated: str = "mask",
    flux: bool = False,
    origin: tuple[float, float] | Cutout2D | None = None,
    recalibrate: bool = False,
    mag_zeropoint: float | None = None,
    color: str | ArrayLike | None = None,
) -> Table:
    """
    Calibrate the magnitudes of a catalog in all its apertures, and its positions.

    Parameters
    ----------
    table : `~astropy.table.Table` or `~astropy.table.QTable`
        The catalog: instrumental magnitudes, ``-2.5 log10`` of the flux in adu
        (SExtractor's MAG_ZEROPOINT 0; see ``mag_zeropoint``), or fluxes in adu. It
        is not changed.
    library_or_maps : `~ks4_ccd.MapLibrary`, path-like, map, dict or iterable
        A library or the path or paths of one; or a `~ks4_ccd.ZeroPointMap`, a dict
        of such maps by the names of apertures, or several maps (zero-point maps
        with a ``key``, a `~ks4_ccd.MisalignmentMap`, an `~ks4_ccd.OffsetMap`).
    columns : str, `~ks4_ccd.SourceColumns` or dict, optional
        The columns of the catalog: the name of a preset, or
        `~ks4_ccd.SourceColumns`.
    apertures : sequence of str, optional
        The names of the apertures in the vector column (MAG_APER), in its
        order; by default FWHM, APER3, APER5 and APER10 if there are four.
    field : str or int, optional
        The field; by default that of FIELD1 or FIELD2 in the table's meta.
    band : str, optional
        The filter; by default that of FILTER in the table's meta.
    mode : str, optional
        The mode of the maps that are looked up in a library: ``"single"`` or
        ``"dual"`` in KS4.
    misalignment : `~ks4_ccd.MisalignmentMap`, optional
        The map of the quality of positions; by default that of the library.
    offsets : `~ks4_ccd.OffsetMap`, `~ks4_ccd.MapLibrary`, path-like or "ignore", \
optional
        The offset map that corrects positions, or the library that contains it. By
        default the offset map in ``library_or_maps`` is applied, if it exists and
        ``method`` is not ``"dr1"``. ``"ignore"`` leaves positions unchanged.
    smooth : float, optional
        Smooth the zero-point maps first, on this scale in cells: see
        `ZeroPointMap.smoothed <ks4_ccd.ZeroPointMap.smoothed>`.
    denoise : {"auto", "none"} or pair of sequences, optional
        Apply the surfaces through the cells of the maps instead of the cells, with
        steps at these edges: 0-based pixel coordinates x, and y, ``"auto"`` for those
        found in each map, or ``"none"``. See
        `ZeroPointMap.denoised <ks4_ccd.ZeroPointMap.denoised>`. Not with ``smooth``,
        nor with ``method="dr1"``.
    method : {"bilinear", "nearest", "dr1"}, optional
        The interpolation of the maps: see `ZeroPointMap.at
        <ks4_ccd.ZeroPointMap.at>`. ``"dr1"`` uses the published arrays at the cell
        of a source unchanged, as DR1 did for its catalogs: 30 in an empty cell,
        and an uncertainty of 0 where it is unknown.
    zp_error : {"propagate", "ignore"}, optional
        Whether the zero-point uncertainty is propagated into the uncertainties of
        magnitudes.
    error_kind : {"scatter", "median"}, optional
        The kind of zero-point uncertainty: see `ZeroPointMap.error_at
        <ks4_ccd.ZeroPointMap.error_at>`.
    uncalibrated : {"mask", "fill", "raise"}, optional
        The treatment of sources whose cell is empty and touches no cell with
        stars: mask their magnitudes, calibrate them with the value of the nearest
        cells with stars, or raise an error.
    flux : bool, optional
        Whether to add fluxes in nJy.
    origin : tuple of float or `~astropy.nddata.Cutout2D`, optional
        The 0-based pixel position ``(x, y)`` of the first pixel of the catalog's
        image on the stack. By default the origin that LTV1 and LTV2 in the table's
        meta record, or (0, 0). For a KS4 field it has to agree with the sky
        positions to 3 pixels in the median.
    recalibrate : bool, optional
        Whether to calibrate a catalog whose image was calibrated before, or
        fluxes in adu of a catalog that was calibrated before. A second zero point
        is never added to magnitudes that contain one (columns ``ZP_AP``).
    mag_zeropoint : float, optional
        The zero point that the magnitudes contain, such as 30 for a catalog
        measured with MAG_ZEROPOINT 30: it is subtracted first. By default 0.
        Not allowed for fluxes.
    color : str or array-like, optional
        The colours of the sources in magnitudes, as a column of the catalog or an
        array, for maps with a colour term: in its bands, on the system of the
        reference catalog. A source without a colour (NaN, masked or 99) gets the zero
        point of the reference colour of the map, and the flag 16.

    Returns
    -------
    calibrated : same class as ``table``
        A copy with, for each aperture AP of the catalog that has a map,
        MAG_AP and MAGERR_AP (which replace the instrumental columns; a vector
        column is split), ZP_AP, ZPERR_AP and NUMPHOTO_AP, then MISALIGN,
        MISALIGNERR and NUMASTRO with a misalignment map, NUMPHOTO (of the last
        aperture, AUTO if it exists) and ZPFLAG, a sum of bits: 1, the cell of the
        source has no stars in one of the maps; 2, nor has any cell around it; 4,
        the source is off the image, and has the value at the edge; 8, it has no
        position; 16, a map has a colour term and the source has no colour (the zero
        point is that of the reference colour, KS4ZPCLR in the meta). With
        ``flux=True`` also FLUX_AP and FLUXERR_AP. Magnitudes keep their dtype;
        missing values are masked. The meta records the calibration (KS4ZP...).

    Raises
    ------
    AlreadyCalibratedError
        If the catalog or its image has been calibrated and ``recalibrate`` is
        false, if magnitudes contain a zero point already (the table has
        columns of zero points, or the median calibrated magnitude would be
        fainter than 30), if columns are in AB magnitudes or physical fluxes,
        or if positions have been corrected before and ``offsets`` is given.
    MapMismatchError
        If the catalog and the maps, or two of the maps, are of different
        fields, bands or images, if the catalog does not specify the field or band
        of its maps, if the median calibrated magnitude would be brighter than 0, or
        if sources are uncalibrated and ``uncalibrated="raise"``.
    MapNotFoundError
        If no aperture of the catalog has a map.
    GeometryError
        If pixel positions and sky positions contradict each other, or the
        catalog is not on the map.
    DirectionlessMapError
        If ``offsets`` is a `~ks4_ccd.MisalignmentMap`.
    OptionError
        If an argument is not one of the allowed values.
    KS4Error
        If a column is missing or has no valid content, a map lacks the
        uncertainties to propagate, or SExtractor's SEXMGZPT in the table's meta
        contradicts ``mag_zeropoint``.

    Warns
    -----
    KS4Warning
        If some apertures have no map (their magnitudes are left unchanged), if no
        source has a magnitude in an aperture, or if DR1 flags the field in its
        band; for a KS4 field and without ``origin`` also if all sources have a
        common shift, which is then corrected by their sky positions, or if the
        catalog has no sky positions.

    See Also
    --------
    apply_zeropoint : the same for images

    Notes
    -----
    With the zero point ``zp`` and its uncertainty ``e`` at a source, the magnitude
    is ``MAG - mag_zeropoint + zp`` and its uncertainty ``hypot(MAGERR, e)``.
    Both include the colour term of the map, for sources with a colour: see
    `~ks4_ccd.ColorTerm`.
    Magnitudes and uncertainties of 90 or more in absolute value (99, -99, 999) are
    missing measurements. The zero-point uncertainty is common to the sources in a
    cell. A flux is ``10**(-0.4 (MAG - 31.4))`` nJy; computed from fluxes in adu, it
    exists for values of 0 and below, where a magnitude does not.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import Table
    >>> from ks4_ccd import MapGrid, ZeroPointMap, calibrate_catalog
    >>> zpmap = ZeroPointMap(
    ...     [[29.9], [30.1]], error=[[0.03], [0.03]], grid=MapGrid((2, 1), 50)
    ... )
    >>> sources = Table(
    ...     {
    ...         "X_IMAGE": [25.0, 50.0, 75.0],
    ...         "Y_IMAGE": [25.0, 25.0, 25.0],
    ...         "MAG_AUTO": [-10.0, -10.0, 99.0],
    ...         "MAGERR_AUTO": [0.04, 0.04, 99.0],
    ...     }
    ... )
    >>> calibrated = calibrate_catalog(sources, {"AUTO": zpmap})
    >>> print(calibrated["X_IMAGE", "MAG_AUTO", "MAGERR_AUTO", "ZP_AUTO", "ZPFLAG"])
    X_IMAGE MAG_AUTO MAGERR_AUTO ZP_AUTO ZPFLAG
              mag        mag       mag
    ------- -------- ----------- ------- ------
       25.0     19.9        0.05    29.9      0
       50.0     20.0        0.05    30.0      0
       75.0       --          --    30.1      0
    """
    CalibrationOptions(
        method=method,
        zp_error=zp_error,
        error_kind=error_kind,
        uncalibrated=uncalibrated,
    )
    sources = Sources(table, columns, apertures, mag_zeropoint)
    colors = colors_of(table, color)
    _catalog_record.refuse_second(sources, recalibrate)
    by_default = method != METHOD and not _catalog_record.is_corrected(table.meta)
    maps = find_maps(
        library_or_maps,
        sources,
        field=field,
        band=band,
        mode=mode,
        misalignment=misalignment,
        offsets=offsets,
        reduction=NoiseReduction(smooth, denoise, method == METHOD),
        use_offsets=by_default and sources.has_sky,
    )
    if maps.offsets is not None:
        _catalog_record.refuse_second_correction(table.meta)
    check_color(maps.zeropoints, color, method)
    grid = next(iter(maps.zeropoints.values())).grid
    is_keyed = maps.key is not None
    if maps.key is not None:
        field = maps.key.field
    elif field is None and has_value(table.meta, "FIELD1", "FIELD2"):
        field = field_in(table.meta)
    x, y, known = positions_on_map(sources, grid, origin, field, is_keyed=is_keyed)
    warn_flags(maps.key)
    needed = zp_error == "propagate"
    at = sample(
        maps.zeropoints,
        x,
        y,
        method=method,
        error_kind=error_kind,
        errors_needed=needed,
    )
    at = with_color(at, maps.zeropoints, colors)
    if uncalibrated == "raise":
        _refuse_uncalibrated(at, known, maps.zeropoints)
    magnitudes = []
    for aperture, found in at.items():
        masked = ~known
        if uncalibrated == "mask":
            masked = masked | ((found.flag & UNREACHABLE) > 0)
        magnitudes.append(
            Magnitudes(
                sources,
                aperture,
                found,
                unusable=~known,
                masked=masked,
                error_kind=error_kind,
                propagated=needed,
                unit=maps.zeropoints[aperture].image_unit,
            )
        )
    warn_missing(magnitudes)
    refuse_impossible(magnitudes, sources)
    result = ResultTable(table)
    _put_magnitudes(result, magnitudes, flux)
    for column in _quality_columns(maps, at, x, y, known, method):
        result.put(column)
    flag = reduce(np.bitwise_or, (found.flag for found in at.values()))
    flag = flag | np.where(is_off_image(x, y, grid), _OFF_IMAGE, 0)
    flag = np.where(known, flag, _NO_POSITION).astype(np.int16)
    result.put(NewColumn("ZPFLAG", flag, None, _BITS))
    if maps.offsets is not None:
        node_method = "bilinear" if method == METHOD else method
        corrected = corrected_columns(sources, maps.offsets, x, y, known, node_method)
        for name, values in corrected.items():
            result.replace_values(name, values)
    _catalog_record.write(
        result.table.meta,
        maps.zeropoints.values(),
        method,
        error_kind if needed else None,
        maps.offsets,
        None if sources.columns.fluxes else sources.mag_zeropoint,
    )
    return result.table


def _refuse_uncalibrated(
    at: Mapping[str, AtSources],
    known: np.ndarray,
    zeropoints: Mapping[str, ZeroPointMap],
) -> None:
    for aperture, found in at.items():
        far = known & ((found.flag & UNREACHABLE) > 0)
        if far.any():
            msg = (
                "expected sources in or beside cells with stars, found "
                f"{np.count_nonzero(far)} (the first in row {np.flatnonzero(far)[0]}) "
                f"far from any of {zeropoints[aperture].name}; use "
                'uncalibrated="mask" or "fill"'
            )
            raise MapMismatchError(msg)


def _put_magnitudes(
    result: ResultTable, magnitudes: Sequence[Magnitudes], flux: bool
) -> None:
    """Replace instrumental magnitudes, and add zero points and fluxes at the end."""
    places: dict[str, Place] = {}
    for one in magnitudes:
        for column, place in one.columns():
            result.put(column, place)
            if place is not None:
                places[column.name] = place
    result.drop_used(places)
    for one in magnitudes:
        for column in one.zeropoint_columns():
            result.put(column)
    for one in magnitudes if flux else ():
        for column in one.flux_columns():
            result.put(column)


def _quality_columns(
    maps: CatalogMaps,
    at: Mapping[str, AtSources],
    x: np.ndarray,
    y: np.ndarray,
    known: np.ndarray,
    method: str,
) -> Iterator[NewColumn]:
    """Yield the columns of the misalignment map, and NUMPHOTO."""
    if maps.misalignment is not None:
        found = sample(
            {"MISALIGN": maps.misalignment},
            x,
            y,
            method=method,
            error_kind="scatter",
            errors_needed=False,
        )["MISALIGN"]
        what = "median separation of stars from the reference"
        yield NewColumn("MISALIGN", found.value, "arcsec", what, ~known)
        if found.error is not None:
            what = "standard deviation of these separations"
            yield NewColumn("MISALIGNERR", found.error, "arcsec", what, ~known)
        if found.count is not None:
            what = "number of stars of MISALIGN"
            yield NewColumn("NUMASTRO", np.where(known, found.count, 0), None, what)
    last = list(at)[-1]
    if at[last].count is not None:
        what = f"NUMPHOTO_{last}"
        yield NewColumn("NUMPHOTO", np.where(known, at[last].count, 0), None, what)
