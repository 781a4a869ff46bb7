"""What a driver is asked from outside, through a file of the run directory: it works from any host that sees that."""

from __future__ import annotations

import sys
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lensflow.engine import journal
from lensflow.engine.lock import holder_of
from lensflow.engine.submission import Submission, host, user

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lensflow.engine.deadline import Deadline
    from lensflow.engine.rundir import RunDirectory
    from lensflow.engine.terms import Interrupt

POLL = 1.0  # s between two looks


class Record(Protocol):
    """Keeps why a run stops."""

    def __call__(self, reason: str, **more: object) -> None:
        """Record one reason."""


def requests(directory: RunDirectory) -> Path:
    """Return the file of requests.

    The driver makes it and reads it again and again: a network file system tells news of a file that is there
    at once, and news of a file that was not there a minute later.
    """
    return directory.path / "requests.jsonl"


def ask_to_stop(directory: RunDirectory, addressee: str, *, now: bool) -> str:
    """Ask a driver to stop, and return the request's name.

    Parameters
    ----------
    directory
        Of its run.
    addressee
        Token of its lock, or the name of its submission: whoever comes later is not meant.
    now
        Stop at once, rather than finish the blocks in flight.
    """
    name = uuid.uuid4().hex[:8]
    with journal.Log(requests(directory)) as log:
        log.append("stop", to=addressee, now=now, by=f"{user()}@{host()}", request=name)
    return name


def answered(directory: RunDirectory, request: str) -> bool:
    """Whether a driver has said that it heeds a request."""
    return any(one.get("request") == request for one in journal.read(directory.events) if one["event"] == "stop")


@contextmanager
def heeding(
    directory: RunDirectory, interrupt: Interrupt, record: Record, deadline: Deadline | None = None
) -> Iterator[None]:
    """Interrupt the driver when it is asked to stop, or when its own job nears its end, while the block runs."""
    holder, submission = holder_of(directory.lock) or {}, Submission.read(directory)
    names = {str(holder.get("token"))} | ({submission.id} if submission and submission.is_this_process else set())
    requests(directory).touch()
    over = threading.Event()
    ear = _Ear(requests(directory), names, interrupt, record)

    def listen() -> None:
        while not over.wait(POLL):
            ear.listen()
            if deadline is not None:
                deadline.check(interrupt, record)

    ear.listen()  # what was asked while the driver started
    thread = threading.Thread(target=listen, name="lensflow-requests", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass
class _Ear:
    """Reads requests, each once, and passes on those for this driver."""

    path: Path
    names: set[str]
    interrupt: Interrupt
    record: Record
    _heard: set[str] = field(default_factory=set)

    def listen(self) -> None:
        for one in journal.read(self.path):
            name = str(one.get("request"))
            if one["event"] == "stop" and one.get("to") in self.names and name not in self._heard:
                self._heard.add(name)
                self._stop(f"cancelled by {one.get('by', 'somebody')}", name, now=bool(one.get("now")))

    def _stop(self, reason: str, request: str, *, now: bool) -> None:
        sys.stderr.write(f"\n{reason}")
        self.record(reason, request=request, now=now)
        while self.interrupt.count < (2 if now else 1):
            self.interrupt()
