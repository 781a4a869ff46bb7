"""The journal: whatever is cut off or garbled, what is left is what happened, and the run goes on from there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lensflow.engine.blocks import Grid
from lensflow.engine.broadcast import Broadcast
from lensflow.engine.failure import Failure, Memory
from lensflow.engine.flight import Attempt
from lensflow.engine.journal import Log, State, fold, read
from lensflow.engine.listen import Recorder
from lensflow.engine.lock import Lock
from lensflow.engine.progress import Display
from lensflow.engine.stopwatch import Stopwatch
from lensflow.engine.verify import unsettled
from lensflow.errors import BlockFailed, OutputError
from lensflow.events import Note

if TYPE_CHECKING:
    from distributed import Client

    from lensflow.engine.blocks import Block

BLOCKS = ["a[0]", "a[1]", "g/b[0,0]", "ü[2]"]
EVENTS = st.one_of(
    st.tuples(st.just("done"), st.fixed_dictionaries({"block": st.sampled_from(BLOCKS), "seconds": st.floats(0, 9)})),
    st.tuples(st.just("quarantined"), st.fixed_dictionaries({"block": st.sampled_from(BLOCKS), "message": st.text()})),
    st.tuples(st.just("damaged"), st.fixed_dictionaries({"block": st.sampled_from(BLOCKS), "reason": st.text()})),
    st.just(("session", {"host": "h", "pid": 1})),
    st.tuples(st.just("end"), st.fixed_dictionaries({"outcome": st.just("done"), "seconds": st.floats(0, 9)})),
)
HISTORIES = st.lists(EVENTS, max_size=8)
Event = tuple[str, dict[str, Any]]
in_folder = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, history: list[Event]) -> None:
    path.unlink(missing_ok=True)
    with Log(path) as log:
        for event, fields in history:
            log.append(event, **fields)


def standing(state: State) -> tuple[Any, ...]:
    return state.done, state.quarantined, state.damaged, state.sessions


@given(history=HISTORIES)
@in_folder
def test_what_was_appended_is_read_back(history: list[Event], tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, history)
    found = list(read(path))
    assert [(one["event"], {k: v for k, v in one.items() if k not in {"t", "event"}}) for one in found] == history


@given(history=HISTORIES)
@in_folder
def test_a_block_is_at_most_one_of_done_quarantined_and_damaged(history: list[Event], tmp_path: Path) -> None:
    """Else the numbers of blocks do not add up."""
    path = tmp_path / "journal.jsonl"
    write(path, history)
    state = fold(path)
    held = [*state.done, *state.quarantined, *state.damaged]
    assert len(set(held)) == len(held)


HISTORY: list[Event] = [
    ("session", {"host": "h", "pid": 1}),
    *(("done", {"block": f"ä/flux[{place},0]", "variables": {"flux": {"mean": 1.5}}}) for place in range(4)),
    ("quarantined", {"block": "ä/flux[4,0]", "message": 'said "no"\n', "exception": "OSError"}),
    ("damaged", {"block": "ä/flux[1,0]", "reason": "flux is missing"}),
    ("end", {"outcome": "quarantined", "seconds": 3.5}),
]  # fmt: skip


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.jsonl"
    write(path, HISTORY)
    return path


def test_a_journal_cut_at_any_byte_is_a_prefix_of_itself(whole: Path, tmp_path: Path) -> None:
    """The process was killed in the middle of a line."""
    text, path = whole.read_bytes(), tmp_path / "journal.jsonl"
    entries = list(read(whole))
    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        found = list(read(path))
        assert found == entries[: len(found)]
        assert len(found) >= text[:size].count(b"\n")
        fold(path)


def test_a_journal_cut_at_any_byte_means_the_same_before_and_after_it_is_opened_again(
    whole: Path, tmp_path: Path
) -> None:
    """What is pending is worked out before the journal is opened, what is done is counted afterwards."""
    text, path = whole.read_bytes(), tmp_path / "journal.jsonl"
    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        before = standing(fold(path))
        with Log(path):
            pass
        assert standing(fold(path)) == before, f"cut at byte {size}, of which the line ends: {text[size : size + 1]!r}"


def test_a_torn_line_is_cut_when_the_journal_is_opened_again(whole: Path, tmp_path: Path) -> None:
    text, path = whole.read_bytes(), tmp_path / "journal.jsonl"
    for size in range(0, len(text) + 1, 3):
        path.write_bytes(text[:size])
        with Log(path) as log:
            log.append("done", block="new", seconds=1)
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        entries = [json.loads(line) for line in lines]
        assert entries[-1]["block"] == "new"
        assert len(entries) == text[:size].count(b"\n") + 1
        assert "new" in fold(path).done


def test_a_torn_line_longer_than_a_read_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, HISTORY)
    kept = path.read_bytes()
    for tail in (b'{"event": "done", "trace": "' + b"x" * 200_000, b"y" * 65536, b"z" * 65535):
        path.write_bytes(kept + tail)
        with Log(path):
            pass
        assert path.read_bytes() == kept
    path.write_bytes(b"x" * 200_000)
    with Log(path):
        pass
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "garbage", [b"\0" * 50, b"\xff\xfe\x00", b"null", b"[1]", b'"text"', b"{}", b'{"t": 1}', b"", b"NaN", b"{" * 500]
)
def test_damaged_lines_are_passed_over(whole: Path, garbage: bytes) -> None:
    lines = whole.read_bytes().splitlines(keepends=True)
    expected = list(read(whole))
    whole.write_bytes(b"".join([garbage + b"\n", *lines[:4], garbage + b"\n", *lines[4:], garbage]))
    assert list(read(whole)) == expected


@given(data=st.data())
@in_folder
def test_any_overwritten_bytes_are_survived(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, HISTORY)
    text = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, 800))
    noise = data.draw(st.binary(min_size=1, max_size=60))
    text[start : start + len(noise)] = noise
    path.write_bytes(bytes(text))
    state = fold(path)
    assert len(state.done) <= sum(event == "done" for event, _ in HISTORY)
    with Log(path) as log:
        log.append("done", block="new")
    assert "new" in fold(path).done


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert standing(fold(tmp_path / "none")) == ({}, {}, {}, [])


@pytest.mark.parametrize(
    ("events", "done", "quarantined", "damaged"),
    [
        (["done"], 1, 0, 0),
        (["quarantined"], 0, 1, 0),
        (["quarantined", "done"], 1, 0, 0),
        (["done", "damaged"], 0, 0, 1),
        (["done", "damaged", "done"], 1, 0, 0),
        (["done", "damaged", "quarantined"], 0, 1, 0),
    ],
)
def test_the_last_word_on_a_block_counts(
    tmp_path: Path, events: list[str], done: int, quarantined: int, damaged: int
) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, [(event, {"block": "a[0]", "reason": "r"}) for event in events])
    state = fold(path)
    assert (len(state.done), len(state.quarantined), len(state.damaged)) == (done, quarantined, damaged)


def test_every_line_is_with_the_kernel_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Log(path) as log:
        for count in range(1, 4):
            log.append("done", block=f"a[{count}]")
            assert len(fold(path).done) == count


def test_two_sessions_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, [("session", {"pid": 1}), ("session", {"pid": 2}), ("end", {"outcome": "done", "seconds": 2.0})])
    first, second = fold(path).sessions
    assert "outcome" not in first, "killed"
    assert (second["outcome"], second["seconds"]) == ("done", 2.0)


def test_the_time_of_a_session_that_died_ends_with_its_own_last_block() -> None:
    state = State(
        done={"a[0]": {"t": 110.0}, "a[1]": {"t": 1050.0}},
        sessions=[{"t": 100.0}, {"t": 1000.0, "seconds": 60.0, "outcome": "done"}],
    )
    assert state.worked == 10 + 60
    assert State().worked == 0, "no driver has said anything yet"


def test_a_full_disk_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(file: int, line: memoryview) -> int:
        if len(line) > 10:
            return real(file, line[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "journal.jsonl"
    with Log(path) as log:
        log.append("done", block="a[0]")
        with monkeypatch.context() as patch:
            patch.setattr("os.write", full)
            with pytest.raises(OutputError, match=r"No space left on device.*make room there and resume"):
                log.append("done", block="a[1]")
        log.append("done", block="a[2]")
    assert list(fold(path).done) == ["a[0]", "a[2]"]


@given(jump=st.sampled_from([-3600.0, -90.0, 0.0]), after=st.integers(1, 19))
@settings(deadline=None, max_examples=30)
def test_the_last_blocks_are_reread_after_a_crash_though_the_clock_went_back(jump: float, after: int) -> None:
    times = [1000.0 + 10 * place + (jump if place >= after else 0.0) for place in range(20)]
    state = State(done={f"a[{place}]": {"t": t} for place, t in enumerate(times)})
    reread = unsettled(state)
    assert {f"a[{place}]" for place in range(14, 20)} <= reread.keys(), "a minute's worth at least"
    if jump == 0.0:
        assert len(reread) == 7


# What hears of blocks


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    journal, events, tasks = (Log(tmp_path / f"{name}.jsonl").__enter__() for name in ("journal", "events", "tasks"))
    display = Display(3, 0, 1, show=False)
    broadcast = Broadcast(cast("Client", SimpleNamespace(status="closed")), "run")

    def blank(block: Block) -> None:
        (tmp_path / f"blanked {block.index}").touch()

    return Recorder(journal, events, display, broadcast, Stopwatch(tasks), Lock(tmp_path / "lock"), blank)


def attempt(failures: int) -> Attempt:
    block = next(Grid("", ("x",), ((2, 2),), ("a",), 4).blocks())
    return Attempt(0, block, failures=failures, tried=[{"how": "worker"}, {"how": "alone"}])


def test_a_block_that_is_given_up_is_blanked_and_journalled(recorder: Recorder, tmp_path: Path) -> None:
    failure = Failure.of(OSError("no disk"), None, where="tcp://a:1", words=("last",), memory=Memory(5, 7))
    recorder.given_up(attempt(4), failure)
    entry = fold(tmp_path / "journal.jsonl").quarantined["a[0]"]
    assert (entry["exception"], entry["message"], entry["attempts"]) == ("OSError", "no disk", 4)
    assert (entry["cause"], entry["where"], entry["words"]) == ("raised", "tcp://a:1", ["last"])
    assert entry["memory"] == {"used": 5, "limit": 7}
    assert entry["tried"] == [{"how": "worker"}, {"how": "alone"}]
    assert (tmp_path / "blanked (0,)").exists()
    assert recorder.display.failed == 1


def test_the_first_failure_stops_a_run_that_asked_for_it(recorder: Recorder) -> None:
    recorder.raising = True
    with pytest.raises(BlockFailed, match=r"block a\[0\] failed: no disk"):
        recorder.given_up(attempt(1), Failure.of(OSError("no disk"), None))


def test_a_note_is_told_once(recorder: Recorder, tmp_path: Path) -> None:
    for _ in range(3):
        recorder.noted(Note("corrupt-file", "a.fits: short", {"file": "a.fits"}, "tcp://a:1", 12.5))
    recorder.noted(Note("corrupt-file", "b.fits: short"))
    assert [one["message"] for one in read(tmp_path / "events.jsonl")] == ["a.fits: short", "b.fits: short"]
    first = next(read(tmp_path / "events.jsonl"))
    assert (first["worker"], first["made"]) == ("tcp://a:1", 12.5)
    assert recorder.display.notes == 2


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.int64(3), float("nan"), float("inf"), Path("a.fits"), {1, 2}, np.arange(2), b"x"]
)
def test_a_note_whose_details_are_not_json_does_not_end_the_run(
    recorder: Recorder, tmp_path: Path, value: object
) -> None:
    recorder.noted(Note("odd", "a cell is odd", {"value": value}))
    (entry,) = read(tmp_path / "events.jsonl")
    assert entry["message"] == "a cell is odd"
    assert "value" in entry["fields"]


@given(message=st.text(st.characters(), max_size=30))
@in_folder
def test_any_text_can_be_said(message: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, [("note", {"message": message})])
    assert [one["message"] for one in read(path)] == [message]


def test_surrogates_can_be_said(tmp_path: Path) -> None:
    """File names that are not UTF-8 reach Python as lone surrogates."""
    path = tmp_path / "events.jsonl"
    write(path, [("note", {"message": "\udcff.fits"})])
    assert [one["message"] for one in read(path)] == ["\udcff.fits"]
