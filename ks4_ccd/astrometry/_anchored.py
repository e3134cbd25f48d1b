# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Keep the lookup tables of a FITS WCS in place when its image is cut."""

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from astropy.wcs import WCS, WCSBase

__all__ = ["AnchoredWCS"]


class AnchoredWCS(WCS):
    """
    A FITS WCS whose lookup tables move with its reference pixel.

    `~astropy.nddata.Cutout2D` shifts the reference pixel of a WCS but not
    its lookup tables, which then correct the wrong pixels. In this class the
    tables follow. Otherwise it is an `~astropy.wcs.WCS`, created in the same ways.

    Notes
    -----
    Moving the reference pixel by a fraction of a pixel, to adjust an astrometric
    solution, moves the tables as well; on their scale this is negligible.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._anchor = self.wcs.crpix.copy()

    @classmethod
    def of(cls, wcs: WCS) -> Self:
        """Return a copy of a WCS as an instance of this class."""
        new = cls(naxis=wcs.naxis)
        own = copy.deepcopy(wcs)
        WCSBase.__init__(
            new,
            own.sip,
            (own.cpdis1, own.cpdis2),
            own.wcs,
            (own.det2im1, own.det2im2),
        )
        new.__dict__.update(own.__dict__)
        new._anchor = new.wcs.crpix.copy()
        return new

    def _follow(self) -> None:
        """Move the tables as far as the reference pixel was moved."""
        shift = self.wcs.crpix - self._anchor
        if shift.any():
            for table in (self.cpdis1, self.cpdis2, self.det2im1, self.det2im2):
                if table is not None:
                    table.crval = np.asarray(table.crval) + shift[:2]
            self._anchor = self.wcs.crpix.copy()

    def __copy__(self) -> Self:
        self._follow()
        return super().__copy__()

    def __deepcopy__(self, memo: dict) -> Self:
        self._follow()
        return super().__deepcopy__(memo)

    def __reduce__(self) -> Any:
        self._follow()
        return super().__reduce__()

    def slice(self, view: Any, numpy_order: bool = True) -> WCS:
        """Return the WCS of a part of the image; astropy moves its tables."""
        self._follow()
        new = super().slice(view, numpy_order)
        if isinstance(new, AnchoredWCS):
            new._anchor = new.wcs.crpix.copy()
        return new


def _following(name: str) -> Callable[..., Any]:
    """Return a method of astropy's WCS that first moves the tables."""
    method = getattr(WCS, name)

    def follow_first(self: AnchoredWCS, *args: Any, **kwargs: Any) -> Any:
        self._follow()
        return method(self, *args, **kwargs)

    follow_first.__name__ = name
    follow_first.__doc__ = f"Evaluate `astropy.wcs.WCS.{name}`."
    return follow_first


# All methods that use the tables.
for _name in (
    "all_pix2world",
    "all_world2pix",
    "pix2foc",
    "p4_pix2foc",
    "det2im",
    "to_fits",
):
    setattr(AnchoredWCS, _name, _following(_name))
