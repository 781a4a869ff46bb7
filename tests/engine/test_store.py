"""The store: no two blocks own a stored chunk, any order gives the same bytes, all is read back."""

from __future__ import annotations

import json
import math
import random
import uuid
from itertools import product
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lensflow.engine import store
from lensflow.engine.blocks import Grid, dataset_of, grids
from lensflow.engine.journal import Log
from lensflow.engine.record import checksum
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.tasks import lower
from lensflow.engine.verify import verify
from lensflow.engine.work import Work
from lensflow.errors import BadInput, LensflowError, Misaligned, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from lensflow.engine.identity import Identity

Chunks = tuple[tuple[int, ...], ...]
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6).map(tuple) | st.tuples(
    st.integers(1, 12), st.integers(1, 5), st.integers(1, 12)
).map(lambda one: (one[0],) * one[1] + (min(one[0], one[2]),))  # mostly regular, as real grids are


@st.composite
def wishes(draw: st.DrawFn) -> tuple[Chunks, dict[str, tuple[int, ...]]]:
    """Draw a chunk grid and what the encoding asks for."""
    chunks = tuple(draw(st.lists(LENGTHS, min_size=1, max_size=2)))
    encoding = {}
    if draw(st.booleans()):
        encoding["chunks"] = tuple(draw(st.integers(1, 14)) for _ in chunks)
    if draw(st.booleans()):
        inner = encoding.get("chunks", tuple(lengths[0] for lengths in chunks))
        encoding["shards"] = tuple(one * draw(st.integers(1, 3)) for one in inner)
    return chunks, encoding


def laid_out(chunks: Chunks, encoding: dict[str, tuple[int, ...]]) -> store.Layout:
    dims = ("y", "x")[: len(chunks)]
    grid = Grid("", dims, chunks, ("a",), 4)
    return store.layout(
        grid, "a", xr.Variable(dims, da.zeros(grid.shape, dtype="f4", chunks=chunks), encoding=encoding)
    )


