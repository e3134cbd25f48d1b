# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Quoted uncertainties: coverage, few stars, empty cells and smoothed maps."""

import numpy as np
import pytest
from astropy.stats import sigma_clip
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from ks4_ccd import (
    KS4Error,
    MapFormatError,
    MapGrid,
    MapLibrary,
    MisalignmentMap,
    OffsetMap,
    ZeroPointMap,
    build_maps,
)
from ks4_ccd.mapmaking._stars import MatchedStars
from ks4_ccd.mapmaking.cells import clipped_statistics
from ks4_ccd.maps import _cell_errors as cell_errors
from ks4_ccd.maps._clipped_samples import clipped_sample

SIGMA = 0.02
TRUE = 30.0


def clipped(count, rng, *, sigma=SIGMA, gradient=0.0, cell_size=10):
    """Return the map that DR1 would have for ``count`` normal stars per cell."""
    count = np.asarray(count)
    cell = np.repeat(np.arange(count.size), count.ravel())
    sigma = np.broadcast_to(sigma, count.shape).ravel()[cell]
    # Stars lie at random positions in their cells.
    i, j = np.divmod(cell, count.shape[1]) + rng.uniform(-0.5, 0.5, (2, cell.size))
    stars = TRUE + gradient * (i + j) + sigma * rng.normal(size=cell.size)
    found = clipped_statistics(cell, stars, count.size)
    parts = found.median, np.nan_to_num(found.scatter), found.count
    grid = MapGrid(count.shape, cell_size)
    return ZeroPointMap(*(part.reshape(count.shape) for part in parts), grid=grid)


def truth_of(zpmap, gradient=0.0):
    """Return the true value of each cell of a map of `clipped`."""
    i, j = np.indices(zpmap.grid.shape)
    return TRUE + gradient * (i + j)


# Clipped samples


def test_simulated_maps_are_clipped_like_those_of_dr1():
    """The maps of these tests agree with astropy's sigma_clip in each cell."""
    zpmap = clipped(np.full((3, 2), 7), np.random.default_rng(1))
    stars = np.random.default_rng(1)
    stars.uniform(size=(2, 42))
    for k, cell in enumerate(TRUE + SIGMA * stars.normal(size=(6, 7))):
        kept = sigma_clip(cell, sigma=2, maxiters=None, masked=False)
        found = (array.flat[k] for array in (zpmap.values, zpmap.error, zpmap.count))
        assert_allclose(list(found), [np.median(kept), np.std(kept), kept.size])


@pytest.mark.parametrize("stars", [2, 3, 4, 5, 8, 20, 60, 150])
def test_the_table_of_clipped_samples(stars):
    """Monte Carlo: error of the median and remaining scatter are as tabulated."""
    cells = 400_000 // stars
    zpmap = clipped(np.full((cells, 1), stars), np.random.default_rng(2))
    left = zpmap.count.ravel()
    sample = clipped_sample(left)
    expected = np.sqrt(np.mean(sample.efficiency**2 / left))
    assert np.std(zpmap.values) / SIGMA == pytest.approx(expected, rel=0.04)
    scatter = np.sqrt(np.mean(zpmap.error**2)) / SIGMA
    assert scatter == pytest.approx(np.sqrt(np.mean(sample.bias**2)), rel=0.05)


@pytest.mark.parametrize("left", [2, 3, 5, 10])
def test_cells_with_many_stars_were_not_clipped(left):
    """A cell with more stars than most cells has probably lost none to clipping."""
    cells = 200_000 // left
    zpmap = clipped(np.full((cells, 1), left), np.random.default_rng(3))
    whole = zpmap.count.ravel() == left
    sample = clipped_sample(np.append(np.ones(100_000), left))
    error = np.std(zpmap.values.ravel()[whole]) * np.sqrt(left) / SIGMA
    assert sample.efficiency[-1] == pytest.approx(error, rel=0.02)
    scatter = np.sqrt(np.mean(zpmap.error.ravel()[whole] ** 2)) / SIGMA
    assert sample.bias[-1] == pytest.approx(scatter, rel=0.02)
    assert sample.freedom[-1] == pytest.approx(left - 1, rel=0.02)


# Coverage


