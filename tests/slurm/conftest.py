"""One real SLURM for all tests of this folder; where it is not installed they are skipped in one line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.slurm.sandbox import Sandbox


def load(name: str) -> Any:
    """Load a module of this folder by path: the tests are no package that could be imported."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"slurm_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sandbox = load("sandbox")


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[Sandbox]:
    """Start a SLURM of two nodes for the whole session."""
    if lacking := sandbox.missing():
        pytest.skip(f"SLURM is not installed (no {', '.join(lacking)}): apt-get install slurmctld slurmd munge")
    with sandbox.Sandbox() as running:
        yield running


@pytest.fixture
def slurm(slurm_session: Sandbox) -> Iterator[Sandbox]:
    """Give the SLURM with an empty queue, and see to it that the next test has one."""
    yield slurm_session
    slurm_session.cancel_all()
