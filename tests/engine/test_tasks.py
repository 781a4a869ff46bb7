"""The graph of a run: cut without looking behind what is there, shared work once, nothing needed after its release."""

from __future__ import annotations

import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine import store
from lensflow.engine.blocks import Block, Grid, grids
from lensflow.engine.lifetimes import Lifetimes
from lensflow.engine.plan import plan
from lensflow.engine.tasks import TaskGraph, lower
from lensflow.engine.work import Work

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

Key = Any


@dataclass(frozen=True)
class Sample:
    """Blocks whose final tasks depend on a random graph of inner tasks."""

    graph: TaskGraph
    blocks: list[Block]
    needs: dict[Key, set[Key]]


def total(values: list[int]) -> int:
    return 1 + sum(values)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Draw a graph without cycles: each inner task depends on earlier ones, each block on some inner ones."""
    count, blocks = draw(st.integers(1, 14)), draw(st.integers(1, 8))
    inner: list[Key] = [("inner", place) for place in range(count)]
    needs: dict[Key, set[Key]] = {
        key: set(draw(st.lists(st.sampled_from(inner[:place]), max_size=3))) if place else set()
        for place, key in enumerate(inner)
    }
    for place in range(blocks):
        needs["write", place] = set(draw(st.lists(st.sampled_from(inner), max_size=4)))
    grid = Grid("", ("x",), ((1,) * blocks,), ("a",), 1)
    tasks = {key: (total, sorted(needed)) for key, needed in needs.items()}
    return Sample(TaskGraph(tasks, {grid: "write"}), list(grid.blocks()), needs)


def behind(needs: dict[Key, set[Key]], keys: Sequence[Key], have: set[Key]) -> set[Key]:
    """Return what must be computed for ``keys``, by the definition."""
    found: set[Key] = set()
    for key in keys:
        if key not in have:
            found |= {key} | behind(needs, sorted(needs[key]), have)
    return found


@given(samples(), st.data())
@settings(deadline=None, max_examples=100)
def test_a_cut_never_looks_behind_what_is_there(sample: Sample, data: st.DataObject) -> None:
    keys = [sample.graph.key(block) for block in data.draw(st.lists(st.sampled_from(sample.blocks), max_size=3))]
    have = set(data.draw(st.lists(st.sampled_from(sorted(sample.needs)), max_size=5)))
    cut = sample.graph.cut(keys, have)
    assert set(cut) == behind(sample.needs, keys, have)
    assert not have & set(cut)
    for key in cut:
        assert cut[key] is sample.graph.tasks[key]
        assert set(sample.graph.dependencies(key)) <= set(cut) | have


@given(samples())
@settings(deadline=None, max_examples=100)
def test_sharing_is_what_brute_force_finds(sample: Sample) -> None:
    """In submission order: who is first to compute a task, and who is last to compute from it."""
    computed: dict[Key, int] = {}
    for place, block in enumerate(sample.blocks):
        for key in behind(sample.needs, [sample.graph.key(block)], set(computed)):
            computed[key] = place
    last = {
        key: max([computed[user] for user in computed if key in sample.needs[user]], default=place)
        for key, place in computed.items()
    }
    expected = {key: last[key] for key, place in computed.items() if last[key] > place}
    assert Lifetimes.of(sample.graph, sample.blocks).kept == expected


class Scheduler:
    """Dask's bookkeeping, in short: a result lives while a client holds it or an unfinished task depends on it."""

    def __init__(self, needs: dict[Key, set[Key]]) -> None:
        self.needs = needs
        self.times: Counter[Key] = Counter()
        self.wanted: dict[Key, set[Key]] = {}  # of each unfinished block: the tasks sent for it

    def submit(self, final: Key, cut: Sequence[Key], held: dict[Key, int]) -> None:
        for key in cut:
            in_flight = any(key in sent for sent in self.wanted.values())
            assert key not in held
            if not in_flight:
                self.times[key] += 1
            assert all(one in cut or one in held for one in self.needs[key]), "needed after its release"
        self.wanted[final] = set(cut)


@given(samples(), st.integers(1, 4), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=200)
def test_nothing_is_needed_after_its_release_nor_computed_twice(
    sample: Sample, window: int, batch: int, rng: Any
) -> None:
    """Blocks are sent in order, and end in any order."""
    graph, blocks = sample.graph, sample.blocks
    last = Lifetimes.of(graph, blocks).kept
    scheduler = Scheduler(sample.needs)
    held: dict[Key, int] = {}
    active: list[int] = []
    fresh = list(range(len(blocks)))
    while fresh or active:
        while fresh and len(active) < window:
            places = [fresh.pop(0) for _ in range(min(batch, window - len(active), len(fresh)))]
            keys = [graph.key(blocks[place]) for place in places]
            cut = graph.cut(keys, held)
            for key in keys:
                scheduler.submit(key, list(cut), held)
            held.update({key: last[key] for key in cut if last.get(key, -1) > places[-1]})
            active += places
        done = active.pop(rng.randrange(len(active)))
        del scheduler.wanted[graph.key(blocks[done])]
        for key in [key for key, place in held.items() if place == done]:
            del held[key]
    assert set(scheduler.times) == behind(sample.needs, [graph.key(block) for block in blocks], set())
    assert set(scheduler.times.values()) <= {1}
    assert not held, "all is released in the end"


