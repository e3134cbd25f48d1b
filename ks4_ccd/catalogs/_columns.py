# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""New and replaced columns of a calibrated catalog, in a table of the same kind."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from astropy.table import Column, MaskedColumn

__all__ = ["NewColumn", "ResultTable"]


class NewColumn(NamedTuple):
    """
    A column to be.

    Attributes
    ----------
    name : str
    data : 1D `~numpy.ndarray`
    unit : str or `None`
    description : str
    mask : 1D `~numpy.ndarray` of bool or `None`
    """

    name: str
    data: np.ndarray
    unit: str | None
    description: str
    mask: np.ndarray | None = None


class ResultTable:
    """
    A copy of a table, in which columns are replaced.

    Parameters
    ----------
    table : `~astropy.table.Table`
        It is not changed.

    Attributes
    ----------
    table : `~astropy.table.Table`
        The copy.
    """

    def __init__(self, table):
        # As its copy() does it, which forgets that all columns are masked ones.
        self.table = table.__class__(table, copy=True, masked=table.masked or None)

    def put(self, new, place=None):
        """
        Put a column where one of its name is, or another, or at the end.

        Parameters
        ----------
        new : `NewColumn`
        place : tuple of str and int, optional
            A column, and an element of it, that the new one is made from: it
            goes before that column, and has its format.
        """
        names = self.table.colnames
        old = None if place is None else self.table[place[0]]
        column = _as_column(new, old)
        if new.name in names:
            with self._without_indices([new.name]):
                self.table.replace_column(new.name, column, copy=False)
        else:
            index = None if place is None else names.index(place[0])
            self.table.add_column(column, index=index, copy=False)

    def replace_values(self, name, values):
        """Give a column other values, or put another mixin in its place."""
        with self._without_indices([name]):
            if isinstance(values, np.ndarray):
                values = values.astype(self.table[name].dtype, copy=False)
                column = self.table[name].copy()
                # A view: the mask, if there is one, stays as it is.
                getattr(column, "unmasked", column).view(np.ndarray)[...] = values
            else:
                column = values
                column.info = self.table[name].info
            self.table.replace_column(name, column, copy=False)

    def drop_used(self, places):
        """
        Take out the columns all of whose elements are in new columns now.

        Parameters
        ----------
        places : dict
            Of new columns, by their names, the column and element that each
            was made from.
        """
        used = {}
        for new_name, (name, element) in places.items():
            if name != new_name:
                used.setdefault(name, set()).add(element)
        made = set(places)
        for name, elements in used.items():
            whole = self.table[name].ndim == 1
            if name not in made and (
                whole or elements == set(range(self.table[name].shape[1]))
            ):
                with self._without_indices([name]):
                    self.table.remove_column(name)

    @contextmanager
    def _without_indices(self, names):
        """Let go of indices that stand in the way, and make them again."""
        indices = [
            ([column.info.name for column in index.columns], index.data.unique)
            for index in self.table.indices
        ]
        indices = [index for index in indices if set(index[0]) & set(names)]
        primary_key = self.table.primary_key
        for own_names, _ in indices:
            self.table.remove_indices(own_names[0])
        yield
        for own_names, unique in indices:
            if set(own_names) <= set(self.table.colnames):
                self.table.add_index(own_names, unique=unique)
        if indices:
            self.table.primary_key = primary_key


def _as_column(new, old):
    """Return a `NewColumn` as a column, masked where it has to be or ``old`` was."""
    options = {
        "name": new.name,
        "unit": new.unit,
        "description": new.description,
    }
    if old is not None:
        options["format"] = old.info.format
    if (new.mask is not None and new.mask.any()) or hasattr(old, "mask"):
        return MaskedColumn(new.data, mask=new.mask, copy=False, **options)
    return Column(new.data, copy=False, **options)
