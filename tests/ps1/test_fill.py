"""Filling from other projections: who supplies a pixel, with what, and what stays as it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import lensflow as lf
from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.ps1 import fill as fill_module
from lensflow.ps1.blur import convolve
from lensflow.ps1.cells import BandFiles, CellFiles, Rect
from lensflow.ps1.combine import Combination, Recipe
from lensflow.ps1.fill import fill
from lensflow.ps1.layout import Layout
from lensflow.ps1.mosaic import Pixels, projection_image, stitched_pieces
from lensflow.ps1.observe import Telescope, ZarrWriter, write_cells
from lensflow.ps1.options import Options, inputs
from lensflow.ps1.ownership import Coverage, uncovered
from lensflow.ps1.simulate import simulate
from lensflow.ps1.skymodel import Scene
from lensflow.ps1.suppliers import extents, homographies, tiles
from lensflow.ps1.tessellation import FIRST, LAST, Geometry, Skycell, grid_to_sky, sky_to_grid
from lensflow.ps1.truth import Sky, grid_of

SCALE = 40
GRAPH = lf.graph("ps1_convolution")
WORDS: dict[str, Any] = {"scale": SCALE, "bands": ("r",), "weights": (1.0,)}
EVERY = tuple((y, x) for y in range(10) for x in range(10))
CORNERS = ((0, 0), (0, 9), (9, 0), (9, 9))
PLACES = [1322, 2180, 2157, 2289, 2556, 2619, 2643]  # dec 2, 42, 42 at RA 0, 50, 70, 82, the pole


def near(number: int, geometry: Geometry) -> list[int]:
    """Other projections within reach, by the distance of their centres."""
    here = geometry.projection(number)

    def vector(n: int) -> NDArray[np.float64]:
        a, d = np.deg2rad([geometry.projection(n).ra, geometry.projection(n).dec])
        return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])

    others = (n for n in range(FIRST, LAST + 1) if n != here.number)
    return [n for n in others if vector(n) @ vector(number) > np.cos(np.deg2rad(6.5))]


def layout(number: int, present: tuple[tuple[int, int], ...], geometry: Geometry, **words: Any) -> Layout:
    """Lay out cells that have no files."""
    grid = geometry.projection(number)
    rect = Rect(0, 0, grid.height, grid.width)
    cells = tuple(CellFiles(Skycell(number, y, x), (BandFiles("r", "r.fits", None, None, rect),)) for y, x in present)
    recipe = Recipe(("r",), (1.0,))
    chosen = tuple(one.cell for one in cells)
    edge, split, pad = geometry.edge, geometry.split, geometry.radius
    return Layout(grid, cells, chosen, recipe, (grid.ra, grid.dec), edge, split, pad, reach=geometry.overlap, **words)


def owned(one: Layout, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.zeros(np.broadcast(y, x).shape, bool)
    for r in one.usable.values():
        found |= (y >= r.y0) & (y < r.y1) & (x >= r.x0) & (x < r.x1)
    return found


def brute(one: Layout) -> dict[str, NDArray[Any]]:
    """Ask pixel by pixel on the sphere: y, x to be filled, place of the supplier (-1 none), and where in it."""
    area = one.box.grown(one.pad)
    y, x = (axis.ravel() for axis in np.mgrid[area.y0 : area.y1, area.x0 : area.x1])
    within = np.zeros(y.shape, bool)
    for r in one.selected_rects():
        within |= (y >= r.y0 - one.reach) & (y < r.y1 + one.reach) & (x >= r.x0 - one.reach) & (x < r.x1 + one.reach)
    todo = within & ~owned(one, y, x)
    y, x = y[todo], x[todo]
    ra, dec = grid_to_sky(one.projection, x, y)
    supplier, nearest = np.full(y.shape, -1), np.full(y.shape, np.inf)
    u, v = np.full((2, *y.shape), np.nan)
    for place, other in enumerate(one.sources):
        gx, gy = sky_to_grid(other.projection, ra, dec)
        a, b = np.deg2rad(dec), np.deg2rad(other.projection.dec)
        # the haversine keeps its digits at small angles
        half = np.sin((a - b) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(np.deg2rad(ra - other.projection.ra) / 2) ** 2
        left, below = np.floor(np.nan_to_num(gx, nan=-9e9)), np.floor(np.nan_to_num(gy, nan=-9e9))
        can = np.all([owned(other, below + i, left + j) for i in (0, 1) for j in (0, 1)], axis=0)
        better = can & (half < nearest)
        supplier[better], nearest[better], u[better], v[better] = place, half[better], gx[better], gy[better]
    return {"y": y, "x": x, "supplier": supplier, "u": u, "v": v}


def ramps(axis: int, asked: list[Rect]) -> Callable[[Layout, Rect], Pixels]:
    """Make sources whose flux is X or Y of their grid, and whose mask is their number."""

    def read(source: Layout, area: Rect) -> Pixels:
        asked.append(area)
        y, x = np.mgrid[area.y0 : area.y1, area.x0 : area.x1].astype(np.float32)
        flux = np.where(owned(source, y, x), (y, x)[axis], np.nan).astype(np.float32)
        return Pixels(flux, np.full(area.shape, source.projection.number, np.uint16), flux**2)

    return read


def blank(area: Rect) -> Pixels:
    flux = np.full(area.shape, np.nan, np.float32)
    return Pixels(flux, np.zeros(area.shape, np.uint16), flux.copy())


def check_against_brute(one: Layout) -> NDArray[np.int64]:
    """Compare with asking pixel by pixel; return what there is no supplier for."""
    area = one.box.grown(one.pad)
    expected = brute(one)
    at = expected["y"] - area.y0, expected["x"] - area.x0
    there = expected["supplier"] >= 0
    numbers = np.array([s.projection.number for s in one.sources] + [0])
    for axis, name in ((0, "v"), (1, "u")):
        pixels = blank(area)
        filled = fill(one, area, pixels, read=ramps(axis, []))
        supplied = np.zeros(area.shape, bool)
        for rect, which in filled:
            here = supplied[rect.moved(-area.y0, -area.x0).slices]
            assert not (here & which).any(), "filled twice"
            here |= which
        assert supplied.sum() == there.sum()
        np.testing.assert_array_equal(supplied[at], there)
        np.testing.assert_array_equal(pixels.mask[at], numbers[expected["supplier"]])
        ratio = _ratio(one, expected)
        np.testing.assert_allclose(pixels.flux[at][there] / ratio[there], expected[name][there], atol=1e-3)
        variance = pixels.variance
        assert variance is not None
        np.testing.assert_array_equal(np.isfinite(variance), supplied)
        assert not np.isfinite(pixels.flux[~supplied]).any()
    return np.flatnonzero(~there)


def _ratio(one: Layout, expected: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """cos^3 of the distance to the tangent point, here to there, by the pixel coordinates."""
    s = np.deg2rad(one.projection.geometry.pixel_scale)

    def secant(grid: Any, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.sqrt(1 + (s * (x - grid.crpix[0] + 1)) ** 2 + (s * (y - grid.crpix[1] + 1)) ** 2))

    ratio = np.full(expected["x"].shape, np.nan)
    for place, other in enumerate(one.sources):
        mine = expected["supplier"] == place
        here = secant(one.projection, expected["x"][mine], expected["y"][mine])
        ratio[mine] = (secant(other.projection, expected["u"][mine], expected["v"][mine]) / here) ** 3
    return ratio


@pytest.mark.parametrize("number", PLACES)
def test_c5_c6_c7_the_nearest_projection_that_owns_all_four_pixels_supplies_every_pixel(number: int) -> None:
    geometry = Geometry(80)
    sources = tuple(layout(n, EVERY, geometry) for n in near(number, geometry))
    uncovered_pixels = check_against_brute(layout(number, EVERY, geometry, sources=sources))
    if number != LAST:
        assert not len(uncovered_pixels)  # edges, corners and all
    else:
        assert len(uncovered_pixels) < 0.02 * 4 * 750 * 6  # gaps between the last ring and the cap


@given(st.sampled_from([2180, 2619, 2642]), st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_c8_ragged_presence_on_both_sides(number: int, seed: int) -> None:
    geometry, rng = Geometry(120), np.random.default_rng(seed)

    def some(least: int) -> tuple[tuple[int, int], ...]:
        chosen = rng.choice(100, rng.integers(least, 60), replace=False)
        return tuple(EVERY[k] for k in sorted(chosen.tolist()))

    sources = tuple(layout(n, some(0), geometry) for n in near(number, geometry))
    check_against_brute(layout(number, some(1), geometry, sources=tuple(s for s in sources if s.cells)))


@pytest.mark.parametrize("number", [487, 714, 1143, 1590, 2009, 2289, 2538, 2634, LAST])
def test_at_the_true_size_all_is_filled_but_the_southern_rim_and_some_pixels_at_the_pole(number: int) -> None:
    geometry = Geometry()
    sources = tuple(layout(n, EVERY, geometry) for n in near(number, geometry))
    one = layout(number, EVERY, geometry, sources=sources)
    area, maps = one.box.grown(one.pad), homographies(one)
    wanted = sum(int(np.prod(rect.shape)) for rect in one.unowned(area))
    found = 0
    for tile in tiles(one, area, maps):
        whole = int(np.prod(tile.rect.shape))
        found += whole if tile.whole else sum(int(s.supplied.sum()) for _, s in fill_module._supplies(one, tile, maps))
    missing = 1 - found / wanted
    expected = {FIRST: (0.24, 0.26), LAST: (0.004, 0.006)}.get(number, (0, 0))
    assert expected[0] <= missing <= expected[1]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_coverage_and_its_complement_are_those_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 30, (rng.integers(0, 6), 2))
    rects = [Rect(y, x, y + h, x + w) for (y, x), (h, w) in zip(starts.tolist(), rng.integers(0, 15, (9, 2)).tolist())]  # noqa: B905
    image = np.zeros((60, 60), bool)
    for rect in rects:
        image[rect.moved(5, 5).slices] = True
    coverage = Coverage(rects)
    y, x = rng.integers(-5, 54, (2, 50))
    four = np.all([image[y + 5 + i, x + 5 + j] for i in (0, 1) for j in (0, 1)], axis=0)
    np.testing.assert_array_equal(coverage.holds(y, x), four)
    box = np.sort(rng.integers(-5, 55, (20, 2, 2)), axis=1).reshape(20, 4)
    counts = [image[a + 5 : c + 5, b + 5 : d + 5].sum() for a, b, c, d in box]
    np.testing.assert_array_equal(coverage.count(box), counts)
    within = [Rect(3, 3, 40, 30), Rect(20, 20, 50, 50)]
    area = Rect(0, 5, 44, 45)
    left = np.zeros_like(image)
    for rect in uncovered(area, within, rects):
        here = left[rect.moved(5, 5).slices]
        assert here.size
        assert not here.any()
        here[...] = True
    expected = np.zeros_like(image)
    for rect in within:
        expected[rect.common(area).moved(5, 5).slices] = True
    np.testing.assert_array_equal(left, expected & ~image)


def test_no_more_than_a_window_of_a_source_is_asked_for_and_little_twice() -> None:
    geometry = Geometry()
    for number, block in ((2180, (0, 0)), (2619, (4, 0)), (2619, (10, 0))):
        sources = tuple(layout(n, EVERY, geometry) for n in near(number, geometry))
        one = layout(number, EVERY, geometry, sources=sources)
        area, asked = one.piece(block), []
        supplies: dict[int, list[Any]] = {}
        maps = homographies(one)
        for tile in tiles(one, area, maps):
            for place, supply in fill_module._supplies(one, tile, maps):
                supplies.setdefault(place, []).append(supply)
        for wanted in supplies.values():
            windows = list(fill_module._windows(wanted))
            assert sum(len(inside) for _, inside in windows) == len(wanted)
            for window, inside in windows:
                assert all(s.source.common(window) == s.source for s in inside)
                asked.append(window)
        pixels = [int(np.prod(window.shape)) for window in asked]
        assert max(pixels) <= fill_module.WINDOW
        filled = sum(int(s.supplied.sum()) for wanted in supplies.values() for s in wanted)
        assert sum(pixels) < 8 * filled


def test_extents_hold_what_is_read_of_the_cells_of_sources() -> None:
    geometry = Geometry(SCALE)
    sources = tuple(layout(n, EVERY, geometry) for n in near(2619, geometry))
    one = layout(2619, EVERY, geometry, sources=sources, columns_per_block=2)
    area = one.piece((9, 0))
    bounds = extents(one, area)
    whole, held = blank(area), blank(area)

    def read(source: Layout, window: Rect) -> Pixels:
        pixels = ramps(0, [])(source, window)
        place, inside = sources.index(source), np.zeros(window.shape, bool)
        for index, regions in source.owned(window).items():
            for region in regions:
                kept = region.common(bounds.get((place, index), Rect(0, 0, 0, 0)))
                if not kept.empty:
                    inside[kept.moved(-window.y0, -window.x0).slices] = True
        pixels.flux[~inside] = np.nan
        return pixels

    fill(one, area, whole, read=ramps(0, []))
    fill(one, area, held, read=read)
    assert np.isfinite(whole.flux).any()
    np.testing.assert_array_equal(held.flux, whole.flux)
    assert extents(one, one.piece((5, 2))) == {}


def test_a_block_with_nothing_to_fill_asks_for_nothing() -> None:
    geometry = Geometry(SCALE)
    sources = tuple(layout(n, EVERY, geometry) for n in near(2180, geometry))
    one = layout(2180, EVERY, geometry, sources=sources, columns_per_block=1)
    asked: list[Rect] = []
    area = one.piece((4, 4))
    pixels = blank(area)
    assert fill(one, area, pixels, read=ramps(0, asked)) == []
    assert not asked
    area = one.piece((0, 4))
    assert fill(one, area, blank(area), read=ramps(0, asked))
    assert asked


def test_the_graph_of_a_ccd_is_small() -> None:
    geometry = Geometry()
    sources = tuple(layout(n, EVERY, geometry) for n in near(2180, geometry))
    one = layout(2180, EVERY, geometry, sources=sources, columns_per_block=1)
    made = stitched_pieces(one, origin=True)
    blurred = convolve(made, one, sigma=60.0, radius=geometry.radius, nan="normalise", min_coverage=0.2)
    tasks = len(set(dict(blurred.__dask_graph__())) | set(dict(made.array.__dask_graph__())))
    assert 20 * tasks < 100_000  # whole projections, of 15-23
    assert len(cloudpickle.dumps(one)) < 500_000  # it travels with every block


# pixels of files


def serving(number: int, selected: tuple[tuple[int, int], ...], scale: int = SCALE) -> tuple[str, ...]:
    """The cells of other projections that own a pixel needed round some cells whose neighbours are all there."""
    geometry = Geometry(scale)
    sources = tuple(layout(n, EVERY, geometry) for n in near(number, geometry))
    whole = layout(number, EVERY, geometry, sources=sources)
    one = replace(whole, selected=tuple(Skycell(number, y, x) for y, x in selected))
    found = brute(one)
    names = set()
    for place, other in enumerate(sources):
        mine = found["supplier"] == place
        for i in (0, 1):
            for j in (0, 1):
                y, x = np.floor(found["v"][mine]) + i, np.floor(found["u"][mine]) + j
                for (cy, cx), regions in other.owned(Rect(0, 0, *other.projection.shape)).items():
                    if any(((y >= r.y0) & (y < r.y1) & (x >= r.x0) & (x < r.x1)).any() for r in regions):
                        names.add(str(Skycell(other.projection.number, cy, cx)))
    return tuple(sorted(names))


def around(selected: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """The cells and those next to them in their projection."""
    return [(y, x) for y, x in EVERY if any(max(abs(y - a), abs(x - b)) <= 1 for a, b in selected)]


def names(number: int, cells: Any) -> tuple[str, ...]:
    return tuple(str(Skycell(number, y, x)) for y, x in cells)


def image(source: Path, **words: Any) -> tuple[Layout, xr.Dataset]:
    plan = Options.from_keywords(**{**WORDS, **words}).plan(source)[1][0].layout
    return plan, projection_image(plan, origin=True).compute(scheduler="sync")


@pytest.fixture(scope="module", params=[2180, 2157])
def constant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """A sky of 2 counts/s in every pixel of the corners of a projection, and all that lies round them."""
    number = request.param
    cells = names(number, around(CORNERS)) + serving(number, CORNERS)
    words = {"mode": "constant", "value": 2.0, "format": "zarr", "quantise": False, "bands": ("r",), "weights": False}
    out = tmp_path_factory.mktemp("constant")
    return number, simulate(out, cells, scale=SCALE, **words).source  # type: ignore[arg-type]


def test_c5_c7_c15_coverage_is_1_to_the_corners_and_along_the_edges(constant: tuple[int, Path]) -> None:
    number, source = constant
    made = GRAPH(source, selection=names(number, CORNERS), origin=True, **WORDS)[f"{number:04d}"].to_dataset()
    found = made.compute(scheduler="sync")
    grid = Geometry(SCALE).projection(number)
    for cell in CORNERS:
        y, x = grid.cell_origin(*cell)
        part = found.isel(y=slice(y, y + grid.height), x=slice(x, x + grid.width))
        np.testing.assert_allclose(part.coverage, 1, atol=1e-6)
        np.testing.assert_allclose(part.flux, 2, rtol=2e-3)  # the solid angle of pixels differs
    assert {int(found.origin[k, m]) for k in (0, -1) for m in (0, -1)} == {3}
    assert int(found.origin[1, 1]) == 1
    assert found.attrs["fill_cells"] == sorted(serving(number, CORNERS))
    bare = GRAPH(source, selection=names(number, CORNERS), fill="none", **WORDS)[f"{number:04d}"].to_dataset()
    assert float(bare.coverage[0, 0].compute(scheduler="sync")) < 0.3  # the free corner


def test_c5_pixels_of_cells_are_unchanged_by_fill(constant: tuple[int, Path]) -> None:
    number, source = constant
    _, with_fill = image(source, selection=names(number, CORNERS))
    _, without = image(source, selection=names(number, CORNERS), fill="none")
    own = np.isin(without.origin, (1, 2))
    assert own.sum() > 4 * 160**2
    assert set(np.unique(without.origin)) == {0, 1, 2}
    np.testing.assert_array_equal(with_fill.origin.to_numpy()[own], without.origin.to_numpy()[own])
    for name in ("flux", "mask"):
        assert with_fill[name].to_numpy()[own].tobytes() == without[name].to_numpy()[own].tobytes()
    assert (with_fill.origin.to_numpy()[~own] == 3).sum() > 8 * 150 * 11


def test_building_reads_no_pixel_and_inputs_name_the_cells_that_serve(constant: tuple[int, Path]) -> None:
    number, source = constant
    found = inputs(source, selection=names(number, CORNERS), **WORDS)
    there = {path.parts[-3] for path in found}
    assert there == set(names(number, around(CORNERS)) + serving(number, CORNERS))
    assert all(path.is_file() for path in found)
    without = inputs(source, selection=names(number, CORNERS), fill="none", **WORDS)
    assert {path.parts[-3] for path in without} == set(names(number, around(CORNERS)))


@pytest.mark.parametrize("words", [{"fill": "next"}, {"pad": 400}, {"pad": 100, "radius": 200}])
def test_options_out_of_range_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=next(iter(words))):
        Options.from_keywords(**{**WORDS, **words})


def stars_in_the_halo(number: int, side: str, scale: int) -> tuple[tuple[tuple[int, int], ...], pd.DataFrame]:
    """Stars (on the grid that headers state) beyond one side of a projection, in the middle of its halo."""
    geometry = Geometry(scale)
    grid = grid_of(geometry, number)
    rows, columns = grid.shape
    middle = geometry.overlap // 2
    along = np.array([0.3, 37.2, 74.7, 120.4])
    fixed = {"left": -middle + 0.4, "right": columns + middle - 0.6, "top": rows + middle - 0.3}[side]
    y, x = grid.cell_origin(*{"left": (5, 0), "right": (2, 9), "top": (9, 3)}[side])
    gx, gy = (x + along + 20, np.full(4, fixed)) if side == "top" else (np.full(4, fixed), y + along + 20)
    ra, dec = grid_to_sky(grid, gx, gy)
    cell = {"left": (5, 0), "right": (2, 9), "top": (9, 3)}[side]
    table = pd.DataFrame({"source_id": range(4), "ra": ra, "dec": dec, "flux_r": 2000.0, "gx": gx, "gy": gy})
    return (cell,), table


@pytest.mark.parametrize(
    ("number", "side"),
    [(1322, "right"), (2289, "left"), (2556, "right"), (2619, "left"), (2619, "top"), (2157, "right"), (2643, "left")],
)
def test_c6_c15_stars_in_the_halo_stand_where_the_wcs_says(number: int, side: str, tmp_path: Path) -> None:
    scale = 20
    cells, stars = stars_in_the_halo(number, side, scale)
    there = names(number, around(cells)) + serving(number, cells, scale)
    empty = pd.DataFrame(columns=["ra", "dec", "flux_r", "r_e", "axis_ratio", "angle"], dtype=float)
    sky = Sky("sky", Scene(stars, empty, ()), 0.0, (0, 0))
    telescope = Telescope(sky, 0, noise=False, weights=False, masks=True)
    grids = [(grid_of(Geometry(scale), one.projection), one) for one in map(Skycell.parse, there)]
    write_cells(ZarrWriter(tmp_path, quantise=False), telescope, grids, bands=("r",), drop=(), reuse=False)
    one, found = image(tmp_path, selection=names(number, cells), scale=scale)
    truth = sky.flux(
        grids[0][0], ((int(found.y[0]), int(found.y[-1]) + 1), (int(found.x[0]), int(found.x[-1]) + 1)), "r"
    )
    assert one.sources
    for _, star in stars.iterrows():
        y, x = round(star.gy - int(found.y[0])), round(star.gx - int(found.x[0]))
        stamp = found.isel(y=slice(y - 6, y + 7), x=slice(x - 6, x + 7))
        assert (stamp.origin == 3).all()
        total = float(stamp.flux.sum())
        centre = float((stamp.flux * stamp.x).sum()) / total, float((stamp.flux * stamp.y).sum()) / total
        assert np.hypot(centre[0] - star.gx, centre[1] - star.gy) < 0.05
        assert total == pytest.approx(float(truth[y - 6 : y + 7, x - 6 : x + 7].sum()), rel=0.01)


def test_c21_beside_filled_pixels_the_convolution_is_that_of_the_truth_to_2_percent(tmp_path: Path) -> None:
    scale, cell = 20, ((9, 9),)
    there = names(2619, around(cell)) + serving(2619, cell, scale)
    words = {"stars": 150, "galaxies": 30, "noise": False, "defects": False, "quantise": False, "weights": False}
    sky = simulate(tmp_path, there, scale=scale, bands=("r",), format="zarr", seed=2, **words)  # type: ignore[arg-type]
    tree = GRAPH(sky.source, **{**WORDS, "scale": scale}, selection=names(2619, cell))
    found = tree["2619"].to_dataset().compute(scheduler="sync")
    geometry = Geometry(scale)
    margin = geometry.radius
    window = tuple((int(axis[0]) - margin, int(axis[-1]) + 1 + margin) for axis in (found.y, found.x))
    truth = sky.sky.flux(grid_of(geometry, 2619), window, "r")  # type: ignore[arg-type]
    blurred = gaussian_filter(truth.astype(np.float64), 60 / scale, mode="constant", radius=margin)
    expected = blurred[margin:-margin, margin:-margin]
    off = np.abs(found.flux.to_numpy() - expected)
    assert off[: -2 * margin, : -2 * margin].max() < 2e-6 * expected.max()  # farther than R from what is filled
    rim = np.ones(off.shape, bool)
    rim[:-margin, :-margin] = False
    assert off[rim].max() < 0.02 * expected[rim].max()
    bare = GRAPH(sky.source, **{**WORDS, "scale": scale}, selection=names(2619, cell), fill="none")
    bare = bare["2619"].to_dataset().compute(scheduler="sync")
    assert np.nanmax(np.abs(bare.flux.to_numpy() - expected)[rim]) > 0.05 * expected[rim].max()


def test_pad_is_how_far_from_the_selection_gaps_are_filled(constant: tuple[int, Path]) -> None:
    number, source = constant
    grid = Geometry(SCALE).projection(number)
    near_row = slice(grid.cell_origin(9, 0)[0] + 100, grid.cell_origin(9, 0)[0] + 110)
    for pad, reach in ((480, 12), (800, 20)):
        one, found = image(source, selection=names(number, CORNERS), pad=pad, halo_cells=False)
        assert one.reach == reach
        assert not (found.origin.sel(y=near_row) == 2).any()
        top = found.origin.sel(y=grid.shape[0])  # just above the grid, beside the left corner
        filled = np.flatnonzero(top.sel(x=slice(0, grid.shape[1] // 2)) == 3)
        assert filled.max() == grid.width + reach - 1
    with_halo, _ = image(source, selection=names(number, CORNERS))
    assert with_halo.reach == Geometry(SCALE).overlap


def test_a_band_that_a_serving_cell_lacks_is_recorded(tmp_path: Path) -> None:
    cells = (*names(2180, ((9, 9),)), *serving(2180, ((9, 9),)))
    words = {"mode": "constant", "bands": ("r", "i"), "weights": False, "format": "zarr", "drop": (f"{cells[1]}.i",)}
    source = simulate(tmp_path, cells, scale=SCALE, **words).source  # type: ignore[arg-type]
    with events.collect() as notes:
        made = GRAPH(source, scale=SCALE, bands=("r", "i"), selection=cells)
    assert [(note.kind, note.fields["cell"]) for note in notes] == [("missing-band", cells[1])]
    attrs = made["2180"].attrs
    assert attrs["fill_cells"] == list(cells[1:])
    assert attrs["bands_used"] == {cells[0]: "ri", cells[1]: "r", **dict.fromkeys(cells[2:], "ri")}


def test_a_hole_of_the_source_stays_a_hole_and_bits_are_those_of_the_nearest_pixel() -> None:
    geometry = Geometry(SCALE)
    sources = tuple(layout(n, EVERY, geometry) for n in near(2180, geometry))
    one = layout(2180, EVERY, geometry, sources=sources)
    area = Rect(700, one.box.x1 - 2, 740, one.box.x1 + 8)
    expected = brute(one)
    inside = (expected["y"] >= area.y0) & (expected["y"] < area.y1)
    inside &= (expected["x"] >= area.x0) & (expected["x"] < area.x1)
    y, x, u, v = (expected[name][inside] for name in ("y", "x", "u", "v"))
    hole = int(np.floor(np.median(v))), int(np.floor(np.median(u)))

    def read(source: Layout, window: Rect) -> Pixels:
        pixels = ramps(0, [])(source, window)
        pixels.flux[hole[0] - window.y0, hole[1] - window.x0] = np.nan
        pixels.mask[...] = 0
        pixels.mask[hole[0] - window.y0, hole[1] - window.x0] = 32
        return pixels

    pixels = blank(area)
    filled = fill(one, area, pixels, read=read)
    assert sum(int(which.sum()) for _, which in filled) == inside.sum()
    touched = (np.floor(v) <= hole[0]) & (hole[0] <= np.floor(v) + 1) & (np.floor(u) <= hole[1])
    touched &= hole[1] <= np.floor(u) + 1
    assert touched.sum() >= 3
    at = y - area.y0, x - area.x0
    np.testing.assert_array_equal(np.isnan(pixels.flux[at]), touched)
    closest = (np.floor(v + 0.5) == hole[0]) & (np.floor(u + 0.5) == hole[1])
    assert closest.any()
    np.testing.assert_array_equal(pixels.mask[at] == 32, closest)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner of a projection and all round it, with noise of each cell its own."""
    selected = ((9, 9), (9, 8), (8, 9), (8, 8))
    cells = names(2619, around(selected)) + serving(2619, selected)
    words = {"format": "zarr", "stars": 10, "galaxies": 0, "bands": ("r",), "seed": 6, "defects": False}
    return simulate(tmp_path_factory.mktemp("noisy"), cells, scale=SCALE, **words).source  # type: ignore[arg-type]


