"""The supervisor against a SLURM made of dice: jobs wait, start, die; squeue fails now and then."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.slurm.queue import Listed
from lensflow.engine.slurm.supervisor import MOST_FAILURES, MOST_ROBBED, SILENT, Supervisor

if TYPE_CHECKING:
    from lensflow.engine.slurm.states import Action

STARTING = 4  # s between a job's start and its first worker


@dataclass
class Dice:
    """A SLURM whose jobs wait some seconds, run until their walltime, and die when they are told to."""

    walltime: int
    wait: int = 2
    supervisor: Supervisor = field(init=False)
    now: float = 1000.0
    begun: dict[str, float] = field(default_factory=dict)  # when each job will run
    ended: dict[str, str] = field(default_factory=dict)
    drained: set[str] = field(default_factory=set)
    actions: list[Action] = field(default_factory=list)
    answers: bool = True
    mute: bool = False  # whether workers never come
    work: int = 1  # tasks under way on each worker that is not drained
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(float(self.walltime))

    def submit(self, count: int) -> list[str]:
        first = next(self._number)
        ids = [f"{first}_{place}" for place in range(count)]
        self.begun.update(dict.fromkeys(ids, self.now + self.wait))
        return ids

    def running(self) -> list[str]:
        return [job for job, at in self.begun.items() if job not in self.ended and self.now >= at]

    def alive(self) -> list[str]:
        return [job for job in self.begun if job not in self.ended]

    def up(self) -> list[str]:
        return [] if self.mute else [job for job in self.running() if self.now >= self.begun[job] + STARTING]

    def useful(self) -> list[str]:
        return [job for job in self.up() if job not in self.drained]

    def kill(self, job: str, state: str) -> None:
        self.ended[job] = state

    def listed(self) -> dict[str, Listed]:
        found = {}
        for job, begun in self.begun.items():
            if job in self.ended:
                found[job] = Listed(self.ended[job], 0.0)
            elif self.now < begun:
                found[job] = Listed("PENDING", float(self.walltime), reason="Priority")
            else:
                found[job] = Listed("RUNNING", begun + self.walltime - self.now, "n1", "None")
        return found

    def second(self, wanted: int) -> list[Action]:
        self.now += 1.0
        for job in self.running():
            if self.now - self.begun[job] > self.walltime:
                self.kill(job, "TIMEOUT")
        workers = {job: 0 if job in self.drained else self.work for job in self.up()}
        told = self.supervisor.step(self.now, self.listed() if self.answers else None, workers, wanted)
        for one in told:
            if one.do == "submit":
                self.supervisor.submitted(self.now, self.submit(one.count))
            elif one.do == "drain":
                self.drained.update(one.jobs)
            elif one.do in {"close", "cancel"}:
                for job in one.jobs:
                    self.ended.setdefault(job, "CANCELLED")
        self.actions += told
        return told

    def run(self, seconds: int, wanted: int) -> list[Action]:
        return [one for _ in range(seconds) for one in self.second(wanted)]


def said(actions: list[Action], do: str) -> list[str]:
    return [one.text for one in actions if one.do == do]


@given(wanted=st.integers(1, 8), walltime=st.integers(60, 4000), wait=st.integers(0, 20))
@settings(deadline=None, max_examples=30)
def test_a_successor_is_up_before_its_predecessor_retires(wanted: int, walltime: int, wait: int) -> None:
    dice = Dice(walltime, wait)
    dice.run(60, wanted)
    for _ in range(250):
        dice.second(wanted)
        if dice.supervisor.lead < walltime / 2:  # else a walltime that short leaves no time to wait for successors
            assert len(dice.useful()) >= wanted
        assert len(dice.alive()) <= 2 * wanted
    assert "TIMEOUT" not in dice.ended.values()  # nothing was lost to a time limit
    assert not said(dice.actions, "say")


@given(data=st.data(), wanted=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_whatever_dies_is_replaced(data: st.DataObject, wanted: int) -> None:
    dice = Dice(600)
    states = st.sampled_from(["CANCELLED", "NODE_FAIL", "PREEMPTED", "TIMEOUT"])
    for chance in data.draw(st.lists(st.integers(0, 1000), min_size=40, max_size=40)):
        dice.answers = chance % 3 != 0
        if dice.up() and chance % 2:
            dice.kill(dice.up()[chance % len(dice.up())], data.draw(states))
        dice.second(wanted)
        assert len(dice.alive()) <= 2 * wanted
    dice.answers = True
    dice.run(150, wanted)  # the longest wait after failures
    assert len(dice.useful()) == wanted
    assert not said(dice.actions, "stop")


@given(changes=st.lists(st.integers(0, 8), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_the_number_wanted_is_met_and_none_are_left_at_the_end(changes: list[int]) -> None:
    dice = Dice(3000)
    for wanted in changes:
        dice.run(40, wanted)
        assert len(dice.useful()) == wanted
    dice.run(30, 0)
    assert dice.alive() == []
    assert dice.supervisor.jobs == {}


def test_a_failed_squeue_is_no_death() -> None:
    dice = Dice(600)
    dice.run(20, 3)
    before = dice.alive()
    dice.answers = False
    told = dice.run(100, 3)
    assert not [one for one in told if one.do in {"submit", "note", "say", "stop"}]
    dice.answers = True
    dice.run(5, 3)
    assert dice.alive() == before


def test_a_job_without_workers_is_told_of_within_a_minute() -> None:
    dice = Dice(600, mute=True)
    told = [(dice.now, text) for _ in range(60) for text in said(dice.second(1), "say")]
    assert len(told) == 1
    at, text = told[0]
    assert at - 1000 - dice.wait < SILENT + 3
    assert "no worker of it has come" in text


def test_jobs_that_keep_failing_are_tried_less_and_less_and_then_given_up() -> None:
    dice = Dice(600, mute=True)
    submitted = []
    for _ in range(400):
        for one in dice.second(2):
            if one.do == "submit":
                submitted.append(dice.now)
            if one.do == "stop":
                assert "5 attempts came to nothing" in one.text
                break
        else:
            for job in dice.running():
                dice.kill(job, "FAILED")
            continue
        break
    else:
        pytest.fail("it never gave up")
    pauses = [after - before for before, after in itertools.pairwise(submitted)]
    assert pauses == sorted(pauses)
    assert len(submitted) == MOST_FAILURES


def test_jobs_that_are_taken_before_their_workers_come_are_asked_for_again_but_not_for_ever() -> None:
    dice = Dice(600, mute=True)
    for _ in range(600):
        for job in dice.running():
            dice.kill(job, "PREEMPTED")
        if said(dice.second(1), "stop"):
            break
    else:
        pytest.fail("it never gave up")
    assert len(dice.begun) == MOST_ROBBED + MOST_FAILURES - 1


def test_sbatch_that_is_refused_is_tried_again_and_then_given_up() -> None:
    supervisor, now, told = Supervisor(600.0), 0.0, []
    for now in range(200):
        actions = supervisor.step(float(now), {}, {}, 1)
        if any(one.do == "submit" for one in actions):
            told += supervisor.rejected(float(now), "SLURM says: Invalid account")
    assert [one.do for one in told][:MOST_FAILURES] == ["say"] * (MOST_FAILURES - 1) + ["stop"]
    assert "Invalid account" in told[-1].text


def test_a_job_that_sbatch_submitted_without_coming_back_is_taken_on() -> None:
    supervisor = Supervisor(600.0)
    supervisor.step(0.0, {"7_0": Listed("PENDING", 600.0, reason="Resources")}, {}, 1)
    assert "7_0" in supervisor.jobs
    told = supervisor.step(1.0, {"7_0": Listed("PENDING", 600.0, reason="Resources")}, {}, 1)
    assert not [one for one in told if one.do == "submit"]


def test_a_retiring_job_ends_its_work_first() -> None:
    dice = Dice(600, work=2)
    dice.run(20, 2)
    told = dice.run(3, 1)
    (drained,) = [one.jobs for one in told if one.do == "drain"]
    assert not [one for one in told if one.do == "close"]
    dice.drained.clear()  # it goes on working
    told = dice.run(100, 1)
    assert not [one for one in told if one.do == "close"]
    dice.drained.update(*[drained])
    told = dice.run(3, 1)
    assert [one.jobs for one in told if one.do == "close"] == [drained]


def test_a_job_is_given_no_work_that_it_could_not_finish() -> None:
    dice = Dice(600)
    dice.supervisor.block = 100.0
    dice.run(60, 1)
    first = dice.useful()[0]
    while first in dice.useful():
        dice.second(1)
    assert dice.begun[first] + dice.walltime - dice.now > 100.0
