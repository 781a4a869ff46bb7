"""The words spoken with SLURM: sbatch, squeue, scancel, with time limits, and SLURM's own message where they fail."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ASKING = 15.0  # s for squeue and scancel; a busy controller takes a few
SUBMITTING = 60.0  # s for sbatch
LONGEST_ARRAY = 1000  # jobs in one sbatch; SLURM's own default limit (MaxArraySize) is 1001
LIST = ("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%L|%N|%r")  # id, state, left, nodes, reason
NEVER_MIND = re.compile(r"Invalid job id|already completing or completed", re.IGNORECASE)
PASSING = re.compile(r"unable to contact|timed out|temporarily|connection|communication|slurmctld", re.IGNORECASE)
INHERITED = ("SLURM_CONF", "SLURM_CLUSTERS")  # of the variables that SLURM sets: jobs must not inherit a job's sizes
HINTS = {  # what SLURM says: the option of the profile that is wrong
    r"qos": "job_extra_directives (--qos)",
    r"partition": "queue",
    r"account": "account",
    r"time limit|walltime": "walltime",
    r"memory": "memory",
    r"node configuration|cpu count|more processors": "cores and memory",
    r"array": "array (false sends one sbatch a job)",
    r"invalid option|unrecognized option": "job_extra_directives",
}


class QueueError(LensflowError, OSError):
    """SLURM did not do what it was asked; ``passing`` says whether asking again may help."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True)
class Listed:
    """A job as squeue lists it.

    Parameters
    ----------
    state
        In SLURM's words: PENDING, RUNNING, TIMEOUT, ...
    left
        Seconds until its time limit, None where there is none.
    node
        Where it runs, "" before.
    reason
        Why it waits, or why it ended.
    """

    state: str
    left: float | None = None
    node: str = ""
    reason: str = ""


def squeue(name: str) -> dict[str, Listed]:
    """Return this user's jobs of a name, by id; those that ended within the last minutes as well.

    Raises
    ------
    QueueError
        If SLURM does not answer: then nothing is known, and nothing must be concluded.
    """
    return _parsed(_ask(*LIST, f"--user={getpass.getuser()}", f"--name={name}"))


def look_up(jobs: Iterable[str]) -> dict[str, Listed]:
    """Return what SLURM still knows of some jobs, by id; one that ended long ago is missing.

    Raises
    ------
    QueueError
        If SLURM does not answer.
    """
    wanted = sorted(set(jobs))
    try:
        words = _ask(*LIST, f"--jobs={','.join(wanted)}")
    except QueueError as error:
        if NEVER_MIND.search(str(error)):  # one job alone, and forgotten
            return {}
        raise
    return {job: found for job, found in _parsed(words).items() if job in wanted}


def sbatch(script: str, count: int = 1, *, array: bool = True, words: Sequence[str] = ()) -> list[str]:
    """Submit a job script ``count`` times and return the ids of the jobs: one call, as an array, unless told otherwise.

    Raises
    ------
    QueueError
        If SLURM refuses; its message is passed on, with the option of the profile that it is about.
    """
    if not array:
        return [_submitted(script, *words) for _ in range(count)]
    ids: list[str] = []
    while len(ids) < count:
        size = min(count - len(ids), LONGEST_ARRAY)
        first = _submitted(script, *words, f"--array=0-{size - 1}")
        ids += [f"{first}_{place}" for place in range(size)]
    return ids


def scancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended are no matter.

    Raises
    ------
    QueueError
        If SLURM does not answer.
    """
    wanted = sorted(set(jobs))
    for start in range(0, len(wanted), LONGEST_ARRAY):
        try:
            _ask("scancel", *wanted[start : start + LONGEST_ARRAY])
        except QueueError as error:
            if not NEVER_MIND.search(str(error)):
                raise


def seconds(text: str) -> float | None:
    """Return a duration in SLURM's notation, ``D-HH:MM:SS`` and shorter, in s; None for UNLIMITED and the like.

    As squeue writes it: two numbers are minutes and seconds.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if not found:
        return None
    days, hours, minutes, rest = (int(one or 0) for one in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def _submitted(script: str, *words: str) -> str:
    try:
        said = _ask("sbatch", "--parsable", *words, stdin=script, limit=SUBMITTING)
    except QueueError as error:
        raise QueueError(f"{error}{_hint(str(error))}", passing=error.passing) from error
    return said.strip().splitlines()[-1].partition(";")[0]


def _hint(message: str) -> str:
    option = next((option for words, option in HINTS.items() if re.search(words, message, re.IGNORECASE)), None)
    return f"; the profile's line to change is {option}" if option else ""


def _parsed(lines: str) -> dict[str, Listed]:
    found = {}
    for line in lines.splitlines():
        job, state, left, node, reason = (*line.split("|", 4), "", "", "", "")[:5]
        found[job.strip()] = Listed(state.strip(), seconds(left), node.strip(), reason.strip())
    return found


def _ask(*words: str, stdin: str | None = None, limit: float = ASKING) -> str:
    """Run one of SLURM's commands and return what it said."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key in INHERITED}
    try:
        done = subprocess.run(  # noqa: S603 - SLURM's own commands
            words, input=stdin, capture_output=True, text=True, timeout=limit, env=kept, check=False
        )
    except FileNotFoundError as error:
        raise QueueError(f"{words[0]}: not found; is SLURM used from this machine?", passing=False) from error
    except subprocess.TimeoutExpired as error:
        raise QueueError(f"{words[0]}: SLURM did not answer within {limit:g} s", passing=True) from error
    if done.returncode:
        said = [line.removeprefix(f"{words[0]}: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        message = "; ".join(filter(None, said)) or f"exit code {done.returncode}"
        raise QueueError(f"{words[0]}: SLURM says: {message}", passing=bool(PASSING.search(message)))
    return done.stdout
