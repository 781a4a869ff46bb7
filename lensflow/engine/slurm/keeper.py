"""Keeps the jobs of a cluster: once a second it looks, asks the supervisor, and does what that one says."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from lensflow.engine.journal import Log
from lensflow.engine.slurm.causes import explained
from lensflow.engine.slurm.queue import QueueError, sbatch, scancel, squeue
from lensflow.engine.slurm.record import LARGE, METADATA
from lensflow.engine.slurm.script import job_name
from lensflow.engine.slurm.states import ALIVE, Action
from lensflow.engine.slurm.workers import addresses, at_work
from lensflow.engine.topics import listening
from lensflow.engine.watch import RUNS
from lensflow.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distributed import Client

    from lensflow.engine.slurm.demand import Demand, LargeDemand
    from lensflow.engine.slurm.queue import Listed
    from lensflow.engine.slurm.record import Folder
    from lensflow.engine.slurm.supervisor import Supervisor

BEAT = 1.0  # s between two looks
CALM = 10.0  # s between two questions to SLURM while all is well: every user's squeue costs its controller
CLOSING = 20.0  # s that the end of a cluster waits for what is under way
logger = logging.getLogger("lensflow")


class Keeper:
    """The thread that drives a supervisor.

    Parameters
    ----------
    client
        Of the cluster, of its keepers alone.
    folder
        Of the cluster.
    supervisor, demand
        What to do, and how many jobs.
    script, words
        What jobs run, and sbatch's further words.
    array
        Whether many jobs are one sbatch.
    large
        Whether these are the cluster's large jobs: it lives without them.
    """

    def __init__(
        self,
        client: Client,
        folder: Folder,
        supervisor: Supervisor,
        demand: Demand | LargeDemand,
        *,
        script: str,
        words: Iterable[str],
        array: bool,
        large: bool = False,
    ) -> None:
        self.client, self.folder, self.supervisor, self.demand = client, folder, supervisor, demand
        self._script, self._words, self._array = script, tuple(words), array
        self._name, self._large = job_name(folder, large=large), large
        self._stop = threading.Event()
        self._doors = ThreadPoolExecutor(4, thread_name_prefix="lensflow-retire")
        self._stack = ExitStack()
        self._problem, self._asked = "", 0.0
        self._thread = threading.Thread(target=self._keep, name="lensflow-keeper", daemon=True)

    def start(self) -> None:
        """Submit the first jobs and begin to watch.

        Raises
        ------
        QueueError
            If SLURM refuses the first jobs: with its message.
        """
        self._log = self._stack.enter_context(Log(self.folder.jobs))
        self._stack.enter_context(listening(self.client, RUNS, lambda event: self.demand.hear(event[1])))
        try:
            if count := self.demand.wanted():
                self._submit(count)
        except QueueError:
            self._cancel_all()  # sbatch may have been heard though it did not come back
            self._stack.close()
            raise
        self._thread.start()

    def close(self) -> None:
        """Stop watching and cancel every job."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSING)
        self._doors.shutdown(wait=False, cancel_futures=True)
        self._cancel_all()
        self._stack.close()

    def _cancel_all(self) -> None:
        """Cancel every job, with patience for a controller that is away for a moment."""
        end = time.monotonic() + CLOSING
        while not self._all_cancelled() and time.monotonic() < end:
            time.sleep(BEAT)

    def _all_cancelled(self) -> bool:
        try:
            listed = squeue(self._name)
        except QueueError:  # those that are known, then
            listed = {}
        left = {*self.supervisor.jobs, *(job for job, one in listed.items() if one.state in ALIVE)}
        if self._cancel(left):
            for job in sorted(left):
                self._log.append("gone", job=job, reason="the cluster is closed")
            return True
        return not left

    def _keep(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                self.look()
            except (OSError, ValueError) as error:  # the scheduler is closing, SLURM is away, a disk is full
                self._complain(f"jobs cannot be looked after ({type(error).__name__}: {error}); trying again")
            except Exception as error:
                self._end(f"the jobs are not looked after any more: {type(error).__name__}: {error}")
                raise

    def look(self) -> None:
        """Look once, and do what is to be done."""
        seen = at_work(self.client)
        now = time.monotonic()
        listed = self._ask(now, seen.tasks)
        self.demand.pass_time(now, seen)
        self.supervisor.block = self.demand.block
        actions = self.supervisor.step(now, listed, seen.tasks, self.demand.wanted())
        for action in actions:
            self._act(action)
        self._tell_who_waits([one for one in actions if one.phase == "pending"])

    def _ask(self, now: float, workers: dict[str, int]) -> dict[str, Listed] | None:
        """Return what squeue says; None where it fails, or where nothing calls for asking the controller so soon."""
        none = not self.supervisor.jobs and not self.demand.wanted()
        if none or (now - self._asked < CALM and self.supervisor.is_calm(now, workers)):
            return None
        self._asked = now
        try:
            listed = squeue(self._name)
        except QueueError as error:
            self._complain(f"{error}: nothing is concluded from it")
            return None
        self._problem = ""
        return listed

    def _act(self, action: Action) -> None:
        acts: dict[str, Callable[[Action], None]] = {
            "submit": self._submit_more,
            "drain": lambda one: self._through_the_door(partial(self._drain, one.jobs)),
            "close": lambda one: self._through_the_door(partial(self._close, one.jobs)),
            "cancel": self._cancel_waiting,
            "note": self._note,
            "say": lambda one: self._tell("say", explained(one, self.folder)),
            "stop": self._give_up,
        }
        acts[action.do](action)

    def _give_up(self, action: Action) -> None:
        self._end(explained(action, self.folder))

    def _end(self, text: str) -> None:
        """Look after the jobs no more: nobody is to wait for them."""
        self._stop.set()
        self._tell("small" if self._large else "stop", text)
        if self._large:
            self.client.set_metadata([METADATA, LARGE], None)

    def _cancel_waiting(self, action: Action) -> None:
        self._cancel(action.jobs)

    def _submit_more(self, action: Action) -> None:
        try:
            self._submit(action.count)
        except QueueError as error:
            for follows in self.supervisor.rejected(time.monotonic(), str(error)):
                self._act(follows)

    def _submit(self, count: int) -> None:
        ids = sbatch(self._script, count, array=self._array, words=self._words)
        self.supervisor.submitted(time.monotonic(), ids)
        for job in ids:
            self._log.append("submitted", job=job)

    def _note(self, action: Action) -> None:
        for job in action.jobs:
            more = {"node": action.text} if action.phase == "running" else {"reason": action.text}
            self._log.append(action.phase, job=job, **more)

    def _tell_who_waits(self, notes: list[Action]) -> None:
        """Say why jobs wait, once for all that wait for the same."""
        for reason in {one.text for one in notes}:
            jobs = [job for one in notes if one.text == reason for job in one.jobs]
            count = f"job {jobs[0]} waits" if len(jobs) == 1 else f"{len(jobs)} jobs wait"
            self._tell("waits", f"{count} in SLURM's queue: {reason}")

    def _through_the_door(self, work: Callable[[], None]) -> None:
        """Do something that takes long beside the watching."""
        self._doors.submit(self._guarded, work)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, ValueError) as error:
            self._complain(f"a job could not be retired ({type(error).__name__}: {error})")

    def _drain(self, jobs: Iterable[str]) -> None:
        """Give the workers of jobs no more work; what they have begun they finish.

        Dask refuses while nobody else could take their results: then again, until another is up or they are gone.
        """
        while there := addresses(self.client, jobs):
            drained = self.client.retire_workers(there, close_workers=False, remove=False)
            if set(drained) >= set(there) or self._stop.wait(BEAT):
                return

    def _close(self, jobs: Iterable[str]) -> None:
        """Close the workers of jobs, their results taken elsewhere before, and the jobs with them."""
        jobs = tuple(jobs)
        if there := addresses(self.client, jobs):
            self.client.retire_workers(there, close_workers=True, remove=True)
        self._cancel(jobs)

    def _cancel(self, jobs: Iterable[str]) -> bool:
        try:
            scancel(jobs)
        except QueueError as error:
            self._complain(f"jobs {', '.join(jobs)} could not be cancelled ({error}): cancel them by hand")
            return False
        return True

    def _complain(self, text: str) -> None:
        """Say something once, until something else is the matter."""
        if text != self._problem:
            self._problem = text
            self._tell("say", text)

    def _tell(self, kind: str, text: str) -> None:
        """Tell whoever drives a run on this cluster, and the log."""
        # drivers print what they hear; a warning here would be printed a second time
        logger.log(logging.ERROR if kind == "stop" else logging.INFO, "cluster %s: %s", self.folder.id, text)
        try:
            if self.client.status == "running":
                self.client.log_event(METADATA, {"kind": kind, "text": text})
            self._log.append(kind, text=text)
        except (OSError, OutputError):  # said to the log at least
            logger.warning("cluster %s: that could not be recorded", self.folder.id)
