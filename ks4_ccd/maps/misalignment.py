# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Calibration maps: values, errors and star counts on the cells of an image.

Arrays are indexed ``[x_bin, y_bin]``, as in the files of the release;
positions are 0-based pixel coordinates of the image that the grid covers.
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
    "a misalignment map cannot correct positions: it holds median separations, "
    "which have no direction. Build an OffsetMap from a star table with "
    "build_offset_map, or take the map as the error of positions with its "
    "positional_error(x, y)"
)


class MisalignmentMap(ValueMap):
    """
    The astrometric residuals of an image, cell by cell.

    The ``align`` maps of DR1: the median separation of stars from Gaia. A
    separation has no direction: the map measures the quality of positions and
    cannot correct them.

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
        Where the cells lie.
    key : `~ks4_ccd.MapKey`, optional
        Which field, band and mode the map is of.
    source : str, optional
        The file that the map came from.

    Raises
    ------
    MapFormatError
        If an array is not 2D and real, or has not the grid's shape, or a
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
                f"a separation must be >= 0, got {np.nanmin(self.values)} arcsec: "
                "these are not the misalignment maps that the release documents"
            )
            raise MapFormatError(msg)

    def _is_surface(self) -> bool:
        # Windows are wider than cells: neighbours have most stars in common.
        return True

    @cached_property
    def _cell_errors(self) -> CellErrors | None:
        if self.error is None or self.count is None:
            return super()._cell_errors
        # No star was clipped, and separations are no differences of neighbours:
        # the scatter of a cell is corrected for its degree of freedom alone.
        known = self._error_known(self.error)
        stars = np.where(known, np.maximum(self.count, 2), 2)
        error = self.error * np.sqrt(stars / (stars - 1))
        return errors_of_surface(self.valid, error, self.count, known)

    def positional_error(self, x: ArrayLike, y: ArrayLike) -> float | np.ndarray:
        """
        Return how far off positions on the image are.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, as in `at`.

        Returns
        -------
        error : float or `~numpy.ndarray`
            The median separation from the reference in arcsec, interpolated
            between the centres of cells. It is the length of the position
            error, not its part along an axis.

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
