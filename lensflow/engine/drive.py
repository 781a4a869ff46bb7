"""The loop that makes blocks true: submit in order through a bounded window, collect, retry, give up, drain."""

from __future__ import annotations

import heapq
import queue
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dask.utils import key_split
from distributed.comm import CommClosedError

from lensflow import events
from lensflow.engine.clock import Clock
from lensflow.engine.cluster import has_large, large_workers
from lensflow.engine.crew import Crew
from lensflow.engine.failure import Failure, Memory, Refused, TookTooLong
from lensflow.engine.fetch import SLOW, Fetcher
from lensflow.engine.flight import Attempt, Flight
from lensflow.engine.hang import Watchdog
from lensflow.engine.isolate import Interrupted
from lensflow.engine.sickbay import Sickbay
from lensflow.engine.slurm.record import LARGE
from lensflow.engine.slurm.words import ClusterWords
from lensflow.engine.topics import listening
from lensflow.engine.watch import timings
from lensflow.errors import LensflowError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from distributed import Client, Future

    from lensflow.engine.blocks import Block
    from lensflow.engine.hang import Overdue
    from lensflow.engine.logs import Words
    from lensflow.engine.quarantine import Policy, Verdict
    from lensflow.engine.slurm.inquest import Finding
    from lensflow.engine.tasks import TaskGraph
    from lensflow.engine.terms import Interrupt, Listener, Terms

DRAINING = 5.0  # s that a run which is to stop waits for workers that are being started anew
GONE = "the Dask scheduler is gone; what is done is safe: resume the run"
LINGER = 0.02  # s the loop waits for more small blocks to end
MOST_LOST = 8  # times that a block may lose its worker by no fault of its own before it is tried alone all the same
NEIGHBOURS = 2  # times that a job in which a block runs alone may die of something else
TICK = 0.2  # s the loop waits for news before it looks at its timers and at the interrupt flag