def coverage(counts_of, *, seed, repeat=6, gradient=0.0, sigma=SIGMA, star_sigma=None):
    """Return how often truth and new stars are within one quoted uncertainty."""
    rng = np.random.default_rng(seed)
    inside, stars = [], []
    for _ in range(repeat):
        zpmap = clipped(counts_of(rng), rng, sigma=sigma, gradient=gradient)
        true, valid = truth_of(zpmap, gradient), zpmap.valid
        off = np.abs(zpmap.values - true)
        inside.append((off <= zpmap.cell_error("median"))[valid])
        place = rng.uniform(-0.5, 0.5, (2, *valid.shape)).sum(axis=0)
        new = true + gradient * place + sigma * rng.normal(size=valid.shape)
        off = np.abs(new - zpmap.values)
        stars.append((off <= zpmap.cell_error("scatter"))[valid])
    return np.concatenate(inside), np.concatenate(stars)


@pytest.mark.parametrize("gradient", [0, 0.05])
@pytest.mark.parametrize("stars", [1, 2, 3, 4, 5, 6, 8, 12, 25, 60])
def test_coverage_of_equal_cells(stars, gradient):
    """One quoted uncertainty covers 68 %, with or without a gradient over the field."""
    found = coverage(lambda _: np.full((25, 20), stars), seed=stars, gradient=gradient)
    for inside in found:
        assert 0.62 < inside.mean() < 0.74


@pytest.mark.parametrize("mean", [0.7, 1.7, 5, 25])
def test_coverage_of_a_field_of_stars(mean):
    """Cells have Poisson-distributed numbers of stars, and some are empty."""
    found = coverage(lambda rng: rng.poisson(mean, (25, 20)), seed=7)
    for inside in found:
        assert 0.62 < inside.mean() < 0.74


def test_coverage_where_the_scatter_is_larger():
    """The uncertainty of a cell of many stars follows its own scatter."""
    sigma = np.full((30, 20), SIGMA)
    sigma[:10] *= 3
    found = coverage(lambda _: np.full((30, 20), 60), seed=4, sigma=sigma)
    for inside in found:
        inside = inside.reshape(-1, 30, 20)
        assert 0.58 < inside[:, :10].mean() < 0.74
        assert 0.62 < inside[:, 10:].mean() < 0.74


@pytest.mark.parametrize("stars", [5, 12, 40])
def test_coverage_of_cells_that_were_not_clipped(stars):
    """The scatter of cells that lost no star is not corrected for clipping."""
    rng = np.random.default_rng(5)
    drawn = SIGMA * rng.normal(size=(stars, 60, 50))
    values, scatter = np.mean(drawn, axis=0), np.std(drawn, axis=0)
    count = np.full(values.shape, stars)
    zpmap = ZeroPointMap(TRUE + values, scatter, count, grid=MapGrid((60, 50), 10))
    assert 0.62 < np.mean(np.abs(values) <= zpmap.cell_error("median")) < 0.74
    new = np.abs(SIGMA * rng.normal(size=values.shape) - values)
    assert 0.58 < np.mean(new <= zpmap.cell_error()) < 0.74


@pytest.mark.parametrize("stars", [1, 3, 12])
def test_coverage_of_offsets(stars):
    """Both components of an offset map have the coverage of errors along one axis."""
    rng = np.random.default_rng(stars)
    dra, ddec = (clipped(np.full((30, 25), stars), rng) for _ in range(2))
    error = np.sqrt((dra.error**2 + ddec.error**2) / 2)
    offsets = OffsetMap(
        dra.values - TRUE, ddec.values - TRUE, error, dra.count, grid=dra.grid
    )
    quoted = offsets.cell_error("median")
    for component in (offsets.dra, offsets.ddec):
        assert 0.62 < np.mean(np.abs(component) <= quoted) < 0.74


# Quoted and unknown uncertainties


def test_the_published_scatter_stays(make_map):
    """``error`` is unchanged; `published` quotes it, with the median where unknown."""
    zpmap = make_map((6, 6))
    known = zpmap.count >= 2
    published = np.where(known, zpmap.error, np.median(zpmap.error[known]))
    assert_array_equal(zpmap.cell_error(published=True), published)
    stars = np.where(known, zpmap.count, np.pi / 2)
    median = np.sqrt(np.pi / 2) * published / np.sqrt(stars)
    assert_allclose(zpmap.cell_error("median", published=True), median, rtol=1e-14)


