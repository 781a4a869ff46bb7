"""What a plan counts, what it says, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Literal

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from lensflow.arrays.overlap import map_overlap
from lensflow.engine import sizes
from lensflow.engine.forecast import SAMPLE
from lensflow.engine.memory import PROCESS
from lensflow.engine.packing import packing
from lensflow.engine.plan import Plan, plan
from lensflow.engine.work import Work
from lensflow.errors import Infeasible

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


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


def test_what_cannot_fit_is_refused_in_a_sentence_that_says_what_would() -> None:
    found = plan(image(), threads=4)
    found.check(None)
    found.check(found.peak_memory)
    limit = found.peak_memory - 1
    with pytest.raises(Infeasible, match=r"a worker would need .* at its peak \(step .*it may use .*: use ") as no:
        found.check(limit)
    assert no.value.exit_code == 3
    assert f"step {found.peak_step}" in str(no.value)
    assert "smaller blocks (5.0 MiB should fit), one thread a worker (" in str(no.value)
    with pytest.raises(Infeasible) as no:
        found.check(PROCESS)
    assert "smaller blocks" not in str(no.value), "no block is small enough"
    assert str(no.value).endswith("use workers with more memory")


def test_the_suggested_block_does_fit() -> None:
    large = plan(image(4, 4096))
    limit = (large.peak_memory + PROCESS) // 2
    with pytest.raises(Infeasible, match=r"smaller blocks \(40\.0 MiB should fit\)"):
        large.check(limit)
    with dask.config.set(array_plugins=[sizes.remember]):
        made = da.zeros((4 * 4096, 4096), chunks=(2048, 4096), dtype="f4") + 1
    plan(xr.Dataset({"a": (("y", "x"), made), "m": (("y", "x"), made.astype("u1"))})).check(limit)


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


def overlapping(boundary: Literal["none", "valid"], depth: int = 16) -> xr.Dataset:
    with dask.config.set(array_plugins=[sizes.remember]):
        made = xr.DataArray(da.zeros((8 * 64, 128), chunks=(64, 128), dtype="f4") + 1, dims=("y", "x"))
        return map_overlap(np.negative, made, depth={"y": depth}, boundary=boundary).to_dataset(name="a")


@pytest.mark.parametrize("boundary", ["none", "valid"])
def test_the_halo_is_what_chunks_carry_beyond_their_core(boundary: Literal["none", "valid"]) -> None:
    found = plan(overlapping(boundary))
    assert found.halo_bytes == 7 * 2 * 16 * 128 * 4, "seven edges, both sides"
    assert found.core_bytes == 8 * 64 * 128 * 4
    assert f"carried over block edges, {100 * 14 * 16 / 512:.1f} % of 256.0 KiB" in str(found)


def test_no_halo_and_an_unknown_halo_are_told_apart() -> None:
    assert plan(image()).halo_bytes == 0
    assert ("halo", "none") in plan(image()).rows()
    made = da.map_overlap(np.negative, da.zeros((64, 32), chunks=(16, 32)), depth={0: 2}, boundary="none")
    found = plan(xr.Dataset({"a": (("y", "x"), made)}))
    assert found.halo_bytes is None
    assert "unknown" in dict(found.rows())["halo"]


@pytest.mark.parametrize(
    ("kind", "fill", "chunks", "beside"),
    [
        ("f4", None, (64, 64), 1),  # compressed
        ("f4", None, (64, 32), 2),  # copied out of the block, compressed
        ("u2", None, (64, 64), 3.5),  # two masks, both sides picked out by them, compared
        ("u1", None, (64, 64), 5),
        ("i4", None, (64, 32), 2),
        ("f4", 0.0, (64, 64), 1),
        ("f4", -1.0, (64, 64), 2.75),
    ],
)
def test_packing_a_stored_chunk_takes_memory(
    kind: str, fill: float | None, chunks: tuple[int, int], beside: float
) -> None:
    variable = xr.Variable(("y", "x"), da.zeros((256, 64), chunks=(64, 64), dtype=kind), encoding={"chunks": chunks})
    if fill is not None:
        variable.encoding["fill_value"] = fill
    work = Work.of(xr.Dataset({"a": variable}))
    stored = chunks[0] * chunks[1] * np.dtype(kind).itemsize
    assert packing(work, work.grids[0]) == {"a": beside * stored}


def test_columns_cut_out_of_a_larger_array_are_copied_to_be_written() -> None:
    with dask.config.set(array_plugins=[sizes.remember]):
        made = da.zeros((4 * 1024, 1200), chunks=(1024, 1200), dtype="f4") + 1
        rows, columns = made[100:-100], made[:, 100:-100]
    whole, cut = (plan(xr.Dataset({"a": (("y", "x"), one)})) for one in (rows, columns))
    assert cut.peak_memory - whole.peak_memory > 0.5 * cut.largest_block


def test_results_held_across_grids_are_seen_wherever_they_are() -> None:
    """A sum over all bands is written between two bands: by then half of them are held, whatever the sample."""
    with dask.config.set(array_plugins=[sizes.remember]):
        made = da.zeros((40 * 512, 512), chunks=(512, 512), dtype="f4").map_blocks(np.negative, dtype="f4")
        total = made.sum(axis=0)
    found = plan(xr.Dataset({"a": (("y", "x"), made * 2), "t": (("x",), total)}))
    assert found.peak_memory - PROCESS > 40 * MIB


def test_the_cost_is_known_from_earlier_sessions(tmp_path: Path) -> None:
    assert plan(image(), out=tmp_path / "new.zarr").core_hours is None
    run = tmp_path / "old.zarr.run"
    run.mkdir()
    block = {"variables": {"a": {"nbytes": 4 * MIB}, "m": {"nbytes": MIB}}}
    done = [{"t": 9.0, "event": "done", "block": f"a[{place},0]", "began": 5.0, **block} for place in range(8)]
    untimed = {"t": 1.0, "event": "done", "block": "a[9,0]", "began": 0.5, **block}
    (run / "journal.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [untimed, *done[:7]]))
    assert plan(image(), out=tmp_path / "old.zarr").core_hours is None, "nothing was timed"
    rows = [[0, 0, 4.0, 600.0], [1, 0, 6.0, 1200.0]]
    batch = {"t": 9.0, "event": "tasks", "stages": ["read", "write"], "workers": ["w"], "rows": rows, "memory": {}}
    (run / "tasks.jsonl").write_text(json.dumps(batch) + "\n")
    assert plan(image(), out=tmp_path / "old.zarr").core_hours is None, "seven blocks are too few"
    (run / "journal.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [untimed, *done]))
    found = plan(image(16), out=tmp_path / "old.zarr")
    assert found.core_hours == pytest.approx(2 * 1800 / 3600), "twice the bytes of what took half an hour"
    assert "1 core hours" in str(found)


def test_what_a_function_says_it_needs_is_planned() -> None:
    def make(workspace: int) -> xr.Dataset:
        with dask.annotate(workspace=workspace):
            image = da.map_blocks(np.ones, (64, 32), chunks=((64, 64), (32,)), dtype="f8", meta=np.empty((0, 0)))
        return xr.Dataset({"a": (("y", "x"), image + 1)})

    with dask.config.set(array_plugins=[sizes.remember]):
        quiet, loud = (plan(make(workspace)).peak_memory for workspace in (0, 300 << 20))
    assert loud - quiet == pytest.approx(300 << 20, rel=1e-3)  # elsewhere the two peak at different moments
