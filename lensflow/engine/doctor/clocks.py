"""Clocks: this host's against the file system's, SLURM's and the workers'."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, fix, ok, warn
from lensflow.engine.doctor.output import trial
from lensflow.engine.progress import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SUBJECT = "clock"
NOTICED = 2.0  # s: what daily corrections do not reach
WRONG = 30.0  # s: a quarter of the silence after which a run counts as dead
REMEDY = "sudo chronyc makestep, or sudo timedatectl set-ntp true"


def clocks(folder: Path, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Compare this host's clock with the one that stamps the files of a folder.

    Parameters
    ----------
    folder
        Where a run would write.
    now
        This host's clock, s.
    """
    with trial(folder) as place:
        probe = place / "clock"
        before = now()
        probe.touch()
        after = now()
        stamped = probe.stat().st_mtime
    yield compared("the file system", stamped, before, after)


def compared(whose: str, theirs: float, before: float, after: float, *, grain: float = 0.05) -> Finding:
    """Judge a clock that was read between two looks at this host's.

    Parameters
    ----------
    whose
        The other clock.
    theirs
        What it said, s.
    before, after
        What this host's said around that, s.
    grain
        How coarse the other clock is, s.
    """
    off = max(before - theirs - grain, theirs - after - grain, 0.0)
    if off < NOTICED:
        return ok(SUBJECT, f"agrees with {whose}")
    told = f"this host is {duration(off)} {'behind' if theirs > after else 'ahead of'} {whose}"
    return (
        fix(SUBJECT, f"{told}: a live run can be taken for dead", REMEDY)
        if off >= WRONG
        else warn(SUBJECT, told, REMEDY)
    )
