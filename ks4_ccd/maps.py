# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Calibration maps: values, errors and star counts on the cells of an image.

Arrays are indexed ``[x_bin, y_bin]``, as in the files of the release;
positions are 0-based pixel coordinates of the image that the grid covers.
"""

import numpy as np

from ks4_ccd._calibration_map import CalibrationMap
from ks4_ccd.exceptions import MapFormatError

__all__ = ["MisalignmentMap", "ZeroPointMap"]


class ZeroPointMap(CalibrationMap):
    """
    The photometric zero point of an image, cell by cell.

    Parameters
    ----------
    values : 2D array-like
        The zero point in AB magnitudes, indexed ``[x_bin, y_bin]``: a star
        of ``c`` counts has the magnitude ``-2.5 log10(c) + value``.
    error : 2D array-like, optional
        The standard deviation of the cell's stars, in magnitudes; 0 means
        unknown.
    count : 2D array-like, optional
        The number of stars that the value is the median of; a cell with 0
        is empty. Without counts, cells are empty that hold the release's
        mark, a value of exactly 30 (and an error of 0 if there are errors).
    grid : `~ks4_ccd.MapGrid`
        Where the cells lie.
    key : `~ks4_ccd.release.names.MapKey`, optional
        Which field, band, mode and aperture the map is of.
    source : str, optional
        The file that the map came from.

    Raises
    ------
    MapFormatError
        If an array is not 2D, real and finite, or has not the grid's shape,
        or an error or a count is negative.

    Notes
    -----
    With ``method="dr1"``, `at` returns what the release's image
    homogenization applied: the flux factor ``10**(0.4 (30 - value))``
    stretched linearly from corner to corner of the image, empty cells
    counting as 30, turned back into magnitudes.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd import MapGrid, ZeroPointMap
    >>> zpmap = ZeroPointMap([[29.9, 29.9], [30.1, 30.1]], grid=MapGrid((2, 2), 50))
    >>> zpmap.at(24, 10), round(zpmap.at(49, 10), 6)
    (29.9, 30.0)
    """

    unit = "mag"
    empty_value = 30.0
    family = "zp"

    def at(self, x, y, method="bilinear"):  # noqa: D102 (inherited)
        if method != "dr1":
            return super().at(x, y, method)
        self._require_stars()
        factor = 10 ** (0.4 * (30 - self.values))
        return 30 - 2.5 * np.log10(self._interpolate(factor, x, y, method))


class MisalignmentMap(CalibrationMap):
    """
    How far an image's positions are from the reference, cell by cell.

    The release's `align` maps: the median separation of stars from Gaia. A
    separation has no direction, so the map tells how good positions are and
    cannot correct them.

    Parameters
    ----------
    values : 2D array-like
        The median separation in arcsec, indexed ``[x_bin, y_bin]``, >= 0.
    error : 2D array-like, optional
        The standard deviation of the separations, in arcsec.
    count : 2D array-like, optional
        The number of stars in the window of a cell; a cell with 0 is empty.
        Without counts, a value of exactly 0 marks an empty cell.
    grid : `~ks4_ccd.MapGrid`
        Where the cells lie.
    key : `~ks4_ccd.release.names.MapKey`, optional
        Which field, band and mode the map is of.
    source : str, optional
        The file that the map came from.

    Raises
    ------
    MapFormatError
        If an array is not 2D, real and finite, or has not the grid's shape,
        or a number is negative.

    Notes
    -----
    With ``method="dr1"``, `at` returns what the release's catalogs list as
    MISALIGN: the value of the cell that a position is in, empty or not.

    Examples
    --------
    >>> from ks4_ccd import MapGrid, MisalignmentMap
    >>> grid = MapGrid.for_image((2, 1), (200, 400))
    >>> MisalignmentMap([[0.08], [0.12]], grid=grid).at([99, 199, 299], 50)
    array([0.08, 0.1 , 0.12])
    """

    unit = "arcsec"
    family = "align"

    def __init__(self, values, error=None, count=None, *, grid, key=None, source=None):
        super().__init__(values, error, count, grid=grid, key=key, source=source)
        if self.values.min() < 0:
            msg = (
                f"a separation must be >= 0, got {self.values.min()} arcsec: these are "
                "not the misalignment maps that the release documents"
            )
            raise MapFormatError(msg)

    def _interpolate(self, nodes, x, y, method, power=1):
        method = "nearest" if method == "dr1" else method
        return super()._interpolate(nodes, x, y, method, power)