CORNER = names(2619, ((8, 8), (8, 9), (9, 8), (9, 9)))


def run(source: Path, **words: Any) -> xr.Dataset:
    tree = GRAPH(source, **{**WORDS, "selection": CORNER, **words})
    return tree["2619"].to_dataset().compute(scheduler="sync")


@pytest.mark.parametrize("name", CORNER[1:])
def test_c8_c9_a_single_cell_equals_the_crop_of_the_whole(noisy: Path, name: str) -> None:
    whole, one = run(noisy), run(noisy, selection=(name,))
    same = whole.sel(y=one.y, x=one.x)
    assert float(one.coverage.min()) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(one.mask, same.mask)
    peak = float(np.abs(same.flux).max())
    np.testing.assert_allclose(one.flux, same.flux, rtol=0, atol=1e-6 * peak)
    bare = run(noisy, selection=(name,), fill="none")
    assert float(np.abs(bare.flux - same.flux).max()) > 1e-3 * peak  # the fill did matter


@given(st.sampled_from([1, 2, 10]), st.sampled_from([None, 480, 600, 900]))
@settings(max_examples=5, deadline=None)
def test_b5_blocks_make_no_difference(noisy: Path, columns: int, pad: int | None) -> None:
    words = {"pad": pad, "uncertainty": True}
    _, whole = image(noisy, selection=CORNER, **words)
    _, cut = image(noisy, selection=CORNER, columns_per_block=columns, **words)
    for one, other in zip(whole.data_vars.values(), cut.data_vars.values(), strict=True):
        assert one.to_numpy().tobytes() == other.to_numpy().tobytes()


