"""The workers of a run: how many threads there are, and for how long there have been none."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from distributed import LocalCluster

from lensflow.engine.cluster import slots
from lensflow.engine.progress import duration
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from distributed import Client

KNOWN = 10.0  # s that the number of worker threads is taken for known
WATCHED = 1.0  # s, the same while there are none
GIVEN_UP = 20.0  # s with fewer workers than before; Dask lets go of a lost one after 15 (lost-worker-timeout)
LONG = 30.0  # s without workers that are worth a word


class Crew:
    """Counts worker threads.

    Parameters
    ----------
    client
        Of the run.
    patience
        Seconds to wait for workers when there are none; None waits for ever, as for jobs in a queue.
    """

    def __init__(self, client: Client, patience: float | None) -> None:
        self._client, self._patience = client, patience
        self._wanted = self._slots = 0
        self._short_since: float | None = None
        self._known_until = 0.0
        self._none_since: float | None = None
        self._told = False

    @property
    def slots(self) -> int:
        """Worker threads there are now, asked for once in a while: it is a round trip."""
        now = time.monotonic()
        if now > self._known_until:
            with suppress(OSError):  # no scheduler: the loop finds out by itself
                self._slots = slots(self._client)
            self._known_until = now + (KNOWN if self._slots else WATCHED)
            self._revive(now)
            if self._slots:
                self._none_since, self._told = None, False
            elif self._none_since is None:
                self._none_since = now
        return self._slots

    def _revive(self, now: float) -> None:
        """Have workers of this machine started again that Dask has given up: those that died while they started."""
        self._wanted = max(self._wanted, self._slots)
        if self._slots >= self._wanted:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        elif now - self._short_since > GIVEN_UP and isinstance(self._client.cluster, LocalCluster):
            self._short_since = now
            self._client.cluster.scale(len(self._client.cluster.worker_spec))

    @property
    def missing(self) -> float:
        """Seconds for which there have been no workers; 0 while there are any."""
        return 0.0 if self.slots or self._none_since is None else time.monotonic() - self._none_since

    def check(self) -> str | None:
        """Return what is to be said of missing workers, once; None while there is nothing to say.

        Raises
        ------
        LensflowError
            If patience is over.
        """
        missing = self.missing
        if self._patience is not None and missing > self._patience:
            raise LensflowError(
                f"there have been no workers for {duration(missing)}; what is done is safe: resume the run"
            )
        if missing > LONG and not self._told:
            self._told = True
            return f"no workers for {duration(missing)}: waiting for some"
        return None
