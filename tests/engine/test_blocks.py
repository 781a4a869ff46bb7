"""Blocks tile the output exactly, have stable names, and a worker finds the same region from less."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.blocks import Grid, as_tree, dataset_of, grids, groups, is_lazy
from lensflow.engine.write import Target
from lensflow.errors import BadInput

LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=7).map(tuple)
CHUNKS = st.lists(LENGTHS, max_size=3).map(tuple)


def grid_of(chunks: tuple[tuple[int, ...], ...], itemsize: int = 4) -> Grid:
    return Grid("g", tuple("zyx"[: len(chunks)]), chunks, ("a", "b"), itemsize)


@given(CHUNKS)
@settings(deadline=None, max_examples=150)
def test_blocks_tile_the_array_exactly(chunks: tuple[tuple[int, ...], ...]) -> None:
    grid = grid_of(chunks)
    covered = np.zeros(grid.shape, dtype=int)
    blocks = list(grid.blocks())
    for block in blocks:
        covered[block.region] += 1
    assert (covered == 1).all()
    assert len(blocks) == np.prod(grid.numblocks, dtype=int)
    assert len({block.id for block in blocks}) == len(blocks)
    assert sum(block.nbytes for block in blocks) == grid.nbytes == covered.size * 4


@given(CHUNKS)
@settings(deadline=None, max_examples=150)
def test_a_worker_finds_the_same_region_from_counted_lengths(chunks: tuple[tuple[int, ...], ...]) -> None:
    grid = grid_of(chunks)
    target = Target.of(grid, Path("out.zarr"), "token")
    for block in grid.blocks():
        assert target.region(block.index) == block.region
    for lengths, runs in zip(chunks, target.runs, strict=True):
        assert tuple(length for length, times in runs for _ in range(times)) == lengths
        assert all(one[0] != two[0] for one, two in pairwise(runs)), "counted, not listed"


def test_a_worker_refuses_a_block_that_is_not_there() -> None:
    target = Target.of(grid_of(((2, 2), (3,))), Path("out.zarr"), "token")
    with pytest.raises(IndexError):
        target.region((2, 0))


def test_names_of_blocks() -> None:
    data = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"r": ("z", da.ones(2, chunks=1))}),
            "/2246/deep": xr.Dataset({"flux": (("y", "x"), da.ones((4, 4), chunks=2))}),
        }
    )
    assert [block.id for grid in grids(data) for block in grid.blocks()] == [
        "r[0]", "r[1]",
        "2246/deep/flux[0,0]", "2246/deep/flux[0,1]", "2246/deep/flux[1,0]", "2246/deep/flux[1,1]",
    ]  # fmt: skip


GROUPS = ["/", "/a", "/a/b", "/a-b", "/c"]
VARIABLES = ["b-c", "d", "b-c-d", "flux"]


@st.composite
def trees(draw: st.DrawFn) -> xr.DataTree:
    """Draw a tree whose variables share some chunk grids, or none."""
    made = {}
    for group in draw(st.lists(st.sampled_from(GROUPS), min_size=1, unique=True)):
        variables: dict[str, Any] = {}
        for name in draw(st.lists(st.sampled_from(VARIABLES), unique=True)):
            ndim = draw(st.integers(1, 2))
            dims, shape = ("y", "x")[:ndim], (4, 6)[:ndim]
            kind = draw(st.sampled_from(["f4", "u2"]))
            values = np.zeros(shape, kind)
            lazy = draw(st.booleans())
            variables[name] = (dims, da.from_array(values, chunks=draw(st.sampled_from([2, 3]))) if lazy else values)
        made[group] = xr.Dataset(variables)
    return xr.DataTree.from_dict(made)


@given(trees())
@settings(deadline=None, max_examples=60)
def test_every_lazy_variable_is_in_exactly_one_grid(tree: xr.DataTree) -> None:
    found = grids(tree)
    held = [(grid.group, name) for grid in found for name in grid.names]
    lazy = [
        (group, str(name))
        for group, dataset in groups(tree)
        for name, variable in dataset.variables.items()
        if is_lazy(variable)
    ]
    assert sorted(held) == sorted(lazy)
    ids = [block.id for grid in found for block in grid.blocks()]
    assert len(set(ids)) == len(ids)
    for grid in found:
        dataset = dataset_of(tree, grid.group)
        for name in grid.names:
            assert dataset[name].dims == grid.dims
            assert dataset[name].chunks == grid.chunks
        assert grid.itemsize == sum(dataset[name].dtype.itemsize for name in grid.names)


def test_variables_share_a_grid_only_with_equal_dimensions_and_chunks() -> None:
    one = da.ones((4, 4), chunks=2)
    dataset = xr.Dataset(
        {
            "a": (("y", "x"), one),
            "b": (("y", "x"), one.astype("u1")),
            "c": (("x", "y"), one),
            "d": (("y", "x"), one.rechunk((2, 4))),
        }
    )
    assert [(grid.names, grid.itemsize) for grid in grids(as_tree(dataset))] == [
        (("a", "b"), 9), (("c",), 8), (("d",), 8),
    ]  # fmt: skip


def test_arrays_and_datasets_become_trees() -> None:
    array = xr.DataArray(da.ones(3, chunks=1), dims="x", name="flux", coords={"x": [1, 2, 3]})
    for data in (array, array.to_dataset(), xr.DataTree(array.to_dataset())):
        tree = as_tree(data)
        xr.testing.assert_identical(tree.to_dataset(), array.to_dataset())
    assert list(as_tree(array.rename(None)).data_vars) == ["data"]


def test_coordinates_of_a_parent_are_written_once() -> None:
    parent = xr.Dataset(coords={"q": ("x", da.arange(4, chunks=2))})
    child = xr.Dataset({"a": ("x", da.ones(4, chunks=2))})
    found = grids(xr.DataTree.from_dict({"/": parent, "/child": child}))
    assert [(grid.group, grid.names) for grid in found] == [("", ("q",)), ("child", ("a",))]


def refusals() -> dict[str, tuple[object, str]]:
    ones = da.ones(4, chunks=2)
    return {
        "a number": (3, "cannot run a int: expected an xarray"),
        "an array": (ones, "cannot run a Array"),
        "unknown chunks": (xr.Dataset({"a": ("x", ones[ones > 0])}), "'a' has chunks of unknown length"),
        "text": (xr.Dataset({"a": ("x", ones.astype("U3"))}), "'a' is lazy and of type <U3"),
        "dates": (xr.Dataset({"a": ("x", ones.astype("M8[ns]"))}), "'a' is lazy and of type datetime64"),
        "objects in a group": (
            xr.DataTree.from_dict({"/g": xr.Dataset({"a": ("x", ones.astype(object))})}),
            "'g/a' is lazy and of type object",
        ),
        "packed": (
            xr.Dataset({"a": xr.Variable("x", ones, encoding={"scale_factor": 2.0})}),
            "'a' is lazy and asks for the encoding scale_factor",
        ),
    }


@pytest.mark.parametrize("case", list(refusals()))
def test_what_cannot_be_run_is_refused(case: str) -> None:
    data, expected = refusals()[case]
    with pytest.raises(BadInput, match=expected):
        as_tree(data)  # type: ignore[arg-type]


def test_text_in_memory_is_no_obstacle() -> None:
    as_tree(xr.Dataset({"a": ("x", da.ones(2, chunks=1))}, coords={"band": ("x", ["r", "i"])}))
