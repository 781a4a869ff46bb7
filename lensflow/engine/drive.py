"""The loop that makes blocks true: submit in order through a bounded window, collect, retry, give up, drain."""

from __future__ import annotations

import heapq
import queue
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dask.highlevelgraph import HighLevelGraph

from lensflow import events
from lensflow.engine.cluster import slots
from lensflow.engine.quarantine import Failure, Interrupted, Policy, run_alone
from lensflow.engine.tasks import sharing
from lensflow.errors import LensflowError, OutputError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from distributed import Client, Future

    from lensflow.engine.blocks import Block
    from lensflow.engine.tasks import TaskGraph

SLOTS_KNOWN = 10.0  # s that the number of worker threads is taken for known
TICK = 0.2  # s the loop waits for news before it looks at its timers and at the interrupt flag


class Listener(Protocol):
    """Who hears of what happens to blocks: the journal, the progress display."""

    def done(self, block: Block, record: dict[str, Any], attempts: int) -> None:
        """Hear that a block is written."""

    def retried(self, block: Block, failure: Failure, attempt: int, wait: float) -> None:
        """Hear that a block failed and will be tried again after ``wait`` seconds."""

    def given_up(self, block: Block, failure: Failure, attempts: int) -> None:
        """Hear that a block failed for good."""

    def noted(self, kind: str, message: str, fields: dict[str, Any]) -> None:
        """Hear what science code had to say."""

    def tick(self, in_flight: int, slots: int) -> None:
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


@dataclass
class Attempt:
    """A block on its way: its place in the order and how often it has failed."""

    place: int
    block: Block
    failures: int = 0
    future: Future | None = None


