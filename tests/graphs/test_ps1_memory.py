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
