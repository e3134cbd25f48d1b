# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Maps of the astrometric misalignment of an image.

Arrays are indexed ``[x_bin, y_bin]``, as in the files of DR1; positions are 0-based
pixel coordinates of the image that the grid covers.
"""

from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import (
    DirectionlessMapError,
    MapFormatError,
)
from ks4_ccd.maps._cell_errors import CellErrors, errors_of_surface
from ks4_ccd.maps.base import ValueMap
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey

__all__ = ["MisalignmentMap"]

_DIRECTIONLESS = (
    "a misalignment map cannot correct positions: it contains median separations, "
    "which have no direction. Build an OffsetMap from a table of matched stars with "
    "build_offset_map, or use positional_error(x, y) of the map as the uncertainty of "
    "positions"
)


class MisalignmentMap(ValueMap):
    """
    The astrometric residuals of an image, cell by cell.

    Misalignment maps, ``align`` in DR1, contain the median separation of sources
    from stars of Gaia. A separation has no direction: the map measures the quality
    of positions and cannot correct them.

    Parameters
    ----------
    values : 2D array-like
        The median separation in arcsec, indexed ``[x_bin, y_bin]``, >= 0;
        NaN, or a masked value, marks an empty cell.
    error : 2D array-like, optional
        The standard deviation of the separations, in arcsec.
    count : 2D array-like, optional
        The number of stars in the window of a cell; a cell with 0 is empty.
    grid : `~ks4_ccd.MapGrid`
        The cells of the map.
    key : `~ks4_ccd.MapKey`, optional
        The field, band and mode of the map.
    source : str, optional
        The file of the map.

    Raises
    ------
    OptionError
        If ``grid`` or ``key`` has a wrong type.
    MapFormatError
        If an array is not 2D and real, or does not have the shape of the grid, or a
        number is infinite, negative, or missing in a cell that is not empty.

    Examples
    --------
    >>> from ks4_ccd import MapGrid, MisalignmentMap
    >>> grid = MapGrid.for_image((2, 1), (200, 400))
    >>> MisalignmentMap([[0.08], [0.12]], grid=grid).at([99, 199, 299], 50)
    array([0.08, 0.1 , 0.12])
    """

    unit = "arcsec"
    family = "align"

    def __init__(
        self,
        values: ArrayLike,
        error: ArrayLike | None = None,
        count: ArrayLike | None = None,
        *,
        grid: MapGrid,
        key: MapKey | None = None,
        source: str | None = None,
    ) -> None:
        super().__init__(values, error, count, grid=grid, key=key, source=source)
        if (self.values < 0).any():
            msg = (
                f"values must be separations >= 0, got {np.nanmin(self.values)} "
                "arcsec; use an OffsetMap for signed offsets"
            )
            raise MapFormatError(msg)

    def _is_surface(self) -> bool:
        # Windows are wider than cells, so that neighbouring cells share stars.
        return True

    @cached_property
    def _cell_errors(self) -> CellErrors | None:
        if self.error is None or self.count is None:
            return super()._cell_errors
        # Stars are not clipped, so that the scatter is corrected for the degree of
        # freedom of the mean alone.
        known = self._error_known(self.error)
        stars = np.where(known, np.maximum(self.count, 2), 2)
        error = self.error * np.sqrt(stars / (stars - 1))
        return errors_of_surface(self.valid, error, self.count, known)

    def positional_error(self, x: ArrayLike, y: ArrayLike) -> float | np.ndarray:
        """
        Return the uncertainty of positions on the image.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, as in `at`.

        Returns
        -------
        error : float or `~numpy.ndarray`
            The median separation from the reference in arcsec, interpolated
            between the centres of cells. It is the length of the position
            error, not its component along an axis.

        Raises
        ------
        MapFormatError
            If all cells are empty.
        """
        return self.at(x, y)

    @property
    def dra(self) -> NoReturn:
        """Raise `DirectionlessMapError`: separations have no direction."""
        raise DirectionlessMapError(_DIRECTIONLESS)

    @property
    def ddec(self) -> NoReturn:
        """Raise `DirectionlessMapError`: separations have no direction."""
        raise DirectionlessMapError(_DIRECTIONLESS)
