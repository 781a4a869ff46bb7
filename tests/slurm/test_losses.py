"""Jobs that are taken from a run: their node is lost, or somebody more urgent preempts them; no block is blamed."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import lensflow as lf
from lensflow.engine.journal import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.slurm.conftest import Site
    from tests.slurm.sandbox import Sandbox

sandbox: Any = sys.modules["slurm_sandbox"]
blocks: Any = sys.modules["slurm_blocks"]
COUNT = 60
URGENT = """\
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=urgent Nodes=ALL PriorityTier=10 MaxTime=INFINITE State=UP
"""


def struck_run(site: Site, tmp_path: Path, strike: Callable[[], None], **options: Any) -> list[dict[str, Any]]:
    """Run blocks while something strikes; return the record of the jobs."""
    lazy = blocks.rows(COUNT, blocks.sleeping(0.4), tmp_path)

    def once_it_runs() -> None:
        while len(blocks.begun(tmp_path)) < COUNT // 6:
            time.sleep(0.1)
        strike()

    with site.cluster(adaptive=False, **options) as client:
        thread = threading.Thread(target=once_it_runs)
        thread.start()
        run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
        thread.join()
        (folder,) = site.folders
        record = list(read(folder / "jobs.jsonl"))
    assert run.status.standing == "done"
    assert {one["attempts"] for one in run.directory.state().done.values()} == {1}  # nothing was counted against them
    assert len(blocks.begun(tmp_path)) <= COUNT + 8  # four threads a job, and as many records on their way
    assert run.verify().clean
    return record


def test_a_node_that_is_lost(site: Site, tmp_path: Path) -> None:
    lost: list[str] = []

    def strike() -> None:
        lost.extend(sandbox.ask("squeue", "-h", "-o", "%N").stdout.split()[:1])
        sandbox.ask("scontrol", "update", f"nodename={lost[0]}", "state=down", "reason=lost")

    try:
        record = struck_run(site, tmp_path, strike, jobs=2, maximum_jobs=2, cores=4)
    finally:
        sandbox.ask("scontrol", "update", f"nodename={lost[0]}", "state=resume")
    assert [one for one in record if "NODE_FAIL" in one.get("reason", "")]


@pytest.fixture
def crowded(site: Site) -> Iterator[Sandbox]:
    """Start a SLURM of one node, on which a partition takes precedence."""
    assert site.shared
    with sandbox.Sandbox(nodes=1, extra=URGENT) as running:
        yield running


def test_a_job_that_is_preempted(site: Site, crowded: Sandbox, tmp_path: Path) -> None:
    assert crowded.configuration.exists()

    def strike() -> None:
        words = ("--partition=urgent", "--ntasks=4", "--mem=100", "--output=/dev/null", "--wrap=sleep 5")
        assert sandbox.ask("sbatch", *words).returncode == 0

    record = struck_run(site, tmp_path, strike, jobs=1, maximum_jobs=1, cores=4)
    assert [one for one in record if "PREEMPTED" in one.get("reason", "")]
    assert len({one["job"] for one in record if one["event"] == "met"}) == 2
