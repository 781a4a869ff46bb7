"""Ending a run from outside, on whatever host its driver is, or what is left of it where the driver is dead."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lensflow.engine import batch
from lensflow.engine.lock import holder_of
from lensflow.engine.requests import answered, ask_to_stop
from lensflow.engine.submission import Submission, host, starting
from lensflow.engine.workjobs import cancel_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from lensflow.engine.rundir import RunDirectory

ANSWER = 15.0  # s for a driver to say that it has heard
LEAVE = 15.0  # s for a driver that is to stop at once before it is ended by force
SHOWN = 10  # jobs that are named
POLL = 0.1  # s between two looks


def cancel(directory: RunDirectory, *, now: bool = False) -> str:
    """Ask the driver of a run to finish the blocks in flight and end; return what has come of it.

    Parameters
    ----------
    directory
        Of the run.
    now
        Give up the blocks in flight; a driver that does not hear is ended by force, where that can be done from here.
    """
    holder, submission = holder_of(directory.lock), Submission.read(directory)
    if holder:
        said = _stop(directory, holder, submission, now=now)
    elif submission and starting(directory):
        return _before_it_begins(directory, submission, now=now)
    else:
        said = f"no driver is at work on this run{_leftovers(directory)}"
    if waiting := _waiting(submission):
        batch.end([waiting])
        said += f"; SLURM job {waiting}, which was to go on with it, is cancelled"
    return f"{said}."


def _leftovers(directory: RunDirectory) -> str:
    """Cancel what a dead driver has left in SLURM, and say so."""
    left = cancel_left(directory)
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    return f"; what it had left in SLURM is cancelled: {', '.join(left[:SHOWN])}{more}" if left else ""


def _stop(directory: RunDirectory, holder: dict[str, Any], submission: Submission | None, *, now: bool) -> str:
    name = f"process {holder['pid']} on {holder['host']}"
    request = ask_to_stop(directory, str(holder["token"]), now=now)

    def gone() -> bool:
        found = holder_of(directory.lock)
        return found is None or found.get("token") != holder["token"]

    heard = _wait(lambda: answered(directory, request) or gone(), ANSWER)
    if not now:
        if heard:
            return f"the driver ({name}) {'has ended' if gone() else 'finishes the blocks in flight and ends'}"
        return f"the driver ({name}) is asked to end and has not answered yet; --now ends it without more ado"
    if _wait(gone, LEAVE):
        return f"the driver ({name}) has ended"
    if holder["host"] == host():
        _kill(int(holder["pid"]), submission)
        return f"the driver ({name}) did not answer and was ended by force{_leftovers(directory)}"
    if jobs := _running(submission):
        batch.end(jobs)
        return f"the driver ({name}) did not answer; its SLURM job {jobs[0]} is cancelled{_leftovers(directory)}"
    return f"the driver ({name}) does not answer: end process {holder['pid']} on {holder['host']}"


def _running(submission: Submission | None) -> list[str]:
    """Return the SLURM jobs in which a driver that was sent off, or the one it follows, is running."""
    known = [one for one in (submission.job, submission.after) if one] if submission else []
    return [job for job in known if (found := batch.look(job)) and not found.over and found.state != "PENDING"]


def _before_it_begins(directory: RunDirectory, submission: Submission, *, now: bool) -> str:
    """End a driver that holds no lock yet: it has begun nothing that could be lost."""
    if submission.job is not None:
        batch.end([submission.job])
        return f"the driver ({submission}) had not begun and is cancelled."
    ask_to_stop(directory, submission.id, now=now)  # it may begin at this very moment
    process = submission.process()
    if process is None:
        return f"the driver ({submission}) has not begun; it ends when it does."
    process.send_signal(signal.SIGTERM)
    return f"the driver ({submission}) had not begun and is ended."


def _waiting(submission: Submission | None) -> str | None:
    """Return the SLURM job of a driver that waits for its turn."""
    if submission is None or submission.job is None:
        return None
    found = batch.look(submission.job)
    return submission.job if found and found.state == "PENDING" else None


def _kill(pid: int, submission: Submission | None) -> None:
    with suppress(ProcessLookupError):
        if submission and submission.pid == pid:  # leads a group of its own, in which its workers are
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def _wait(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True
