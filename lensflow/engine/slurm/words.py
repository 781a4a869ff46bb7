"""What a cluster has to say to the drivers of runs: that jobs wait, that they fail, that it gives up."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from lensflow.engine.cluster import slots
from lensflow.engine.slurm.record import METADATA, folder_of
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from distributed import Client

EVERY = 2.0  # s between two questions: each is a round trip


class ClusterWords:
    """Reads what the keeper of a cluster's jobs says; nothing for clusters without one.

    ``no_large`` is why there will be no large workers though they were promised; empty while there may be.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._there = folder_of(client) is not None
        self._read = 0
        self.no_large = ""
        self._asked = 0.0

    @property
    def there(self) -> bool:
        """Whether the cluster has jobs that somebody keeps."""
        return self._there

    def new(self) -> list[str]:
        """Return what has been said since the last time.

        Raises
        ------
        LensflowError
            If the cluster has been given up, and no worker is left.
        """
        if not self._there or time.monotonic() - self._asked < EVERY:
            return []
        self._asked = time.monotonic()
        said = [event for _, event in self._client.get_events(METADATA) or ()]
        fresh, self._read = said[self._read :], len(said)
        self.no_large = next((one["text"] for one in said if one["kind"] == "small"), "")
        stop = next((one["text"] for one in said if one["kind"] == "stop"), None)
        if stop and not slots(self._client):
            raise LensflowError(f"{stop}; what is done is safe: resume the run")
        return [one["text"] for one in fresh]


def await_worker(client: Client) -> None:
    """Wait for the first worker of a cluster whose jobs may be pending, and pass on why they are.

    Raises
    ------
    LensflowError
        If no job comes up.
    """
    words = ClusterWords(client)
    while words.there and not slots(client):
        for text in words.new():
            sys.stderr.write(f"{text}\n")
        time.sleep(EVERY / 10)
