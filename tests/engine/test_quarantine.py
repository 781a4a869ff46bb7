"""Who is tried again, who is tried alone, who is blamed: only a block that fails by itself, and for its own reason."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest
from distributed import KilledWorker
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow import events
from lensflow.engine.failure import Failure, Isolated, Refused, TookTooLong
from lensflow.engine.isolate import Limits, run_alone
from lensflow.engine.quarantine import LONGEST, Policy
from lensflow.errors import BadInput, LensflowError

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path


def failure(error: BaseException) -> Failure:
    return Failure.of(error, None)


PASSING = [OSError("disk"), TimeoutError("late"), ConnectionError("gone"), EOFError("torn")]
OTHER = [ValueError("v"), KeyError("k"), ZeroDivisionError("z"), RuntimeError("r")]
FINAL = [BadInput("corrupt"), LensflowError("l"), Refused("strict: odd")]
SUSPECT = [KilledWorker("key", None, 3), MemoryError("full"), TookTooLong("slow")]


@given(retries=st.integers(0, 6), attempt=st.integers(1, 10))
@settings(deadline=None, max_examples=60)
def test_errors_that_may_pass_are_tried_as_often_as_asked(retries: int, attempt: int) -> None:
    for error in PASSING:
        expected = "retry" if attempt <= retries else "quarantine"
        assert Policy(retries).judge(failure(error), attempt) == expected


@given(retries=st.integers(0, 6), attempt=st.integers(1, 10))
@settings(deadline=None, max_examples=60)
def test_other_errors_are_tried_twice_more(retries: int, attempt: int) -> None:
    for error in OTHER:
        expected = "retry" if attempt <= min(2, retries) else "quarantine"
        assert Policy(retries).judge(failure(error), attempt) == expected


@pytest.mark.parametrize("attempt", [1, 5])
def test_bad_input_will_not_become_better(attempt: int) -> None:
    for error in FINAL:
        assert Policy(9).judge(failure(error), attempt) == "quarantine"


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("error", SUSPECT)
def test_a_dead_a_hung_or_a_full_worker_is_no_proof(retries: int, error: BaseException) -> None:
    for attempt in (1, 7):
        assert Policy(retries).judge(failure(error), attempt) == "isolate"


@pytest.mark.parametrize(
    ("error", "large"),
    [(Isolated("died"), "enlarge"), (MemoryError("full"), "enlarge"), (TookTooLong("slow"), "quarantine")],
)
def test_what_fails_alone_is_guilty_unless_memory_was_short_and_a_larger_worker_is_there(
    error: BaseException, large: str
) -> None:
    policy = Policy(3)
    assert policy.judge(failure(error), 2, "alone") == "quarantine"
    assert policy.judge(failure(error), 2, "alone", large=True) == large
    assert policy.judge(failure(error), 3, "large", large=True) == "quarantine"


def test_what_is_raised_alone_is_judged_as_anywhere() -> None:
    assert Policy(3).judge(failure(ValueError("v")), 2, "alone") == "retry"


def test_waits_double_and_are_bounded_and_differ() -> None:
    policy = Policy()
    for attempt in range(1, 30):
        waits = [policy.wait(attempt) for _ in range(20)]
        middle = min(LONGEST, 0.5 * 2 ** (attempt - 1))
        assert all(middle * 0.5 <= one <= middle * 1.5 for one in waits)
        assert len(set(waits)) > 1, "herds disperse"


def test_a_failure_keeps_its_traceback_as_text_and_no_frames() -> None:
    try:
        fails()
    except ValueError as error:
        found = Failure.of(error, error.__traceback__)
    described = found.as_json()
    assert (described["exception"], described["message"]) == ("ValueError", "not <like> this\n")
    assert "test_quarantine.py" in described["traceback"]
    json.dumps(described)


# Alone, in a process of its own. The functions below travel by value.


def block() -> np.ndarray[Any, Any]:
    record = np.empty((1,), object)
    record[0] = {"pid": os.getpid()}
    return record


def noting(value: int) -> int:
    events.note("odd", "a cell is odd", cell=value)
    return value + 1


def dies() -> None:
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os._exit(7)


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves() -> None:
    sys.exit(3)


def garbles() -> None:
    os.write(2, b"\xff\xfe garbage\n")
    os._exit(1)


def fails() -> None:
    raise ValueError("not <like> this\n")


def hungry() -> int:
    return np.empty(2**30, "u1").nbytes  # asked for, never touched


class Picky(Exception):
    """An error that cannot be unpickled: it needs two arguments and keeps one."""

    def __init__(self, cell: str, reason: str) -> None:
        super().__init__(f"{cell}: {reason}")


def picky() -> None:
    raise Picky("cell 0.1", "no such band")


def unpicklable() -> None:
    error = ValueError("holds a handle")
    error.handle = threading.Lock()  # type: ignore[attr-defined]
    raise error


@pytest.fixture(autouse=True)
def _by_value() -> Any:
    """Send this file's functions as a graph file's are sent: the other process cannot import them."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def slow(value: int) -> int:
    time.sleep(0.6)
    return value + 1


