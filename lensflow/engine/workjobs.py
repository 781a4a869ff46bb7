"""The SLURM jobs of a run's workers, as far as their clusters have left records where others see them."""

from __future__ import annotations

import json
import os
import re
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.engine import batch, journal
from lensflow.engine.accounting import ended

if TYPE_CHECKING:
    from distributed import Client

    from lensflow.engine.rundir import RunDirectory

METADATA = "lensflow-cluster"  # what a scheduler knows of the jobs that its workers are
GONE = "gone"  # in a cluster's record: the job is over
NAMED = re.compile(r"worker's job (\d+(?:_\d+)?)")  # as a failure names the job of a worker that died
ORDERLY = ("COMPLETED", "the cluster is closed")  # ends that need no explanation


def remember(directory: RunDirectory, client: Client) -> None:
    """Keep where a run's cluster has its record, once there is a run directory.

    The first jobs may wait for hours before the run begins, and its driver may die meanwhile.
    """
    known = client.get_metadata([METADATA], default=None)
    if not known or not directory.path.is_dir():
        return
    folder = Path(known["folder"])
    if folder not in [one.path for one in clusters(directory)]:
        with journal.Log(_kept(directory)) as log:
            log.append("cluster", folder=str(folder), own=_is_kept_here(folder))


def _kept(directory: RunDirectory) -> Path:
    return directory.path / "clusters.jsonl"


def _is_kept_here(folder: Path) -> bool:
    """Whether this process is the one that keeps a cluster: others only join it."""
    try:
        said = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (said.get("host"), said.get("pid")) == (socket.gethostname(), os.getpid())


@dataclass(frozen=True)
class Cluster:
    """A cluster that a run has used.

    Parameters
    ----------
    path
        Folder of its record.
    own
        Whether the run's driver kept it: another's goes on without that driver.
    """

    path: Path
    own: bool

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Return what was noted last of each of its jobs: the event and the reason."""
        found = {}
        for one in journal.read(self.path / "jobs.jsonl"):
            if "job" in one:
                found[str(one["job"])] = (str(one["event"]), str(one.get("reason") or ""))
        return found

    def left(self) -> list[str]:
        """Return its jobs that are not over, as far as it has noted."""
        return [job for job, (event, _) in self.jobs().items() if event != GONE]


def clusters(directory: RunDirectory) -> list[Cluster]:
    """Return the clusters that a run has used."""
    entries = (one for one in journal.read(_kept(directory)) if one["event"] == "cluster")
    return [Cluster(Path(one["folder"]), bool(one.get("own"))) for one in entries]


def waiting(directory: RunDirectory) -> tuple[str, ...]:
    """Return a line for each kind of jobs that the workers of a run are: how many, and why they wait if they do."""
    jobs = [job for one in clusters(directory)[-1:] for job in one.left()]
    listed = batch.look_all(jobs)
    if listed is None:
        return (f"SLURM does not answer; {len(jobs)} jobs by the record",)
    told = Counter(str(one) for one in listed.values() if not one.over)
    return tuple(f"{count} {'job' if count == 1 else 'jobs'} {one}" for one, count in sorted(told.items()))


def cancel_left(directory: RunDirectory) -> list[str]:
    """Cancel what a dead driver has left in SLURM; return the jobs.

    Raises
    ------
    LensflowError
        If SLURM does not answer.
    """
    jobs = [job for one in clusters(directory) if one.own for job in one.left()]
    listed = batch.look_all(jobs)
    left = [job for job in jobs if listed is None or not listed[job].over]
    batch.end(left)
    return left


def accounts(*told: object) -> str:
    """Return sentences of what SLURM's accounting knows of the workers' jobs that are named in what was told."""
    jobs = NAMED.findall(json.dumps(told, default=str))
    return "".join(f" {one}." for one in ended(jobs).values())


def lost(directory: RunDirectory) -> str:
    """Return sentences of the jobs of a run's last cluster that ended before they should, "" if there are none."""
    noted = [one.jobs() for one in clusters(directory)[-1:]]
    gone = {
        job: reason or GONE
        for jobs in noted
        for job, (event, reason) in jobs.items()
        if event == GONE and not any(one in reason for one in ORDERLY)
    }
    told = {job: str(one) for job, one in ended(gone).items()}
    counted = Counter(reason for job, reason in gone.items() if job not in told)
    more = [f"{count} {'job' if count == 1 else 'jobs'} of its workers ended: {one}" for one, count in counted.items()]
    return "".join(f" {one}." for one in [*told.values(), *more])
