"""The benchmarks are run once, on their smallest size, so that they cannot rot."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(__file__).parents[2] / "benchmarks"
PREFIXES = ("time_", "peakmem_", "track_")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def benchmarks() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("bench_*.py")):
        for name, suite in inspect.getmembers(load(path), inspect.isclass):
            for method in dir(suite):
                label = f"{path.stem}.{name}.{method}"
                found += [pytest.param(suite, method, id=label)] if method.startswith(PREFIXES) else []
    return found


@pytest.mark.parametrize(("suite", "method"), benchmarks())
def test_each_benchmark_runs(suite: type, method: str) -> None:
    one = suite()
    smallest = [suite.params[0]] if hasattr(suite, "params") else []
    one.setup(*smallest)
    try:
        found = getattr(one, method)(*smallest)
    finally:
        getattr(one, "teardown", lambda *_: None)(*smallest)
    assert not method.startswith("track_") or found > 0


def test_every_comparison_can_be_loaded_and_says_what_it_compares() -> None:
    names = {path.stem for path in (FOLDER / "comparisons").glob("*.py")}
    assert {"gaussian", "overhead", "graph_size"} <= names
    for path in (FOLDER / "comparisons").glob("*.py"):
        module = load(path)
        assert callable(module.compare)
        assert module.__doc__
