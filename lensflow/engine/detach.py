"""A driver that outlives the terminal: sent off as a process of its own, or as a job of SLURM, and found again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
import yaml

from lensflow.engine.batch import send
from lensflow.engine.cluster import profiles
from lensflow.engine.jobs import ENGINE, PREFIX, words_of
from lensflow.engine.lock import holder_of
from lensflow.engine.submission import Submission, host, output, starting, user
from lensflow.engine.tunnel import full_name, login_host
from lensflow.errors import OutputError, RunLocked
from lensflow.events import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lensflow.engine.jobs import Job
    from lensflow.engine.rundir import RunDirectory

PROGRAM = (sys.executable, "-m", "lensflow")
POLL = 0.1  # s between two looks at a driver that starts
PROMPT = {"PYTHONUNBUFFERED": "1"}  # what the driver says is in its log when it is said

_children: list[subprocess.Popen[bytes]] = []  # kept, for one that ends is to be told from one that lives


def write_job(directory: RunDirectory, job: Job) -> Path:
    """Write a job as a file that ``lensflow submit`` takes, beside the run, and return its path."""
    words = {"graph": job.graph.reference, **plain(job.arguments)}
    for one in ENGINE.entries:
        value = plain(getattr(job.settings, one.name))
        if value is not None:
            words[one.name] = value
    words["out"] = str(directory.out)
    if (place := Path(job.settings.cluster)).exists() and job.settings.cluster not in profiles():
        words["cluster"] = str(place.absolute())
    path = directory.path / "job.yaml"
    path.write_text(yaml.safe_dump(words, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def variables(job: Job) -> list[str]:
    """Return the environment's variables that hold words of a job: its file has them, and is not to be overruled."""
    words = {PREFIX + one.name.upper() for one in words_of(job.graph).entries}
    return sorted(words & os.environ.keys())


def prepare(directory: RunDirectory) -> None:
    """Make the run directory of a driver that is to be sent off.

    Raises
    ------
    RunLocked
        If another driver is at work on the run, or about to be.
    OutputError
        If the directory cannot be made.
    """
    if holder := holder_of(directory.lock):
        raise RunLocked(
            f"{directory.out}: being written by process {holder['pid']} on {holder['host']} since {holder['since']};"
            f" wait for it, or stop it with `lensflow cancel {directory.out}`"
        )
    if before := starting(directory):
        raise RunLocked(
            f"{directory.out}: a driver sent off by {before.user}@{before.host} ({before}) is about to begin; wait for"
            f" it, or stop it with `lensflow cancel {directory.out}`"
        )
    try:
        output(directory).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{directory.path}: cannot be made ({error.strerror}); choose another --out") from error


def in_background(directory: RunDirectory, words: Sequence[str], *, without: Sequence[str] = ()) -> Submission:
    """Start a driver as a process of this machine with a session of its own: no terminal's end reaches it.

    Parameters
    ----------
    directory
        Of its run, prepared.
    words
        What ``lensflow`` is told.
    without
        Variables of this process's environment that it does not get.
    """
    begun = len(directory.state().sessions)
    with output(directory).open("ab") as log:
        log.write(_heading(words).encode())
        offset = log.tell()
        child = subprocess.Popen(  # noqa: S603 - this very program
            [*PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={key: one for key, one in os.environ.items() if key not in without} | PROMPT,
            start_new_session=True,
        )
    _children.append(child)
    born = psutil.Process(child.pid).create_time()  # it is there until it is waited for, even if it has ended
    submission = replace(_draft("background", words, offset, begun), pid=child.pid, started=born)
    submission.write(directory)
    return submission


def in_slurm(
    directory: RunDirectory,
    words: Sequence[str],
    options: Sequence[str],
    prologue: Sequence[str] = (),
    *,
    after: str | None = None,
) -> Submission:
    """Send a driver off as a SLURM job.

    Parameters
    ----------
    directory
        Of its run, prepared.
    words
        What ``lensflow`` is told.
    options
        Of ``sbatch``: its partition, time, memory.
    prologue
        Lines of shell before it starts, such as ``module load``.
    after
        A job that must have ended before it begins.

    Raises
    ------
    LensflowError
        If SLURM does not take it.
    """
    begun, log = len(directory.state().sessions), output(directory)
    with log.open("ab") as file:
        file.write(_heading(words).encode())
        offset = file.tell()
    exports = [f"export {key}={value}" for key, value in PROMPT.items()]
    lines = ["#!/bin/sh", *prologue, *exports, f"exec {shlex.join([*PROGRAM, *words])}"]
    script = "\n".join(lines) + "\n"
    (directory.path / "driver.sh").write_text(script, encoding="utf-8")  # for who wants to see what was sent off
    place = [f"--chdir={Path.cwd()}", f"--output={str(log).replace('%', '%%')}", "--open-mode=append"]
    named = [f"--job-name=lensflow-{directory.out.stem}", *([f"--dependency=afterany:{after}"] if after else [])]
    job = send(script, [*place, *named, *options])
    before = Submission.read(directory)
    draft = _draft("slurm", words, offset, begun)
    login = before.login if after and before else draft.login  # a job that sends off the next is no place to log in
    submission = replace(draft, login=login, job=job, options=tuple(options), prologue=tuple(prologue), after=after)
    submission.write(directory)
    return submission


def _heading(words: Sequence[str]) -> str:
    return f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} lensflow {shlex.join(words)}\n"


def _draft(how: Literal["background", "slurm"], words: Sequence[str], offset: int, sessions: int) -> Submission:
    name = uuid.uuid4().hex[:8]
    login = full_name(login_host())
    return Submission(name, how, time.time(), user(), host(), login, ("lensflow", *words), offset, sessions)


@dataclass(frozen=True)
class Begun:
    """What has become of a driver some time after it was sent off.

    Parameters
    ----------
    what
        It is at work, has ended, or has not begun.
    code
        Exit code of one that has ended, None where it is not known.
    said
        What it has printed.
    dashboard, host
        Where it can be watched, and where it runs.
    """

    what: Literal["at work", "ended", "waiting"]
    code: int | None = None
    said: str = ""
    dashboard: str | None = None
    host: str | None = None


def wait_for(directory: RunDirectory, submission: Submission, seconds: float) -> Begun:
    """Wait until a driver that was sent off is at work, or has ended, but not for ever."""
    end = time.monotonic() + seconds
    while True:
        found = _look(directory, submission)
        if found.what != "waiting" or time.monotonic() > end:
            return found
        time.sleep(POLL)


def _look(directory: RunDirectory, submission: Submission) -> Begun:
    ended, code = _ended(submission)  # first: what it did before it ended is seen then
    sessions = directory.state().sessions[submission.sessions :]
    if ended:
        return Begun("ended", code, said(directory, submission))
    if sessions:
        return Begun("at work", None, "", sessions[-1].get("dashboard"), sessions[-1].get("host"))
    return Begun("waiting")


def _ended(submission: Submission) -> tuple[bool, int | None]:
    child = next((one for one in reversed(_children) if one.pid == submission.pid), None)
    if child is not None and submission.how == "background":
        return child.poll() is not None, child.returncode
    return submission.is_here and submission.process() is None, None


def said(directory: RunDirectory, submission: Submission) -> str:
    """Return what a driver has printed since it was sent off."""
    try:
        with output(directory).open("rb") as log:
            log.seek(submission.offset)
            return log.read().decode(errors="replace")
    except OSError:
        return ""