def test_scatter_includes_the_error_of_the_value():
    """The square of "scatter" is that of "median" plus the variance of stars."""
    rng = np.random.default_rng(6)
    count = np.repeat([1, 2, 4, 8, 16, 32], 40).reshape(6, 40)
    zpmap = clipped(count, rng)
    scatter, median = (zpmap.cell_error(kind) for kind in ("scatter", "median"))
    star = np.sqrt(scatter**2 - median**2)
    assert np.median(star) == pytest.approx(SIGMA, rel=0.1)
    typical = np.median(median, axis=1)
    assert (np.diff(typical) < 0).all()
    assert typical[0] == pytest.approx(np.median(star[0]), rel=1e-6)


def test_cells_of_one_star_have_the_errors_of_their_neighbours():
    """Cells of one star have the scatter that is estimated for all stars."""
    zpmap = clipped(np.ones((25, 20), int), np.random.default_rng(8))
    assert not zpmap.error.any()
    assert_allclose(zpmap.cell_error("median"), SIGMA, rtol=0.1)
    assert_allclose(zpmap.cell_error("scatter"), SIGMA * np.sqrt(2), rtol=0.1)


def test_a_scatter_of_zero_is_unknown_for_any_number_of_stars():
    """The scatter of a cell of six stars with an error of 0 is that of the others."""
    zpmap = clipped(np.full((25, 20), 6), np.random.default_rng(23))
    error = zpmap.error.copy()
    error[::3] = 0
    other = ZeroPointMap(zpmap.values, error, zpmap.count, grid=zpmap.grid)
    whole = zpmap.count == 6
    found, expected = (
        np.sqrt(np.mean(m.cell_error()[::3][whole[::3]] ** 2)) for m in (other, zpmap)
    )
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "count"), [((1, 1), 1), ((2, 2), 1), ((3, 1), 1), ((5, 5), 1)]
)
def test_the_error_of_few_cells_of_one_star_is_unknown(shape, count):
    """The uncertainty of such a map is refused, and not assumed to be 0."""
    rng = np.random.default_rng(9)
    counts = np.zeros(shape, int)
    counts.flat[:4] = count
    zpmap = clipped(counts, rng)
    for kind in ("scatter", "median"):
        with pytest.raises(MapFormatError, match="a cell of at least two stars"):
            zpmap.cell_error(kind)
    assert not zpmap.smoothed().error.any()


def test_equal_values_do_not_have_an_error_of_zero():
    """A map of equal values of one star each has no known uncertainty."""
    zpmap = ZeroPointMap(
        np.full((9, 9), 30.0),
        np.zeros((9, 9)),
        np.ones((9, 9)),
        grid=MapGrid((9, 9), 10),
    )
    with pytest.raises(MapFormatError, match="a cell of at least two stars"):
        zpmap.cell_error("median")


@pytest.mark.parametrize("stars", [5, 25])
def test_a_single_cell(stars):
    """Without neighbours, the scatter of the cell is corrected for its stars alone."""
    rng = np.random.default_rng(stars)
    inside = []
    for _ in range(400):
        zpmap = clipped(np.full((1, 1), stars), rng)
        error = zpmap.error_at(3, 3, error_kind="median")
        inside.append(abs(zpmap.values[0, 0] - TRUE) <= error)
    assert 0.6 < np.mean(inside) < 0.85


def test_missing_errors_are_named(make_map):
    """The message names the missing array and the alternative."""
    plain = make_map(empty=0)
    with pytest.raises(KS4Error, match='no error array.*zp_error="ignore"'):
        ZeroPointMap(plain.values, grid=plain.grid).error_at(1, 1)
    without_count = ZeroPointMap(plain.values, plain.error, grid=plain.grid)
    with pytest.raises(KS4Error, match="no count array"):
        without_count.error_at(1, 1, error_kind="median")
    with pytest.raises(KS4Error, match="scatter, median, got 'mean'"):
        plain.error_at(1, 1, error_kind="mean")
    no_scatter = ZeroPointMap(plain.values, plain.error * 0, grid=plain.grid)
    with pytest.raises(MapFormatError, match="a cell of at least two stars"):
        no_scatter.error_at(1, 1)


