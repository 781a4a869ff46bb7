"""Map a function over blocks that share strips: halos are pieces of their own, made once and used from both sides.

Where blocks with a halo are cut from larger chunks, as in :mod:`lensflow.arrays.overlap`, a block waits for both
its neighbours and keeps them alive. Here the rows of an image are made in pieces that end where halos do, so that a
block is put together from the strips at its borders and a middle that nobody else needs::

    |  middle 0   | strip |  middle 1   | strip |  middle 2  |
    |------ block 0 ------|
                  |---------- block 1 ----------|
                                        |------ block 2 -----|

Only strips cross between blocks. A middle that needs no other task is made in the task of its block: nothing but
strips is made ahead of blocks and waits for them. Along the columns, as images are read by rows, blocks take halos from
their neighbours as usual.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.utils import key_split

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    Arrays = tuple[NDArray[Any], ...]
    Chunks = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Pieces:
    """An image (y, x) in pieces, each a tuple of arrays.

    Parameters
    ----------
    array
        The pieces, lazily; its dtype has a field for each array.
    make
        Makes the piece at an index without any other task; None if that takes others.
    """

    array: da.Array
    make: Callable[..., Arrays] | None = None


def interlocked(lengths: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the lengths of the pieces for blocks of these lengths; they reach ``depth`` beyond both ends."""
    return tuple(end - begin for begin, end in pairwise(_cuts(lengths, depth)))


