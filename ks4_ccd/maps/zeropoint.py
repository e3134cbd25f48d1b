# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Maps of the photometric zero point of an image.

Arrays are indexed ``[x_bin, y_bin]``, as in the files of DR1; positions are 0-based
pixel coordinates of the image that the grid covers.
"""

from os import PathLike
from pathlib import Path

from astropy import units as u
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import KS4Error, OptionError
from ks4_ccd.files.units import conversion, count_unit
from ks4_ccd.maps.base import ValueMap
from ks4_ccd.maps.color import ColorTerm
from ks4_ccd.maps.denoising import DenoisedMap
from ks4_ccd.maps.grid import MapGrid
from ks4_ccd.maps.key import MapKey

__all__ = ["ZeroPointMap"]


class ZeroPointMap(DenoisedMap, ValueMap):
    """
    The photometric zero points of an image, cell by cell.

    Parameters
    ----------
    values : 2D array-like
        The zero point in AB magnitudes, indexed ``[x_bin, y_bin]``: a star
        with a flux of ``c`` in ``image_unit`` has the magnitude
        ``-2.5 log10(c) + value``. NaN, or a masked value, marks an empty cell.
    error : 2D array-like, optional
        The standard deviation (``ddof=0``) of the stars of a cell, in
        magnitudes; 0 means unknown.
    count : 2D array-like, optional
        The number of stars of which the value is the median; a cell with 0
        is empty.
    grid : `~ks4_ccd.MapGrid`
        The cells of the map.
    key : `~ks4_ccd.MapKey`, optional
        The field, band, mode and aperture of the map.
    source : str, optional
        The file of the map.
    image_unit : `~astropy.units.Unit` or str, optional
        The unit of the images to which the zero points apply. Images in another
        unit are refused.
    color_term : `~ks4_ccd.ColorTerm`, optional
        The dependence of the zero point on the colour of the star; the values are
        those of a star of its reference colour.

    Raises
    ------
    OptionError
        If ``grid``, ``key`` or ``color_term`` has a wrong type.
    MapFormatError
        If an array is not 2D and real, or does not have the shape of the grid, an
        error or a count is negative, or a number is infinite, or missing in a cell
        that is not empty.
    KS4Error
        If ``image_unit`` is not a unit, or one of fluxes or magnitudes.

    Examples
    --------
    >>> import numpy as np
    >>> from ks4_ccd import MapGrid, ZeroPointMap
    >>> zpmap = ZeroPointMap([[29.9, 29.9], [30.1, 30.1]], grid=MapGrid((2, 2), 50))
    >>> zpmap.at(24, 10), round(zpmap.at(49, 10), 6)
    (29.9, 30.0)
    """

    unit = "mag"
    family = "zp"
    image_unit: u.UnitBase
    color_term: ColorTerm | None
    _options = (*ValueMap._options, "image_unit", "color_term")

    def __init__(
        self,
        values: ArrayLike,
        error: ArrayLike | None = None,
        count: ArrayLike | None = None,
        *,
        grid: MapGrid,
        key: MapKey | None = None,
        source: str | None = None,
        image_unit: u.UnitBase | str = "adu",
        color_term: ColorTerm | None = None,
    ) -> None:
        super().__init__(values, error, count, grid=grid, key=key, source=source)
        if not isinstance(color_term, ColorTerm | None):
            msg = f"color_term must be a ColorTerm, got {type(color_term).__name__}"
            raise OptionError(msg)
        self._set(
            image_unit=count_unit("image_unit", image_unit), color_term=color_term
        )

    def save(self, path: str | PathLike[str]) -> list[Path]:  # noqa: D102 (inherited)
        if conversion(self.image_unit, u.adu) is None:
            msg = (
                f"{self.name} applies to images in {self.image_unit}, which files in "
                "the layout of DR1 cannot record: they apply to images in adu"
            )
            raise KS4Error(msg)
        return super().save(path)
