"""The doctor and a first profile on a real SLURM: nothing to mend where all is well, and each planted fault found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lensflow.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def site(slurm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that changes options of the profile that init writes, and gives its path."""
    assert slurm.folder.is_dir()
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--site", "--json"]) == 0

    def change(**options: Any) -> str:
        found = yaml.safe_load((tmp_path / "sandbox.yaml").read_text())
        small = {"cores": 1, "processes": 1, "memory": "1GiB", "jobs": 1, "shared_folder": str(tmp_path / "clusters")}
        found["lensflow"]["cluster"]["options"] |= small | options
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(found))
        return "mine.yaml"

    return change


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, dict[str, str]]]]:
    """Return a function that asks the doctor, and gives the exit code and the worst finding by subject."""

    def ask(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
        capsys.readouterr()
        code = main(["doctor", "--json", *words])
        found = json.loads(capsys.readouterr().out)["findings"]
        found.sort(key=lambda one: ["OK", "WARN", "FIX"].index(one["level"]))
        return code, {one["subject"]: one for one in found}

    return ask


def left() -> list[str]:
    words = ["/usr/bin/squeue", "--noheader", f"--user={os.geteuid()}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_first_profile_works_as_it_is_written(
    site: Callable[..., str], doctor: Callable[..., Any], tmp_path: Path
) -> None:
    code, found = doctor("--cluster", site(), "--wait", "90")
    assert {one["subject"]: one["found"] for one in found.values() if one["level"] == "FIX"} == {}
    assert code == 0
    assert {"SLURM", "partition", "sbatch", "workers", "canary", "clock", "spill place"} <= found.keys()
    assert "was up in" in found["canary"]["found"]
    assert list(tmp_path.glob("clusters/lensflow-cluster-*")) == []  # a canary that has sung leaves nothing
    assert left() == []


def test_a_wrong_partition(site: Callable[..., str], doctor: Callable[..., Any]) -> None:
    code, found = doctor("--cluster", site(queue="debgu"))
    assert code == 1
    assert found["partition"]["remedy"] == "queue: debug"
    assert found["canary"]["level"] == "WARN"  # not sent


@pytest.mark.parametrize(
    ("prologue", "words"),
    [
        ("echo the node is not well; exit 3", "its log ends: the node is not well"),
        ("echo a firewall stands between; sleep 60", "not heard of at tls://"),
    ],
    ids=["a job that ends", "a port that is blocked"],
)
def test_a_worker_that_does_not_come(
    site: Callable[..., str], doctor: Callable[..., Any], prologue: str, words: str
) -> None:
    code, found = doctor("--cluster", site(job_script_prologue=[prologue]), "--wait", "6")
    assert code == 1
    assert found["canary"]["level"] == "FIX"
    assert words in found["canary"]["found"]
    assert left() == []


@pytest.fixture
def firewall() -> Iterator[str]:
    """Drop what processes of a group send to this machine's own ports; give the line that makes a job one of it."""
    table, group = f"lensflow_{os.getpid()}", 60_000 + os.getpid() % 5_000
    drop = f"meta skgid {group} meta l4proto tcp drop"
    rules = f"table inet {table} {{ chain out {{ type filter hook output priority 0; {drop}; }}; }}"
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if os.geteuid() != 0 or nft is None or subprocess.run([nft, rules], check=False, capture_output=True).returncode:
        pytest.skip("only root can block ports, and with nftables: apt-get install nftables")
    try:
        yield f'[ "$(id -g)" = {group} ] || exec setpriv --regid {group} --clear-groups bash "$0"'
    finally:
        subprocess.run([nft, "delete", "table", "inet", table], check=True)


def test_a_firewall_between_node_and_scheduler(
    site: Callable[..., str], doctor: Callable[..., Any], firewall: str
) -> None:
    code, found = doctor("--cluster", site(job_script_prologue=[firewall]), "--wait", "120")
    assert code == 1
    assert found["canary"]["level"] == "FIX"
    assert not found["canary"]["found"].startswith("no worker came up within 2 min")  # its job had ended long before
    assert re.search(r"nobody answers at [\d.]+:\d+ from \S+ \(timed out\)", found["canary"]["found"])
    assert "likely cause: a firewall" in found["canary"]["found"]
    assert left() == []


NODE = """\
import time
time.time = lambda now=time.time: now() + 90  # what else is to be done to the clock of a node that is this machine
"""


def test_a_node_with_another_clock_and_an_old_dask(
    site: Callable[..., str], doctor: Callable[..., Any], tmp_path: Path
) -> None:
    (node := tmp_path / "node").mkdir()
    (node / "sitecustomize.py").write_text(NODE)
    for name in ("dask", "distributed"):
        (old := node / f"{name}-2025.1.0.dist-info").mkdir()
        (old / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2025.1.0\n")
    code, found = doctor("--cluster", site(job_script_prologue=[f"export PYTHONPATH={node}:$PYTHONPATH"]))
    assert code == 1
    assert {one["subject"] for one in found.values() if one["level"] == "FIX"} == {"clock", "workers"}
    assert re.match(r"this host is (89|9\d) s behind the worker's", found["clock"]["found"])
    assert f"distributed 2025.1.0 on the workers, {version('distributed')} here" in found["workers"]["found"]
    assert left() == []


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "full"
    folder.mkdir()
    words = ["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "full", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small tmpfs")
    try:
        with pytest.raises(OSError, match="No space"):
            (folder / "filler").write_bytes(bytes(2**17))
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


def test_a_full_spill_place(site: Callable[..., str], doctor: Callable[..., Any], full: Path) -> None:
    code, found = doctor("--cluster", site(local_directory=str(full)), "--wait", "10")
    assert code == 1
    assert found["spill place"]["level"] == "FIX"
    assert "full" in found["spill place"]["found"]
    assert found["spill place"]["found"].startswith("on ")  # seen on the node: from here it is only a warning
    assert left() == []
