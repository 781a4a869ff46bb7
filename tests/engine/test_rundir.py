"""The run directory: found from either name, described atomically, damage said in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lensflow.engine.identity import Identity
from lensflow.engine.journal import Log
from lensflow.engine.rundir import RunDirectory, replace, versions
from lensflow.errors import BadInput

IDENTITY = Identity("g", "abc", {"sigma": 60.0, "cells": ["a", "b"], "none": None}, "1.0", "geo", {"/a": [1, 2]})


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory.of(tmp_path / "2246.zarr")
    found.path.mkdir()
    return found


@pytest.mark.parametrize("name", ["2246.zarr", "2246", "a.b.c", "night 1.zarr"])
def test_it_is_found_from_the_store_or_its_own_name(tmp_path: Path, name: str) -> None:
    one = RunDirectory.of(tmp_path / name)
    assert one.out == tmp_path / name
    assert one.path == tmp_path / f"{name}.run"
    assert RunDirectory.of(one.path) == one
    assert RunDirectory.of(f"{one.path}/") == one
    assert {one.lock.parent, one.journal.parent, one.events.parent, one.report.parent} == {one.path}


def test_a_relative_path_means_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunDirectory.of("2246.zarr").out == tmp_path / "2246.zarr"


def test_a_description_is_read_back(directory: RunDirectory) -> None:
    assert not directory.exists()
    directory.write(IDENTITY, blocks=7, plan={"tasks": 3}, source=None)
    assert directory.exists()
    assert directory.identity() == IDENTITY
    described = directory.describe()
    assert described["key"] == IDENTITY.key
    assert (described["blocks"], described["plan"], described["source"]) == (7, {"tasks": 3}, None)
    assert described["out"] == str(directory.out)
    assert {"python", "dask", "zarr", "numpy", "lensflow"} <= set(described["versions"])
    assert [one.name for one in directory.path.iterdir()] == ["run.json"], "no draft is left"


def test_a_reader_never_sees_half_a_description(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.write(IDENTITY, blocks=7)

    def killed(_draft: Path, _path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        directory.write(IDENTITY, blocks=8)
    assert directory.describe()["blocks"] == 7


def test_replacing_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("one", "zwölf\n", ""):
        replace(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_where_no_run_is(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"2246\.zarr: no lensflow run here \(2246\.zarr\.run/run\.json is missing\)"):
        RunDirectory.of(tmp_path / "2246.zarr").describe()


@pytest.mark.parametrize("text", ["", "{", '{"schema": ', "\0\0\0", "[]", "null", "{}"])
def test_damage_is_named(directory: RunDirectory, text: str) -> None:
    (directory.path / "run.json").write_text(text)
    with pytest.raises(BadInput, match=r"run\.json: damaged"):
        directory.identity()


def test_a_description_of_another_version_is_named(directory: RunDirectory) -> None:
    directory.write(IDENTITY, blocks=7)
    path = directory.path / "run.json"
    described = json.loads(path.read_text())
    described["identity"]["tomorrow"] = 1
    path.write_text(json.dumps(described))
    with pytest.raises(BadInput, match=r"run\.json"):
        directory.identity()


def test_the_state_is_the_journals(directory: RunDirectory) -> None:
    assert directory.state().done == {}
    with Log(directory.journal) as log:
        log.append("done", block="a[0]")
    assert list(directory.state().done) == ["a[0]"]


def test_versions_that_decide_the_pixels() -> None:
    assert versions()["python"].startswith("3.")
    assert all(versions().values())
