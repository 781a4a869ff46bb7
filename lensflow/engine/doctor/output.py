"""The file system of the output: does it keep the promises that a store, a journal and a lock are built on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, fix, ok, warn
from lensflow.engine.doctor.mounts import mount_of, room
from lensflow.engine.progress import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SUBJECT = "output"
ELSEWHERE = "--out: a folder on another file system"
ROOM = 2**30  # bytes below which a run is soon out of room
LOCK = 15  # s for another process to try a lock
ANOTHER = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(3)
"""
REFUSED = 3  # how the script above exits when the lock held


def output(folder: Path) -> Iterator[Finding]:
    """Try out a folder: renaming, exclusive creation, links, locks, flushing, listing, room and inodes.

    Parameters
    ----------
    folder
        Where a run would write its store. What is tried there is removed again.
    """
    if not folder.is_dir():
        yield fix(SUBJECT, f"{folder}: no such folder", f"mkdir -p {folder}")
        return
    try:
        with trial(folder) as place:
            yield from behaviour(folder, place)
    except OSError as error:
        yield fix(SUBJECT, f"{folder}: cannot be written ({error.strerror})", ELSEWHERE)
    yield from space(folder)


@contextmanager
def trial(folder: Path) -> Iterator[Path]:
    """Give a new folder inside the one to try, and remove it with all that is in it."""
    place = folder / f".lensflow-doctor-{uuid.uuid4().hex[:12]}"
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def behaviour(folder: Path, place: Path) -> Iterator[Finding]:
    """Try out one promise after the other; one line if all are kept."""
    broken = [found for promise in PROMISES for found in promise(place)]
    yield from broken or [
        ok(SUBJECT, f"{folder} ({mount_of(folder)}): renames, links, locks, flushes and lists as expected")
    ]


def space(folder: Path) -> Iterator[Finding]:
    """Look at what is left for data and for files."""
    left, mount = room(folder), mount_of(folder)
    inodes = f", {left.inodes_free} inodes" if left.inodes else ""
    told = f"{size(left.free)} free of {size(left.size)}{inodes}"
    if left.free < ROOM:
        yield fix("room", f"{told}: soon full", f"du -xsh {folder}/* | sort -h, and remove what is not needed")
    elif left.out_of_inodes:
        yield fix("room", f"{told}: no more files fit", f"find {folder} -xdev | wc -l, and remove small files")
    elif mount.where == "memory":
        yield warn("room", f"{told}, but in memory: gone when this host restarts", ELSEWHERE)
    else:
        yield ok("room", told)


def renames(place: Path) -> Iterator[Finding]:
    """Rename over an existing file: chunks are written beside their place and moved there."""
    old, new = place / "chunk", place / "chunk.draft"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    try:
        new.replace(old)
    except OSError as error:
        yield fix(SUBJECT, f"a file cannot be renamed over another ({error.strerror})", ELSEWHERE)
        return
    if old.read_bytes() != b"new" or os.listdir(place) != ["chunk"]:  # noqa: PTH208 - names as the disk gives them
        yield fix(SUBJECT, "after a rename the old file is still seen: readers get stale chunks", ELSEWHERE)
    old.unlink()


def creates_once(place: Path) -> Iterator[Finding]:
    """Create a file that must not exist, twice."""
    path = place / "once"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    yield fix(SUBJECT, "exclusive creation lets two creators through: two drivers could write one store", ELSEWHERE)


def links(place: Path) -> Iterator[Finding]:
    """Link a file to a second name, twice: the lock of a run is taken so."""
    path, name = place / "linked", place / "name"
    path.touch()
    try:
        os.link(path, name)
    except OSError as error:
        yield fix(SUBJECT, f"hard links do not work ({error.strerror}): a run's lock is made of one", ELSEWHERE)
        return
    try:
        os.link(path, name)
    except FileExistsError:
        return
    yield fix(SUBJECT, "a hard link replaces another: two drivers could write one store", ELSEWHERE)


def locks(place: Path) -> Iterator[Finding]:
    """Hold a lock while another process tries to take it."""
    import fcntl  # noqa: PLC0415 - not everywhere

    path = place / "locked"
    path.touch()
    remedy = "export HDF5_USE_FILE_LOCKING=FALSE, and let no two programs write one file"
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield warn("file locks", f"not supported here ({error.strerror}): HDF5 and SQLite fail", remedy)
            return
        try:
            tried = subprocess.run(  # noqa: S603 - our own script
                [sys.executable, "-I", "-c", ANOTHER, str(path)], timeout=LOCK, check=False, capture_output=True
            )
        except subprocess.TimeoutExpired:
            yield warn("file locks", f"another process got no answer within {LOCK} s: the lock server is ill", remedy)
            return
    if tried.returncode != REFUSED:
        yield warn("file locks", "two processes hold one lock: HDF5 and SQLite files can be damaged", remedy)


def flushes(place: Path) -> Iterator[Finding]:
    """Flush a file and its folder to disk: what the journal says is done must have been."""
    try:
        with (place / "flushed").open("wb") as file:
            file.write(b"done")
            file.flush()
            os.fsync(file.fileno())
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        told = f"cannot be flushed to disk ({error.strerror}): what a crash loses is found only by verify"
        yield warn(SUBJECT, told, ELSEWHERE)


PROMISES: tuple[Callable[[Path], Iterator[Finding]], ...] = (renames, creates_once, links, locks, flushes)
