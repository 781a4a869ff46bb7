"""Blocks put together from pieces: whatever the sizes, each is what lies around it in the whole image."""

from collections import Counter
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.core import flatten, get_dependencies
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lensflow.arrays.interlock import Pieces, gather, interlocked, padded

PACKED = np.dtype([("flux", "f4"), ("mask", "u2"), ("variance", "f4")])
WIDE = ("flux", "variance")


class Image:
    """A padded image of which every pixel is different, made in pieces; counts how often each is made."""

    def __init__(self, rows: tuple[int, ...], columns: tuple[int, ...], depth: int) -> None:
        self.chunks = interlocked(rows, depth), padded(columns, depth)
        self.shape = tuple(map(sum, self.chunks))
        self.made: Counter[tuple[int, ...]] = Counter()

    def __call__(self, block_id: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
        self.made[block_id] += 1
        y, x = (
            slice(sum(lengths[:place]), sum(lengths[: place + 1]))
            for lengths, place in zip(self.chunks, block_id, strict=True)
        )
        return tuple(one[y, x].copy() for one in self.whole)

    @property
    def whole(self) -> tuple[NDArray[Any], ...]:
        pixels = np.arange(np.prod(self.shape)).reshape(self.shape)
        return pixels.astype("f4"), pixels.astype("u2"), -pixels.astype("f4")

    def lazy(self) -> da.Array:
        return da.map_blocks(self, chunks=self.chunks, dtype=PACKED, meta=np.empty((0, 0), PACKED))


def computed(blocks: da.Array, place: tuple[int, int]) -> tuple[NDArray[Any], ...]:
    made: tuple[NDArray[Any], ...] = dask.get(dict(blocks.__dask_graph__()), (blocks.name, *place))
    return made


@given(st.data())
def test_blocks_are_what_lies_around_them(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 6))
    rows = tuple(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=6)))
    columns = tuple(data.draw(st.lists(st.integers(depth, 12), min_size=1, max_size=4)))
    image = Image(rows, columns, depth)
    own = data.draw(st.booleans())
    blocks = gather(Pieces(image.lazy(), image if own else None), (rows, columns), depth=depth, haloed=WIDE)
    assert blocks.numblocks == (len(rows), len(columns))
    assert blocks.dtype == PACKED
    flux, mask, variance = image.whole
    for i, j in np.ndindex(*blocks.numblocks):
        y, x = sum(rows[:i]), sum(columns[:j])
        around = slice(y, y + rows[i] + 2 * depth), slice(x, x + columns[j] + 2 * depth)
        core = slice(y + depth, y + depth + rows[i]), slice(x + depth, x + depth + columns[j])
        found = computed(blocks, (i, j))
        for one, expected in zip(found, (flux[around], mask[core], variance[around]), strict=True):
            np.testing.assert_array_equal(one, expected)
            assert one.dtype == expected.dtype
        assert found[0].shape == tuple(lengths[n] for lengths, n in zip(blocks.chunks, (i, j), strict=True))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 15))
def test_pieces_reach_a_halo_beyond_both_ends_and_leave_no_gap(lengths: list[int], depth: int) -> None:
    pieces = interlocked(lengths, depth)
    assert sum(pieces) == sum(lengths) + 2 * depth
    assert min(pieces) > 0
    assert len(pieces) <= 2 * len(lengths)


@pytest.mark.parametrize("columns", [(50,), (20, 20, 10)])
def test_every_piece_is_made_once(columns: tuple[int, ...]) -> None:
    image = Image((30, 30, 30, 8), columns, 5)
    blocks = gather(Pieces(image.lazy(), image), ((30, 30, 30, 8), columns), depth=5, haloed=WIDE)
    names = [da.map_blocks(lambda block: block[1], blocks, dtype="u2", meta=np.empty((0, 0), "u2"))]
    da.compute(*names, scheduler="sync")
    assert set(image.made.values()) == {1}
    assert len(image.made) == np.prod([len(lengths) for lengths in image.chunks])


def test_only_strips_are_tasks_of_their_own() -> None:
    image = Image((30, 30, 30), (50,), 5)
    blocks = gather(Pieces(image.lazy(), image), ((30, 30, 30), (50,)), depth=5, haloed=WIDE)
    keys = list(flatten(blocks.__dask_keys__()))
    tasks = dict(da.optimize(blocks.__dask_graph__(), keys))
    strips = {key for key in tasks if key not in keys}
    assert {key[1] for key in strips} == {1, 3}
    assert all(get_dependencies(tasks, key) <= strips for key in keys)


@pytest.mark.parametrize(("rows", "columns"), [((30, 30), (50,)), ((30, 20), (25, 25))])
def test_pieces_of_other_blocks_are_refused(rows: tuple[int, ...], columns: tuple[int, ...]) -> None:
    image = Image((30, 20), (50,), 5)
    with pytest.raises(ValueError, match="are not those of blocks"):
        gather(Pieces(image.lazy()), (rows, columns), depth=5, haloed=WIDE)


def test_a_column_narrower_than_the_halo_of_its_neighbours_is_refused() -> None:
    image = Image((30,), (20, 3, 20), 5)
    with pytest.raises(ValueError, match="at least 5"):
        gather(Pieces(image.lazy()), ((30,), (20, 3, 20)), depth=5, haloed=WIDE)
