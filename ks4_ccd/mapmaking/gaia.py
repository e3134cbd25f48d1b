# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Download reference stars from the Gaia archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack

from ks4_ccd.exceptions import DownloadError, KS4Error, OptionError, finite
from ks4_ccd.files.tables import read_table, write_table
from ks4_ccd.files.writing import as_path, make_folder
from ks4_ccd.ks4.frame import STACK_SHAPE
from ks4_ccd.ks4.tiling import PIXEL_SCALE, field_center

if TYPE_CHECKING:
    from ks4_ccd.mapmaking._tap import TapService

__all__ = ["GAIA_ARCHIVE", "reference_stars"]

GAIA_ARCHIVE = "https://gea.esac.esa.int/tap-server/tap"
"""The TAP service of the Gaia archive of ESA."""

_SOURCE_COLUMNS = (
    *("source_id", "ra", "ra_error", "dec", "dec_error", "ref_epoch"),
    *("pmra", "pmra_error", "pmdec", "pmdec_error", "ruwe"),
    *("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag"),
)
_PASSBANDS = (
    *("u_jkc", "b_jkc", "v_jkc", "r_jkc", "i_jkc"),
    *("u_sdss", "g_sdss", "r_sdss", "i_sdss", "z_sdss", "y_ps1"),
)
_PHOTOMETRY_COLUMNS = (
    "c_star",
    *(
        f"{passband}_{part}"
        for passband in _PASSBANDS
        for part in ("mag", "flux", "flux_error", "flag")
    ),
)
# Stars of one query, and of one call: the latter is the limit of the Gaia archive for
# an anonymous user, and far above the stars with XP spectra of a KS4 field.
_PAGE = 500_000
_MOST_STARS = 3_000_000
# Answers whose number of rows is a multiple of this may end at a limit of the service
# that it does not state. A complete answer of such a number costs one more query.
_SUSPICIOUS_MULTIPLE = 1000
_LARGEST_RADIUS = 10.0
# The corner of a stack, and the error of its pointing.
_FIELD_MARGIN = 0.02
_KEY = "TAPKEY"


def reference_stars(
    where: str | int | SkyCoord,
    radius: u.Quantity | float | None = None,
    *,
    magnitudes: Sequence[float] = (14.0, 20.0),
    service: str = GAIA_ARCHIVE,
    cache: str | os.PathLike[str] | None = None,
    refresh: bool = False,
    timeout: float = 600.0,
) -> Table:
    """
    Download reference stars from the Gaia archive, and keep them in a cache.

    Parameters
    ----------
    where : str, int or `~astropy.coordinates.SkyCoord`
        A KS4 field (``"0403"``, ``"122-72"``), or the centre of a cone.
    radius : `~astropy.units.Quantity` or float, optional
        The radius of the cone; a number is in degrees. By default that of the
        circle around a KS4 stack, 1.75 deg; required for a position.
    magnitudes : (float, float), optional
        The range of Gaia's G magnitude. There is synthetic photometry to about 17.6.
    service : str, optional
        The address of the TAP service: another one must have the same tables.
    cache : str or path-like, optional
        The folder of downloaded tables, by default ``reference`` in the cache folder of
        the package (``~/.cache/ks4_ccd`` on Linux).
    refresh : bool, optional
        Whether to download even what is in the cache.
    timeout : float, optional
        Seconds after which a query is given up.

    Returns
    -------
    stars : `~astropy.table.Table`
        Columns of ``gaiadr3.gaia_source``, among them ``ra``, ``dec`` (deg),
        ``ref_epoch`` (yr), ``pmra``, ``pmdec`` (mas/yr), ``ruwe`` and
        ``phot_g_mean_mag``, and of ``gaiadr3.synthetic_photometry_gspc``: ``c_star``,
        and magnitudes, fluxes, their errors and flags in 11 passbands, such as
        ``v_jkc_mag``, in ascending order of ``source_id``. `~ks4_ccd.match_catalogs`
        and `~ks4_ccd.read_reference` accept the table unchanged.

    Raises
    ------
    OptionError
        If an option is not of the allowed kind.
    DownloadError
        If the service fails, truncates its answer and does not return the rest, returns
        other columns or more than three million stars.
    KS4Error
        If astroquery is not installed (the extra ``gaia``), the field does not exist,
        or no star was found.

    Notes
    -----
    The query joins the two tables by ``source_id``: stars without an XP spectrum in DR3
    are left out. Queries run asynchronously and in pages, ordered by ``source_id``:
    where an answer ends at a limit of rows, another query continues there, until an
    answer is complete. A table appears in the cache when it is complete; its file is
    named by the query and the service. All stars are returned, those with a poor
    astrometric solution (``ruwe`` above 1.4) included.

    Examples
    --------
    >>> from ks4_ccd import match_catalogs, reference_stars
    >>> stars = reference_stars("0403")  # doctest: +SKIP
    >>> matched = match_catalogs(  # doctest: +SKIP
    ...     "ks4_0403_R_single.fits", stars, band="R", reference_columns="gaiaxp"
    ... )

    (This is not run with the tests, which use no network.)

    >>> from astropy.coordinates import SkyCoord
    >>> reference_stars(SkyCoord(10, -62, unit="deg"))
    Traceback (most recent call last):
        ...
    ks4_ccd.exceptions.OptionError: radius is required for a position...
    """
    center, radius_deg = _cone(where, radius)
    limits = _limits(magnitudes)
    conditions = _conditions(center, radius_deg, limits)
    path = _cached_path(cache, service, conditions)
    if not refresh and (stars := _cached(path)) is not None:
        return stars
    # requests takes long to import, and most processes download nothing.
    from ks4_ccd.mapmaking._tap import TapService

    stars = _downloaded(TapService(service, _seconds(timeout)), service, conditions)
    stars.meta |= {
        _KEY: path.stem,
        "TAPURL": service,
        "CONERA": center.ra.deg,
        "CONEDEC": center.dec.deg,
        "CONERAD": radius_deg,
        "GMIN": limits[0],
        "GMAX": limits[1],
    }
    make_folder(path.parent)
    write_table(stars, path, overwrite=True)
    # As from the cache, to the last column.
    return read_table(path)


