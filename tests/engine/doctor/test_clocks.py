"""Clocks that disagree."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lensflow.engine.doctor.clocks import NOTICED, WRONG, clocks, compared

if TYPE_CHECKING:
    from pathlib import Path


def test_the_same_clock(tmp_path: Path) -> None:
    (found,) = clocks(tmp_path)
    assert found.level == "OK"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("skew", "level", "word"),
    [(3600, "FIX", "ahead of"), (-3600, "FIX", "behind"), (10, "WARN", "ahead of"), (-10, "WARN", "behind")],
)
def test_a_clock_that_is_off(tmp_path: Path, skew: float, level: str, word: str) -> None:
    (found,) = clocks(tmp_path, now=lambda: time.time() + skew)
    assert found.level == level
    assert word in found.found
    assert "chronyc" in found.remedy


@given(st.floats(0, 1e7), st.floats(-1e5, 1e5), st.floats(0, 60))
def test_slow_looks_are_no_skew(before: float, off: float, lasted: float) -> None:
    found = compared("theirs", before + lasted / 2 + off, before, before + lasted)
    beyond = abs(off) - lasted / 2
    if beyond < NOTICED - 0.1:
        assert found.level == "OK"
    elif beyond > WRONG + 0.2:
        assert found.level == "FIX"
    if off < 0 and found.level != "OK":
        assert "ahead of" in found.found
