"""The price of halos: what blocks of an overlapping array carry beyond their own pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow.engine import sizes

if TYPE_CHECKING:
    from dask.highlevelgraph import HighLevelGraph

OVERLAPPING = "overlap-"  # what Dask calls arrays whose chunks carry a halo


@dataclass(frozen=True)
class Halo:
    """Bytes over all blocks of all arrays with a halo; None where the sizes of arrays are not known.

    Parameters
    ----------
    nbytes
        What chunks carry beyond their core: it is copied, and computed on, once more for each block. Of chunks that
        hold several arrays, as if all of these had the halo.
    core
        The chunks without their halo.
    """

    nbytes: int | None
    core: int | None


def halo(layers: HighLevelGraph) -> Halo:
    """Add up the halos of a graph: for each array with one, its bytes less those of the largest it is made of."""
    beyond = inside = 0
    for name, needs in layers.dependencies.items():
        if not str(name).startswith(OVERLAPPING):
            continue
        around, core = sizes.of_array(name), max((sizes.of_array(need) or 0 for need in needs), default=0)
        if around is None or not core:
            return Halo(None, None)
        beyond += around - core
        inside += core
    return Halo(beyond, inside)
