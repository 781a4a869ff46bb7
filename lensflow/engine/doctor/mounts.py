"""File systems: which one a folder is on, of what kind, and what is left of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Where = Literal["local", "memory", "shared"]

MOUNTS = Path("/proc/self/mountinfo")
MEMORY = {"tmpfs", "ramfs"}
SHARED = {
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "fuse.glusterfs", "glusterfs", "orangefs"),
    *("pvfs2", "panfs", "wekafs", "afs", "cifs", "smb3", "smbfs", "9p", "virtiofs", "fuse.sshfs", "fhgfs", "dvs"),
}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Mount:
    """The file system a folder is on.

    Parameters
    ----------
    kind
        Its type as the kernel names it, e.g. ``ext4``, ``nfs4``, ``lustre``.
    point
        Where it is mounted.
    """

    kind: str
    point: str

    @property
    def where(self) -> Where:
        """Whether its bytes are on this host's disk, in its memory, or on other hosts."""
        return "memory" if self.kind in MEMORY else "shared" if self.kind in SHARED else "local"

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True)
class Room:
    """What is left of a file system for an ordinary user."""

    free: int
    size: int
    inodes_free: int
    inodes: int

    @property
    def out_of_inodes(self) -> bool:
        """Whether no more files fit; file systems that make inodes as they go report none at all."""
        return self.inodes > 0 and self.inodes_free < min(1000, self.inodes / 100)


def mount_of(folder: Path, *, table: str | None = None) -> Mount:
    """Return the file system that a folder is on.

    Parameters
    ----------
    folder
        An existing folder.
    table
        The kernel's table of mounts; default: this process's own.
    """
    if table is None:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape") if MOUNTS.is_file() else ""
    path = os.path.realpath(folder)
    best = Mount(UNKNOWN, "/")
    for line in table.splitlines():
        before, _, after = line.partition(" - ")  # the fields before the dash vary in number
        point = _unescaped(before.split()[4])
        # the last line wins: what is mounted later hides what was there
        if _holds(point, path) and len(point) >= len(best.point):
            best = Mount(after.split()[0], point)
    return best


def room(folder: Path) -> Room:
    """Return what is left on the file system of a folder."""
    found = os.statvfs(folder)
    return Room(
        free=found.f_bavail * found.f_frsize,
        size=found.f_blocks * found.f_frsize,
        inodes_free=found.f_favail,
        inodes=found.f_files,
    )


def _holds(point: str, path: str) -> bool:
    return point in ("/", path) or path.startswith(f"{point}/")


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
