"""Predict a worker's peak memory by walking through the tasks of a few blocks and adding up what is alive."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask.order import order

from lensflow.engine.footprint import Footprint, Footprints, Ledger

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    Key = Hashable

PROCESS = 150 * 2**20  # bytes of a worker that has imported what writing takes and computed nothing: 137 measured
LATE = 64 * 2**20  # bytes that a thread makes until the driver has heard of a block, journalled it and let go: 50 ms


@dataclass(frozen=True)
class Peak:
    """The largest sum of live arrays: its bytes, and the step that was running."""

    nbytes: int
    step: str


@dataclass(frozen=True)
class Window:
    """A few neighbouring blocks, and what is alive when the first of them begins.

    Parameters
    ----------
    outputs
        The key of each block's final task, in the order of the run.
    held
        Results that blocks before them have made and that they, or blocks after them, still need.
    wanted
        For each result, held or made here, that several blocks need: the place among ``outputs`` of the last, up to
        whose end the driver holds it; a place beyond them for a block that comes later.
    """

    outputs: Sequence[Key]
    held: Collection[Key] = ()
    wanted: Mapping[Key, int] = field(default_factory=dict)


def peak(footprints: Footprints, window: Window, *, threads: int, process: int = PROCESS) -> Peak:
    """Return a worker's predicted peak memory, its own process included.

    Parameters
    ----------
    footprints
        What the tasks of these blocks take.
    window
        The blocks to walk through.
    threads
        Threads a worker.
    process
        Bytes of a worker before its first task.

    Notes
    -----
    A task's inputs are alive until it ends, its output until its last dependent has ended; a view is alive with
    what it looks at. Temporaries inside one operation on arrays are not known: kernels that run through lensflow
    keep them small.
    """
    worker = _Worker(footprints, window, threads)
    best = Peak(0, "")
    while worker.start():
        if worker.nbytes > best.nbytes:
            best = Peak(worker.nbytes, worker.step)
        worker.end_one()
    return Peak(best.nbytes + process, best.step)


class _Worker:
    """A worker that does some blocks: what is running, ready, waiting, and which results are alive.

    Nobody knows how long tasks take. So that any of them may meet, the smallest of those running ends first: a
    large one goes on until others as large run beside it.
    """

    def __init__(self, footprints: Footprints, window: Window, threads: int) -> None:
        self._footprints = footprints
        self._threads = threads
        self._needs: dict[Key, Collection[Key]] = {}
        held = set(window.held)
        self._rank = self._ranks(window.outputs, held)
        self._waits = {key: sum(need not in held for need in needs) for key, needs in self._needs.items()}
        self._users: dict[Key, list[Key]] = {}
        for key, needs in self._needs.items():
            for need in needs:
                self._users.setdefault(need, []).append(key)
        self._ready = [(self._rank[key], key) for key, count in self._waits.items() if count == 0]
        heapq.heapify(self._ready)
        self._running: list[tuple[Key, Footprint]] = []
        users = Counter({key: len(found) for key, found in self._users.items()})
        users.update(window.wanted.keys())
        self._ledger = Ledger(users)
        self._freed: dict[Key, list[Key]] = {output: [] for output in window.outputs}
        self._late: deque[list[Any]] = deque()
        for key, place in window.wanted.items():
            if place < len(window.outputs):
                self._freed[window.outputs[place]].append(key)
        for key in sorted(held, key=lambda one: footprints[one].looks_at is not None):
            self._hold(key)

    @property
    def nbytes(self) -> int:
        """Bytes alive now, those that running tasks take included."""
        return self._ledger.nbytes + sum(one.work for _, one in self._running)

    @property
    def step(self) -> str:
        """The step that takes most now."""
        return max((one for _, one in self._running), key=lambda one: one.work).step

    def start(self) -> bool:
        """Begin what is ready, in order of rank, as many as there are threads; return whether anything runs."""
        while self._ready and len(self._running) < self._threads:
            self._begin()
        return bool(self._running)

    def _begin(self) -> None:
        _, key = heapq.heappop(self._ready)
        self._running.append((key, self._footprints[key]))

    def end_one(self) -> None:
        """Finish the smallest running task, the first of equals, and let go of what nobody needs any more."""
        place = min(range(len(self._running)), key=lambda one: self._running[one][1].work)
        key, one = self._running.pop(place)
        if key not in self._freed:
            self._ledger.keep(key, one)
        for need in self._needs[key]:
            self._ledger.use(need)
        self._let_go(one.work)
        self._late.extend([need, LATE * self._threads] for need in self._freed.get(key, ()))
        if self._ready and self._needs[self._ready[0][1]]:
            self._begin()  # what the worker has already goes before what the scheduler will send on this news
        for user in self._users.get(key, ()):
            self._waits[user] -= 1
            if self._waits[user] == 0:
                heapq.heappush(self._ready, (self._rank[user], user))

    def _let_go(self, work: int) -> None:
        """Use up the delay of what the driver is about to let go of."""
        for one in self._late:
            one[1] -= work
        while self._late and self._late[0][1] <= 0:
            self._ledger.use(self._late.popleft()[0])

    def _hold(self, key: Key) -> None:
        """Take over a result of an earlier block, and what it looks at."""
        if key not in self._ledger.sizes:
            one = self._footprints[key]
            self._ledger.keep(key, one)
            if one.looks_at is not None and not one.result:
                self._hold(one.looks_at)

    def _ranks(self, outputs: Sequence[Key], held: Collection[Key]) -> dict[Key, tuple[bool, int, int]]:
        """Rank tasks as the scheduler does: by the first block that needs them, then by Dask's order within it.

        What needs nothing, reading above all, waits until nothing else is ready (``worker-saturation: 1.0``).
        """
        ranks: dict[Key, tuple[bool, int, int]] = {}
        for place, output in enumerate(outputs):
            stack, sent = [output], {}
            while stack:
                key = stack.pop()
                if key not in ranks and key not in sent and key not in held:
                    sent[key] = self._footprints.task(key)
                    self._needs[key] = self._footprints.needs(key)
                    stack.extend(self._needs[key])
            ranks.update({key: (not self._needs[key], place, rank) for key, rank in order(sent).items() if key in sent})
        return ranks
