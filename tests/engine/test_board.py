"""What drivers tell, folded: the counts add up, and who asks for the changes sees the same as who asks for all."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.board import DONE, ENDED, FASTEST, GONE, MENDED, QUARANTINED, SLOWEST, STATES, Board, pack_seconds
from lensflow.engine.dashboard import state

GRIDS = [{"label": "a", "dims": ["y", "x"], "numblocks": [3, 2]}, {"label": "g/b", "dims": [], "numblocks": []}]
BLOCKS = [*(f"a[{y},{x}]" for y in range(3) for x in range(2)), "g/b[]"]


def begin(run: str = "r", **more: Any) -> dict[str, Any]:
    return {
        "run": run,
        "event": "begin",
        "name": "n",
        "out": "o.zarr",
        "grids": GRIDS,
        "total": 7,
        "client": "c",
        **more,
    }


def news(run: str = "r", **more: Any) -> dict[str, Any]:
    return {"run": run, "event": "news", "t": 5.0, **more}


def test_blocks_go_their_ways() -> None:
    board = Board()
    board.hear(begin(done=["a[0,0]"], quarantined=["a[0,1]"]))
    board.hear(news(active=["a[1,0]", "a[1,1]"], retried=["a[1,0]"]))
    told = board.runs["r"]
    assert told.counts == [3, 1, 1, 1, 0, 1], "pending, active, retrying, done, mended, quarantined"
    assert board.hear(news(done=[["a[1,0]", 0.5, 100], ["a[1,1]", 2.0, 50]])) == [(0.5, 100), (2.0, 50)]
    board.hear(news(quarantined=[["a[2,0]", "ValueError: no"]], notes=[["odd", "b is odd"]]))
    assert told.states[2] == MENDED
    assert told.states[3] == DONE
    assert told.states[4] == QUARANTINED
    assert told.reasons["a[2,0]"] == "ValueError: no"
    assert (told.kinds["odd"], told.nbytes) == (1, 150)
    board.hear({"run": "r", "event": "end", "outcome": "quarantined"})
    assert board.active == []


def test_strange_messages_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="lensflow")  # a cluster of earlier tests keeps pytest's handlers quiet
    board = Board()
    board.hear(news("never-begun"))
    board.hear(begin())
    board.hear(news(done=[["a[9,9]", 1.0, 1], ["zzz", 1.0, 1]]))
    assert board.runs["r"].counts[DONE] == 0
    assert "has no block a[9,9]" in caplog.text
    assert "whose beginning was not heard" in caplog.text


def test_a_driver_that_leaves_without_a_word_and_one_that_comes_back() -> None:
    board = Board()
    board.hear(begin("mine", client="c1"))
    board.hear(begin("other", client="c2"))
    board.lost("c1")
    assert (board.runs["mine"].outcome, board.runs["other"].outcome) == (GONE, None)
    board.hear(news("mine", done=[["a[0,0]", 1.0, 1]]))
    assert board.active == ["mine", "other"]


def test_the_last_runs_stay_listed() -> None:
    board = Board()
    for number in range(ENDED + 9):
        board.hear(begin(str(number)))
        board.hear({"run": str(number), "event": "end", "outcome": "done"})
    board.hear(begin("now"))
    assert len(board.runs) == ENDED + 1
    assert "0" not in board.runs
    assert "now" in board.runs


@given(seconds=st.floats(FASTEST, SLOWEST))
def test_seconds_are_kept_closely(seconds: float) -> None:
    packed = pack_seconds(seconds)
    back = FASTEST * np.exp((packed - 1) / 65534 * np.log(SLOWEST / FASTEST))
    assert back == pytest.approx(seconds, rel=3e-4)


MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "done": st.lists(st.tuples(st.sampled_from(BLOCKS), st.floats(0, 10), st.integers(0, 99)), max_size=2),
                "retried": st.lists(st.sampled_from(BLOCKS), max_size=2),
                "quarantined": st.lists(st.tuples(st.sampled_from(BLOCKS), st.text(max_size=4)), max_size=1),
                "active": st.lists(st.sampled_from(BLOCKS), max_size=3, unique=True),
            }
        ),
        st.just("end"),
        st.just("begin"),
    ),
    max_size=12,
)


class Page:
    """What a page in a browser makes of the answers."""

    def __init__(self) -> None:
        self.version = ""
        self.states: list[int] = []
        self.seconds: list[int] = []

    def ask(self, board: Board) -> None:
        answer = json.loads(json.dumps(state(board, self.version)))
        self.version = answer["version"]
        for run in answer["runs"]:
            if run.get("map"):
                self.states = list(base64.b64decode(run["map"]["states"]))
                self.seconds = np.frombuffer(base64.b64decode(run["map"]["seconds"]), "<u2").tolist()
            else:
                for number, what, seconds in run["changed"]:
                    self.states[number], self.seconds[number] = what, seconds


@given(messages=MESSAGES, asks=st.lists(st.booleans(), min_size=12, max_size=12))
@settings(deadline=None, max_examples=150)
def test_changes_add_up_to_the_whole(messages: list[Any], asks: list[bool]) -> None:
    board, often = Board(), Page()
    board.hear(begin(done=["a[2,1]"]))
    often.ask(board)
    for message, asked in zip(messages, asks, strict=False):
        if message == "begin":
            board.hear(begin())
        elif message == "end":
            board.hear({"run": "r", "event": "end", "outcome": "done"})
        else:
            board.hear(news(**message))
        assert sum(board.runs["r"].counts) == len(BLOCKS)
        if asked:
            often.ask(board)
    often.ask(board)
    once = Page()
    once.ask(board)
    assert often.states == once.states == list(board.runs["r"].states)
    assert often.seconds == once.seconds == list(board.runs["r"].seconds)
    counted = [once.states.count(number) for number in range(len(STATES))]
    assert counted == board.runs["r"].counts
