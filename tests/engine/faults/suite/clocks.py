"""A wall clock that jumps by an hour in mid-run, forwards or backwards."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.engine.report import write_report

from .kills import died
from .process import WAIT
from .scenario import scenario
from .stage import ROOT, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .process import Running

HOUR = 3600.0  # s
CLOCK = ROOT / "tests" / "engine" / "faults" / "clock"


@contextmanager
def jumping(stage: Stage, seconds: float) -> Iterator[Running]:
    """Start a run with a clock of its own and let it jump at a random moment."""
    file = stage.folder / "offset"
    clock = {"PYTHONPATH": str(CLOCK), "FAULT_CLOCK": str(file)}
    driver = stage.submit(local=True, held=True, environment=clock)
    with stage.moment(driver):
        file.write_text(str(seconds))
        yield driver


@scenario("clock-forward")
def clock_forward(stage: Stage) -> None:
    """The clock jumps forward: the lock holds, nobody is taken for hung, the run ends as ever."""
    with jumping(stage, HOUR) as driver:
        stage.expect(stage.submit().wait(), 5, says=f"process {driver.process.pid}")
    stage.expect(driver.wait(), 0)
    sane(stage)
    times = [one["t"] for one in stage.entries("done")]
    if max(times) - min(times) < HOUR / 2:
        stage.problems.append("the clock has not jumped: the scenario shows nothing")


@scenario("clock-back")
def clock_back(stage: Stage) -> None:
    """The clock jumps back: the lock holds; Dask falls silent until it has caught up, which the run says."""
    with jumping(stage, -HOUR) as driver:
        stage.expect(stage.submit().wait(), 5, says=f"process {driver.process.pid}")
    stage.lose()
    ended = driver.wait()
    stage.expect(ended, 0, 1, says="clock" if ended.code else "")
    sane(stage)


def sane(stage: Stage) -> None:
    """See that what the run measured of itself makes sense."""
    for one in [*stage.entries("done"), *stage.entries("end")]:
        if not 0 <= one["seconds"] < WAIT:
            stage.problems.append(f"{one['event']} {one.get('block', '')} took {one['seconds']} s")
    if hung := [one for one in stage.entries("worker", "events") if one["what"] == "hung"]:
        stage.problems.append(f"a worker was taken for hung: {hung}")
    if not 0 <= stage.run().status.seconds < WAIT:
        stage.problems.append(f"the run took {stage.run().status.seconds} s")
    write_report(stage.run().directory)


@scenario("clock-jump-crash")
def clock_jump_crash(stage: Stage) -> None:
    """The clock jumps, then the machine dies: the last chunk that was written has never reached the disk."""
    with jumping(stage, stage.rng.choice([-HOUR, HOUR])) as driver:
        time.sleep(stage.rng.uniform(0.2, 0.6))  # for blocks on the other side of the jump
        driver.process.kill()
        died(stage, driver)
    last = stage.entries("done")[-1]["block"]
    stage.named.add(last)
    band = last.partition("[")[2].partition(",")[0]
    Path(stage.out, "smooth", "c", band, "0").write_bytes(b"")
