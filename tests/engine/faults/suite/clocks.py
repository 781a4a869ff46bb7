"""A wall clock that jumps by an hour in mid-run, forwards or backwards."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.engine.report import write_report

from .kills import died
from .process import WAIT
from .scenario import scenario
from .stage import ROOT, WORKERS, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .process import Running

HOUR = 3600.0  # s
CLOCK = ROOT / "tests" / "engine" / "faults" / "clock"


@contextmanager
def jumping(stage: Stage, *words: str) -> Iterator[Running]:
    """Start a run with a clock of its own and let it jump at a random moment."""
    file = stage.folder / "offset"
    clock = {"PYTHONPATH": str(CLOCK), "FAULT_CLOCK": str(file)}
    driver = stage.submit(*words, local=True, held=True, environment=clock)
    with stage.moment(driver):
        file.write_text(str(stage.rng.choice([-HOUR, HOUR])))
        yield driver


@scenario("clock-jump")
def clock_jump(stage: Stage) -> None:
    """The clock jumps: the lock holds, the run ends as ever, and what it measures stays sane."""
    with jumping(stage) as driver:
        stage.expect(stage.submit().wait(), 5, says=f"process {driver.process.pid}")
    stage.expect(driver.wait(), 0)
    for one in [*stage.entries("done"), *stage.entries("end")]:
        if not 0 <= one["seconds"] < WAIT:
            stage.problems.append(f"{one['event']} {one.get('block', '')} took {one['seconds']} s")
    if hung := [one for one in stage.entries("worker", "events") if one["what"] == "hung"]:
        stage.problems.append(f"a worker was taken for hung: {hung}")
    times = [one["t"] for one in stage.entries("done")]
    if max(times) - min(times) < HOUR / 2:
        stage.problems.append("the clock has not jumped: the scenario shows nothing")
    if not 0 <= stage.run().status.seconds < WAIT:
        stage.problems.append(f"the run took {stage.run().status.seconds} s")
    write_report(stage.run().directory)


@scenario("clock-jump-crash")
def clock_jump_crash(stage: Stage) -> None:
    """The clock jumps, then the machine dies: the last chunk that was written has never reached the disk."""
    with jumping(stage) as driver:
        stage.reach(len(stage.entries("done")) + WORKERS, driver)
        driver.process.kill()
        died(stage, driver)
    last = stage.entries("done")[-1]["block"]
    stage.named.add(last)
    band = last.partition("[")[2].partition(",")[0]
    Path(stage.out, "smooth", "c", band, "0").write_bytes(b"")
