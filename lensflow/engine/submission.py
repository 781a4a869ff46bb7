"""How the driver of a run was sent off: kept beside the run, so that it can be found again from anywhere."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import psutil

from lensflow.engine.batch import look
from lensflow.engine.lock import holder_of
from lensflow.engine.rundir import RunDirectory, replace

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 900.0  # s for which a driver that cannot be looked at from here is believed to be starting


@dataclass(frozen=True)
class Submission:
    """A driver that was sent off on its own.

    Parameters
    ----------
    id
        Name of this start of the driver.
    how
        As a process of this machine, or as a job of SLURM.
    t
        When, seconds since 1970.
    user, host, login
        Who sent it off, from where, and through which host others get there.
    command
        What was started.
    offset, sessions
        Size of the log, and how many drivers the journal knew, before: what is of this one begins there.
    pid, started
        The process and the time it was born, of a driver in the background.
    job, options, prologue, after
        The SLURM job, what SLURM was told of it, the lines of its script before the driver's own, and the job it
        follows.
    """

    id: str
    how: Literal["background", "slurm"]
    t: float
    user: str
    host: str
    login: str
    command: tuple[str, ...]
    offset: int
    sessions: int
    pid: int | None = None
    started: float | None = None
    job: str | None = None
    options: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    after: str | None = None

    @classmethod
    def read(cls, directory: RunDirectory) -> Submission | None:
        """Return the last one of a run, None if its driver was never sent off or the record is damaged."""
        try:
            found = json.loads(record(directory).read_text(encoding="utf-8"))
            fields: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in found.items()}
            return cls(**fields)
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
            return None

    def write(self, directory: RunDirectory) -> None:
        """Keep it beside the run."""
        replace(record(directory), json.dumps(asdict(self), indent=1))

    @property
    def is_this_process(self) -> bool:
        """Whether the driver is the process that asks."""
        if self.how == "slurm":
            return self.job is not None and os.environ.get("SLURM_JOB_ID") == self.job
        return self.pid == os.getpid() and self.host == host()

    @property
    def is_here(self) -> bool:
        """Whether its process, if it is one, is of this machine."""
        return self.how == "background" and self.host == host()

    def process(self) -> psutil.Process | None:
        """Return its process, None if that has ended or is of another machine."""
        if not self.is_here or self.pid is None:
            return None
        try:
            found = psutil.Process(self.pid)
            same = self.started is not None and abs(found.create_time() - self.started) < 1.0
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def alive(self) -> bool | None:
        """Whether the driver lives; None where that cannot be seen from here."""
        if self.is_here:
            return self.process() is not None
        found = look(self.job) if self.job is not None else None
        return None if found is None else not found.over

    def may_be_starting(self) -> bool:
        """Whether it may still take the run's lock: what cannot be seen from here is believed for a while."""
        alive = self.alive()
        return time.time() - self.t < PATIENCE if alive is None else alive

    def __str__(self) -> str:
        return f"SLURM job {self.job}" if self.how == "slurm" else f"process {self.pid} on {self.host}"


def last_sent(directory: RunDirectory) -> Submission | None:
    """Return how the last driver of a run was sent off, None if that one was not."""
    found = Submission.read(directory)
    return found if found and len(directory.state().sessions) <= found.sessions + 1 else None


def starting(directory: RunDirectory) -> Submission | None:
    """Return the driver that was sent off and has yet to begin: it holds no lock, has left no session, and may live."""
    found = Submission.read(directory)
    if found is None or len(directory.state().sessions) > found.sessions or holder_of(directory.lock):
        return None
    return found if found.may_be_starting() else None


def record(directory: RunDirectory) -> Path:
    """Return where a run keeps how its driver was sent off."""
    return directory.path / "submission.json"


def output(directory: RunDirectory) -> Path:
    """Return the file that holds what such a driver has printed."""
    return directory.path / "logs" / "driver.out"


def host() -> str:
    """Return this machine's own name."""
    return socket.gethostname()


def user() -> str:
    """Return who runs this process, a number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
