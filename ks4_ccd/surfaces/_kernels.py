# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Covariances of a field over an image, as products of factors along its axes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Kernel", "kernels"]

# In units of the longer side of the image.
_SMOOTH = (0.08, 0.12, 0.18, 0.27, 0.4, 0.6, 0.9, 1.4)
_ROUGH = (0.1, 0.25, 0.6, 1.5, 4.0)
# With the edges of regions: the share of the variance that differs between regions.
_SMOOTH_WITH_EDGES, _ROUGH_WITH_EDGES = (0.12, 0.27, 0.6, 1.4), (0.25, 1.5)
_SHARES = (0.0, 0.2, 0.6, 1.0)


class Kernel(NamedTuple):
    """
    The covariance of a field of unit variance.

    Attributes
    ----------
    rough : bool
        Whether it decreases exponentially with the distance along each axis, as for
        steps at random positions (Rasmussen & Williams 2006, section 4.2.1), or as a
        Gaussian, as for smooth fields.
    length : float
        The scale on which it decreases, in pixels.
    share : float
        The part of the variance that positions in different regions do not share.
    edges : pair of sequences
        The edges of regions along x and y, 0-based pixel coordinates.
    """

    rough: bool
    length: float
    share: float = 0.0
    edges: tuple[Sequence[float], Sequence[float]] = ((), ())

    def between(
        self, x: np.ndarray, y: np.ndarray, other_x: np.ndarray, other_y: np.ndarray
    ) -> np.ndarray:
        """
        Return the covariance of positions.

        Parameters
        ----------
        x, y, other_x, other_y : 1D `~numpy.ndarray`
            0-based pixel coordinates.

        Returns
        -------
        covariance : 2D `~numpy.ndarray`
            A row for each position, a column for each other position.
        """
        first, *others = (
            weight * along_x * along_y
            for weight, along_x, along_y in self.terms(x, y, other_x, other_y)
        )
        return sum(others, first)

    def terms(
        self, x: np.ndarray, y: np.ndarray, other_x: np.ndarray, other_y: np.ndarray
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """
        Yield the terms of the covariance: a weight, and factors along x and y.

        Positions along x and y may differ in number, as on a mesh.
        """
        axes = list(zip((x, y), (other_x, other_y), self.edges, strict=True))
        if self.share < 1:
            along_x, along_y = (self._fall(p, q) for p, q, _ in axes)
            yield 1 - self.share, along_x, along_y
        if self.share > 0:
            along_x, along_y = (self._fall(p, q) * _same(p, q, e) for p, q, e in axes)
            yield self.share, along_x, along_y

    def _fall(self, position: np.ndarray, other: np.ndarray) -> np.ndarray:
        distance = np.abs(position[:, None] - other) / self.length
        return np.exp(-distance if self.rough else -0.5 * distance**2)


def kernels(
    image_shape: tuple[int, int], edges: tuple[Sequence[float], Sequence[float]]
) -> tuple[list[Kernel], np.ndarray]:
    """
    Return the kernels that fields over an image may have, and their prior weights.

    Parameters
    ----------
    image_shape : tuple of int
        ``(rows, columns)``.
    edges : pair of sequences
        As in `Kernel`.

    Returns
    -------
    found : list of `Kernel`
    weights : 1D `~numpy.ndarray`
        Of sum 1, half of it for smooth kernels and half for rough ones.
    """
    side = max(image_shape)
    if not any(map(len, edges)):
        smooth = [Kernel(False, length * side) for length in _SMOOTH]
        rough = [Kernel(True, length * side) for length in _ROUGH]
    else:
        smooth, rough = (
            [
                Kernel(is_rough, length * side, share, edges)
                for length in lengths
                for share in _SHARES
            ]
            for is_rough, lengths in (
                (False, _SMOOTH_WITH_EDGES),
                (True, _ROUGH_WITH_EDGES),
            )
        )
    weights = [1 / len(family) for family in (smooth, rough) for _ in family]
    return smooth + rough, np.array(weights) / 2


def _same(
    position: np.ndarray, other: np.ndarray, edges: Sequence[float]
) -> np.ndarray:
    """Return which positions are between the same edges along an axis."""
    region, other_region = (
        np.searchsorted(edges, p, side="right") for p in (position, other)
    )
    return region[:, None] == other_region
