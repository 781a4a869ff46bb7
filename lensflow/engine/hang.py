"""How long a task may run: as long as the user says, or far longer than any of its kind has taken so far."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ENOUGH = 8  # tasks of a stage before anything is learned of it
TIMES = 10.0  # what is slower than the slowest so far by this factor hangs
LEAST = 120.0  # s that any task may take where the user has not said
PATIENCE = 10.0  # times the learned limit that a block run alone may take: nobody asked for a limit


@dataclass(frozen=True)
class Overdue:
    """A task that has run too long: its worker, its stage, its key as text, for how long, and the limit, in s."""

    worker: str
    stage: str
    key: str
    seconds: float
    limit: float


@dataclass
class Watchdog:
    """Knows how long the tasks of each stage take.

    Parameters
    ----------
    given
        Seconds that the user allows a task, None to learn it.
    """

    given: float | None = None
    _count: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _longest: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def learn(self, stage: str, seconds: float) -> None:
        """Take note of a finished task."""
        self._count[stage] += 1
        self._longest[stage] = max(self._longest[stage], seconds)

    def limit(self, stage: str) -> float | None:
        """Return the seconds a task of a stage may take, None while too little is known."""
        if self.given is not None:
            return self.given
        if self._count[stage] < ENOUGH:
            return None
        return max(LEAST, TIMES * self._longest[stage])

    def alone(self, stage: str) -> float | None:
        """Return the seconds a task may take in a process of its own."""
        limit = self.limit(stage)
        return limit if limit is None or self.given is not None else PATIENCE * limit

    def overdue(self, running: Iterable[tuple[str, str, str, float]]) -> list[Overdue]:
        """Return those of the running tasks (worker, stage, key, seconds) that have run too long."""
        found = []
        for worker, stage, key, seconds in running:
            limit = self.limit(stage)
            if limit is not None and seconds > limit:
                found.append(Overdue(worker, stage, key, seconds, limit))
        return found
