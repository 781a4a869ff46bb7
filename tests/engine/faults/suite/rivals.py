"""Two drivers for one store: one wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .kills import died
from .scenario import scenario

if TYPE_CHECKING:
    from .stage import Stage


@scenario("two-drivers")
def two_drivers(stage: Stage) -> None:
    """A second driver is refused while the first is at work."""
    first = stage.submit(held=True)
    with stage.moment(first):
        stage.expect(stage.submit().wait(), 5, says=f"process {first.process.pid}")
    stage.expect(first.wait(), 0)


@scenario("two-resumes")
def two_resumes(stage: Stage) -> None:
    """Two resumes race for a dead driver's lock: one goes on, the other is refused or finds nothing left to do."""
    driver = stage.submit(held=True)
    with stage.moment(driver):
        driver.process.kill()
        died(stage, driver)
    ended = sorted((one.wait() for one in [stage.resume(), stage.resume()]), key=lambda one: one.code)
    stage.expect(ended[0], 0)
    stage.expect(ended[1], 0, 5)
    pending = [one["pending"] for one in stage.entries("session")][1:]
    if sum(one > 0 for one in pending) != 1:
        stage.problems.append(f"both went on with the run: {pending} blocks were pending")
