"""The end of the driver's own job: seen in time, told once, followed by another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine import batch, chain
from lensflow.engine.deadline import ASK, LAST, LEAST, Deadline
from lensflow.engine.detach import prepare
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.submission import Submission
from lensflow.engine.terms import Interrupt
from lensflow.errors import BadOption, LensflowError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Job:
    """A job of some seconds, at a time that tests choose."""

    seconds: float
    needed: float = 0.0
    now: float = 0.0
    answers: bool = True
    sent: int = 0
    said: list[str] = field(default_factory=list)
    interrupt: Interrupt = field(default_factory=Interrupt)

    def __post_init__(self) -> None:
        self.deadline = Deadline("7", self.left, lambda: self.needed, self.succeed, clock=lambda: self.now)

    def left(self) -> float | None:
        return self.seconds - self.now if self.answers else None

    def succeed(self) -> str:
        self.sent += 1
        return "SLURM job 8 follows it"

    def until(self, end: float) -> None:
        while self.now < end:
            self.now += 1.0
            self.deadline.check(self.interrupt, lambda reason, **_: self.said.append(reason))


def test_no_more_blocks_are_begun_a_minute_before_the_end() -> None:
    job = Job(3600)
    job.until(3600 - LEAST - 1)
    assert (job.interrupt.count, job.sent) == (0, 0)
    job.until(3600 - LEAST)
    assert (job.interrupt.count, job.sent) == (1, 1)
    assert job.said == ["its SLURM job 7 ends in 60 s; SLURM job 8 follows it"]
    job.until(3600 - LAST)
    assert (job.interrupt.count, job.sent) == (2, 1)
    job.until(3600)
    assert (job.interrupt.count, job.sent, len(job.said)) == (2, 1, 2)


def test_earlier_where_the_blocks_in_flight_need_longer() -> None:
    job = Job(3600, needed=400)
    job.until(3600 - 1.5 * 400 - LAST - 1)
    assert job.interrupt.count == 0
    job.until(3600 - 1.5 * 400)
    assert job.interrupt.count == 1


def test_not_before_half_of_a_short_job() -> None:
    job = Job(62, needed=400)
    job.until(30)
    assert job.interrupt.count == 0
    job.until(33)
    assert job.interrupt.count == 1


def test_a_limit_that_is_raised_meanwhile_counts() -> None:
    job = Job(600)
    job.until(300)
    job.seconds = 6000
    job.until(600)
    assert job.interrupt.count == 0


@settings(deadline=None)
@given(silent=st.integers(0, 500), seconds=st.integers(2 * ASK, 2000))  # type: ignore[arg-type]
def test_what_was_known_holds_while_slurm_does_not_answer(silent: int, seconds: int) -> None:
    job = Job(seconds)
    job.until(1)
    job.answers = False
    job.until(1 + silent)
    assert job.interrupt.count == 0 or seconds - job.now <= max(LEAST, LAST)
    job.until(seconds)
    assert (job.interrupt.count, job.sent) == (2, 1)


def test_nothing_happens_where_slurm_never_answers() -> None:
    job = Job(100, answers=False)
    job.until(200)
    assert job.interrupt.count == 0


def test_who_was_asked_to_stop_gets_no_successor() -> None:
    job = Job(3600)
    job.until(10)
    job.interrupt()
    job.until(3600)
    assert (job.sent, job.interrupt.count) == (0, 2)


COMMAND = ("lensflow", "resume", "a b.zarr", "--chain", "9", "--cluster=x", "--chain=2")


def sent(directory: RunDirectory, job: str = "41") -> None:
    Submission(
        "a", "slurm", 1.0, "ann", "n1", "login", COMMAND, 0, 0, job=job, options=("--time=1",), prologue=("echo",)
    ).write(directory)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory.of(tmp_path / "o.zarr")
    prepare(found)
    return found


def test_a_chain_needs_a_job_to_follow(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert chain.follow(directory, 0, float) is None
    with pytest.raises(BadOption, match="--chain 2: found a driver that was not sent off to SLURM"):
        chain.follow(directory, 2, float)
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    with pytest.raises(BadOption):
        chain.check(directory, 2)
    sent(directory)
    assert chain.follow(directory, 2, float) is not None
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    with pytest.raises(BadOption):
        chain.check(directory, 2)


def test_the_time_left_is_squeues_else_what_the_job_was_told(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[str, batch.Queued | None] = {"41": batch.Queued("41", "RUNNING", left=77.0)}
    monkeypatch.setattr(batch, "look", answers.get)
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))
    deadline = chain.follow(directory, 0, float)
    assert deadline is not None
    assert deadline.left() == 77.0
    answers.clear()
    assert deadline.left() == pytest.approx(1000, abs=5)
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    assert deadline.left() is None


def test_a_successor_is_told_to_resume_with_one_less_to_follow(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, tuple[str, ...]]] = []
    cancelled: list[str] = []

    def send(script: str, words: list[str]) -> str:
        calls.append((script, tuple(words)))
        return "42"

    monkeypatch.setattr("lensflow.engine.detach.send", send)
    monkeypatch.setattr(batch, "end", cancelled.extend)
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    sent(directory)
    deadline = chain.follow(directory, 2, float)
    assert deadline is not None
    assert deadline.succeed() == "SLURM job 42 follows it"
    ((script, words),) = calls
    assert script.splitlines()[1] == "echo"
    assert script.splitlines()[-1].endswith("-m lensflow resume 'a b.zarr' --chain 9 --cluster=x --chain=1")
    assert {"--dependency=afterany:41", "--time=1"} <= set(words)
    follows = Submission.read(directory)
    assert follows is not None
    assert (follows.job, follows.after, follows.login) == ("42", "41", "login")
    chain.withdraw(directory)
    assert cancelled == ["42"]


def test_the_last_of_a_chain_and_a_refused_successor_say_what_to_do(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise LensflowError("no such partition")

    monkeypatch.setattr("lensflow.engine.detach.send", refuse)
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    sent(directory)
    for count, said in ((0, "resume the run"), (1, "no such partition")):
        deadline = chain.follow(directory, count, float)
        assert deadline is not None
        assert said in deadline.succeed()
