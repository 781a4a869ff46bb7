"""Why a worker died: of what it computed, or because its job was taken from it. SLURM knows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lensflow.engine.slurm.queue import Listed, QueueError, look_up
from lensflow.engine.slurm.script import job_of
from lensflow.engine.slurm.states import ALIVE, TAKEN

if TYPE_CHECKING:
    from collections.abc import Collection

    from distributed import Client

PATIENCE = 30.0  # s for SLURM to know how a job ended, and for a nanny to start its worker anew
PAUSE = 1.0  # s between two questions


@dataclass(frozen=True)
class Finding:
    """What is known of a death.

    Parameters
    ----------
    suspect
        Whether what the worker computed may have killed it.
    text
        What happened, to follow "its worker's job".
    """

    suspect: bool
    text: str


def find(found: Listed | None, job: str, back: bool) -> Finding | None:  # noqa: FBT001 - a fact like the others
    """Return what follows from the state of a dead worker's job; None while nothing does.

    Parameters
    ----------
    found
        The job as SLURM lists it, None where it knows it no more.
    job
        Its number.
    back
        Whether a worker of the job is there: the job lives, so the worker's process died by itself.
    """
    if found is None:
        return Finding(suspect=False, text=f"{job} is over, and SLURM has forgotten it")
    if found.state in TAKEN:
        return Finding(suspect=False, text=f"{job} ended ({found.state})")
    if found.state in ALIVE:
        return Finding(suspect=True, text=f"{job} lives on") if back else None
    return None if found.state == "COMPLETING" else Finding(suspect=True, text=f"{job} ended ({found.state})")


def inquire(client: Client, worker: str, address: str) -> Finding:
    """Return why a worker of a job died: asks SLURM, waits until that is clear.

    Parameters
    ----------
    client
        Of the cluster.
    worker, address
        Name and address of the dead one.
    """
    job = job_of(worker) or ""
    begun, told = time.monotonic(), ""
    while (waited := time.monotonic() - begun) < PATIENCE:
        try:
            listed = look_up([job])
        except QueueError as error:
            told = f"{job} cannot be asked about ({error})"
        else:
            told = f"{job} went away without a word"
            back = waited > PAUSE and job in _jobs(client.run_on_scheduler(_others, address))
            if (finding := find(listed.get(job), job, back)) is not None:
                return finding
        time.sleep(PAUSE)
    return Finding(suspect=False, text=told)


def _jobs(names: Collection[str]) -> set[str | None]:
    return {job_of(name) for name in names}


def _others(address: str, dask_scheduler: Any = None) -> list[str]:  # noqa: ANN401 - runs on the scheduler
    """Return the names of the workers that have been heard from lately, but for one."""
    recent = time.time() - PATIENCE / 2
    workers = dask_scheduler.workers.items()
    return [str(one.name) for place, one in workers if place != address and one.last_seen > recent]
