"""The predicted peak of a worker against the measured one, for each kind of work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lensflow as lf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")

ATTEMPTS = 3
IDLE: dict[str, int] = {}  # bytes of a worker before its first run, by client
GRAPH = Path(__file__).with_name("large_graph.py")
CASES = [
    *((1, kind) for kind in ("chain", "mean", "std", "columns", "merged", "halo", "pair", "grids", "packed")),
    *((2, kind) for kind in ("chain", "mean", "columns", "pair")),
]


@pytest.fixture(scope="module")
def worker(request: pytest.FixtureRequest) -> Iterator[Client]:
    """One worker process of as many threads as the test asks for."""
    options = {"n_workers": 1, "threads_per_worker": request.param, "memory_limit": "3GiB"}
    with lf.cluster("local", dashboard_address="127.0.0.1:0", **options) as client:
        yield client


@pytest.mark.parametrize(("worker", "kind"), CASES, indirect=["worker"])
def test_the_peak_is_foretold_within_a_fifth(
    worker: Client, kind: str, tmp_path: Path, idle_memory: Callable[..., int]
) -> None:
    """Measured up to three times: a busy machine holds the driver up, and workers then hold what it has not let go."""
    graph = lf.graph(GRAPH)
    lazy = graph(kind=kind)
    plan = lf.plan(lazy, threads=max(worker.nthreads().values()))
    # what a process occupies before its first task is the machine's affair, not the plan's
    idle = IDLE.setdefault(worker.id, idle_memory(worker, "lensflow.engine.write", "xarray", "zarr"))
    predicted, measured = (plan.peak_memory - plan.process + idle) / 2**20, []
    for attempt in range(ATTEMPTS):
        worker.run(graph.verb("forget_peak"))
        run = lf.run(lazy, tmp_path / f"{attempt}.zarr", client=worker, progress=False)
        measured.append(run.blocks.peak_rss.max() / 2**20)
        if 0.8 < predicted / measured[-1] < 1.2:
            return
    pytest.fail(f"predicted {predicted:.0f} MiB at {plan.peak_step}, measured {measured} MiB")
