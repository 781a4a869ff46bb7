"""Disks: full, and suddenly read-only."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

from .process import Stuck, wait_until
from .scenario import scenario

if TYPE_CHECKING:
    from pathlib import Path

    from .stage import Stage

SMALL, LARGE = "16m", "64m"


def can_mount(folder: Path) -> bool:
    """Whether this process may mount a file system."""
    try:
        _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    except Stuck:
        return False
    _unmount(folder)
    return True


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False, timeout=30)  # noqa: S607 - the system's
    if done.returncode != 0:
        raise Stuck(f"mount {' '.join(words)}: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True, timeout=30)  # noqa: S607


@scenario("disk-full", mounts=True)
def disk_full(stage: Stage) -> None:
    """The disk is full in mid-run: the run says so in a sentence; with room made, it goes on."""
    disk = stage.folder / "disk"
    disk.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(disk))
    stage.undo(lambda: _unmount(disk))
    stage.out = disk / "a.zarr"
    driver = stage.submit("--retries", "1", held=True)
    with stage.moment(driver):
        _fill(disk / "ballast")
        stage.lose()
    stage.expect(driver.wait(), 1, says="resume")
    _mount("-o", f"remount,size={LARGE}", str(disk))


def _fill(path: Path) -> None:
    """Write until there is no room left."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 1 << 12):
            while True:
                try:
                    os.write(file, bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
    finally:
        os.close(file)


@scenario("read-only", mounts=True)
def read_only(stage: Stage) -> None:
    """The store becomes read-only in mid-run: the run says so in a sentence; with it writable, it goes on."""
    driver = stage.submit("--retries", "1", held=True)
    with stage.moment(driver):
        _mount("--bind", str(stage.out), str(stage.out))
        stage.undo(lambda: _unmount(stage.out))
        wait_until(lambda: _made_read_only(stage.out), "the store is read-only")
        stage.lose()
    stage.expect(driver.wait(), 1, says="resume")
    _unmount(stage.out)


def _made_read_only(folder: Path) -> bool:
    try:
        _mount("-o", "remount,bind,ro", str(folder))
    except Stuck:  # busy: a chunk is being written this very moment
        return False
    return True
