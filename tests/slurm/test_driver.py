"""Drivers that SLURM runs: sent off, watched, followed by another, cancelled, killed; nothing stays in the queue."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xarray as xr
import yaml

import lensflow as lf
from lensflow.cli import main
from lensflow.engine import journal, workjobs
from lensflow.engine.cluster import profile
from lensflow.engine.submission import Submission, starting
from lensflow.engine.why import explain

if TYPE_CHECKING:
    from collections.abc import Callable

GRAPH = Path(__file__).parents[1] / "engine" / "slow_graph.py"
sandbox: Any = sys.modules["slurm_sandbox"]


@pytest.fixture
def where(site: Any, tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a profile of this SLURM and returns its path."""

    def write(walltime: str = "00:10:00", **options: Any) -> str:
        found = profile("slurm")
        wanted = found["lensflow"]
        wanted["cluster"]["options"] |= {**site.options, "cores": 1, "memory": "1GiB", "jobs": 1, **options}
        wanted["driver"] = {"walltime": walltime, "memory": "1G"}
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(found))
        return str(path)

    return write


def lazy(log: Path, *, bands: int = 40, seconds: float = 0.1) -> xr.Dataset:
    (log / "blocks").mkdir(parents=True, exist_ok=True)
    made = lf.graph(GRAPH)(bands=bands, log=str(log), seconds=seconds)
    assert isinstance(made, xr.Dataset)
    return made


def until(true: Callable[[], object], what: str, seconds: float = 150.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def begun(log: Path) -> Counter[int]:
    """Count how often each block was begun."""
    return Counter(int(one.name.split(".")[0]) for one in (log / "blocks").iterdir())


def written(store: Path) -> dict[str, bytes]:
    return {str(one.relative_to(store)): one.read_bytes() for one in store.rglob("*") if one.is_file()}


def at_home(made: xr.Dataset, out: Path) -> dict[str, bytes]:
    """Return the files of an undisturbed run on this machine, where blocks may sleep side by side."""
    with lf.cluster("local", n_workers=1, threads_per_worker=16, dashboard_address="127.0.0.1:0") as client:
        lf.run(made, out, client=client, progress=False)
    return written(out)


def standing(run: lf.Run) -> str:
    return run.status.standing


def over(run: lf.Run) -> bool:
    return run.status.standing not in {"starting", "running"} and starting(run.directory) is None


def test_a_driver_in_a_job_is_watched_and_cancelled(where: Callable[..., str], tmp_path: Path) -> None:
    run = lf.submit(lazy(tmp_path / "log"), tmp_path / "a.zarr", cluster=where(), window=4)
    assert standing(run) == "starting"
    assert "SLURM job" in run.status.driver
    until(lambda: run.status.done >= 3, "three blocks")
    status = run.status
    assert status.standing == "running"
    assert "1 job running" in status.jobs
    assert "127.0.0.1" in str(status.tunnel)
    assert "finishes the blocks in flight" in run.cancel()
    until(lambda: over(run) and not sandbox.queued(), "its end")
    assert standing(run) == "interrupted"
    assert "cancelled by" in explain(run.directory)[0].paragraph
    assert not run.verify().damaged


def test_what_a_killed_driver_leaves_is_told_and_cancelled(where: Callable[..., str], tmp_path: Path) -> None:
    made = lazy(tmp_path / "log", bands=400)
    run = lf.submit(made, tmp_path / "a.zarr", cluster=where(jobs=9, maximum_jobs=9))
    until(lambda: run.status.done >= 3, "three blocks")
    assert any("pending (Resources)" in one or "pending (Priority)" in one for one in run.status.jobs)
    sent = Submission.read(run.directory)
    assert sent is not None
    os.kill(run.directory.state().sessions[-1]["pid"], signal.SIGKILL)  # the nodes of this SLURM are on this machine
    until(lambda: over(run), "the news of its death", 180.0)
    assert standing(run) == "died"
    assert f"SLURM says of job {sent.job}" in explain(run.directory)[0].paragraph
    said = run.cancel()
    assert "what it had left in SLURM is cancelled" in said
    assert workjobs.cancel_left(run.directory) == []


@pytest.mark.parametrize(
    ("held", "end"), [(None, "interrupted"), (10, "died")], ids=["blocks that end in time", "blocks that do not"]
)
def test_a_run_whose_drivers_job_was_cancelled_is_resumed(
    where: Callable[..., str], tmp_path: Path, held: int | None, end: str
) -> None:
    log, out = tmp_path / "log", tmp_path / "a.zarr"
    made, words = lazy(log, bands=32), {"cluster": where(jobs=2), "window": 4}
    if held is not None:
        (log / "hold").write_text(str(held))
    run = lf.submit(made, out, **words)
    sent = Submission.read(run.directory)
    assert sent is not None
    until(lambda: len(begun(log)) >= 12, "twelve blocks begun")
    sandbox.ask("scancel", str(sent.job))  # SIGTERM to all its processes, and SIGKILL to those that are left after 5 s
    until(lambda: over(run), "its end")
    assert standing(run) == end
    before, done = begun(log), set(run.directory.state().done)
    (log / "hold").unlink(missing_ok=True)
    if held is None:
        lf.submit(made, out, **words)
        until(lambda: over(run), "the rest")
    else:
        assert main(["resume", str(out), "--json"]) == 0
    assert standing(run) == "done"
    assert len(run.directory.state().sessions) == 2
    again = {f"smooth[{block},0]" for block, count in begun(log).items() if count > 1}
    lost = {f"smooth[{block},0]" for block in before} - done
    assert bool(lost) is (held is not None)
    assert lost <= again  # those in flight are begun again...
    assert not again & done  # ...and nothing else
    assert len(again) <= (4 if lost else 0)
    assert written(out) == at_home(made, tmp_path / "b.zarr")


def test_a_run_longer_than_its_drivers_job_goes_on_in_the_next(where: Callable[..., str], tmp_path: Path) -> None:
    # at most half a minute of a job is for its blocks of a second, and then for the four in flight: 34 of them
    made, count = lazy(tmp_path / "log", bands=70, seconds=0.5), 70
    run = lf.submit(made, tmp_path / "a.zarr", cluster=where("00:01:00"), chain=9, window=4)
    until(lambda: over(run), "the end", 400.0)
    assert standing(run) == "done"
    reasons = [one["reason"] for one in journal.read(run.directory.events) if one["event"] == "stop"]
    assert len(run.directory.state().sessions) == len(reasons) + 1 >= 3  # one driver after another
    followers = [re.search(r"SLURM job (\d+) follows it", one) for one in reasons]
    assert len({one[1] for one in followers if one}) == len(reasons)
    done = [one["block"] for one in journal.read(run.directory.journal) if one["event"] == "done"]
    assert len(done) == len(set(done)) == count
    assert begun(tmp_path / "log") == Counter(range(count))  # none in vain
    assert written(tmp_path / "a.zarr") == at_home(made, tmp_path / "b.zarr")


def test_a_driver_has_its_workers_in_its_own_job(site: Any, tmp_path: Path) -> None:
    found = profile("slurm-pilot")
    found["lensflow"]["cluster"]["options"] |= {**site.options, "nodes": 2, "memory": "3GiB"}
    (where := tmp_path / "pilot.yaml").write_text(yaml.safe_dump(found))
    run = lf.submit(lazy(tmp_path / "log", seconds=0.05), tmp_path / "a.zarr", cluster=str(where))
    until(lambda: run.status.done >= 1 or over(run), "a block")
    assert len(sandbox.queued()) == 1
    until(lambda: over(run), "the end")
    assert standing(run) == "done"
