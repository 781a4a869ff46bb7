"""Where blocks go that may have harmed a worker: examined, run alone; and the workers they harmed: started anew."""

from __future__ import annotations

import logging
import math
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cloudpickle
from dask.utils import key_split
from distributed import KilledWorker

from lensflow.engine.failure import Failure, Memory
from lensflow.engine.isolate import Interrupted, Limits, run_alone
from lensflow.engine.slurm.inquest import Finding, inquire
from lensflow.engine.slurm.record import folder_of
from lensflow.engine.slurm.script import job_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from concurrent.futures import Future as Job

    from distributed import Client, Future

    from lensflow.engine.flight import Attempt
    from lensflow.engine.hang import Watchdog
    from lensflow.engine.logs import Words
    from lensflow.engine.tasks import TaskGraph

RESTART = 30.0  # s for a worker to be killed by its nanny
FIRST = 1 << 30  # Dask priority of a block that runs alone on a worker
PAUSE = 0.2  # s between looks at it

logger = logging.getLogger("lensflow")


class Sickbay:
    """Examines failures, runs suspects alone one by one, restarts workers that hang.

    Parameters
    ----------
    client, graph
        Of the run.
    limit
        Bytes a block that runs alone may use, None for no limit.
    discharged
        Called with (attempt, concurrent future) when a block that ran alone has ended, from another thread.
    found
        Called with (attempt, failure, finding) when it is known why a worker died, from another thread.
    """

    def __init__(
        self,
        client: Client,
        graph: TaskGraph,
        limit: int | None,
        discharged: Callable[[tuple[Attempt, Any]], None],
        found: Callable[[tuple[Attempt, Failure, Finding]], None],
    ) -> None:
        self.client, self.graph, self.limit = client, graph, limit
        self.memory: dict[str, int] = {}
        self.patients = 0
        self._discharged, self._found = discharged, found
        self._remote = folder_of(client) is not None  # this may be a login node: heavy work is not for it
        self._deaths: dict[str, Job[Finding]] = {}
        self._restarted: dict[str, float] = {}
        self._stop: Callable[[], bool] = lambda: False

    @contextmanager
    def open(self, stop: Callable[[], bool]) -> Iterator[None]:
        """Work while the block of a ``with`` statement runs; ``stop`` says when to stop what runs alone."""
        self._stop = stop
        with (
            ThreadPoolExecutor(1, thread_name_prefix="lensflow-alone") as self._alone,
            ThreadPoolExecutor(4, thread_name_prefix="lensflow-restart") as self._restarts,
            ThreadPoolExecutor(4, thread_name_prefix="lensflow-inquest") as self._inquests,
        ):
            yield

    def admit(self, attempt: Attempt, watchdog: Watchdog) -> None:
        """Run a block in a process of its own."""
        key = self.graph.key(attempt.block)
        tasks = self.graph.cut([key])
        seconds = [watchdog.alone(key_split(one)) for one in tasks]
        known = [one for one in seconds if one is not None]
        limits = Limits(self.limit, max(known) if len(known) == len(seconds) else None)
        self.patients += 1
        job = self._alone.submit(self._run_remote if self._remote else self._run_here, tasks, key, limits)
        job.add_done_callback(lambda done: self._discharged((attempt, done)))

    @property
    def place(self) -> str:
        """Where blocks run alone."""
        return "a worker's node" if self._remote else socket.gethostname()

    def _run_here(self, tasks: dict[Hashable, Any], key: Hashable, limits: Limits) -> tuple[Any, list[Any]]:
        return run_alone(tasks, key, limits, self._stop)

    def _run_remote(self, tasks: dict[Hashable, Any], key: Hashable, limits: Limits) -> tuple[Any, list[Any]]:
        """Run a block alone where the workers are: in a process beside one of them, which does nothing else."""
        packed = cloudpickle.dumps((tasks, key, limits))
        future = self.client.submit(_run_packed, packed, key=f"alone-{uuid.uuid4().hex}", priority=FIRST, pure=False)
        while not future.done():
            if self._stop():
                future.cancel()
                raise Interrupted("stopped by the user while it ran alone")
            time.sleep(PAUSE)
        found: tuple[Any, list[Any]] = future.result()
        return found

    def inquire(self, attempt: Attempt, failure: Failure) -> bool:
        """Begin to find out why the worker died on which a block failed; False where nobody could know.

        Blocks that died with the same worker share one inquest.
        """
        worker = getattr(failure.error, "last_worker", None)
        if worker is None or job_of(worker.name) is None:
            return False
        if worker.address not in self._deaths:
            self._deaths[worker.address] = self._inquests.submit(inquire, self.client, worker.name, worker.address)
        self.patients += 1
        self._deaths[worker.address].add_done_callback(lambda done: self._found((attempt, failure, _finding(done))))
        return True

    def discharge(self) -> None:
        """Take note that a block is back from where it ran alone."""
        self.patients -= 1

    def diagnose(self, future: Future, words: Words) -> Failure:
        """Say why a block failed on a worker, and on which."""
        error = future.exception()
        where = error.last_worker.address if isinstance(error, KilledWorker) else self._place_of(future)
        return Failure.of(
            error, future.traceback(), where=where, words=words.about(where), memory=self.memory_of(where)
        )

    def _place_of(self, future: Future) -> str:
        try:
            return str(self.client.run_on_scheduler(_erred_on, future.key))
        except (OSError, AttributeError, KeyError):  # a scheduler that goes, or one of another kind
            return ""

    def memory_of(self, worker: str) -> Memory:
        """Return what a worker used when it was last looked at, and its limit."""
        return Memory(self.memory.get(worker), self.limit)

    def free_to_restart(self, worker: str) -> bool:
        """Whether a worker is not being started anew already."""
        return time.monotonic() > self._restarted.get(worker, -math.inf) + 2 * RESTART

    def restart(self, worker: str) -> None:
        """Start a worker anew, in the background."""
        self._restarted[worker] = time.monotonic()
        self._restarts.submit(self._restart, worker)

    def _restart(self, worker: str) -> None:
        try:
            found: object = self.client.restart_workers([worker], timeout=RESTART, raise_for_error=False)
        except ValueError:  # it has no nanny: close it, whoever started it may start another
            found = self.client.retire_workers([worker], close_workers=True, remove=True)
        except (OSError, KeyError) as error:  # gone already
            found = error
        logger.warning("worker %s, on which a task did not end, is started anew: %s", worker, found)


def _finding(done: Job[Finding]) -> Finding:
    """Return what was found out; where that failed, nobody is suspected."""
    error = done.exception()
    return done.result() if error is None else Finding(suspect=False, text=f"cannot be asked about ({error})")


def _run_packed(packed: bytes) -> tuple[Any, list[Any]]:
    """Run a block alone; packed, because Dask would take its tasks for its own."""
    return run_alone(*cloudpickle.loads(packed))


def _erred_on(key: Any, dask_scheduler: Any = None) -> str:  # noqa: ANN401 - runs on the scheduler
    """Return the address of the worker on which a task, or what it depends on, has failed."""
    blamed = dask_scheduler.tasks[key].exception_blame
    return ", ".join(sorted(blamed.erred_on))
