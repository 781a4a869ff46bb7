"""How large the chunks of every intermediate Dask array are, remembered while a graph is built.

A finished graph knows only the chunks of its outputs. Dask calls its array plugins for each array it
makes, so the sizes of all steps in between can be noted at no cost and a plan can add up memory.
"""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np

KEPT = 20_000  # arrays; a record is a few hundred bytes

Chunks = tuple[tuple[int, ...], ...]
_known: OrderedDict[str, tuple[Chunks, np.dtype[Any]]] = OrderedDict()
_latest: list[weakref.ref[da.Array]] = []  # the array noted last


def remember(array: da.Array) -> None:
    """Note the chunks and the item size of a Dask array; a Dask array plugin.

    A reduction says how small its first step is only after it has made that array, so an array is looked at again
    when the next one is made.
    """
    before = _latest.pop()() if _latest else None
    if before is not None and before.name in _known:
        _known[before.name] = (before.chunks, before.dtype)
    _known[array.name] = (array.chunks, array.dtype)
    _latest.append(weakref.ref(array))
    while len(_known) > KEPT:
        _known.popitem(last=False)


def of_key(key: object) -> int | None:
    """Return the bytes of the chunk behind a task key, or None where the array is not known."""
    if not isinstance(key, tuple) or key[0] not in _known:
        return None
    chunks, dtype = _known[key[0]]
    if len(chunks) != len(key) - 1:
        return None
    size = dtype.itemsize
    for lengths, place in zip(chunks, key[1:], strict=True):
        size *= lengths[place]
    return int(size) if math.isfinite(size) else None  # NaN: chunks of unknown length


def shape(key: object) -> tuple[int, ...] | None:
    """Return the shape of the chunk behind a task key, or None where the array is not known."""
    if of_key(key) is None:
        return None
    chunks, _ = _known[key[0]]  # type: ignore[index]
    return tuple(lengths[place] for lengths, place in zip(chunks, key[1:], strict=True))  # type: ignore[index]


def elements(key: object) -> int:
    """Return the elements of the chunk behind a task key, 0 where the array is not known."""
    known = shape(key)
    return 0 if known is None else math.prod(known)


def of_array(name: str) -> int | None:
    """Return the bytes of a whole array, or None where it is not known."""
    if name not in _known:
        return None
    chunks, dtype = _known[name]
    size = dtype.itemsize * math.prod(sum(lengths) for lengths in chunks)
    return int(size) if math.isfinite(size) else None


def is_packed(key: object) -> bool:
    """Whether a chunk holds several arrays at once: its dtype has a field for each, and picking one copies nothing."""
    return isinstance(key, tuple) and key[0] in _known and _known[key[0]][1].names is not None
