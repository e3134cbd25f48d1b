# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What maps of one value a cell share."""

from ks4_ccd._calibration_map import CalibrationMap

__all__ = ["ValueMap"]


class ValueMap(CalibrationMap):
    """
    A map with one value a cell.

    Parameters
    ----------
    values : 2D array-like
        A value per cell, indexed ``[x_bin, y_bin]``; NaN, or a masked value,
        marks an empty cell.
    error : 2D array-like, optional
        The standard deviation (``ddof=0``) of the stars of a cell about the
        value, in its unit. 0 means unknown.
    count : 2D array-like, optional
        The number of stars in a cell; a cell with 0 is empty.
    grid : `~ks4_ccd.MapGrid`
        Where the cells lie.
    key : `~ks4_ccd.release.names.MapKey`, optional
        Which field, band, mode and aperture the map is of.
    source : str, optional
        The file that the map came from.

    Raises
    ------
    MapFormatError
        If an array is not 2D and real, or has not the grid's shape, or a
        number is infinite, negative (an error, a count), or missing in a
        cell that is not empty.
    """

    components = ("values",)

    def __init__(self, values, error=None, count=None, *, grid, key=None, source=None):
        self._set_arrays(
            {"values": values}, error, count, grid=grid, key=key, source=source
        )

    def at(self, x, y, method="bilinear"):
        """
        Return the value of the map at positions on the image.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, broadcast against each other. A
            position off the image gets the value at its edge, one that is
            not finite gets NaN.
        method : {"bilinear", "nearest", "dr1"}
            ``"bilinear"`` interpolates between the centres of the cells and
            ``"nearest"`` takes the cell that a position is in, both after
            empty cells have been filled; ``"dr1"`` does what the release
            did, empty cells being used as they are.

        Returns
        -------
        value : float or `~numpy.ndarray`
            In the unit of the map.

        Raises
        ------
        MapFormatError
            If all cells are empty.
        KS4Error
            If ``method`` is not one of the three.
        """
        if method == "dr1":
            self._require_stars()
            return self._interpolate(self.marked()["values"], x, y, method)
        nodes = self._filled_components()["values"]
        return self._interpolate(nodes, x, y, method)
