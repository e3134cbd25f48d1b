# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Displacements of pixels: bilinear lookup tables, and how to undo them."""

import numpy as np

__all__ = ["BilinearTable", "undo"]

# Points that are worked on at a time: their arrays stay in the cache.
_CHUNK = 4096
_TOLERANCE = 1e-11  # pixels
_MAX_ITERATIONS = 500


class BilinearTable:
    """
    Two tables of displacements, read at any positions.

    Between nodes both are bilinear; beyond the outermost nodes they keep
    their values, as astropy's lookup tables do.

    Parameters
    ----------
    dx, dy : 2D `~numpy.ndarray`
        The displacements in pixels, indexed ``[row, column]``.
    step : tuple of float
        The distance of nodes along x and y, in pixels.
    first : tuple of float
        0-based pixel coordinates x, y of the node ``[0, 0]``.
    """

    def __init__(self, dx, dy, step, first):
        self._step, self._first = step, first
        rows, columns = dx.shape
        self._last = columns - 1, rows - 1
        self._columns = columns
        # By cell, the coefficients of 1, u, v and u * v for dx, then for dy.
        # Beyond the last row and column there is nothing new.
        coefficients = []
        for table in (dx, dy):
            padded = np.pad(table, ((0, 1), (0, 1)), mode="edge")
            here, right = padded[:-1, :-1], padded[:-1, 1:]
            above, across = padded[1:, :-1], padded[1:, 1:]
            cross = across - above - right + here
            coefficients += [here, right - here, above - here, cross]
        self._coefficients = np.stack(coefficients, axis=-1).reshape(-1, 8)

    def __call__(self, x, y):
        """Return the displacements at 1D arrays of positions, NaN at NaN."""
        u = self._node(x, 0)
        v = self._node(y, 1)
        with np.errstate(invalid="ignore"):
            # What NaN becomes here does not matter: the weights stay NaN.
            column, row = u.astype(np.intp), v.astype(np.intp)
        u -= column
        v -= row
        row *= self._columns
        row += column
        cell = self._coefficients.take(row, axis=0, mode="clip")
        displacements = []
        for c in (0, 4):
            total = cell[:, c + 3] * v
            total += cell[:, c + 1]
            total *= u
            total += cell[:, c + 2] * v
            total += cell[:, c]
            displacements.append(total)
        return displacements

    def _node(self, position, axis):
        node = position - self._first[axis]
        node *= 1 / self._step[axis]
        return np.clip(node, 0, self._last[axis], out=node)


def apply(displacement, x, y):
    """
    Return positions with their displacements added.

    Parameters
    ----------
    displacement : callable
        Takes 1D arrays x and y, returns their displacements.
    x, y : 1D `~numpy.ndarray`

    Returns
    -------
    x, y : 1D `~numpy.ndarray`
    """
    new_x, new_y = np.empty_like(x), np.empty_like(y)
    for start in range(0, x.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        dx, dy = displacement(x[part], y[part])
        np.add(x[part], dx, out=new_x[part])
        np.add(y[part], dy, out=new_y[part])
    return new_x, new_y


def undo(displacement, x, y, gradient=0.5):
    """
    Return the positions that a displacement brings to the given ones.

    Parameters
    ----------
    displacement : callable
        As in `apply`. Where it changes by less than a pixel per pixel there
        is one such position, and the iteration ``p = x - displacement(p)``
        converges to it.
    x, y : 1D `~numpy.ndarray`
    gradient : float, optional
        How much the displacement changes at most, in pixels per pixel, if it
        is known: each iteration leaves at most so much of the error.

    Returns
    -------
    x, y : 1D `~numpy.ndarray`
        NaN where the iteration did not converge to 1e-10 pixels.
    """
    found = np.empty_like(x), np.empty_like(y)
    # What is left after a change c is at most c * gradient / (1 - gradient).
    gradient = min(max(gradient, 1e-3), 0.5)
    enough = _TOLERANCE * (1 - gradient) / gradient
    # A polynomial far off its image overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, x.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            found[0][part], found[1][part] = _undo(
                displacement, x[part], y[part], enough
            )
    return found


def _undo(displacement, x, y, enough):
    """Iterate on one chunk of positions, on ever fewer of them."""
    tolerance = enough + 8 * np.finfo(float).eps * (np.abs(x) + np.abs(y))
    found_x, found_y = np.array(x, float), np.array(y, float)
    # Positions that are not finite have no displacement to undo.
    active = np.flatnonzero(np.isfinite(tolerance))
    whole = active.size == x.size
    for _ in range(_MAX_ITERATIONS):
        here = slice(None) if whole else active
        dx, dy = displacement(found_x[here], found_y[here])
        new_x, new_y = x[here] - dx, y[here] - dy
        change = np.maximum(
            np.abs(new_x - found_x[here]), np.abs(new_y - found_y[here])
        )
        found_x[here], found_y[here] = new_x, new_y
        # Positions that became NaN stay so.
        going_on = change > tolerance[here]
        if not going_on.any():
            break
        if np.count_nonzero(going_on) < 0.5 * going_on.size:
            active, whole = active[going_on], False
    else:
        lost = active[going_on] if going_on.size == active.size else active
        found_x[lost] = np.nan
    lost = ~(np.isfinite(found_x) & np.isfinite(found_y))
    found_x[lost] = found_y[lost] = np.nan
    return found_x, found_y
