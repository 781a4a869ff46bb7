"""Prometheus counters, gauges and histograms of the runs on a scheduler, on Dask's own /metrics page."""

from __future__ import annotations

import weakref
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from lensflow.engine.board import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from lensflow.engine.board import Board, Told

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
BYTES = tuple(float(4**power << 10) for power in range(11))  # 1 KiB to 1 GiB
STAGES = 200  # kinds of tasks that are counted apart


class Histogram:
    """Values counted by size; a value on a bound belongs below it, as Prometheus has it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound with the number of values up to it."""
        names = [*(format(one, "g") for one in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Measured:
    """What is measured of all runs of one scheduler."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.blocks = {"seconds": Histogram(SECONDS), "bytes": Histogram(BYTES)}
        self.stages: dict[str, Histogram] = {}

    def task(self, stage: str, seconds: float) -> None:
        """Count a task that has ended."""
        if stage not in self.stages and len(self.stages) >= STAGES:
            stage = OTHER
        self.stages.setdefault(stage, Histogram(SECONDS)).add(seconds)

    def block(self, seconds: float, nbytes: float) -> None:
        """Count a block that has been written."""
        self.blocks["seconds"].add(seconds)
        self.blocks["bytes"].add(nbytes)


class Collector:
    """Gives Prometheus the runs of every living scheduler of this process: mostly there is one."""

    def __init__(self) -> None:
        self.schedulers: weakref.WeakSet[Measured] = weakref.WeakSet()

    def describe(self) -> list[Metric]:
        """Return nothing: the registry need not collect in order to know the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what is known by now."""
        schedulers = list(self.schedulers)
        yield from _of_runs([run for one in schedulers for run in one.board.runs.values()])
        tasks = HistogramMetricFamily("lensflow_task_seconds", "Time that tasks took", labels=["stage"])
        for stage in sorted({stage for one in schedulers for stage in one.stages}):
            _add(tasks, [stage], [one.stages[stage] for one in schedulers if stage in one.stages])
        yield tasks
        for what, text in {"seconds": "Time that writing a block took", "bytes": "Bytes of the blocks written"}.items():
            blocks = HistogramMetricFamily(f"lensflow_block_{what}", text, labels=[])
            _add(blocks, [], [one.blocks[what] for one in schedulers])
            yield blocks


def _add(family: HistogramMetricFamily, labels: list[str], parts: Sequence[Histogram]) -> None:
    """Add the sum of histograms that have the same bounds."""
    if parts:
        whole = Histogram(parts[0].bounds)
        whole.counts = [sum(counts) for counts in zip(*(one.counts for one in parts), strict=True)]
        family.add_metric(labels, whole.buckets(), sum(one.total for one in parts))


def _of_runs(runs: Sequence[Told]) -> Iterator[Metric]:
    """Yield the families that have a label for the run."""
    info = GaugeMetricFamily("lensflow_run_info", "What a run is", labels=["run", "name", "out", "outcome"])
    blocks = CounterMetricFamily("lensflow_blocks", "Blocks, by what became of them", labels=["run", "state"])
    active = GaugeMetricFamily("lensflow_blocks_active", "Blocks in flight", labels=["run"])
    pending = GaugeMetricFamily("lensflow_blocks_pending", "Blocks not begun", labels=["run"])
    nbytes = CounterMetricFamily("lensflow_written_bytes", "Bytes written, before compression", labels=["run"])
    notes = CounterMetricFamily("lensflow_notes", "Notes from science code", labels=["run", "kind"])
    for told in runs:
        run = told.run[:12]
        info.add_metric([run, told.name, told.out, told.outcome or ""], 1)
        for state in ("done", "retried", "quarantined"):
            blocks.add_metric([run, state], told.happened[state])
        active.add_metric([run], told.in_flight)
        pending.add_metric([run], told.waiting)
        nbytes.add_metric([run], told.nbytes)
        for kind, count in told.kinds.items():
            notes.add_metric([run, kind], count)
    yield from (info, blocks, active, pending, nbytes, notes)


_collector: Collector | None = None  # the registry of prometheus_client is one a process, and so is this


def expose(measured: Measured) -> None:
    """Show what is measured on the /metrics page of its scheduler, for as long as it lives."""
    global _collector  # noqa: PLW0603 - see above
    if _collector is None:
        _collector = Collector()
        prometheus_client.REGISTRY.register(_collector)
    _collector.schedulers.add(measured)


def withdraw(measured: Measured) -> None:
    """Show it no longer."""
    if _collector is not None:
        _collector.schedulers.discard(measured)
