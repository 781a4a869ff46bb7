"""The predicted peak of a worker against the measured one, on fresh worker processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lensflow as lf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")

GRAPH = Path(__file__).with_name("large_graph.py")
CASES = [
    *((kind, 1) for kind in ("chain", "mean", "std", "columns", "merged", "halo", "pair", "grids", "packed")),
    *((kind, 2) for kind in ("chain", "mean", "columns", "pair")),
]


@pytest.fixture(scope="module", params=[1, 2])
def worker(request: pytest.FixtureRequest) -> Iterator[tuple[int, Client]]:
    """One worker process of one or two threads."""
    threads = request.param
    options = {"n_workers": 1, "threads_per_worker": threads, "memory_limit": "3GiB"}
    with lf.cluster("local", dashboard_address="127.0.0.1:0", **options) as client:
        yield threads, client


@pytest.mark.parametrize(("kind", "threads"), CASES, ids=[f"{kind}-{threads}" for kind, threads in CASES])
def test_the_peak_is_foretold_within_a_fifth(
    kind: str, threads: int, worker: tuple[int, Client], tmp_path: Path
) -> None:
    if worker[0] != threads:
        pytest.skip("this case is measured with the other number of threads")
    client = worker[1]
    client.run(forget_peak)
    lazy = lf.graph(GRAPH)(kind=kind)
    plan = lf.plan(lazy, threads=threads)
    run = lf.run(lazy, tmp_path / "out.zarr", client=client, progress=False)
    ratio = plan.peak_memory / run.blocks.peak_rss.max()
    print(f"RATIO {kind} {threads} {ratio:.2f} {plan.peak_memory >> 20}")
    assert 0.8 < ratio < 1.2, f"{kind} on {threads} thread(s): predicted {ratio:.2f} of what was measured"
    assert plan.peak_step
