"""What is alive at once: sizes of chunks, fused tasks, threads, what the driver holds."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine import memory, sizes
from lensflow.engine.footprint import Footprint, Footprints, Ledger
from lensflow.engine.memory import LATE, PROCESS, Window, peak

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

    def footprints(self, *outputs: Any, writing: float = 0) -> Footprints:
        return Footprints([self.tasks], dict.fromkeys(outputs, int(writing * MIB)))

    def peak(self, *outputs: Any, threads: int = 1, writing: float = 0, **window: Any) -> float:
        found = peak(self.footprints(*outputs, writing=writing), Window(outputs, **window), threads=threads)
        return (found.nbytes - PROCESS) / MIB


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
    final = steps.write(small)
    found = peak(steps.footprints(final), Window([final]), threads=1)
    assert found.step == "blur"
    assert found.nbytes == PROCESS + 40 * MIB


def test_an_unknown_size_does_not_hide_the_known_ones() -> None:
    steps = Steps()
    ones = da.ones(4, chunks=2)
    sizes.remember(picked := ones[ones > 0])
    steps.tasks[picked.name, 0] = (len, [])
    assert steps.peak(steps.write(steps.add(10, (picked.name, 0)))) == pytest.approx(10)


def test_the_world_ends() -> None:
    """Every task runs exactly once, and nothing is alive in the end."""
    steps = Steps()
    read = [steps.add(place + 1) for place in range(5)]
    outputs = [steps.write(steps.add(2, *read[place : place + 2])) for place in range(4)]
    worker = memory._Worker(steps.footprints(*outputs), Window(outputs), 2)
    ran: set[Any] = set()
    count = 0
    while worker.start():
        ran |= {key for key, _ in worker._running}
        worker.end_one()
        count += 1
    assert ran == steps.tasks.keys()
    assert count == len(steps.tasks)
    assert worker.nbytes == 0


def test_writing_takes_memory_beside_the_block() -> None:
    steps = Steps()
    assert steps.peak(steps.write(steps.add(10)), writing=4) == 14


def test_what_the_driver_holds_stays_until_it_has_heard_of_the_last_block() -> None:
    steps = Steps()
    large = LATE / MIB + 1
    read = steps.add(10)
    first, second = steps.write(steps.add(1, read)), steps.write(steps.add(large))
    assert steps.peak(first, second) == large
    assert steps.peak(first, second, wanted={read: 0}) == large + 10
    third = steps.write(steps.add(large))
    assert steps.peak(first, second, third, wanted={read: 1}) == large + 10
    assert steps.peak(first, second, wanted={read: 7}) == large + 10, "a block beyond these needs it"


def test_what_earlier_blocks_have_left_is_there_from_the_start() -> None:
    steps = Steps()
    read = steps.add(10)
    final = steps.write(steps.add(1, read))
    assert steps.peak(final) == 11
    assert steps.peak(final, held=[read]) == 11
    other = steps.add(100)
    assert steps.peak(final, held=[read, other], wanted={other: 5}) == 111


def test_reading_waits_until_nothing_else_can_be_done() -> None:
    """Otherwise all files would be read before the first is reduced."""
    steps = Steps()
    small = [steps.add(1, steps.add(10)) for _ in range(5)]
    assert steps.peak(steps.write(*small)) == 4 + 11


def test_large_tasks_meet_on_several_threads() -> None:
    """A small one between them does not keep them apart: nobody knows how long each takes."""
    steps = Steps()
    outputs = [steps.write(steps.add(30, steps.add(2))) for _ in range(3)]
    assert steps.peak(*outputs, threads=2) == 64


class Fused:
    """A task of three steps, `source -> (a -> b -> c)`, seen before and after fusion."""

    def __init__(self, *, nested: bool) -> None:
        steps = Steps()
        self.source, self.a = steps.add(10), None
        self.a = steps.add(20, self.source)
        self.b = steps.add(30, self.a)
        self.c = steps.add(5, self.b)
        whole = {self.source: steps.tasks[self.source], self.c: (len, [self.source])}
        middle = {**whole, self.a: steps.tasks[self.a], self.c: (len, [self.a])} if nested else steps.tasks
        self.found = Footprints([whole, middle, steps.tasks], {})[self.c]


def test_a_fused_task_lets_go_of_what_its_own_steps_have_used() -> None:
    found = Fused(nested=False).found
    assert (found.work // MIB, found.result // MIB, found.looks_at) == (50, 5, None)


def test_what_goes_into_a_fused_part_of_a_fused_task_stays_to_its_end() -> None:
    found = Fused(nested=True).found
    assert found.work // MIB == 20 + 30 + 5


def test_a_task_fused_under_another_name_is_found_there() -> None:
    steps = Steps()
    source = steps.add(10)
    a = steps.add(20, source)
    b = steps.add(30, a)
    body = ("a-b-fused", 0)
    running = {source: steps.tasks[source], b: (len, [body]), body: (len, [source])}
    footprints = Footprints([running, steps.tasks], {})
    assert footprints.needs(b) == {source}
    assert footprints[b].work // MIB == 50


def test_slices_much_smaller_than_their_source_are_copies() -> None:
    steps = Steps()
    source = steps.add(40)
    half, most = steps.add(20, source, name="getitem"), steps.add(30, source, name="getitem")
    found = steps.footprints()
    assert found[half] == Footprint(20 * MIB, 20 * MIB, None, "getitem")
    assert found[most] == Footprint(0, 0, source, "getitem")


def test_slices_of_a_rechunk_share_what_is_made_of_them() -> None:
    steps = Steps()
    source = steps.add(40)
    parts = [(f"rechunk-split-{0:032x}", place) for place in range(4)]
    steps.tasks.update({part: (len, [source]) for part in parts})
    merged = steps.add(10, *parts, name="rechunk-merge")
    assert steps.footprints()[parts[0]].result == int(2.5 * MIB)
    assert steps.peak(steps.write(merged)) == 50


def test_a_variance_takes_two_arrays_of_float64() -> None:
    with dask.config.set(array_plugins=[sizes.remember]):
        spread = da.ones((4, MIB), chunks=(1, MIB), dtype="f4").std(axis=0)
    tasks = dict(spread.__dask_graph__())
    key = next(key for key in tasks if key[0].startswith("var-"))
    assert 16 <= Footprints([tasks], {})[key].work / MIB <= 20


def test_a_part_picked_out_of_several_arrays_outlives_the_rest() -> None:
    ledger = Ledger(Counter({"packed": 2, "pick": 1}))
    ledger.keep("packed", Footprint(30, 30, None, "read"))
    ledger.keep("pick", Footprint(0, 20, "packed", "pick"))
    assert ledger.nbytes == 30
    ledger.use("packed")
    ledger.use("packed")
    assert ledger.nbytes == 20
    ledger.use("pick")
    assert ledger.nbytes == 0


def test_a_reduction_corrects_the_size_of_its_first_step() -> None:
    with dask.config.set(array_plugins=[sizes.remember]):
        total = da.ones((40, 10), chunks=(10, 10), dtype="f8").sum(axis=0)
    first = [key for key in dict(total.__dask_graph__()) if len(key) == 3 and key[0].startswith("sum-")]
    assert {sizes.of_key(key) for key in first if "aggregate" not in key[0]} == {80}
    gc.collect()
    sizes.remember(da.ones(3, chunks=3))  # the array noted before is gone by now: nothing to correct
