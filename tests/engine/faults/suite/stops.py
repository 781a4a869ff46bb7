"""SIGSTOP: a worker that hangs. SIGINT: a user who asks to stop, once or twice."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import psutil

from .process import wait_until
from .scenario import scenario
from .stage import JITTER, WORKERS, Stage

PATIENCE = "2"  # s, --timeout: fifty times what a task takes


@scenario("stop-worker")
def stop_worker(stage: Stage) -> None:
    """A worker hangs for ever: it is found out, and its blocks are done elsewhere."""
    driver = stage.submit("--timeout", PATIENCE, local=True, held=True)
    with stage.moment(driver):
        stage.rng.choice(stage.workers(driver)).suspend()
        stage.lose()
    stage.expect(driver.wait(), 0)


@scenario("stop-worker-a-while")
def stop_worker_a_while(stage: Stage) -> None:
    """A worker hangs for a second and goes on: nothing is done twice."""
    driver = stage.submit(local=True, held=True)
    with stage.moment(driver):
        victim = stage.rng.choice(stage.workers(driver))
        victim.suspend()
    time.sleep(1.0)
    with suppress(psutil.NoSuchProcess):
        victim.resume()
    stage.expect(driver.wait(), 0)


@scenario("interrupt")
def interrupt(stage: Stage) -> None:
    """Ctrl-C: the terminal signals every process of the job; what is in flight is finished, nothing is done twice."""
    driver = stage.submit(local=True, held=True)
    with stage.moment(driver):
        driver.signal(signal.SIGINT)
    stage.expect(driver.wait(), 130, says="finishing the blocks in flight")
    if (standing := stage.run().status.standing) != "interrupted":
        stage.problems.append(f"the run was interrupted and stands as {standing}")


@scenario("interrupt-twice")
def interrupt_twice(stage: Stage) -> None:
    """Ctrl-C twice: the run stops at once."""
    driver = stage.submit(local=True, held=True)
    with stage.moment(driver):
        driver.signal(signal.SIGINT)
        time.sleep(stage.rng.uniform(0, JITTER / 4))
        driver.signal(signal.SIGINT)
        stage.lose()
    stage.expect(driver.wait(), 130, says="finishing the blocks in flight")


@scenario("interrupt-alone")
def interrupt_alone(stage: Stage) -> None:
    """Ctrl-C while a block that killed its workers runs alone: it is in flight like others, and finished."""
    deadly = stage.poison("slow-alone")
    driver = stage.submit()
    wait_until(stage.alone, f"{deadly} runs alone")
    driver.signal(signal.SIGINT)
    stage.named.add(deadly)
    stage.in_flight += 2 * WORKERS  # what the two workers that it killed were doing
    stage.expect(driver.wait(), 0, 130, says="finishing the blocks in flight")
    if deadly not in {one["block"] for one in stage.entries("done")}:
        stage.problems.append(f"{deadly} ran alone when the run was interrupted, and was not finished")
