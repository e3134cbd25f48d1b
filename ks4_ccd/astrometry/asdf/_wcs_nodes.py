# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Convert a FITS WCS to a node of an ASDF tree, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from asdf.extension import SerializationContext
from asdf.tagged import TaggedDict
from astropy.wcs import WCS, DistortionLookupTable, Sip, Wcsprm

from ks4_ccd.astrometry.asdf import _checks

__all__ = ["block", "wcs_from_node", "wcs_to_node"]

# Numbers that the cards of wcslib contain with only 14 digits.
_EXACT = ("crpix", "crval", "cdelt", "pc")
_POLYNOMIALS = ("a", "b", "ap", "bp")
_TABLES = ("cpdis1", "cpdis2", "det2im1", "det2im2")
_PLACES = ("crpix", "crval", "cdelt")


def block(array: np.ndarray, ctx: SerializationContext) -> TaggedDict:
    """
    Return an array as a node of the ASDF standard, stored in a binary block.

    Depending on its configuration, the array converter of asdf writes small or
    all arrays as decimal numbers into the YAML, which are not exact.
    """
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    index = ctx.find_available_block_index(lambda: array, ctx.generate_block_key())
    node = {
        "source": index,
        "datatype": array.dtype.name,
        "byteorder": "little",
        "shape": list(array.shape),
    }
    version = "1.0.0" if ctx.version < "1.6.0" else "1.1.0"
    return TaggedDict(node, f"tag:stsci.edu:asdf/core/ndarray-{version}")


def wcs_to_node(wcs: WCS, ctx: SerializationContext) -> dict[str, Any]:
    """Return a FITS WCS, to the last bit, as cards, numbers and tables."""
    cards = wcs.wcs.to_header(relax=True)
    if wcs.sip is None:
        # A -SIP type requires the polynomials on reading.
        cards = cards.replace("-SIP'", "'    ")
    node: dict[str, Any] = {
        "cards": [cards[i : i + 80].rstrip() for i in range(0, len(cards), 80)],
        "crpix": wcs.wcs.crpix.tolist(),
        "crval": wcs.wcs.crval.tolist(),
        "cdelt": wcs.wcs.get_cdelt().tolist(),
        "pc": wcs.wcs.get_pc().tolist(),
        "pole": [float(wcs.wcs.lonpole), float(wcs.wcs.latpole)],
        "pv": [[int(i), int(m), float(value)] for i, m, value in wcs.wcs.get_pv()],
    }
    if wcs.pixel_shape is not None:
        node["pixel_shape"] = [int(n) for n in wcs.pixel_shape]
    if wcs.sip is not None:
        polynomials = {name: getattr(wcs.sip, name) for name in _POLYNOMIALS}
        node["sip"] = {
            name: block(p, ctx) for name, p in polynomials.items() if p is not None
        }
        node["sip"]["crpix"] = wcs.sip.crpix.tolist()
    for name in _TABLES:
        table = getattr(wcs, name)
        if table is not None:
            node[name] = {
                "data": block(table.data, ctx),
                "crpix": [float(value) for value in table.crpix],
                "crval": [float(value) for value in table.crval],
                "cdelt": [float(value) for value in table.cdelt],
            }
    return node


def wcs_from_node(node: Mapping[str, Any]) -> WCS:
    """
    Check a node, and return its FITS WCS.

    Parameters
    ----------
    node : mapping

    Returns
    -------
    wcs : `~astropy.wcs.WCS`

    Raises
    ------
    MapFormatError, ValueError, TypeError
        If the node is not that of a celestial WCS with two axes.
    """
    _checks.keys(
        node, ("cards", *_EXACT, "pole", "pv"), ("pixel_shape", "sip", *_TABLES)
    )
    wcs = WCS(naxis=2)
    wcs.wcs = _linear_part(node)
    if "sip" in node:
        wcs.sip = _polynomials(node["sip"])
    for name in _TABLES:
        if name in node:
            _checks.keys(node[name], ("data", *_PLACES), ())
            data = _checks.table(f"{name}.data", node[name]["data"]).astype("f4")
            places = [_checks.numbers(f"{name}.{p}", node[name][p]) for p in _PLACES]
            setattr(wcs, name, DistortionLookupTable(data, *places))
    if "pixel_shape" in node:
        shape = _checks.numbers("pixel_shape", node["pixel_shape"])
        if min(shape) < 1 or any(n != int(n) for n in shape):
            msg = f"pixel_shape must be two positive integers, got {shape}"
            raise ValueError(msg)
        wcs.pixel_shape = shape
    wcs.wcs.set()
    if wcs.wcs.lng < 0 or wcs.wcs.lat < 0:
        msg = f"it must be a celestial WCS, got {', '.join(wcs.wcs.ctype)}"
        raise ValueError(msg)
    if wcs.sip is None and any("-SIP" in kind for kind in wcs.wcs.ctype):
        msg = f"its type {wcs.wcs.ctype[0]} requires sip, found none"
        raise ValueError(msg)
    return wcs


def _linear_part(node: Mapping[str, Any]) -> Wcsprm:
    """Return the linear part of a node, with its exact numbers."""
    exact: dict[str, Any] = {
        name: _checks.numbers(name, node[name]) for name in _EXACT[:3]
    }
    exact["pc"] = [_checks.numbers("pc", row) for row in _checks.rows("pc", node["pc"])]
    linear = Wcsprm(_checks.text_cards("cards", node["cards"]), relax=True)
    if linear.naxis != 2:
        msg = f"its cards must have two axes, got {linear.naxis}"
        raise ValueError(msg)
    rounded = {"crpix": linear.crpix, "crval": linear.crval}
    rounded |= {"cdelt": linear.get_cdelt(), "pc": linear.get_pc()}
    for name, values in exact.items():
        if not np.allclose(rounded[name], values, rtol=1e-9, atol=1e-12):
            msg = f"{name} is {values}, but {rounded[name].tolist()} in the cards"
            raise ValueError(msg)
        setattr(linear, name, np.array(values, float))
    linear.lonpole, linear.latpole = _checks.numbers("pole", node["pole"])
    parameters = [
        (int(i), int(m), value)
        for i, m, value in (
            _checks.numbers("pv", entry, 3) for entry in _checks.rows("pv", node["pv"])
        )
    ]
    if any(i not in (1, 2) or not 0 <= m <= 99 for i, m, _ in parameters):
        msg = f"pv must be a list of [axis, number, value], got {parameters}"
        raise ValueError(msg)
    if parameters:
        linear.set_pv(parameters)
    return linear


def _polynomials(node: Mapping[str, Any]) -> Sip:
    """Return the SIP polynomials of a node."""
    _checks.keys(node, ("crpix",), _POLYNOMIALS)
    found = [name for name in _POLYNOMIALS if name in node]
    if not found or len(found) % 2 or found[:1] == ["b"] or found[-1:] == ["ap"]:
        msg = f"sip must have a and b, ap and bp, or all four, got {', '.join(found)}"
        raise ValueError(msg)
    tables = (
        _checks.table(f"sip.{name}", node[name]) if name in node else None
        for name in _POLYNOMIALS
    )
    return Sip(*tables, _checks.numbers("sip.crpix", node["crpix"]))
