"""How many jobs are worth having: what is left to do, measured, against what a job can do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lensflow.engine.slurm.workers import Activity

LINGER = 60.0  # s that jobs must have been too many before some are let go: another run may follow
ENOUGH = 4  # blocks after which their time is known


@dataclass
class Demand:
    """Hears what drivers tell of their runs and says how many jobs are wanted.

    Up: as many as bring what is left to an end within ``horizon``. Down: only below what there are blocks for, so a
    job that has work keeps it, and nothing swings. When the last run has ended, ``minimum``. Fewer only when there have
    been too many for a minute.

    Parameters
    ----------
    jobs, minimum, maximum
        At first, at least, at most.
    slots
        Worker threads of a job.
    horizon
        Seconds in which what is left should be done; not longer than a job lasts.
    adaptive
        Whether runs change the number at all.
    """

    jobs: int
    minimum: int
    maximum: int
    slots: int
    horizon: float
    adaptive: bool = True
    _present: int = -1
    _left: dict[str, int] = field(default_factory=dict)
    _done: int = 0
    _spent: float = 0.0
    _longest: float = 0.0
    _last: float | None = None
    _held: int = -1
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._present = self.jobs

    def scale(self, jobs: int) -> None:
        """Want so many jobs from now on, until a run says more."""
        self.jobs = self._present = self._held = jobs

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take note of what a driver says of its run (see ``broadcast``)."""
        run, event = message.get("run", ""), message.get("event")
        if event == "begin":
            self._left[run] = message["total"] - len(message["done"]) - len(message["quarantined"])
            self._present = max(self._present, self.jobs)
        elif event == "end":
            self._left.pop(run, None)
            if not self._left:
                self._present = min(self.minimum, self._present)
        elif run in self._left:
            done = len(message.get("done", ()))
            self._done += done
            self._left[run] = max(0, self._left[run] - done - len(message.get("quarantined", ())))

    def pass_time(self, now: float, seen: Activity) -> None:
        """Take note of the worker threads at work now."""
        if self._last is not None and self._left:
            self._spent += seen.busy * (now - self._last)
            self._longest += (now - self._last) if seen.busy else 0.0
        self._last = now

    @property
    def block(self) -> float:
        """Seconds that a block takes one thread, all its steps together; as long as none is done, so far."""
        return self._spent / self._done if self._done else self._longest

    @property
    def left(self) -> int:
        """Blocks that are not done."""
        return sum(self._left.values())

    def wanted(self) -> int:
        """Return the jobs there should be: more at once, fewer only after a while."""
        worth, now = self.worth(), self._last or 0.0
        if worth >= self._held or now - self._since > LINGER:
            self._held, self._since = worth, now
        return self._held

    def worth(self) -> int:
        """Return the jobs that what is left is worth."""
        if not self.adaptive:
            return min(self.jobs, self.maximum)
        if not self._left:
            return min(self._present, self.maximum)
        useful = math.ceil(self.left / self.slots)  # a thread without a block is of no use
        if self._done >= ENOUGH:
            quick = math.ceil(self.left * self.block / (self.slots * self.horizon))
            self._present = max(self._present, quick)
        return max(self.minimum, min(self._present, useful, self.maximum))


@dataclass
class LargeDemand:
    """Wants jobs of the large class while blocks wait for one, and for a minute after.

    Parameters
    ----------
    maximum
        Jobs at most.
    block
        Seconds that a large worker has been at work without a pause, at most: no block has taken longer.
    """

    maximum: int
    block: float = 0.0
    _wanted: int = 0
    _last: float = -math.inf
    _begun: float | None = None

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take note of nothing: the blocks themselves say what they wait for."""

    def pass_time(self, now: float, seen: Activity) -> None:
        """Take note of the blocks that only a large worker may do."""
        if seen.enlarged:
            self._wanted, self._last = max(self._wanted, min(self.maximum, seen.enlarged)), now
        elif now - self._last > LINGER:
            self._wanted = 0
        self._begun = (self._begun or now) if seen.begun else None
        self.block = max(self.block, now - self._begun if self._begun is not None else 0.0)

    def wanted(self) -> int:
        """Return the jobs there should be."""
        return self._wanted
