"""When each result of a run is made and when it is used last, in blocks: what must be kept, and where memory is short.

A result is needed until each of its direct dependents has been computed, and a dependent is computed with the first
block that needs it. So a key first needed by block i is kept until the largest first(d) over its dependents d has
finished; where that is i itself, the scheduler's own bookkeeping does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from lensflow.engine import sizes
from lensflow.engine.memory import Window

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from lensflow.engine.blocks import Block
    from lensflow.engine.tasks import TaskGraph

    Key = Hashable


@dataclass(frozen=True)
class Lifetimes:
    """The life of every result, counted in places in the order of blocks.

    Parameters
    ----------
    first
        The block that makes it: the first that needs it.
    last
        The last block that makes something from it. Where that is a later block the driver keeps the result.
    """

    first: Mapping[Key, int]
    last: Mapping[Key, int]

    @classmethod
    def of(cls, graph: TaskGraph, blocks: Sequence[Block]) -> Lifetimes:
        """Walk through the graph once."""
        first: dict[Key, int] = {}
        last: dict[Key, int] = {}
        for place, block in enumerate(blocks):
            open_keys = [graph.key(block)]
            while open_keys:
                key = open_keys.pop()
                if key in first:
                    continue
                first[key] = place
                for need in graph.dependencies(key):
                    last[need] = place
                    open_keys.append(need)
        return cls(first, last)

    @cached_property
    def shared(self) -> list[Key]:
        """The results that outlive the block that made them."""
        first = self.first
        return [key for key, place in self.last.items() if place > first[key]]

    @cached_property
    def kept(self) -> dict[Key, int]:
        """The results that the driver keeps, and the place of the last block that makes something from each."""
        return {key: self.last[key] for key in self.shared}

    def fullest(self, blocks: Sequence[Block]) -> int:
        """Return the place of the block at which most bytes are alive: held since before, made for it, its own."""
        change = [0] * (len(blocks) + 1)
        for key, place in self.last.items():
            nbytes = sizes.of_key(key) or 0
            change[self.first[key]] += nbytes
            change[place + 1] -= nbytes
        alive = accumulate(change[:-1])
        return max(enumerate(alive), key=lambda one: one[1] + blocks[one[0]].nbytes)[0]

    def window(self, begin: int, outputs: Sequence[Key]) -> Window:
        """Return the window of the blocks from ``begin`` on whose final tasks are ``outputs``."""
        first, last, end = self.first, self.last, begin + len(outputs)
        wanted = {key: last[key] - begin for key in self.shared if first[key] < end and last[key] >= begin}
        return Window(outputs, [key for key in wanted if first[key] < begin], wanted)
