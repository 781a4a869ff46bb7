"""The arithmetic of a plan: sizes of chunks, what is alive together, and what is said of it."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine import memory, sizes
from lensflow.engine.memory import PROCESS, peak
from lensflow.engine.plan import SAMPLE, Plan, plan
from lensflow.errors import Infeasible

MIB = 2**20
LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple)


@given(st.lists(LENGTHS, max_size=3).map(tuple), st.sampled_from(["u1", "f4", "c16", "f4,u1"]))
@settings(deadline=None, max_examples=60)
def test_the_bytes_of_every_chunk_are_remembered(chunks: tuple[tuple[int, ...], ...], kind: str) -> None:
    array = da.zeros(tuple(map(sum, chunks)), dtype=np.dtype(kind), chunks=chunks)
    sizes.remember(array)
    found = [sizes.of_key((array.name, *index)) for index in np.ndindex(array.numblocks)]
    expected = [
        int(np.prod(array.blocks[index].shape, dtype=int)) * np.dtype(kind).itemsize
        for index in np.ndindex(array.numblocks)
    ]
    assert found == expected
    assert sum(one or 0 for one in found) == array.nbytes
    assert sizes.is_packed((array.name, 0)) == ("," in kind)


@pytest.mark.parametrize("key", ["name", ("nobody", 0), 3, ("known", 0, 0), ("known",)])
def test_what_is_not_known_is_none(key: object) -> None:
    sizes.remember(da.zeros(4, chunks=2, name="known"))
    assert sizes.of_key(key) is None


def test_chunks_of_unknown_length_have_no_size() -> None:
    ones = da.ones(4, chunks=2)
    sizes.remember(picked := ones[ones > 0])
    assert sizes.of_key((picked.name, 0)) is None


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "KEPT", 3)
    for place in range(5):
        sizes.remember(da.zeros(4, chunks=2, name=f"array-{place}"))
    assert [sizes.of_key((f"array-{place}", 0)) for place in range(5)] == [None, None, 16, 16, 16]


class Steps:
    """Tasks of a fabricated graph, each with a known size."""

    def __init__(self) -> None:
        self.tasks: dict[Any, Any] = {}
        self.count = 0

    def add(self, mib: float, *needs: Any, name: str = "") -> Any:
        self.count += 1
        key = (f"{name or 'step'}-{id(self):x}{self.count:04x}", 0)
        sizes.remember(da.zeros((int(mib * MIB),), dtype="u1", chunks=-1, name=key[0]))
        self.tasks[key] = (len, list(needs))
        return key

    def write(self, *needs: Any) -> Any:
        self.count += 1
        key = (f"write-{id(self):x}{self.count:04x}", 0)
        self.tasks[key] = (len, list(needs))
        return key

    def peak(self, *outputs: Any, threads: int = 1) -> float:
        return (peak(self.tasks, [[one] for one in outputs], threads).nbytes - PROCESS) / MIB


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_a_chain_needs_two_neighbours_at_once(lengths: list[int]) -> None:
    steps, last = Steps(), None
    for mib in lengths:
        last = steps.add(mib, *([last] if last else []))
    expected = max([one + two for one, two in pairwise(lengths)], default=lengths[0])
    assert steps.peak(steps.write(last)) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_inputs_of_one_step_are_alive_together(inputs: list[int], result: int) -> None:
    steps = Steps()
    joined = steps.add(result, *[steps.add(one) for one in inputs])
    assert steps.peak(steps.write(joined)) == sum(inputs) + result


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 20))
@settings(deadline=None, max_examples=50)
def test_threads_work_side_by_side(blocks: int, threads: int, mib: int) -> None:
    steps = Steps()
    outputs = [steps.write(steps.add(mib)) for _ in range(blocks)]
    assert steps.peak(*outputs, threads=threads) == min(blocks, threads) * mib


def test_what_a_later_block_needs_stays() -> None:
    """Halo rows: block 2 still needs what block 1 has read."""
    steps = Steps()
    row = [steps.add(10, name=f"row{place}") for place in range(4)]
    outputs = [steps.write(steps.add(1, row[place], row[place + 1])) for place in range(3)]
    assert steps.peak(*outputs) == 21, "two rows and a result, never three rows"


def test_a_result_nobody_knows_the_size_of_is_what_it_looks_at() -> None:
    steps = Steps()
    read = steps.add(10)
    steps.tasks["view"] = (len, [read])
    assert steps.peak(steps.write(steps.add(1, "view"))) == 11, "the view keeps what it looks at alive"


def test_picking_one_of_several_packed_arrays_copies_nothing() -> None:
    steps = Steps()
    packed = ("packed-of-test", 0)
    sizes.remember(da.zeros((MIB,), dtype=np.dtype([("flux", "f4"), ("mask", "u2")]), chunks=-1, name=packed[0]))
    steps.tasks[packed] = (len, [])
    outputs = [steps.write(steps.add(4, packed), steps.add(2, packed))]
    assert steps.peak(*outputs) == 6


def test_the_step_at_the_peak_is_named() -> None:
    steps = Steps()
    read = steps.add(10, name="read")
    blurred = steps.add(30, read, name="blur")
    small = steps.add(1, blurred, name="shrink")
    found = peak(steps.tasks, [[steps.write(small)]], 1)
    assert found.step == "blur"
    assert found.nbytes == PROCESS + 40 * MIB


def test_an_unknown_size_does_not_hide_the_known_ones() -> None:
    steps = Steps()
    ones = da.ones(4, chunks=2)
    sizes.remember(picked := ones[ones > 0])
    steps.tasks[picked.name, 0] = (len, [])
    assert steps.peak(steps.write(steps.add(10, (picked.name, 0)))) == pytest.approx(10)


# Plans


def image(rows: int = 8, side: int = 1024) -> xr.Dataset:
    with dask.config.set(array_plugins=[sizes.remember]):
        made = da.zeros((rows * side, side), chunks=(side, side), dtype="f4") + 1
    return xr.Dataset({"a": (("y", "x"), made), "m": (("y", "x"), made.astype("u1"))})


def test_a_plan_counts_what_is_written() -> None:
    found = plan(image())
    assert (found.blocks, found.output_bytes, found.largest_block) == (8, 8 * 5 * MIB, 5 * MIB)
    assert (found.input_files, found.input_bytes, found.shared_tasks, found.shared_bytes) == (0, 0, 0, 0)
    assert found.tasks >= found.blocks


def test_memory_does_not_grow_with_the_number_of_blocks_but_with_threads() -> None:
    few, many = plan(image(8)), plan(image(40))
    assert few.peak_memory == many.peak_memory
    assert plan(image(8), threads=2).peak_memory > few.peak_memory
    assert many.peak_memory - PROCESS >= 5 * MIB


def test_the_largest_block_is_among_those_looked_at() -> None:
    for place in range(12):
        lengths = [8] * 12
        lengths[place] = 4096
        with dask.config.set(array_plugins=[sizes.remember]):
            made = da.zeros((sum(lengths), 256), chunks=(tuple(lengths), 256), dtype="f4") + 1
        found = plan(xr.Dataset({"a": (("y", "x"), made)}))
        assert found.largest_block == 4096 * 256 * 4
        assert found.peak_memory - PROCESS >= found.largest_block
    assert SAMPLE < 12


def test_shared_results_are_counted() -> None:
    with dask.config.set(array_plugins=[sizes.remember]):
        made = da.zeros((8 * 64, 64), chunks=(64, 64), dtype="f4").map_blocks(np.negative, dtype="f4")
        blurred = da.map_overlap(
            np.abs, made, depth={0: 4, 1: 0}, boundary="none", allow_rechunk=False, meta=np.empty((0, 0), "f4")
        )
    found = plan(xr.Dataset({"a": (("y", "x"), blurred)}))
    assert found.blocks == 8
    assert found.shared_tasks >= 7


def test_what_cannot_fit_is_refused_in_a_sentence() -> None:
    found = plan(image())
    found.check(None)
    found.check(found.peak_memory)
    with pytest.raises(
        Infeasible, match=r"a worker would need .* at its peak .*its limit is .*use smaller blocks"
    ) as no:
        found.check(found.peak_memory - 1)
    assert no.value.exit_code == 3


def test_a_plan_reads_well_and_is_json() -> None:
    made = Plan(12, 30, 4, 5 * MIB, 2**30, 90 * MIB, 3, MIB, 2, 2**30, "blur<b>")
    text = str(made)
    for part in ("12 (largest 90.0 MiB)", "30 (2.5 a block)", "4 input files, 5.0 MiB", "1.0 GiB a worker of 2 thread"):
        assert part in text
    assert "blur&lt;b&gt;" in made._repr_html_()
    assert made.as_json() == dataclasses.asdict(made)


def test_planning_is_pure() -> None:
    first = image()
    assert plan(first) == plan(first)


def test_the_world_ends() -> None:
    """Every task runs exactly once, and nothing is alive in the end."""
    steps = Steps()
    read = [steps.add(place + 1) for place in range(5)]
    outputs = [steps.write(steps.add(2, *read[place : place + 2])) for place in range(4)]
    world = memory._World(steps.tasks, [[one] for one in outputs], writing=0)
    ran: list[Any] = []
    while running := world.start(2):
        ran += running
        world.end(running)
    assert sorted(map(str, ran)) == sorted(map(str, steps.tasks))
    assert world.alive == 0
