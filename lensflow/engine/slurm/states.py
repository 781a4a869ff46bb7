"""The states of jobs in SLURM's words and in the supervisor's, and what the supervisor may ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Phase = Literal["pending", "running", "met", "retiring", "ending"]

ALIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "REQUEUED", "STAGE_OUT"}
WAITING = {"PENDING", "CONFIGURING", "REQUEUED"}
ROBBED = {"CANCELLED", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"}  # whatever the job was doing
TAKEN = {*ROBBED, "TIMEOUT", "DEADLINE", "COMPLETED"}  # not the fault of what its workers computed


@dataclass(frozen=True)
class Job:
    """A job of the cluster; times in s of the clock that only goes forward."""

    id: str
    submitted: float
    phase: Phase = "pending"
    running: float | None = None
    met: float | None = None
    ends: float = math.inf
    retired: float = math.inf
    closing: float = -math.inf
    reason: str = ""
    told: bool = False


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Parameters
    ----------
    do
        ``submit``: ``count`` jobs. ``drain``: give the jobs' workers no more work. ``close``: close their workers
        without loss, then cancel them. ``cancel``: they have no workers yet. ``note``: keep in the record what became
        of a job. ``say``: tell the user. ``stop``: give the cluster up.
    """

    do: Literal["submit", "drain", "close", "cancel", "note", "say", "stop"]
    jobs: tuple[str, ...] = ()
    count: int = 0
    text: str = ""
    phase: str = ""
