"""The scenarios, a cluster that outlives them, and what an undisturbed run gives."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lensflow as lf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from tests.engine.faults.suite import Outcome, Reference, Scenario


def load_suite() -> Any:
    """Load the package of scenarios by path: the tests are no package that could be imported."""
    name, folder = "fault_suite", Path(__file__).parent / "suite"
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


suite = load_suite()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "scenario" in metafunc.fixturenames:
        metafunc.parametrize("scenario", suite.SCENARIOS.values(), ids=list(suite.SCENARIOS))


@pytest.fixture(scope="package")
def warm() -> Iterator[Client]:
    """Return a client of a cluster for commands that nobody means to kill."""
    with lf.cluster("local", n_workers=2, dashboard_address="127.0.0.1:0") as client:
        yield client


@pytest.fixture(scope="package")
def reference(warm: Client, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    made: Reference = suite.make_reference(tmp_path_factory.mktemp("reference"), warm)
    return made


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("LENSFLOW_FAULT_SEED") or 0)


@pytest.fixture
def play(tmp_path: Path, seed: int, warm: Client, reference: Reference) -> Callable[[Scenario], Outcome]:
    """Return a function that plays a scenario in this test's folder."""
    return lambda scenario: suite.play(scenario, tmp_path, seed=seed, client=warm, reference=reference)


@pytest.fixture(scope="package")
def can_mount(tmp_path_factory: pytest.TempPathFactory) -> bool:
    able: bool = suite.can_mount(tmp_path_factory.mktemp("mount"))
    return able
