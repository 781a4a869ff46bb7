"""Poison: one block of forty that harms those who compute it. It alone is given up."""

from __future__ import annotations

from .scenario import scenario
from .stage import WORKERS, Stage

MEMORY = "600MiB"  # of a worker, which takes 150 MiB by itself
PATIENCE = "2"  # s, --timeout


def given_up(stage: Stage, cause: str, *words: str, local: bool = False) -> None:
    """Run to the end, and see why the guilty block was given up."""
    stage.expect(stage.submit(*words, local=local).wait(), 4)
    found = {one.get("cause") for one in stage.entries("quarantined") if one["block"] == stage.guilty}
    if found != {cause}:
        stage.problems.append(f"{stage.guilty} should be given up because of {cause!r}, found {found}")


@scenario("poison-segfault")
def segfault(stage: Stage) -> None:
    """A block that ends its process by a segmentation fault."""
    stage.guilty = stage.poison("segfault")
    stage.in_flight = 2 * WORKERS  # the workers that it took with it were doing something else
    given_up(stage, "killed")


@scenario("poison-memory")
def memory(stage: Stage) -> None:
    """A block that allocates without bound."""
    stage.guilty = stage.poison("memory")
    stage.in_flight = 4 * WORKERS
    given_up(stage, "memory", "--memory", MEMORY, "--retries", "1", local=True)


@scenario("poison-sleep")
def sleep(stage: Stage) -> None:
    """A block that sleeps for ever."""
    stage.guilty = stage.poison("sleep")
    stage.in_flight = 4 * WORKERS
    given_up(stage, "time", "--timeout", PATIENCE)


@scenario("poison-raise")
def raises(stage: Stage) -> None:
    """A block that raises, always."""
    stage.guilty = stage.poison("raise")
    given_up(stage, "raised")


@scenario("poison-flaky")
def flaky(stage: Stage) -> None:
    """A block that raises now and then is tried again until it is written."""
    stage.named.add(stage.poison("flaky", times=stage.rng.choice([1, 2])))
    stage.expect(stage.submit().wait(), 0)
    if stage.entries("quarantined"):
        stage.problems.append("a block that comes right was given up")
