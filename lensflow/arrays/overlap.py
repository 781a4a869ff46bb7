"""Functions over blocks that see a halo of their neighbours: `map_overlap` for xarray.

Every block function is wrapped in one task that also cuts the halo off, so that a band of rows costs the
source, two slices, one concatenation and the function.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, overload

import dask.array as da
import numpy as np
import xarray as xr

from lensflow.arrays.halo import PAD_MODES, Block, check_boundary, check_sizes, halo_of
from lensflow.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from numpy.typing import DTypeLike

    from lensflow.arrays.halo import Boundary


@overload
def map_overlap(
    func: Callable[..., Any],
    *arrays: xr.DataArray,
    depth: Mapping[Hashable, int] | Mapping[str, int],
    boundary: Boundary = ...,
    trim: bool = ...,
    dtype: DTypeLike | None = ...,
    outputs: None = ...,
    kwargs: Mapping[str, Any] | None = ...,
    name: str | None = ...,
) -> xr.DataArray: ...
@overload
def map_overlap(
    func: Callable[..., Any],
    *arrays: xr.DataArray,
    depth: Mapping[Hashable, int] | Mapping[str, int],
    boundary: Boundary = ...,
    trim: bool = ...,
    dtype: DTypeLike | None = ...,
    outputs: Mapping[str, DTypeLike],
    kwargs: Mapping[str, Any] | None = ...,
    name: str | None = ...,
) -> xr.Dataset: ...
def map_overlap(
    func: Callable[..., Any],
    *arrays: xr.DataArray,
    depth: Mapping[Hashable, int] | Mapping[str, int],
    boundary: Boundary = "none",
    trim: bool = True,
    dtype: DTypeLike | None = None,
    outputs: Mapping[str, DTypeLike] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> xr.DataArray | xr.Dataset:
    """Apply a function to each block of some arrays together with a halo of its neighbours.

    Parameters
    ----------
    func
        Takes one numpy array for each of `arrays`, halo included, and returns an array of the same shape
        (of the block alone if not `trim`), or a tuple of them, one for each of `outputs`.
    *arrays
        Arrays with the same dimensions, shape, chunks and coordinates. If none is backed by Dask, the
        function is applied at once to the whole as one block.
    depth
        Elements of halo on both sides of these dimensions; 0 for all others.
    boundary
        What lies beyond the edges of the array: ``"none"`` (no halo there), ``"reflect"`` (edge
        repeated), ``"periodic"``, ``"nearest"``, a number, or ``"valid"``: the outermost `depth` elements
        of the array are the halo and the result is smaller by them, as in ``numpy.convolve``.
    trim
        Whether the halo must still be cut off what `func` returns.
    dtype
        Type of the result; by default that of the first array.
    outputs
        Names and types of the arrays in the tuple that `func` returns. It runs once a block.
    kwargs
        Options of `func`, whatever their names.
    name
        Name of the result, by default that of the first array, and of its tasks.

    Returns
    -------
    xr.DataArray or xr.Dataset
        With the coordinates and attributes of the first array; a dataset, whose variables carry no
        attributes of their own, if there are `outputs`.

    Raises
    ------
    BadOption
        If the arrays do not fit each other, a dimension is unknown, a depth is negative or larger than a
        chunk, or the boundary is unknown. Nothing is ever rechunked.
    """
    first = _matching(arrays)
    halo = halo_of(first, depth)
    check_boundary(boundary, trim=trim, halo=halo)
    blocks = next((a.chunks for a in arrays if a.chunks is not None), None)
    check_sizes(first, halo, boundary, blocks or tuple((n,) for n in first.shape))
    types = (dtype or first.dtype,) if outputs is None else tuple(outputs.values())
    block = Block(
        func=functools.partial(func, **(kwargs or {})),
        label=name or str(getattr(func, "__name__", type(func).__name__)),
        depth=halo,
        last=tuple(len(c) - 1 for c in blocks or ((0,),) * first.ndim),
        open_edges=boundary == "none",
        trim=trim,
        dtypes=tuple(np.dtype(t) for t in types),
        single=outputs is None,
    )
    sources = [a.data if blocks is None or a.chunks is not None else da.from_array(a.data, blocks) for a in arrays]
    parts = _whole(block, sources, boundary) if blocks is None else _blockwise(block, sources, boundary)
    return _labelled(first, halo if boundary == "valid" else (0,) * first.ndim, parts, outputs, name)


def _matching(arrays: Sequence[xr.DataArray]) -> xr.DataArray:
    """Return the first array; the others must have its dimensions, shape, chunks and coordinates."""
    if not arrays:
        raise BadOption("map_overlap needs at least one array: found none; pass them after the function.")
    first = arrays[0]
    lazy = next((a for a in arrays if a.chunks is not None), first)
    for i, array in enumerate(arrays[1:], 2):
        for what, found, expected in (
            ("dimensions", array.dims, first.dims),
            ("shape", array.shape, first.shape),
            ("chunks", array.chunks or lazy.chunks, lazy.chunks),
        ):
            if found != expected:
                raise BadOption(f"array {i} has the {what} {found}: expected {expected}, those of the first array.")
    try:
        xr.align(*arrays, join="exact", copy=False)
    except xr.AlignmentError as error:
        raise BadOption(f"arrays have different coordinates: expected equal ones; {error}") from error
    return first


def _whole(block: Block, sources: list[Any], boundary: Boundary) -> tuple[Any, ...]:
    """Apply the function to numpy arrays as one block."""
    if boundary not in {"none", "valid"}:
        width = [(d, d) for d in block.depth]
        if isinstance(boundary, str):
            mode: Any = PAD_MODES[boundary]
            sources = [np.pad(s, width, mode=mode) for s in sources]
        else:
            sources = [np.pad(s, width, mode="constant", constant_values=boundary) for s in sources]
    found = block(*sources, block_id=(0,) * len(block.depth))
    return (found,) if block.single else found


def _blockwise(block: Block, sources: list[da.Array], boundary: Boundary) -> tuple[da.Array, ...]:
    """Apply the function lazily to each block; its tuple is the chunk from which outputs are picked."""
    padded = boundary not in {"none", "valid"}
    ndim = len(block.depth)
    chunks = [list(sizes) for sizes in sources[0].chunks]
    depth = {}
    for axis, d in enumerate(block.depth):
        depth[axis] = d if padded or block.last[axis] else 0  # a single chunk has no neighbour
        if boundary == "valid":
            chunks[axis][0] -= d
            chunks[axis][-1] -= d
    metas = [np.empty((0,) * ndim, dtype) for dtype in block.dtypes]
    # a tuple has no dtype: one with a field for each output says at least how large it is
    packed = np.empty((0,) * ndim, [(f"f{i}", meta.dtype) for i, meta in enumerate(metas)])
    made = metas[0] if block.single else packed
    blocks = da.map_overlap(
        block,
        *sources,
        depth=depth,
        boundary=boundary if padded else "none",
        trim=False,
        align_arrays=False,
        allow_rechunk=False,
        chunks=tuple(map(tuple, chunks)),
        dtype=made.dtype,
        meta=made,
        token=block.label,
    )
    if block.single:
        return (blocks,)
    return tuple(
        da.map_blocks(operator.itemgetter(i), blocks, dtype=meta.dtype, meta=meta, token=f"{block.label}-output")
        for i, meta in enumerate(metas)
    )


def _labelled(
    first: xr.DataArray,
    cut: tuple[int, ...],
    parts: tuple[Any, ...],
    outputs: Mapping[str, DTypeLike] | None,
    name: str | None,
) -> xr.DataArray | xr.Dataset:
    """Give the results the coordinates of the first array, less what was cut."""
    sides = {dim: slice(d, n - d) for dim, d, n in zip(first.dims, cut, first.shape, strict=True)}
    frame = first.isel(sides)
    if outputs is None:
        result = frame.copy(data=parts[0])
        return result.rename(name) if name is not None else result
    variables = {key: (first.dims, part) for key, part in zip(outputs, parts, strict=True)}
    return xr.Dataset(variables, coords=frame.coords, attrs=first.attrs)
