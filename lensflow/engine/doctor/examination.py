"""The whole examination, subject by subject, each within its time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lensflow.engine.doctor.cage import send
from lensflow.engine.doctor.clocks import clocks
from lensflow.engine.doctor.environment import open_files, threads
from lensflow.engine.doctor.finding import Finding, bounded, ok, warn
from lensflow.engine.doctor.network import interfaces, ports
from lensflow.engine.doctor.output import output
from lensflow.engine.doctor.slurm import idle, slurm
from lensflow.engine.doctor.spill import spill
from lensflow.engine.doctor.versions import versions
from lensflow.engine.doctor.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

DISK = 20.0  # s for a file system to answer
SLURM = 100.0  # s for all questions to SLURM, each of which has its own limit
DISK_REMEDY = "the file system hangs: df, then ask the site's support; or choose another folder"
Check = tuple[str, "Callable[[], Iterable[Finding]]", float, str]


def examine(profile: str, folder: Path, *, wait: float | None, canary: bool = True) -> Iterator[Finding]:
    """Look at a machine as a run through a profile would find it; findings come as they are made.

    Parameters
    ----------
    profile
        A profile by name, path or address.
    folder
        Where a run would write.
    wait
        How long a worker may take to come up, s; default: longer where jobs wait in a queue.
    canary
        Whether a worker is started.

    Raises
    ------
    UnknownName, BadInput
        If the profile is none.
    """
    wanted = Wanted.of(profile)
    there = _is_there(folder)
    in_vain = not there
    for subject, check, seconds, remedy in _checks(wanted, folder, there=there):
        found = bounded(subject, check, seconds=seconds, remedy=remedy)
        in_vain |= subject == "SLURM" and any(one.level == "FIX" for one in found)
        yield from found
    if canary and in_vain:
        yield warn("canary", "not sent: it would fail as said above", "mend that, and ask again")
    elif canary:
        patience = wait if wait is not None else 60.0 if wanted.hosts == "one" else 180.0
        yield from send(profile, folder, wait=patience)


def _is_there(folder: Path) -> bool:
    """Whether a folder exists; where its file system hangs it does not."""
    yes = [ok("output", "there")]
    return bounded("output", lambda: yes if folder.is_dir() else [], seconds=DISK, remedy=DISK_REMEDY) == yes


def _checks(wanted: Wanted, folder: Path, *, there: bool) -> Iterator[Check]:
    is_slurm = wanted.kind == "slurm"
    yield "versions", partial(versions, slurm=is_slurm), DISK, "pip check"
    yield "threads", partial(threads, wanted), DISK, ""
    yield "open files", open_files, DISK, ""
    if wanted.kind != "address":
        yield "spill place", partial(spill, wanted), DISK, DISK_REMEDY
        yield "dashboard", partial(ports, wanted), DISK, "ss -ltn"
        yield "interface", partial(interfaces, wanted), DISK, "ip address"
    yield "output", partial(output, folder), DISK, DISK_REMEDY
    if there:
        yield "clock", partial(clocks, folder), DISK, DISK_REMEDY
    asks = partial(slurm, wanted) if is_slurm else idle
    yield "SLURM", asks, SLURM, "sinfo; scontrol ping; then ask the site's support"