def owners(chunks: Chunks, unit: tuple[int, ...]) -> dict[tuple[int, ...], set[tuple[int, ...]]]:
    """Say which blocks touch each stored chunk or shard, element by element."""
    found: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for block in Grid("", ("y", "x")[: len(chunks)], chunks, ("a",), 4).blocks():
        for place in product(*(range(part.start, part.stop) for part in block.region)):
            found.setdefault(tuple(one // size for one, size in zip(place, unit, strict=True)), set()).add(block.index)
    return found


@given(wishes())
@settings(deadline=None, max_examples=200)
def test_no_two_blocks_own_one_stored_chunk(wish: tuple[Chunks, dict[str, tuple[int, ...]]]) -> None:
    chunks, encoding = wish
    try:
        found = laid_out(chunks, encoding)
    except Misaligned:
        return
    assert all(len(blocks) == 1 for blocks in owners(chunks, found.owned).values())
    if found.shards:
        assert all(shard % chunk == 0 for shard, chunk in zip(found.shards, found.chunks, strict=True))
    if "shards" in encoding:
        assert found.shards == encoding["shards"]


@given(wishes())
@settings(deadline=None, max_examples=200)
def test_nothing_is_refused_without_need(wish: tuple[Chunks, dict[str, tuple[int, ...]]]) -> None:
    chunks, encoding = wish
    assume("shards" not in encoding)
    wanted = encoding.get("chunks")
    safe = wanted is None or all(len(blocks) == 1 for blocks in owners(chunks, wanted).values())
    if safe:
        laid_out(chunks, encoding)
    else:
        with pytest.raises(Misaligned, match=r"variable 'a': a block starts at [yx] = \d+, inside a stored chunk of"):
            laid_out(chunks, encoding)


def test_a_shard_larger_than_the_array_is_no_obstacle() -> None:
    """The same encoding serves small arrays: one shard of whole chunks holds all of a single block."""
    assert laid_out(((3,),), {"chunks": (4,), "shards": (8,)}).owned >= (3,)


def test_shards_count_as_owned() -> None:
    with pytest.raises(Misaligned, match=r"inside a stored shard of 8; choose .* or rechunk y to multiples of 8"):
        laid_out(((4, 4, 4),), {"chunks": (2,), "shards": (8,)})


def test_shards_hold_whole_chunks() -> None:
    with pytest.raises(Misaligned, match=r"chunks \(3,\) do not divide shards \(4,\)"):
        laid_out(((4, 4),), {"chunks": (3,), "shards": (4,)})


@pytest.mark.parametrize("wanted", [(2, 2), (0,), (-1,), ()])
def test_chunks_must_fit_the_dimensions(wanted: tuple[int, ...]) -> None:
    with pytest.raises(Misaligned, match="its dimensions are"):
        laid_out(((4, 4),), {"chunks": wanted})


def test_blocks_that_line_up_only_in_slivers_are_refused() -> None:
    with pytest.raises(Misaligned, match="line up only in slivers"):
        laid_out(((5000, 5001, 5000),), {})


@given(st.tuples(LENGTHS, LENGTHS), st.sampled_from([1, 64, 4096]))
@settings(deadline=None, max_examples=60)
def test_default_chunks_are_whole_blocks_or_equal_parts_of_them(chunks: Chunks, scale: int) -> None:
    scaled = tuple(tuple(one * scale for one in lengths) for lengths in chunks)
    grid = Grid("", ("y", "x"), scaled, ("a",), 4)
    found = store._default_chunks(grid, 4)
    for unit, starts in zip(found, grid.starts, strict=True):
        assert all(start % unit == 0 for start in starts)
    assert math.prod(found) * 4 <= store.TARGET_BYTES, "parts of 2, 3, 5 and 7 suffice here"


def test_a_large_block_of_prime_sides_is_still_stored_in_chunks_that_a_codec_takes() -> None:
    grid = Grid("", ("y", "x"), ((24989,), (24989 * 8,)), ("a",), 4)
    assert math.prod(store._default_chunks(grid, 4)) * 4 < 2**31


# Writing and reading back


def write(path: Path, data: xr.Dataset | xr.DataTree, order: Callable[[list[Any]], Iterable[Any]] = list) -> Work:
    """Write every block as a worker does, in some order."""
    work = Work.of(data)
    store.create(path, work.tree, work.layouts)
    graph = lower(work.tree, work.grids, path, uuid.uuid4().hex)
    for block in order(list(work.blocks)):
        key = graph.key(block)
        dask.get(graph.cut([key]), key)
    return work


def contents(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


def read(path: Path) -> xr.DataTree:
    with xr.open_datatree(path, engine="zarr", consolidated=False) as tree:
        return tree.load()


@given(wish=wishes(), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_blocks_gives_the_same_bytes_and_the_right_pixels(
    wish: tuple[Chunks, dict[str, tuple[int, ...]]], seed: int, tmp_path: Path
) -> None:
    chunks, encoding = wish
    try:
        laid_out(chunks, encoding)
    except Misaligned:
        return
    dims, shape = ("y", "x")[: len(chunks)], tuple(map(sum, chunks))
    rng = np.random.default_rng(seed)
    expected = xr.Dataset(
        {"a": (dims, rng.normal(size=shape).astype("f4")), "m": (dims, rng.integers(0, 9, shape).astype("u2"))},
        coords={"y": np.arange(shape[0]) * 0.5},
        attrs={"title": "t"},
    )
    lazy = expected.chunk(dict(zip(dims, chunks, strict=True)))
    lazy["a"].encoding.update(encoding)
    first, second = tmp_path / uuid.uuid4().hex, tmp_path / uuid.uuid4().hex
    write(first, lazy)
    write(second, lazy, lambda blocks: random.Random(seed).sample(blocks, len(blocks)))
    xr.testing.assert_identical(read(first).to_dataset(), expected)
    assert contents(first) == contents(second)
    if "shards" in encoding:
        assert zarr.open_array(first, path="a").shards == encoding["shards"]


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")  # fixed-length text
def test_a_tree_is_written_with_all_that_is_not_lazy(tmp_path: Path) -> None:
    image = np.arange(24, dtype="f4").reshape(4, 6)
    lazy = da.from_array(image, chunks=2)
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"bands": ("b", ["r", "i"])}, attrs={"wcs": {"CRPIX1": 1.5}, "list": [1, 2]}),
            "/2246": xr.Dataset(
                {"flux": (("y", "x"), lazy, {"units": "counts/s"}), "where": (("y", "x"), lazy.astype("i8"))},
                coords={"x": np.arange(6) * 0.25, "lon": (("y", "x"), lazy * 2), "name": "skycell"},
            ),
            "/2246/deep": xr.Dataset({"n": ((), da.from_array(np.array(7, "i4")))}),
        }
    )
    write(tmp_path / "o.zarr", tree)
    found = read(tmp_path / "o.zarr")
    assert found.attrs == {"wcs": {"CRPIX1": 1.5}, "list": [1, 2]}
    assert list(found.dataset["bands"].values) == ["r", "i"]
    node = dataset_of(found, "2246")
    np.testing.assert_array_equal(node["flux"], image)
    assert node["flux"].attrs == {"units": "counts/s"}
    np.testing.assert_array_equal(node.coords["lon"], image * 2)
    assert node["where"].dtype == "i8"
    assert str(node["name"].values) == "skycell"
    assert int(found["2246/deep/n"]) == 7


