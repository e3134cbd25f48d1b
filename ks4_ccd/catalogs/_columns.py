# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Add and replace columns in a copy of a catalog."""

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
    A copy of a table in which columns are added and replaced.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table to copy.

    Attributes
    ----------
    table : `~astropy.table.Table`
        The copy, of the same class.
    """

    def __init__(self, table: Table) -> None:
        # Table.copy() would not keep that all columns are masked columns.
        self.table = table.__class__(table, copy=True, masked=table.masked or None)

    def put(self, new: NewColumn, place: tuple[str, int | None] | None = None) -> None:
        """
        Replace the column of the same name, or add a column.

        Parameters
        ----------
        new : `NewColumn`
        place : tuple of str and int, optional
            The column, and the element of a vector column, from which the new
            column is computed: the new column is inserted before it, with its
            format. By default it is added at the end.
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
        """Replace the values of a column, or the column by a mixin column."""
        with self._without_indices([name]):
            if isinstance(values, np.ndarray):
                values = values.astype(self.table[name].dtype, copy=False)
                column = self.table[name].copy()
                # Through a view, which leaves a mask unchanged.
                getattr(column, "unmasked", column).view(np.ndarray)[...] = values
            else:
                column = values
                column.info = self.table[name].info
            self.table.replace_column(name, column, copy=False)

    def drop_used(self, places: Mapping[str, tuple[str, int | None]]) -> None:
        """
        Remove columns of which all elements have been replaced by new columns.

        Parameters
        ----------
        places : dict
            For the name of each new column the column and element from which it was
            computed.
        """
        used: dict[str, set[int | None]] = {}
        for new_name, (name, element) in places.items():
            if name != new_name:
                used.setdefault(name, set()).add(element)
        for name, elements in used.items():
            whole = self.table[name].ndim == 1
            if name not in places and (
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
    """Return a column, a masked column if ``old`` or a new value is masked."""
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