def test_without_counts_the_scatter_is_not_corrected(make_map):
    """The scatter is interpolated like a value, with the median where unknown."""
    plain = make_map((6, 6))
    zpmap = ZeroPointMap(
        np.where(plain.valid, plain.values, np.nan), plain.error, grid=plain.grid
    )
    known = plain.error > 0
    median = np.median(plain.error[known])
    expected = np.where(known, plain.error, median)
    assert_array_equal(zpmap.cell_error()[plain.valid], expected[plain.valid])
    flat = ZeroPointMap(
        np.full((5, 5), 29.9), np.full((5, 5), 0.02), grid=MapGrid((5, 5), 9)
    )
    x, y = np.indices((45, 45))
    assert_allclose(flat.error_at(x, y), 0.02, rtol=1e-13)


def test_errors_are_derived_once(make_map, monkeypatch):
    """A map caches its quoted errors; a changed copy has its own."""
    calls = []
    original = cell_errors.errors_of_cells
    monkeypatch.setattr(
        "ks4_ccd.maps.errors.errors_of_cells",
        lambda *arguments: calls.append(1) or original(*arguments),
    )
    zpmap = make_map((9, 9))
    for kind in ("scatter", "median"):
        zpmap.error_at(5, 5, error_kind=kind)
        zpmap.cell_error(kind)
    assert len(calls) == 1
    zpmap.filled().cell_error()
    assert len(calls) == 2


# Real stars

CLASSES = [(1, 1), (2, 2), (3, 3), (4, 6)]
APERTURES = ("FWHM", "APER3", "APER5", "APER10", "AUTO")


def assert_quoted(ratio):
    """Assert that pulls have an RMS of about 1 and few outliers."""
    spread = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    kept = ratio[np.abs(ratio - np.median(ratio)) <= 4 * spread]
    assert 0.75 < rms(kept) < 1.25
    assert 0.88 <= np.mean(np.abs(ratio) <= 2) <= 0.98


@pytest.mark.parametrize("aperture", APERTURES)
@pytest.mark.parametrize("band", ["R", "I"])
def test_cells_of_dr1_against_the_truth(ks4_data, band, aperture):
    """Cell values with few stars agree with the mean true zero point of the cell."""
    with MapLibrary(ks4_data / "archives") as library:
        zpmap = library.zeropoint("0000", band, aperture=aperture)
    with np.load(ks4_data / "truth" / f"truth_0000_{band}.npz") as file:
        true = file["zp"].reshape(55, 4, 55, 4).mean(axis=(1, 3))
    off = zpmap.values - true
    ratio = (off - np.median(off[zpmap.valid])) / zpmap.cell_error("median")
    for fewest, most in CLASSES:
        members = zpmap.valid & (zpmap.count >= fewest) & (zpmap.count <= most)
        assert_quoted(ratio[members])


@pytest.mark.parametrize("band", ["R", "I"])
def test_held_out_stars_against_cells_of_the_rest(ks4_data, band):
    """A tenth of the stars is compared with a map of the other nine tenths."""
    table = Table.read(ks4_data / "catalogs" / f"matched.0000.{band}.single.fits")
    stars = MatchedStars(table, band, "sextractor", None)
    used = stars.in_photometry(strict=True, mode="single")
    tenth = np.random.default_rng(0).permutation(len(table)) % 10
    ratios = {}
    for k in range(10):
        maps = build_maps(table[tenth != k], band=band, field="0000", recipe="dr1")[1:]
        for zpmap in maps:
            aperture = zpmap.key.aperture
            left = stars.reference - stars.sources.magnitudes(aperture)
            out = used & (tenth == k) & np.isfinite(left)
            i, j = zpmap.grid.cell_of(stars.x[out], stars.y[out])
            ratio = (left[out] - zpmap.values[i, j]) / zpmap.cell_error()[i, j]
            for fewest, most in CLASSES:
                members = (zpmap.count[i, j] >= fewest) & (zpmap.count[i, j] <= most)
                ratios.setdefault((aperture, fewest), []).append(ratio[members])
    assert len(ratios) == len(APERTURES) * len(CLASSES)
    for ratio in ratios.values():
        assert_quoted(np.concatenate(ratio))


