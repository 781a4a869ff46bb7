"""The output: a Zarr v3 hierarchy written template first, then block by block, each owning whole chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from lensflow.engine.blocks import dataset_of, groups, is_lazy
from lensflow.errors import BadInput, Misaligned, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lensflow.engine.blocks import Block, Grid

MAX_STORED_CHUNKS = 4096  # in one block: more means that the chunks only line up in slivers
TARGET_BYTES = 64 * 2**20  # of a stored chunk where nobody chose one
FILL_NAMES = ("_FillValue", "fill_value")

Mode = Literal["r", "r+"]


@dataclass(frozen=True)
class Layout:
    """How one variable is stored: inner chunks, and shards where chunks are packed into larger files."""

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None

    @property
    def owned(self) -> tuple[int, ...]:
        """The unit that only one block may write: the shard, else the chunk."""
        return self.shards or self.chunks


def layout(grid: Grid, name: str, variable: xr.Variable) -> Layout:
    """Choose how a lazy variable is stored and prove that every block owns whole chunks or shards.

    The variable's ``encoding["chunks"]`` and ``encoding["shards"]`` are taken where given; else a stored
    chunk is a block, or a divisor of it when blocks are large.

    Raises
    ------
    Misaligned
        If two blocks would write one stored chunk or shard. (Dask writes such arrays without a word and
        loses pixels.)
    """
    label = f"{grid.group}/{name}".lstrip("/")
    shards = _sizes(label, grid, variable.encoding.get("shards"))
    chunks = _sizes(label, grid, variable.encoding.get("chunks")) or _default_chunks(grid, variable.dtype.itemsize)
    if not shards:
        chunks = tuple(min(chunk, max(length, 1)) for chunk, length in zip(chunks, grid.shape, strict=True))
    chosen = Layout(chunks, shards)
    for dim, starts, unit in zip(grid.dims, grid.starts, chosen.owned, strict=True):
        for start in starts:
            if start % unit:
                raise Misaligned(
                    f"variable {label!r}: a block starts at {dim} = {start}, inside a stored"
                    f" {'shard' if shards else 'chunk'} of {unit}; choose encoding['chunks'] that divides the blocks"
                    f" or rechunk {dim} to multiples of {unit}"
                )
    if shards and any(shard % chunk for shard, chunk in zip(shards, chosen.chunks, strict=True)):
        raise Misaligned(f"variable {label!r}: chunks {chosen.chunks} do not divide shards {shards}")
    stored = math.prod(math.ceil(max(lengths) / unit) for lengths, unit in zip(grid.chunks, chosen.chunks, strict=True))
    if stored > MAX_STORED_CHUNKS:
        raise Misaligned(
            f"variable {label!r}: its blocks line up only in slivers of {chosen.chunks} elements, {stored} a block;"
            f" rechunk {', '.join(grid.dims)} to equal lengths"
        )
    return chosen


def _sizes(label: str, grid: Grid, wanted: object) -> tuple[int, ...] | None:
    if wanted is None:
        return None
    sizes = tuple(int(one) for one in wanted)  # type: ignore[attr-defined]
    if len(sizes) != len(grid.dims) or min(sizes, default=1) < 1:
        raise Misaligned(f"variable {label!r}: encoding asks for chunks {sizes}, its dimensions are {grid.dims}")
    return sizes


def _default_chunks(grid: Grid, itemsize: int) -> tuple[int, ...]:
    """Return the largest chunk that every block start is a multiple of, divided until it is small enough."""
    units = [max(1, math.gcd(*starts) or lengths[0]) for starts, lengths in zip(grid.starts, grid.chunks, strict=True)]
    while units and math.prod(units) * itemsize > TARGET_BYTES:
        smaller = {axis: _smaller(units[axis], alone=len(grid.chunks[axis]) == 1) for axis in range(len(units))}
        divisible = [axis for axis, unit in smaller.items() if unit > 1] or list(smaller)
        axis = max(divisible, key=units.__getitem__)
        units[axis] = smaller[axis]
    return tuple(units)


def _smaller(unit: int, *, alone: bool) -> int:
    """Return the next smaller chunk length: half where one block spans the dimension, else the largest divisor."""
    if alone:
        return math.ceil(unit / 2)
    return unit // next((d for d in range(2, math.isqrt(unit) + 1) if unit % d == 0), unit)


def fill_value(variable: xr.Variable) -> Any:  # noqa: ANN401 - a number of the variable's type
    """Return what stands where nothing was written: the encoding's fill value, else NaN, 0 or False."""
    for name in FILL_NAMES:
        if variable.encoding.get(name) is not None:
            return variable.dtype.type(variable.encoding[name])
    return variable.dtype.type(np.nan if variable.dtype.kind in "fc" else 0)


