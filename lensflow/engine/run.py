"""Make a store true: everything between a lazy dataset and a finished run, in the order it happens."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, get_client

from lensflow.engine import upstream
from lensflow.engine.claim import check, claimed, open_run
from lensflow.engine.cluster import cluster, probe, promise, usable_memory
from lensflow.engine.options import Options
from lensflow.engine.plan import Plan, plan_work
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.runs import Run
from lensflow.engine.session import Session
from lensflow.engine.slurm.words import await_worker
from lensflow.engine.tasks import lower
from lensflow.engine.work import Work
from lensflow.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import xarray as xr

    from lensflow.engine.blocks import Block
    from lensflow.engine.journal import State


def run(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    out: Path | str,
    *,
    client: Client | None = None,
    planned: Callable[[Plan], None] | None = None,
    submitted: Mapping[str, object] | None = None,
    **options: Any,  # noqa: ANN401 - checked by Options.of
) -> Run:
    """Run a lazy dataset into a Zarr store, block by block; run again to resume.

    Parameters
    ----------
    data
        What a graph returned, or any lazy dataset.
    out
        Path of the store. The run directory ``<out>.run`` is made beside it.
    client
        Where to run; the default is the current client, else a local cluster for as long as the run lasts.
    planned
        Called with the plan before anything is written.
    submitted
        Words to remember in ``run.json`` for a later resume.
    **options
        See :class:`Options`.

    Returns
    -------
    Run
        The finished run: its state, failures, notes and report.

    Raises
    ------
    BadInput
        If an input is the store of a run that is not finished.
    StoreConflict
        If the store was made from something else.
    RunLocked
        If another process is writing it.
    Infeasible
        If a block cannot fit a worker's memory.
    BlockFailed
        With ``on_error="raise"``, when a block fails for good.
    """
    chosen = Options.of(**options)
    if Path(out).suffix == ".run":
        raise BadOption(f"{out}: names of run directories end in .run; call the store something else, such as .zarr")
    directory = RunDirectory.of(out)
    work = Work.of(data)
    upstream.check(work.sources)
    check(directory, work, accept_changes=chosen.accept_changes)
    with ExitStack() as stack:
        client = client or _current_client() or stack.enter_context(cluster())
        token = uuid.uuid4().hex
        graph = lower(work.tree, work.grids, directory.out, token)
        plan = plan_work(work, graph, _threads(client), history=directory)
        plan.check(usable_memory(client))
        if planned:
            planned(plan)
        await_worker(client)
        probe(client, graph.cut([graph.key(next(grid.blocks())) for grid in work.grids]))
        lock = stack.enter_context(claimed(directory))
        check(directory, work, accept_changes=chosen.accept_changes)  # again: now nobody else can write
        state = open_run(directory, work, plan, submitted or {})
        pending = _pending(work.blocks, state, failed_only=chosen.failed_only)
        Session(directory, work, chosen, client, token, lock).drive(graph, pending, state)
    return Run(directory)


def _current_client() -> Client | None:
    try:
        return get_client()
    except ValueError:
        return None


def _threads(client: Client) -> int:
    promised: int = promise(client).get("threads", 1)
    return max(client.nthreads().values(), default=promised)


def _pending(blocks: Sequence[Block], state: State, *, failed_only: bool) -> list[Block]:
    if failed_only:
        return [one for one in blocks if one.id in state.quarantined]
    return [one for one in blocks if one.id not in state.done and one.id not in state.quarantined]
