# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Colour term of a zero point: its dependence on the colour of the star."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ks4_ccd.exceptions import MapFormatError, OptionError

__all__ = ["ColorTerm"]

# The longest name of a band in a file.
_LONGEST_NAME = 32


@dataclass(frozen=True)
class ColorTerm:
    """
    The dependence of a zero point on the colour of the star.

    Parameters
    ----------
    bands : pair of str
        The colour is the magnitude in the first band minus that in the second,
        both of the reference catalog.
    reference_color : float
        The colour to which the zero points of the map refer, in magnitudes.
    coefficients : sequence of float
        Of the powers 1, 2, ... of the difference to the reference colour. Empty
        if no dependence on the colour was found.
    covariance : 2D array-like, optional
        The covariance of the coefficients; 0 by default.

    Raises
    ------
    OptionError
        If the bands are not two different names, a number is not finite, or the
        covariance does not belong to the coefficients.

    Notes
    -----
    A star of the colour ``c`` has the zero point ``zp + sum(coefficients[k - 1] *
    (c - reference_color)**k)``, where ``zp`` is the value of the map.

    Examples
    --------
    >>> from ks4_ccd import ColorTerm
    >>> term = ColorTerm(("V", "I"), 0.8, [0.1], [[0.002**2]])
    >>> term.at([0.8, 1.3]).tolist()
    [0.0, 0.05]
    >>> term.error_at([0.8, 1.3]).round(4).tolist()
    [0.0, 0.001]
    >>> print(term)
    V-I: +0.1000 +/- 0.0020 mag per mag, zero points refer to V-I = 0.800
    """

    bands: tuple[str, str]
    reference_color: float
    coefficients: Sequence[float] | np.ndarray
    covariance: Sequence[Sequence[float]] | np.ndarray = ()

    def __post_init__(self) -> None:
        bands = check_bands(self.bands)
        try:
            reference = float(self.reference_color)
            coefficients = np.array(self.coefficients, dtype=float).ravel()
            covariance = np.array(self.covariance, dtype=float)
        except (TypeError, ValueError) as error:
            msg = f"the numbers of a colour term must be real: {error}"
            raise OptionError(msg) from error
        order = coefficients.size
        if not covariance.size:
            covariance = np.zeros((order, order))
        if covariance.shape != (order, order):
            msg = (
                f"the covariance of {order} coefficients must have the shape "
                f"{(order, order)}, got {covariance.shape}"
            )
            raise OptionError(msg)
        numbers = np.concatenate([[reference], coefficients, covariance.ravel()])
        if not np.isfinite(numbers).all() or (np.diagonal(covariance) < 0).any():
            msg = (
                "the numbers of a colour term must be finite, and variances not "
                f"negative: got {numbers.tolist()}"
            )
            raise OptionError(msg)
        for name, value in (
            ("bands", bands),
            ("reference_color", reference),
            ("coefficients", tuple(coefficients.tolist())),
            ("covariance", tuple(map(tuple, covariance.tolist()))),
        ):
            object.__setattr__(self, name, value)

    @property
    def order(self) -> int:
        """The order of the polynomial; 0 if the zero point has no colour term."""
        return len(self.coefficients)

    @property
    def uncertainties(self) -> tuple[float, ...]:
        """The standard deviations of the coefficients."""
        return tuple(math.sqrt(row[k]) for k, row in enumerate(self.covariance))

    @property
    def name(self) -> str:
        """The name of the colour, such as ``"V-I"``."""
        return "-".join(self.bands)

    def at(self, color: ArrayLike) -> np.ndarray:
        """
        Return the difference to the zero point of the map.

        Parameters
        ----------
        color : array-like
            Colours of stars in magnitudes.

        Returns
        -------
        difference : `~numpy.ndarray`
            In magnitudes, to be added to the zero point; NaN where a colour is not
            finite (0 for an order of 0, which needs no colour).
        """
        return self._powers(color) @ np.array(self.coefficients)

    def error_at(self, color: ArrayLike) -> np.ndarray:
        """
        Return the uncertainty of the difference to the zero point of the map.

        Parameters
        ----------
        color : array-like
            Colours of stars in magnitudes.

        Returns
        -------
        error : `~numpy.ndarray`
            In magnitudes; NaN where a colour is not finite (0 for an order of 0).
        """
        powers = self._powers(color)
        covariance = np.reshape(self.covariance, (self.order, self.order))
        variance = np.einsum("...i,ij,...j->...", powers, covariance, powers)
        return np.sqrt(np.maximum(variance, 0))

    def _powers(self, color: ArrayLike) -> np.ndarray:
        difference = np.asarray(color, dtype=float) - self.reference_color
        return difference[..., None] ** np.arange(1, self.order + 1)

    def __str__(self) -> str:
        terms = [
            f"{value:+.4f} +/- {error:.4f} mag per {'mag' if k == 0 else 'mag^2'}"
            for k, (value, error) in enumerate(
                zip(self.coefficients, self.uncertainties, strict=True)
            )
        ]
        found = ", ".join(terms or ["no dependence of the zero point"])
        return (
            f"{self.name}: {found}, zero points refer to {self.name} = "
            f"{self.reference_color:.3f}"
        )

    def to_array(self) -> np.ndarray:
        """Return the colour term as a structured array of one record, for a file."""
        order = self.order
        dtype = [
            ("bands", f"U{_LONGEST_NAME}", (2,)),
            ("reference_color", "f8"),
            ("coefficients", "f8", (order,)),
            ("covariance", "f8", (order, order)),
        ]
        numbers = self.coefficients, np.reshape(self.covariance, (order, order))
        return np.array([(self.bands, self.reference_color, *numbers)], dtype=dtype)

    @classmethod
    def from_array(cls, array: np.ndarray, path: str = "array") -> "ColorTerm":
        """
        Return the colour term in a structured array.

        Parameters
        ----------
        array : 1D `~numpy.ndarray`
            As `to_array` returns it.
        path : str, optional
            The file that contained it, for messages.

        Raises
        ------
        MapFormatError
            If the array does not contain a colour term.
        """
        names = "bands", "reference_color", "coefficients", "covariance"
        if array.dtype.names != names or array.shape != (1,):
            msg = (
                f"{path} must contain a colour term, one record of {', '.join(names)}: "
                f"found {array.dtype.names or array.dtype}, shape {array.shape}"
            )
            raise MapFormatError(msg)
        (first, second), reference, coefficients, covariance = array[0]
        try:
            return cls((str(first), str(second)), reference, coefficients, covariance)
        except OptionError as error:
            msg = f"{path}: {error}"
            raise MapFormatError(msg) from error


def check_bands(bands: object) -> tuple[str, str]:
    """
    Return a pair of bands.

    Parameters
    ----------
    bands : object

    Returns
    -------
    bands : tuple of str

    Raises
    ------
    OptionError
        If they are not two different names of bands.
    """
    msg = (
        "a colour is a pair of two different bands of the reference catalog, such as "
        f'("V", "I"): got {bands!r}'
    )
    if isinstance(bands, str) or not isinstance(bands, tuple | list):
        raise OptionError(msg)
    names = [str(band).strip() for band in bands if isinstance(band, str)]
    if len(names) != 2 or len(bands) != 2 or not all(names) or names[0] == names[1]:
        raise OptionError(msg)
    if any(len(name) > _LONGEST_NAME for name in names):
        msg = f"the name of a band has at most {_LONGEST_NAME} characters: {bands!r}"
        raise OptionError(msg)
    return names[0], names[1]
