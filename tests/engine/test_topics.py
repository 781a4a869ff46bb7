"""One client, one topic, several listeners: each hears all, none takes the others' words away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lensflow.engine.topics import _listeners, listening

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

WAIT = 10.0  # s for an event to arrive


def say(client: Client, word: str, heard: Callable[[], bool]) -> None:
    """Say a word until it is heard: the scheduler takes note of a listener a little later than it is asked to."""
    end = time.monotonic() + WAIT
    while not heard():
        assert time.monotonic() < end, "nothing was heard"
        client.log_event("test-topic", word)
        time.sleep(0.05)


def test_all_hear_and_one_that_leaves_takes_nothing_away(client: Client) -> None:
    first: list[Any] = []
    second: list[Any] = []
    with listening(client, "test-topic", lambda event: first.append(event[1])):
        with listening(client, "test-topic", lambda event: second.append(event[1])):
            say(client, "one", lambda: "one" in first and "one" in second)
        say(client, "two", lambda: "two" in first)
    assert set(second) == {"one"}
    assert not _listeners


def test_a_topic_can_be_taken_up_again(client: Client) -> None:
    heard: list[Any] = []
    for word in ("one", "two"):
        with listening(client, "test-topic", lambda event: heard.append(event[1])):
            say(client, word, lambda word=word: word in heard)  # type: ignore[misc]
