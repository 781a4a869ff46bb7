"""The SLURM job of a driver: sent off, looked at, ended. Few calls, each with a time limit of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes

from lensflow.engine.slurm import queue
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
}
DRIVER: dict[str, Any] = {"walltime": "1-00:00:00", "memory": "4GiB", "cores": 1}  # where the profile is silent


@dataclass(frozen=True)
class Queued:
    """A job as ``squeue`` tells of it.

    Parameters
    ----------
    job
        Its number.
    state
        SLURM's word, such as PENDING; "" when SLURM has forgotten it.
    reason
        SLURM's reason for it, "" where it gives none.
    left
        Seconds to its limit, None where there is no limit.
    node
        Where it runs.
    """

    job: str
    state: str
    reason: str = ""
    left: float | None = None
    node: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, or is just ending."""
        return not self.state or self.state in OVER

    def __str__(self) -> str:
        return f"{self.state.lower() or 'over'}{f' ({self.reason})' if self.reason else ''}"


def look(job: str) -> Queued | None:
    """Return what SLURM says of a job, None where it does not answer: that is no news of the job."""
    found = look_all([job])
    return None if found is None else found[job]


def look_all(jobs: Sequence[str]) -> dict[str, Queued] | None:
    """Return what SLURM says of jobs, by number, None where it does not answer."""
    try:
        listed = queue.look_up(jobs) if jobs else {}
    except queue.QueueError:
        return None
    return {job: _queued(job, listed.get(job)) for job in jobs}


def _queued(job: str, found: queue.Listed | None) -> Queued:
    if found is None:
        return Queued(job, "")
    return Queued(job, found.state, found.reason if found.reason != "None" else "", found.left, found.node)


def send(script: str, words: Sequence[str]) -> str:
    """Submit a job script with options of ``sbatch`` and return the job's number.

    Raises
    ------
    LensflowError
        If SLURM does not take it; its own sentence is passed on.
    """
    try:
        (job,) = queue.sbatch(script, array=False, words=words)
    except queue.QueueError as error:
        raise LensflowError(f"the driver's job: {error}; what it asks for is in lensflow.driver") from error
    return job


def end(jobs: Sequence[str]) -> None:
    """Cancel jobs; one that has ended already is no matter.

    Raises
    ------
    LensflowError
        If SLURM does not answer.
    """
    if jobs:
        queue.scancel(jobs)


def options(section: Mapping[str, Any], cluster: Mapping[str, Any], *, whole: bool = False) -> list[str]:
    """Return the options of ``sbatch`` for a driver.

    Parameters
    ----------
    section
        ``lensflow.driver`` of the profile: partition, account, walltime, memory, cores, directives.
    cluster
        Options of its cluster: the driver goes to the same partition and account where nothing else is said.
    whole
        Whether the workers are to be in the driver's own job, which then has the size of the cluster.
    """
    size = {key: cluster[key] for key in ("walltime", "memory", "cores", "nodes") if key in cluster} if whole else {}
    place = {"partition": cluster.get("queue"), "account": cluster.get("account")}
    more = {"directives": cluster.get("job_extra_directives")} if whole else {}
    wanted = {**DRIVER, **place, **size, **more, **section}
    spelled = {"partition": "--partition", "account": "--account", "walltime": "--time", "nodes": "--nodes"}
    return [
        *(f"{option}={wanted[key]}" for key, option in spelled.items() if wanted.get(key)),
        f"--mem={parse_bytes(str(wanted['memory'])) >> 20}M",
        "--ntasks-per-node=1",
        f"--cpus-per-task={wanted['cores']}",
        *map(str, wanted.get("directives") or ()),
    ]
