# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Calibration maps: values, errors and star counts on the cells of an image.

Arrays are indexed ``[x_bin, y_bin]``, as in the files of the release;
positions are 0-based pixel coordinates of the image that the grid covers.
"""

from functools import cached_property

import numpy as np
from astropy import units as u

from ks4_ccd._calibration_map import CalibrationMap
from ks4_ccd._cell_errors import errors_of_surface
from ks4_ccd._image_units import conversion, count_unit
from ks4_ccd._value_map import ValueMap
from ks4_ccd.exceptions import DirectionlessMapError, KS4Error, MapFormatError

__all__ = ["MisalignmentMap", "OffsetMap", "ZeroPointMap", "require_offsets"]

_DIRECTIONLESS = (
    "a misalignment map cannot correct positions: it holds median separations, "
    "which have no direction. Build an OffsetMap from a star table with "
    "build_offset_map, or take the map as the error of positions with its "
    "positional_error(x, y)"
)


class ZeroPointMap(ValueMap):
    """
    The photometric zero point of an image, cell by cell.

    Parameters
    ----------
    values : 2D array-like
        The zero point in AB magnitudes, indexed ``[x_bin, y_bin]``: a star
        of ``c`` counts has the magnitude ``-2.5 log10(c) + value``. NaN, or
        a masked value, marks an empty cell.
    error : 2D array-like, optional
        The standard deviation (``ddof=0``) of the cell's stars, in
        magnitudes; 0 means unknown.
    count : 2D array-like, optional
        The number of stars that the value is the median of; a cell with 0
        is empty.
    grid : `~ks4_ccd.MapGrid`
        Where the cells lie.
    key : `~ks4_ccd.release.names.MapKey`, optional
        Which field, band, mode and aperture the map is of.
    source : str, optional
        The file that the map came from.
    image_unit : `~astropy.units.Unit` or str, optional
        The unit of the images whose zero point it is. Images in another unit
        are refused.

    Raises
    ------
    MapFormatError
        If an array is not 2D and real, or has not the grid's shape, or a
        number is infinite, negative (an error, a count), or missing in a
        cell that is not empty.
    KS4Error
        If ``image_unit`` is not a unit, or one of fluxes or magnitudes.

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

    def __init__(
        self,
        values,
        error=None,
        count=None,
        *,
        grid,
        key=None,
        source=None,
        image_unit="adu",
    ):
        super().__init__(values, error, count, grid=grid, key=key, source=source)
        self.image_unit = count_unit("image_unit", image_unit)

    def save(self, path):  # noqa: D102 (inherited)
        if conversion(self.image_unit, u.adu) is None:
            msg = (
                f"{self.name} holds for images in {self.image_unit}: files in the "
                "layout of the release cannot record that, they hold for adu"
            )
            raise KS4Error(msg)
        return super().save(path)

    def at(self, x, y, method="bilinear"):  # noqa: D102 (inherited)
        if method != "dr1":
            return super().at(x, y, method)
        self._require_stars()
        factor = 10 ** (0.4 * (30 - self.marked()["values"]))
        return 30 - 2.5 * np.log10(self._interpolate(factor, x, y, method))


class MisalignmentMap(ValueMap):
    """
    How far an image's positions are from the reference, cell by cell.

    The release's `align` maps: the median separation of stars from Gaia. A
    separation has no direction, so the map tells how good positions are and
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
    key : `~ks4_ccd.release.names.MapKey`, optional
        Which field, band and mode the map is of.
    source : str, optional
        The file that the map came from.

    Raises
    ------
    MapFormatError
        If an array is not 2D and real, or has not the grid's shape, or a
        number is infinite, negative, or missing in a cell that is not empty.

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
        if (self.values < 0).any():
            msg = (
                f"a separation must be >= 0, got {np.nanmin(self.values)} arcsec: "
                "these are not the misalignment maps that the release documents"
            )
            raise MapFormatError(msg)

    def _is_surface(self):
        # Windows are wider than cells: neighbours have most stars in common.
        return True

    @cached_property
    def _cell_errors(self):
        if self.error is None or self.count is None:
            return super()._cell_errors
        # No star was clipped, and separations are no differences of neighbours:
        # the scatter of a cell is corrected for its degree of freedom alone.
        known = self._error_known()
        stars = np.where(known, np.maximum(self.count, 2), 2)
        error = self.error * np.sqrt(stars / (stars - 1))
        return errors_of_surface(self.valid, error, self.count, known)

    def positional_error(self, x, y):
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
    def dra(self):
        """No such thing: asking for it raises `DirectionlessMapError`."""
        raise _NoComponentError(_DIRECTIONLESS)

    @property
    def ddec(self):
        """No such thing: asking for it raises `DirectionlessMapError`."""
        raise _NoComponentError(_DIRECTIONLESS)

    def _interpolate(self, nodes, x, y, method):
        method = "nearest" if method == "dr1" else method
        return super()._interpolate(nodes, x, y, method)


class _NoComponentError(DirectionlessMapError, AttributeError):
    # An AttributeError as well, for `hasattr` and what inspects objects.
    pass


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
    key : `~ks4_ccd.release.names.MapKey`, optional
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

    def __init__(
        self, dra, ddec, error=None, count=None, *, grid, key=None, source=None
    ):
        if any(isinstance(given, MisalignmentMap) for given in (dra, ddec)):
            raise DirectionlessMapError(_DIRECTIONLESS)
        if key is not None:
            key = key.with_family(self.family)
        components = {"dra": dra, "ddec": ddec}
        self._set_arrays(components, error, count, grid=grid, key=key, source=source)

    def at(self, x, y, method="bilinear"):
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
        return tuple(self._interpolate(nodes[c], x, y, method) for c in nodes)

    def _interpolate(self, nodes, x, y, method):
        if method == "dr1":
            msg = (
                'method must be bilinear or nearest for an OffsetMap, got "dr1": the '
                "release has no offset maps, and so no method for them"
            )
            raise KS4Error(msg)
        return super()._interpolate(nodes, x, y, method)

    def plot(self, ax=None, *, part="values", **options):
        """
        Draw the offsets as arrows over their amplitude.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            The axes to draw in; by default the current axes of pyplot.
        part : {"values", "error", "count"}, optional
            What of the map to draw; ``"values"`` are the offsets.
        **options
            Passed to `ks4_ccd.plotting.plot_offsets`, or to
            `ks4_ccd.plotting.plot_map` for an error or a count.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
        """
        from ks4_ccd.plotting import plot_offsets

        if part == "values":
            return plot_offsets(self, ax, **options)
        return super().plot(ax, part=part, **options)


def require_offsets(map_):
    """
    Return a map if it can correct positions, else say why it cannot.

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
