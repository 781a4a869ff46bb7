"""The scheduler's side of a run: what its tasks take, what has been running for long, and what the driver tells.

A plugin that the driver installs. It sees every task end, so neither workers nor tasks carry any of this.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from lensflow.engine.board import Board
from lensflow.engine.dashboard import serve
from lensflow.engine.metrics import Measured, expose, withdraw

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from distributed import Client

RUNS = "lensflow-runs"  # Dask event topic, driver -> scheduler
ANNOTATION = "lensflow"  # of a task: the token of its run
BEAT = 1.0  # s between two batches of a run
LONG = 5.0  # s of work after which a task is reported as running
SILENT = 10.0  # s without a heartbeat after which a worker's tasks count as running although it never said so
SPENT = 60.0  # s after which a message has surely left the scheduler

logger = logging.getLogger("lensflow")


def timings(run: str) -> str:
    """Return the Dask event topic, scheduler -> driver, of one run's task timings."""
    return f"lensflow-tasks-{run}"


def install(client: Client) -> bool:
    """Put the plugin on the client's scheduler, unless it is there; False where that cannot be.

    A scheduler that somebody else started may lack lensflow, or be forbidden to load anything.
    """
    try:
        client.register_plugin(Watch())
    except (ImportError, AttributeError, ValueError) as error:
        logger.warning(
            "the scheduler %s cannot load lensflow (%s): no task timings, no /lensflow page, no Prometheus counters;"
            " install this version of lensflow where the scheduler runs",
            getattr(client.scheduler, "address", ""),
            error,
        )
        return False
    return True


class Watch(SchedulerPlugin):  # type: ignore[misc]
    """Collects the timings of annotated tasks, and keeps the board that the page and the counters show."""

    name = "lensflow"
    idempotent = True

    def __init__(self) -> None:
        self.board = Board()
        self.measured = Measured(self.board)
        self._ended: list[tuple[str, str, str, Iterable[dict[str, Any]]]] = []
        self._spent: deque[tuple[float, dict[str, Any]]] = deque()
        self._heard_from: dict[str, float] = {}
        self._busy: set[str] = set()
        self._lost: list[tuple[float, str]] = []
        self._pulse: PeriodicCallback | None = None

    async def start(self, scheduler: Any) -> None:  # noqa: ANN401 - a Scheduler
        """Begin to watch a scheduler: its tasks, its HTTP server, its metrics."""
        self.scheduler = scheduler
        self._pulse = PeriodicCallback(self._beat, BEAT * 1000)
        serve(scheduler)
        expose(self.measured)

    async def close(self) -> None:
        """Stop watching."""
        withdraw(self.measured)
        if self._pulse:
            self._pulse.stop()

    def transition(self, key: Hashable, start: str, finish: str, *_: object, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        """Remember a task of a run that has ended on a worker, well or not."""
        if start != "processing" or "startstops" not in kwargs:
            return
        task = self.scheduler.tasks.get(key)
        run = task.annotations.get(ANNOTATION) if task is not None and task.annotations else None
        if run in self.board.runs:
            self._ended.append((run, task.prefix.name, kwargs["worker"], kwargs["startstops"]))

    def log_event(self, topic: str, msg: Any) -> None:  # noqa: ANN401 - whatever anybody logs
        """Hear what a driver says of its run."""
        if topic != RUNS:
            return
        for seconds, nbytes in self.board.hear(msg):
            self.measured.block(seconds, nbytes)
        if msg["event"] == "end":
            self._publish(last=msg["run"])
        self._keep(msg)
        if self._pulse and self.board.active and not self._pulse.is_running():
            self._pulse.start()

    def remove_worker(self, scheduler: object, worker: str, **_: object) -> None:  # noqa: ARG002
        """Remember a worker that went away from its work."""
        if worker in self._busy:
            self._lost.append((time.time(), worker))

    def remove_client(self, scheduler: object, client: str) -> None:  # noqa: ARG002
        """Mark the runs of a driver that left without a word."""
        self.board.lost(client)

    def _beat(self) -> None:
        self._publish()
        limit = time.time() - SPENT
        while self._spent and self._spent[0][0] < limit:
            self._spent.popleft()[1].clear()
        if self._pulse and not self.board.active and not self._spent:
            self._pulse.stop()

    def _keep(self, message: dict[str, Any]) -> None:
        """Have a message emptied later: of each topic Dask keeps the last ten thousand for as long as it lives."""
        self._spent.append((time.time(), message))

    def _publish(self, last: str | None = None) -> None:
        """Send each run what ended since the last time and what has been running for long."""
        now = time.time()
        batches = {run: _Batch() for run in (*self.board.active, *([last] if last else []))}
        ended, self._ended = self._ended, []
        lost, self._lost = self._lost, []
        self._busy = {address for address, worker in self.scheduler.workers.items() if worker.processing}
        for run, stage, worker, spans in ended:
            self.measured.task(stage, sum(one["stop"] - one["start"] for one in spans if one["action"] == "compute"))
            if run in batches:
                batches[run].add(stage, worker, spans)
        for worker, run, key, seconds in self._running(now):
            if run in batches:
                batches[run].running.append([worker, key, round(seconds, 1)])
        memory = dict(self._memory())
        for run, batch in batches.items():
            if batch.rows or batch.running or memory or lost or run == last:
                message = batch.message(memory, lost, last=run == last)
                self.scheduler.log_event(timings(run), message)
                self._keep(message)

    def _memory(self) -> Iterator[tuple[str, int]]:
        """Yield the process memory of the workers heard from since the last time."""
        workers = self.scheduler.workers
        for address, worker in workers.items():
            if worker.last_seen != self._heard_from.get(address):
                self._heard_from[address] = worker.last_seen
                yield address, worker.memory.process
        if len(self._heard_from) > len(workers):
            self._heard_from = {address: worker.last_seen for address, worker in workers.items()}

    def _running(self, now: float) -> Iterator[tuple[str, str, Hashable, float]]:
        """Yield worker, run, key and age of every task that has been running for long, as far as is known.

        A stopped worker says nothing, so its tasks age by its silence.
        """
        silent = max(SILENT, len(self.scheduler.workers) / 40)  # s: heartbeats are rarer where workers are many
        for address, worker in self.scheduler.workers.items():
            quiet = max(0.0, now - worker.last_seen)
            for task in worker.processing:
                run = task.annotations.get(ANNOTATION) if task.annotations else None
                if run is None:
                    continue
                age = quiet + worker.executing[task] if task in worker.executing else quiet if quiet > silent else 0.0
                if age > LONG:
                    yield address, run, task.key, age


class _Batch:
    """What one run is told at once; stages and workers by number, for they repeat."""

    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.workers: dict[str, int] = {}
        self.rows: list[list[float]] = []
        self.running: list[list[Any]] = []

    def add(self, stage: str, worker: str, spans: Iterable[dict[str, Any]]) -> None:
        """Add a task: when its computation began, and how long it took."""
        computed = [one for one in spans if one["action"] == "compute"]
        if computed:
            number = self.stages.setdefault(stage, len(self.stages))
            place = self.workers.setdefault(worker, len(self.workers))
            seconds = sum(one["stop"] - one["start"] for one in computed)
            self.rows.append([number, place, round(computed[0]["start"], 3), round(seconds, 4)])

    def message(self, memory: dict[str, int], lost: list[tuple[float, str]], *, last: bool) -> dict[str, Any]:
        """Return what is sent."""
        return {
            "stages": list(self.stages),
            "workers": list(self.workers),
            "rows": self.rows,
            "running": self.running,
            "memory": memory,
            "lost": lost,
            "last": last,
        }
