# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Arrays that hold both components of an offset, read on the caller's word."""

from ks4_ccd.exceptions import KS4Error

__all__ = ["check_components", "split_components"]

_SIGNS = {"dra": 1.0, "ddec": 1.0, "-dra": -1.0, "-ddec": -1.0}


def check_components(components):
    """
    Return ``components`` if they name both, each once, else raise `KS4Error`.

    Parameters
    ----------
    components : tuple of str
        ``"dra"`` and ``"ddec"`` in the order of an array's third axis, with a
        ``"-"`` in front of what is measured minus reference.

    Returns
    -------
    components : tuple of str
    """
    try:
        names = tuple(components)
        bare = sorted(name.removeprefix("-") for name in names if name in _SIGNS)
    except TypeError:
        bare = []
    if bare != ["ddec", "dra"] or len(names) != 2:
        msg = (
            "components must be dra or -dra, and ddec or -ddec, in the order of the "
            f'array, such as ("dra", "ddec"), got {components!r}'
        )
        raise KS4Error(msg)
    return names


def split_components(array, components):
    """
    Return the components in an array, reference minus measured.

    Parameters
    ----------
    array : 3D `~numpy.ndarray`
        Indexed ``[x_bin, y_bin, component]``.
    components : tuple of str
        As `check_components` returns them.

    Returns
    -------
    arrays : dict
        ``dra`` and ``ddec``, 2D.
    """
    return {
        name.removeprefix("-"): _SIGNS[name] * array[..., axis]
        for axis, name in enumerate(components)
    }
