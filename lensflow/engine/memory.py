"""Predict a worker's peak memory by walking through the tasks of a few blocks and adding up what is alive."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.core import get_dependencies
from dask.order import order
from dask.utils import key_split

from lensflow.engine import sizes

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    Key = Hashable

PROCESS = 200 * 2**20  # bytes of a worker that has imported what science code needs and computed nothing


@dataclass(frozen=True)
class Peak:
    """The largest sum of live arrays: its bytes, and the step that was running."""

    nbytes: int
    step: str


def peak(tasks: Mapping[Key, Any], outputs: Sequence[Sequence[Key]], threads: int, writing: int = 0) -> Peak:
    """Return a worker's predicted peak memory, its own process included.

    Parameters
    ----------
    tasks
        The graph *before* optimisation, where every intermediate array has a key of its own.
    outputs
        The final keys of a few neighbouring blocks, in order; a block begins when a thread has nothing left
        to do for the blocks before it.
    threads
        Threads a worker.
    writing
        Bytes that a final task needs beside its inputs, to pack what it writes.

    Notes
    -----
    A task's output is alive from its start until its last dependent has ended; a view is alive with what it
    looks at. Temporaries inside a task are not known: kernels that run through lensflow keep them small.
    """
    world = _World(tasks, outputs, writing)
    best = Peak(0, "")
    while running := world.start(threads):
        if world.alive > best.nbytes:
            largest = max(running, key=lambda key: world.size.get(key, 0))
            best = Peak(world.alive, key_split(largest))
        world.end(running)
    return Peak(best.nbytes + PROCESS, best.step)


class _World:
    """The tasks of a few blocks: which are waiting, which results are alive."""

    def __init__(self, tasks: Mapping[Key, Any], outputs: Sequence[Sequence[Key]], writing: int) -> None:
        self.writing = writing
        self.needs = {key: list(get_dependencies(tasks, key)) for key in tasks}
        self.users = Counter(one for needed in self.needs.values() for one in needed)
        self.rank = _ranks(tasks, self.needs, outputs)
        self.waiting = sorted(self.rank, key=self.rank.__getitem__)
        self.owner: dict[Key, Key] = {}
        self.size: dict[Key, int] = {}
        self.done: set[Key] = set()
        self.alive = 0
        self.finals = {key for keys in outputs for key in keys}

    def start(self, threads: int) -> list[Key]:
        """Begin the next tasks that can run, in order of rank, as many as there are threads."""
        running: list[Key] = []
        for key in self.waiting:
            if all(one in self.done for one in self.needs[key]):
                running.append(key)
                if len(running) == threads:
                    break
        for key in running:
            self.waiting.remove(key)
            self.size[key] = self._size(key)
            self.alive += self.size[key]
        return running

    def end(self, running: Iterable[Key]) -> None:
        """Finish tasks and let go of what nobody needs any more."""
        for key in running:
            self.done.add(key)
            if key in self.finals:
                self.alive -= self.size[key]
            for needed in self.needs[key]:
                self._drop(needed)

    def _size(self, key: Key) -> int:
        if key in self.finals:
            return self.writing
        return 0 if self._is_view(key) else sizes.of_key(key) or 0

    def _drop(self, key: Key) -> None:
        self.users[key] -= 1
        if self.users[key] == 0:
            self.alive -= self.size.get(key, 0)
            if key in self.owner:
                self._drop(self.owner[key])

    def _is_view(self, key: Key) -> bool:
        """Whether a task only picks a part out of a chunk of several arrays, or passes a chunk on."""
        needed = self.needs[key]
        if len(needed) == 1 and (sizes.is_packed(needed[0]) or sizes.of_key(key) is None):
            self.owner[key] = needed[0]
            self.users[needed[0]] += 1
            return True
        return False


def _ranks(
    tasks: Mapping[Key, Any], needs: Mapping[Key, Sequence[Key]], outputs: Sequence[Sequence[Key]]
) -> dict[Key, tuple[int, int]]:
    """Rank tasks as the scheduler does: by the first block that needs them, then by Dask's order within it."""
    ranks: dict[Key, tuple[int, int]] = {}
    for place, keys in enumerate(outputs):
        stack, sent = list(keys), {}
        while stack:
            key = stack.pop()
            if key not in ranks and key not in sent:
                sent[key] = tasks[key]
                stack.extend(needs[key])
        ranks.update({key: (place, rank) for key, rank in order(sent).items()})
    return ranks
