"""What is on the cluster: the blocks in flight, and the results that later blocks need as well."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
from dask.highlevelgraph import HighLevelGraph

from lensflow.engine.lifetimes import Lifetimes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from distributed import Client, Future

    from lensflow.engine.blocks import Block
    from lensflow.engine.failure import Failure
    from lensflow.engine.quarantine import How
    from lensflow.engine.tasks import TaskGraph


@dataclass
class Attempt:
    """A block on its way.

    Parameters
    ----------
    place, block
        Its place in the order, and itself.
    how
        Where it is tried: on a worker among others, alone, or on a large worker.
    failures
        How often it has failed.
    tried
        What came of each attempt so far.
    lost
        How often its worker was taken from it.
    refused
        Why it must not be accepted whatever comes of it.
    sent
        When it was sent, in s of the clock that only goes forward.
    """

    place: int
    block: Block
    how: How = "worker"
    failures: int = 0
    tried: list[dict[str, Any]] = field(default_factory=list)
    lost: int = 0
    refused: Failure | None = None
    sent: float = 0.0
    future: Future | None = None


async def _turn() -> None:
    """Do nothing on the client's loop: what was queued there before is done then."""


class Flight:
    """Sends the tasks of blocks and keeps what several blocks need until the last of them has used it.

    Parameters
    ----------
    client, graph, blocks
        Where, what, and in which order.
    run
        Name of the run, with which every task is marked.
    landed
        Called with each future that has ended, in Dask's own thread.
    """

    def __init__(
        self, client: Client, graph: TaskGraph, blocks: Sequence[Block], run: str, landed: Callable[[Future], None]
    ) -> None:
        self.client, self.graph, self.run = client, graph, run
        self.active: dict[Hashable, Attempt] = {}
        self._landed = landed
        self._held: dict[Hashable, Future] = {}
        self._enlarged: set[Hashable] = set()  # of these, those that only a large worker may make
        self._finished: set[int] = set()
        self._last = Lifetimes.of(graph, blocks).kept
        self._release_after: dict[int, list[Hashable]] = {}
        for key, place in self._last.items():
            self._release_after.setdefault(place, []).append(key)

    @property
    def finished(self) -> int:
        """Blocks that are written or given up."""
        return len(self._finished)

    def send(self, attempts: Sequence[Attempt], resources: Mapping[str, float] | None = None) -> None:
        """Send the tasks of some blocks that are not there yet; take hold of what later blocks need as well."""
        keys = [self.graph.key(attempt.block) for attempt in attempts]
        first, last = attempts[0].place, attempts[-1].place
        self._drop_broken()
        needed = self.graph.cut(keys, self._held)
        shared = [key for key in needed if self._last.get(key, -1) > last and self._last[key] not in self._finished]
        # A HighLevelGraph is sent as it is; of a plain dict Dask would hash every task first, 2 ms a block.
        layer = HighLevelGraph({"blocks": needed}, {"blocks": set()})
        with dask.annotate(lensflow=self.run):
            futures = self.client.get(layer, [*keys, *shared], sync=False, priority=-first, resources=resources)
        self._held.update(zip(shared, futures[len(keys) :], strict=True))
        self._enlarged.update(shared if resources else ())
        for key, attempt, future in zip(keys, attempts, futures, strict=False):
            attempt.future, attempt.sent = future, time.monotonic()
            self.active[key] = attempt
            future.add_done_callback(self._landed)

    def _drop_broken(self) -> None:
        """Forget shared results that failed or were lost, so that they are computed anew."""
        self._forget([key for key, one in self._held.items() if one.status not in {"pending", "finished"}])

    def _forget(self, keys: Sequence[Hashable]) -> None:
        """Let go of shared results, so that the scheduler does, too, before they are asked for again.

        A release is only queued; were a key wanted again at once, the old error would be the answer.
        """
        for key in keys:
            self._held.pop(key).release()
        self._enlarged.difference_update(keys)
        if keys:
            self.client.sync(_turn)

    def counts(self, future: Future) -> bool:
        """Whether a future is the present one of a block in flight, and not one that was given up."""
        return future.key in self.active and self.active[future.key].future is future

    def waiting_for(self, key: str) -> list[Attempt]:
        """Return the blocks in flight that need a task, given its key as text."""
        return [attempt for one, attempt in self.active.items() if key in map(str, self.graph.cut([one]))]

    def age(self, key: str, reported: float) -> float:
        """Return for how long a task can have run, in s: not longer than since the first block that needs it was sent.

        Dask measures by the wall clock, which may have been put forward.
        """
        sent = [attempt.sent for attempt in self.waiting_for(key)]
        return min(reported, time.monotonic() - min(sent)) if sent else reported

    def abandon(self, key: str) -> list[Attempt]:
        """Take everything that needs a task back from the cluster; return the blocks."""
        given_up = self.waiting_for(key)
        for shared in [one for one in self._held if key in map(str, self.graph.cut([one]))]:
            self._held.pop(shared).release()  # not cancelled: Dask cancels only what clients want, and its dependents
        self._take_back(given_up)
        return given_up

    @property
    def enlarged(self) -> bool:
        """Whether there are blocks in flight that only a large worker may do."""
        return any(attempt.how == "large" for attempt in self.active.values())

    def without_large(self) -> list[Attempt]:
        """Take back from the cluster what only a large worker may do, and all that needs it; return the blocks."""
        stuck = [key for key in self._enlarged if key in self._held and self._held[key].status == "pending"]
        waiting = [
            attempt
            for one, attempt in self.active.items()
            if attempt.how == "large" or not self.graph.cut([one]).keys().isdisjoint(stuck)
        ]
        self._take_back(waiting)
        self._forget(stuck)
        return waiting

    def _take_back(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            del self.active[self.graph.key(attempt.block)]
        self.client.cancel([attempt.future for attempt in attempts if attempt.future])
        for attempt in attempts:
            attempt.future = None

    def finish(self, attempt: Attempt) -> None:
        """Let go of what nobody needs any more."""
        self._finished.add(attempt.place)
        for key in self._release_after.get(attempt.place, ()):
            if key in self._held:
                self._held.pop(key).release()
                self._enlarged.discard(key)

    def let_go(self) -> None:
        """Leave nothing behind on the cluster."""
        futures = [one.future for one in self.active.values() if one.future]
        if futures and self.client.status == "running":
            self.client.cancel(futures, force=True)
        for one in [*futures, *self._held.values()]:
            one.release()
        self._held.clear()
        self.active.clear()
