"""Why a run is not what it should be, joined with what SLURM's own accounting says: nothing here is recorded."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import yaml

import lensflow as lf
from lensflow.engine.accounting import ended
from lensflow.engine.cluster import profile
from lensflow.engine.submission import Submission, starting
from lensflow.engine.why import explain

GRAPH = Path(__file__).parents[1] / "engine" / "slow_graph.py"
blocks: Any = sys.modules["slurm_blocks"]


def options(folder: Path) -> dict[str, Any]:
    where = {"interface": "lo", "dashboard_address": "127.0.0.1:0", "shared_folder": str(folder / "shared")}
    return {**where, "cores": 1, "memory": "1GiB", "walltime": "00:10:00", "jobs": 1, "maximum_jobs": 1}


def starved(folder: Path) -> lf.Run:
    """Return a run whose driver was killed for its memory before it could begin."""
    found = profile("slurm")
    found["lensflow"]["cluster"]["options"] |= options(folder)
    found["lensflow"]["driver"] = {"walltime": "00:10:00", "memory": "20MiB"}
    (where := folder / "site.yaml").write_text(yaml.safe_dump(found))
    lazy = lf.graph(GRAPH)(bands=4, seconds=0.0)
    run = lf.submit(lazy, folder / "a.zarr", cluster=str(where))
    end = time.monotonic() + 90
    while starting(run.directory) and time.monotonic() < end:
        time.sleep(0.2)
    return run


def told(run: lf.Run) -> str:
    """Return what is said of the end of a run's driver, once SLURM has noted it."""
    sent = Submission.read(run.directory)
    assert sent is not None
    assert sent.job is not None
    end = time.monotonic() + 20
    while sent.job not in ended([sent.job]) and time.monotonic() < end:
        time.sleep(0.2)
    return explain(run.directory)[0].paragraph.replace(f"job {sent.job} ", "job N ")


def test_a_driver_that_was_killed_for_its_memory(bookkeeper: Any, tmp_path: Path) -> None:
    assert bookkeeper.folder.is_dir()
    said = told(starved(tmp_path))
    assert said.startswith("Its driver ended before the run began. SLURM says of job N on n1: ")
    assert re.search(r"on n1: (FAILED|OUT_OF_MEMORY), signal 9, peak memory [\d.]+ MiB\. Mend", said)


def test_where_no_accounts_are_kept(slurm: Any, tmp_path: Path) -> None:
    """SLURM's line on a job that is complete has no memory."""
    assert slurm.folder.is_dir()
    said = told(starved(tmp_path))
    assert re.search(r"SLURM says of job N on n\d: (FAILED|OUT_OF_MEMORY), signal 9\. Mend", said)


def test_a_block_whose_workers_job_was_killed_for_its_memory(bookkeeper: Any, tmp_path: Path) -> None:
    """Memory outside a worker's sight, in a child process: SLURM kills the whole job, and knows how much it was."""
    assert bookkeeper.folder.is_dir()

    def work(number: int) -> None:
        if number == 1:
            import subprocess  # noqa: PLC0415 - runs on the worker

            subprocess.run([sys.executable, "-c", "import time; a = b'1' * (3 << 29); time.sleep(60)"], check=False)

    lazy = blocks.rows(3, work, tmp_path)
    with lf.cluster("slurm", **options(tmp_path)) as client:
        run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False)
    said = explain(run.directory, "a[1,0]")[0].paragraph
    found = re.search(r"SLURM says of job \d+_0 on n1: (FAILED|OUT_OF_MEMORY), signal 9, peak memory (\S+) GiB\.", said)
    assert found is not None, said
    assert 1 <= float(found[2]) < 2.5  # more than it may have; when it was looked at last
