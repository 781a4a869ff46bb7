"""The graph of the PS1 convolution against brute force: what each trap of the older pipelines would break."""

import inspect
import random
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.utils import key_split
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import lensflow as lf
from lensflow.engine.tasks import lower
from lensflow.engine.work import Work
from lensflow.errors import BadInput, BadOption
from lensflow.ps1.cells import Rect
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, Projection
from lensflow.ps1.truth import Truth

SCALE, RADIUS = 40, 11
DROPPED = "skycell.2246.034"
GRAPH = lf.graph("ps1_convolution")


def grid(number: int = 2246) -> Projection:
    return Geometry(SCALE).projection(number)


def run(source: Path, number: int = 2246, **words: object) -> xr.Dataset:
    tree = GRAPH(source, scale=SCALE, **words)
    return tree[f"{number:04d}"].to_dataset().compute(scheduler="sync")


def close(found: xr.DataArray, expected: NDArray[np.floating], tolerance: float = 1e-6) -> None:
    peak = float(np.nanmax(np.abs(expected)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * peak)


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Stars, galaxies, streaks and a missing cell, without noise and without rounding."""
    out = tmp_path_factory.mktemp("sky")
    words = {"format": "zarr", "quantise": False, "noise": False, "stars": 40, "galaxies": 10, "seed": 4}
    return simulate(out, rows=(2, 5), columns=(3, 6), scale=SCALE, drop=(DROPPED,), **words)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Noise of each cell its own: only one owner of a pixel is right."""
    out = tmp_path_factory.mktemp("noisy")
    words = {"format": "zarr", "stars": 10, "galaxies": 0, "bands": ("r", "i"), "seed": 6}
    return simulate(out, rows=(2, 6), columns=(2, 6), scale=SCALE, **words)  # type: ignore[arg-type]


BANDS: dict[str, Any] = {"bands": ("r", "i")}


def union_of_cells(sky: Truth, *, margin: int) -> NDArray[np.bool_]:
    """Where there is a cell, less a margin of each."""
    image = sky.image()
    union = np.zeros(image.shape, bool)
    for cell in sky.cells:
        if str(cell) != DROPPED:
            rect = Rect(0, 0, grid().height, grid().width).grown(-margin).moved(*grid().cell_origin(cell.y, cell.x))
            union[rect.moved(-int(image.y[0]), -int(image.x[0])).slices] = True
    return union


def truth_with_holes(sky: Truth) -> NDArray[np.float64]:
    """The true image where any cell that is there has a usable pixel, NaN elsewhere."""
    return np.where(union_of_cells(sky, margin=1), sky.image().values, np.nan)


@pytest.mark.parametrize("sigma", [60.0, 120.0])
def test_c21_the_whole_chain_against_the_convolved_truth(sky: Truth, sigma: float) -> None:
    found = run(sky.source, sigma=sigma)
    image = truth_with_holes(sky)
    words = {"sigma": sigma / SCALE, "mode": "constant", "radius": RADIUS}
    valid = np.isfinite(image)
    coverage = gaussian_filter(valid.astype(np.float64), **words)
    blurred = gaussian_filter(np.nan_to_num(image), **words)
    union = union_of_cells(sky, margin=0)
    expected = np.where((coverage >= 0.2) & union, blurred / np.maximum(coverage, 1e-9), np.nan)
    close(found.coverage, coverage)
    np.testing.assert_array_equal(np.isfinite(found.flux), np.isfinite(expected))
    close(found.flux, expected, 2e-6)
    owned = np.where(valid, sky.mask().values, 0)
    np.testing.assert_array_equal(found.mask.values[valid], owned[valid])
    assert (~valid).sum() > grid().stride_x * grid().stride_y / 2
    assert (found.mask.values != 0).any()


def test_zero_fill_is_flux_times_coverage(sky: Truth) -> None:
    normalised, zero = run(sky.source, min_coverage=1e-6), run(sky.source, nan="zero")
    there = np.isfinite(zero.flux.values)
    product = (normalised.flux * normalised.coverage).values
    close(zero.flux[...].where(there, 0), np.where(there, product, 0), 2e-6)
    np.testing.assert_array_equal(there, np.isfinite(truth_with_holes(sky)))
    np.testing.assert_array_equal(zero.coverage, normalised.coverage)


def test_min_coverage_ends_the_flux(sky: Truth) -> None:
    counts = []
    for least in (0.2, 0.6, 0.95):
        found = run(sky.source, min_coverage=least)
        assert float(found.coverage.where(np.isfinite(found.flux)).min()) >= least
        counts.append(int(np.isfinite(found.flux).sum()))
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 3


def test_b5_blocks_make_no_difference_and_a_second_run_none_at_all(noisy: Truth) -> None:
    whole, again = (run(noisy.source, uncertainty=True, **BANDS) for _ in range(2))
    for name, values in whole.data_vars.items():
        assert values.values.tobytes() == again[name].values.tobytes()
    for columns in (1, 2, 10):
        found = run(noisy.source, uncertainty=True, columns_per_block=columns, **BANDS)
        np.testing.assert_array_equal(found.mask, whole.mask)
        np.testing.assert_array_equal(np.isfinite(found.flux), np.isfinite(whole.flux))
        for name in ("flux", "coverage", "uncertainty"):
            close(found[name], whole[name].values)


def test_b5_worker_count_makes_no_difference(noisy: Truth) -> None:
    lazy = GRAPH(noisy.source, scale=SCALE, **BANDS)["2246"].to_dataset()
    results = [lazy.compute(scheduler="threads", num_workers=count) for count in (1, 2, 8)]
    for name in ("flux", "mask", "coverage"):
        assert len({one[name].values.tobytes() for one in results}) == 1


def test_c9_a_subset_with_its_halo_equals_the_whole(noisy: Truth) -> None:
    whole = run(noisy.source, uncertainty=True, **BANDS)
    chosen = ("skycell.2246.033", "skycell.2246.034", "skycell.2246.044")
    part = run(noisy.source, selection=chosen, uncertainty=True, **BANDS)
    same = whole.sel(y=part.y, x=part.x)
    inside = np.isfinite(part.flux.values)
    assert inside.sum() > 2.5 * grid().stride_x * grid().stride_y
    np.testing.assert_array_equal(part.mask.values[inside], same.mask.values[inside])
    for name in ("flux", "coverage", "uncertainty"):
        close(part[name].where(inside), same[name].where(inside).values)
    alone = run(noisy.source, selection=chosen, halo_cells=False, **BANDS)
    assert float(np.abs(alone.flux - same.flux).max()) > 1e-3  # the halo did matter
    assert not np.isfinite(run(noisy.source, selection=chosen, **BANDS).flux.values[-5, 5])  # beside the ragged cell


@pytest.mark.parametrize("name", ["skycell.2246.022", "skycell.2246.033", "skycell.2246.055", "skycell.2246.024"])
def test_c8_a_single_cell_has_its_own_sides(noisy: Truth, name: str) -> None:
    whole = run(noisy.source, **BANDS)
    one = run(noisy.source, selection=(name,), **BANDS)
    assert one.sizes == {"y": grid().height, "x": grid().width}
    same = whole.sel(y=one.y, x=one.x)
    np.testing.assert_array_equal(np.isfinite(one.flux), np.isfinite(same.flux))
    close(one.flux, same.flux.values)
    close(one.coverage, same.coverage.values)


def test_c12_order_and_duplicates_of_the_selection_have_no_effect(noisy: Truth, tmp_path: Path) -> None:
    lines = noisy.selection.read_text().splitlines()
    shuffled = [*lines[1:], *lines[3:7]]
    random.Random(3).shuffle(shuffled)
    path = tmp_path / "list.csv"
    path.write_text("\n".join([lines[0], *shuffled]) + "\n")
    first = run(noisy.source, selection=(str(noisy.selection),), **BANDS)
    for selection in ((str(path),), tuple(str(cell) for cell in reversed(noisy.cells))):
        other = run(noisy.source, selection=selection, **BANDS)
        assert other.attrs == first.attrs
        for name, values in first.data_vars.items():
            assert values.values.tobytes() == other[name].values.tobytes()


@pytest.fixture(scope="module")
def southern(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    out = tmp_path_factory.mktemp("south")
    words = {"mode": "constant", "value": 2.0, "weights": False, "drop": ("skycell.0714.034",)}
    return simulate(out, projection=714, rows=(3, 5), columns=(3, 5), scale=SCALE, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("selection", [(), ("20/3/3",), ("714",), ("0714",), ("rings.v3.skycell.0714.033",)])
def test_c13_a_projection_below_1000_the_whole_way(southern: Truth, selection: tuple[str, ...]) -> None:
    found = run(southern.source, 714, selection=selection)
    assert set(GRAPH(southern.source, scale=SCALE, selection=selection).children) == {"0714"}
    assert found.attrs["cells"][0] == "skycell.0714.033"
    assert found.attrs["missing_cells"] == (["skycell.0714.034"] if selection == ("20/3/3",) else [])
    assert float(found.flux.mean()) == pytest.approx(2, rel=1e-4)


def test_c13_a_missing_list_names_the_paths_tried(southern: Truth) -> None:
    with pytest.raises(BadInput, match=r"tried .*sector_0021/camera_1/ccd_2/.* and .*sector_0021"):
        GRAPH(southern.source, scale=SCALE, selection=("21/1/2",))


def test_c4_row_gap_is_not_adjacent(tmp_path: Path) -> None:
    height, width = grid().height, grid().width
    y, x = 3 * grid().stride_y - 10, 3 * grid().stride_x + width // 2  # near the upper side of row 2
    cells = ("skycell.2246.023", "skycell.2246.043")
    words = {"mode": "delta", "delta": (y, x), "format": "zarr", "bands": ("r",), "weights": False}
    source = simulate(tmp_path, cells, scale=SCALE, **words).source  # type: ignore[arg-type]
    found = run(source, bands=("r",), weights=(1.0,), sigma=200.0)  # wide: the end of the kernel shows
    row4 = found.sel(y=slice(4 * grid().stride_y, None))
    assert np.abs(np.nan_to_num(row4.flux.values)).max() < 1e-3  # asinh leaves zero at 1e-7 of the peak
    flux = found.flux.fillna(0).values
    assert np.unravel_index(flux.argmax(), flux.shape) == (y - int(found.y[0]), x - int(found.x[0]))
    ends = 2 * grid().stride_y + height - 1 + RADIUS, 4 * grid().stride_y + 1 - RADIUS
    gap = found.coverage.sel(y=slice(ends[0], ends[1] - 1)).values
    assert gap.shape[0] > 100
    assert (gap == 0).all()
    assert found.coverage.sel(y=ends[0] - 1).values.max() > 0
    assert found.coverage.sel(y=ends[1]).values.max() > 0


def test_building_computes_nothing_and_opens_no_pixel(noisy: Truth) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        tree = GRAPH(noisy.source, scale=SCALE, origin=True, uncertainty=True, columns_per_block=1, **BANDS)
        with pytest.raises(AssertionError, match="computed"):
            tree["2246"].flux.compute()
    assert all(values.chunks for values in tree["2246"].data_vars.values())


def test_the_names_of_tasks_can_be_read(noisy: Truth) -> None:
    """In Dask's task stream: what a block is read, cut, put together and written by."""
    work = Work.of(GRAPH(noisy.source, scale=SCALE, **BANDS))
    tasks = lower(work.tree, work.grids, Path("o.zarr"), "0" * 8).tasks
    assert {key_split(key) for key in tasks} == {"stitch", "overlap-stitch-write", "write"}
    inside = lf.plan(work.tree).steps["write"]
    assert inside[:2] == ["overlap-stitch", "blur"]
    assert inside[-1] == "write"


def test_inputs_are_the_files_that_are_read(southern: Truth, noisy: Truth) -> None:
    found = GRAPH.verb("inputs")(source=southern.source, scale=SCALE, selection=("skycell.0714.033",))
    assert {path.name[9:25] for path in found} == {"skycell.0714.033", "skycell.0714.043", "skycell.0714.044"}
    assert len(found) == 3 * 4 * 2
    assert all(path.is_file() for path in found)
    assert all(path.is_file() for path in GRAPH.verb("inputs")(source=noisy.source, scale=SCALE, **BANDS))


def test_an_absent_cell_is_recorded_or_refused_before_anything_is_read(noisy: Truth) -> None:
    wanted = ("skycell.2246.033", "skycell.2246.099")
    assert run(noisy.source, selection=wanted, **BANDS).attrs["missing_cells"] == ["skycell.2246.099"]
    with pytest.raises(BadInput, match=r"skycell\.2246\.099"):
        GRAPH(noisy.source, scale=SCALE, selection=wanted, on_missing="fail", **BANDS)


@pytest.mark.parametrize(
    ("name", "value"), [("sigma", 0.0), ("radius", 520), ("min_coverage", 0.0), ("columns_per_block", 0), ("scale", 7)]
)
def test_options_out_of_range_are_refused_while_building(noisy: Truth, name: str, value: float) -> None:
    with pytest.raises(BadOption, match=name):
        GRAPH(noisy.source, **{"scale": SCALE, **BANDS, name: value})


def test_the_demonstration_uses_words_that_exist() -> None:
    demo = GRAPH.module.DEMO
    assert set(demo["simulate"]) <= set(inspect.signature(GRAPH.verb("simulate")).parameters)
    assert GRAPH.bind("somewhere", **demo["graph"])["scale"] == demo["simulate"]["scale"] == 20
    assert all(GRAPH.offers(verb) for verb in ("simulate", "export", "picture", "before_after", "inputs"))
