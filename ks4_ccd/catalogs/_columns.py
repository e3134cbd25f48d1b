# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Add and replace columns of a catalog, in a table of the same class."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from astropy.table import Column, MaskedColumn, Table

__all__ = ["NewColumn", "ResultTable"]


class NewColumn(NamedTuple):
    """
    A column to add.

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

    def __init__(self, table: Table) -> None:
        # As its copy() does, but that loses that all columns are masked ones.
        self.table = table.__class__(table, copy=True, masked=table.masked or None)

    def put(self, new: NewColumn, place: tuple[str, int | None] | None = None) -> None:
        """
        Put a column in place of the one of its name, before another, or at the end.

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

    def replace_values(self, name: str, values: np.ndarray) -> None:
        """Replace the values of a column, or the column by another mixin."""
        with self._without_indices([name]):
            if isinstance(values, np.ndarray):
                values = values.astype(self.table[name].dtype, copy=False)
                column = self.table[name].copy()
                # A view: a mask stays unchanged.
                getattr(column, "unmasked", column).view(np.ndarray)[...] = values
            else:
                column = values
                column.info = self.table[name].info
            self.table.replace_column(name, column, copy=False)

    def drop_used(self, places: Mapping[str, tuple[str, int | None]]) -> None:
        """
        Remove the columns all of whose elements are in new columns.

        Parameters
        ----------
        places : dict
            The column and element that each new column was made from, by the
            name of the new column.
        """
        used: dict[str, set[int | None]] = {}
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
    def _without_indices(self, names: Sequence[str]) -> Iterator[None]:
        """Remove the indices of columns, and restore them afterwards."""
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


def _as_column(new: NewColumn, old: Column | None) -> Column:
    """Return a column, a masked one if ``old`` is or values are masked."""
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