@dataclass
class Drive:
    """One pass over the pending blocks.

    Parameters
    ----------
    client, graph, blocks
        Where, what, and in which order.
    run
        Name of the run.
    listener, policy, interrupt, terms
        Who hears of it, when to give up, whether to stop, and how it is driven.
    words
        What Dask has said.
    """

    client: Client
    graph: TaskGraph
    blocks: Sequence[Block]
    run: str
    listener: Listener
    policy: Policy
    interrupt: Interrupt
    terms: Terms
    words: Words
    _news: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    _fresh: deque[Attempt] = field(default_factory=deque)
    _later: list[tuple[float, int, Attempt]] = field(default_factory=list)
    _refused: dict[Hashable, Failure] = field(default_factory=dict)
    _over: bool = False

    def __post_init__(self) -> None:
        self._flight = Flight(self.client, self.graph, self.blocks, self.run, self._put("block"))
        self._watchdog = Watchdog(self.terms.timeout)
        self._fetcher = Fetcher(self.client, self._put("records"))
        self._clock = Clock()
        self._crew = Crew(self.client, self.terms.patience)
        self._sickbay = Sickbay(self.client, self.graph, self.terms.memory, self._put("alone"), self._put("inquest"))
        self._said = ClusterWords(self.client)

    def _put(self, kind: str) -> Callable[[Any], None]:
        """Return a function that queues news of a kind; other threads call it."""
        return lambda what: self._news.put((kind, what))

    def _heard(self, kind: str, event: tuple[float, Any]) -> None:
        self._news.put((kind, event[1]))

    def drive(self) -> None:
        """Return when every block is written or given up, or when an interrupt has been obeyed.

        Raises
        ------
        LensflowError
            If the scheduler is gone.
        """
        self._fresh = deque(Attempt(place, block) for place, block in enumerate(self.blocks))
        with ExitStack() as stack:
            stack.callback(self._flight.let_go)
            for topic, kind in ((events.TOPIC, "note"), (timings(self.run), "timings")):
                stack.enter_context(listening(self.client, topic, partial(self._heard, kind)))
            stack.enter_context(self._sickbay.open(self._stopping))
            stack.enter_context(self._ending())
            try:
                self._loop()
            except Exception as error:
                if isinstance(error, LensflowError) or not self._is_gone(error):
                    raise
                raise LensflowError(GONE) from error

    def _is_gone(self, error: Exception) -> bool:
        """Whether an error comes of a scheduler that is not there any more: Dask raises one of many then."""
        return self.client.status != "running" or isinstance(error, CommClosedError | ConnectionError | TimeoutError)

    def _loop(self) -> None:
        while self._fresh or self._under_way or self._later:
            if self.interrupt.count == 0:
                self._fill()
            elif self._flight.enlarged and not large_workers(self.client):
                self._flight.without_large()  # else they are waited for as long as SLURM's queue is: the next time
            elif self.interrupt.count > 1 or not self._under_way or self._stranded:
                break
            self._collect()

    @property
    def _under_way(self) -> int:
        return len(self._flight.active) + self._sickbay.patients

    @property
    def _stranded(self) -> bool:
        """Whether what is under way will not end: nobody is there to do it."""
        return self._crew.missing > DRAINING and not self._sickbay.patients

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Tell a block that runs alone when the loop is left, so that leaving does not wait for it."""
        try:
            yield
        finally:
            self._over = True

    def _stopping(self) -> bool:
        return self.interrupt.count > 1 or self._over

    @property
    def complete(self) -> bool:
        """Whether every block has been written or given up."""
        return self._flight.finished == len(self.blocks)

    def _fill(self) -> None:
        """Submit what may be tried again by now, then fresh blocks in order, until the window is full.

        A block that waits for its next attempt keeps its place in the window: where all fail, no more are begun.
        """
        while room := max(0, self.terms.room(self._crew.slots) - self._under_way):
            fresh = min(room - len(self._later), self.terms.batch, len(self._fresh))
            if self._later and self._later[0][0] <= time.monotonic():
                self._submit([heapq.heappop(self._later)[2]])
            elif fresh > 0:
                self._submit([self._fresh.popleft() for _ in range(fresh)])
            else:
                return

    def _submit(self, attempts: Sequence[Attempt]) -> None:
        """Send blocks to where they are tried, but for those that would repeat what this run refuses."""
        accepted = [one for one in attempts if not self._repeats(one)]
        for lost in [one for one in accepted if one.how == "alone"]:
            self._sickbay.admit(lost, self._watchdog)
            accepted.remove(lost)
        if accepted:
            self._flight.send(accepted, {LARGE: 1} if accepted[0].how == "large" else None)

    def _repeats(self, attempt: Attempt) -> bool:
        """Fail a block that needs a result about which something was noted that this run refuses."""
        if not self._refused:
            return False
        needed = self.graph.cut([self.graph.key(attempt.block)])
        failure = next((found for key, found in self._refused.items() if key in needed), None)
        if failure is not None:
            self._fail(attempt, failure)
        return failure is not None

    def _collect(self) -> None:
        """Wait a tick for news and act on all there is."""
        if self.client.status not in {"running", "connecting", "newly-created"}:
            raise LensflowError(GONE)
        self._clock.check()
        finished: list[Future] = []
        patience = TICK
        try:
            while True:
                news = self._news.get(timeout=patience) if patience else self._news.get_nowait()
                self._clock.heard()
                self._take(*news, finished)
                # small blocks are settled and sent by the handful: each round is a few trips to the scheduler
                patience = LINGER if 0 < len(finished) < self.terms.batch // 2 else 0.0
        except queue.Empty:
            pass
        self._settle(finished)
        self._fetcher.tend()
        for worker in self._fetcher.silent(self.terms.timeout or SLOW):
            if self._sickbay.free_to_restart(worker):
                self._sickbay.restart(worker)
        for said in [*self._said.new(), *filter(None, [self._crew.check()])]:
            self.listener.alone(said)
        if self._said.no_large and self._flight.enlarged and not has_large(self.client):
            self._do_without_large()
        self.listener.tick([one.block for one in self._flight.active.values()], self._crew.slots)

    def _do_without_large(self) -> None:
        """Fail the blocks that wait for a worker which will not come; send again what waits for the same results."""
        for attempt in self._flight.without_large():
            if attempt.how == "large":
                self._fail(attempt, Failure.of(MemoryError(f"no large worker: {self._said.no_large}"), None))
            else:
                self._lose(attempt, "what it needs had waited for a large worker")

    def _take(self, kind: str, what: Any, finished: list[Future]) -> None:  # noqa: ANN401 - tagged by kind
        if kind == "block":
            if self._flight.counts(what):
                finished.append(what)
        elif kind == "note":
            if what["key"] in self.graph.tasks:  # else of another run on the same cluster
                self._note(events.received(what), what["key"])
        elif kind == "timings":
            self._timed(what)
        elif kind == "records":
            self._settle_fetched(*what)
        elif kind == "inquest":
            self._judge_death(*what)
        else:
            self._settle_alone(*what)

    def _settle(self, futures: list[Future]) -> None:
        """Have the records of what is done brought, and act on what is not."""
        good = [one for one in futures if one.status == "finished"]
        if good:
            self._fetcher.fetch(good)
        for future in futures:
            if future not in good:
                self._miss(future)

    def _settle_fetched(self, futures: Sequence[Future], records: dict[Hashable, Any], error: Exception | None) -> None:
        """Journal what is done before anything is said of what is not."""
        self._fetcher.arrived(futures)
        if error is not None:
            raise error
        present = [one for one in futures if self._flight.counts(one)]
        for future in present:
            if records.get(future.key) is not None:  # Dask has None for what failed while it was brought
                attempt = self._flight.active.pop(future.key)
                self._succeed(attempt, records[future.key].item())
                future.release()
        for future in present:
            if records.get(future.key) is None:
                self._miss(future)

    def _miss(self, future: Future) -> None:
        """Act on a block that failed, or that was lost on its way."""
        attempt = self._flight.active.pop(future.key)
        if future.status == "error":
            self._examine(attempt, self._sickbay.diagnose(future, self.words))
        else:
            self._lose(attempt, f"the scheduler says {future.status}")
        future.release()

    def _examine(self, attempt: Attempt, failure: Failure) -> None:
        """Act on a failure; where a worker died whose job may have been taken from it, ask SLURM first."""
        if not self._sickbay.inquire(attempt, failure):
            self._fail(attempt, failure)

    def _judge_death(self, attempt: Attempt, failure: Failure, finding: Finding) -> None:
        """Act on what is known of the death of a worker, on which a block was tried."""
        self._sickbay.discharge()
        alone = attempt.how == "alone"  # then the worker was busy with neighbours that may be the guilty ones
        if attempt.lost < (NEIGHBOURS if finding.suspect and alone else MOST_LOST if not finding.suspect else 0):
            attempt.lost += 1
            self._lose(attempt, f"its worker's job {finding.text}")
        else:
            attempt.lost = 0
            self._fail(attempt, replace(failure, words=(*failure.words, f"its worker's job {finding.text}")))

    def _lose(self, attempt: Attempt, why: str) -> None:
        """Send a block again that was lost on its way: no fault of the block, and not counted as one."""
        failure = Failure(OSError(f"lost on its way: {why}"), "", "raised")
        self._wait(attempt, failure, self.policy.wait(1), "isolate" if attempt.how == "alone" else "retry")

    def _succeed(self, attempt: Attempt, record: dict[str, Any]) -> None:
        if attempt.refused is not None:  # only now: what is blanked before it is written would be written after
            self._fail(attempt, attempt.refused)
            return
        self.listener.done(attempt.block, record, attempt.failures + 1)
        self._flight.finish(attempt)

    def _fail(self, attempt: Attempt, failure: Failure) -> None:
        attempt.failures += 1
        attempt.tried.append({"t": round(time.time(), 3), "how": attempt.how, **failure.summary})
        large = attempt.how == "alone" and has_large(self.client)
        verdict = self.policy.judge(failure, attempt.failures, attempt.how, large=large)
        if verdict == "quarantine":
            self.listener.given_up(attempt, failure)
            self._flight.finish(attempt)
        elif verdict == "stop":
            raise OutputError(
                f"block {attempt.block.id} cannot be written ({failure.error}); make room and resume the run"
            )
        elif verdict == "isolate":
            attempt.how = "alone"
            self.listener.retried(attempt, failure, verdict, 0.0)
            self._sickbay.admit(attempt, self._watchdog)
        elif verdict == "enlarge":
            attempt.how = "large"
            self._wait(attempt, failure, 0.0, verdict)
        else:
            attempt.how = "worker"
            self._wait(attempt, failure, self.policy.wait(attempt.failures))

    def _wait(self, attempt: Attempt, failure: Failure, seconds: float, verdict: Verdict = "retry") -> None:
        """Try a block again after a while."""
        self.listener.retried(attempt, failure, verdict, seconds)
        heapq.heappush(self._later, (time.monotonic() + seconds, attempt.place, attempt))

    def _settle_alone(self, attempt: Attempt, job: Any) -> None:  # noqa: ANN401 - a concurrent.futures.Future
        self._sickbay.discharge()
        error = job.exception()
        if error is None:
            record, notes = job.result()
            for note in notes:
                self._note(note)
                if self.terms.refuse(note.kind):
                    attempt.refused = _refusal(note)
            self._succeed(attempt, record.item())
        elif not isinstance(error, Interrupted):
            memory = Memory(None, self.terms.memory)
            where = f"alone on {self._sickbay.place}"
            self._examine(attempt, Failure.of(error, None, where=where, memory=memory))

    def _note(self, note: events.Note, key: Hashable = None) -> None:
        self.listener.noted(note)
        if key is not None and self.terms.refuse(note.kind):
            self._refused[key] = _refusal(note)
            for attempt in self._flight.waiting_for(str(key)):
                attempt.refused = self._refused[key]

    def _timed(self, batch: dict[str, Any]) -> None:
        """Learn how long tasks take, and find those that do not end."""
        self._sickbay.memory.update(batch["memory"])
        for _, worker in batch["lost"]:
            if self._sickbay.free_to_restart(worker):  # else it was on purpose
                self.listener.died(worker)
        for stage, _, _, seconds in batch["rows"]:
            self._watchdog.learn(batch["stages"][stage], seconds)
        running = [
            (worker, key_split(key), str(key), self._flight.age(str(key), seconds))
            for worker, key, seconds in batch["running"]
        ]
        for overdue in self._watchdog.overdue(running):
            if self._sickbay.free_to_restart(overdue.worker):
                self._rescue(overdue)

    def _rescue(self, overdue: Overdue) -> None:
        """Take the blocks that wait for a task that does not end, restart its worker, and try each block alone."""
        blocks = self._flight.abandon(overdue.key)  # first: another worker would take the task up
        self._sickbay.restart(overdue.worker)
        self.listener.hung(overdue, [one.block for one in blocks])
        error = TookTooLong(f"its step {overdue.stage} ran for {overdue.seconds:.0f} s, limit {overdue.limit:g} s")
        for attempt in blocks:
            memory = self._sickbay.memory_of(overdue.worker)
            words = self.words.about(overdue.worker)
            self._fail(attempt, Failure.of(error, None, where=overdue.worker, words=words, memory=memory))


def _refusal(note: events.Note) -> Failure:
    return Failure.of(Refused(f"strict: {note.message}"), None, where=note.worker)
