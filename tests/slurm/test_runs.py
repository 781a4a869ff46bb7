"""Runs on a real SLURM: the same bytes as at home, whatever becomes of the jobs."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import lensflow as lf
from lensflow.engine.journal import read
from lensflow.engine.slurm import demand, supervisor
from lensflow.engine.watch import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.slurm.conftest import Site
    from tests.slurm.sandbox import Sandbox

CELLS = {"projection": 2246, "scale": 40, "seed": 3}
sandbox: Any = sys.modules["slurm_sandbox"]
blocks: Any = sys.modules["slurm_blocks"]


def data(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def events(run: lf.Run, kind: str) -> list[dict[str, Any]]:
    return [one for one in read(run.directory.events) if one["event"] == kind]


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Simulate cells and run the graph on this machine."""
    folder = tmp_path_factory.mktemp("home")
    made = lf.graph("ps1_convolution")
    made.verb("simulate")(folder / "cells", **CELLS)
    lazy = made(folder / "cells", projection=2246, scale=40)
    with lf.cluster("local", n_workers=2, dashboard_address="127.0.0.1:0") as client:
        lf.run(lazy, folder / "2246.zarr", client=client, progress=False)
    return folder / "cells", folder / "2246.zarr"


@pytest.mark.parametrize(
    ("profile", "options"), [("slurm", {"jobs": 2}), ("slurm-pilot", {"nodes": 2, "memory": "3GiB"})]
)
def test_ps1_gives_the_bytes_of_a_run_at_home(
    site: Site, at_home: tuple[Path, Path], tmp_path: Path, profile: str, options: dict[str, Any]
) -> None:
    cells, expected = at_home
    lazy = lf.graph("ps1_convolution")(cells, projection=2246, scale=40)
    with site.cluster(profile, **options) as client:
        assert client.scheduler.address.startswith("tls://")
        run = lf.run(lazy, tmp_path / "2246.zarr", client=client, progress=False)
        names = [str(one["name"]) for one in client.scheduler_info(n_workers=-1)["workers"].values()]
    assert run.status.standing == "done"
    assert data(tmp_path / "2246.zarr") == data(expected)
    assert all(name.startswith("slurm-") for name in names)
    (folder,) = site.folders
    assert not (folder / "tls").exists()  # no key outlives its cluster


@contextmanager
def misfortune(strike: Callable[[], None], every: float) -> Iterator[None]:
    """Let something happen every few seconds."""
    over = threading.Event()

    def strikes() -> None:
        while not over.wait(every):
            strike()

    thread = threading.Thread(target=strikes)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_cancelled_jobs_cost_the_blocks_in_flight_and_nothing_else(site: Site, tmp_path: Path) -> None:
    struck: list[str] = []
    lazy = blocks.rows(200, blocks.sleeping(0.2), tmp_path)
    with site.cluster(jobs=3, maximum_jobs=3) as client:

        def strike() -> None:
            names = {str(one["name"]) for one in client.scheduler_info(n_workers=-1)["workers"].values()}
            jobs = sorted({name.split("-")[1] for name in names})
            if len(jobs) > 1 and len(struck) < 6:  # on a slow machine the rest would never come up
                struck.append(random.choice(jobs))
                sandbox.ask("scancel", struck[-1])

        with misfortune(strike, 3.0):
            run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
    assert run.status.standing == "done"
    assert len(struck) >= 3
    assert {one["attempts"] for one in run.directory.state().done.values()} == {1}  # nothing was counted against them
    # of each job two blocks were under way, and two more may have ended whose records were still on the worker
    assert len(blocks.begun(tmp_path)) <= 200 + 4 * len(struck)
    lf.run(blocks.rows(200, blocks.sleeping(0), tmp_path), tmp_path / "b.zarr", progress=False)
    assert data(tmp_path / "a.zarr") == data(tmp_path / "b.zarr")


def test_results_in_memory_survive_scaling_down(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "LINGER", 1.0)

    def stamped(number: int) -> tuple[int, float]:
        return number, time.time()  # not the same when it is computed again

    def slow(number: int) -> int:
        time.sleep(2)
        return number

    with site.cluster(jobs=2) as client:
        client.wait_for_workers(4, timeout=90)
        held = client.map(stamped, range(60), pure=False)
        before = client.gather(held)
        assert len(client.nthreads()) == 4
        running = client.map(slow, range(4), pure=False)
        client.log_event(RUNS, {"run": "r", "event": "begin", "total": 2, "done": [], "quarantined": []})
        end = time.monotonic() + 60
        while len(client.nthreads()) > 2 and time.monotonic() < end:
            time.sleep(0.2)
        assert len(client.nthreads()) == 2  # two blocks are left, and a job has two threads
        assert client.gather(held) == before
        assert client.gather(running) == [0, 1, 2, 3]
        assert all(one.status == "finished" for one in held)


def test_no_block_is_lost_to_a_time_limit(site: Site, tmp_path: Path) -> None:
    lazy = blocks.rows(6, blocks.sleeping(20), tmp_path)
    with site.cluster(jobs=1, walltime="00:01:00", adaptive=False) as client:
        run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
    assert run.status.standing == "done"
    assert sorted(blocks.begun(tmp_path)) == list(range(6))  # none in vain
    (folder,) = site.folders
    record = list(read(folder / "jobs.jsonl"))
    assert len({one["job"] for one in record if one["event"] == "met"}) >= 2
    assert not [one for one in record if "TIMEOUT" in one.get("reason", "")]


