"""One real SLURM for all tests of this folder; where it is not installed they are skipped in one line."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lensflow as lf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from distributed import Client

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


sandbox, blocks = load("sandbox"), load("blocks")
bookkeeping = load("bookkeeping")


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[Sandbox]:
    """Start a SLURM of two nodes for the whole session."""
    if lacking := sandbox.missing():
        pytest.skip(f"SLURM is not installed (no {', '.join(lacking)}): apt-get install slurmctld slurmd munge")
    with sandbox.Sandbox() as running:
        yield running


@pytest.fixture
def slurm(slurm_session: Sandbox) -> Iterator[Sandbox]:
    """Give the SLURM with an empty queue, and see to it that the test has left it so."""
    yield slurm_session
    left = [] if slurm_session.drained(20) else sandbox.queued()
    slurm_session.cancel_all()
    assert left == []  # nothing stays behind in the queue


@dataclass(frozen=True)
class Site:
    """What this SLURM needs to be said beside a shipped profile."""

    shared: Path
    options: dict[str, Any] = field(default_factory=dict)

    def cluster(self, name: str = "slurm", **options: Any) -> AbstractContextManager[Client]:
        return lf.cluster(name, **{**self.options, **options})

    @property
    def folders(self) -> list[Path]:
        return sorted(self.shared.glob("lensflow-cluster-*"))


@pytest.fixture
def site(slurm: Sandbox, tmp_path: Path) -> Site:
    assert slurm.configuration.exists()
    shared = tmp_path / "shared"
    options = {"interface": "lo", "cores": 2, "walltime": "00:10:00", "dashboard_address": "127.0.0.1:0"}
    return Site(shared, {**options, "memory": "2GiB", "shared_folder": str(shared)})
