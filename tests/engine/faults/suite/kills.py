"""SIGKILL: of a worker, the driver, the scheduler, all of them, at random moments."""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .process import Stuck, wait_until
from .scenario import scenario
from .stage import WORKERS, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .process import Running

STARTING = (0.2, 5.0)  # s after its start in which a driver imports, starts its cluster and writes the template
SETTINGS = {  # what cluster/local.yaml sets, for a cluster that is started by hand
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
    "DASK_DISTRIBUTED__WORKER__PRELOAD": '["lensflow.engine.preload"]',
}


def died(stage: Stage, driver: Running) -> None:
    """Count the death of a driver, and see that the run says so."""
    driver.process.wait()
    stage.lose()
    if stage.entries("session") and (standing := stage.run().status.standing) != "died":
        stage.problems.append(f"its driver was killed, and the run stands as {standing}")


@scenario("kill-worker")
def kill_worker(stage: Stage) -> None:
    """One of two workers is killed: the run ends as if nothing had happened."""
    driver = stage.submit(local=True, held=True)
    with stage.moment(driver):
        stage.rng.choice(stage.workers(driver)).kill()
        stage.lose()
    stage.expect(driver.wait(), 0)


@scenario("kill-workers")
def kill_workers(stage: Stage) -> None:
    """All workers are killed at once: the nannies start new ones, the run goes on."""
    driver = stage.submit(local=True, held=True)
    with stage.moment(driver):
        for one in stage.workers(driver):
            one.kill()
        stage.lose()
    stage.expect(driver.wait(), 0)


@scenario("kill-driver")
def kill_driver(stage: Stage) -> None:
    """The driver is killed while its workers, and with them the scheduler, live on elsewhere."""
    driver = stage.submit(held=True)
    with stage.moment(driver):
        driver.process.kill()
        died(stage, driver)


@scenario("kill-driver-and-scheduler")
def kill_driver_and_scheduler(stage: Stage) -> None:
    """The driver is killed and the scheduler with it: the workers must find out by themselves."""
    driver = stage.submit(local=True, held=True)
    with stage.moment(driver):
        driver.process.kill()
        died(stage, driver)


@scenario("kill-driver-early")
def kill_driver_early(stage: Stage) -> None:
    """The driver is killed while it starts: before, while or after it writes the template."""
    driver = stage.submit(local=True)
    time.sleep(stage.rng.uniform(*STARTING))
    driver.process.kill()
    died(stage, driver)


@scenario("kill-all")
def kill_all(stage: Stage) -> None:
    """Driver and workers are killed at once, and so is the first that resumes."""
    driver = stage.submit(local=True, held=True)
    with stage.moment(driver):
        driver.signal(signal.SIGKILL)
        died(stage, driver)
    driver = stage.resume(local=True)
    time.sleep(stage.rng.uniform(*STARTING))
    driver.signal(signal.SIGKILL)
    died(stage, driver)


@scenario("kill-driver-alone")
def kill_driver_alone(stage: Stage) -> None:
    """The driver is killed while a block that has killed its workers runs alone: nothing is left running."""
    deadly = stage.poison("sleep-alone")
    driver = stage.submit()
    wait_until(stage.alone, f"{deadly} runs alone")
    driver.process.kill()
    died(stage, driver)
    stage.named.add(deadly)
    stage.in_flight += 2 * WORKERS  # what the two workers that it killed were doing
    wait_until(lambda: not stage.survivors(), "a block that runs alone ends with its driver")


@scenario("kill-scheduler")
def kill_scheduler(stage: Stage) -> None:
    """The scheduler is killed: the driver says so in a sentence, and the run is resumed elsewhere."""
    with foreign_cluster(stage) as (scheduler, address):
        driver = stage.submit("--cluster", address, held=True)
        with stage.moment(driver):
            scheduler.process.kill()
            stage.lose()
        stage.expect(driver.wait(), 1, says="scheduler")


@contextmanager
def foreign_cluster(stage: Stage) -> Iterator[tuple[Running, str]]:
    """Start a scheduler and workers as processes of their own; give the scheduler and its address."""
    file = stage.folder / "scheduler.json"
    common = ["--host", "127.0.0.1", "--scheduler-file", str(file)]
    scheduler = stage.start(
        ["-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", *common], SETTINGS
    )
    words = ["--nthreads", "1", "--nworkers", str(WORKERS), "--no-dashboard", "--death-timeout", "20"]
    workers = stage.start(["-m", "distributed.cli.dask_worker", *words, *common], SETTINGS)
    try:
        wait_until(lambda: _address(file), "the scheduler listens")
        yield scheduler, _address(file)
    finally:
        for one in (scheduler, workers):
            one.signal(signal.SIGKILL)
            one.process.wait()


def _address(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except FileNotFoundError:
        return ""
    except ValueError as error:  # half written
        raise Stuck(f"{file}: damaged ({error})") from error