def _cone(
    where: str | int | SkyCoord, radius: u.Quantity | float | None
) -> tuple[SkyCoord, float]:
    """Return the centre and the radius in degrees."""
    if isinstance(where, SkyCoord):
        center = where.icrs
        if (
            not center.isscalar
            or not np.isfinite([center.ra.deg, center.dec.deg]).all()
        ):
            msg = f"where must be one position or a KS4 field, got {where!r}"
            raise OptionError(msg)
        if radius is None:
            msg = (
                "radius is required for a position: give it in degrees, or as a "
                "Quantity"
            )
            raise OptionError(msg)
    else:
        center = field_center(where)
    if radius is None:
        corner = np.hypot(*STACK_SHAPE) / 2 * PIXEL_SCALE.to_value(u.deg)
        return center, round(float(corner) + _FIELD_MARGIN, 2)
    try:
        value = u.Quantity(radius)
        if value.unit == u.dimensionless_unscaled:
            value = value * u.deg
        value = float(value.to_value(u.deg))
    except (TypeError, ValueError, u.UnitConversionError):
        value = np.nan
    if isinstance(radius, bool) or not 0 < value <= _LARGEST_RADIUS:
        msg = (
            f"radius must be an angle above 0 and at most {_LARGEST_RADIUS:g} deg (a "
            f"number is in degrees), got {radius!r}"
        )
        raise OptionError(msg)
    return center, value


def _limits(magnitudes: Sequence[float]) -> tuple[float, float]:
    try:
        bright, faint = (finite("magnitudes", value) for value in magnitudes)
    except (TypeError, ValueError):
        bright = faint = np.nan
    if not bright < faint:
        msg = (
            "magnitudes must be two numbers, the brighter limit of G first, such as "
            f"(14, 20), got {magnitudes!r}"
        )
        raise OptionError(msg)
    return bright, faint


def _seconds(timeout: float) -> float:
    seconds = finite("timeout", timeout)
    if seconds <= 0:
        msg = f"timeout must be a number of seconds above 0, got {timeout!r}"
        raise OptionError(msg)
    return seconds


