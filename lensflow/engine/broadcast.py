"""What the driver tells the scheduler of a run, for the dashboard's page and the counters: once a second at most."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lensflow.engine.watch import RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Client

EVERY = 1.0  # s between two messages


class Broadcast:
    """Collects what happens to blocks and sends it in bundles.

    Parameters
    ----------
    client, run
        Whose scheduler, and the run's name there.
    """

    def __init__(self, client: Client, run: str) -> None:
        self._client, self._run = client, run
        self._sent = 0.0
        self._news: dict[str, list[Any]] = {}

    def begin(self, **said: Any) -> None:  # noqa: ANN401 - any JSON value
        """Say what is to be run; see ``board.Told``."""
        self._send("begin", client=self._client.id, **said)

    def add(self, kind: str, what: object) -> None:
        """Keep something for the next bundle."""
        self._news.setdefault(kind, []).append(what)

    def tick(self, active: Sequence[str], rate: float | None, left: str) -> None:
        """Send what has been collected, if it is time."""
        if time.monotonic() - self._sent > EVERY:
            self._flush(active, rate, left)

    def end(self, outcome: str) -> None:
        """Send the rest and say how it ended."""
        self._flush((), None, "")
        self._send("end", outcome=outcome)

    def _flush(self, active: Sequence[str], rate: float | None, left: str) -> None:
        news, self._news = self._news, {}
        self._sent = time.monotonic()
        self._send("news", t=time.time(), active=list(active), rate=rate, left=left, **news)

    def _send(self, event: str, **said: Any) -> None:  # noqa: ANN401 - any JSON value
        if self._client.status == "running":
            with suppress(OSError):  # a scheduler that is gone: nobody looks at its page, and the driver finds out
                self._client.log_event(RUNS, {"run": self._run, "event": event, **said})
