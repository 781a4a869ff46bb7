"""What hears of blocks while they run: writes the journal and the events, counts, and keeps the display fresh."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lensflow.engine import journal as journals
from lensflow.engine.cluster import slots
from lensflow.errors import BlockFailed
from lensflow.events import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client

    from lensflow.engine.blocks import Block
    from lensflow.engine.journal import Log
    from lensflow.engine.progress import Display
    from lensflow.engine.quarantine import Failure
    from lensflow.engine.rundir import RunDirectory


@dataclass
class Recorder:
    """The listener of a run.

    Parameters
    ----------
    journal, events
        The two logs.
    display
        The live line.
    blank
        Puts fill values where a block would be.
    raising
        Stop the run when a block is given up.
    """

    journal: Log
    events: Log
    display: Display
    blank: Callable[[Block], None]
    raising: bool = False
    _told: set[str] = field(default_factory=set)

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
            dashboard=client.dashboard_link,
            pending=pending,
            total=total,
            key=key,
        )
        self.display.refresh(0)

    def end(self, outcome: str, seconds: float) -> None:
        """Record how the driver ended."""
        self.journal.append("end", outcome=outcome, seconds=round(seconds, 3))

    def failed(self, error: Exception) -> None:
        """Record what ended the run."""
        self.events.append("error", kind=type(error).__name__, message=str(error))

    def done(self, block: Block, record: dict[str, Any], attempts: int) -> None:
        """Journal a written block."""
        self.journal.append("done", block=block.id, attempts=attempts, **record)
        self.display.done += 1
        self.display.pace.beat()

    def retried(self, block: Block, failure: Failure, attempt: int, wait: float) -> None:
        """Record a failure that is not the last word."""
        self.events.append("retry", block=block.id, attempt=attempt, wait=round(wait, 3), **failure.as_json())

    def given_up(self, block: Block, failure: Failure, attempts: int) -> None:
        """Quarantine a block: fill values in the store, the reason in the journal.

        Raises
        ------
        BlockFailed
            If the run is to stop at the first failure.
        """
        if self.raising:  # the block stays pending: the next run tries it again
            self.events.append("error", kind="BlockFailed", block=block.id, **failure.as_json())
            raise BlockFailed(f"block {block.id} failed: {failure.error}") from failure.error
        self.blank(block)
        self.journal.append("quarantined", block=block.id, attempts=attempts, **failure.as_json())
        self.display.failed += 1

    def noted(self, kind: str, message: str, fields: dict[str, Any]) -> None:
        """Record a note once, however often the work that made it was redone."""
        told = {"kind": str(kind), "message": str(message), "fields": plain(fields)}
        if _text(told) in self._told:
            return
        self._told.add(_text(told))
        self.events.append("note", **told)
        self.display.notes += 1

    def tick(self, in_flight: int, slots: int) -> None:
        """Refresh the live line; workers come and go."""
        self.display.pace.slots = max(1, slots)
        self.display.refresh(in_flight)


def _text(note: Mapping[str, Any]) -> str:
    return json.dumps([note.get(key) for key in ("kind", "message", "fields")], sort_keys=True)
