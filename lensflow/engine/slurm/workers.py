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
        Blocks that only a large worker may do.
    begun
        Tasks that large workers have been given of these.
    """

    tasks: dict[str, int]
    busy: int
    enlarged: int = 0
    begun: int = 0


def at_work(client: Client) -> Activity:
    """Ask the scheduler what is under way."""
    found, busy, enlarged, begun = client.run_on_scheduler(_at_work)
    tasks: Counter[str] = Counter()
    for worker, count in found:
        if (job := job_of(worker)) is not None:
            tasks[job] += count
    return Activity(dict(tasks), int(busy), int(enlarged), int(begun))


def addresses(client: Client, jobs: Iterable[str]) -> list[str]:
    """Return where the workers of some jobs are."""
    wanted = set(jobs)
    return [address for address, name in client.run_on_scheduler(_names) if job_of(name) in wanted]


def _at_work(dask_scheduler: Any = None) -> tuple[list[tuple[str, int]], int, int, int]:  # noqa: ANN401 - over there
    workers = dask_scheduler.workers.values()
    busy = sum(min(len(one.processing), one.nthreads) for one in workers)
    large = [
        task
        for task in dask_scheduler.tasks.values()
        if LARGE in (task.resource_restrictions or ())
        and task.state in {"waiting", "no-worker", "queued", "processing"}
    ]
    blocks = sum(bool(task.who_wants) and not task.dependents for task in large)  # nothing comes after a block
    begun = sum(task.state == "processing" for task in large)
    return [(str(one.name), len(one.executing)) for one in workers], busy, blocks, begun


def _names(dask_scheduler: Any = None) -> list[tuple[str, str]]:  # noqa: ANN401 - runs on the scheduler
    return [(address, str(one.name)) for address, one in dask_scheduler.workers.items()]
