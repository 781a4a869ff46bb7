"""What the tasks of a run took, stage by stage and worker by worker, as the scheduler told it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lensflow.engine import journal

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PERCENTILES = (5, 50, 95)


@dataclass
class Timings:
    """Spans of work.

    Parameters
    ----------
    names, workers
        Of stages and workers.
    rows
        Stage number, worker number, start in s since 1970, seconds; shape (tasks, 4), f8.
    memory
        For each worker, pairs of time and bytes.
    """

    names: list[str] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    rows: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4)))
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a run's ``tasks.jsonl``; empty where there is none."""
        found = cls()
        stages: dict[str, int] = {}
        workers: dict[str, int] = {}
        parts = []
        for entry in journal.read(path):
            if entry["event"] != "tasks" or not entry.keys() >= {"t", "stages", "workers", "rows"}:
                continue
            if entry["rows"]:
                rows = np.array(entry["rows"], float).reshape(-1, 4)
                rows[:, 0] = _renumbered(rows[:, 0], entry["stages"], stages)
                rows[:, 1] = _renumbered(rows[:, 1], entry["workers"], workers)
                parts.append(rows)
            for worker, used in entry.get("memory", {}).items():
                found.memory.setdefault(worker, []).append((entry["t"], used))
        found.names, found.workers = list(stages), list(workers)
        if parts:
            found.rows = np.concatenate(parts)
        return found

    def stages(self) -> list[dict[str, Any]]:
        """Return count, percentiles, total and share of each stage's seconds, the longest in total first."""
        whole = float(self.rows[:, 3].sum())
        found = []
        for number in np.unique(self.rows[:, 0]).astype(int):
            name = self.names[number]
            seconds = self.rows[self.rows[:, 0] == number, 3]
            low, middle, high = np.percentile(seconds, PERCENTILES)
            found.append(
                {
                    "stage": name,
                    "count": len(seconds),
                    "p5": round(float(low), 4),
                    "p50": round(float(middle), 4),
                    "p95": round(float(high), 4),
                    "max": round(float(seconds.max()), 4),
                    "total": round(float(seconds.sum()), 3),
                    "share": round(float(seconds.sum()) / whole, 4) if whole else 0.0,
                }
            )
        return sorted(found, key=lambda one: -float(one["total"]))

    def memory_peaks(self) -> dict[str, int]:
        """Return the most memory that each worker was seen to use, bytes."""
        return {worker: max(used for _, used in samples) for worker, samples in self.memory.items()}


def _renumbered(numbers: NDArray[np.float64], names: list[str], known: dict[str, int]) -> NDArray[np.float64]:
    """Return the numbers that names have in the whole run for those they have in one batch."""
    table = np.array([known.setdefault(name, len(known)) for name in names], float)
    renumbered: NDArray[np.float64] = table[numbers.astype(int)]
    return renumbered