def sleeps() -> None:
    time.sleep(600)


def alone(
    function: Any, *arguments: Any, memory: int | None = None, seconds: float | None = None
) -> tuple[Any, list[Any]]:
    return run_alone({("block", 0): (function, *arguments)}, ("block", 0), Limits(memory, seconds))


def test_a_block_alone_returns_its_record_and_its_notes() -> None:
    tasks: dict[Hashable, Any] = {
        "a": (noting, 41),
        ("block", 0): (lambda value, record: (value, record.item()), "a", (block,)),
    }
    (value, record), notes = run_alone(tasks, ("block", 0), Limits())
    assert value == 42
    assert record["pid"] != os.getpid()
    assert [(one.kind, one.message, one.fields) for one in notes] == [("odd", "a cell is odd", {"cell": 41})]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (dies, "exit code 7; last words: last words"),
        (crashes, f"signal {signal.SIGSEGV.value}, SIGSEGV; last words: Fatal Python error: Segmentation fault"),
        (leaves, "exit code 3; last words: it said nothing"),
        (garbles, "exit code 1; .*garbage"),
    ],
)
def test_a_block_that_ends_its_process_is_guilty(function: Any, said: str) -> None:
    with pytest.raises(Isolated, match=f"run alone, the block ended its process \\({said}"):
        alone(function)


def test_what_the_block_raised_is_raised() -> None:
    with pytest.raises(ValueError, match="not <like> this") as caught:
        alone(fails)
    assert "in fails" in failure(caught.value).trace, "the frames of its own process"
    assert Policy(3).judge(failure(caught.value), 1) == "retry"


@pytest.mark.parametrize(("function", "said"), [(picky, "cell 0.1: no such band"), (unpicklable, "holds a handle")])
def test_an_error_that_cannot_travel_is_still_told(function: Any, said: str) -> None:
    with pytest.raises(Exception, match=said):
        alone(function)


def test_a_block_alone_may_use_no_more_memory_than_a_worker() -> None:
    with pytest.raises(MemoryError) as caught:
        alone(hungry, memory=700 * 2**20)
    assert Policy(2).judge(failure(caught.value), 2, "alone") == "quarantine"
    assert alone(hungry, memory=2**32)[0] == 2**30


def test_a_crash_says_where_it_happened() -> None:
    with pytest.raises(Isolated) as caught:
        alone(crashes)
    words = "\n".join(caught.value.words)
    assert "Segmentation fault" in words
    assert "in crashes" in words


def test_a_block_that_does_not_end_says_where_it_hangs() -> None:
    with pytest.raises(TookTooLong, match=r"its step block did not end within 1 s") as caught:
        alone(sleeps, seconds=1.0)
    assert "in sleeps" in "\n".join(caught.value.words)


def test_the_time_limit_is_for_each_task() -> None:
    tasks: dict[Hashable, Any] = {"a": (slow, 0), "b": (slow, "a"), "c": (slow, "b"), ("block", 0): (slow, "c")}
    assert run_alone(tasks, ("block", 0), Limits(None, 2.0))[0] == 4


def test_an_innocent_block_is_not_blamed_for_a_module_only_the_driver_can_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a script, or on a path that a notebook has added: workers are told sys.path, so must this process be."""
    (tmp_path / "beside_the_script.py").write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("beside_the_script")
    assert alone(module.answer)[0] == 42


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Isolated):
        alone(dies)
    assert list(tmp_path.iterdir()) == []
