"""The halo of a block: how deep it is, whether the chunks can give it, and the task that cuts it off."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from lensflow.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    Boundary = Literal["none", "reflect", "periodic", "nearest", "valid"] | float

PAD_MODES = {"reflect": "symmetric", "periodic": "wrap", "nearest": "edge"}  # Dask's words, numpy's words


@dataclass(frozen=True)
class Block:
    """The task of one block: call the function, check what it returns, cut the halo off."""

    func: Callable[..., Any]
    label: str
    depth: tuple[int, ...]
    last: tuple[int, ...]
    open_edges: bool
    trim: bool
    dtypes: tuple[np.dtype[Any], ...]
    single: bool

    def __call__(self, *parts: NDArray[Any], block_id: tuple[int, ...]) -> Any:  # noqa: ANN401 - tuple or array
        """Return the array of this block, or the tuple of all outputs."""
        inner = tuple(
            slice(
                0 if self.open_edges and i == 0 else d,
                n - (0 if self.open_edges and i == last else d),
            )
            for i, last, d, n in zip(block_id, self.last, self.depth, parts[0].shape, strict=True)
        )
        found = self.func(*parts)
        arrays = (found,) if self.single else found
        if not isinstance(arrays, tuple) or len(arrays) != len(self.dtypes):
            raise BadOption(
                f"{self.label}: the function returned {type(found).__name__}: "
                f"expected a tuple of {len(self.dtypes)} arrays, one for each of outputs."
            )
        checked = tuple(self._cut(a, parts[0].shape, inner, t) for a, t in zip(arrays, self.dtypes, strict=True))
        return checked[0] if self.single else checked

    def _cut(
        self, array: NDArray[Any], haloed: tuple[int, ...], inner: tuple[slice, ...], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        expected = haloed if self.trim else tuple(s.stop - s.start for s in inner)
        if array.shape != expected:
            raise BadOption(
                f"{self.label}: the function returned the shape {array.shape}: expected {expected}, "
                f"{'with the halo' if self.trim else 'without the halo'}, as trim={self.trim} asks."
            )
        return (array[inner] if self.trim else array).astype(dtype, copy=False, casting="same_kind")


def halo_of(array: xr.DataArray, depth: Mapping[Any, int]) -> tuple[int, ...]:
    """Depth of each dimension."""
    for dim, d in depth.items():
        if dim not in array.dims:
            raise BadOption(f"depth names the dimension {dim!r}: expected one of {array.dims}.")
        if isinstance(d, bool) or operator.index(d) < 0:
            raise BadOption(f"depth of {dim!r} is {d!r}: expected an integer of at least 0.")
    return tuple(operator.index(depth.get(dim, 0)) for dim in array.dims)


def check_boundary(boundary: Boundary, *, trim: bool, halo: tuple[int, ...]) -> None:
    """Refuse unknown boundaries, and a function that would have to guess where the edge is."""
    known = ("none", "valid", *PAD_MODES)
    if boundary not in known and (isinstance(boundary, (str, bool)) or not isinstance(boundary, Real)):
        raise BadOption(f"boundary is {boundary!r}: expected one of {', '.join(known)}, or a number.")
    if boundary == "none" and not trim and any(halo):
        raise BadOption(
            "trim=False with boundary 'none': blocks at the edge have no halo there and the function cannot "
            "tell; use trim=True or another boundary."
        )


def check_sizes(
    array: xr.DataArray, halo: tuple[int, ...], boundary: Boundary, chunks: tuple[tuple[int, ...], ...]
) -> None:
    """Every chunk must hold the halo of its neighbours, and keep something of its own."""
    for dim, d, sizes in zip(array.dims, halo, chunks, strict=True):
        if any(math.isnan(n) for n in sizes):
            raise BadOption(f"dimension {dim!r} has chunks of unknown size: expected known ones; compute them first.")
        if d == 0 or (boundary == "none" and len(sizes) == 1):
            continue
        needed = dict.fromkeys(range(len(sizes)), d)
        if boundary == "valid":
            for end in (0, len(sizes) - 1):
                needed[end] = 1 + (2 * d if len(sizes) == 1 else d)
        for i, least in needed.items():
            if sizes[i] < least:
                raise BadOption(
                    f"dimension {dim!r}: chunk {i} has {sizes[i]} elements: expected at least {least} for a "
                    f"depth of {d} with boundary {boundary!r}; rechunk the array or lower the depth."
                )
