"""Make a store true: everything between a lazy dataset and a finished run, in the order it happens."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from distributed import Client, get_client

from lensflow.engine import store
from lensflow.engine.catalog import notes_of
from lensflow.engine.claim import check, claimed, open_run
from lensflow.engine.cluster import cluster, probe, slots, worker_memory
from lensflow.engine.drive import Drive, Interrupt
from lensflow.engine.journal import Log, State
from lensflow.engine.listen import Recorder
from lensflow.engine.params import Parameters
from lensflow.engine.plan import Plan, plan_work
from lensflow.engine.progress import Display
from lensflow.engine.quarantine import Policy
from lensflow.engine.report import write_report
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.runs import Run
from lensflow.engine.tasks import lower
from lensflow.engine.work import Work
from lensflow.errors import BadOption, LensflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import xarray as xr

    from lensflow.engine.blocks import Block

WINDOW = 3  # blocks in flight for each worker thread
SMALL_WINDOW = 24  # the same where blocks are so small that sending them is what takes the time
SMALL_BATCH = 16  # blocks sent in one message
SMALL_BLOCK = 1 << 20  # bytes

OnError = Literal["quarantine", "raise"]
Outcome = Literal["done", "quarantined", "interrupted", "failed"]


@dataclass(frozen=True)
class Options:
    """How a run treats trouble.

    Parameters
    ----------
    on_error
        ``"quarantine"`` goes on without a block that fails for good; ``"raise"`` stops at the first.
    retries
        Attempts after the first for errors that may pass.
    strict
        Stop at the first note from science code (a corrupt file, say) instead of recording it.
    accept_changes
        Resume although source, arguments, version or inputs have changed.
    failed_only
        Run the quarantined blocks only.
    window
        Blocks in flight; the default is three a worker thread.
    progress
        Show a live line; the default is to do so where somebody watches.
    """

    on_error: OnError = "quarantine"
    retries: int = 3
    strict: bool = False
    accept_changes: bool = False
    failed_only: bool = False
    window: int | None = None
    progress: bool | None = None

    @classmethod
    def of(cls, **options: object) -> Self:
        """Check options by name and type.

        Raises
        ------
        BadOption
            If one is unknown (the nearest is named) or unfit.
        """
        chosen = cls(**Parameters.of_function(cls, "run").validate(options))  # type: ignore[arg-type]
        if (chosen.window is not None and chosen.window < 1) or chosen.retries < 0:
            raise BadOption(f"window {chosen.window} and retries {chosen.retries}: expected at least 1 and at least 0")
        return chosen


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
    check(directory, work, accept_changes=chosen.accept_changes)
    with ExitStack() as stack:
        client = client or _current_client() or stack.enter_context(cluster())
        token = uuid.uuid4().hex
        graph = lower(work.tree, work.grids, directory.out, token)
        plan = plan_work(work, graph, _threads(client))
        plan.check(worker_memory(client))
        probe(client, graph.cut([graph.key(next(grid.blocks())) for grid in work.grids]))
        if planned:
            planned(plan)
        stack.enter_context(claimed(directory))
        check(directory, work, accept_changes=chosen.accept_changes)  # again: now nobody else can write
        state = open_run(directory, work, plan, submitted or {})
        pending = _pending(work.blocks, state, failed_only=chosen.failed_only)
        session = _Session(directory, work, chosen, client, token)
        session.drive(graph, pending, state)
    return Run(directory)


def _current_client() -> Client | None:
    try:
        return get_client()
    except ValueError:
        return None


def _threads(client: Client) -> int:
    return max(client.nthreads().values(), default=1)


def _pending(blocks: Sequence[Block], state: State, *, failed_only: bool) -> list[Block]:
    if failed_only:
        return [one for one in blocks if one.id in state.quarantined]
    return [one for one in blocks if one.id not in state.done and one.id not in state.quarantined]


@dataclass(frozen=True)
class _Session:
    """One start of the driver on a run."""

    directory: RunDirectory
    work: Work
    options: Options
    client: Client
    token: str

    def drive(self, graph: Any, pending: list[Block], state: State) -> None:  # noqa: ANN401 - a TaskGraph
        """Write the pending blocks, journal what happens, and close with a report."""
        total, free = len(self.work.blocks), slots(self.client)
        begun = time.monotonic()
        with ExitStack() as stack:
            journal = stack.enter_context(Log(self.directory.journal))
            events = stack.enter_context(Log(self.directory.events))
            display = stack.enter_context(Display(total, len(state.done), free, show=self.options.progress))
            display.failed = len(state.quarantined.keys() - {block.id for block in pending})
            recorder = Recorder(journal, events, display, self._blank, raising=self.options.on_error == "raise")
            recorder.remember(self.directory)
            recorder.session(self.client, pending=len(pending), total=total, key=self.work.identity.key)
            outcome: Outcome = "failed"
            try:
                self._notes_of_the_graph(recorder)
                outcome = self._blocks(graph, pending, recorder)
            except Exception as error:
                recorder.failed(error)
                raise
            finally:
                recorder.end(outcome, time.monotonic() - begun)
        write_report(self.directory)

    def _blocks(self, graph: Any, pending: list[Block], recorder: Recorder) -> Outcome:  # noqa: ANN401
        interrupt = Interrupt()
        small = max(block.nbytes for block in self.work.blocks) <= SMALL_BLOCK
        window = self.options.window or (SMALL_WINDOW if small else WINDOW) * max(2, slots(self.client))
        drive = Drive(
            self.client,
            graph,
            pending,
            recorder,
            Policy(self.options.retries),
            interrupt,
            window,
            batch=SMALL_BATCH if small else 1,
            memory_limit=worker_memory(self.client),
            strict=self.options.strict,
        )
        with _interruptible(interrupt):
            drive.run()
        if not drive.complete:
            return "interrupted"
        return "quarantined" if self.directory.state().quarantined else "done"

    def _notes_of_the_graph(self, recorder: Recorder) -> None:
        """Pass on what the graph noted while it was built: missing files, say."""
        for note in notes_of(self.work.tree):
            recorder.noted(note.kind, note.message, note.fields)
            if self.options.strict:
                raise LensflowError(f"strict: {note.message}")

    def _blank(self, block: Block) -> None:
        store.blank(self.directory.out, block, self.work.tree, self.token)


@contextmanager
def _interruptible(interrupt: Interrupt) -> Iterator[None]:
    """Let Ctrl-C (and a polite kill) drain the run instead of tearing it apart."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