def padded(lengths: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return lengths of which the outermost are larger by ``depth``."""
    ends = list(lengths)
    ends[0] += depth
    ends[-1] += depth
    return tuple(ends)


def map_overlap(
    func: Callable[[Arrays], Arrays],
    pieces: Pieces,
    chunks: Chunks,
    *,
    depth: int,
    haloed: Collection[str],
    dtype: np.dtype[Any],
    name: str,
) -> da.Array:
    """Apply a function to each block of an image together with a halo of its neighbours.

    Parameters
    ----------
    func
        Takes the fields of a block and returns a tuple of arrays without a halo.
    pieces, chunks, depth, haloed
        See :func:`gather`.
    dtype
        A field for each array that is returned.
    name
        Of the tasks.

    Returns
    -------
    da.Array
        Tuples of arrays, one a block, of the given chunks.
    """
    around = gather(pieces, chunks, depth=depth, haloed=haloed)
    return da.map_blocks(
        func,
        around,
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0, 0), dtype),
        name=f"{name}-{tokenize(around.name, func)}",
    )


def gather(pieces: Pieces, chunks: Chunks, *, depth: int, haloed: Collection[str]) -> da.Array:
    """Put blocks together, each with a halo of its neighbours.

    Parameters
    ----------
    pieces
        Of the rows ``interlocked(chunks[0], depth)`` and the columns ``padded(chunks[1], depth)``.
    chunks
        Rows and columns of the blocks, without a halo.
    depth
        Pixels of halo on all sides.
    haloed
        The fields that have a halo; of the others just the block is put together.

    Returns
    -------
    da.Array
        Tuples of the same fields, one a block; the chunks count the halo.

    Raises
    ------
    ValueError
        If the pieces are not those of the blocks.
    """
    rows, columns = chunks
    array = pieces.array
    if array.chunks != (interlocked(rows, depth), padded(columns, depth)):
        raise ValueError(f"pieces of {array.chunks} are not those of blocks of {chunks} with a halo of {depth}")
    if min(columns[1:-1], default=depth) < depth:
        raise ValueError(f"columns of {columns}: expected at least {depth}, the halo of the next")
    sides = [_edges(array, depth, haloed, left=left) for left in (True, False)] if len(columns) > 1 else []
    # Dask's own word first, which it has for arrays with a halo
    name = f"overlap-{key_split(array.name)}-{tokenize(array.name, chunks, depth, sorted(haloed))}"
    wide = tuple(field in haloed for field in array.dtype.names)
    tasks = {}
    workspace = 0
    for i, (begin, end, alone) in enumerate(_spans(rows, depth)):
        own = alone if pieces.make and not sides else []  # where there are sides, neighbours need all of them
        for j in range(len(columns)):
            here = {k - begin: (k, j) for k in own}
            assemble = _Assembly(depth, wide, j > 0, j < len(columns) - 1, here, pieces.make if here else None)
            parts = [[] if k in own else list(_row(array, sides, k, j)) for k in range(begin, end)]
            tasks[name, i, j] = (assemble, parts)
            workspace = max(workspace, *(array.chunks[0][k] * array.chunks[1][j] for k in own), 0)
    # a plan of memory learns in this way what a task makes beside what it returns
    with dask.annotate(workspace=workspace * array.dtype.itemsize):
        graph = HighLevelGraph.from_collections(name, tasks, dependencies=[array, *sides])
    down, across = (tuple(length + 2 * depth for length in lengths) for lengths in chunks)
    return da.Array(graph, name, (down, across), meta=np.empty((0, 0), array.dtype))


def _row(array: da.Array, sides: Sequence[da.Array], k: int, j: int) -> Iterator[tuple[str, int, int]]:
    """Yield the keys of a piece and of what its neighbours to the left and right have for its block."""
    if j > 0:
        yield sides[1].name, k, j - 1
    yield array.name, k, j
    if sides and j < array.numblocks[1] - 1:
        yield sides[0].name, k, j + 1


def _cuts(lengths: Sequence[int], depth: int) -> list[int]:
    """Return where pieces begin and end, counted from the first pixel of the first block."""
    borders = list(accumulate(lengths))
    begin, end = -depth, borders.pop() + depth
    inside = {border + side for border in borders for side in (-depth, depth)}
    return [begin, *sorted(cut for cut in inside if begin < cut < end), end]


def _spans(lengths: Sequence[int], depth: int) -> list[tuple[int, int, list[int]]]:
    """Return for each block its first piece, the one after its last, and those that no other block needs."""
    cuts = _cuts(lengths, depth)
    place = {cut: number for number, cut in enumerate(cuts)}
    spans = [
        (place[max(begin - depth, cuts[0])], place[min(end + depth, cuts[-1])])
        for begin, end in pairwise(accumulate(lengths, initial=0))
    ]
    users = Counter(k for begin, end in spans for k in range(begin, end))
    return [(begin, end, [k for k in range(begin, end) if users[k] == 1]) for begin, end in spans]


def _edges(pieces: da.Array, depth: int, haloed: Collection[str], *, left: bool) -> da.Array:
    """Return the outermost columns of each piece, of the fields that have a halo."""
    names = pieces.dtype.names
    packed = np.dtype([(name, pieces.dtype[name]) for name in names if name in haloed])
    chosen = [place for place, name in enumerate(names) if name in haloed]
    return da.map_blocks(
        partial(_edge, chosen=chosen, columns=slice(depth) if left else slice(-depth, None)),
        pieces,
        chunks=(pieces.chunks[0], (depth,) * len(pieces.chunks[1])),
        dtype=packed,
        meta=np.empty((0, 0), packed),
        name=f"edge-{tokenize(pieces.name, depth, names, chosen, left)}",
    )


def _edge(piece: Arrays, *, chosen: Sequence[int], columns: slice) -> Arrays:
    return tuple(piece[place][:, columns].copy() for place in chosen)  # a view would keep all of the piece


@dataclass(frozen=True)
class _Assembly:
    """The task that puts a block together from rows of pieces: one from the left, its own, one from the right.

    Parameters
    ----------
    depth
        Pixels of halo.
    haloed
        Which fields have one.
    left, right
        Whether there are neighbours.
    missing
        The indices of pieces that are made here, by their place among the rows.
    make
        Makes them.
    """

    depth: int
    haloed: tuple[bool, ...]
    left: bool
    right: bool
    missing: dict[int, tuple[int, int]]
    make: Callable[..., Arrays] | None

    def __call__(self, rows: Sequence[Sequence[Arrays]]) -> Arrays:
        """Return the arrays of the block."""
        whole = list(rows)
        for place, index in self.missing.items():
            whole[place] = [self.make(block_id=index)]  # type: ignore[misc]
        return tuple(self._haloed(whole, n) if wide else self._core(whole, n) for n, wide in enumerate(self.haloed))

    def _haloed(self, rows: Sequence[Sequence[Arrays]], field: int) -> NDArray[Any]:
        own, among = int(self.left), sum(self.haloed[:field])  # edges have only the fields with a halo
        return _put_together([[part[field if at == own else among] for at, part in enumerate(row)] for row in rows])

    def _core(self, rows: Sequence[Sequence[Arrays]], field: int) -> NDArray[Any]:
        columns = slice(None if self.left else self.depth, None if self.right else -self.depth)
        parts = [row[int(self.left)][field][:, columns] for row in rows]
        height = sum(map(len, parts))
        return _put_together([[part] for part in _within(parts, self.depth, height - self.depth)])


def _within(parts: Sequence[NDArray[Any]], begin: int, end: int) -> list[NDArray[Any]]:
    """Return views of rows ``begin`` to ``end`` of parts that lie one above the other."""
    found, top = [], 0
    for part in parts:
        view = part[max(begin - top, 0) : max(end - top, 0)]
        if len(view):
            found.append(view)
        top += len(part)
    return found


def _put_together(rows: Sequence[Sequence[NDArray[Any]]]) -> NDArray[Any]:
    """Return parts as one array; a single one is not copied."""
    if len(rows) == len(rows[0]) == 1:
        return rows[0][0]
    shape = sum(len(row[0]) for row in rows), sum(part.shape[1] for part in rows[0])
    whole = np.empty(shape, rows[0][0].dtype)
    top = 0
    for row in rows:
        left, bottom = 0, top + len(row[0])
        for part in row:
            whole[top:bottom, left : left + part.shape[1]] = part
            left += part.shape[1]
        top = bottom
    return whole
