# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good calibrated magnitudes and positions are, on stars not used for them."""

from numbers import Integral, Real

import numpy as np
from astropy.table import Column, Table, vstack
from tqdm import tqdm

from ks4_ccd._arguments import finite, one_of
from ks4_ccd._table_columns import plain_column
from ks4_ccd.build._inputs import RECIPES, refuse_calibrated, stars_and_grid
from ks4_ccd.build._placement import check_placement
from ks4_ccd.build._quoted import scatter_of, trend_of
from ks4_ccd.build._residuals import Residuals
from ks4_ccd.build._validation import Validation
from ks4_ccd.build.maps import build_offset_map, build_zeropoint_map
from ks4_ccd.exceptions import KS4Error, MapMismatchError
from ks4_ccd.maps import OffsetMap, ZeroPointMap

__all__ = ["cross_validate"]

_IN_UNIT = ("residual", "trend", "error")
_STACK = (22000, 22000)
_FARTHEST = 10.0  # mag
_KINDS = {"zeropoint": ZeroPointMap, "offset": OffsetMap}


def cross_validate(
    matched,
    image_shape=_STACK,
    *,
    band,
    aperture="APER5",
    kind="zeropoint",
    mode="single",
    recipe="default",
    calibration=None,
    shape=None,
    edges=None,
    folds=5,
    seed=0,
    columns="sextractor",
    apertures=None,
    mag_zeropoint=None,
    progress=False,
):
    """
    Measure how good calibrated magnitudes or positions are.

    The stars are divided into folds. Those of each fold are left out, a map is
    made from all others and applied to them.

    Parameters
    ----------
    matched : `~astropy.table.Table`
        Sources and the stars that they are, as `match_catalogs` returns them.
        It is not changed.
    image_shape : tuple of int, optional
        The shape ``(rows, columns)`` of the image.
    band : str
        The band of the image; ``{band}mag`` are the reference magnitudes.
    aperture : str, optional
        The aperture of the magnitudes; for positions it has no meaning.
    kind : {"zeropoint", "offset"}, optional
        What is validated: magnitudes, or positions.
    mode : {"single", "dual"}, optional
        Of the catalog.
    recipe : {"default", "dr1"}, optional
        How maps are made: see `build_zeropoint_map`. For positions there is
        only the default.
    calibration : float, `~ks4_ccd.ZeroPointMap` or `~ks4_ccd.OffsetMap`, optional
        What to validate instead of making maps. A map is applied to the
        magnitudes or positions. A number is a zero point that all magnitudes
        have in common: 0 for a calibrated catalog, 30 for a catalog of
        instrumental magnitudes of a calibrated image. For positions it is 0:
        they are taken as they are.
    shape, edges : optional
        Of the maps that are made: see `build_zeropoint_map` and
        `build_offset_map`.
    folds : int, optional
        The number of folds.
    seed : int, optional
        Of the random numbers that divide the stars.
    columns : {"sextractor", "photutils"}, `~ks4_ccd.sources.SourceColumns` or \
dict, optional
        Which columns of the source catalog hold what.
    apertures : sequence of str, optional
        The names of the apertures in its vector column.
    mag_zeropoint : float, optional
        The zero point that the magnitudes contain: see `build_zeropoint_map`.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    validation : `~ks4_ccd.build._validation.Validation`
        Print it. ``table`` has its numbers, ``stars`` each star's, ``plot()``
        draws it and ``write(folder)`` writes all of these.

    Raises
    ------
    KS4Error
        If there are not as many stars as folds or fewer than two folds, if
        columns are missing, no star has a residual, the stars are too few for
        a map, or an argument is not allowed.
    MapMismatchError
        If ``calibration`` is a map of another band or aperture, all stars are
        off the image, or the calibrated magnitudes are more than 10 mag from
        those of the reference.
    GeometryError
        As in `build_zeropoint_map`.

    Notes
    -----
    A residual is calibrated minus reference. Sources that are the same
    reference star are in the same fold.

    A pull is a residual over its quoted error, which of a star left out is
    ``hypot(own, map)``: ``map`` is the standard error of the map at the star
    (``error_at(x, y, error_kind="median")``), ``own`` the scatter (1.4826
    times the median absolute deviation) of stars of like measured error about
    the map that they made, where the measured error is the hypotenuse of the
    errors of the magnitude and of the reference (for positions, that of the
    magnitude in AUTO). The star itself has no part in it.
    How residuals depend on magnitude, the median of those stars, is taken out
    of pulls, but not of residuals: a map is that of a typical star.

    With ``calibration``, stars may be those that it was made from. ``own`` is
    then the measured error as it is, ``map`` 0 for a number or a map without
    errors or counts, and the trend that of the stars themselves. Positions
    have no measured error, hence no pulls.

    Examples
    --------
    >>> from ks4_ccd import cross_validate, simulate_field
    >>> field = simulate_field((400, 400), map_shape=(8, 8), seed=1)
    >>> validation = cross_validate(
    ...     field.matched, (400, 400), band="R", shape=(8, 8), folds=2
    ... )
    >>> print(*validation.table.colnames)
    stars number rms median scatter pull_width pull_mad pull_width_with_trend
    """
    one_of("kind", kind, tuple(_KINDS))
    one_of("mode", mode, ("single", "dual"))
    one_of("recipe", recipe, RECIPES)
    if kind == "offset" and recipe == "dr1":
        msg = 'recipe="dr1" is not for kind="offset": the release has no such maps'
        raise KS4Error(msg)
    _check_calibration(calibration, kind, shape, edges)
    _check_key(getattr(calibration, "key", None), kind, band, aperture)
    if hasattr(calibration, "grid"):
        image_shape = calibration.grid.image_shape
    source = {"columns": columns, "apertures": apertures}
    source["mag_zeropoint"] = mag_zeropoint
    stars, _ = stars_and_grid(
        matched, image_shape, band, *source.values(), shape, recipe, edges, (55, 55)
    )
    if kind == "zeropoint" and not isinstance(calibration, Real):
        refuse_calibrated(stars.sources)
    if getattr(calibration, "key", None) is not None:
        check_placement(stars, calibration.grid, calibration.key.field)
    residuals = Residuals(stars, kind, aperture, mode)
    if not residuals.known.any():
        what = "positions" if kind == "offset" else f"magnitudes in {aperture}"
        msg = f"none of {len(matched)} stars has a place, {what} and {band}mag"
        raise KS4Error(msg)
    meta = {"kind": kind, "band": band, "mode": mode}
    if kind == "zeropoint":
        meta["aperture"] = aperture
        if contained := stars.sources.mag_zeropoint:
            meta["mag_zeropoint"] = contained
    if calibration is None:
        options = {"band": band, "mode": mode, "shape": shape, "edges": edges}
        options |= source
        if kind == "zeropoint":
            options |= {"aperture": aperture, "recipe": recipe}
        build = build_zeropoint_map if kind == "zeropoint" else build_offset_map
        fold = _folds(matched, folds, seed)
        found = np.full((3, *np.shape(residuals.left_by(0.0))), np.nan)
        for number in tqdm(np.unique(fold), unit="fold", disable=not progress):
            left_out = fold == number
            map_ = build(matched[~left_out], image_shape, **options)
            told = _told(residuals, map_, ~left_out)
            found[..., left_out] = told[..., left_out]
        meta |= {"recipe": recipe, "folds": folds, "seed": seed}
        meta["edges"] = 0 if edges is None else sum(len(axis) for axis in edges)
    else:
        fold = np.full(len(matched), -1)
        found = _found(residuals, calibration)
        if kind == "zeropoint":
            _check_offset(found[0], calibration, stars.sources)
        is_map = hasattr(calibration, "at")
        meta["calibration"] = "map" if is_map else float(calibration)
    return Validation(_table(residuals, found, fold, meta), tuple(image_shape))


