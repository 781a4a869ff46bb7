"""What is to be written: a tree of lazy variables cut into blocks. Pure arithmetic, no Dask graph is touched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import dask.array as da
import xarray as xr

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Chunks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """The variables of a group that share their dimensions and chunks: one block holds a chunk of each.

    Grids are compared by identity: hashing the chunks of a long grid once a block would be quadratic.

    Parameters
    ----------
    group
        Path of the group in the tree, ``""`` for the root.
    dims, chunks
        Dimension names and the chunk lengths along each.
    names
        The variables, in the order of the dataset.
    itemsize
        Bytes an element of all variables together.
    """

    group: str
    dims: tuple[str, ...]
    chunks: Chunks
    names: tuple[str, ...]
    itemsize: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension."""
        return tuple(sum(lengths) for lengths in self.chunks)

    @property
    def label(self) -> str:
        """What names the grid in a block's identifier: its group and first variable."""
        return f"{self.group}/{self.names[0]}".lstrip("/")

    @property
    def numblocks(self) -> tuple[int, ...]:
        """Blocks along each dimension."""
        return tuple(len(lengths) for lengths in self.chunks)

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes of all variables."""
        return prod(self.shape) * self.itemsize

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First element of each block along each dimension."""
        return tuple(_starts(lengths) for lengths in self.chunks)

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in C order."""
        for index in product(*(range(count) for count in self.numblocks)):
            yield Block(self, index)


@dataclass(frozen=True)
class Block:
    """One chunk of every variable of a grid: the unit that is written, journalled, retried and verified."""

    grid: Grid
    index: tuple[int, ...]

    @property
    def id(self) -> str:
        """A name that is stable between sessions, such as ``2246/flux[3,0]``."""
        return f"{self.grid.label}[{','.join(map(str, self.index))}]"

    @property
    def region(self) -> tuple[slice, ...]:
        """The elements it covers."""
        lengths = (one[place] for one, place in zip(self.grid.chunks, self.index, strict=True))
        first = (one[place] for one, place in zip(self.grid.starts, self.index, strict=True))
        return tuple(slice(start, start + length) for start, length in zip(first, lengths, strict=True))

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes of the block, all variables together."""
        sides: list[int] = [part.stop - part.start for part in self.region]
        return prod(sides) * self.grid.itemsize


def _starts(lengths: tuple[int, ...]) -> tuple[int, ...]:
    total, starts = 0, []
    for length in lengths:
        starts.append(total)
        total += length
    return tuple(starts)


def as_tree(data: xr.DataArray | xr.Dataset | xr.DataTree) -> xr.DataTree:
    """Return the data as a DataTree, the one form that the engine writes.

    Raises
    ------
    BadInput
        If it is none of the three, or a lazy variable has an unknown shape or a type Zarr regions cannot hold.
    """
    if isinstance(data, xr.DataArray):
        data = data.to_dataset(name=data.name or "data", promote_attrs=False)
    if isinstance(data, xr.Dataset):
        data = xr.DataTree(dataset=data)
    if not isinstance(data, xr.DataTree):
        raise BadInput(f"cannot run a {type(data).__name__}: expected an xarray DataArray, Dataset or DataTree")
    for group, dataset in groups(data):
        for name, variable in dataset.variables.items():
            if is_lazy(variable):
                _check(f"{group}/{name}".lstrip("/"), variable)
    return data


def groups(tree: xr.DataTree) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield path (without leading slash) and own dataset of each group, parents first."""
    for node in tree.subtree:
        yield node.path.strip("/"), node.to_dataset(inherit=False)


def dataset_of(tree: xr.DataTree, group: str) -> xr.Dataset:
    """Return the own dataset of the group at a path without leading slash."""
    node = tree[f"/{group}"]
    if not isinstance(node, xr.DataTree):
        raise BadInput(f"{group!r} is a variable, not a group")
    return node.to_dataset(inherit=False)


def grids(tree: xr.DataTree) -> list[Grid]:
    """Return the grids of a tree, in the order of its groups and variables."""
    found = []
    for group, dataset in groups(tree):
        shared: dict[tuple[tuple[str, ...], Chunks], list[str]] = {}
        for name, variable in dataset.variables.items():
            if is_lazy(variable):
                dims = tuple(map(str, variable.dims))
                shared.setdefault((dims, variable.data.chunks), []).append(str(name))
        for (dims, chunks), names in shared.items():
            itemsize = sum(dataset.variables[name].dtype.itemsize for name in names)
            found.append(Grid(group, dims, chunks, tuple(names), itemsize))
    return found


def is_lazy(variable: xr.Variable) -> bool:
    """Whether the variable is backed by a Dask array."""
    return isinstance(variable.data, da.Array)


def _check(name: str, variable: xr.Variable) -> None:
    if any(length != length for lengths in variable.data.chunks for length in lengths):  # noqa: PLR0124 - NaN: unknown
        raise BadInput(f"variable {name!r} has chunks of unknown length: call compute_chunk_sizes() on it first")
    if variable.dtype.kind not in "biufc":
        raise BadInput(
            f"variable {name!r} is lazy and of type {variable.dtype}: regions can be written of numbers and booleans"
            " only; load it, or make it a coordinate in memory"
        )
    for key in ("scale_factor", "add_offset"):
        if key in variable.encoding:
            raise BadInput(
                f"variable {name!r} is lazy and asks for the encoding {key}: scale the values in the graph instead"
            )


def described(grids: Iterable[Grid]) -> list[dict[str, Any]]:
    """Return grids as JSON: label, dimensions and blocks along each."""
    return [{"label": one.label, "dims": one.dims, "numblocks": one.numblocks} for one in grids]