@pytest.mark.parametrize(("work", "cause"), [("deadly", "killed"), ("hungry", "memory")])
def test_a_block_that_kills_its_worker_is_tried_alone_where_the_workers_are(
    site: Site, tmp_path: Path, work: str, cause: str
) -> None:
    more = (3 << 30,) if work == "hungry" else ()
    lazy = blocks.rows(12, getattr(blocks, work)(5, *more), tmp_path)
    with site.cluster(jobs=1, maximum_jobs=1) as client:
        run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
    assert run.status.standing == "quarantined"
    state = run.directory.state()
    assert list(state.quarantined) == ["a[5,0]"]  # and nobody else
    entry = state.quarantined["a[5,0]"]
    assert [one["how"] for one in entry["tried"]] == ["worker", "alone"]
    assert entry["cause"] == cause
    assert entry["where"] == "alone on a worker's node"


def test_a_block_without_memory_goes_to_a_large_job(site: Site, tmp_path: Path) -> None:
    lazy = blocks.rows(12, blocks.hungry(5, 3 << 30), tmp_path)
    with site.cluster(jobs=1, maximum_jobs=1, large={"memory": "5GiB"}) as client:
        run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
        (folder,) = site.folders
        sent = [one["job"] for one in read(folder / "jobs.jsonl") if one["event"] == "submitted"]
    assert run.status.standing == "done"
    told = [one["next"] for one in events(run, "retry") if one["block"] == "a[5,0]"]
    assert told == ["alone", "large"]
    assert len(sent) == 2  # a large one, when it was asked for


def test_a_large_job_that_slurm_refuses_costs_the_block_that_needs_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WAIT", 0.5)
    lazy = blocks.rows(6, blocks.hungry(2, 3 << 30), tmp_path)
    with site.cluster(jobs=1, maximum_jobs=1, large={"memory": "999GiB"}) as client:
        run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
    assert run.status.standing == "quarantined"
    (entry,) = run.directory.state().quarantined.values()
    assert [one["how"] for one in entry["tried"]] == ["worker", "alone", "large"]
    assert "Memory specification can not be satisfied" in entry["message"]
    assert len(run.directory.state().done) == 5


def test_a_job_that_is_cancelled_while_a_block_runs_alone_in_it_is_no_proof(site: Site, tmp_path: Path) -> None:
    def work(number: int) -> None:
        if number == 2:
            times = (tmp_path / "begun").read_text().split().count("2")
            if times == 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(15 if times == 2 else 0)  # alone: time enough for somebody to take the job

    def strike() -> None:
        if blocks.begun(tmp_path).count(2) == 2 and not struck:
            struck.extend(line.split()[0] for line in sandbox.queued())
            sandbox.ask("scancel", *struck)

    struck: list[str] = []
    with site.cluster(jobs=1, maximum_jobs=1) as client, misfortune(strike, 0.5):
        run = lf.run(blocks.rows(6, work, tmp_path), tmp_path / "a.zarr", client=client, progress=False)
    assert len(struck) == 1
    assert run.status.standing == "done"
    told = [(one["next"], one["message"]) for one in events(run, "retry") if one["block"] == "a[2,0]"]
    assert [following for following, _ in told] == ["alone", "alone"]
    assert f"job {struck[0]} ended (CANCELLED)" in told[1][1]


def test_a_job_that_slurm_kills_for_its_memory_is_asked_about(site: Site, tmp_path: Path) -> None:
    """Memory outside a worker's sight, in a child process: SLURM kills the whole job. Alone, the child has a limit."""

    def work(number: int) -> None:
        if number == 2:
            import subprocess  # noqa: PLC0415 - runs on the worker

            subprocess.run([sys.executable, "-c", "import time; a = b'1' * (3 << 30); time.sleep(60)"], check=False)

    with site.cluster(jobs=1, maximum_jobs=1) as client:
        run = lf.run(blocks.rows(4, work, tmp_path), tmp_path / "a.zarr", client=client, progress=False)
    assert run.status.standing == "done"
    (retried,) = [one for one in events(run, "retry") if one["block"] == "a[2,0]"]
    assert retried["next"] == "alone"
    assert re.search(r"its worker's job \d+_0 ended \((FAILED|OUT_OF_MEMORY)\)", retried["words"][-1])


def test_a_controller_that_is_away_is_no_death(site: Site, slurm: Sandbox, tmp_path: Path) -> None:
    lazy = blocks.rows(20, blocks.sleeping(0.5), tmp_path)
    with site.cluster(jobs=1, adaptive=False) as client:
        client.wait_for_workers(2, timeout=60)
        slurm.kill_controller()
        run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
        slurm.start_controller()
        time.sleep(3)
    assert sorted(blocks.begun(tmp_path)) == list(range(20))
    assert run.status.standing == "done"
    (folder,) = site.folders
    assert len([one for one in read(folder / "jobs.jsonl") if one["event"] == "submitted"]) == 1


def test_a_killed_worker_of_a_pilot_comes_back(site: Site) -> None:
    def kill_yourself() -> None:
        import os  # noqa: PLC0415 - runs on the worker

        os.kill(os.getppid(), 9)  # the nanny, and with it its workers

    with site.cluster("slurm-pilot", memory="3GiB") as client:
        client.wait_for_workers(2, timeout=60)
        before = set(client.nthreads())
        client.run(kill_yourself, workers=[min(before)], on_error="ignore")
        end = time.monotonic() + 60
        while time.monotonic() < end and len(set(client.nthreads()) - before) < 2:
            time.sleep(0.2)
        assert len(set(client.nthreads()) - before) == 2
