"""Records come in the background; who does not send them is named."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lensflow.engine import fetch
from lensflow.engine.fetch import Fetcher

if TYPE_CHECKING:
    from distributed import Client, Future


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(now=100.0)
    monkeypatch.setattr(fetch, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def test_a_worker_that_does_not_answer_holds_nobody_and_is_named(clock: SimpleNamespace) -> None:
    answer = threading.Event()
    said: queue.Queue[Any] = queue.Queue()

    def gather(wanted: dict[str, Any], errors: str) -> dict[str, int]:
        assert errors == "skip"
        if "stuck" in wanted:
            answer.wait(20)
        return dict.fromkeys(wanted, 1)

    def who_has(futures: list[Any]) -> dict[str, list[str]]:
        return {one.key: [f"tcp://{one.key}:1"] for one in futures}

    fetcher = Fetcher(cast("Client", SimpleNamespace(gather=gather, who_has=who_has)), said.put)
    stuck, quick = ([cast("Future", SimpleNamespace(key=name))] for name in ("stuck", "quick"))
    fetcher.fetch(stuck)
    fetcher.fetch(quick)
    assert [one.name for one in threading.enumerate()].count("lensflow-fetch") == 1, "an answer is about to come"
    clock.now += 2
    fetcher.tend()
    futures, results, error = said.get(timeout=20)
    assert (futures, results, error) == (quick, {"quick": 1}, None), "the other did not wait"
    fetcher.arrived(futures)
    clock.now += 48
    assert fetcher.silent(60) == []
    clock.now += 20
    assert fetcher.silent(60) == ["tcp://stuck:1"]
    answer.set()
    futures, _, _ = said.get(timeout=20)
    fetcher.arrived(futures)
    assert fetcher.silent(60) == []


def test_what_ends_while_an_answer_is_awaited_is_asked_for_together(clock: SimpleNamespace) -> None:
    asked: list[list[str]] = []
    answer = threading.Event()
    said: queue.Queue[Any] = queue.Queue()

    def gather(wanted: dict[str, Any], errors: str) -> dict[str, int]:
        assert errors == "skip"
        asked.append(list(wanted))
        answer.wait(20)
        return dict.fromkeys(wanted, 1)

    fetcher = Fetcher(cast("Client", SimpleNamespace(gather=gather)), said.put)
    for name in "abcd":
        fetcher.fetch([cast("Future", SimpleNamespace(key=name))])
    answer.set()
    fetcher.arrived(said.get(timeout=20)[0])
    fetcher.arrived(said.get(timeout=20)[0])
    assert asked == [["a"], ["b", "c", "d"]]
    assert clock.now == 100


def test_an_error_is_carried_to_the_loop() -> None:
    said: queue.Queue[Any] = queue.Queue()

    def gather(*_: object, **__: object) -> None:
        raise OSError("the scheduler is gone")

    futures = [cast("Future", SimpleNamespace(key="a"))]
    Fetcher(cast("Client", SimpleNamespace(gather=gather)), said.put).fetch(futures)
    _, results, error = said.get(timeout=20)
    assert results == {}
    assert str(error) == "the scheduler is gone"
