"""Graph files: loaded from a path, called, refused in one sentence, sent to workers by value."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.catalog import PROVENANCE, graph, shipped, summary
from lensflow.engine.work import Work
from lensflow.errors import BadInput, BadOption, StoreConflict, UnknownName
from lensflow.events import plain

if TYPE_CHECKING:
    from collections.abc import Callable

Made = Any

MINE = '''"""Ones of my own: a sample.

More text.
"""

from pathlib import Path

import dask.array as da
import xarray as xr


def double(chunk):
    return 2 * chunk


def graph(source: Path, size: int = 4, *, value: float = 1.0, names: tuple[str, ...] = ()) -> xr.Dataset:
    """Make ones.

    Parameters
    ----------
    source
        Where from.
    """
    ones = da.full((size, size), value, chunks=2).map_blocks(double)
    return xr.Dataset({"a": (("y", "x"), ones)})


def picture(dataset):
    return "drawn"


constant = 3
'''


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return to


def test_a_graph_is_loaded_by_path_and_called(write: Callable[..., Path]) -> None:
    mine = graph(write(MINE))
    assert mine.name == "mine"
    assert mine.summary == "Ones of my own: a sample."
    with dask.config.set(scheduler=refuse):
        made = mine("cells", 6, value=2)
    assert made.a.shape == (6, 6)
    assert float(made.a.sum().compute(scheduler="synchronous")) == 6 * 6 * 4


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a graph was computed while it was built")


def test_help_is_the_functions_own(write: Callable[..., Path]) -> None:
    mine = graph(write(MINE))
    assert mine.__doc__.startswith("Make ones.")
    assert list(inspect.signature(mine).parameters) == ["source", "size", "value", "names"]
    assert mine.parameters["source"].help == "Where from."


def test_the_dataset_says_who_made_it_with_which_arguments(write: Callable[..., Path]) -> None:
    path = write(MINE)
    made = graph(path)("cells", names=["a", "b"])
    provenance = made.attrs[PROVENANCE]
    assert provenance["graph"] == str(path)
    assert provenance["arguments"] == {
        "source": str(Path("cells").absolute()), "size": 4, "value": 1.0, "names": ["a", "b"],
    }  # fmt: skip
    assert json.loads(json.dumps(provenance)) == provenance


def test_a_dataset_finds_its_graph_and_arguments_again(write: Callable[..., Path], tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    cells.mkdir()
    (cells / "one.fits").write_bytes(b"123")
    mine = graph(write(MINE))
    work = Work.of(mine(cells, value=3))
    assert work.graph is not None
    assert work.graph.path == mine.path
    assert work.identity.arguments["value"] == 3.0
    assert list(work.identity.inputs) == [str(cells / "one.fits")]


def test_a_graph_edited_after_it_was_called_is_not_run_under_its_new_source(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(MINE)
    made = graph(path)(tmp_path)
    write(MINE.replace("2 * chunk", "3 * chunk"))
    with pytest.raises(StoreConflict, match="mine"):
        Work.of(made)


def test_an_edit_within_the_same_second_is_seen(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's byte code cache knows a source by its size and whole seconds only."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = write(MINE)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert graph(path).module.double(1) == 2
    write(MINE.replace("2 * chunk", "3 * chunk"))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    again = graph(path)
    assert "3 * chunk" in again.source
    assert again.module.double(1) == 3, "the source that is recorded is the source that runs"


def test_functions_of_a_graph_file_travel_by_value(write: Callable[..., Path]) -> None:
    mine = graph(write(MINE))
    name = mine.module.__name__
    assert name not in sys.modules
    sent = cloudpickle.dumps(mine.module.double)
    assert b"double" in sent
    assert pickle.loads(sent)(21) == 42  # noqa: S301 - our own


def test_arguments_by_place_and_by_name_are_the_same(write: Callable[..., Path]) -> None:
    mine = graph(write(MINE))
    by_place, by_name = mine.bind("x", 5), mine.bind(size="5", source=Path("x"))
    assert by_place == by_name == {"source": Path("x").absolute(), "size": 5, "value": 1.0, "names": ()}


def test_arguments_that_do_not_fit_are_refused(write: Callable[..., Path]) -> None:
    mine = graph(write(MINE))
    with pytest.raises(BadOption, match="mine takes 2 positional arguments, found 3"):
        mine("x", 5, 6)
    with pytest.raises(BadOption, match="'source' is given twice"):
        mine("x", source="y")
    with pytest.raises(BadOption, match="mine needs SOURCE"):
        mine()
    with pytest.raises(UnknownName, match=r"no parameter 'vaule'\. Did you mean 'value'"):
        mine("x", vaule=3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import xarray\n", "the file defines no graph"),
        ("graph = 3\n", "the file defines no graph"),
        ("def graph(:\n", "does not run|not valid Python"),
        ("import no_such_module_at_all\n", "does not run .ModuleNotFoundError"),
        ("1 / 0\n", "does not run .ZeroDivisionError"),
        ("from lensflow.errors import BadInput\nraise BadInput('the file says so')\n", "the file says so"),
        ("def graph(source) -> int:\n    return 1\n", "parameter 'source' needs a type annotation"),
    ],
)
def test_files_that_are_no_graphs(write: Callable[..., Path], text: str, expected: str) -> None:
    path = write(text)
    before = set(sys.modules)
    with pytest.raises((BadInput, BadOption), match=expected):
        graph(path)
    assert not [name for name in set(sys.modules) - before if "mine" in name]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"x = '\xff'\n")
    with pytest.raises(BadInput, match=r"mine\.py"):
        graph(path)


def test_what_is_returned_must_be_a_dataset(write: Callable[..., Path]) -> None:
    mine = graph(write("def graph(size: int = 3) -> int:\n    return size\n"))
    with pytest.raises(BadInput, match=r"graph\(\) returned int, expected an xarray Dataset or DataTree"):
        mine()


def test_verbs(write: Callable[..., Path]) -> None:
    mine = graph(write(MINE))
    assert mine.offers("picture")
    assert mine.verb("picture")(None) == "drawn"
    assert not mine.offers("constant")
    for name in ("simulate", "constant"):
        with pytest.raises(UnknownName, match=f"does not offer '{name}'"):
            mine.verb(name)


def test_inputs_are_the_verbs_or_else_the_paths(write: Callable[..., Path]) -> None:
    mine = graph(write(MINE))
    assert mine.inputs(mine.bind("x")) == [Path("x").absolute()]
    other = graph(write(MINE + "\n\ndef inputs(source: Path, **_rest):\n    return [str(source / 'a')]\n"))
    assert other.inputs(other.bind("x")) == [Path("x").absolute() / "a"]


def test_missing_files_and_unknown_names() -> None:
    with pytest.raises(BadInput, match=r"nothing/here\.py: no such graph file"):
        graph("nothing/here.py")
    with pytest.raises(UnknownName, match="Did you mean 'ps1_convolution'"):
        graph("ps1_convolutions")


def test_shipped_graphs_have_summaries_that_need_no_import() -> None:
    assert "ps1_convolution" in shipped()
    for path in shipped().values():
        assert summary(path).endswith("."), path


def test_a_summary_of_what_is_not_python(write: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match=r"mine\.py: not valid Python \(line 1"):
        summary(write("def graph(:\n"))


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
NESTED = st.recursive(
    ATOMS, lambda one: st.lists(one) | st.lists(one).map(tuple) | st.dictionaries(st.text(), one), max_leaves=8
)


@given(NESTED)
@settings(deadline=None, max_examples=60)
def test_plain_values_survive_json(value: object) -> None:
    found = plain(value)
    assert json.loads(json.dumps(found)) == found
    assert plain(found) == found


def test_plain_values_of_other_kinds() -> None:
    assert plain({1: np.float32(0.5), "p": Path("a/b"), "n": np.int64(3), "t": (np.bool_(True),)}) == {
        "1": 0.5, "p": "a/b", "n": 3, "t": [True],
    }  # fmt: skip


def test_a_set_reads_the_same_however_it_was_made() -> None:
    """The order of a set is not the same in every process: an identity must not depend on it."""
    assert plain({0, 8}) == plain({8, 0})


def test_a_graph_of_trees(write: Callable[..., Path]) -> None:
    mine = graph(
        write(
            "import dask.array as da, xarray as xr\n"
            "def graph(n: int = 2) -> xr.DataTree:\n"
            "    return xr.DataTree.from_dict({'/g': xr.Dataset({'a': ('x', da.ones(n, chunks=1))})})\n"
        )
    )
    made = mine(n=3)
    assert isinstance(made, xr.DataTree)
    assert made.attrs[PROVENANCE]["arguments"] == {"n": 3}
    assert [block.id for block in Work.of(made).blocks] == ["g/a[0]", "g/a[1]", "g/a[2]"]
