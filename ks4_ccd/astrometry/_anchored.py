# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A FITS WCS whose lookup tables stay in place when its image is cut."""

import copy

import numpy as np
from astropy.wcs import WCS, WCSBase

__all__ = ["AnchoredWCS"]


class AnchoredWCS(WCS):
    """
    A FITS WCS whose lookup tables move with its reference pixel.

    `~astropy.nddata.Cutout2D` shifts the reference pixel of a WCS and forgets
    its lookup tables, which then correct the wrong pixels. Here they follow.
    In all else this is an `~astropy.wcs.WCS`, made in the same ways.

    Notes
    -----
    Moving the reference pixel by less than a pixel, to adjust an astrometric
    solution, moves the tables by as little: nothing, on their scale.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._anchor = self.wcs.crpix.copy()

    @classmethod
    def of(cls, wcs):
        """Return a copy of a WCS as one of this class."""
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

    def _follow(self):
        """Move the tables as the reference pixel was moved."""
        shift = self.wcs.crpix - self._anchor
        if shift.any():
            for table in (self.cpdis1, self.cpdis2, self.det2im1, self.det2im2):
                if table is not None:
                    table.crval = np.asarray(table.crval) + shift[:2]
            self._anchor = self.wcs.crpix.copy()

    def __copy__(self):
        self._follow()
        return super().__copy__()

    def __deepcopy__(self, memo):
        self._follow()
        return super().__deepcopy__(memo)

    def __reduce__(self):
        self._follow()
        return super().__reduce__()

    def slice(self, view, numpy_order=True):
        """Return the WCS of a part of the image: astropy moves its tables."""
        self._follow()
        new = super().slice(view, numpy_order)
        if isinstance(new, AnchoredWCS):
            new._anchor = new.wcs.crpix.copy()
        return new


def _following(name):
    """Return a method of astropy's that sees the tables in their place."""
    method = getattr(WCS, name)

    def follow_first(self, *args, **kwargs):
        self._follow()
        return method(self, *args, **kwargs)

    follow_first.__name__ = name
    follow_first.__doc__ = f"Do what `astropy.wcs.WCS.{name}` does."
    return follow_first


# All that use the tables. (all_world2pix calls some of them.)
for _name in (
    "all_pix2world",
    "all_world2pix",
    "pix2foc",
    "p4_pix2foc",
    "det2im",
    "to_fits",
):
    setattr(AnchoredWCS, _name, _following(_name))
