"""Where workers keep their files: kinds of file system, full ones, ones that are not there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from lensflow.engine.doctor import spill as spills_module
from lensflow.engine.doctor.mounts import Mount, Room, mount_of, room
from lensflow.engine.doctor.spill import judge, place, spill, spills
from lensflow.engine.doctor.wanted import Wanted

TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /fast rw,nosuid - tmpfs tmpfs rw
31 22 0:40 / /home rw,relatime shared:9 master:2 - nfs4 server:/export/home rw,vers=4.2
32 22 0:41 / /scratch rw - lustre 10.0.0.1@o2ib:/scratch rw,flock
33 22 0:42 / /scratch/my\\040data rw - xfs /dev/sdb rw
34 31 0:43 / /home rw - autofs systemd-1 rw
"""
GIGABYTE = 2**30
PLENTY = Room(free=500 * GIGABYTE, size=900 * GIGABYTE, inodes_free=10**6, inodes=10**7)
SPILLING = {"distributed": {"worker": {"memory": {"target": 0.6, "spill": 0.7}}}}


@pytest.mark.parametrize(
    ("folder", "kind", "where"),
    [
        ("/var/lib", "ext4", "local"),
        ("/fast/x", "tmpfs", "memory"),
        ("/scratch/run", "lustre", "shared"),
        ("/scratch/my data/run", "xfs", "local"),
        ("/scratchier", "ext4", "local"),
        ("/home/me", "autofs", "local"),  # mounted over the other: the last one counts
    ],
)
def test_the_kind_of_a_file_system(folder: str, kind: str, where: str) -> None:
    found = mount_of(folder, table=TABLE)  # type: ignore[arg-type]
    assert (found.kind, found.where) == (kind, where)


def test_the_mount_of_a_real_folder(tmp_path: Path) -> None:
    known = {one.mountpoint: one.fstype for one in psutil.disk_partitions(all=True)}
    found = mount_of(tmp_path)
    assert known[found.point] == found.kind
    proc = mount_of(Path("/proc/self"))
    assert (proc.kind, proc.point) == ("proc", "/proc")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Stand in for the file system of every folder."""
    facts: dict[str, object] = {"mount": Mount("ext4", "/"), "room": PLENTY}
    monkeypatch.setattr(spills_module, "mount_of", lambda _folder: facts["mount"])
    monkeypatch.setattr(spills_module, "room", lambda _folder: facts["room"])
    return facts


@pytest.mark.parametrize(
    ("kind", "spilling", "level"),
    [
        ("ext4", True, "OK"),
        ("ext4", False, "OK"),
        ("nfs4", True, "FIX"),
        ("nfs4", False, "WARN"),
        ("lustre", True, "FIX"),
        ("tmpfs", True, "FIX"),
        ("tmpfs", False, "OK"),
    ],
)
def test_what_a_kind_means(planted: dict[str, object], tmp_path: Path, kind: str, spilling: bool, level: str) -> None:  # noqa: FBT001
    planted["mount"] = Mount(kind, "/x")
    (found,) = judge(tmp_path, spills=spilling)
    assert found.level == level
    assert kind in found.found
    assert bool(found.remedy) == (level != "OK")


@pytest.mark.parametrize(
    ("left", "word"),
    [(Room(0, 10 * GIGABYTE, 10**6, 10**6), "full"), (Room(GIGABYTE, 10 * GIGABYTE, 3, 10**6), "3 inodes left")],
)
def test_a_full_place(planted: dict[str, object], tmp_path: Path, left: Room, word: str) -> None:
    planted["room"] = left
    (found,) = judge(tmp_path, spills=False)
    assert found.level == "FIX"
    assert word in found.found


def test_a_file_system_without_a_count_of_inodes_is_not_out_of_them() -> None:
    assert not Room(GIGABYTE, GIGABYTE, 0, 0).out_of_inodes


def test_little_room_matters_where_workers_spill(planted: dict[str, object], tmp_path: Path) -> None:
    planted["room"] = Room(GIGABYTE, 10 * GIGABYTE, 10**6, 10**6)
    assert [one.level for one in judge(tmp_path, spills=True)] == ["WARN"]
    assert [one.level for one in judge(tmp_path, spills=False)] == ["OK"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs")
def test_a_small_disk_that_is_really_full(tmp_path: Path) -> None:
    words = ["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "full", str(tmp_path)]
    done = subprocess.run(words, check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "filler").write_bytes(bytes(2**21))
        assert room(tmp_path).free == 0
        (found,) = spill(Wanted("mine", "local", {"local_directory": str(tmp_path)}))
    finally:
        subprocess.run(["/bin/umount", tmp_path], check=True)
    assert found.level == "FIX"
    assert "full" in found.found


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    (found,) = spill(Wanted("mine", "local", {"local_directory": str(tmp_path / "no")}))
    assert (found.level, found.remedy) == ("FIX", f"mkdir -p {tmp_path / 'no'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (found,) = judge(tmp_path, spills=False)
    assert found.level == "FIX"


@pytest.mark.parametrize("where", ["$SLURM_TMPDIR", "${SLURM_TMPDIR:-/tmp}", "$TMP_OF_JOB/x"])
def test_a_place_known_only_in_a_job(where: str) -> None:
    (found,) = spill(Wanted("mine", "slurm", {"local_directory": where}), environment={"TMP": "/x"})
    assert found.level == "OK"
    assert "canary" in found.found


def test_variables_in_a_place(tmp_path: Path) -> None:
    wanted = Wanted("mine", "local", {"local_directory": "${HERE}/a/$WHO"})
    (tmp_path / "a" / "me").mkdir(parents=True)
    (found,) = spill(wanted, environment={"HERE": str(tmp_path), "WHO": "me", "WH": "not this"})
    assert (found.level, f"{tmp_path}/a/me" in found.found) == ("OK", True)


def test_another_hosts_disk_is_not_judged_from_here(planted: dict[str, object], tmp_path: Path) -> None:
    planted["room"] = Room(0, GIGABYTE, 10**6, 10**6)
    wanted = Wanted("mine", "slurm", {"local_directory": str(tmp_path)})
    assert [one.level for one in spill(wanted)] == ["WARN"]
    planted["mount"] = Mount("nfs4", "/")  # the same everywhere
    assert [one.level for one in spill(wanted)] == ["FIX"]
    gone = Wanted("mine", "slurm", {"local_directory": str(tmp_path / "of-the-node")})
    assert [one.level for one in spill(gone)] == ["OK"]


def test_whether_workers_spill() -> None:
    assert not spills(Wanted.of("local"))
    assert spills(Wanted("mine", "local", settings=SPILLING))


def test_where_the_place_is_named() -> None:
    assert place(Wanted("a", "local", {"local_directory": "/x"})) == ("local_directory", "/x")
    assert place(Wanted("b", "local", settings={"temporary-directory": "/y"})) == ("temporary-directory", "/y")
    assert place(Wanted("c", "local"))[0] == "the default"