# Real graphs


READ: Counter[tuple[int, ...]] = Counter()


def read_row(block_info: Any = None) -> np.ndarray[Any, Any]:
    (low, high), _ = block_info[None]["array-location"]
    READ[low] += 1
    return np.add.outer(np.arange(low, high, dtype="f4"), np.arange(6, dtype="f4"))


def smooth(chunk: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return chunk + np.roll(chunk, 1, axis=0) + np.roll(chunk, -1, axis=0)


def smoothed(rows: int, height: int) -> da.Array:
    image = da.map_blocks(read_row, chunks=((height,) * rows, (6,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    nothing = np.empty((0, 0), "f4")
    return da.map_overlap(smooth, image, depth={0: 1, 1: 0}, boundary="none", allow_rechunk=False, meta=nothing)


@given(rows=st.integers(1, 6), height=st.integers(2, 4))
@settings(deadline=None, max_examples=12)
def test_shared_work_runs_once_and_gives_the_right_pixels(rows: int, height: int) -> None:
    """Halo rows: cut by cut, holding only what ``Lifetimes`` says, each row is read once."""
    data = xr.Dataset({"a": (("y", "x"), smoothed(rows, height))})
    expected = data["a"].values
    READ.clear()
    written = run(data)
    np.testing.assert_array_equal(written["a"], expected)
    assert Counter({place * height: 1 for place in range(rows)}) == READ


def run(data: xr.Dataset | xr.DataTree) -> xr.Dataset:
    """Do what the driver does, in one thread: every block's cut, computed from what is held."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "o.zarr")
        work = Work.of(data)
        store.create(path, work.tree, work.layouts)
        graph = lower(work.tree, work.grids, path, uuid.uuid4().hex)
        last = Lifetimes.of(graph, work.blocks).kept
        held: dict[Key, Result] = {}
        for place, block in enumerate(work.blocks):
            final = graph.key(block)
            cut = graph.cut([final], held)
            kept = [key for key in cut if last.get(key, -1) > place]
            _, *results = dask.get({**cut, **{key: (constant, [one]) for key, one in held.items()}}, [final, *kept])
            held.update({key: Result(one) for key, one in zip(kept, results, strict=True)})
            for key in [key for key in held if last[key] == place]:
                del held[key]
        assert not held
        with xr.open_dataset(path, engine="zarr", consolidated=False) as found:
            return found.load()


@dataclass(frozen=True)
class Result:
    """Keeps a value from being taken for a task."""

    value: Any


def constant(results: list[Result]) -> Any:
    return results[0].value


def test_each_block_has_a_final_task_of_its_own() -> None:
    one = da.ones((4, 6), chunks=2)
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"a": (("y", "x"), one), "b": (("x", "y"), one.T), "c": (("y", "x"), one.rechunk(3))}),
            "/g": xr.Dataset({"a": (("y", "x"), one), "n": ((), da.ones(()))}),
        }
    )
    found = grids(tree)
    graph = lower(tree, found, Path("o.zarr"), "token")
    keys = [graph.key(block) for grid in found for block in grid.blocks()]
    assert len(set(keys)) == len(keys)
    assert set(keys) <= set(graph.tasks)
    assert set(graph.cut(keys)) == set(graph.tasks), "no task without a purpose"


def test_variables_of_a_block_share_their_upstream_work() -> None:
    image = da.map_blocks(read_row, chunks=((2, 2), (6,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    READ.clear()
    found = run(xr.Dataset({"a": (("y", "x"), image), "b": (("y", "x"), image * 2)}))
    np.testing.assert_array_equal(found["b"], 2 * found["a"])
    assert Counter({0: 1, 2: 1}) == READ


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something was computed")


def test_looking_at_a_dataset_computes_nothing(tmp_path: Path) -> None:
    READ.clear()
    with dask.config.set(scheduler=refuse):
        work = Work.of(xr.Dataset({"a": (("y", "x"), smoothed(5, 3))}))
        graph = lower(work.tree, work.grids, tmp_path / "o.zarr", "token")
        assert Lifetimes.of(graph, work.blocks).kept
        assert plan(work.tree).blocks == 5
    assert not READ
    assert not list(tmp_path.iterdir())


def test_halos_cost_few_tasks() -> None:
    work = Work.of(xr.Dataset({"a": (("y", "x"), smoothed(60, 4))}))
    graph = lower(work.tree, work.grids, Path("o.zarr"), "token")
    assert len(graph.tasks) <= 7 * 60
    assert max(len(graph.cut([graph.key(block)])) for block in work.blocks) <= 15


@pytest.mark.parametrize("token", ["a" * 32, "b" * 32])
def test_keys_of_two_runs_differ(token: str) -> None:
    work = Work.of(xr.Dataset({"a": ("x", da.ones(4, chunks=2))}))
    key: Hashable = lower(work.tree, work.grids, Path("o.zarr"), token).key(work.blocks[0])
    assert token[:8] in str(key)
