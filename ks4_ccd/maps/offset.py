# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Calibration maps: values, errors and star counts on the cells of an image.

Arrays are indexed ``[x_bin, y_bin]``, as in the files of the release;
positions are 0-based pixel coordinates of the image that the grid covers.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import (
    DirectionlessMapError,
    KS4Error,
)
from ks4_ccd.maps.base import CalibrationMap
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import _DIRECTIONLESS, MisalignmentMap

__all__ = ["OffsetMap", "require_offsets"]


class OffsetMap(CalibrationMap):
    """
    The correction of an image's positions, cell by cell.

    Parameters
    ----------
    dra, ddec : 2D array-like
        The correction to add, reference minus measured, in arcsec along
        RA cos(dec) and Dec, indexed ``[x_bin, y_bin]``. NaN in both, or
        masked values, mark an empty cell.
    error : 2D array-like, optional
        The standard deviation of the cell's stars about the offset along one
        axis (the root mean square of those along both), in arcsec; 0 means
        unknown.
    count : 2D array-like, optional
        The number of stars that the offset is the median of; a cell with 0
        is empty.
    grid : `~ks4_ccd.MapGrid`
        Where the cells lie.
    key : `~ks4_ccd.MapKey`, optional
        Which field, band and mode the map is of; its family becomes
        ``"dra"``.
    source : str, optional
        The file that the map came from.

    Raises
    ------
    DirectionlessMapError
        If a component is a `MisalignmentMap`.
    MapFormatError
        If an array is not 2D and real, or has not the grid's shape, or a
        number is infinite, negative (an error, a count), or missing in a
        cell that is not empty.
    KS4Error
        If the key is one of a zero-point map.

    Notes
    -----
    A star measured at RA and Dec is at ``RA + dra / cos(Dec)`` and
    ``Dec + ddec``. The release has no such maps: they are built from the star
    tables that its misalignment maps were made from. `error_at` gives errors
    along one axis.

    Examples
    --------
    >>> from ks4_ccd import MapGrid, OffsetMap
    >>> grid = MapGrid.for_image((2, 1), (200, 400))
    >>> offsets = OffsetMap([[0.08], [0.12]], [[-0.04], [0.04]], grid=grid)
    >>> dra, ddec = offsets.at([99, 199, 299], 50)
    >>> dra
    array([0.08, 0.1 , 0.12])
    >>> ddec
    array([-0.04,  0.  ,  0.04])
    """

    components = ("dra", "ddec")
    unit = "arcsec"
    family = "dra"
    dra: np.ndarray
    ddec: np.ndarray

    def __init__(
        self,
        dra: ArrayLike,
        ddec: ArrayLike,
        error: ArrayLike | None = None,
        count: ArrayLike | None = None,
        *,
        grid: MapGrid,
        key: MapKey | None = None,
        source: str | None = None,
    ) -> None:
        if any(isinstance(given, MisalignmentMap) for given in (dra, ddec)):
            raise DirectionlessMapError(_DIRECTIONLESS)
        if key is not None:
            key = key.with_family(self.family)
        components = {"dra": dra, "ddec": ddec}
        self._set_arrays(components, error, count, grid=grid, key=key, source=source)

    def at(
        self, x: ArrayLike, y: ArrayLike, method: str = "bilinear"
    ) -> tuple[float | np.ndarray, float | np.ndarray]:
        """
        Return the correction to add at positions on the image.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, broadcast against each other. A
            position off the image gets the offset at its edge, one that is
            not finite gets NaN.
        method : {"bilinear", "nearest"}
            ``"bilinear"`` interpolates between the centres of the cells and
            ``"nearest"`` takes the cell that a position is in, both after
            empty cells have been filled.

        Returns
        -------
        dra, ddec : float or `~numpy.ndarray`
            In arcsec, along RA cos(dec) and Dec.

        Raises
        ------
        MapFormatError
            If all cells are empty.
        KS4Error
            If ``method`` is not one of the two.
        """
        nodes = self._filled_components()
        dra, ddec = (self._interpolate(nodes[c], x, y, method) for c in nodes)
        return dra, ddec

    def plot(
        self, ax: object = None, *, part: str = "values", **options: object
    ) -> object:
        """
        Draw the offsets as arrows over their amplitude.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            The axes to draw in; by default the current axes of pyplot.
        part : {"values", "error", "count"}, optional
            What of the map to draw; ``"values"`` are the offsets.
        **options
            Passed to `ks4_ccd.plot_offsets`, or to
            `ks4_ccd.plot_map` for an error or a count.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
        """
        from ks4_ccd.plotting import plot_offsets

        if part == "values":
            # As in `CalibrationMap.plot`.
            return plot_offsets(self, cast("Any", ax), **cast("Any", options))
        return super().plot(ax, part=part, **options)


def require_offsets(map_: object) -> OffsetMap:
    """
    Return a map that can correct positions, refuse anything else.

    Parameters
    ----------
    map_ : `OffsetMap`

    Returns
    -------
    map_ : `OffsetMap`
        The same.

    Raises
    ------
    DirectionlessMapError
        If it is a `MisalignmentMap`.
    KS4Error
        If it is anything else.
    """
    if isinstance(map_, MisalignmentMap):
        raise DirectionlessMapError(_DIRECTIONLESS)
    if not isinstance(map_, OffsetMap):
        msg = f"expected an OffsetMap to correct positions, got {type(map_).__name__}"
        raise KS4Error(msg)
    return map_
