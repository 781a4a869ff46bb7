"""What Dask knows of the workers of jobs: one trip to the scheduler for all of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lensflow.engine.slurm.script import job_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distributed import Client


def at_work(client: Client) -> tuple[dict[str, int], int]:
    """Return how many tasks the workers of each job are computing, and how many threads of all are busy."""
    found, busy = client.run_on_scheduler(_at_work)
    tasks: Counter[str] = Counter()
    for worker, count in found:
        if (job := job_of(worker)) is not None:
            tasks[job] += count
    return dict(tasks), int(busy)


def addresses(client: Client, jobs: Iterable[str]) -> list[str]:
    """Return where the workers of some jobs are."""
    wanted = set(jobs)
    return [address for address, name in client.run_on_scheduler(_names) if job_of(name) in wanted]


def _at_work(dask_scheduler: Any = None) -> tuple[list[tuple[str, int]], int]:  # noqa: ANN401 - runs on the scheduler
    workers = dask_scheduler.workers.values()
    busy = sum(min(len(one.processing), one.nthreads) for one in workers)
    return [(str(one.name), len(one.executing)) for one in workers], busy


def _names(dask_scheduler: Any = None) -> list[tuple[str, str]]:  # noqa: ANN401 - runs on the scheduler
    return [(address, str(one.name)) for address, one in dask_scheduler.workers.items()]
