"""What hears of blocks while they run: writes the journal and the events, counts, keeps display and dashboard fresh."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lensflow.engine import journal as journals
from lensflow.engine.cluster import slots, worker_memory
from lensflow.engine.dashboard import link
from lensflow.errors import BlockFailed
from lensflow.events import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from distributed import Client

    from lensflow.engine.blocks import Block
    from lensflow.engine.broadcast import Broadcast
    from lensflow.engine.failure import Failure
    from lensflow.engine.flight import Attempt
    from lensflow.engine.hang import Overdue
    from lensflow.engine.journal import Log
    from lensflow.engine.lock import Lock
    from lensflow.engine.progress import Display
    from lensflow.engine.quarantine import Verdict
    from lensflow.engine.rundir import RunDirectory
    from lensflow.engine.stopwatch import Stopwatch
    from lensflow.events import Note

NEXT = {"retry": "worker", "isolate": "alone", "enlarge": "large"}


@dataclass
class Recorder:
    """The listener of a run.

    Parameters
    ----------
    journal, events
        The two logs.
    display
        The live line.
    broadcast
        What the dashboard hears.
    stopwatch
        Keeps what tasks took.
    lock
        Makes this the one writer.
    blank
        Puts fill values where a block would be.
    raising
        Stop the run when a block is given up.
    """

    journal: Log
    events: Log
    display: Display
    broadcast: Broadcast
    stopwatch: Stopwatch
    lock: Lock
    blank: Callable[[Block], None]
    raising: bool = False
    needed: float = 0.0  # s until the blocks in flight are done, if no more are begun
    _told: set[str] = field(default_factory=set)
    _longest: float = 0.0

    def remember(self, directory: RunDirectory) -> None:
        """Learn the notes of earlier sessions: work redone repeats them."""
        for entry in journals.read(directory.events):
            if entry["event"] == "note":
                self._told.add(_text(entry))
        self.display.notes = len(self._told)

    def session(self, client: Client, *, pending: int, total: int, key: str) -> None:
        """Record that a driver starts, where, and with which workers."""
        self.journal.append(
            "session",
            host=socket.gethostname(),
            pid=os.getpid(),
            workers=len(client.nthreads()),
            threads=slots(client),
            memory_limit=worker_memory(client),
            dashboard=link(client),
            pending=pending,
            total=total,
            key=key,
        )
        self.display.refresh(0)

    def end(self, outcome: str, seconds: float) -> None:
        """Record how the driver ended."""
        self.journal.append("end", outcome=outcome, seconds=round(seconds, 3))
        self.broadcast.end(outcome)

    def stopping(self, reason: str, **more: object) -> None:
        """Record why the run is to stop before its end."""
        self.events.append("stop", reason=reason, **more)

    def failed(self, error: Exception) -> None:
        """Record what ended the run."""
        self.events.append("error", kind=type(error).__name__, message=str(error))

    def done(self, block: Block, record: dict[str, Any], attempts: int) -> None:
        """Journal a written block."""
        self.journal.append("done", block=block.id, attempts=attempts, **record)
        self.broadcast.add("done", [block.id, record["seconds"], block.nbytes])
        self._longest = max(self._longest, float(record["seconds"]))
        self.display.done += 1
        self.display.pace.beat()

    def retried(self, attempt: Attempt, failure: Failure, verdict: Verdict, wait: float) -> None:
        """Record a failure that is not the last word."""
        self.events.append(
            "retry",
            block=attempt.block.id,
            attempt=attempt.failures,
            wait=round(wait, 3),
            next=NEXT[verdict],
            **failure.as_json(),
        )
        self.broadcast.add("retried", attempt.block.id)

    def given_up(self, attempt: Attempt, failure: Failure) -> None:
        """Quarantine a block: fill values in the store, the reason in the journal.

        Raises
        ------
        BlockFailed
            If the run is to stop at the first failure.
        """
        block = attempt.block
        if self.raising:  # the block stays pending: the next run tries it again
            self.events.append("error", kind="BlockFailed", block=block.id, **failure.as_json())
            raise BlockFailed(f"block {block.id} failed: {failure.message}") from failure.error
        self.blank(block)
        self.journal.append(
            "quarantined", block=block.id, attempts=attempt.failures, tried=attempt.tried, **failure.as_json()
        )
        self.broadcast.add("quarantined", [block.id, f"{failure.exception}: {failure.message}"])
        self.display.failed += 1

    def noted(self, note: Note) -> None:
        """Record a note once, however often the work that made it was redone."""
        told = {"kind": str(note.kind), "message": str(note.message), "fields": plain(note.fields)}
        if _text(told) in self._told:
            return
        self._told.add(_text(told))
        self.events.append("note", **told, worker=note.worker, made=round(note.made, 3))
        self.broadcast.add("notes", [told["kind"], told["message"]])
        self.display.notes += 1

    def died(self, worker: str) -> None:
        """Record that a worker went away from its work."""
        self.events.append("worker", worker=worker, what="died")

    def hung(self, overdue: Overdue, blocks: Sequence[Block]) -> None:
        """Record that a worker is started anew because a task on it does not end."""
        self.events.append("worker", worker=overdue.worker, what="hung", blocks=[one.id for one in blocks])

    def alone(self, message: str) -> None:
        """Say that there are no workers."""
        self.events.append("worker", worker="", what="missing", message=message)
        sys.stderr.write(f"\n{message}\n")

    def tick(self, active: Sequence[Block], slots: int) -> None:
        """Refresh the live line and the dashboard; workers come and go, and the lock may be lost."""
        self.lock.check()
        self.display.pace.slots = max(1, slots)
        rate = self.display.pace.rate()
        self.needed = len(active) / rate if rate else self._longest * math.ceil(len(active) / max(1, slots))
        self.display.refresh(len(active))
        self.stopwatch.write()
        self.broadcast.tick([one.id for one in active], self.display.pace.rate(), self.display.left())


def _text(note: Mapping[str, Any]) -> str:
    return json.dumps([note.get(key) for key in ("kind", "message", "fields")], sort_keys=True)
