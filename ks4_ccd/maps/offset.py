# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Maps of the position offsets of an image.

Arrays are indexed ``[x_bin, y_bin]``, as in the files of DR1; positions are 0-based
pixel coordinates of the image that the grid covers.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import DirectionlessMapError, OptionError
from ks4_ccd.maps.denoising import DenoisedMap
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey
from ks4_ccd.maps.misalignment import _DIRECTIONLESS, MisalignmentMap

__all__ = ["OffsetMap", "require_offsets"]


class OffsetMap(DenoisedMap):
    """
    The offsets that correct the positions of an image, cell by cell.

    Parameters
    ----------
    dra, ddec : 2D array-like
        The correction to add, reference minus measured, in arcsec along
        RA cos(dec) and Dec, indexed ``[x_bin, y_bin]``. NaN in both, or
        masked values, mark an empty cell.
    error : 2D array-like, optional
        The standard deviation of the stars of a cell about the offset along one
        axis (the root mean square of those along both), in arcsec; 0 means
        unknown.
    count : 2D array-like, optional
        The number of stars of which the offset is the median; a cell with 0
        is empty.
    grid : `~ks4_ccd.MapGrid`
        The cells of the map.
    key : `~ks4_ccd.MapKey`, optional
        The field, band and mode of the map. The family of the key is replaced by
        ``"dra"``.
    source : str, optional
        The file of the map.

    Raises
    ------
    DirectionlessMapError
        If a component is a `MisalignmentMap`.
    OptionError
        If ``grid`` or ``key`` has a wrong type, or ``key`` is that of a zero-point
        map.
    MapFormatError
        If an array is not 2D and real, or does not have the shape of the grid, an
        error or a count is negative, or a number is infinite, or missing in a cell
        that is not empty.

    Notes
    -----
    A star measured at RA and Dec is at ``RA + dra / cos(Dec)`` and
    ``Dec + ddec``. DR1 contains no offset maps: they are built from the tables of
    matched stars from which its misalignment maps were made. `error_at` returns
    uncertainties along one axis.

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
        if isinstance(key, MapKey):
            key = key.with_family(self.family)
        components = {"dra": dra, "ddec": ddec}
        self._set_arrays(components, error, count, grid=grid, key=key, source=source)

    def at(
        self, x: ArrayLike, y: ArrayLike, method: str = "bilinear"
    ) -> tuple[float | np.ndarray, float | np.ndarray]:
        """
        Return the offsets to add to positions on the image.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, broadcast against each other. The offset
            outside of the image is that at its edge, and NaN for coordinates that
            are not finite.
        method : {"bilinear", "nearest"}
            ``"bilinear"`` interpolates between the centres of the cells, and
            ``"nearest"`` returns the offset of the cell that contains a position,
            both after empty cells have been filled.

        Returns
        -------
        dra, ddec : float or `~numpy.ndarray`
            The offsets along RA cos(dec) and Dec, in arcsec.

        Raises
        ------
        MapFormatError
            If all cells are empty.
        OptionError
            If ``method`` does not have one of its allowed values.
        """
        nodes = self._filled_components()
        dra, ddec = (self._interpolate(nodes[c], x, y, method) for c in nodes)
        return dra, ddec

    def plot(
        self, ax: object = None, *, part: str = "values", **options: object
    ) -> object:
        """
        Draw the offsets as arrows on a map of their amplitude.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            The axes to draw in; by default the current axes of pyplot.
        part : {"values", "error", "count"}, optional
            The arrays to draw; ``"values"`` are the offsets.
        **options
            Options of `~ks4_ccd.plot_offsets`, or of `~ks4_ccd.plot_map` for an
            error or a count.

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
    Raise an error unless a map can correct positions.

    Parameters
    ----------
    map_ : `OffsetMap`

    Returns
    -------
    map_ : `OffsetMap`
        The argument.

    Raises
    ------
    DirectionlessMapError
        If the argument is a `MisalignmentMap`.
    OptionError
        If it is not an `OffsetMap`.
    """
    if isinstance(map_, MisalignmentMap):
        raise DirectionlessMapError(_DIRECTIONLESS)
    if not isinstance(map_, OffsetMap):
        msg = f"expected an OffsetMap to correct positions, got {type(map_).__name__}"
        raise OptionError(msg)
    return map_