# Between the centres of cells


def pulls(draw, shape, cell_size, *, seed, repeat=150, positions=600):
    """Return RMS error over RMS quoted error, "median", at positions and at cells."""
    rng = np.random.default_rng(seed)
    width, height = np.multiply(shape, cell_size)
    x, y = rng.uniform(-1, [[width - 1], [height - 1]], (2, positions))
    off, quoted, off_cell, quoted_cell = [], [], [], []
    for _ in range(repeat):
        zpmap = draw(rng)
        off.append(zpmap.at(x, y) - TRUE)
        quoted.append(zpmap.error_at(x, y, error_kind="median"))
        off_cell.append(zpmap.filled().values - TRUE)
        quoted_cell.append(zpmap.cell_error("median"))

    def ratio(one, other):
        return np.sqrt(np.mean(np.square(one), 0) / np.mean(np.square(other), 0))

    return x, y, ratio(off, quoted), ratio(off_cell, quoted_cell), zpmap


def touches_empty(zpmap, x, y):
    """Return which positions are interpolated from an empty cell, among others."""
    stencils = [zpmap.grid.stencil(axis, p) for axis, p in enumerate((x, y))]
    cells = [zpmap.valid[i, j] for i in stencils[0].index for j in stencils[1].index]
    return ~np.all(cells, axis=0)


def rms(array):
    """Return the root mean square."""
    return np.sqrt(np.mean(np.square(array)))


def test_errors_of_medians_propagate_through_the_interpolation(make_map):
    """Monte Carlo of independent cells: the pulls of at() have a width of 1."""
    zpmap = make_map((6, 5), 20, empty=0)
    sigma = zpmap.cell_error("median")
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 100, (2, 300))
    truth, error = zpmap.at(x, y), zpmap.error_at(x, y, error_kind="median")
    found = []
    for _ in range(2000):
        drawn = ZeroPointMap(
            zpmap.values + sigma * rng.normal(size=(6, 5)), grid=zpmap.grid
        )
        found.append((drawn.at(x, y) - truth) / error)
    assert np.std(found) == pytest.approx(1, abs=0.02)
    assert_allclose(np.std(found, axis=0), 1, atol=0.1)


def test_new_stars_between_the_cells():
    """Monte Carlo: the scatter is constant, the error of the value decreases."""
    count = np.full((12, 10), 2)
    rng = np.random.default_rng(10)
    x, y = rng.uniform(9, 80, (2, 500))
    found = []
    for _ in range(60):
        zpmap = clipped(count, rng)
        new = TRUE + SIGMA * rng.normal(size=x.size)
        found.append((new - zpmap.at(x, y)) / zpmap.error_at(x, y))
    assert rms(found) == pytest.approx(1, abs=0.05)


def test_beside_empty_cells():
    """Errors agree in cells with stars, and are not too small beside empty cells."""
    count = np.random.default_rng(11).poisson(1.7, (14, 12))
    x, y, pull, at_cells, zpmap = pulls(
        lambda rng: clipped(count, rng), (14, 12), 10, seed=11
    )
    beside = touches_empty(zpmap, x, y)
    assert 0.15 < beside.mean() < 0.85
    assert 0.9 < rms(pull[~beside]) < 1.1
    assert 0.6 < rms(pull[beside]) < 1.0
    assert np.quantile(pull[beside], 0.95) < 1.15
    assert 0.9 < rms(at_cells[zpmap.valid]) < 1.1
    assert at_cells[~zpmap.valid].max() < 1


@pytest.mark.parametrize("smooth", [None, 0.8])
@pytest.mark.parametrize(
    ("kind", "with_count"), [("scatter", True), ("median", True), ("scatter", False)]
)
def test_filled_cells_have_no_smaller_errors_than_neighbours(
    make_map, kind, smooth, with_count
):
    """The error of a filled cell is the largest around it, in holes of any size."""
    zpmap = make_map((20, 18), empty=0.5)
    if not with_count:
        values = np.where(zpmap.valid, zpmap.values, np.nan)
        zpmap = ZeroPointMap(values, zpmap.error, grid=zpmap.grid)
    if smooth:
        zpmap = zpmap.smoothed(smooth)
    error = zpmap.cell_error(kind)
    padded = np.pad(np.where(zpmap.valid, error, 0), 1)
    around = np.max(
        [padded[i : i + 20, j : j + 18] for i in range(3) for j in range(3)], axis=0
    )
    assert (error >= around * (1 - 1e-12))[~zpmap.valid].all()
    assert np.isfinite(error).all()
    assert_array_equal(zpmap.filled().cell_error(kind), error)


