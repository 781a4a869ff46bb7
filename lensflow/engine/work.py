"""A lazy dataset, looked at but not yet run: its blocks, how each variable is stored, and who it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lensflow.engine import sizes, store
from lensflow.engine.blocks import as_tree, dataset_of, grids
from lensflow.engine.catalog import PROVENANCE, Graph, unchanged
from lensflow.engine.catalog import graph as load_graph
from lensflow.engine.identity import Identity, identify
from lensflow.errors import BadInput, LensflowError, StoreConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import xarray as xr

    from lensflow.engine.blocks import Block, Grid


@dataclass(frozen=True)
class Work:
    """What a run is to write.

    Parameters
    ----------
    tree
        The lazy data.
    grids, blocks
        Its grids, and all their blocks in order.
    layouts
        How each lazy variable is stored, by ``group/name``.
    graph
        The graph file that made it, None for a dataset made by hand.
    sources
        The files and folders it reads, as far as its graph says.
    identity
        What decides its pixels.
    """

    tree: xr.DataTree
    grids: tuple[Grid, ...]
    blocks: tuple[Block, ...]
    layouts: Mapping[str, store.Layout]
    graph: Graph | None
    sources: tuple[Path, ...]
    identity: Identity

    @classmethod
    def of(cls, data: xr.DataArray | xr.Dataset | xr.DataTree) -> Work:
        """Look at a lazy dataset; nothing is computed, nothing is written.

        Raises
        ------
        BadInput
            If it holds nothing lazy, or variables that regions cannot be written of.
        Misaligned
            If two blocks would write one stored chunk.
        """
        tree = as_tree(data)
        found = tuple(grids(tree))
        if not found:
            raise BadInput("the dataset holds no lazy variable: there is nothing to run; write it with to_zarr()")
        layouts = {}
        for grid in found:
            dataset = dataset_of(tree, grid.group)
            for name in grid.names:
                sizes.remember(dataset.variables[name].data)  # of a dataset made by hand, these at least are known
                layouts[f"{grid.group}/{name}".lstrip("/")] = store.layout(grid, name, dataset.variables[name])
        graph, arguments = made_by(tree)
        blocks = tuple(sorted((block for grid in found for block in grid.blocks()), key=_turn(found)))
        sources = tuple(graph.inputs(arguments)) if graph else ()
        return cls(tree, found, blocks, layouts, graph, sources, identify(tree, graph, arguments, sources))

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes to be written."""
        return sum(grid.nbytes for grid in self.grids)


def _turn(grids: Sequence[Grid]) -> Callable[[Block], tuple[int, float]]:
    """Order blocks group by group, and within one side by side along the first dimension that all its grids have.

    Grids share work there: what they share is made, written by all of them, and forgotten. Without such a dimension
    each goes along its own first one.
    """
    groups = {grid.group: place for place, grid in reversed(list(enumerate(grids)))}
    axes = {}
    for group in groups:
        dims = [grid.dims for grid in grids if grid.group == group]
        axes[group] = next((dim for dim in dims[0] if all(dim in one for one in dims)), None)

    def turn(block: Block) -> tuple[int, float]:
        grid, axis = block.grid, axes[block.grid.group]
        place = 0 if axis is None else grid.dims.index(axis)
        along = (block.index[place] + 0.5) / grid.numblocks[place] if block.index else 0.0
        return groups[grid.group], along

    return turn


def made_by(tree: xr.DataTree) -> tuple[Graph | None, dict[str, object]]:
    """Return the graph and the arguments that made a dataset: none if it was made, or changed since, by hand.

    Raises
    ------
    StoreConflict
        If the graph file has changed since the dataset was made.
    """
    provenance: dict[str, Any] = tree.attrs.get(PROVENANCE, {})
    if not provenance or not unchanged(tree):
        return None, {}
    try:
        graph = load_graph(provenance["graph"])
    except LensflowError as error:
        raise StoreConflict(f"the dataset says it was made by {provenance['graph']!r}, but: {error}") from error
    if graph.sha256 != provenance["source_sha256"]:
        raise StoreConflict(
            f"{graph.path}: the file has changed since the dataset was made from it; load the graph and call it again"
        )
    arguments = graph.bind(**provenance["arguments"])
    return graph, arguments


def occupied(path: Path) -> bool:
    """Whether something that is not an empty folder is at ``path``."""
    return path.exists() and not (path.is_dir() and next(path.iterdir(), None) is None)
