"""The end of the driver's own SLURM job: seen in time, blocks in flight are finished and a successor takes over."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lensflow.engine.progress import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from lensflow.engine.requests import Record
    from lensflow.engine.terms import Interrupt

ASK = 30.0  # s between two questions to SLURM: the limit of a job may be changed while it runs
LEAST = 60.0  # s before the end at which no more blocks are begun
SPARE = 1.5  # times what the blocks in flight seem to need, if that is longer
MOST = 0.5  # of the time there is at first: a job of a minute must not end before it has begun
LAST = 15.0  # s before the end at which blocks in flight are given up, so that there is time to say so


@dataclass
class Deadline:
    """Interrupts a driver before its own job ends.

    Parameters
    ----------
    job
        Of SLURM, that the driver runs in.
    left
        Asks for the seconds that are left of it; None where that is not known.
    needed
        Tells the seconds that the blocks in flight need.
    succeed
        Sends off a successor and returns what is to be said of it.
    """

    job: str
    left: Callable[[], float | None]
    needed: Callable[[], float]
    succeed: Callable[[], str]
    clock: Callable[[], float] = time.monotonic
    _asked: float | None = None
    _end: float | None = None
    _span: float = 0.0
    _stages: list[str] = field(default_factory=list)

    def check(self, interrupt: Interrupt, record: Record) -> None:
        """Ask for the time that is left, now and then, and interrupt the run when it is short."""
        now = self.clock()
        if self._asked is None or now - self._asked >= ASK:
            self._ask(now)
        if self._end is None:
            return
        left = self._end - now
        if left <= max(LAST, min(self.lead, self._span * MOST)) and "drain" not in self._stages:
            self._stages.append("drain")
            more = self.succeed() if interrupt.count == 0 else ""  # who was asked to stop wants no successor
            reason = f"its SLURM job {self.job} ends in {duration(max(left, 0.0))}{f'; {more}' if more else ''}"
            self._stop(reason, interrupt, record, 1)
        elif left <= LAST and "leave" not in self._stages:
            self._stages.append("leave")
            self._stop(f"its SLURM job {self.job} ends now", interrupt, record, 2)

    @property
    def lead(self) -> float:
        """Seconds before the end at which no more blocks are begun."""
        return max(LEAST, LAST + SPARE * self.needed())

    def _ask(self, now: float) -> None:
        self._asked = now
        left = self.left()
        if left is None:  # not known now; what was known still holds
            return
        self._end = now + left
        self._span = self._span or left

    def _stop(self, reason: str, interrupt: Interrupt, record: Record, count: int) -> None:
        sys.stderr.write(f"\n{reason}")
        record(reason)
        while interrupt.count < count:
            interrupt()


def own_job() -> str | None:
    """Return the SLURM job that this process runs in, None if it runs in none."""
    return os.environ.get("SLURM_JOB_ID") or None
