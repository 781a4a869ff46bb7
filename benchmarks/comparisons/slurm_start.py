"""How long an idle SLURM keeps a user waiting: seconds from submitting a run to its first block, and what for.

It starts the tests' own SLURM on this machine. ``lensflow submit`` drives from here (Python's start counts),
``lf.submit`` sends the driver off as a job, whose start comes before that of the workers. A run begins when its first
worker is up; the plan alone is timed by itself. There is no peer; calls of sbatch for 50 workers are counted by a
program of that name which stands before SLURM's own.
"""

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import xarray as xr
import yaml

import lensflow as lf
from lensflow.engine import journal
from lensflow.engine.cluster import profile

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ROOT / "tests" / "engine" / "slow_graph.py"
BANDS, ROUNDS, WORKERS, PATIENCE = 8, 3, 50, 120.0
PROFILES: dict[str, dict[str, Any]] = {
    "slurm": {"jobs": 1, "memory": "2GiB"},
    "slurm-pilot": {"nodes": 1, "memory": "3GiB"},
}
SHIM = """\
#!/bin/sh
date +%s.%N >> {calls}
exec {sbatch} "$@"
"""


def load_sandbox() -> ModuleType:
    """Load the tests' SLURM by path."""
    spec = importlib.util.spec_from_file_location("slurm_sandbox", ROOT / "tests" / "slurm" / "sandbox.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def options(folder: Path) -> dict[str, Any]:
    """Return what this SLURM needs to be told beside a shipped profile; its jobs note when they start."""
    here = {"interface": "lo", "dashboard_address": "127.0.0.1:0", "shared_folder": str(folder / "shared")}
    noting = [f"date +%s.%N >> {folder / 'started'}"]
    return {**here, "cores": 2, "walltime": "00:10:00", "job_script_prologue": noting}


def write_profile(name: str, folder: Path) -> str:
    """Write a profile of this SLURM and return its path."""
    found = profile(name)
    found["lensflow"]["cluster"]["options"] |= options(folder) | PROFILES[name]
    if name == "slurm":
        found["lensflow"]["driver"] = {"walltime": "00:10:00", "memory": "1GiB"}
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    return str(path)


def command_line(folder: Path, where: str) -> None:
    """Run ``lensflow submit`` to its end."""
    words = [str(GRAPH), f"--bands={BANDS}", f"--log={folder / 'log'}", f"--out={folder / 'a.zarr'}"]
    command = [sys.executable, "-m", "lensflow", "submit", *words, f"--cluster={where}", "--json"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


def notebook(folder: Path, where: str) -> None:
    """Send a run off with ``lf.submit`` and wait for its end."""
    lazy = lf.graph(GRAPH)(bands=BANDS, log=str(folder / "log"))
    assert isinstance(lazy, xr.Dataset)
    run = lf.submit(lazy, folder / "a.zarr", cluster=where)
    end = time.monotonic() + PATIENCE
    while run.status.standing in {"starting", "running"} and time.monotonic() < end:
        time.sleep(0.2)
    if run.status.standing != "done":
        raise RuntimeError(str(run.status))


def noted(path: Path) -> list[float]:
    """Return the times that were noted in a file."""
    return [float(line) for line in path.read_text(encoding="ascii").split()]


def measure(submit: Callable[[Path, str], None], name: str, folder: Path, calls: Path) -> dict[str, float]:
    """Submit once; return when what had happened, in seconds since."""
    (folder / "log").mkdir(parents=True)
    calls.unlink(missing_ok=True)
    where = write_profile(name, folder)
    begun = time.time()
    submit(folder, where)
    directory = lf.open_run(folder / "a.zarr").directory
    first = min(one["t"] for one in journal.read(directory.journal) if one["event"] == "done")
    moments = {
        "sbatch": noted(calls)[0],
        "job started": noted(folder / "started")[0],
        "run begun": directory.state().sessions[0]["t"],
        "sbatch of workers": noted(calls)[-1],
        "job of workers started": noted(folder / "started")[-1],
        "worker at work": min(one.stat().st_mtime for one in (folder / "log").iterdir()),
        "first block done": first,
    }
    if len(noted(calls)) == 1:
        del moments["sbatch of workers"], moments["job of workers started"]
    return {what: moment - begun for what, moment in moments.items()}


def plan(folder: Path) -> float:
    """Return the seconds that a plan of the run takes."""
    lazy = lf.graph(GRAPH)(bands=BANDS, log=str(folder))
    assert isinstance(lazy, xr.Dataset)
    begun = time.perf_counter()
    lf.plan(lazy)
    return time.perf_counter() - begun


def calls_for_many(sandbox: ModuleType, folder: Path, calls: Path) -> int:
    """Return how often sbatch is called for a cluster of 50 jobs with a worker each."""
    calls.unlink(missing_ok=True)
    many = {"jobs": WORKERS, "maximum_jobs": WORKERS, "cores": 1, "memory": "1GiB"}
    with lf.cluster("slurm", **options(folder) | many, job_extra_directives=["--begin=now+1hour"]):
        end = time.monotonic() + PATIENCE
        while len(sandbox.queued()) < WORKERS and time.monotonic() < end:
            time.sleep(0.2)
        found = len(sandbox.queued())
    if found != WORKERS:
        raise RuntimeError(f"{found} jobs in the queue, expected {WORKERS}")
    return len(noted(calls))


def compare() -> dict[str, object]:
    """Return the seconds to the first block, and the calls of sbatch for 50 workers; medians of some rounds."""
    sandbox = load_sandbox()
    if lacking := sandbox.missing():
        sys.exit(
            f"slurm-start: SLURM is not installed (no {', '.join(lacking)}): apt-get install slurmctld slurmd munge"
        )
    rows, ways = [], {"lensflow submit": command_line, "lf.submit": notebook}
    with sandbox.Sandbox() as running:
        bin_, calls = running.folder / "bin", running.folder / "calls"
        bin_.mkdir()
        (bin_ / "sbatch").write_text(SHIM.format(calls=calls, sbatch=shutil.which("sbatch")), encoding="ascii")
        (bin_ / "sbatch").chmod(0o755)
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{bin_}:{before}"
        try:
            for way, submit in ways.items():
                for name in PROFILES:
                    rounds = []
                    for number in range(ROUNDS):
                        place = running.folder / f"{name}-{submit.__name__}-{number}"
                        rounds.append(measure(submit, name, place, calls))
                        running.drained()
                    medians = {what: round(statistics.median(one[what] for one in rounds), 2) for what in rounds[0]}
                    rows.append({"way": way, "profile": name, **medians})
            many = calls_for_many(sandbox, running.folder, calls)
        finally:
            os.environ["PATH"] = before
        planning = statistics.median(plan(running.folder) for _ in range(ROUNDS))
    return {
        "name": "slurm-start",
        "ours": {f"{one['way']}, {one['profile']}": one["first block done"] for one in rows},
        "peer": None,
        "ratio": None,
        "seconds_since_submit": rows,
        "plan_seconds": round(planning, 3),
        "sbatch_calls_for_50_workers": many,
        "goal": "one call of sbatch for 50 workers",
        "met": many == 1,
        "conditions": f"an idle SLURM on this machine, TLS on, one job of workers, {BANDS} blocks, medians of {ROUNDS}",
    }
