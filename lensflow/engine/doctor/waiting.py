"""Why a worker of a SLURM cluster has not come: its job waits, runs unheard, or has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, fix, warn
from lensflow.engine.site.ask import Answer, ask
from lensflow.engine.slurm.causes import CAUSES
from lensflow.engine.slurm.record import OVER, PREFIX, jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUBJECT = "canary"
TAIL = 4096  # bytes of a job's log that are read
TURN = {"Resources", "Priority", "None", "BeginTime", "Dependency", "JobArrayTaskLimit", "Licenses"}  # waiting in line
HELD = ("QOSMax", "QOSGrp", "AssocMax", "AssocGrp")  # until other jobs of the user or the group have ended


def over(folder: Path) -> bool:
    """Whether a job of a cluster has ended, as far as its record says."""
    return any(one.phase in OVER for one in jobs(folder).values())


def late(folder: Path, address: str, told: str, asked: Callable[..., Answer] = ask) -> Finding:
    """Say why no worker came from the jobs of a cluster.

    Parameters
    ----------
    folder
        The cluster's folder, with the logs of its jobs.
    address
        Where the scheduler listens.
    told
        What is known already: that none came, and for how long it was waited.
    asked
        Runs a command of SLURM.
    """
    name = f"lensflow-{folder.name.removeprefix(PREFIX)}"
    answer = asked("squeue", "--noheader", f"--name={name}", "--format=%i|%T|%r|%N")
    if not answer.good:
        return fix(SUBJECT, f"{told}, and {answer.problem}", "squeue --me")
    listed = [line.split("|", 3) for line in answer.text.splitlines() if line.count("|") >= 3]
    said = _meant(last_words(folder))
    for job, state, _, node in listed:
        if state in {"RUNNING", "COMPLETING", "CONFIGURING"}:
            found = f"{told}; its job {job} is {state.lower()} on {node.strip()} and not heard of at {address}{said}"
            remedy = "interface: one that the nodes reach, in the profile; or no firewall between them and this host"
            return fix(SUBJECT, found, remedy)
    for job, _, reason, _ in listed:
        found = f"{told}; its job {job} waits ({reason})"
        if reason in TURN or reason.startswith(HELD):
            return warn(SUBJECT, found, "lensflow doctor --wait 3600, or a smaller job: cores, memory, walltime")
        return fix(SUBJECT, found, f"scontrol show job {job.partition('_')[0]}, and the profile's line on {reason}")
    return fix(SUBJECT, f"{told}; its job has ended{said}", f"the job's log, in {folder / 'logs'}")


def last_words(folder: Path) -> str:
    """Return the last line of the newest log of a cluster's jobs, as the end of a sentence."""
    logs = sorted(folder.glob("logs/*"), key=lambda path: path.stat().st_mtime)
    for path in reversed(logs):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
        if lines:
            return f"; its log ends: {lines[-1].strip()}"
    return ""


def _meant(said: str) -> str:
    """Add to the last words of a job what they probably mean."""
    cause = next((cause for sign, cause in CAUSES.items() if sign in said.lower()), "")
    return f"{said}; likely cause: {cause}" if cause else said