def _check_calibration(calibration, kind, shape, edges):
    if calibration is None:
        return
    if shape is not None or edges is not None:
        msg = "shape and edges are of maps that are made, not of a calibration"
        raise KS4Error(msg)
    number = isinstance(calibration, Real) and not isinstance(calibration, bool)
    if not number and not isinstance(calibration, _KINDS[kind]):
        msg = (
            f'calibration must be a number, or for kind="{kind}" a map of the class '
            f"{_KINDS[kind].__name__}, got {calibration!r}"
        )
        raise KS4Error(msg)
    if number and finite("calibration", calibration) and kind == "offset":
        msg = f'calibration must be 0 or a map for kind="offset", got {calibration!r}'
        raise KS4Error(msg)


def _check_key(key, kind, band, aperture):
    if key is None:
        return
    same = key.band == band and (kind == "offset" or key.aperture == aperture)
    if not same:
        msg = f"the map is the {key}, and not of {band} {aperture}"
        raise MapMismatchError(msg)


def _check_offset(left, calibration, sources):
    """Refuse residuals that are no errors of a calibration, but another scale."""
    median = float(np.nanmedian(left))
    if abs(median) <= _FARTHEST:
        return
    shown = "the map" if hasattr(calibration, "at") else f"zero point {calibration:g}"
    msg = (
        f"expected magnitudes within {_FARTHEST:g} mag of the reference with {shown} "
        f"and mag_zeropoint={sources.mag_zeropoint:g}, found a median difference of "
        f"{median:.2f} mag; give the zero point that the magnitudes contain "
        "(mag_zeropoint=, --mag-zeropoint), or the one that they need (calibration=, "
        "--zeropoint)"
    )
    raise MapMismatchError(msg)