def test_the_only_cell_with_stars():
    """All other cells have its value and its error, also between the centres."""
    count = np.zeros((5, 4), int)
    count[2, 1] = 6
    zpmap = clipped(count, np.random.default_rng(12))
    x, y = np.random.default_rng(13).uniform(0, 38, (2, 200))
    expected = zpmap.cell_error("median")[2, 1]
    assert_allclose(zpmap.error_at(x, y, error_kind="median"), expected, rtol=1e-12)


def test_a_hole_in_a_field_that_is_not_flat():
    """Intrinsic differences between neighbours increase the errors of filled cells."""
    rng = np.random.default_rng(14)
    structure = 0.1 * rng.normal(size=(20, 20))
    count = np.full((20, 20), 25)
    count[8:11, 8:11] = 0
    plain = clipped(count, rng)
    zpmap = ZeroPointMap(
        plain.values + structure, plain.error, plain.count, grid=plain.grid
    )
    error = zpmap.cell_error("median")
    off = (zpmap.filled().values - TRUE - structure)[8:11, 8:11]
    assert 0.3 < rms(off / error[8:11, 8:11]) < 1.5
    assert error[9, 9] > error[8, 9] > error[7, 9]


# Smoothed maps


@pytest.mark.parametrize("scale", [0.5, 0.8, 2.0])
@pytest.mark.parametrize("mean", [1.2, 4])
def test_the_errors_of_smoothed_maps(scale, mean):
    """Monte Carlo, few stars per cell: pulls are 0.9 to 1.1, at centres and between."""
    count = np.random.default_rng(15).poisson(mean, (14, 12))
    x, y, pull, at_cells, zpmap = pulls(
        lambda rng: clipped(count, rng).smoothed(scale), (14, 12), 10, seed=16
    )
    beside = touches_empty(zpmap, x, y)
    assert 0.9 < rms(pull[~beside]) < 1.1
    assert 0.9 < rms(at_cells[zpmap.valid]) < 1.1
    # At the corners of cells, between four centres.
    in_middle = np.all(np.abs(np.remainder([x - 9, y - 9], 10) - 5) > 3, axis=0)
    corners = ~beside & in_middle
    assert corners.sum() > 10
    assert 0.88 < rms(pull[corners]) < 1.12
    if beside.any():
        assert 0.6 < rms(pull[beside]) < 1.0


@pytest.mark.parametrize("scale", [None, 0.8, 1.7])
def test_errors_are_those_of_a_linear_function_of_the_cells(scale):
    """The oracle determines the weight of each cell in the value at a position."""
    rng = np.random.default_rng(22)
    plain = clipped(rng.integers(1, 6, (7, 6)), rng)
    x, y = rng.uniform(-5, 75, (2, 100))

    def at(map_):
        return (map_ if scale is None else map_.smoothed(scale)).at(x, y)

    part = []
    for cell in np.ndindex(7, 6):
        values = np.zeros((7, 6))
        values[cell] = 1
        part.append(at(ZeroPointMap(values, count=plain.count, grid=plain.grid)))
    error = plain.cell_error("median").ravel()
    expected = np.sqrt(np.square(part).T @ error**2)
    zpmap = plain if scale is None else plain.smoothed(scale)
    found = zpmap.error_at(x, y, error_kind="median")
    assert_allclose(found, expected, rtol=1e-5 if scale else 1e-12)


def test_smoothed_scatter_is_that_of_stars():
    """Cells of unknown scatter are excluded from the average."""
    rng = np.random.default_rng(17)
    count = np.where(rng.random((25, 20)) < 0.7, 1, 6)
    zpmap = clipped(count, rng)
    assert (zpmap.error == 0).mean() > 0.5
    smoothed = zpmap.smoothed()
    assert_allclose(smoothed.error, SIGMA, rtol=0.35)
    assert np.median(smoothed.error) == pytest.approx(SIGMA, rel=0.1)
    new = TRUE + SIGMA * rng.normal(size=count.shape)
    inside = np.abs(new - smoothed.values) <= smoothed.cell_error()
    assert 0.62 < inside.mean() < 0.74


