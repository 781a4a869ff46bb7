"""Every scenario once: real processes really killed, each run complete and byte-identical in the end.

``LENSFLOW_FAULT_SEED=N`` chooses other moments and victims; ``python benchmarks/faults.py`` plays many.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.engine.faults.suite import Outcome, Scenario

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "faults.py"


def test_nothing_is_lost(
    scenario: Scenario,
    seed: int,
    can_mount: bool,  # noqa: FBT001 - a fixture
    play: Callable[[Scenario], Outcome],
) -> None:
    problems = in_a_namespace(scenario, seed) if scenario.mounts and not can_mount else play(scenario).problems
    assert not problems


def in_a_namespace(scenario: Scenario, seed: int) -> Sequence[str]:
    """Play where an ordinary user may mount, or skip."""
    unshare = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--mount"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small file system, not even in a user namespace")
    words = [str(BENCHMARK), "--only", scenario.name, "--seed", str(seed), "--runs", "1", "--json"]
    played = subprocess.run([*unshare, sys.executable, *words], check=False, capture_output=True, timeout=200)
    return [one for failure in json.loads(played.stdout)["failures"] for one in failure["problems"]]