def _folds(matched, folds, seed):
    """Return the fold of each row; those of one reference star have the same."""
    if not isinstance(folds, Integral) or isinstance(folds, bool) or folds < 2:
        msg = f"folds must be a whole number from 2 on, got {folds!r}"
        raise KS4Error(msg)
    star = np.arange(len(matched))
    if {"RAJ2000", "DEJ2000"} <= set(matched.colnames):
        places = [plain_column(matched, name) for name in ("RAJ2000", "DEJ2000")]
        _, star = np.unique(places, axis=1, return_inverse=True)
        star = star.ravel()
    number = star.max() + 1
    if folds > number:
        msg = f"folds must not be more than the {number} stars, got {folds}"
        raise KS4Error(msg)
    return (np.random.default_rng(seed).permutation(number) % folds)[star]


def _told(residuals, map_, others):
    """Return residuals, trends and errors, from a map and the stars behind it."""
    errors, magnitude = residuals.errors, residuals.stars.reference
    others = others & residuals.makers & residuals.known
    own, trends = [], []
    left = residuals.left_by(map_)
    for values in left:
        trend = np.zeros(values.size)
        if residuals.has_trend:
            trend = trend_of(magnitude[others], values[others])(magnitude)
        scatter = scatter_of(errors[others], (values - trend)[others])
        own.append(scatter(errors))
        trends.append(trend)
    return np.array([left, trends, np.hypot(own, residuals.error_of(map_))])


def _found(residuals, calibration):
    """Return residuals, trends and errors of stars under a given calibration."""
    left, known = residuals.left_by(calibration), residuals.known
    trends, errors = np.zeros_like(left), np.full_like(left, np.nan)
    if residuals.has_trend:
        magnitude = residuals.stars.reference
        known = known & residuals.published if residuals.published.any() else known
        trends[0] = trend_of(magnitude[known], left[0][known])(magnitude)
        quoted = np.hypot(residuals.errors, residuals.error_of(calibration))
        errors[0] = np.where(quoted > 0, quoted, np.nan)
    return np.array([left, trends, errors])


def _table(residuals, found, fold, meta):
    """Return the table of the stars, those of one axis after those of another."""
    stars, rows = residuals.stars, np.flatnonzero(residuals.known)
    columns = {"row": (rows, None, "in the table of matched stars")}
    columns["x"] = stars.x[rows], "pix", "0-based"
    columns["y"] = stars.y[rows], "pix", "0-based"
    if stars.sources.has("ra") and stars.sources.has("dec"):
        ra, dec = stars.sources.sky()
        columns["ra"], columns["dec"] = (ra[rows], "deg", ""), (dec[rows], "deg", "")
    columns["magnitude"] = stars.reference[rows], "mag", "of the reference"
    columns["fold"] = fold[rows], None, "-1: not left out of anything"
    columns["published"] = residuals.published[rows], None, "in the published selection"
    parts = []
    for axis, left, trend, error in zip(residuals.axes, *found[..., rows], strict=True):
        part = Table()
        for name, (values, unit, description) in columns.items():
            part[name] = Column(values, unit=unit, description=description)
        part["axis"] = [axis] * len(rows)
        for name, values in zip(_IN_UNIT, (left, trend, error), strict=True):
            part[name] = Column(values, unit=residuals.unit)
        part["pull"] = (left - trend) / error
        parts.append(part)
    table = vstack(parts)
    table.meta = meta | {"matched": len(stars.sources)}
    return table
