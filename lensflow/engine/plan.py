"""What a run would do: blocks, tasks, bytes and the memory a worker needs; says no when that cannot work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensflow.engine import sizes
from lensflow.engine.forecast import Forecast
from lensflow.engine.lifetimes import Lifetimes
from lensflow.engine.progress import size
from lensflow.engine.tasks import TaskGraph, lower
from lensflow.engine.work import Work
from lensflow.errors import Infeasible

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import xarray as xr

    from lensflow.engine.blocks import Block



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
        Predicted bytes of a worker at the worst moment, and the task then running.
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

    def check(self, limit: int | None) -> None:
        """Refuse a plan that no worker can carry out.

        Raises
        ------
        Infeasible
            If the predicted peak is above ``limit``, the memory of a worker in bytes.
        """
        if limit is not None and self.peak_memory > limit:
            raise Infeasible(
                f"a worker would need {size(self.peak_memory)} at its peak (step {self.peak_step}), its limit is"
                f" {size(limit)}: use smaller blocks, fewer threads a worker, or workers with more memory"
            )

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each line, for terminal and notebook."""
        return [
            ("blocks", f"{self.blocks:,} (largest {size(self.largest_block)})"),
            ("tasks", f"{self.tasks:,} ({self.tasks / self.blocks:.1f} a block)"),
            ("read", f"{self.input_files:,} input files, {size(self.input_bytes)} on disk"),
            ("write", f"{size(self.output_bytes)} before compression"),
            ("shared", f"{self.shared_tasks:,} results used by several blocks, {size(self.shared_bytes)}"),
            ("memory", f"{size(self.peak_memory)} a worker of {self.threads} thread(s), at {self.peak_step}"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{label:>8}  {text}" for label, text in self.rows())

    def _repr_html_(self) -> str:
        body = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in self.rows())
        return f"<table><caption>plan</caption>{body}</table>"


def plan(data: xr.DataArray | xr.Dataset | xr.DataTree, *, threads: int = 1) -> Plan:
    """Plan a lazy dataset: nothing is computed, nothing is written.

    Parameters
    ----------
    data
        The lazy data a graph has made.
    threads
        Threads a worker process will have.
    """
    work = Work.of(data)
    graph = lower(work.tree, work.grids, Path("planned.zarr"), "0" * 8)
    return plan_work(work, graph, threads)


def plan_work(work: Work, graph: TaskGraph, threads: int) -> Plan:
    """Plan what has been looked at and lowered already."""
    lives = Lifetimes.of(graph, work.blocks)
    peak = Forecast(work, graph, lives).peak(threads)
    shared = list(lives.shared())
    return Plan(
        blocks=len(work.blocks),
        tasks=len(graph.tasks),
        input_files=len(work.identity.inputs),
        input_bytes=sum(one[0] for one in work.identity.inputs.values()),
        output_bytes=work.nbytes,
        largest_block=max(block.nbytes for block in work.blocks),
        shared_tasks=len(shared),
        shared_bytes=sum(sizes.of_key(key) or 0 for key in shared),
        threads=threads,
        peak_memory=peak.nbytes,
        peak_step=peak.step,
    )