def _conditions(center: SkyCoord, radius: float, limits: tuple[float, float]) -> str:
    bright, faint = limits
    return (
        "FROM gaiadr3.gaia_source AS g JOIN gaiadr3.synthetic_photometry_gspc AS p "
        "ON p.source_id = g.source_id WHERE 1 = CONTAINS(POINT('ICRS', g.ra, g.dec), "
        f"CIRCLE('ICRS', {center.ra.deg:.8f}, {center.dec.deg:.8f}, {radius:.6f})) "
        f"AND g.phot_g_mean_mag BETWEEN {bright:g} AND {faint:g}"
    )


def _cached_path(
    cache: str | os.PathLike[str] | None, service: str, conditions: str
) -> Path:
    if cache is None:
        # Most processes download nothing.
        import pooch

        folder = Path(pooch.os_cache("ks4_ccd")) / "reference"
    else:
        folder = as_path("cache", cache)
    text = "\n".join((service, *_SOURCE_COLUMNS, *_PHOTOMETRY_COLUMNS, conditions))
    return folder / f"gaia_{hashlib.sha256(text.encode()).hexdigest()[:16]}.fits"


def _cached(path: Path) -> Table | None:
    """Return a table of the cache, `None` if it does not exist or is damaged."""
    if not path.exists():
        return None
    try:
        stars = read_table(path)
    except KS4Error:
        return None
    return stars if stars.meta.get(_KEY) == path.stem else None


def _downloaded(tap: TapService, service: str, conditions: str) -> Table:
    pages: list[Table] = []
    number, last = 0, None
    continues = True
    while continues:
        page, is_truncated = tap.run(_query(conditions, last))
        page = _with_expected_columns(page, service)
        continues = is_truncated or (
            len(page) > 0 and len(page) % _SUSPICIOUS_MULTIPLE == 0
        )
        if (continues and not len(page)) or not _is_next(page, last, continues):
            raise DownloadError(_truncated(service, number + len(page)))
        if len(page):
            pages.append(page)
            number += len(page)
            last = int(page["source_id"][-1])
        if number > _MOST_STARS:
            msg = (
                f"the cone contains more than {_MOST_STARS} stars: give a smaller "
                "radius or a brighter limit (magnitudes)"
            )
            raise DownloadError(msg)
    if not pages:
        msg = (
            f"{service} has no star with synthetic photometry in the cone and the "
            "range of magnitudes: check the position, or widen radius and magnitudes"
        )
        raise KS4Error(msg)
    return vstack(pages, metadata_conflicts="silent") if len(pages) > 1 else pages[0]


def _query(conditions: str, last: int | None) -> str:
    columns = [f"g.{name}" for name in _SOURCE_COLUMNS]
    columns += [f"p.{name}" for name in _PHOTOMETRY_COLUMNS]
    after = "" if last is None else f" AND g.source_id > {last}"
    return (
        f"SELECT TOP {_PAGE} {', '.join(columns)} {conditions}{after} "
        "ORDER BY g.source_id"
    )


def _with_expected_columns(page: Table, service: str) -> Table:
    """Return the columns of the query, under the names of the archive."""
    by_name = {name.lower(): name for name in page.colnames}
    expected = (*_SOURCE_COLUMNS, *_PHOTOMETRY_COLUMNS)
    missing = [name for name in expected if name not in by_name]
    if missing:
        msg = (
            f"{service}: expected the columns of the query, found {len(page.colnames)} "
            f"columns ({', '.join(page.colnames[:8])}...) without "
            f"{', '.join(missing[:8])}{'...' if len(missing) > 8 else ''}; use a "
            "service with gaia_source and synthetic_photometry_gspc of Gaia DR3"
        )
        raise DownloadError(msg)
    page = page[[by_name[name] for name in expected]]
    page.rename_columns(page.colnames, expected)
    page.meta.clear()
    return page


def _is_next(page: Table, last: int | None, continues: bool) -> bool:
    """Return whether a page follows the last one, and another one can follow it."""
    if not len(page):
        return True
    numbers = np.asarray(page["source_id"], dtype=np.int64)
    if last is not None and numbers[0] <= last:
        return False
    return not continues or bool((np.diff(numbers) > 0).all())


def _truncated(service: str, number: int) -> str:
    return (
        f"{service} truncates its answer after {number} stars, at its limit of rows, "
        "and does not return the others: give a smaller radius or a brighter limit "
        "(magnitudes), or use another service"
    )
