"""What is known of a driver that was sent off, and of the SLURM jobs of a run: told in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensflow.engine import journal
from lensflow.engine.accounting import ended
from lensflow.engine.batch import look
from lensflow.engine.submission import Submission, last_sent, output, starting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lensflow.engine.rundir import RunDirectory


def last_words(directory: RunDirectory, most: int) -> tuple[str, ...]:
    """Return the last lines that a driver printed, of one that was sent off, else what Dask said in it."""
    submission, printed = last_sent(directory), output(directory)
    try:
        if submission is None:
            text = printed.with_name("driver.log").read_text(encoding="utf-8", errors="replace")
        else:
            text = printed.read_bytes()[submission.offset :].decode(errors="replace")
    except OSError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())[-most:]


def driver_on_its_way(directory: RunDirectory) -> str | None:
    """Say what a driver that was sent off waits for, None if there is none that has yet to begin."""
    submission = starting(directory)
    if submission is None:
        return None
    found = look(submission.job) if submission.job else None
    return f"Its driver ({submission}{f', {found}' if found else ''}) is about to begin."


def before_it_began(directory: RunDirectory) -> str:
    """Say what has become of a driver that was sent off and has not described its run.

    Raises
    ------
    BadInput
        If there was none.
    """
    if Submission.read(directory) is None:
        directory.describe()  # raises: there is no run here
    ended_early = (
        f"Its driver ended before the run began.{end_of_driver(directory)} Mend what it says and submit again."
    )
    return driver_on_its_way(directory) or ended_early


def end_of_driver(directory: RunDirectory) -> str:
    """Return a sentence of what SLURM says of the end of a driver's job, "" where it says nothing."""
    submission = last_sent(directory)
    if submission is None or submission.job is None:
        return ""
    told = list(map(str, ended([submission.job]).values()))
    found = None if told else look(submission.job)
    return _sentence(told or ([f"SLURM says of job {submission.job}: {found.state}"] if found and found.state else []))


def _sentence(texts: Iterable[str]) -> str:
    return "".join(f" {text}." for text in texts)


def reason_to_stop(directory: RunDirectory, since: float) -> str | None:
    """Return why a driver was to stop before the end of its run, None if nobody and nothing has asked it to."""
    found = [one for one in journal.read(directory.events) if one["event"] == "stop" and one.get("t", 0.0) >= since]
    return str(found[-1].get("reason")) if found else None
