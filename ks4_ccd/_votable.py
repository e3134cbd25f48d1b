# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""VOTables that keep the meta of a table, as PARAM elements."""

from numbers import Integral, Real
from xml.sax.saxutils import unescape

import numpy as np
from astropy.io.votable.tree import Param, VOTableFile
from astropy.table.column import BaseColumn
from astropy.units import Quantity

__all__ = ["meta_of", "write_votable"]

# What tells these parameters from others.
_UTYPE = "ks4_ccd:meta"

# Entries of a meta that astropy itself writes, as attributes of the table.
_ATTRIBUTES = ("ID", "name", "ref", "ucd", "utype", "description")


def write_votable(table, path):
    """
    Write a table and those entries of its meta that are numbers or strings.

    Parameters
    ----------
    table : `~astropy.table.Table`
    path : str or path-like

    Raises
    ------
    ValueError
        If a VOTable cannot contain a column.
    """
    unsupported = table.columns.not_isinstance((BaseColumn, Quantity))
    if unsupported:
        names = ", ".join(column.info.name for column in unsupported)
        msg = f"a VOTable cannot contain columns such as {names}"
        raise ValueError(msg)
    votable = VOTableFile.from_table(table)
    element = votable.get_first_table()
    for name, value in table.meta.items():
        options = _param_of(value)
        if options is not None and name not in _ATTRIBUTES:
            # Not all keywords of headers are identifiers of XML.
            options |= {"ID": f"meta_{len(element.params)}", "utype": _UTYPE}
            element.params.append(Param(votable, name=str(name), **options))
    votable.to_xml(str(path))


def _param_of(value):
    """Return the attributes of a PARAM, `None` for what is no number or string."""
    if isinstance(value, str):
        kind = "char" if value.isascii() else "unicodeChar"
        return {"datatype": kind, "arraysize": "*", "value": str(value)}
    if isinstance(value, bool | np.bool_):
        return {"datatype": "boolean", "value": bool(value)}
    if isinstance(value, Integral) and -(2**63) <= value < 2**63:
        return {"datatype": "long", "value": int(value)}
    if isinstance(value, Real):
        return {"datatype": "double", "value": float(value)}
    return None


def meta_of(element):
    """
    Return the meta that `write_votable` kept.

    Parameters
    ----------
    element : `~astropy.io.votable.tree.TableElement`

    Returns
    -------
    meta : dict
    """
    meta = {}
    for param in element.params:
        if param.utype == _UTYPE:
            value = param.value
            if isinstance(value, np.generic | np.ndarray):
                value = value.item()
            if isinstance(value, bytes):
                value = value.decode()
            # Escaped twice by astropy.
            meta[param.name] = unescape(value) if isinstance(value, str) else value
    return meta
