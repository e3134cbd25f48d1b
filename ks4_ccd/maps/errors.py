# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Quote the uncertainties of calibration maps.

A kind of uncertainty is a class of `ERROR_KINDS`: another one is another class.
"""

from collections.abc import Callable
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import KS4Error, MapFormatError, one_of
from ks4_ccd.maps._cell_errors import (
    MEDIAN_OVER_MEAN,
    CellErrors,
    errors_of_cells,
    errors_of_surface,
    with_stand_ins,
)
from ks4_ccd.maps.node_errors import NodeErrors, covariance_of_cells

__all__ = ["ERROR_KINDS", "MEDIAN_OVER_MEAN", "ErrorKind", "MapErrors"]


class ErrorKind:
    """
    A kind of uncertainty.

    Attributes
    ----------
    description : str
        In a few words, for the description of a column.
    needed : tuple of str
        The arrays that a map needs for it.
    """

    description: str
    needed: tuple[str, ...] = ("error",)

    def of_cells(self, errors: CellErrors) -> np.ndarray | None:
        """Return the uncertainty of each cell, where cells share their stars."""
        raise NotImplementedError

    def of_nodes(
        self,
        errors: CellErrors,
        covariance: Callable[[], np.ndarray],
        *,
        published: bool,
    ) -> NodeErrors:
        """
        Return the uncertainties to interpolate, where cells have their own stars.

        Parameters
        ----------
        errors : `~ks4_ccd.maps._cell_errors.CellErrors`
        covariance : callable
            Returns the covariances of the standard errors of cells.
        published : bool
            Whether the arrays of the map are quoted unchanged.

        Returns
        -------
        errors : `~ks4_ccd.maps.node_errors.NodeErrors`
        """
        raise NotImplementedError


class _Scatter(ErrorKind):
    """The distance from the map of a star that is not one of its own."""

    description = "standard deviation of stars about it"

    def of_cells(self, errors):
        return errors.star

    def of_nodes(self, errors, covariance, *, published):
        # The published scatter includes no standard error of the value.
        return NodeErrors(errors.star, None if published else covariance())


class _Median(ErrorKind):
    """The standard error of the value."""

    description = "standard error of its value"
    needed = ("error", "count")

    def of_cells(self, errors):
        return errors.value

    def of_nodes(self, errors, covariance, *, published):
        return NodeErrors(None, covariance())


ERROR_KINDS: dict[str, ErrorKind] = {"scatter": _Scatter(), "median": _Median()}


class MapErrors:
    """The part of `CalibrationMap` that quotes uncertainties."""

    error: np.ndarray | None
    count: np.ndarray | None
    valid: np.ndarray
    source: str | None

    # Whether cells share their stars, where counts alone do not show it.
    _shares_stars: bool = False
    # The covariances of smoothed cells, see `NodeErrors`.
    _covariance: np.ndarray | None = None

    def _component_arrays(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _interpolate(
        self,
        nodes: np.ndarray | NodeErrors,
        x: ArrayLike,
        y: ArrayLike,
        method: str,
    ) -> float | np.ndarray:
        raise NotImplementedError

    def error_at(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        method: str = "bilinear",
        error_kind: str = "scatter",
    ) -> float | np.ndarray:
        """
        Return the uncertainty of the map at positions on the image.

        The uncertainty is common to all pixels of a cell: add it once to that
        of an aperture sum, not once a pixel.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, as in `at`.
        method : {"bilinear", "nearest"}
            The method of interpolation, as in `at`.
        error_kind : {"scatter", "median"}
            ``"scatter"`` is how far a star that is not one of the map's lies
            from it: the standard deviation of single stars, and the standard
            error of the value, in quadrature. ``"median"`` is the standard
            error of the value alone.

        Returns
        -------
        error : float or `~numpy.ndarray`
            In the unit of the map. In an empty cell it is no smaller than in
            those around it.

        Raises
        ------
        KS4Error
            If the map has no errors, or no counts with
            ``error_kind="median"``.

        Notes
        -----
        Cells are medians of stars of their own, clipped as in the release:
        what is quoted is corrected for the clipping and the number of stars,
        and for cells of few stars taken from the differences of neighbouring
        cells (see :doc:`/uncertainties`). The errors of two cells are
        independent. A map that was smoothed has the covariances that follow,
        and one whose counts are not whole numbers, as one built from surfaces,
        has errors that its cells have in common.
        """
        return self._interpolate(self.node_errors(error_kind), x, y, method)

    def errors_add(self) -> bool:
        """
        Return whether cells share their stars, so that their errors add.

        Otherwise the squares of the errors of different cells add.
        """
        if self._covariance is not None:
            return False
        return self._is_surface()

    def cell_error(
        self, error_kind: str = "scatter", *, published: bool = False
    ) -> np.ndarray:
        """
        Return the uncertainty at the centre of every cell.

        Parameters
        ----------
        error_kind : {"scatter", "median"}
            As in `error_at`.
        published : bool, optional
            Quote the arrays of the map without the corrections of `error_at`.

        Returns
        -------
        error : 2D `~numpy.ndarray`
            In the unit of the map, indexed ``[x_bin, y_bin]``, positive.
        """
        return self.node_errors(error_kind, published=published).at_centers()

    def node_errors(
        self, error_kind: str = "scatter", *, published: bool = False
    ) -> NodeErrors:
        """
        Return the uncertainties of cells, to be interpolated.

        Parameters
        ----------
        error_kind : {"scatter", "median"}
            As in `error_at`.
        published : bool, optional
            As in `cell_error`.

        Returns
        -------
        errors : ``NodeErrors``
        """
        one_of("error_kind", error_kind, ERROR_KINDS)
        self._require_arrays(error_kind)
        errors = self._published_errors() if published else self._cell_errors
        if errors is None:
            msg = (
                f"{self.source or self!r} has no cell whose error is known: expected "
                "a cell of two stars or more with an error above 0, or enough "
                "neighbouring cells to derive one from"
            )
            raise MapFormatError(msg)
        kind = ERROR_KINDS[error_kind]
        if self.errors_add():
            return NodeErrors(kind.of_cells(errors))
        valid = np.ones_like(self.valid) if published else self.valid

        value = cast("np.ndarray", errors.value)  # None only without counts

        def covariance():
            return covariance_of_cells(value, valid, self._covariance)

        return kind.of_nodes(errors, covariance, published=published)

    def _require_arrays(self, error_kind):
        for part in ERROR_KINDS[error_kind].needed:
            if getattr(self, part) is None:
                msg = (
                    f"{self.source or self!r} has no {part} map, which "
                    f'error_kind="{error_kind}" needs: give its {part} array, or '
                    'leave the error of the map out (zp_error="ignore")'
                )
                raise KS4Error(msg)

    def _is_surface(self) -> bool:
        # No whole numbers: cells share stars, and each has a part of them.
        return self._shares_stars or self.count is None or bool(np.any(self.count % 1))

    def _error_known(self, error):
        known = self.valid & (error > 0)
        if self.count is None:
            return known
        # A count that is not whole is no count of one star: see `_is_surface`.
        return known & ((self.count >= 2) | (self.count % 1 > 0))

    def _published_errors(self):
        error = cast("np.ndarray", self.error)  # there is one: see node_errors
        return with_stand_ins(error, self.count, self._error_known(error))

    @cached_property
    def _cell_errors(self) -> CellErrors | None:
        if self.error is None or not self.valid.any():
            return None
        if self.count is None or self._is_surface():
            known = self._error_known(self.error)
            return errors_of_surface(self.valid, self.error, self.count, known)
        components = list(self._component_arrays().values())
        return errors_of_cells(components, self.valid, self.error, self.count)
