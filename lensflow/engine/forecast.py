"""The memory of a run: choose the blocks where it will be shortest, and walk through them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
from dask.highlevelgraph import HighLevelGraph
from dask.utils import key_split

from lensflow.engine import memory
from lensflow.engine.blocks import dataset_of
from lensflow.engine.carried import Halo, halo
from lensflow.engine.footprint import Footprints
from lensflow.engine.packing import copied, packing
from lensflow.engine.tasks import writers

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from lensflow.engine.blocks import Block, Grid
    from lensflow.engine.lifetimes import Lifetimes
    from lensflow.engine.tasks import TaskGraph
    from lensflow.engine.work import Work

    Key = Hashable

WORKSPACE = "workspace"  # the Dask annotation by which a graph tells what its functions need beside their results
SAMPLE = 6  # blocks that are walked through, at least; with more threads, more blocks meet


class Forecast:
    """Predicts the memory of one run, for any number of threads.

    Parameters
    ----------
    work, graph, lives
        What is to be written, the tasks, and how long their results live.
    process
        Bytes of a worker before its first task.
    """

    def __init__(self, work: Work, graph: TaskGraph, lives: Lifetimes, process: int = memory.PROCESS) -> None:
        self._process = process
        self._footprints: dict[int, Footprints] = {}
        self._work, self._graph, self._lives = work, graph, lives
        made = writers(work.tree, work.grids, Path("planned.zarr"), "0" * 8)
        self._names = {grid: one.name for grid, one in zip(work.grids, made, strict=True)}
        self._layers = HighLevelGraph.merge(*(one.__dask_graph__() for one in made))
        self._packing = {grid: packing(work, grid) for grid in work.grids}
        said = {name: layer.annotations or {} for name, layer in self._layers.layers.items()}
        self._workspaces = {name: int(words[WORKSPACE]) for name, words in said.items() if WORKSPACE in words}

    @property
    def halo(self) -> Halo:
        """What halos cost."""
        return halo(self._layers)

    def peak(self, threads: int) -> memory.Peak:
        """Return the worst moment of a worker, around the largest block and around the one with most alive."""
        blocks = self._work.blocks
        largest = max(range(len(blocks)), key=lambda place: blocks[place].nbytes)
        count = max(SAMPLE, 2 * threads + 2)
        places = (largest, self._lives.fullest(blocks))
        begins = {max(0, min(place - count // 2, len(blocks) - count)) for place in places}
        return max((self._around(begin, count, threads) for begin in sorted(begins)), key=lambda one: one.nbytes)

    def steps(self) -> dict[str, list[str]]:
        """Return, for each kind of task of the blocks walked through, the steps that were fused into it."""
        found: dict[str, dict[str, None]] = {}
        for footprints in self._footprints.values():
            for key in footprints:
                found.setdefault(key_split(key), {}).update(dict.fromkeys(footprints.steps(key)))
        return {task: list(steps) for task, steps in found.items()}

    def _around(self, begin: int, count: int, threads: int) -> memory.Peak:
        sample = self._work.blocks[begin : begin + count]
        outputs: list[Key] = [(self._names[block.grid], *block.index) for block in sample]
        if begin not in self._footprints or count != len(self._footprints[begin].finals):
            self._footprints[begin] = self._look(sample, outputs)
        window = self._lives.window(begin, outputs)
        return memory.peak(self._footprints[begin], window, threads=threads, process=self._process)

    def _look(self, sample: Sequence[Block], outputs: Sequence[Key]) -> Footprints:
        """Return the footprints of the tasks of some blocks."""
        stages = self._stages(sample, outputs)
        writing: dict[Key, int] = {
            output: max(
                nbytes + copied(stages[-1], (self._source(block.grid, name), *block.index))
                for name, nbytes in self._packing[block.grid].items()
            )
            for output, block in zip(outputs, sample, strict=True)
        }
        return Footprints(stages, writing, self._workspaces)

    def _source(self, grid: Grid, name: str) -> str:
        """Return the name of the array behind a variable."""
        return str(dataset_of(self._work.tree, grid.group).variables[name].data.name)

    def _stages(self, sample: Sequence[Block], outputs: Sequence[Key]) -> list[Mapping[Key, Any]]:
        """Return the graph of some blocks as it will run, before tasks in a row are fused, and as it was made."""
        running = self._graph.cut(map(self._graph.key, sample))
        for block, output in zip(sample, outputs, strict=True):
            running[output] = running.pop(self._graph.key(block))
        with dask.config.set({"optimization.fuse.active": False}):
            unfused = dict(da.optimize(self._layers, list(outputs)))
        return [running, unfused, dict(self._layers.cull(set(outputs)))]
