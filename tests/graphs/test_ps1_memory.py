"""The predicted peak of a worker that convolves rows of skycells against the measured one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import lensflow as lf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")

SCALE = 12  # 520 px a skycell
TALL_SCALE = 6  # 1040 px a skycell
TALL_COLUMNS = 2
ROW_CHUNKS = 2  # that a worker holds at most, 10 B/px each: a block with its halo, what is written of it, two strips
CONSTANT = 96 << 20  # bytes beside them: rows decoded ahead, slabs of the blur, a stored chunk, what malloc keeps


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows of four cells."""
    folder = tmp_path_factory.mktemp("cells")
    lf.graph("ps1_convolution").verb("simulate")(
        folder, projection=2246, scale=SCALE, weights=False, reuse=True, stars=100, galaxies=0
    )
    return folder


@pytest.mark.parametrize("threads", [1, 2])
def test_the_peak_is_foretold_within_a_fifth(
    cells: Path, threads: int, tmp_path: Path, idle_memory: Callable[..., int]
) -> None:
    lazy = lf.graph("ps1_convolution")(cells, projection=2246, scale=SCALE)
    plan = lf.plan(lazy, threads=threads)
    options = {"n_workers": 1, "threads_per_worker": threads, "memory_limit": "3GiB"}
    with lf.cluster("local", dashboard_address="127.0.0.1:0", **options) as client:
        idle = idle_memory(client, "lensflow.engine.write", "lensflow.ps1.mosaic", "lensflow.ps1.blur", "zarr")
        run = lf.run(lazy, tmp_path / "out.zarr", client=client, progress=False)
    # what a process occupies before its first task is the machine's affair, not the plan's
    assert 0.8 < (plan.peak_memory - plan.process + idle) / run.blocks.peak_rss.max() < 1.2
    assert plan.halo_bytes


def test_the_peak_is_two_row_chunks_whatever_the_number_of_rows(
    tmp_path: Path, idle_memory: Callable[..., int]
) -> None:
    cells = tmp_path / "cells"
    lf.graph("ps1_convolution").verb("simulate")(
        cells,
        projection=2246,
        rows=(0, 10),
        columns=(4, 4 + TALL_COLUMNS),
        scale=TALL_SCALE,
        weights=False,
        reuse=True,
        stars=100,
        galaxies=0,
    )
    peaks = {}
    for rows in (3, 6, 10):
        names = tuple(f"skycell.2246.0{y}{x}" for y in range(rows) for x in range(4, 4 + TALL_COLUMNS))
        lazy = lf.graph("ps1_convolution")(cells, selection=names, halo_cells=False, scale=TALL_SCALE)
        options = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
        with lf.cluster("local", **options) as client:
            idle = idle_memory(client, "lensflow.engine.write", "lensflow.ps1.mosaic", "lensflow.ps1.blur", "zarr")
            run = lf.run(lazy, tmp_path / f"{rows}.zarr", client=client, progress=False)
        assert len(run.blocks) == rows + 1  # the last holds the overlap beyond the last row
        peaks[rows] = run.blocks.peak_rss.max() - idle
        assert peaks[rows] < ROW_CHUNKS * lf.plan(lazy).largest_block + CONSTANT
    # seven rows more, and less than one of them more: what the allocator keeps is a fifth of so small a peak
    assert max(peaks.values()) - min(peaks.values()) < lf.plan(lazy).largest_block, peaks
