"""What a run would do: blocks, tasks, bytes and the memory a worker needs; says no when that cannot work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensflow.engine import sizes
from lensflow.engine.cards import table
from lensflow.engine.forecast import Forecast
from lensflow.engine.history import core_hours
from lensflow.engine.lifetimes import Lifetimes
from lensflow.engine.memory import PROCESS
from lensflow.engine.progress import size
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.tasks import TaskGraph, lower
from lensflow.engine.work import Work
from lensflow.errors import Infeasible

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr


@dataclass(frozen=True)
class Plan:
    """A plan, as numbers. Bytes are uncompressed except ``input_bytes``, which is what lies on disk.

    Parameters
    ----------
    blocks, tasks
        Final tasks, and all Dask tasks after optimisation.
    input_files, input_bytes
        What the fingerprints cover; 0 for a dataset made by hand.
    output_bytes, largest_block
        Bytes of all variables, and of the largest block.
    shared_tasks, shared_bytes
        Results that several blocks need (halos): kept until the last of them has used them.
    threads
        Threads a worker that the memory was predicted for.
    peak_memory, peak_step
        Predicted bytes of a worker at the worst moment, and the step then running that takes most.
    single_memory
        The same bytes for a worker of one thread; None if not asked.
    process
        Bytes of a worker before its first task, which the other two include.
    halo_bytes, core_bytes
        What chunks carry over block edges, all blocks together, and those chunks without it; None if unknown.
    core_hours
        What the whole run costs, going by its earlier sessions; None if unknown.
    steps
        For each kind of task, the steps that Dask has fused into it.
    """

    blocks: int
    tasks: int
    input_files: int
    input_bytes: int
    output_bytes: int
    largest_block: int
    shared_tasks: int
    shared_bytes: int
    threads: int
    peak_memory: int
    peak_step: str
    single_memory: int | None = None
    process: int = PROCESS
    halo_bytes: int | None = None
    core_bytes: int | None = None
    core_hours: float | None = None
    steps: Mapping[str, list[str]] = field(default_factory=dict)

    def check(self, limit: int | None) -> None:
        """Refuse a plan that no worker can carry out.

        Raises
        ------
        Infeasible
            If the predicted peak is above ``limit``, the bytes that a worker may occupy; it says what would fit.
        """
        if limit is None or self.peak_memory <= limit:
            return
        remedies = ["workers with more memory"]
        if self.single_memory is not None and self.single_memory <= limit:
            remedies.insert(0, f"one thread a worker ({size(self.single_memory)} predicted)")
        if limit > self.process:
            share = (limit - self.process) / (self.peak_memory - self.process)
            remedies.insert(0, f"smaller blocks ({size(int(share * self.largest_block))} should fit)")
        raise Infeasible(
            f"a worker would need {size(self.peak_memory)} at its peak (step {self.peak_step}, {self.threads}"
            f" thread(s), blocks of {size(self.largest_block)}), it may use {size(limit)}:"
            f" use {' or '.join(filter(None, [', '.join(remedies[:-1]), remedies[-1]]))}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each line, for terminal and notebook."""
        rows = [
            ("blocks", f"{self.blocks:,} (largest {size(self.largest_block)})"),
            ("tasks", f"{self.tasks:,} ({self.tasks / self.blocks:.1f} a block)"),
            ("read", f"{self.input_files:,} input files, {size(self.input_bytes)} on disk"),
            ("write", f"{size(self.output_bytes)} before compression"),
            ("shared", f"{self.shared_tasks:,} results used by several blocks, {size(self.shared_bytes)}"),
            ("halo", self._halo()),
            ("memory", f"{size(self.peak_memory)} a worker of {self.threads} thread(s), at {self.peak_step}"),
        ]
        if self.core_hours is not None:
            rows.append(("cost", f"{self.core_hours:.3g} core hours for all of it, going by what is done"))
        return rows

    def _halo(self) -> str:
        if self.halo_bytes is None or self.core_bytes is None:
            return "unknown: the arrays were made outside a graph"
        if not self.halo_bytes:
            return "none"
        share = 100 * self.halo_bytes / self.core_bytes
        return f"{size(self.halo_bytes)} carried over block edges, {share:.1f} % of {size(self.core_bytes)}"

    def __str__(self) -> str:
        return "\n".join(f"{label:>8}  {text}" for label, text in self.rows())

    def _repr_html_(self) -> str:
        return table("plan", [(name, escape(text)) for name, text in self.rows()])


def plan(data: xr.DataArray | xr.Dataset | xr.DataTree, *, threads: int = 1, out: Path | str | None = None) -> Plan:
    """Plan a lazy dataset: nothing is computed, nothing is written.

    Parameters
    ----------
    data
        The lazy data a graph has made.
    threads
        Threads a worker process will have.
    out
        The store of a run that has begun, from which the cost of the whole is estimated.
    """
    work = Work.of(data)
    graph = lower(work.tree, work.grids, Path("planned.zarr"), "0" * 8)
    return plan_work(work, graph, threads, history=RunDirectory.of(out) if out else None)


def plan_work(
    work: Work, graph: TaskGraph, threads: int, *, process: int = PROCESS, history: RunDirectory | None = None
) -> Plan:
    """Plan what has been looked at and lowered already.

    Parameters
    ----------
    work, graph
        What is to be written, and how.
    threads
        Threads a worker process has.
    process
        Bytes of a worker before its first task.
    history
        Run directory of earlier sessions.
    """
    lives = Lifetimes.of(graph, work.blocks)
    forecast = Forecast(work, graph, lives, process)
    peak = forecast.peak(threads)
    carried = forecast.halo
    return Plan(
        blocks=len(work.blocks),
        tasks=len(graph.tasks),
        input_files=len(work.identity.inputs),
        input_bytes=sum(one[0] for one in work.identity.inputs.values()),
        output_bytes=work.nbytes,
        largest_block=max(block.nbytes for block in work.blocks),
        shared_tasks=len(lives.shared),
        shared_bytes=sum(sizes.of_key(key) or 0 for key in lives.shared),
        threads=threads,
        peak_memory=peak.nbytes,
        peak_step=peak.step,
        single_memory=peak.nbytes if threads == 1 else forecast.peak(1).nbytes,
        process=process,
        halo_bytes=carried.nbytes,
        core_bytes=carried.core,
        core_hours=core_hours(history, blocks=len(work.blocks), nbytes=work.nbytes) if history else None,
        steps=forecast.steps(),
    )
