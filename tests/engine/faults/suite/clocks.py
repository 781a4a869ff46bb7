"""A wall clock that jumps by an hour in mid-run, forwards or backwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.engine.report import write_report

from .kills import died
from .process import WAIT
from .scenario import scenario
from .stage import ROOT, WORKERS, Stage

if TYPE_CHECKING:
    from .process import Running

HOUR = 3600.0  # s
CLOCK = ROOT / "tests" / "engine" / "faults" / "clock"


def jumping(stage: Stage) -> Running:
    """Start a run with a clock of its own, and let it jump at a random moment."""
    file = stage.folder / "offset"
    driver = stage.submit(local=True, environment={"PYTHONPATH": str(CLOCK), "FAULT_CLOCK": str(file)})
    stage.reach_moment(driver)
    file.write_text(str(stage.rng.choice([-HOUR, HOUR])))
    return driver


@scenario("clock-jump")
def clock_jump(stage: Stage) -> None:
    """The clock jumps: the lock holds, the run ends as ever, and what it measures stays sane."""
    driver = jumping(stage)
    stage.expect(stage.submit().wait(), 5, 0)  # refused, unless the first has ended by now
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
    driver = jumping(stage)
    stage.reach(len(stage.entries("done")) + WORKERS, driver)
    driver.process.kill()
    died(stage, driver)
    last = stage.entries("done")[-1]["block"]
    stage.named.add(last)
    band = last.partition("[")[2].partition(",")[0]
    Path(stage.out, "smooth", "c", band, "0").write_bytes(b"")
