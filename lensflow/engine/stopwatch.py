"""Keeps what the scheduler tells of a run's tasks: one line a second in the run directory, for the report."""

from __future__ import annotations

import queue
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lensflow.engine.topics import listening
from lensflow.engine.watch import timings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from lensflow.engine.journal import Log

KEPT = ("stages", "workers", "rows", "memory")
LAST = 3.0  # s to wait for the last batch of a run that has ended


class Stopwatch:
    """Writes batches of task timings to a log.

    Dask's thread brings them, the driver's writes them: a log has one writer.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._batches: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    @contextmanager
    def hearing(self, client: Client, run: str) -> Iterator[None]:
        """Receive batches while the block of a ``with`` statement runs."""
        with listening(client, timings(run), lambda event: self._batches.put(event[1])):
            yield

    def write(self) -> None:
        """Write what has come."""
        while not self._batches.empty():
            self._write(self._batches.get())

    def close(self, *, more: bool) -> None:
        """Write the rest, and wait for the last batch if one will come."""
        until = time.monotonic() + LAST
        while more and (left := until - time.monotonic()) > 0:
            try:
                more = not self._write(self._batches.get(timeout=left))
            except queue.Empty:
                return
        self.write()

    def _write(self, batch: dict[str, Any]) -> bool:
        """Write a batch that says anything; return whether it is the last."""
        if batch["rows"] or batch["memory"]:
            self._log.append("tasks", **{name: batch[name] for name in KEPT})
        return bool(batch.get("last"))
