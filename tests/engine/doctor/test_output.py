"""The promises of an output folder: kept on a healthy one, and each found where it is broken."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lensflow.engine.doctor import output as output_module
from lensflow.engine.doctor.mounts import Mount, Room
from lensflow.engine.doctor.output import output, space


def refuse(number: int) -> Any:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def worst(folder: Path) -> list[tuple[str, str]]:
    return [(one.level, one.found) for one in output(folder) if one.level != "OK"]


def test_a_healthy_folder_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("stays")
    levels = {one.subject: one.level for one in output(tmp_path)}
    assert levels["output"] == "OK"
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (found,) = output(tmp_path / "no")
    assert (found.level, found.remedy) == ("FIX", f"mkdir -p {tmp_path / 'no'}")


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", refuse(30))
    assert any(level == "FIX" and "Read-only" in found for level, found in worst(tmp_path))


def test_renames_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", refuse(1))
    assert any(level == "FIX" and "renamed over" in found for level, found in worst(tmp_path))


def test_renames_that_are_seen_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: None)
    assert any(level == "FIX" and "old file is still seen" in found for level, found in worst(tmp_path))


def test_creation_that_is_not_exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *more, **named: real(path, flags & ~os.O_EXCL, *more, **named))
    assert any(level == "FIX" and "exclusive creation" in found for level, found in worst(tmp_path))


def test_links_that_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(1))
    assert any(level == "FIX" and "hard links" in found for level, found in worst(tmp_path))


def test_locks_that_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", refuse(38))
    assert any(level == "WARN" and "not supported" in found for level, found in worst(tmp_path))


def test_locks_that_two_processes_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)  # here it only seems to be held: the other process gets it
    assert any(level == "WARN" and "two processes" in found for level, found in worst(tmp_path))


def test_locks_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "LOCK", 0.1)
    monkeypatch.setattr(output_module, "ANOTHER", "import time; time.sleep(60)")
    assert any(level == "WARN" and "lock server" in found for level, found in worst(tmp_path))


def test_flushing_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse(5))
    assert any(level == "WARN" and "flushed" in found for level, found in worst(tmp_path))


GIGABYTE = 2**30


@pytest.mark.parametrize(
    ("left", "kind", "level"),
    [
        (Room(50 * GIGABYTE, 90 * GIGABYTE, 10**6, 10**7), "xfs", "OK"),
        (Room(50 * GIGABYTE, 90 * GIGABYTE, 0, 0), "lustre", "OK"),
        (Room(50 * GIGABYTE, 90 * GIGABYTE, 10**6, 10**7), "tmpfs", "WARN"),
        (Room(GIGABYTE // 2, 90 * GIGABYTE, 10**6, 10**7), "xfs", "FIX"),
        (Room(50 * GIGABYTE, 90 * GIGABYTE, 12, 10**7), "nfs4", "FIX"),
    ],
)
def test_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Room, kind: str, level: str) -> None:
    monkeypatch.setattr(output_module, "room", lambda _: left)
    monkeypatch.setattr(output_module, "mount_of", lambda _: Mount(kind, "/"))
    assert [one.level for one in space(tmp_path)] == [level]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs")
def test_a_real_file_system_without_inodes(tmp_path: Path) -> None:
    words = ["/bin/mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=4", "few", str(tmp_path)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("mount is not allowed here")
    try:
        found = list(output(tmp_path))
        assert not any(tmp_path.iterdir())
    finally:
        subprocess.run(["/bin/umount", tmp_path], check=True)
    assert any(one.level == "FIX" and "No space" in one.found for one in found)
