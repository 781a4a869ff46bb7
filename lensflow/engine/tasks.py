"""The Dask graph of a run: optimised once as a whole, then cut, a block at a time, without losing what blocks share.

Halo rows are needed by several blocks. Were each block's graph optimised alone, their keys would differ and the
work be done again; were the whole graph sent with each block, sending would cost more than computing. So the
graph is optimised once, and a block is sent with the tasks that nobody has sent before it.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.core import flatten, get_dependencies
from dask.highlevelgraph import HighLevelGraph

from lensflow.engine.blocks import dataset_of
from lensflow.engine.write import Target, write_block

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import xarray as xr

    from lensflow.engine.blocks import Block, Grid

    Key = Hashable


@dataclass(frozen=True)
class TaskGraph:
    """The optimised graph of all blocks.

    Parameters
    ----------
    tasks
        Dask's own task objects by key.
    names
        For each grid, the key name of its final tasks.
    """

    tasks: Mapping[Key, Any]
    names: Mapping[Grid, str]

    def key(self, block: Block) -> Key:
        """Return the key of the block's final task."""
        return (self.names[block.grid], *block.index)

    def cut(self, keys: Iterable[Key], have: Collection[Key] = ()) -> dict[Key, Any]:
        """Return the tasks that ``keys`` need, not looking behind those in ``have``."""
        needed: dict[Key, Any] = {}
        open_keys = [key for key in keys if key not in have]
        while open_keys:
            key = open_keys.pop()
            if key not in needed:
                needed[key] = self.tasks[key]
                open_keys.extend(one for one in self.dependencies(key) if one not in have)
        return needed

    def dependencies(self, key: Key) -> Iterable[Key]:
        """Return the keys a task needs directly."""
        found: set[Key] = get_dependencies(self.tasks, key)
        return found


def writers(tree: xr.DataTree, grids: Sequence[Grid], path: Path, token: str) -> list[da.Array]:
    """Return an array of write tasks for each grid: one final task a block, its chunk the block's record."""
    made = []
    for number, grid in enumerate(grids):
        dataset = dataset_of(tree, grid.group)
        arrays = [dataset.variables[name].data for name in grid.names]
        write = partial(write_block, target=Target.of(grid, path, token))
        made.append(
            da.map_blocks(
                write,
                *arrays,
                chunks=tuple((1,) * count for count in grid.numblocks),
                dtype=object,
                meta=np.empty((0,) * len(grid.dims), dtype=object),
                name=f"write-{grid.label}-{number}{token[:8]}",
            )
        )
    return made


def lower(tree: xr.DataTree, grids: Sequence[Grid], path: Path, token: str) -> TaskGraph:
    """Give every block one final task that writes it, and optimise the whole graph once."""
    made = writers(tree, grids, path, token)
    with _collector_paused():
        # merged first: optimised one by one, each grid would get its own copy of what the grids share
        merged = HighLevelGraph.merge(*(one.__dask_graph__() for one in made))
        tasks = dict(da.optimize(merged, list(flatten(one.__dask_keys__() for one in made))))
    return TaskGraph(tasks, {grid: one.name for grid, one in zip(grids, made, strict=True)})


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the cyclic collector from walking a million new tasks again and again (40 % of the time to lower)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
