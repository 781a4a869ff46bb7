"""A clock that is put back is told; one that is put forward, or a silent cluster, is not mistaken for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from lensflow.engine import clock
from lensflow.engine.clock import Clock
from lensflow.errors import LensflowError


@dataclass
class Hands:
    """The hands of both clocks."""

    wall: float = 1e9
    steady: float = 100.0

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(clock, "time", found)
    return found


def test_put_back_and_silent(hands: Hands) -> None:
    watch = Clock()
    hands.wall -= 3600
    watch.check()
    hands.wait(clock.SILENCE - 1)
    watch.check()
    hands.wait(2)
    with pytest.raises(LensflowError, match="was put back by 60 min 00 s"):
        watch.check()


def test_put_back_but_news_still_come(hands: Hands) -> None:
    watch = Clock()
    hands.wall -= 3600
    for _ in range(10):
        hands.wait(clock.SILENCE / 2)
        watch.heard()
        watch.check()


@pytest.mark.parametrize("jump", [3600.0, 0.0, -1.0])
def test_anything_else_is_patience(hands: Hands, jump: float) -> None:
    watch = Clock()
    hands.wall += jump
    hands.wait(10 * clock.SILENCE)
    watch.check()


def test_put_forward_and_back_again(hands: Hands) -> None:
    watch = Clock()
    hands.wall += 3600
    watch.check()
    hands.wall -= 3600
    hands.wait(clock.SILENCE + 1)
    with pytest.raises(LensflowError, match="put back"):
        watch.check()


def test_the_real_clocks_agree() -> None:
    watch = Clock()
    time.sleep(0.01)
    watch.check()
