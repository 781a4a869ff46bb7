"""Who owns a pixel: the rectangles against the rule of the survey evaluated pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lensflow.ps1.cells import Rect
from lensflow.ps1.mosaic import Layout, projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.ownership import Index, owned_regions, strips
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry

T, S, O = 17, 21, 10  # noqa: E741 - the letters of the tessellation: strides and overlap
GRID = Rect(0, 0, 10 * T + O, 10 * S + O)
Usable = dict[Index, Rect]


def choices(
    pixels: NDArray[np.int64], stride: int, overlap: int, split: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and second choice of cell for each pixel of an axis; -1 is none."""
    first = np.clip((pixels - split) // stride, 0, 9)
    second = np.full_like(first, -1)
    for k in range(1, 10):
        shared = (pixels >= k * stride) & (pixels < k * stride + overlap)
        second[shared] = np.where(first[shared] == k, k - 1, k)
    return first, second


def brute(area: Rect, usable: Usable, stride: Index, overlap: int, split: int) -> NDArray[np.int64]:
    """10 y + x of the owner of each pixel, -1 without one."""
    y, x = np.arange(area.y0, area.y1)[:, None], np.arange(area.x0, area.x1)[None, :]
    owner = np.full(area.shape, -1)
    for cy in choices(y, stride[0], overlap, split):
        for cx in choices(x, stride[1], overlap, split):
            for (ky, kx), r in usable.items():
                inside = (y >= r.y0) & (y < r.y1) & (x >= r.x0) & (x < r.x1)
                owner[(owner < 0) & (cy == ky) & (cx == kx) & inside] = 10 * ky + kx
    return owner


def drawn(area: Rect, usable: Usable, split: int = O // 2) -> NDArray[np.int64]:
    owner = np.full(area.shape, -1)
    for (y, x), rect in owned_regions(area, usable, stride=(T, S), overlap=O, split=split):
        here = owner[rect.moved(-area.y0, -area.x0).slices]
        assert here.size
        assert (here == -1).all(), "regions overlap"
        here[...] = 10 * y + x
    return owner


@st.composite
def presence(draw: st.DrawFn) -> Usable:
    """Cells that are present, each with the data rectangle of a cutout or all but the edge."""
    usable = {}
    for y, x in draw(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)):
        rect = Rect(1, 1, T + O - 1, S + O - 1)
        if draw(st.booleans()):
            y0, x0 = draw(st.integers(0, T)), draw(st.integers(0, S))
            rect = rect.common(Rect(y0, x0, y0 + draw(st.integers(1, T + O)), x0 + draw(st.integers(1, S + O))))
        usable[y, x] = rect.moved(y * T, x * S)
    return usable


@given(
    presence(),
    st.tuples(st.integers(-9, 10 * T), st.integers(-9, 10 * S)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(1, O - 1),
)
@settings(max_examples=60, deadline=None)
def test_regions_are_the_rule_evaluated_at_each_pixel(usable: Usable, corner: Index, size: Index, split: int) -> None:
    area = Rect(*corner, corner[0] + size[0], corner[1] + size[1])
    np.testing.assert_array_equal(drawn(area, usable, split), brute(area, usable, (T, S), O, split))


@given(presence())
@settings(max_examples=40, deadline=None)
def test_c1_a_mirrored_layout_has_mirrored_owners(usable: Usable) -> None:
    owner = drawn(GRID, usable)
    upside_down = {(9 - y, x): Rect(GRID.y1 - r.y1, r.x0, GRID.y1 - r.y0, r.x1) for (y, x), r in usable.items()}
    sideways = {(y, 9 - x): Rect(r.y0, GRID.x1 - r.x1, r.y1, GRID.x1 - r.x0) for (y, x), r in usable.items()}
    there = owner >= 0
    np.testing.assert_array_equal(drawn(GRID, upside_down)[::-1], np.where(there, 90 + 2 * (owner % 10) - owner, -1))
    np.testing.assert_array_equal(
        drawn(GRID, sideways)[:, ::-1], np.where(there, 9 + 2 * (owner // 10 * 10) - owner, -1)
    )


def test_with_all_neighbours_the_border_is_the_middle_of_the_overlap() -> None:
    whole = {(y, x): Rect(1, 1, T + O - 1, S + O - 1).moved(y * T, x * S) for y in range(10) for x in range(10)}
    row = drawn(GRID, whole)[T * 3]
    borders = np.flatnonzero(np.diff(row[1:-1])) + 2
    np.testing.assert_array_equal(borders, np.arange(1, 10) * S + O // 2)


def test_strips_of_an_axis() -> None:
    found = strips(0, 2 * S, stride=S, overlap=O, split=O // 2)
    assert found == [(0, S, (0,)), (S, S + 5, (0, 1)), (S + 5, S + O, (1, 0)), (S + O, 2 * S, (1,))]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole projection; every pixel of cell (y, x), and of its mask, is 10 y + x."""
    out = tmp_path_factory.mktemp("labels")
    words = {"scale": 40, "mode": "label", "format": "zarr", "quantise": False, "bands": ("r",), "weights": False}
    return simulate(out, rows=(0, 10), columns=(0, 10), **words).source  # type: ignore[arg-type]


def layout(source: Path, cells: list[Index], **words: object) -> Layout:
    names = tuple(f"skycell.2246.0{y}{x}" for y, x in cells)
    options = Options.from_keywords(scale=40, bands=("r",), weights=(1.0,), halo_cells=False, selection=names, **words)
    return options.plan(source)[1][0].layout


def stitched(plan: Layout) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    image = projection_image(plan).compute(scheduler="sync")
    flux = image.flux.values
    return np.where(np.isfinite(flux), np.round(np.nan_to_num(flux)), -1).astype(np.int64), image.mask.values


def expected(plan: Layout, cells: list[Index]) -> NDArray[np.int64]:
    grid = Geometry(40).projection(2246)
    usable = {(y, x): Rect(0, 0, grid.height, grid.width).grown(-1).moved(*grid.cell_origin(y, x)) for y, x in cells}
    area = plan.box.grown(plan.pad)
    return brute(area, usable, (grid.stride_y, grid.stride_x), 12, 6)


@pytest.mark.parametrize("seed", range(20))
def test_c1_c17_ragged_layouts_hold_labels_and_bits_of_the_owner(labels: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y0, x0 = rng.integers(0, 7, 2)
    cells = [(int(y0 + k // 4), int(x0 + k % 4)) for k in rng.choice(16, rng.integers(1, 12), replace=False)]
    plan = layout(labels, cells, columns_per_block=[None, 1, 2][seed % 3])
    owner = expected(plan, cells)
    flux, mask = stitched(plan)
    np.testing.assert_array_equal(flux, owner)
    np.testing.assert_array_equal(mask, np.where(owner < 0, 0, owner))


def test_c1_rows_without_a_neighbour_row_reach_to_the_edge(labels: Path) -> None:
    plan = layout(labels, [(4, 4), (4, 5)])
    flux, _ = stitched(plan)
    inside = flux[plan.pad : -plan.pad, plan.pad : -plan.pad]
    assert (inside[1:-1, 1:-1] >= 0).all()
    assert (inside[[0, -1]] == -1).all()


def test_c2_a_row_that_starts_right_of_the_first_column_keeps_its_left_side(labels: Path) -> None:
    plan = layout(labels, [(3, x) for x in range(6)] + [(4, x) for x in range(2, 6)])
    flux, _ = stitched(plan)
    upper = flux[plan.pad + 2 * plan.projection.stride_y - 20, plan.pad :]
    start = 2 * plan.projection.stride_x
    assert (upper[: start + 1] == -1).all()
    assert upper[start + 1] == 42
    assert (upper[start + 1 : -plan.pad - 1] >= 42).all()


def test_c3_columns_are_placed_by_x_not_by_count(labels: Path) -> None:
    plan = layout(labels, [(3, x) for x in (0, 1, 4, 5)])
    flux, _ = stitched(plan)
    middle = flux[flux.shape[0] // 2, plan.pad : -plan.pad]
    assert plan.box.shape[1] == 5 * plan.projection.stride_x + plan.projection.width
    assert [int(middle[x * plan.projection.stride_x + 80]) for x in range(6)] == [30, 31, -1, -1, 34, 35]


def test_c4_rows_with_a_gap_are_not_adjacent(labels: Path) -> None:
    plan = layout(labels, [(2, 3), (4, 3)])
    flux, _ = stitched(plan)
    column = flux[plan.pad :, flux.shape[1] // 2]
    rows = {label: np.flatnonzero(column == label) for label in (23, 43)}
    stride, height = plan.projection.stride_y, plan.projection.height
    np.testing.assert_array_equal(rows[23], np.arange(1, height - 1))
    np.testing.assert_array_equal(rows[43], rows[23] + 2 * stride)
