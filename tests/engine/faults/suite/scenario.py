"""The list of scenarios: each module of this package adds its own by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stage import Stage

SCENARIOS: dict[str, Scenario] = {}


@dataclass(frozen=True)
class Scenario:
    """What is done to a run.

    Parameters
    ----------
    name
        What it is called on the command line.
    act
        Starts a run on a stage, disturbs it, and says there what it expects to see.
    finished
        Whether it is done to a run that has ended already: the stage holds a copy of the undisturbed one.
    mounts
        Whether it needs the right to mount a file system.
    """

    name: str
    act: Callable[[Stage], None]
    finished: bool = False
    mounts: bool = False

    @property
    def purpose(self) -> str:
        """The first line of what the act says of itself."""
        return (self.act.__doc__ or "").partition("\n")[0]


def scenario(
    name: str, *, finished: bool = False, mounts: bool = False
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Add a scenario to the list."""

    def add(act: Callable[[Stage], None]) -> Callable[[Stage], None]:
        SCENARIOS[name] = Scenario(name, act, finished=finished, mounts=mounts)
        return act

    return add