def create(path: Path, tree: xr.DataTree, layouts: Mapping[str, Layout]) -> None:
    """Write the template: groups, metadata, attributes and everything that is not lazy.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    try:
        for group, dataset in groups(tree):
            _create_group(path, group, dataset, layouts)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write the store ({error.strerror or error}); choose another --out"
        ) from error


def _create_group(path: Path, group: str, dataset: xr.Dataset, layouts: Mapping[str, Layout]) -> None:
    encoding: dict[str, dict[str, Any]] = {}
    template = dataset.copy()
    for name, variable in dataset.variables.items():
        if not is_lazy(variable):
            continue
        stored = layouts[f"{group}/{name}".lstrip("/")]
        encoding[str(name)] = {"chunks": stored.chunks, **_fill(variable)}
        if stored.shards:
            encoding[str(name)]["shards"] = stored.shards
        for key in ("compressors", "filters", "serializer"):
            if key in variable.encoding:
                encoding[str(name)][key] = variable.encoding[key]
        # One lazy chunk stands for the array: xarray writes the metadata without walking the graph.
        hollow = da.zeros(variable.shape, dtype=variable.dtype, chunks=-1)
        template[name] = xr.Variable(variable.dims, hollow, attrs=variable.attrs)
    template = template.set_coords([name for name in dataset.coords if name in template.data_vars])
    template.to_zarr(
        path,
        group=group or None,
        mode="a" if group else "w-",
        compute=False,
        consolidated=False,
        zarr_format=3,
        encoding=encoding,
    )


def _fill(variable: xr.Variable) -> dict[str, Any]:
    """Say what unwritten chunks read as; a CF ``_FillValue`` on integers would turn them into floats."""
    value = fill_value(variable)
    if variable.dtype.kind in "fc":
        return {"_FillValue": value, "fill_value": value}
    return {"fill_value": value}


@lru_cache(maxsize=64)
def _open(path: str, variable: str, token: str, mode: Mode) -> zarr.Array[Any]:  # noqa: ARG001 - the token keys the cache
    """Open an array once a process and run: its metadata do not change while the run lasts."""
    return zarr.open_array(path, path=variable, mode=mode, zarr_format=3)


def open_array(path: Path | str, group: str, name: str, token: str, mode: Mode = "r") -> zarr.Array[Any]:
    """Return the stored array of a variable; errors are Zarr's own, for a worker's may pass."""
    return _open(str(path), f"{group}/{name}".lstrip("/"), token, mode)


def array(path: Path | str, group: str, name: str, token: str, mode: Mode = "r") -> zarr.Array[Any]:
    """Return the stored array of a variable.

    Raises
    ------
    BadInput
        If the store lacks it or its metadata are damaged.
    """
    try:
        return open_array(path, group, name, token, mode)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: variable {name!r} of group {group!r} cannot be opened ({error})") from error


def blank(path: Path, block: Block, tree: xr.DataTree, token: str) -> None:
    """Put fill values where a block would be, and the ``quarantine_value`` a variable asks for in its attributes."""
    for name in block.grid.names:
        variable = dataset_of(tree, block.grid.group).variables[name]
        value = variable.attrs.get("quarantine_value", fill_value(variable))
        array(path, block.grid.group, name, token, "r+")[block.region or ...] = value
