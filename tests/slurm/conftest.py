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
def slurm(slurm_session: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Give the SLURM with an empty queue, and see to it that the test has left it so."""
    yield from left_empty(slurm_session, monkeypatch)


def left_empty(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setenv("SLURM_CONF", str(running.configuration))  # there may be others beside it
    yield running
    left = [] if running.drained(20) else sandbox.queued()
    running.cancel_all()
    assert left == []  # nothing stays behind in the queue


@pytest.fixture(scope="module")
def bookkeeper_session(slurm_session: Sandbox) -> Iterator[Sandbox]:
    """Start a SLURM that keeps accounts, beside the one of the other tests."""
    assert slurm_session.folder.is_dir()
    if lacking := bookkeeping.missing():
        more = "slurmdbd slurm-wlm-mysql-plugin mariadb-server"
        pytest.skip(f"no accounts are kept here (no {', '.join(lacking)}): apt-get install {more}")
    with bookkeeping.BookkeepingSandbox(nodes=1) as running:
        yield running


@pytest.fixture
def bookkeeper(bookkeeper_session: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Give the SLURM that keeps accounts, as ``slurm`` gives the other."""
    yield from left_empty(bookkeeper_session, monkeypatch)


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