KINDS = {
    "big endian": np.arange(16, dtype=">f4").reshape(4, 4),
    "half": np.ones((4, 4), "f2"),
    "complex": np.full((4, 4), 1 - 2j, "c8"),
    "boolean": np.eye(4, dtype="?"),
    "zeros": np.zeros((4, 4), "f4"),
    "negative zeros": np.full((4, 4), -0.0, "f4"),
    "infinite": np.full((4, 4), -np.inf, "f8"),
    "NaN": np.full((4, 4), np.nan, "f4"),
    "NaN of 0/0": -np.full((4, 4), np.nan, "f4"),  # on x86, 0/0 has the sign bit set
    "complex NaN": np.full((4, 4), np.nan + 1j, "c8"),
    "one dimension": np.arange(8, dtype="i2"),
    "scalar": np.array(3.5),
    "empty": np.ones((0, 4), "f4"),
}


def verified(path: Path, data: xr.Dataset) -> dict[str, str]:
    """Write and journal every block, verify, and return what is called damaged."""
    work = Work.of(data)
    directory = RunDirectory.of(path)
    directory.path.mkdir()
    directory.write(work.identity, blocks=len(work.blocks))
    store.create(path, work.tree, work.layouts)
    graph = lower(work.tree, work.grids, path, uuid.uuid4().hex)
    with Log(directory.journal) as journal:
        for block in work.blocks:
            record = dask.get(graph.cut([graph.key(block)]), graph.key(block)).item()
            journal.append("done", block=block.id, attempts=1, **record)
    return verify(directory).damaged


