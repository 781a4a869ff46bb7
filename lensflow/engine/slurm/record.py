"""The folder of a cluster, which every node sees: what became of its jobs, their logs, its certificates.

Anybody who sees the folder knows the jobs and can cancel them, also when the driver that made them is dead.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensflow.engine.journal import read
from lensflow.engine.slurm.queue import QueueError, look_up, scancel
from lensflow.errors import BadInput, OutputError

if TYPE_CHECKING:
    from distributed import Client

PREFIX = "lensflow-cluster-"
METADATA = "lensflow-cluster"  # where the scheduler keeps what is said of its cluster
LARGE = "large"  # the Dask resource of workers that take blocks for which memory was short elsewhere
OVER = frozenset({"gone"})  # events after which a job is no more


@dataclass(frozen=True)
class JobState:
    """What the record says of a job.

    Parameters
    ----------
    id, phase
        SLURM's number, and submitted, pending, running, met (its workers have come), retiring or gone.
    since
        When that was noted, in s since 1970.
    reason
        Why it waits or why it ended, in SLURM's words.
    node
        Where it runs.
    """

    id: str
    phase: str
    since: float
    reason: str = ""
    node: str = ""


@dataclass(frozen=True)
class Folder:
    """Paths in a cluster's folder."""

    path: Path

    @classmethod
    def make(cls, shared: str | Path) -> Folder:
        """Make a folder for a new cluster, closed to others, below a folder that every node sees."""
        above = shared_path(shared)
        made = cls(above / f"{PREFIX}{time.strftime('%Y%m%d')}-{uuid.uuid4().hex[:8]}")
        try:
            above.mkdir(parents=True, exist_ok=True)
            made.path.mkdir(mode=0o700)
            made.logs.mkdir()
        except OSError as error:
            raise OutputError(
                f"{above}: the cluster's folder cannot be made there ({error.strerror}); set the profile's"
                " shared_folder to one that you can write and every node sees"
            ) from error
        return made

    @property
    def id(self) -> str:
        """The cluster's short name."""
        return self.path.name.removeprefix(PREFIX)

    @property
    def logs(self) -> Path:
        """What jobs said, a file each."""
        return self.path / "logs"

    @property
    def jobs(self) -> Path:
        """What became of jobs, a line an event."""
        return self.path / "jobs.jsonl"

    @property
    def scheduler(self) -> Path:
        """Where the scheduler is, as Dask writes it, and with which certificates it is reached."""
        return self.path / "scheduler.json"

    def log_of(self, job: str) -> Path:
        """Return where a job's words go."""
        return self.logs / f"{job}.log"

    def last_words(self, job: str, most: int = 3) -> list[str]:
        """Return the last lines that a job said."""
        try:
            lines = self.log_of(job).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # it has said nothing
            return []
        return [line.strip() for line in lines if line.strip()][-most:]

    def write_private(self, name: str, text: str) -> Path:
        """Write a file that only its owner can read."""
        path = self.path / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def describe(self, **said: Any) -> None:  # noqa: ANN401 - any JSON value
        """Say whose cluster this is, in ``cluster.json``."""
        known = {"id": self.id, "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        self.write_private("cluster.json", json.dumps({**known, **said}, indent=1))

    def forget_secrets(self) -> None:
        """Remove the certificates and what leads to the scheduler: it is gone; and all, if there never was a job."""
        shutil.rmtree(self.path / "tls", ignore_errors=True)
        self.scheduler.unlink(missing_ok=True)
        (self.path / "dask.json").unlink(missing_ok=True)
        if not self.jobs.exists() or not self.jobs.stat().st_size:
            shutil.rmtree(self.path, ignore_errors=True)


def shared_path(words: str | Path) -> Path:
    """Return the folder that a profile's ``shared_folder`` means."""
    return Path(os.path.expandvars(words)).expanduser().absolute()


def folder_of(client: Client) -> Folder | None:
    """Return the folder of the cluster a client works on, None where it has none."""
    said = client.get_metadata([METADATA], default=None)
    return Folder(Path(said["folder"])) if said else None


def jobs(folder: Path | str) -> dict[str, JobState]:
    """Return where the jobs of a cluster stand, by id, as far as its record says.

    Raises
    ------
    BadInput
        If the folder is none of a cluster.
    """
    path = Folder(Path(folder)).jobs
    if not path.parent.is_dir():
        raise BadInput(f"{folder}: no such folder of a cluster")
    found: dict[str, JobState] = {}
    for entry in read(path):
        job = entry.get("job")
        if job is None:
            continue
        known = found.get(job, JobState(job, "submitted", entry["t"]))
        found[job] = replace(
            known,
            phase=entry["event"],
            since=entry["t"],
            reason=entry.get("reason", ""),
            node=entry.get("node") or known.node,
        )
    return found


def cancel(folder: Path | str) -> list[str]:
    """Cancel every job of a cluster that is not over; return their ids.

    For a cluster whose driver is dead: a living one would submit new jobs.

    Raises
    ------
    QueueError
        If SLURM does not answer.
    """
    left = [job for job, state in jobs(folder).items() if state.phase not in OVER]
    if left:
        scancel(left)
    return left


def pending(folder: Path | str) -> dict[str, str]:
    """Return the jobs that wait and why, asking SLURM; as the record has it where SLURM does not answer."""
    known = jobs(folder)
    alive = [job for job, state in known.items() if state.phase not in OVER]
    try:
        listed = look_up(alive) if alive else {}
    except QueueError:
        return {job: known[job].reason for job in alive if known[job].phase in {"submitted", "pending"}}
    return {job: one.reason for job, one in listed.items() if one.state == "PENDING"}
