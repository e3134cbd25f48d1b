# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compute the uncertainties of calibration maps.

Each kind of uncertainty is a subclass of `ErrorKind`, listed in `ERROR_KINDS`, from
which options and descriptions of columns are derived. To add a kind, add a class.
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
    with_replaced_errors,
)
from ks4_ccd.maps.node_errors import NodeErrors, covariance_of_cells

__all__ = ["ERROR_KINDS", "MEDIAN_OVER_MEAN", "ErrorKind", "MapErrors"]


class ErrorKind:
    """
    Base class of the kinds of uncertainty.

    Attributes
    ----------
    description : str
        A short definition, for the description of a column.
    needed : tuple of str
        The names of the arrays that a map must have.
    """

    description: str
    needed: tuple[str, ...] = ("error",)

    def of_cells(self, errors: CellErrors) -> np.ndarray | None:
        """Return the uncertainty of each cell of a map whose cells share stars."""
        raise NotImplementedError

    def of_nodes(
        self,
        errors: CellErrors,
        covariance: Callable[[], np.ndarray],
        *,
        published: bool,
    ) -> NodeErrors:
        """
        Return the uncertainties of cells without common stars, for interpolation.

        Parameters
        ----------
        errors : `~ks4_ccd.maps._cell_errors.CellErrors`
        covariance : callable
            A function without arguments that returns the covariances of the standard
            errors of cells.
        published : bool
            Whether the arrays of the map are used without corrections.

        Returns
        -------
        errors : `~ks4_ccd.maps.node_errors.NodeErrors`
        """
        raise NotImplementedError


class _Scatter(ErrorKind):
    """The standard deviation about the map of stars from which it was not made."""

    description = "standard deviation of stars about it"

    def of_cells(self, errors: CellErrors) -> np.ndarray | None:
        return errors.star

    def of_nodes(
        self,
        errors: CellErrors,
        covariance: Callable[[], np.ndarray],
        *,
        published: bool,
    ) -> NodeErrors:
        # The published scatter does not include the standard error of the value.
        return NodeErrors(errors.star, None if published else covariance())


class _Median(ErrorKind):
    """The standard error of the value."""

    description = "standard error of its value"
    needed = ("error", "count")

    def of_cells(self, errors: CellErrors) -> np.ndarray | None:
        return errors.value

    def of_nodes(
        self,
        errors: CellErrors,
        covariance: Callable[[], np.ndarray],
        *,
        published: bool,
    ) -> NodeErrors:
        return NodeErrors(None, covariance())


ERROR_KINDS: dict[str, ErrorKind] = {"scatter": _Scatter(), "median": _Median()}


class MapErrors:
    """The part of `CalibrationMap` that computes uncertainties."""

    error: np.ndarray | None
    count: np.ndarray | None
    valid: np.ndarray
    source: str | None

    # Whether cells share stars although their counts are whole numbers.
    _shares_stars: bool = False
    # The covariances of smoothed cells: see `NodeErrors`.
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
        of an aperture sum, not once per pixel.

        Parameters
        ----------
        x, y : float or array-like
            0-based pixel coordinates, as in `at`.
        method : {"bilinear", "nearest"}
            The method of interpolation, as in `at`.
        error_kind : {"scatter", "median"}
            ``"scatter"`` is the standard deviation about the map of stars from
            which it was not made: the standard deviation of single stars and the
            standard error of the value, in quadrature. ``"median"`` is the standard
            error of the value alone.

        Returns
        -------
        error : float or `~numpy.ndarray`
            The uncertainty in the unit of the map. That of an empty cell is not
            smaller than those of the cells around it.

        Raises
        ------
        OptionError
            If ``method`` or ``error_kind`` does not have one of its allowed values.
        KS4Error
            If the map has no errors, or no counts with
            ``error_kind="median"``.

        Notes
        -----
        The values of cells are assumed to be medians of separate samples of stars,
        clipped as in DR1. Uncertainties are corrected for the clipping and the number
        of stars; those of cells with few stars are estimated from the differences of
        neighbouring cells (see :doc:`/uncertainties`). The errors of two cells are
        independent, except in a smoothed map, which has the covariances of the
        weights, and in a map whose counts are not whole numbers, such as one built
        from surfaces, in which the errors of neighbouring cells are equal.
        """
        return self._interpolate(self.node_errors(error_kind), x, y, method)

    def errors_add(self) -> bool:
        """
        Return whether the errors of different cells add linearly.

        They do if cells share their stars, and add in quadrature otherwise.
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
            Return the arrays of the map without the corrections of `error_at`.

        Returns
        -------
        error : 2D `~numpy.ndarray`
            Positive uncertainties in the unit of the map, indexed
            ``[x_bin, y_bin]``.
        """
        return self.node_errors(error_kind, published=published).at_centers()

    def node_errors(
        self, error_kind: str = "scatter", *, published: bool = False
    ) -> NodeErrors:
        """
        Return the uncertainties of cells, for interpolation.

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
                f"{self.source or self!r}: expected a cell of at least two stars with "
                "an error above 0, or enough neighbouring cells to estimate one, found "
                "neither"
            )
            raise MapFormatError(msg)
        kind = ERROR_KINDS[error_kind]
        if self.errors_add():
            return NodeErrors(kind.of_cells(errors))
        valid = np.ones_like(self.valid) if published else self.valid

        value = cast("np.ndarray", errors.value)  # None only without counts

        def covariance() -> np.ndarray:
            return covariance_of_cells(value, valid, self._covariance)

        return kind.of_nodes(errors, covariance, published=published)

    def _require_arrays(self, error_kind: str) -> None:
        for part in ERROR_KINDS[error_kind].needed:
            if getattr(self, part) is None:
                msg = (
                    f"{self.source or self!r} has no {part} array, which "
                    f'error_kind="{error_kind}" requires: give this array, or omit the '
                    'uncertainty of the map (zp_error="ignore")'
                )
                raise KS4Error(msg)

    def _is_surface(self) -> bool:
        # Fractional counts mark cells that share stars.
        return self._shares_stars or self.count is None or bool(np.any(self.count % 1))

    def _error_known(self, error: np.ndarray) -> np.ndarray:
        known = self.valid & (error > 0)
        if self.count is None:
            return known
        # A fractional count is not that of a single star: see `_is_surface`.
        return known & ((self.count >= 2) | (self.count % 1 > 0))

    def _published_errors(self) -> CellErrors | None:
        error = cast("np.ndarray", self.error)  # required by node_errors
        return with_replaced_errors(error, self.count, self._error_known(error))

    @cached_property
    def _cell_errors(self) -> CellErrors | None:
        if self.error is None or not self.valid.any():
            return None
        if self.count is None or self._is_surface():
            known = self._error_known(self.error)
            return errors_of_surface(self.valid, self.error, self.count, known)
        components = list(self._component_arrays().values())
        return errors_of_cells(components, self.valid, self.error, self.count)
