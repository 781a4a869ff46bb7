"""Runs longer than a job may last: the driver's SLURM job is followed by another that goes on where it stopped."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from lensflow.engine import batch
from lensflow.engine.deadline import Deadline, own_job
from lensflow.engine.detach import in_slurm
from lensflow.engine.submission import Submission
from lensflow.errors import BadOption, LensflowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lensflow.engine.rundir import RunDirectory


def check(directory: RunDirectory, chain: int) -> None:
    """Refuse a chain where there is nothing to continue.

    Raises
    ------
    BadOption
        If this driver was not sent off to SLURM.
    """
    if chain and _own(directory) is None:
        raise BadOption(
            f"--chain {chain}: found a driver that was not sent off to SLURM, expected one that was, for its job is"
            " what the next follows; add --detach, and a SLURM profile with --cluster"
        )


def _own(directory: RunDirectory) -> Submission | None:
    """Return how this very driver was sent off to SLURM, None if it was not."""
    found = Submission.read(directory)
    return found if found and found.how == "slurm" and found.is_this_process else None


def follow(directory: RunDirectory, chain: int, needed: Callable[[], float]) -> Deadline | None:
    """Return what watches over the end of the driver's own SLURM job, None where it runs in none.

    Parameters
    ----------
    directory
        Of the run.
    chain
        How many more drivers may follow.
    needed
        Tells the seconds that the blocks in flight need.

    Raises
    ------
    BadOption
        If others are to follow a driver that was not sent off to SLURM.
    """
    check(directory, chain)
    job = own_job()
    if job is None:
        return None
    return Deadline(job, partial(_left, job), needed, partial(_succeed, directory, job, chain))


def _left(job: str) -> float | None:
    """Return the seconds left of a job: as squeue has it, for limits are changed, else as the job was told."""
    found = batch.look(job)
    if found and not found.over:
        return found.left
    told = os.environ.get("SLURM_JOB_END_TIME", "")
    return int(told) - time.time() if told.isdigit() else None


def _succeed(directory: RunDirectory, job: str, chain: int) -> str:
    """Send off a driver that begins when this one's job is over, and return what is to be said of it."""
    own = _own(directory)
    if chain < 1 or own is None:
        return "resume the run when it has ended"
    told = [one for one in own.command[1:] if not one.startswith("--chain=")]
    words = [*told, f"--chain={chain - 1}"]  # submitting again resumes; of two such words the last counts
    try:
        submission = in_slurm(directory, words, own.options, own.prologue, after=job)
    except LensflowError as error:
        return f"no other could be sent off to follow it ({error}): resume the run when it has ended"
    return f"{submission} follows it"


def withdraw(directory: RunDirectory) -> None:
    """Cancel a successor that finds nothing left to do."""
    found = Submission.read(directory)
    if found and found.job and own_job() is not None and found.after == own_job():
        batch.end([found.job])
