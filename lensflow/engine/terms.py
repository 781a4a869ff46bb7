"""On what terms a run is driven, and who hears of it."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lensflow.engine.blocks import Block
    from lensflow.engine.failure import Failure
    from lensflow.engine.flight import Attempt
    from lensflow.engine.hang import Overdue
    from lensflow.engine.quarantine import Verdict
    from lensflow.events import Note


class Listener(Protocol):
    """Who hears of what happens to blocks: the journal, the progress display, the dashboard."""

    def done(self, block: Block, record: dict[str, Any], attempts: int) -> None:
        """Hear that a block is written."""

    def retried(self, attempt: Attempt, failure: Failure, verdict: Verdict, wait: float) -> None:
        """Hear that a block failed and will be tried again after ``wait`` seconds."""

    def given_up(self, attempt: Attempt, failure: Failure) -> None:
        """Hear that a block failed for good."""

    def noted(self, note: Note) -> None:
        """Hear what science code had to say."""

    def died(self, worker: str) -> None:
        """Hear that a worker went away from its work."""

    def hung(self, overdue: Overdue, blocks: Sequence[Block]) -> None:
        """Hear that a worker is started anew because a task on it does not end."""

    def alone(self, message: str) -> None:
        """Hear that there are no workers."""

    def tick(self, active: Sequence[Block], slots: int) -> None:
        """Hear that time has passed."""


class Interrupt:
    """How often the user has asked to stop: once drains, twice stops at once."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        """Count one request, and say what follows; fits ``signal.signal``."""
        self.count += 1
        following = "stopping at once" if self.count > 1 else "finishing the blocks in flight; once more stops at once"
        sys.stderr.write(f"\ninterrupted: {following}\n")


@dataclass(frozen=True)
class Terms:
    """How a run is driven.

    Parameters
    ----------
    window
        Blocks in flight at most; None for so many a worker thread as ``depth`` says, as workers come and go.
    depth
        Blocks in flight for each worker thread.
    batch
        Blocks sent together at most; large ones go one by one, so that workers keep to their order.
    memory
        Bytes for a block that is run alone, None for no limit.
    timeout
        Seconds that a task may take; None to learn it from those before.
    patience
        Seconds to wait for workers when there are none; None waits for ever.
    strict
        Kinds of notes that fail the blocks they are about; True for all kinds.
    """

    window: int | None
    depth: int = 3
    batch: int = 1
    memory: int | None = None
    timeout: float | None = None
    patience: float | None = None
    strict: bool | tuple[str, ...] = False

    def room(self, slots: int) -> int:
        """Return how many blocks may be in flight with so many worker threads."""
        return self.window or self.depth * max(2, slots)

    def refuse(self, kind: str) -> bool:
        """Whether a kind of note fails blocks."""
        return self.strict if isinstance(self.strict, bool) else kind in self.strict


@contextmanager
def terminated_politely() -> Iterator[None]:
    """Let a polite kill end this process as Ctrl-C does, while the block runs: what was opened is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
