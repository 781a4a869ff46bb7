"""Workers that hang are started anew; blocks for which memory was short find a worker with more of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import LocalCluster, Nanny

import lensflow as lf
from lensflow.engine.journal import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from distributed import Client


def rows(function: Callable[..., np.ndarray]) -> xr.Dataset:
    lazy = da.map_blocks(function, chunks=((2,) * 12, (3,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    return xr.Dataset({"a": (("y", "x"), lazy)})


@pytest.fixture
def own() -> Iterator[Client]:
    """Give a cluster whose workers a test may harm."""
    with lf.cluster("local", n_workers=2, memory_limit="1GiB", dashboard_address="127.0.0.1:0") as client:
        yield client


def test_a_block_for_which_memory_is_short_goes_to_a_large_worker(tmp_path: Path) -> None:
    def hungry(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        if block_id[0] == 5 and "TEST_IS_LARGE" not in os.environ:
            raise MemoryError("too large for this worker")
        return np.full((2, 3), block_id[0], "f4")

    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with LocalCluster(memory_limit="1GiB", silence_logs=50, **options) as cluster, cluster.get_client() as client:
        large = {"nthreads": 1, "memory_limit": "2GiB", "resources": {"large": 1}, "env": {"TEST_IS_LARGE": "1"}}
        cluster.worker_spec["large"] = {"cls": Nanny, "options": {**large, "silence_logs": 50}}
        cluster.scale(2)
        cluster.sync(cluster._correct_state)
        client.wait_for_workers(2, timeout=30)
        run = lf.run(rows(hungry), tmp_path / "a.zarr", client=client)
    assert run.status.standing == "done"
    tried = [one["next"] for one in read(run.directory.events) if one["event"] == "retry"]
    # it may have been sent to the large worker by chance at first
    assert tried in ([], ["alone", "large"])


def test_a_sleeping_block_is_found_and_blamed_alone(own: Client, tmp_path: Path) -> None:
    def asleep(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        if block_id[0] == 5:
            time.sleep(3600)
        time.sleep(0.02)
        return np.full((2, 3), block_id[0], "f4")

    run = lf.run(rows(asleep), tmp_path / "a.zarr", client=own, timeout=3.0)
    assert run.failed.block.tolist() == ["a[5,0]"]
    assert "step write-a did not end within 3 s" in run.failed.message[0]
    (hung,) = [one for one in read(run.directory.events) if one["event"] == "worker" and one["what"] == "hung"]
    assert hung["blocks"] == ["a[5,0]"]
    entry = run.directory.state().quarantined["a[5,0]"]
    assert [one["how"] for one in entry["tried"]] == ["worker", "alone"]
    assert entry["cause"] == "time"
    assert any("in asleep" in line for line in entry["words"])
