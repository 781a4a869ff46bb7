"""The folder where workers keep their files and spill: is it there, on what, and is there room."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, fix, ok, warn
from lensflow.engine.doctor.mounts import mount_of, room
from lensflow.engine.progress import size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lensflow.engine.doctor.mounts import Room
    from lensflow.engine.doctor.wanted import Wanted

SUBJECT = "spill place"
NEEDED = 64 * 2**20  # bytes a worker's own small files and locks need at most
ROOM = 10 * 2**30  # bytes below which spilling soon fills the place


def spill(wanted: Wanted, *, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Look at the folder that workers would use, as seen from here.

    Parameters
    ----------
    wanted
        The profile.
    environment
        The variables that the profile's path may name.
    """
    named, where = place(wanted)
    folder = _expanded(where, environment)
    if folder is None:
        yield ok(SUBJECT, f"{where} ({named}) is known only inside a job: the canary looks at it there")
        return
    if wanted.hosts == "one":
        yield from judge(folder, spills=spills(wanted), named=named)
    elif not folder.is_dir():
        yield ok(SUBJECT, f"{folder} ({named}) is not on this host: the canary looks at it in its job")
    else:
        shared = mount_of(folder).where == "shared"
        for one in judge(folder, spills=spills(wanted), named=named):
            yield (
                one
                if shared or one.level == "OK"
                else dataclasses.replace(one, level="WARN", found=f"here: {one.found}")
            )


def place(wanted: Wanted) -> tuple[str, str]:
    """Return by which setting, and where workers keep their files."""
    if (found := wanted.option("local_directory")) is not None:
        return "local_directory", str(found)
    if (found := wanted.setting("temporary-directory")) is not None:
        return "temporary-directory", str(found)
    return "the default", tempfile.gettempdir()


def spills(wanted: Wanted) -> bool:
    """Whether workers write to disk what does not fit their memory."""
    return any(wanted.setting(f"distributed.worker.memory.{key}", 0.7) for key in ("target", "spill"))


def judge(folder: Path, *, spills: bool, named: str = "local_directory") -> Iterator[Finding]:
    """Look at a folder as a place for workers' files; on the host this runs on.

    Parameters
    ----------
    folder
        The folder.
    spills
        Whether results are written there, or only small files.
    named
        The setting that names it.
    """
    another = "local_directory: a folder on the node's own disk, in the profile"
    if not folder.is_dir():
        yield fix(SUBJECT, f"{folder} ({named}): no such folder", f"mkdir -p {folder}")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield fix(SUBJECT, f"{folder} ({named}): cannot be written", another)
        return
    mount, left = mount_of(folder), room(folder)
    told = f"{folder} ({mount}, {size(left.free)} free)"
    if lacking := _lacking(left):
        yield fix(SUBJECT, f"{told}: {lacking}", f"du -xsh {folder}/* | sort -h, and remove what is not needed")
    elif not spills:
        hint = "; small files only, spilling is off"
        slow = "every worker's locks and files go over the network"
        yield warn(SUBJECT, f"{told}: {slow}", another) if mount.where == "shared" else ok(SUBJECT, told + hint)
    elif mount.where == "shared":
        yield fix(SUBJECT, f"{told}: spilling over the network stalls every worker on it", another)
    elif mount.where == "memory":
        yield fix(SUBJECT, f"{told}: it is memory, so spilling there frees none", another)
    elif left.free < ROOM:
        yield warn(SUBJECT, f"{told}: soon full when workers spill", another)
    else:
        yield ok(SUBJECT, told)


def _lacking(left: Room) -> str:
    if left.free < NEEDED:
        return "full"
    return f"{left.inodes_free} inodes left" if left.out_of_inodes else ""


def _expanded(where: str, environment: Mapping[str, str]) -> Path | None:
    """Put the variables' values into a path; None if it names one that is not set here."""
    expanded = where.removeprefix("~")
    if expanded != where:
        expanded = environment.get("HOME", "~") + expanded
    for name in sorted(environment, key=len, reverse=True):  # $TMPDIR before $TMP
        expanded = expanded.replace(f"${{{name}}}", environment[name]).replace(f"${name}", environment[name])
    return None if "$" in expanded else Path(expanded)
