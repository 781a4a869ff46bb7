"""Identity: every change is named, nothing else is a change; what is read is known by size and time."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.blocks import as_tree
from lensflow.engine.identity import Identity, fingerprints, identify
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

OLD = Identity(
    graph="ps1_convolution",
    source_sha256="aaa",
    arguments={"sigma": 60.0, "bands": ["r", "i"]},
    version="1.0",
    geometry="ggg",
    inputs={"/d/a.fits": [10, 1], "/d/b.fits": [20, 2]},
)

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "graph": ({"graph": "./mine.py"}, "the graph is ./mine.py, it was ps1_convolution"),
    "source": ({"source_sha256": "bbb"}, "the source of the graph ps1_convolution has changed"),
    "argument": ({"arguments": {"sigma": 61.0, "bands": ["r", "i"]}}, "the argument sigma is 61.0, it was 60.0"),
    "new argument": (
        {"arguments": {**OLD.arguments, "edge": 5}},
        "the argument edge is 5, it was its default",
    ),
    "lost argument": ({"arguments": {"sigma": 60.0}}, "the argument bands is its default, it was ['r', 'i']"),
    "version": ({"version": "1.1"}, "lensflow is version 1.1, it was 1.0"),
    "geometry": ({"geometry": "hhh"}, "the output has other variables, shapes, types or chunks"),
    "new input": ({"inputs": {**OLD.inputs, "/d/c.fits": [1, 1]}}, "input /d/c.fits is new"),
    "lost inputs": ({"inputs": {}}, "input /d/a.fits is gone (and 1 more)"),
    "size": ({"inputs": {**OLD.inputs, "/d/b.fits": [21, 2]}}, "input /d/b.fits has changed"),
    "time": ({"inputs": {**OLD.inputs, "/d/b.fits": [20, 3]}}, "input /d/b.fits has changed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named_and_alters_the_key(change: str) -> None:
    fields, sentence = CHANGES[change]
    now = dataclasses.replace(OLD, **fields)
    assert now.changes_since(OLD) == [sentence]
    assert now.key != OLD.key


def test_no_change_is_none() -> None:
    again = Identity(**json.loads(json.dumps(dataclasses.asdict(OLD))))
    assert again.changes_since(OLD) == []
    assert again.key == OLD.key


@given(st.sets(st.sampled_from(sorted(CHANGES.keys() - {"graph", "new argument", "lost argument", "size", "time"}))))
@settings(deadline=None, max_examples=50)
def test_all_changes_are_named_together(chosen: set[str]) -> None:
    """In any combination (of those that do not alter the same field)."""
    if {"new input", "lost inputs"} <= chosen:
        return
    now = dataclasses.replace(OLD, **{name: value for one in chosen for name, value in CHANGES[one][0].items()})
    assert sorted(now.changes_since(OLD)) == sorted(CHANGES[one][1] for one in chosen)
    assert (now.key == OLD.key) == (not chosen)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.text(), VALUES), st.dictionaries(st.text(), st.lists(st.integers(), min_size=2, max_size=2)))
@settings(deadline=None, max_examples=100)
def test_the_key_survives_the_file_it_is_kept_in(arguments: dict[str, Any], inputs: dict[str, list[int]]) -> None:
    one = dataclasses.replace(OLD, arguments=arguments, inputs=inputs)
    again = Identity(**json.loads(json.dumps(dataclasses.asdict(one), indent=1)))
    assert again.key == one.key
    backwards = dataclasses.replace(one, inputs=dict(reversed(inputs.items())))
    assert backwards.key == one.key, "the order of files is no change"


def lazy(**changes: Any) -> xr.Dataset:
    chosen: dict[str, Any] = {"shape": (4, 6), "chunks": 2, "dtype": "f4", "name": "a", "dims": ("y", "x"), **changes}
    ones = da.ones(chosen["shape"], chunks=chosen["chunks"], dtype=chosen["dtype"])
    return xr.Dataset({chosen["name"]: (chosen["dims"], ones)})


def geometry(data: Any) -> str:
    return identify(as_tree(data), None, {}).geometry


def test_geometry_is_names_dimensions_shapes_types_and_chunks() -> None:
    assert geometry(lazy()) == geometry(lazy() * 2), "not values"
    others = [
        lazy(shape=(6, 4)), lazy(shape=(4, 7)), lazy(chunks=3), lazy(dtype="f8"), lazy(name="b"), lazy(dims=("x", "y")),
        lazy().assign(c=1), xr.DataTree.from_dict({"/g": lazy()}), lazy(chunks=((3, 1), (2, 2, 2))),
    ]  # fmt: skip
    assert len({geometry(one) for one in [lazy(), *others]}) == len(others) + 1


def test_a_dataset_made_by_hand_has_an_identity() -> None:
    found = identify(as_tree(lazy()), None, {})
    assert found.graph == "(a dataset made by hand)"
    assert found.inputs == {}


# Fingerprints


def test_files_are_known_by_size_and_time(tmp_path: Path) -> None:
    one = tmp_path / "a.fits"
    one.write_bytes(b"12345")
    os.utime(one, ns=(7, 1_234_567_890_123_456_789))
    assert fingerprints([one]) == {str(one): [5, 1_234_567_890_123_456_789]}


def test_a_folder_stands_for_every_file_below_it(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b/c", "b/d/e")]
    for one in paths:
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_text("x")
    assert set(fingerprints([tmp_path])) == set(map(str, paths))


@pytest.fixture
def zarr_store(tmp_path: Path) -> Path:
    path = tmp_path / "in.zarr"
    xr.Dataset({"a": ("x", np.arange(6.0))}, coords={"x": np.arange(6)}).to_zarr(
        path, zarr_format=3, consolidated=False, encoding={"a": {"chunks": (2,)}}
    )
    return path


def test_of_a_zarr_store_only_the_metadata_count(zarr_store: Path) -> None:
    assert set(fingerprints([zarr_store])) == {
        str(zarr_store / name) for name in ("zarr.json", "a/zarr.json", "x/zarr.json")
    }


def test_of_zarr_stores_in_a_folder_only_the_metadata_count(zarr_store: Path) -> None:
    found = fingerprints([zarr_store.parent])
    assert set(found) == {str(zarr_store / name) for name in ("zarr.json", "a/zarr.json", "x/zarr.json")}


def test_an_array_called_c_counts_too(tmp_path: Path) -> None:
    """``c`` is where Zarr v3 keeps the chunks of an array, but of a group it is a child."""
    path = tmp_path / "in.zarr"
    xr.Dataset({"c": ("x", np.arange(6.0))}).to_zarr(path, zarr_format=3, consolidated=False)
    assert str(path / "c" / "zarr.json") in fingerprints([path])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.fits: no such file or folder"):
        fingerprints([tmp_path / "none.fits"])


def test_a_link_to_nothing_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "cell.fits").symlink_to(tmp_path / "gone.fits")
    with pytest.raises(BadInput, match=r"cell\.fits"):
        fingerprints([tmp_path])


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_text("x")
    (tmp_path / "again").symlink_to(tmp_path)
    assert str(tmp_path / "a.fits") in fingerprints([tmp_path])
