"""The SLURM job of a driver: sent off, looked at, ended. Few calls, each with a time limit of its own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes

from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 20.0  # s for a command of SLURM; a busy controller takes some
GONE = ("Invalid job id",)  # what squeue says of a job that ended a while ago
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
}
KEPT = {"SLURM_CONF", "SLURM_CLUSTERS"}
FORMAT = "%i|%T|%L|%N|%r"
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
    found = {job: Queued(job, "") for job in jobs}
    if not jobs:
        return found
    try:
        done = _call("squeue", "-h", "--array", "-t", "all", "-j", ",".join(jobs), "-o", FORMAT)
    except LensflowError:
        return None
    if done.returncode != 0:
        return found if any(one in done.stderr for one in GONE) else None
    for number, state, left, node, reason in (line.split("|", 4) for line in done.stdout.splitlines()):
        if number in found:
            found[number] = Queued(number, state, reason if reason != "None" else "", seconds(left), node)
    return found


def seconds(text: str) -> float | None:
    """Return the seconds that SLURM spells ``1-02:03:04``, ``03:04`` or ``4``; None for no limit."""
    days, _, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if not all(one.isdigit() for one in [*parts, days or "0"]):
        return None
    total = 0
    for one in parts:
        total = 60 * total + int(one)
    return float(86400 * int(days or 0) + total)


def send(script: str, words: Sequence[str]) -> str:
    """Submit a job script with options of ``sbatch`` and return the job's number.

    Raises
    ------
    LensflowError
        If SLURM does not take it; its own sentence is passed on.
    """
    done = _call("sbatch", "--parsable", *words, stdin=script)
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise LensflowError(f"SLURM did not take the driver's job ({said}); see lensflow.driver in the profile")
    return done.stdout.strip().partition(";")[0]


def end(jobs: Sequence[str]) -> None:
    """Cancel jobs; one that has ended already is no matter.

    Raises
    ------
    LensflowError
        If SLURM does not answer.
    """
    if jobs:
        done = _call("scancel", *jobs)
        if done.returncode != 0 and not any(one in done.stderr for one in GONE):
            raise LensflowError(f"scancel {' '.join(jobs)}: {' '.join(done.stderr.split())}; try again")


def _call(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    # what SLURM has set for a job would be taken for options of the jobs that this one sends off
    outside = {key: one for key, one in os.environ.items() if not key.startswith("SLURM_") or key in KEPT}
    try:
        return subprocess.run(  # noqa: S603 - commands of SLURM, found as the user would find them
            words, input=stdin, capture_output=True, text=True, check=False, timeout=LIMIT, env=outside
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no answer within {LIMIT:.0f} s"
        raise LensflowError(f"{words[0]}: {reason}; do this on a host that has SLURM") from error


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
