"""Threads and open files: what the shell hands down to workers."""

from __future__ import annotations

import resource

import pytest

from lensflow.engine.doctor.environment import THREADS, open_files, threads
from lensflow.engine.doctor.wanted import Wanted


def test_the_shipped_profile_keeps_to_one_thread() -> None:
    (found,) = threads(Wanted.of("local"), {})
    assert found.level == "OK"


def test_the_shell_overrules_the_profile() -> None:
    (found,) = threads(Wanted.of("local"), {"OMP_NUM_THREADS": "16"})
    assert found.level == "WARN"
    assert "OMP_NUM_THREADS=16" in found.found
    assert found.remedy == "unset OMP_NUM_THREADS"


def test_a_profile_that_says_nothing() -> None:
    bare = Wanted("bare", "local", settings={"distributed": {"nanny": {"pre-spawn-environ": {}}}})
    (found,) = threads(bare, {})
    assert found.level == "WARN"
    assert all(name in found.found for name in THREADS)
    (good,) = threads(bare, dict.fromkeys(THREADS, "1"))
    assert good.level == "OK"


@pytest.mark.parametrize(
    ("limit", "level", "remedy"),
    [
        ((256, 4096), "WARN", "ulimit -n 4096"),
        ((256, 512), "WARN", "ulimit -n 512"),
        ((256, resource.RLIM_INFINITY), "WARN", "ulimit -n 1024"),
        ((65536, 65536), "OK", ""),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "OK", ""),
    ],
)
def test_open_files(limit: tuple[int, int], level: str, remedy: str) -> None:
    (found,) = open_files(limit)
    assert (found.level, found.remedy) == (level, remedy)
