"""A cluster for the tests of the engine, and stores compared byte by byte."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

import lensflow as lf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from distributed import Client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with lf.cluster("local", n_workers=2, memory_limit="1GiB", dashboard_address="127.0.0.1:0") as one:
        yield one


@pytest.fixture
def fingerprint() -> Callable[[Path], dict[str, str]]:
    """Return a function that maps each file below a folder to the hash of its bytes."""

    def of(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return of
