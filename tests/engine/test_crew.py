"""Nobody waits in silence for workers that do not come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from lensflow.engine import crew
from lensflow.engine.crew import KNOWN, LONG, Crew
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from distributed import Client


class World:
    """A clock, and workers that come and go."""

    def __init__(self) -> None:
        self.now, self.threads, self.asked = 0.0, 4, 0

    def monotonic(self) -> float:
        return self.now

    def nthreads(self) -> dict[str, int]:
        self.asked += 1
        return {"w": self.threads} if self.threads else {}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    found.now = 1000.0
    monkeypatch.setattr(crew, "time", found)
    return found


def of(world: World, patience: float | None) -> Crew:
    return Crew(cast("Client", SimpleNamespace(nthreads=world.nthreads, cluster=None)), patience)


def test_the_number_is_asked_for_once_in_a_while(world: World) -> None:
    found = of(world, None)
    for _ in range(50):
        assert found.slots == 4
    assert world.asked == 1
    world.now += KNOWN + 1
    world.threads = 6
    assert found.slots == 6
    assert found.missing == 0


@pytest.mark.parametrize("patience", [None, 300.0])
def test_missing_workers_are_told_once_and_patience_ends(world: World, patience: float | None) -> None:
    found = of(world, patience)
    assert found.check() is None
    world.threads = 0
    world.now += KNOWN + 1
    assert found.check() is None
    said = []
    for _ in range(290):
        world.now += 1.0
        said.append(found.check())
    assert [one for one in said if one] == ["no workers for 31 s: waiting for some"]
    assert found.missing > LONG
    world.now += 20
    if patience is None:
        assert found.check() is None
    else:
        with pytest.raises(LensflowError, match="there have been no workers for 5 min"):
            found.check()


def test_workers_that_come_back_are_welcome(world: World) -> None:
    found = of(world, 300.0)
    for _ in range(3):
        world.threads = 0
        world.now += KNOWN + 1
        assert found.check() is None
        world.now += LONG + 1
        assert "no workers" in str(found.check())
        world.threads = 2
        world.now += KNOWN + 1
        assert found.check() is None
        assert found.missing == 0
