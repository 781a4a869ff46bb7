"""``submit --detach``: what is told of a driver that goes on by itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lensflow.cli.show import emit
from lensflow.engine.batch import look
from lensflow.engine.dashboard import beside
from lensflow.engine.detach import Begun, wait_for
from lensflow.engine.runs import Run
from lensflow.engine.submission import output

if TYPE_CHECKING:
    from lensflow.engine.rundir import RunDirectory
    from lensflow.engine.submission import Submission

WAIT = 60.0  # s for a driver to be at work before the terminal is given back
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Leave the run to a driver of its own: a job of SLURM, or a process here."),
]


def tell(directory: RunDirectory, submission: Submission, *, as_json: bool) -> None:
    """Say where a driver that was sent off is found; wait a while for it to be at work.

    Raises
    ------
    typer.Exit
        With the driver's own code if it has ended by then.
    """
    known = {
        "run": submission.id,
        "store": str(directory.out),
        "driver": str(submission),
        "log": str(output(directory)),
    }
    if not as_json:
        _lines(
            {**known, "status": f"lensflow status {directory.out} --watch", "end": f"lensflow cancel {directory.out}"}
        )
    try:
        begun = wait_for(directory, submission, WAIT)
    except KeyboardInterrupt:  # the driver hears nothing of it
        begun = Begun("waiting")
    if begun.what == "ended":
        _ended(begun, known, as_json=as_json)
    found = _watch(directory) if begun.what == "at work" else {"waiting": _waiting(submission)}
    if as_json:
        emit({**known, **found}, "", as_json=True)
    else:
        _lines(found)


def _watch(directory: RunDirectory) -> dict[str, str]:
    """Return where a run that is at work is watched."""
    status = Run(directory).status
    link = beside(status.dashboard) if status.dashboard else None
    found = {"dashboard": link, "tunnel": status.tunnel}
    return {key: one for key, one in found.items() if one}


def _waiting(submission: Submission) -> str:
    found = look(submission.job) if submission.job else None
    return f"not at work yet{f': {found}' if found else ''}"


def _ended(begun: Begun, known: dict[str, str], *, as_json: bool) -> None:
    """Pass on what a driver has said that has ended already, and its code."""
    if as_json:
        emit({**known, "ended": begun.code, "said": begun.said}, "", as_json=True)
    else:
        sys.stdout.write(begun.said)
    raise typer.Exit(1 if begun.code is None else begun.code)


def _lines(found: dict[str, str]) -> None:
    sys.stdout.write("".join(f"{key:<9}  {one}\n" for key, one in found.items()))
    sys.stdout.flush()
