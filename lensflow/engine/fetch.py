"""Bring back what finished blocks say of themselves, without waiting for a worker that does not answer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client, Future

    Fetched = tuple[Sequence[Future], dict[Any, Any], Exception | None]

PROMPT = 1.0  # s within which a worker that lives answers: as long, what comes next waits and is fetched together
SLOW = 60.0  # s that a record of a kilobyte may take to come from its worker


class Fetcher:
    """Fetches results in the background, by the handful.

    Parameters
    ----------
    client
        Of the run.
    fetched
        Called with (futures, results by key, error) from another thread; what could not be had is missing.
    """

    def __init__(self, client: Client, fetched: Callable[[Fetched], None]) -> None:
        self._client, self._fetched = client, fetched
        self._wanted: list[Future] = []
        self._since: dict[int, tuple[float, Sequence[Future]]] = {}

    def fetch(self, futures: Sequence[Future]) -> None:
        """Have the results of finished futures fetched."""
        self._wanted.extend(futures)
        self.tend()

    def tend(self) -> None:
        """Ask for what is wanted, unless an answer is about to come."""
        now = time.monotonic()
        if not self._wanted or any(now - since < PROMPT for since, _ in self._since.values()):
            return
        futures, self._wanted = self._wanted, []
        self._since[id(futures)] = (now, futures)
        # a thread that nobody waits for: one that a stopped worker holds must not hold the driver at its end
        threading.Thread(target=self._fetch, args=(futures,), name="lensflow-fetch", daemon=True).start()

    def _fetch(self, futures: Sequence[Future]) -> None:
        results: dict[Any, Any] = {}
        problem: Exception | None = None
        try:
            results = self._client.gather({one.key: one for one in futures}, errors="skip")
        except Exception as error:  # noqa: BLE001 - carried to the loop, which raises it
            problem = error
        self._fetched((futures, results, problem))

    def arrived(self, futures: Sequence[Future]) -> None:
        """Take note that results have come, and ask for the next."""
        del self._since[id(futures)]
        self.tend()

    def silent(self, limit: float) -> list[str]:
        """Return the workers that hold results asked for longer than ``limit`` seconds ago."""
        now = time.monotonic()
        late = [one for since, futures in self._since.values() if now - since > limit for one in futures]
        holders = self._client.who_has(late) if late else {}
        return sorted({worker for workers in holders.values() for worker in workers})