def test_a_smoothed_map_keeps_its_errors_in_files(tmp_path, make_key):
    """Scatter and count yield the error at cell centres, and no smaller one between."""
    plain = clipped(np.full((9, 8), 2), np.random.default_rng(18))
    zpmap = ZeroPointMap(
        plain.values, plain.error, plain.count, grid=plain.grid, key=make_key()
    ).smoothed()
    zpmap.save(tmp_path)
    with MapLibrary(tmp_path, image_shape=zpmap.grid.image_shape) as library:
        read = library.zeropoint("0403", "R")
    error = zpmap.cell_error("median")
    assert_allclose(read.cell_error("median"), error, rtol=1e-12)
    expected = np.sqrt(np.pi / 2) * zpmap.error / np.sqrt(zpmap.count)
    assert_allclose(error, expected, rtol=1e-12)
    x, y = np.random.default_rng(0).uniform(0, 78, (2, 300))
    kept, again = (m.error_at(x, y, error_kind="median") for m in (zpmap, read))
    assert (again >= kept * (1 - 1e-12)).all()


def test_smoothing_a_surface_keeps_its_errors():
    """Averaging cells that share their stars does not reduce their errors."""
    rng = np.random.default_rng(19)
    error, count = np.full((9, 8), 0.02), np.full((9, 8), 30.5)
    zpmap = ZeroPointMap(
        29.9 + 0.001 * rng.normal(size=(9, 8)), error, count, grid=MapGrid((9, 8), 10)
    )
    for smoothed in (zpmap.smoothed(), zpmap.smoothed().smoothed(2)):
        assert_allclose(smoothed.cell_error("median"), zpmap.cell_error("median"))
        assert_allclose(smoothed.cell_error(), 0.02)


# Maps whose cells share their stars


def test_errors_of_surfaces_add():
    """For non-integer numbers of stars, errors and not variances are interpolated."""
    rng = np.random.default_rng(20)
    error, count = rng.uniform(0.01, 0.02, (6, 5)), rng.uniform(20, 40, (6, 5))
    values = 30 + rng.normal(0, 0.01, (6, 5))
    zpmap = ZeroPointMap(values, error, count, grid=MapGrid((6, 5), 10))
    nodes = np.sqrt(np.pi / 2) * error / np.sqrt(count)
    assert_allclose(zpmap.cell_error("median"), nodes, rtol=1e-14)
    assert_array_equal(zpmap.cell_error(), error)
    x, y = rng.uniform(0, 50, (2, 200))
    for kind, array in (("median", nodes), ("scatter", error)):
        expected = ZeroPointMap(array, grid=zpmap.grid).at(x, y)
        found = zpmap.error_at(x, y, error_kind=kind)
        assert_allclose(found, expected, rtol=1e-12)
    # The position is half way between two equal cells.
    flat = ZeroPointMap(values, 0 * error + 0.02, 0 * count + 30.5, grid=zpmap.grid)
    half_way = flat.error_at([14, 19], 14, error_kind="median")
    assert_allclose(half_way, 0.02 * np.sqrt(np.pi / 2 / 30.5))


def test_windows_of_misalignments_share_their_stars():
    """Errors are corrected for one degree of freedom, and not for clipping."""
    rng = np.random.default_rng(21)
    error, count = rng.uniform(0.02, 0.04, (6, 5)), rng.integers(2, 30, (6, 5))
    values = rng.uniform(0.05, 0.1, (6, 5))
    misalignment = MisalignmentMap(values, error, count, grid=MapGrid((6, 5), 10))
    star = error * np.sqrt(count / (count - 1))
    assert_allclose(misalignment.cell_error(), star, rtol=1e-14)
    median = np.sqrt(np.pi / 2) * star / np.sqrt(count)
    assert_allclose(misalignment.cell_error("median"), median, rtol=1e-14)
    half_way = misalignment.error_at(9, 14, error_kind="median")
    assert half_way == pytest.approx(median[:2, 1].mean())
    assert_array_equal(misalignment.cell_error(published=True), error)
