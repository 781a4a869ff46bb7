"""Progress: an estimate that is exact where time is regular, and says nothing before it knows enough."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.progress import ENOUGH, RECENT, Display, Pace, duration, size


def paced(times: list[float], slots: int = 1) -> Pace:
    pace = Pace(slots, started=0.0)
    for one in times:
        pace.beat(one)
    return pace


@given(st.integers(0, ENOUGH - 1), st.integers(0, 100))
def test_nothing_is_said_before_enough_is_known(count: int, left: int) -> None:
    pace = paced([float(one) for one in range(count)])
    assert pace.eta(left) is None
    assert pace.rate() is None


@given(
    count=st.integers(ENOUGH, 3 * RECENT),
    slots=st.integers(1, 200),
    step=st.floats(1e-3, 1e4),
    left=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=150)
def test_regular_blocks_are_foretold_exactly(count: int, slots: int, step: float, left: int) -> None:
    """Whatever the slots."""
    pace = paced([step * (1 + place) for place in range(count)], slots)
    typical, slow = pace.eta(left) or (None, None)
    assert typical == pytest.approx(step * left)
    assert slow == pytest.approx(step * left)
    assert pace.rate() == pytest.approx(1 / step)


@given(slots=st.integers(2, 16), seconds=st.floats(0.1, 1e3), rounds=st.integers(8, 20), left=st.integers(1, 1000))
@settings(deadline=None, max_examples=60)
def test_blocks_that_end_together_are_foretold_by_the_round(slots: int, seconds: float, rounds: int, left: int) -> None:
    """Slots that run in step finish in bursts: typical is the time of a round, shared by the slots."""
    pace = paced([seconds * (1 + one) for one in range(rounds) for _ in range(slots)], slots)
    typical, slow = pace.eta(left) or (0.0, 0.0)
    assert typical == pytest.approx(seconds * left / slots)
    assert slow >= typical


@given(st.lists(st.floats(0, 1e6), min_size=ENOUGH, max_size=150), st.integers(1, 32), st.integers(0, 1000))
@settings(deadline=None, max_examples=100)
def test_the_pessimist_is_never_more_hopeful(times: list[float], slots: int, left: int) -> None:
    pace = paced(sorted(times), slots)
    typical, slow = pace.eta(left) or (0.0, 0.0)
    assert 0 <= typical <= slow
    assert (pace.rate() or 0) > 0


def test_a_pause_is_seen_by_the_pessimist_only() -> None:
    times = [float(one) for one in range(1, 41)]
    pace = paced([*times, *[one + 300 for one in times[:5]]], 4)
    typical, slow = pace.eta(100) or (0.0, 0.0)
    assert typical == pytest.approx(100.0)
    assert slow >= typical


def test_the_estimate_looks_at_the_recent_past() -> None:
    """Slow first blocks (cold caches) are forgotten."""
    slow = [100.0 * one for one in range(1, 11)]
    fast = [slow[-1] + one for one in range(1, RECENT + 2)]
    pace = paced([*slow, *fast])
    assert pace.eta(50) == pytest.approx((50.0, 50.0))
    assert pace.rate() == pytest.approx(1.0)


def test_random_blocks_are_foretold_about_right() -> None:
    """Four slots, blocks of 1..3 s: 200 more take about 100 s."""
    rng = random.Random(3)
    free, ends = [0.0] * 4, []
    for _ in range(200):
        slot = min(range(4), key=free.__getitem__)
        free[slot] += rng.uniform(1, 3)
        ends.append(free[slot])
    typical, slow = paced(sorted(ends), 4).eta(200) or (0.0, 0.0)
    assert typical == pytest.approx(100, rel=0.2)
    assert typical <= slow <= 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (3.14159, "3.1 s"), (9.4, "9.4 s"), (42, "42 s"), (119.4, "119 s"), (119.6, "2 min 00 s"),
        (200, "3 min 20 s"), (7199, "119 min 59 s"), (7200, "2 h 00 min"), (18420, "5 h 07 min"),
        (360000, "100 h 00 min"),
    ],
)  # fmt: skip
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (5 * 2**30, "5.0 GiB"),
        (2**40, "1.00 TiB"), (3 * 2**50, "3072.00 TiB"),
    ],
)  # fmt: skip
def test_sizes_read_well(nbytes: float, text: str) -> None:
    assert size(nbytes) == text


def test_the_line_says_what_is_known() -> None:
    display = Display(100, 20, 4, show=False)
    assert display.line(6) == "6 in flight, left unknown"
    display.pace.started = 0.0
    for place in range(1, 21):
        display.pace.beat(place * 2.0)
    display.done, display.failed, display.notes = 40, 10, 3
    line = display.line(6)
    assert "6 in flight" in line
    assert "2.0 s a block" in line
    assert "left 100 s" in line, "50 blocks are neither done nor given up"
    assert "10 quarantined" in line
    assert "3 notes" in line


def test_fast_blocks_are_told_by_the_second() -> None:
    display = Display(100, 0, 1, show=False)
    display.pace.started = 0.0
    for place in range(1, 21):
        display.pace.beat(place / 4)
    assert "4.0/s" in display.line(1)


def test_an_unwatched_display_writes_nothing_when_told_so(capfd: pytest.CaptureFixture[str]) -> None:
    with Display(10, 0, 1, show=False) as display:
        for _ in range(3):
            display.refresh(1)
    assert capfd.readouterr() == ("", "")


def test_no_workers_yet_is_no_reason_to_fail() -> None:
    display = Display(100, 0, 0, show=False)
    display.pace.started = 0.0
    for place in range(64):  # 16 workers joined later, and work in step: 16 blocks every 10 s
        display.pace.beat(10.0 * (1 + place // 16))
    typical, slow = display.pace.eta(160) or (0.0, 0.0)
    assert 50 <= typical <= slow, "100 s are left"


def test_blocks_that_end_together_do_not_make_the_end_seem_near() -> None:
    pace = Pace(2, started=0.0)
    for burst in range(6):
        for one in range(8):
            pace.beat(60.0 * (burst + 1) + 0.001 * one)
    estimate = pace.eta(80)
    assert estimate is not None
    typical, slow = estimate
    assert typical == pytest.approx(80 * 360 / 48, rel=0.1)
    assert slow >= typical
