"""What a driver is asked from outside, and what it makes of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lensflow.engine.identity import Identity
from lensflow.engine.journal import Log, read
from lensflow.engine.lock import Lock, holder_of
from lensflow.engine.requests import answered, ask_to_stop, heeding, requests
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.terms import Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensflow.engine.requests.POLL", 0.02)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    """A run whose driver is this process."""
    found = RunDirectory.of(tmp_path / "o.zarr")
    found.path.mkdir()
    found.write(Identity("g", "", {}, "1", "geo", {}), source=None, plan={}, blocks=8, grids=[])
    with Lock(found.lock):
        yield found


def token(directory: RunDirectory) -> str:
    holder = holder_of(directory.lock)
    assert holder is not None
    return str(holder["token"])


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("now", "count"), [(False, 1), (True, 2)])
def test_a_request_interrupts_and_is_answered(directory: RunDirectory, now: bool, count: int) -> None:  # noqa: FBT001
    interrupt = Interrupt()
    with Log(directory.events) as events:

        def record(reason: str, **more: object) -> None:
            events.append("stop", reason=reason, **more)

        with heeding(directory, interrupt, record):
            request = ask_to_stop(directory, token(directory), now=now)
            until(lambda: answered(directory, request))
    assert interrupt.count == count
    (told,) = [one for one in read(directory.events) if one["event"] == "stop"]
    assert told["reason"].startswith("cancelled by ")


def test_a_request_made_before_the_driver_listens_is_heard(directory: RunDirectory) -> None:
    interrupt, said = Interrupt(), []
    ask_to_stop(directory, token(directory), now=False)
    with heeding(directory, interrupt, lambda reason, **_: said.append(reason)):
        assert interrupt.count == 1
    assert len(said) == 1


def test_what_others_were_asked_is_let_be(directory: RunDirectory) -> None:
    interrupt = Interrupt()
    ask_to_stop(directory, "another", now=True)
    with requests(directory).open("a") as file:
        file.write('{"event": "stop"}\nnot JSON\n{"event": "other", "to": "x"}\n{"to": 3}\n')
    with heeding(directory, interrupt, lambda *_, **__: pytest.fail("recorded")):
        request = ask_to_stop(directory, "another", now=True)
        time.sleep(0.2)  # some looks
    assert interrupt.count == 0
    assert not answered(directory, request)
