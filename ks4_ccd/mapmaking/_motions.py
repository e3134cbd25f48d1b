# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Move reference stars to the epoch of an image."""

import warnings
from collections.abc import Mapping

import numpy as np
from astropy.table import Table
from astropy.time import Time

from ks4_ccd.exceptions import KS4Error, KS4Warning
from ks4_ccd.mapmaking.epochs import (
    TYPICAL_MOTION,
    decimal_year,
    image_epoch,
    moved,
)

__all__ = ["at_epoch_of_image"]

# The shift in mas above which missing proper motions are worth a warning: the accuracy
# of offset maps.
_WORTH_A_WARNING = 1.0


def at_epoch_of_image(
    stars: Table, epoch: Time | float | str | None, meta: Mapping[str, object]
) -> tuple[Table, float | None]:
    """
    Move reference stars to the epoch of an image.

    Parameters
    ----------
    stars : `~astropy.table.Table`
        A table that `~ks4_ccd.read_reference` returned. Its positions change.
    epoch : `~astropy.time.Time`, float, str or `None`
        The time of the image; `None` for that of its header.
    meta : dict-like
        The header of the image, or the meta of its catalog.

    Returns
    -------
    stars : `~astropy.table.Table`
    year : float or `None`
        The epoch of the image; `None` if the stars were not moved.

    Raises
    ------
    KS4Error
        If an epoch is not possible, or ``epoch`` is given and that of the reference is
        unknown.

    Warns
    -----
    KS4Warning
        If proper motions are missing or not applied, with the size of the effect.
    """
    year = image_epoch(meta) if epoch is None else decimal_year("epoch", epoch)
    if "pmRA" not in stars.colnames:
        if year is not None:
            _warn_without_motion(stars, year)
        return stars, None
    known = "Epoch" in stars.colnames and (
        not len(stars) or np.isfinite(stars["Epoch"]).any()
    )
    if year is not None and known:
        return _moved_to(stars, year), year
    if epoch is not None:
        # Otherwise the motion since the epoch of the reference would be in the offsets.
        msg = (
            "the reference does not record its epoch: specify a column or the year "
            "with reference_columns={'epoch': 2016.0} (--reference-epoch 2016.0): that "
            "of Gaia DR3; 2015.5 is that of DR2, 2000.0 that of RAJ2000 and DEJ2000 of "
            "VizieR"
        )
        raise KS4Error(msg)
    _warn_of_motion(stars, is_image=year is None)
    return stars, None


def _moved_to(stars: Table, epoch: float) -> Table:
    names = ("RAJ2000", "DEJ2000", "pmRA", "pmDE")
    years = epoch - stars["Epoch"].value
    ra, dec, pm_ra, pm_dec = (stars[name].value for name in names)
    ra, dec = moved(ra, dec, pm_ra, pm_dec, years)
    stars["RAJ2000"][:], stars["DEJ2000"][:] = ra, dec
    return stars


def _warn_of_motion(stars: Table, *, is_image: bool) -> None:
    """Warn of the size of proper motions that are not applied."""
    motion = np.array([stars[name].value for name in ("pmRA", "pmDE")])
    motion = motion[:, np.isfinite(motion).all(axis=0)]
    if not motion.any():
        return
    east, north = motion.mean(axis=1)
    unknown, remedy = (
        ("image", "epoch= (--epoch), the time of the image")
        if is_image
        else ("reference", "reference_columns={'epoch': 2016.0} (--reference-epoch)")
    )
    msg = (
        "the reference has proper motions, but they are not applied without the "
        f"epoch of the {unknown}: their median is {np.median(np.hypot(*motion)):.3g} "
        f"mas/yr, their mean ({east:+.3g}, {north:+.3g}) mas/yr along RA and Dec; give "
        f"{remedy}"
    )
    warnings.warn(msg, KS4Warning, stacklevel=4)


def _warn_without_motion(stars: Table, epoch: float) -> None:
    """Warn of the typical size of proper motions that a reference lacks."""
    own = stars.meta.get("REFEPOCH")
    if own is None:
        size = f"{TYPICAL_MOTION:g} mas per year since the epoch of the reference"
    else:
        shift = TYPICAL_MOTION * abs(epoch - own)
        if shift < _WORTH_A_WARNING:
            return
        size = (
            f"{shift:.2g} mas in the {abs(epoch - own):.1f} years between the epochs "
            f"of the reference ({own:.1f}) and the image ({epoch:.1f})"
        )
    msg = (
        "the reference has no proper motions: its stars are matched at their own "
        f"epoch, which typically shifts all positions by {size}; use a reference with "
        "proper motions (reference_stars), or name their columns with "
        "reference_columns={'pm_ra': ..., 'pm_dec': ...}"
    )
    warnings.warn(msg, KS4Warning, stacklevel=4)