@pytest.mark.parametrize("fill", [None, 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_just_written_verifies(tmp_path: Path, kind: str, fill: float | None) -> None:
    values = KINDS[kind]
    encoding = {} if fill is None else {"_FillValue": fill}
    dims = ("y", "x")[: values.ndim]
    data = xr.Dataset({"a": xr.Variable(dims, da.from_array(values, chunks=2), encoding=encoding)})
    assert verified(tmp_path / "o.zarr", data) == {}


@pytest.mark.parametrize("harm", ["altered", "truncated", "emptied", "removed"])
def test_harm_to_a_chunk_is_found(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "o.zarr"
    values = np.random.default_rng(0).normal(size=(4, 4)).astype("f4")
    assert verified(path, xr.Dataset({"a": (("y", "x"), da.from_array(values, chunks=2))})) == {}
    chunk = path / "a" / "c" / "1" / "0"
    held = bytearray(chunk.read_bytes())
    held[-5] ^= 4
    change: dict[str, Callable[[], object]] = {
        "altered": lambda: chunk.write_bytes(held),
        "truncated": lambda: chunk.write_bytes(held[: len(held) // 2]),
        "emptied": lambda: chunk.write_bytes(b""),
        "removed": chunk.unlink,
    }
    change[harm]()
    verdict = verify(RunDirectory.of(path))
    assert list(verdict.damaged) == ["a[1,0]"]
    assert not verdict.clean
    assert list(RunDirectory.of(path).state().damaged) == ["a[1,0]"]


def test_unwritten_blocks_read_as_fill_values(tmp_path: Path) -> None:
    ones = da.ones((4, 4), chunks=2)
    data = xr.Dataset(
        {
            "f": (("y", "x"), ones),
            "i": (("y", "x"), ones.astype("i4")),
            "b": (("y", "x"), ones.astype("?")),
            "g": xr.Variable(("y", "x"), ones, encoding={"_FillValue": -9.0}),
            "u": xr.Variable(("y", "x"), ones.astype("u2"), encoding={"_FillValue": 255}),
        }
    )
    work = Work.of(data)
    store.create(tmp_path / "o.zarr", work.tree, work.layouts)
    found = read(tmp_path / "o.zarr").to_dataset()
    assert np.isnan(found["f"]).all()
    assert (found["i"] == 0).all()
    assert not found["b"].any()
    assert np.isnan(found["g"]).all(), "by the CF convention"
    assert (found["u"] == 255).all()
    assert found["u"].dtype == "u2"


def test_only_the_blanked_block_is_blank(tmp_path: Path) -> None:
    path = tmp_path / "o.zarr"
    ones = da.ones((4, 4), chunks=2)
    data = xr.Dataset({"f": (("y", "x"), ones), "mask": (("y", "x"), ones.astype("u2"), {"quarantine_value": 64})})
    work = write(path, data)
    block = next(one for one in work.blocks if one.id == "f[0,1]")
    store.blank(path, block, work.tree, uuid.uuid4().hex)
    found = read(path)
    expected = np.zeros((4, 4), bool)
    expected[:2, 2:] = True
    np.testing.assert_array_equal(np.isnan(found["f"]), expected)
    np.testing.assert_array_equal(found["mask"], np.where(expected, 64, 1))


def test_a_block_of_a_group_is_blanked_in_its_group(tmp_path: Path) -> None:
    path = tmp_path / "o.zarr"
    one = xr.Dataset({"f": ("x", da.ones(4, chunks=2))})
    work = write(path, xr.DataTree.from_dict({"/a": one, "/b": one}))
    store.blank(path, next(one for one in work.blocks if one.id == "b/f[1]"), work.tree, uuid.uuid4().hex)
    found = read(path)
    assert list(np.isnan(dataset_of(found, "b")["f"])) == [False, False, True, True]
    assert not np.isnan(dataset_of(found, "a")["f"]).any()


def test_two_grids_never_share_a_final_task(tmp_path: Path) -> None:
    """One would not be written at all, and called done."""
    values = np.arange(4.0)
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"a-b": ("z", da.from_array(values, chunks=2))}),
            "/a": xr.Dataset({"b": ("x", da.from_array(-values, chunks=2))}),
        }
    )
    found = grids(tree)
    graph = lower(tree, found, tmp_path / "o.zarr", "token")
    keys = [graph.key(block) for grid in found for block in grid.blocks()]
    assert len(set(keys)) == len(keys)
    write(tmp_path / "o.zarr", tree)
    np.testing.assert_array_equal(dataset_of(read(tmp_path / "o.zarr"), "a")["b"], -values)


def test_a_chunk_of_another_shape_than_promised_is_refused(tmp_path: Path) -> None:
    lying = da.map_blocks(lambda chunk: chunk[:1], da.ones((4, 4), chunks=2), dtype="f8")
    with pytest.raises(ValueError, match=r"'a' of block .*shape \(1, 2\).*promise \(2, 2\)"):
        write(tmp_path / "o.zarr", xr.Dataset({"a": (("y", "x"), lying)}))


def test_the_record_describes_what_is_stored(tmp_path: Path) -> None:
    """A graph that makes float64 where it promised float32 is recorded as float32."""
    path = tmp_path / "o.zarr"
    wide = da.map_blocks(lambda chunk: chunk.astype("f8") / 3, da.ones(4, chunks=2, dtype="f4"), dtype="f4")
    work = Work.of(xr.Dataset({"a": ("x", wide)}))
    store.create(path, work.tree, work.layouts)
    graph = lower(work.tree, work.grids, path, uuid.uuid4().hex)
    record = dask.get(graph.cut([graph.key(work.blocks[1])]), graph.key(work.blocks[1])).item()
    assert record["region"] == [[2, 4]]
    assert record["variables"]["a"]["checksum"] == checksum(np.full(2, 1 / 3, "f4"))
    assert record["peak_rss"] > 2**20
    json.dumps(record, allow_nan=False)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "o.zarr"
    work = write(path, xr.Dataset({"a": ("x", da.ones(4, chunks=2))}))
    before = contents(path)
    with pytest.raises(LensflowError, match=r"o\.zarr"):
        store.create(path, work.tree, work.layouts)
    assert contents(path) == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    work = Work.of(xr.Dataset({"a": ("x", da.ones(4, chunks=2))}))
    with pytest.raises(OutputError, match=r"cannot write the store .*choose another --out"):
        store.create(tmp_path / "file" / "o.zarr", work.tree, work.layouts)


def test_a_variable_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "o.zarr"
    write(path, xr.Dataset({"a": ("x", da.ones(4, chunks=2))}))
    with pytest.raises(BadInput, match="variable 'b' of group '' cannot be opened"):
        store.array(path, "", "b", "token")


def test_damaged_metadata(tmp_path: Path) -> None:
    path = tmp_path / "o.zarr"
    write(path, xr.Dataset({"a": ("x", da.ones(4, chunks=2))}))
    (path / "a" / "zarr.json").write_text("{")
    with pytest.raises(BadInput, match="variable 'a' of group '' cannot be opened"):
        store.array(path, "", "a", "another token")


def test_values_in_memory_are_part_of_the_identity() -> None:
    """Coordinates are written with the template: other values are another output."""

    def of(offset: int) -> Identity:
        return Work.of(xr.Dataset({"a": ("x", da.ones(4, chunks=2))}, coords={"x": np.arange(4) + offset})).identity

    assert of(0).key == of(0).key
    assert of(0).key != of(1).key
