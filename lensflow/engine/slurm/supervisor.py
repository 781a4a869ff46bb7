"""What is to be done about the jobs of a cluster: a state machine without clock, SLURM or Dask.

Each second it is told the time, what squeue answered (None where it failed: then nothing is concluded), which
workers are there, and how many jobs are wanted; it returns what is to be done. A job that is near its end does not
count any more, so that its successor is asked for first; it is retired when that one is up, or in the last moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lensflow.engine.slurm.states import ALIVE, ROBBED, TAKEN, WAITING, Action, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lensflow.engine.slurm.queue import Listed

UNSEEN = 10.0  # s after sbatch in which squeue may not list a job yet
ORPHANED = 60.0  # s that a job which squeue has forgotten is believed because of its workers
SILENT = 40.0  # s of a running job without a worker that are worth a word
SHORT = 30.0  # s; a job that fails sooner after its first worker came has failed, not ended
FIRST_WAIT, LONGEST_WAIT = 2.0, 120.0  # s before a new attempt after a failure, doubled each time
MOST_ROBBED = 20  # jobs in a row that may be taken before their workers come; each counts as a failure from then on
MOST_FAILURES = 5  # in a row, with no job up, before the cluster is given up
LEAST_LEAD = 15.0  # s before a job's end that its successor is asked for, at least
LAST_MOMENT = 5.0  # s before a job's end in which it is closed whatever it does
SETTLED = 6.0  # s after which every worker has said what it still works on: Dask's heartbeats are 5 s apart at most
NEAR = 15.0  # s before the time has come to ask for a successor
AGAIN = 30.0  # s after which a job that should be gone is closed once more
LONGEST_DRAIN = 3600.0  # s that a retiring job without a time limit may finish its work


@dataclass
class Supervisor:
    """Keeps as many jobs as are wanted.

    Parameters
    ----------
    walltime
        Seconds of a job.
    block
        Seconds that a worker's present work may take: it is not interrupted where that can be helped.
    """

    walltime: float
    block: float = 0.0
    jobs: dict[str, Job] = field(default_factory=dict)
    failures: int = 0
    robbed: int = 0
    not_before: float = -math.inf
    _over: set[str] = field(default_factory=set)
    _starting: float = 0.0
    _problem: str = ""
    _actions: list[Action] = field(default_factory=list)

    @property
    def drain(self) -> float:
        """Seconds before its end in which a job is given no more work, so that what it has begun is finished."""
        return min(max(1.5 * self.block, SETTLED) + LAST_MOMENT, self.walltime / 2)

    @property
    def lead(self) -> float:
        """Seconds before a job's end at which its successor is asked for: to wait, to start, and to spare."""
        return min(max(LEAST_LEAD, self.drain + 1.5 * self._starting), self.walltime / 2)

    def step(
        self, now: float, listed: Mapping[str, Listed] | None, workers: Mapping[str, int], wanted: int
    ) -> list[Action]:
        """Return what is to be done.

        Parameters
        ----------
        now
            Seconds of a clock that only goes forward.
        listed
            What squeue says of the cluster's jobs, by id; None where it failed.
        workers
            Tasks under way on the workers there are, by the job they belong to; a job with none is missing.
        wanted
            Jobs that there should be.
        """
        self._actions = []
        self._greet(now, workers)
        if listed is not None:
            self._compare(now, listed, workers)
        self._finish(now, workers)
        self._balance(now, workers, wanted)
        return self._actions

    def is_calm(self, now: float, workers: Mapping[str, int]) -> bool:
        """Whether every job is up and none is near its end: then SLURM has nothing to say that could not wait."""
        near = self.lead + NEAR
        return all(one.phase == "met" and one.id in workers and one.ends - now > near for one in self.jobs.values())

    def submitted(self, now: float, ids: Iterable[str]) -> None:
        """Take note of jobs that sbatch has accepted."""
        for job in ids:
            self.jobs[job] = Job(job, now)

    def rejected(self, now: float, message: str) -> list[Action]:
        """Take note that sbatch refused, and return what is to be done."""
        self._actions = []
        self._fail(now, message)
        return self._actions

    def _do(self, do: str, jobs: Iterable[Job] = (), **more: object) -> None:
        self._actions.append(Action(do, tuple(one.id for one in jobs), **more))  # type: ignore[arg-type]

    def _change(self, job: Job, **values: object) -> Job:
        self.jobs[job.id] = replace(job, **values)  # type: ignore[arg-type]
        return self.jobs[job.id]

    def _greet(self, now: float, workers: Mapping[str, int]) -> None:
        """Take note of jobs whose first worker has come, and of those that go on."""
        for job in list(self.jobs.values()):
            if job.met is not None and now - job.met > SHORT:
                self.failures = self.robbed = 0
            if job.met is None and job.id in workers:
                self._starting = max(now - job.submitted, 0.8 * self._starting)
                self._do("note", [job], phase="met")
                phase = job.phase if job.phase == "retiring" else "met"
                self._change(job, met=now, phase=phase, running=job.running or now)

    def _compare(self, now: float, listed: Mapping[str, Listed], workers: Mapping[str, int]) -> None:
        """Bring what is known of each job up to date with what squeue says."""
        for job, found in listed.items():
            if job not in self.jobs and job not in self._over and found.state in ALIVE:
                self.jobs[job] = Job(job, now)  # sbatch did not come back in time, yet it was heard
                self._do("note", [self.jobs[job]], phase="submitted")
        failed = [self._follow(now, job, listed.get(job.id), workers) for job in list(self.jobs.values())]
        said = next(filter(None, failed), None)
        if said:
            self._fail(now, said)

    def _follow(self, now: float, job: Job, found: Listed | None, workers: Mapping[str, int]) -> str | None:
        """Bring one job up to date; return what is to be said if it has failed."""
        if found is None:
            patience = ORPHANED if job.id in workers else UNSEEN
            known = max(job.submitted, job.running or job.submitted)
            return self._bury(now, job, "", "squeue lists it no more") if now - known > patience else None
        if found.state == "COMPLETING":  # it is over, and SLURM will say how
            self._change(job, phase="retiring" if job.phase == "retiring" else "ending")
            return None
        if found.state not in ALIVE:
            return self._bury(now, job, found.state, found.reason)
        if found.state in WAITING:
            if found.reason not in {job.reason, "None"}:
                self._do("note", [job], phase="pending", text=found.reason)
                self._change(job, reason=found.reason)
            return None
        if job.running is None:
            self._do("note", [job], phase="running", text=found.node)
        ends = math.inf if found.left is None else now + found.left
        phase = "running" if job.phase == "pending" else job.phase
        job = self._change(job, phase=phase, running=job.running or now, ends=ends, reason="")
        if job.met is None and not job.told and now - (job.running or now) > SILENT:
            self._change(job, told=True)
            self._do("say", [job], text=f"has run for {SILENT:.0f} s on {found.node} and no worker of it has come")
        return None

    def _bury(self, now: float, job: Job, state: str, reason: str) -> str | None:
        """Take a job out that is no more; return what is to be said if it has failed."""
        del self.jobs[job.id]
        self._over.add(job.id)
        why = ", ".join(one for one in (state, reason) if one and one != "None")
        self._do("note", [job], phase="gone", text=why)
        if job.phase == "retiring":
            return None
        lived = now - job.met if job.met is not None else 0.0
        if job.met is not None and (state in TAKEN or lived > SHORT):
            return None
        if state in ROBBED:
            self.robbed += 1
            if self.robbed < MOST_ROBBED:
                return None
        return f"job {job.id} ended ({why}) " + ("before a worker of it came" if job.met is None else "at once")

    def _fail(self, now: float, message: str) -> None:
        """Wait before the next attempt, longer each time; give up when nothing comes of it."""
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0**self.failures)
        self.failures += 1
        self._problem, self.not_before = message, now + wait
        if self.failures >= MOST_FAILURES and not self._up():
            self._do("stop", text=f"{message}; {self.failures} attempts came to nothing")
        else:
            self._do("say", text=f"{message}; the next attempt follows in {wait:.0f} s")

    def _up(self) -> list[Job]:
        return [one for one in self.jobs.values() if one.phase == "met"]

    def _finish(self, now: float, workers: Mapping[str, int]) -> None:
        """Close jobs that have been drained, or that are about to end."""
        retiring = [one for one in self.jobs.values() if one.phase == "retiring" and now >= one.closing]
        done = [one for one in retiring if self._is_drained(now, one, workers)]
        if done:
            self._do("close", done)
            for one in done:
                self._change(one, closing=now + AGAIN)

    def _is_drained(self, now: float, job: Job, workers: Mapping[str, int]) -> bool:
        if job.id not in workers or job.ends - now < LAST_MOMENT:
            return True
        waited = now - job.retired
        return waited > LONGEST_DRAIN or (waited > SETTLED and not workers[job.id])

    def _balance(self, now: float, workers: Mapping[str, int], wanted: int) -> None:
        """Ask for what is lacking, retire what has a successor or is about to end, let go of what is too much."""
        alive = [one for one in self.jobs.values() if one.phase not in {"retiring", "ending"}]
        ageing = [one for one in alive if one.ends - now < self.lead]
        lasting = [one for one in alive if one.ends - now >= self.lead]
        fresh = [one for one in lasting if one.phase == "met"]
        lacking = min(wanted - len(lasting), 2 * wanted - len(alive))  # the second: whatever squeue says of times
        if lacking > 0 and now >= self.not_before:
            self._do("submit", count=lacking)
        by_end = sorted(ageing, key=lambda one: one.ends)
        spare = len(ageing) - max(0, wanted - len(fresh))
        ending = [one for place, one in enumerate(by_end) if place < spare or one.ends - now < self.drain]
        surplus = self._least(lasting, len(lasting) - wanted, workers)
        waiting = [one for one in surplus if one.met is None]
        self._retire(now, [*ending, *(one for one in surplus if one.met is not None)])
        if waiting:
            self._do("cancel", waiting)
            for one in waiting:
                self._change(one, phase="retiring", retired=now, closing=now + AGAIN)

    def _least(self, lasting: list[Job], count: int, workers: Mapping[str, int]) -> list[Job]:
        """Return the jobs that are missed least: those that have not begun, then those with the least work."""
        order = {"pending": 0, "running": 1, "met": 2}
        ranked = sorted(lasting, key=lambda one: (order[one.phase], workers.get(one.id, 0), -one.submitted))
        return ranked[: max(0, count)]

    def _retire(self, now: float, jobs: list[Job]) -> None:
        if jobs:
            self._do("drain", jobs)
            for one in jobs:
                self._do("note", [one], phase="retiring")
                self._change(one, phase="retiring", retired=now)