@dataclass
class Drive:
    """One pass over the pending blocks.

    Parameters
    ----------
    client, graph, blocks
        Where, what, and in which order.
    listener, policy, interrupt
        Who hears of it, when to give up, and whether to stop.
    window
        Blocks in flight at most.
    batch
        Blocks sent together at most; large ones go one by one, so that workers keep to their order.
    memory_limit
        Bytes for a block that is run alone, None for no limit.
    """

    client: Client
    graph: TaskGraph
    blocks: Sequence[Block]
    listener: Listener
    policy: Policy
    interrupt: Interrupt
    window: int
    batch: int = 1
    memory_limit: int | None = None
    strict: bool = False
    _news: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    _fresh: deque[Attempt] = field(default_factory=deque)
    _active: dict[Hashable, Attempt] = field(default_factory=dict)
    _later: list[tuple[float, int, Attempt]] = field(default_factory=list)
    _held: dict[Hashable, Future] = field(default_factory=dict)
    _finished: set[int] = field(default_factory=set)
    _last: dict[Hashable, int] = field(default_factory=dict)
    _release_after: dict[int, list[Hashable]] = field(default_factory=dict)
    _alone: int = 0
    _over: bool = False
    _slots_known: int = 0
    _slots_known_until: float = 0.0

    def run(self) -> None:
        """Return when every block is written or given up, or when an interrupt has been obeyed.

        Raises
        ------
        LensflowError
            If the scheduler is gone, or in strict mode at the first note.
        """
        self._last = sharing(self.graph, self.blocks)
        for key, place in self._last.items():
            self._release_after.setdefault(place, []).append(key)
        self._fresh = deque(Attempt(place, block) for place, block in enumerate(self.blocks))
        self.client.subscribe_topic(events.TOPIC, self._heard)
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="lensflow-alone") as self._executor, self._ending():
                while self._fresh or self._active or self._later or self._alone:
                    if self.interrupt.count == 0:
                        self._fill()
                    elif self.interrupt.count > 1 or not (self._active or self._alone) or self._slots() == 0:
                        break
                    self._collect()
        finally:
            self.client.unsubscribe_topic(events.TOPIC)
            self._let_go()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Tell a block that runs alone when the loop is left, so that leaving does not wait for it."""
        try:
            yield
        finally:
            self._over = True

    @property
    def complete(self) -> bool:
        """Whether every block has been written or given up."""
        return len(self._finished) == len(self.blocks)

    def _fill(self) -> None:
        """Submit what may be tried again by now, then fresh blocks in order, until the window is full."""
        while room := max(0, self.window - len(self._active) - self._alone):
            if self._later and self._later[0][0] <= time.monotonic():
                self._submit([heapq.heappop(self._later)[2]])
            elif self._fresh:
                count = min(room, self.batch, len(self._fresh))
                self._submit([self._fresh.popleft() for _ in range(count)])
            else:
                return

    def _submit(self, attempts: Sequence[Attempt]) -> None:
        """Send the tasks of some blocks that are not there yet; take hold of what later blocks need as well."""
        keys = [self.graph.key(attempt.block) for attempt in attempts]
        first, last = attempts[0].place, attempts[-1].place
        self._drop_broken()
        needed = self.graph.cut(keys, self._held)
        shared = [key for key in needed if self._last.get(key, -1) > last and self._last[key] not in self._finished]
        # A HighLevelGraph is sent as it is; of a plain dict Dask would hash every task first, 2 ms a block.
        layer = HighLevelGraph({"blocks": needed}, {"blocks": set()})
        futures = self.client.get(layer, [*keys, *shared], sync=False, priority=-first)
        self._held.update(zip(shared, futures[len(keys) :], strict=True))
        for key, attempt, future in zip(keys, attempts, futures, strict=False):
            attempt.future = future
            self._active[key] = attempt
            future.add_done_callback(lambda done: self._news.put(("block", done)))

    def _drop_broken(self) -> None:
        """Forget shared results that failed or were lost, so that they are computed anew."""
        for key in [key for key, one in self._held.items() if one.status not in {"pending", "finished"}]:
            self._held.pop(key).release()

    def _collect(self) -> None:
        """Wait a tick for news and act on all there is."""
        if self.client.status not in {"running", "connecting", "newly-created"}:
            raise LensflowError("the Dask scheduler is gone; what is done is safe: resume the run")
        finished: list[Future] = []
        try:
            news = self._news.get(timeout=TICK)
            while True:
                self._take(*news, finished)
                news = self._news.get_nowait()
        except queue.Empty:
            pass
        self._settle(finished)
        self.listener.tick(len(self._active) + self._alone, self._slots())

    def _slots(self) -> int:
        """Return the worker threads there are now, asked for once in a while: it is a round trip."""
        if time.monotonic() > self._slots_known_until:
            with suppress(OSError):  # no scheduler: the loop finds out by itself
                self._slots_known = slots(self.client)
            self._slots_known_until = time.monotonic() + SLOTS_KNOWN
        return self._slots_known

    def _take(self, kind: str, what: Any, finished: list[Future]) -> None:  # noqa: ANN401 - tagged by kind
        if kind == "block":  # of an attempt that still counts
            if what.key in self._active and self._active[what.key].future is what:
                finished.append(what)
        elif kind == "note":
            self._pass_on(what)
        else:
            self._settle_alone(*what)

    def _settle(self, futures: list[Future]) -> None:
        """Journal what is done before anything is said of what is not."""
        good = [one for one in futures if one.status == "finished"]
        records = self.client.gather({one.key: one for one in good}, errors="skip") if good else {}
        attempts = [(future, self._active.pop(future.key)) for future in futures]
        for future, attempt in attempts:
            if future.key in records:
                self._succeed(attempt, records[future.key])
        for future, attempt in attempts:
            if future.status == "error":
                self._fail(attempt, Failure.of(future.exception(), future.traceback()))
            elif future.key not in records:
                self._lose(attempt, str(future.status))
            future.release()

    def _lose(self, attempt: Attempt, status: str) -> None:
        """Send a block again that the scheduler has lost: no fault of the block, and not counted as one."""
        wait = self.policy.wait(1)
        self.listener.retried(attempt.block, Failure(OSError(f"the scheduler lost it ({status})"), ""), 0, wait)
        heapq.heappush(self._later, (time.monotonic() + wait, attempt.place, attempt))

    def _succeed(self, attempt: Attempt, record: Any) -> None:  # noqa: ANN401 - the wrapped record of write_block
        self.listener.done(attempt.block, record.item(), attempt.failures + 1)
        self._finish(attempt)

    def _fail(self, attempt: Attempt, failure: Failure) -> None:
        attempt.failures += 1
        verdict = self.policy.judge(failure, attempt.failures)
        if verdict == "quarantine":
            self.listener.given_up(attempt.block, failure, attempt.failures)
            self._finish(attempt)
        elif verdict == "stop":
            raise OutputError(
                f"block {attempt.block.id} cannot be written ({failure.error}); make room and resume the run"
            )
        elif verdict == "isolate":
            self.listener.retried(attempt.block, failure, attempt.failures, 0.0)
            self._run_alone(attempt)
        else:
            wait = self.policy.wait(attempt.failures)
            self.listener.retried(attempt.block, failure, attempt.failures, wait)
            heapq.heappush(self._later, (time.monotonic() + wait, attempt.place, attempt))

    def _run_alone(self, attempt: Attempt) -> None:
        key = self.graph.key(attempt.block)
        self._alone += 1
        job = self._executor.submit(run_alone, self.graph.cut([key]), key, self.memory_limit, self._stopping)
        job.add_done_callback(lambda done: self._news.put(("alone", (attempt, done))))

    def _stopping(self) -> bool:
        return self.interrupt.count > 1 or self._over

    def _settle_alone(self, attempt: Attempt, job: Any) -> None:  # noqa: ANN401 - a concurrent.futures.Future
        self._alone -= 1
        error = job.exception()
        if error is None:
            record, notes = job.result()
            for one in notes:
                self._note(one.kind, one.message, one.fields)
            self._succeed(attempt, record)
        elif not isinstance(error, Interrupted):
            self._fail(attempt, Failure.of(error, error.__traceback__))

    def _finish(self, attempt: Attempt) -> None:
        self._finished.add(attempt.place)
        for key in self._release_after.get(attempt.place, ()):
            if key in self._held:
                self._held.pop(key).release()

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        """Receive a note in the client's own thread."""
        self._news.put(("note", event[1]))

    def _pass_on(self, message: dict[str, Any]) -> None:
        if message["key"] not in self.graph.tasks:
            return  # another run on the same cluster
        self._note(message["kind"], message["message"], message["fields"])

    def _note(self, kind: str, message: str, fields: dict[str, Any]) -> None:
        self.listener.noted(kind, message, fields)
        if self.strict:
            raise LensflowError(f"strict: {message}")

    def _let_go(self) -> None:
        futures = [*self._held.values(), *(one.future for one in self._active.values() if one.future)]
        if self._active and self.client.status == "running":
            self.client.cancel([one.future for one in self._active.values() if one.future], force=True)
        for one in futures:
            one.release()
        self._held.clear()
        self._active.clear()
