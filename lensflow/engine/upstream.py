"""Inputs that are themselves the outputs of runs: how far those are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow.engine.rundir import RunDirectory
from lensflow.errors import BadInput
from lensflow.events import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Upstream:
    """A run whose store another run reads, and which lacks blocks.

    Parameters
    ----------
    out
        The store.
    missing, quarantined, total
        Blocks that are still to be written, that were given up, and all.
    """

    out: Path
    missing: int
    quarantined: int
    total: int

    def __str__(self) -> str:
        given_up = f", {self.quarantined} quarantined" if self.quarantined else ""
        return f"{self.out} is an input, and its own run lacks {self.missing} of {self.total} blocks{given_up}"


def incomplete(paths: Iterable[Path]) -> Iterator[Upstream]:
    """Find the inputs that are stores of runs which lack blocks."""
    for path in paths:
        directory = RunDirectory.of(path)
        if not directory.exists():
            continue
        state, total = directory.state(), int(directory.describe()["blocks"])
        missing = total - len(state.done)
        if missing:
            yield Upstream(directory.out, missing, len(state.quarantined.keys() - state.done.keys()), total)


def notes(paths: Iterable[Path]) -> list[Note]:
    """Say which inputs lack blocks: what is read there is their fill value."""
    return [Note("incomplete-input", f"{one}: they hold no data", {"file": str(one.out)}) for one in incomplete(paths)]


def check(paths: Iterable[Path]) -> None:
    """Refuse inputs that are still to be written; blocks that were given up stay as they are.

    Raises
    ------
    BadInput
        If the run of an input has blocks that were neither written nor given up.
    """
    for one in incomplete(paths):
        if one.missing > one.quarantined:
            raise BadInput(f"{one}: finish it first (lensflow resume {one.out})")
