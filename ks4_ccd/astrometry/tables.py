# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read and write the cards and lookup tables of a WCS in a FITS header."""

import os
import re
import warnings

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from ks4_ccd.astrometry._anchored import AnchoredWCS
from ks4_ccd.exceptions import KS4Error

__all__ = [
    "check_tables",
    "put_tables",
    "put_wcs",
    "take_wcs",
    "without_tables",
]

# Kinds of distortion: keyword of the kind, of its parameters, and of its largest
# value; the extension of its tables; the attributes of a WCS.
_KINDS = (
    ("CPDIS", "DP", "CPERR", "WCSDVARR", ("cpdis1", "cpdis2")),
    ("D2IMDIS", "D2IM", "D2IMERR", "D2IMARR", ("det2im1", "det2im2")),
)
_TABLE_CARDS = re.compile(r"(CPDIS|CPERR|D2IMDIS|D2IMERR)\d$|(DP|D2IM)\d(\.|$)")
_MATRIX = re.compile(r"(CD|PC)\d_\d$")
_SIP = re.compile(r"(A|B|AP|BP)_(\d+_\d+|ORDER|DMAX)$")

# Cards that describe the observation, too; CCDData.read keeps them.
_KEPT = ("JD-OBS", "MJD-OBS", "DATE-OBS")


def check_tables(
    header: fits.Header, hdus: fits.HDUList, name: str | os.PathLike[str]
) -> None:
    """
    Refuse lookup tables that astropy cannot read or would misread.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
    hdus : `~astropy.io.fits.HDUList`
        The file that contains the tables.
    name : path-like
        The name of the file, for the message.

    Raises
    ------
    KS4Error
        If only one axis has a table, or a table is missing, is not 2D, or
        is not finite.
    """
    for kind, parameters, _, extension, _ in _KINDS:
        axes = [axis for axis in (1, 2) if f"{kind}{axis}" in header]
        if len(axes) == 1:
            msg = (
                f"{name} has {kind}{axes[0]} without {kind}{3 - axes[0]}: both axes "
                "need a lookup table, of zeros if an axis is not corrected"
            )
            raise KS4Error(msg)
        for axis in axes:
            found = str(header[f"{kind}{axis}"]).strip()
            if found.lower() != "lookup":
                msg = f"{name}: {kind}{axis} must be LOOKUP, got {found}"
                raise KS4Error(msg)
            version = int(header.get(f"{parameters}{axis}.EXTVER", 1))
            where = f"{name}: {kind}{axis}"
            table = extension, version
            if f"{parameters}{axis}.AXIS.{axis}" not in header:
                msg = f"{where} requires the cards {parameters}{axis}, found none"
                raise KS4Error(msg)
            if table not in hdus:
                msg = f"{where} requires {extension},{version}, which does not exist"
                raise KS4Error(msg)
            _check_table(hdus[table].data, f"{name}: {extension},{version}")


def _check_table(table: np.ndarray | None, name: str) -> None:
    if table is None or table.ndim != 2:
        shape = None if table is None else table.shape
        msg = f"{name} must be a 2D lookup table, got the shape {shape}"
        raise KS4Error(msg)
    bad = np.count_nonzero(~np.isfinite(table))
    if bad:
        msg = f"{name} must be finite, got {bad} of {table.size} nodes that are not"
        raise KS4Error(msg)


def take_wcs(
    header: fits.Header, hdus: fits.HDUList | None = None
) -> tuple[WCS | None, fits.Header]:
    """
    Return the WCS in a header, and a copy of the header without its cards.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        It is not changed.
    hdus : `~astropy.io.fits.HDUList`, optional
        The file; without it, lookup tables are ignored.

    Returns
    -------
    wcs : `~astropy.wcs.WCS` or `None`
        `None` if the header has no usable WCS. Lookup tables stay in place in
        cut-outs.
    header : `~astropy.io.fits.Header`
        As `CCDData.read <astropy.nddata.CCDData>` leaves it.
    """
    bare = without_tables(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            wcs = WCS(header, fobj=hdus) if hdus is not None else WCS(bare)
        except (ValueError, KeyError, TypeError, ArithmeticError, MemoryError):
            # WCS raises these for invalid cards.
            return None, header.copy()
        if not wcs.wcs.ctype[0]:
            return None, header.copy()
        cards = wcs.to_header(relax=True)
    linear = any(_MATRIX.match(keyword) for keyword in cards)
    for keyword in set(bare):
        if (
            (keyword in cards and keyword not in _KEPT)
            or (linear and _MATRIX.match(keyword))
            or (wcs.sip is not None and _SIP.match(keyword))
        ):
            bare.remove(keyword, ignore_missing=True, remove_all=True)
    if any(getattr(wcs, name) is not None for *_, names in _KINDS for name in names):
        wcs = AnchoredWCS.of(wcs)
    return wcs, bare


def put_wcs(header: fits.Header, wcs: WCS) -> list[fits.ImageHDU]:
    """
    Add the cards of a WCS to a header, in place.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        Without cards of a WCS, as `take_wcs` leaves it.
    wcs : `~astropy.wcs.WCS`

    Returns
    -------
    tables : list of `~astropy.io.fits.ImageHDU`
        The lookup tables of the WCS.
    """
    cards = wcs.to_header(relax=True)
    # Cards that readers leave in the header come first: they stay in place.
    for keyword in sorted(cards, key=lambda keyword: keyword not in _KEPT):
        header[keyword] = cards[keyword], cards.comments[keyword]
    return put_tables(header, wcs)


def put_tables(header: fits.Header, wcs: WCS) -> list[fits.ImageHDU]:
    """
    Add the name and the lookup tables of a WCS to a header, in place.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        Without such cards, as `without_tables` returns it.
    wcs : `~astropy.wcs.WCS`

    Returns
    -------
    tables : list of `~astropy.io.fits.ImageHDU`

    Raises
    ------
    KS4Error
        If only one axis has a table, or a table is not finite.
    """
    for kind, _, _, extension, names in _KINDS:
        tables = [getattr(wcs, name) for name in names]
        missing = [name for name, t in zip(names, tables, strict=True) if t is None]
        if len(missing) == 1:
            msg = (
                f"the WCS has no {missing[0]} ({kind}{missing[0][-1]}): both axes need "
                "a lookup table, of zeros if an axis is not corrected"
            )
            raise KS4Error(msg)
        for number, table in enumerate(tables, 1):
            if table is not None:
                _check_table(table.data, f"the lookup table {extension},{number}")
    if wcs.wcs.name:
        # The name of a corrected WCS contains a checksum.
        header["WCSNAME"] = wcs.wcs.name
    written = wcs.to_fits(relax=True)
    for card in written[0].header.cards:
        if _TABLE_CARDS.match(card.keyword):
            header.append(card, end=True)
    for kind, _, largest, _, names in _KINDS:
        tables = [getattr(wcs, name) for name in names]
        if tables[0] is None:
            continue
        # astropy applies a table unless this value is below its minerr, and fails
        # if it applies only one table: both get the larger value.
        error = max(float(np.abs(table.data).max()) for table in tables)
        for axis in (1, 2):
            card = (f"{largest}{axis}", error, "[pix] bound of the correction")
            header.insert(f"{kind}{axis}", card, after=True)
    return list(written[1:])


def without_tables(header: fits.Header) -> fits.Header:
    """
    Return a copy of a header without the cards of lookup tables.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`

    Returns
    -------
    header : `~astropy.io.fits.Header`
    """
    cards = [card for card in header.cards if not _TABLE_CARDS.match(card.keyword)]
    return fits.Header(cards, copy=True)
