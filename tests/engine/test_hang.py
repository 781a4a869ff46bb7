"""How long a task may run: what the user said, or what was learned; never blamed before something is known."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.hang import ENOUGH, LEAST, PATIENCE, TIMES, Overdue, Watchdog

SECONDS = st.floats(0, 1e5)


@given(seen=st.lists(SECONDS, max_size=20), seconds=SECONDS)
@settings(deadline=None)
def test_a_learned_limit_is_far_above_all_that_was_seen(seen: list[float], seconds: float) -> None:
    dog = Watchdog()
    for one in seen:
        dog.learn("blur", one)
    found = dog.overdue([("tcp://a:1", "blur", "k", seconds)])
    if len(seen) < ENOUGH:
        assert dog.limit("blur") is None
        assert not found
    else:
        assert dog.limit("blur") == max(LEAST, TIMES * max(seen))
        assert bool(found) == (seconds > max(LEAST, TIMES * max(seen)))
    assert dog.limit("read") is None, "what one stage takes says nothing of another"


@given(given_limit=st.floats(0.1, 1e4), seen=st.lists(SECONDS, max_size=20), seconds=SECONDS)
@settings(deadline=None)
def test_what_the_user_says_counts(given_limit: float, seen: list[float], seconds: float) -> None:
    dog = Watchdog(given_limit)
    for one in seen:
        dog.learn("blur", one)
    found = dog.overdue([("tcp://a:1", "blur", "k", seconds)])
    assert found == ([Overdue("tcp://a:1", "blur", "k", seconds, given_limit)] if seconds > given_limit else [])
    assert dog.alone("blur") == given_limit


def test_nobody_asked_for_a_limit_so_a_block_alone_has_patience() -> None:
    dog = Watchdog()
    assert dog.alone("blur") is None
    for _ in range(ENOUGH):
        dog.learn("blur", 1.0)
    assert dog.alone("blur") == PATIENCE * LEAST