def test_no_row_of_a_file_is_read_twice_for_the_selections_of_several_ccds(
    noisy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, int]] = []
    slabs = Combination.slabs

    def counted(self: Combination, start: int, stop: int) -> Any:
        read.extend((str(self.cell.cell), row) for row in range(start, stop))
        return slabs(self, start, stop)

    monkeypatch.setattr(Combination, "slabs", counted)
    words = {"fill": "none", "halo_cells": False}
    run(noisy, selection=(*CORNER[:3], *CORNER[1:]), **words)
    both = sorted(read)
    assert len(set(both)) == len(both)
    read.clear()
    run(noisy, **words)
    assert sorted(read) == both
    read.clear()
    run(noisy)
    of_sources = [row for row in read if not row[0].startswith("skycell.2619")]
    assert of_sources
    assert len(of_sources) < 2 * len(set(of_sources))


def test_a_neighbour_without_a_sound_header_fills_nothing_and_is_noted(tmp_path: Path) -> None:
    cells = (*names(2180, ((9, 9),)), *serving(2180, ((9, 9),)))
    words = {"mode": "constant", "bands": ("r",), "weights": False}
    source = simulate(tmp_path, cells, scale=SCALE, **words).source  # type: ignore[arg-type]
    for path in source.glob("rings.v3.skycell.2246.*"):
        path.write_bytes(path.read_bytes()[:700])
    with events.collect() as notes:
        one, found = image(source, selection=cells[:1])
    assert [note.kind for note in notes] == ["corrupt-file"]
    assert "2246" in notes[0].message
    assert [s.projection.number for s in one.sources] == [2179]
    assert (found.origin == 3).any()
    with pytest.raises(BadInput, match=r"skycell\.2246"):
        image(source, selection=cells[:1], on_corrupt="fail")


def test_a_neighbour_must_have_what_the_recipe_needs(tmp_path: Path) -> None:
    serve = serving(2619, ((9, 9),))
    words = {"mode": "constant", "bands": ("r",), "drop": (f"{serve[0]}.r.wt",), "format": "zarr"}
    source = simulate(tmp_path, (*CORNER[3:], *serve), scale=SCALE, **words).source  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=rf"no weight image .* of {serve[0]}"):
        image(source, selection=CORNER[3:], uncertainty=True)
    image(source, selection=CORNER[3:])
