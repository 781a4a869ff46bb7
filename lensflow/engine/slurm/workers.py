"""What Dask knows of the workers of jobs: one trip to the scheduler for all of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from lensflow.engine.slurm.record import LARGE
from lensflow.engine.slurm.script import job_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distributed import Client


class Activity(NamedTuple):
    """What is under way.

    Parameters
    ----------
    tasks
        Tasks that the workers of each job are computing.
    busy
        Threads at work, of all workers.
    enlarged
        Tasks that only a large worker may do: those on such workers, and those that wait for one.
    """

    tasks: dict[str, int]
    busy: int
    enlarged: int = 0


def at_work(client: Client) -> Activity:
    """Ask the scheduler what is under way."""
    found, busy, enlarged = client.run_on_scheduler(_at_work)
    tasks: Counter[str] = Counter()
    for worker, count in found:
        if (job := job_of(worker)) is not None:
            tasks[job] += count
    return Activity(dict(tasks), int(busy), int(enlarged))


def addresses(client: Client, jobs: Iterable[str]) -> list[str]:
    """Return where the workers of some jobs are."""
    wanted = set(jobs)
    return [address for address, name in client.run_on_scheduler(_names) if job_of(name) in wanted]


def _at_work(dask_scheduler: Any = None) -> tuple[list[tuple[str, int]], int, int]:  # noqa: ANN401 - on the scheduler
    workers = dask_scheduler.workers.values()
    busy = sum(min(len(one.processing), one.nthreads) for one in workers)
    begun = [task for one in workers if LARGE in one.resources for task in one.processing]
    enlarged = sum(LARGE in (task.resource_restrictions or ()) for task in [*begun, *dask_scheduler.unrunnable])
    return [(str(one.name), len(one.executing)) for one in workers], busy, enlarged


def _names(dask_scheduler: Any = None) -> list[tuple[str, str]]:  # noqa: ANN401 - runs on the scheduler
    return [(address, str(one.name)) for address, one in dask_scheduler.workers.items()]
