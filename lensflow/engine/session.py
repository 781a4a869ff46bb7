"""One start of the driver on a run: what it needs is opened, the blocks are driven, the end is recorded."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distributed import LocalCluster

from lensflow.engine import store, upstream
from lensflow.engine.blocks import described
from lensflow.engine.broadcast import Broadcast
from lensflow.engine.catalog import notes_of
from lensflow.engine.chain import follow, withdraw
from lensflow.engine.cluster import slots, worker_memory
from lensflow.engine.dashboard import link
from lensflow.engine.drive import Drive
from lensflow.engine.journal import Log, State
from lensflow.engine.listen import Recorder
from lensflow.engine.logs import Words, kept
from lensflow.engine.progress import Display
from lensflow.engine.quarantine import Policy
from lensflow.engine.report import write_report
from lensflow.engine.requests import heeding
from lensflow.engine.stopwatch import Stopwatch
from lensflow.engine.terms import Interrupt, Terms
from lensflow.engine.watch import install
from lensflow.engine.workjobs import remember
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from lensflow.engine.blocks import Block
    from lensflow.engine.lock import Lock
    from lensflow.engine.options import Options
    from lensflow.engine.rundir import RunDirectory
    from lensflow.engine.tasks import TaskGraph
    from lensflow.engine.work import Work

WINDOW = 3  # blocks in flight for each worker thread
SMALL_WINDOW = 24  # the same where blocks are so small that sending them is what takes the time
SMALL_BATCH = 16  # blocks sent in one message
SMALL_BLOCK = 1 << 20  # bytes
PATIENCE = 300.0  # s to wait for the workers of this machine; those of a queue may take hours

Outcome = Literal["done", "quarantined", "interrupted", "failed"]


@dataclass(frozen=True)
class Session:
    """One start of the driver on a run."""

    directory: RunDirectory
    work: Work
    options: Options
    client: Client
    token: str
    lock: Lock

    def drive(self, graph: TaskGraph, pending: list[Block], state: State) -> None:
        """Write the pending blocks, journal what happens, and close with a report."""
        begun = time.monotonic()
        outcome: Outcome = "failed"
        with ExitStack() as stack:
            words = stack.enter_context(kept(self.directory.path / "logs" / "driver.log"))
            watched = install(self.client)
            recorder = self._recorder(stack, pending, state)
            stack.enter_context(recorder.stopwatch.hearing(self.client, self.token))
            self._begin(recorder, pending, state)
            try:
                self._notes_of_the_graph(recorder)
                outcome = self._blocks(graph, pending, recorder, words)
            except Exception as error:
                recorder.failed(error)
                raise
            finally:
                recorder.end(outcome, time.monotonic() - begun)
                recorder.stopwatch.close(more=watched and self.client.status == "running")
        write_report(self.directory)

    def _recorder(self, stack: ExitStack, pending: list[Block], state: State) -> Recorder:
        total, free = len(self.work.blocks), slots(self.client)
        journal = stack.enter_context(Log(self.directory.journal))
        events = stack.enter_context(Log(self.directory.events))
        display = stack.enter_context(Display(total, len(state.done), free, show=self.options.progress))
        display.failed = len(state.quarantined.keys() - {block.id for block in pending})
        broadcast = Broadcast(self.client, self.token)
        stopwatch = Stopwatch(stack.enter_context(Log(self.directory.tasks)))
        raising = self.options.on_error == "raise"
        return Recorder(journal, events, display, broadcast, stopwatch, self.lock, self._blank, raising=raising)

    def _begin(self, recorder: Recorder, pending: list[Block], state: State) -> None:
        total = len(self.work.blocks)
        recorder.remember(self.directory)
        remember(self.directory, self.client)
        recorder.session(self.client, pending=len(pending), total=total, key=self.work.identity.key)
        recorder.broadcast.begin(
            name=self.work.graph.name if self.work.graph else "dataset",
            out=str(self.directory.out),
            grids=described(self.work.grids),
            total=total,
            done=list(state.done),
            quarantined=list(state.quarantined.keys() - {block.id for block in pending}),
            threads=slots(self.client),
            dashboard=link(self.client),
        )

    def _blocks(self, graph: TaskGraph, pending: list[Block], recorder: Recorder, words: Words) -> Outcome:
        interrupt = Interrupt()
        policy = Policy(self.options.retries)
        drive = Drive(self.client, graph, pending, self.token, recorder, policy, interrupt, self._terms(), words)
        deadline = follow(self.directory, self.options.chain, lambda: recorder.needed)
        with _interruptible(interrupt), heeding(self.directory, interrupt, recorder.stopping, deadline):
            drive.drive()
        if not drive.complete:
            return "interrupted"
        withdraw(self.directory)
        return "quarantined" if self.directory.state().quarantined else "done"

    def _terms(self) -> Terms:
        small = max(block.nbytes for block in self.work.blocks) <= SMALL_BLOCK
        return Terms(
            window=self.options.window,
            depth=SMALL_WINDOW if small else WINDOW,
            batch=SMALL_BATCH if small else 1,
            memory=worker_memory(self.client),
            timeout=self.options.timeout,
            patience=PATIENCE if isinstance(self.client.cluster, LocalCluster) else None,
            strict=self.options.strict,
        )

    def _notes_of_the_graph(self, recorder: Recorder) -> None:
        """Pass on what was noted before the first block: missing files, inputs that lack blocks."""
        for note in [*notes_of(self.work.tree), *upstream.notes(self.work.sources)]:
            recorder.noted(note)
            if self._terms().refuse(note.kind):
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
