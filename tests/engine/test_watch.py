"""The scheduler's side of a run: its tasks are timed and nobody else's; workers that hang or die are told."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lensflow as lf
from lensflow.engine.journal import read
from lensflow.engine.report.stages import Timings
from lensflow.engine.watch import Watch, install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

SLOW = Path(__file__).parent / "slow_graph.py"


@pytest.fixture
def own() -> Iterator[Client]:
    """Give a cluster whose workers a test may harm."""
    with lf.cluster("local", n_workers=2, memory_limit="1GiB", dashboard_address="127.0.0.1:0") as client:
        yield client


def test_every_task_of_a_run_is_timed_and_no_other(client: Client, tmp_path: Path) -> None:
    begun = time.time()
    others = client.map(lambda place: place, range(50), pure=False)
    run = lf.run(lf.graph(SLOW)(bands=12, seconds=0.01), tmp_path / "a.zarr", client=client)
    client.gather(others)
    found = Timings.read(run.directory.tasks)
    assert len(found.rows) == run.directory.describe()["plan"]["tasks"]
    assert set(found.names) >= {"write-smooth", "overlap"}
    assert not any("lambda" in name for name in found.names)
    assert set(found.workers) <= client.scheduler_info(n_workers=-1)["workers"].keys()
    assert (found.rows[:, 2] >= begun - 1).all()
    assert (found.rows[:, 2] + found.rows[:, 3] <= time.time() + 1).all()
    assert found.rows[:, 3].max() >= 0.01
    assert max(found.memory_peaks().values()) > 2**20


def test_it_is_put_there_once(client: Client) -> None:
    assert install(client)
    first = client.run_on_scheduler(lambda dask_scheduler: id(dask_scheduler.plugins["lensflow"]))
    assert install(client)
    assert client.run_on_scheduler(lambda dask_scheduler: id(dask_scheduler.plugins["lensflow"])) == first
    assert Watch.name == "lensflow"


def test_when_no_run_is_active_nothing_beats(client: Client, tmp_path: Path) -> None:
    lf.run(lf.graph(SLOW)(bands=3), tmp_path / "a.zarr", client=client)
    assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["lensflow"].board.active) == []


def test_a_worker_that_is_stopped_is_told_and_started_anew(own: Client, tmp_path: Path) -> None:
    pids = own.run(os.getpid)

    def stop() -> None:
        end = time.monotonic() + 60
        while not any(one["event"] == "done" for one in read(tmp_path / "a.zarr.run" / "journal.jsonl")):
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(next(iter(pids.values())), signal.SIGSTOP)

    threading.Thread(target=stop).start()
    run = lf.run(lf.graph(SLOW)(bands=30, seconds=0.1), tmp_path / "a.zarr", client=own, timeout=8.0, window=4)
    assert run.status.standing == "done"
    assert run.verify().clean
    hung = [one for one in read(run.directory.events) if one["event"] == "worker" and one["what"] == "hung"]
    assert [one["worker"] for one in hung] == [next(iter(pids))]


def test_a_worker_that_dies_at_work_is_told(own: Client, tmp_path: Path) -> None:
    pids: dict[str, Any] = own.run(os.getpid)

    def kill() -> None:
        end = time.monotonic() + 60
        while not (tmp_path / "a.zarr.run" / "tasks.jsonl").exists() or not any(
            one["rows"] for one in read(tmp_path / "a.zarr.run" / "tasks.jsonl")
        ):
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(next(iter(pids.values())), signal.SIGKILL)

    threading.Thread(target=kill).start()
    run = lf.run(lf.graph(SLOW)(bands=30, seconds=0.2), tmp_path / "a.zarr", client=own)
    assert run.status.standing == "done"
    died = [one["worker"] for one in read(run.directory.events) if one["event"] == "worker" and one["what"] == "died"]
    assert died == [next(iter(pids))]
