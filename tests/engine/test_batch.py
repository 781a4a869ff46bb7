"""The driver's own job: what is asked of SLURM, what its answers mean, and the way to a dashboard on a node."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import pytest

from lensflow.engine import accounting, batch, jobs, submit, tunnel, workjobs
from lensflow.engine.cancel import cancel
from lensflow.engine.journal import Log
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.runs import open_run
from lensflow.engine.submission import Submission
from lensflow.engine.why import explain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that tests write, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def command(folder: Path, name: str, *lines: str) -> None:
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)


def test_a_job_is_looked_at(slurm: Path) -> None:
    command(slurm, "squeue", 'echo "12|PENDING|1:00:00||Resources"')
    found = batch.look("12")
    assert found is not None
    assert (str(found), found.left, found.over) == ("pending (Resources)", 3600.0, False)
    command(slurm, "squeue", 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    gone = batch.look("12")
    assert gone is not None
    assert gone.over


def test_where_a_driver_goes_is_said_by_the_profile(tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    settings = jobs.settings(cluster=str(profile))
    profile.write_text("lensflow: {cluster: {class: distributed.LocalCluster}}")
    assert submit.for_slurm(settings) is None
    assert submit.for_slurm(jobs.settings(cluster="tcp://a:1")) is None
    profile.write_text(
        "lensflow: {cluster: {class: some.SlurmCluster,"
        " options: {queue: long, account: sky, job_script_prologue: [module load python]}}}"
    )
    options, prologue = submit.for_slurm(settings) or ([], [])
    assert prologue == ["module load python"]
    place = {"--partition=long", "--account=sky"}
    assert {*place, "--time=1-00:00:00", "--mem=4096M", "--ntasks-per-node=1", "--cpus-per-task=1"} == set(options)
    profile.write_text(
        "lensflow: {cluster: {class: distributed.LocalCluster},"
        " driver: {partition: short, walltime: 2, cores: 3, memory: 512MiB, directives: [--qos=x]}}"
    )
    options, prologue = submit.for_slurm(settings) or ([], [])
    assert {"--partition=short", "--time=2", "--cpus-per-task=3", "--mem=512M", "--qos=x"} < set(options)
    assert prologue == []


def test_a_driver_whose_workers_are_in_its_job_gets_one_of_their_size(tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text(
        "lensflow: {cluster: {class: some.SlurmPilot, options: {nodes: 3, cores: 8, memory: 16GiB,"
        " walltime: '04:00:00', job_extra_directives: [--qos=x]}}}"
    )
    chosen = jobs.settings(cluster=str(profile), cluster_option=("nodes=5",))
    expected = ["--time=04:00:00", "--nodes=5", "--mem=16384M", "--ntasks-per-node=1", "--cpus-per-task=8", "--qos=x"]
    assert submit.for_slurm(chosen) == (expected, [])


@pytest.mark.parametrize(
    ("link", "login", "command"),
    [
        ("http://127.0.0.1:8787/status", None, "ssh -N -L 8787:127.0.0.1:8787 ann@node"),
        ("http://127.0.0.1:8787/status", "node", "ssh -N -L 8787:127.0.0.1:8787 ann@node"),
        ("http://127.0.0.1:8787/status", "gate", "ssh -N -L 8787:127.0.0.1:8787 -J ann@gate ann@node"),
        ("http://localhost:1/status", "gate", "ssh -N -L 1:localhost:1 -J ann@gate ann@node"),
        ("http://10.0.0.7:8787/status", "gate", "ssh -N -L 8787:10.0.0.7:8787 ann@gate"),
        ("/user/ann/proxy/8787/status", None, None),
        ("https://hub.org/user/ann/proxy/8787/status", None, None),
    ],
)
def test_the_way_to_a_dashboard(link: str, login: str | None, command: str | None) -> None:
    assert tunnel.tunnel(link, user="ann", machine="node", login=login) == command


SACCT = """\
77|TIMEOUT|0:0||n1
77.batch|CANCELLED|0:15|1572864K|n1
77.extern|COMPLETED|0:0|0|n1
78_1|OUT_OF_MEMORY|0:125||n2
78_1.0|FAILED|137:0|2.50G|n2
79|CANCELLED by 0|0:0||None assigned
"""


def test_accounting_is_read() -> None:
    found = accounting.parsed(SACCT)
    assert [str(one) for one in found.values()] == [
        "SLURM says of job 77 on n1: TIMEOUT, peak memory 1.5 GiB",
        "SLURM says of job 78_1 on n2: OUT_OF_MEMORY, signal 125, peak memory 2.5 GiB",
        "SLURM says of job 79: CANCELLED by 0",
    ]
    assert accounting.parsed("no|such\n\nslurm_persist_conn_open: failed\n") == {}


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """A run whose workers were jobs: some have ended, two are left."""
    ends = {"77": "TIMEOUT", "80": "NODE_FAIL", "81": "NODE_FAIL", "82": "the cluster is closed"}
    folder = tmp_path / "lensflow-cluster-a"
    folder.mkdir()
    (folder / "cluster.json").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    with Log(folder / "jobs.jsonl") as log:
        for job in [*ends, "83", "84_1"]:
            log.append("submitted", job=job)
        for job, reason in ends.items():
            log.append("gone", job=job, reason=reason)
    found = RunDirectory.of(tmp_path / "o.zarr")
    client = MagicMock(get_metadata=lambda *_, **__: {"folder": str(folder)})
    workjobs.remember(found, client)  # there is no run directory yet
    found.path.mkdir()
    assert workjobs.clusters(found) == []
    for _ in range(2):
        workjobs.remember(found, client)
    assert workjobs.clusters(found) == [workjobs.Cluster(folder, own=True)]
    return found


def test_jobs_of_workers_that_ended_early_are_told(slurm: Path, directory: RunDirectory) -> None:
    command(slurm, "sacct", f"cat <<END\n{SACCT}END")
    first = " SLURM says of job 77 on n1: TIMEOUT, peak memory 1.5 GiB."
    assert workjobs.lost(directory) == f"{first} 2 jobs of its workers ended: NODE_FAIL."
    command(slurm, "sacct", "exit 1")
    assert "SLURM says" not in workjobs.lost(directory)


def test_a_failure_that_names_its_workers_job_is_joined_with_accounting(slurm: Path) -> None:
    command(slurm, "sacct", f"cat <<END\n{SACCT}END")
    tried = {
        "message": "lost on its way: its worker's job 77 ended (TIMEOUT)",
        "words": ["its worker's job 78_1 ended"],
    }
    told = workjobs.accounts([tried], {"message": "process 79 died"})
    assert told.startswith(
        " SLURM says of job 77 on n1: TIMEOUT, peak memory 1.5 GiB. SLURM says of job 78_1 on n2: OUT_"
    )
    assert "79" not in told
    assert workjobs.accounts({"message": "no job"}) == ""


def test_jobs_that_wait_are_told_with_slurms_reason(slurm: Path, directory: RunDirectory) -> None:
    command(slurm, "squeue", 'echo "83|RUNNING|1:00:00|n1|None"; echo "84_1|PENDING|1:00:00||QOSMaxCpuPerUserLimit"')
    assert workjobs.waiting(directory) == ("1 job pending (QOSMaxCpuPerUserLimit)", "1 job running")
    command(slurm, "squeue", "exit 1")
    assert workjobs.waiting(directory) == ("SLURM does not answer; 2 jobs by the record",)


def test_jobs_that_a_dead_driver_left_are_cancelled(slurm: Path, directory: RunDirectory, tmp_path: Path) -> None:
    command(slurm, "squeue", 'echo "83|RUNNING|1:00:00|n1|None"; echo "84_1|CANCELLED|1:00:00||None"')
    command(slurm, "scancel", f'echo "$@" > {tmp_path}/cancelled')
    assert "what it had left in SLURM is cancelled: 83." in cancel(directory)
    assert (tmp_path / "cancelled").read_text() == "83\n"


def test_jobs_of_a_cluster_that_was_only_joined_are_let_be(
    slurm: Path, directory: RunDirectory, tmp_path: Path
) -> None:
    command(slurm, "scancel", f"touch {tmp_path}/cancelled")
    kept = directory.path / "clusters.jsonl"
    kept.write_text(kept.read_text().replace('"own": true', '"own": false'))
    assert workjobs.cancel_left(directory) == []
    assert not (tmp_path / "cancelled").exists()


def test_a_run_without_jobs_asks_nobody(tmp_path: Path, slurm: Path) -> None:
    for name in ("squeue", "sacct", "scancel"):
        command(slurm, name, f"touch {tmp_path}/asked")
    directory = RunDirectory.of(tmp_path / "p.zarr")
    directory.path.mkdir()
    assert (workjobs.lost(directory), workjobs.waiting(directory), workjobs.cancel_left(directory)) == ("", (), [])
    assert not (tmp_path / "asked").exists()


def test_a_driver_on_a_node_that_does_not_answer_is_ended_by_slurm(
    slurm: Path, directory: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensflow.engine.cancel.ANSWER", 0.1)
    monkeypatch.setattr("lensflow.engine.cancel.LEAVE", 0.1)
    holder = {"token": "x", "host": "n7", "pid": 5, "started": 1.0, "since": "today"}
    directory.lock.write_text(json.dumps(holder))
    assert cancel(directory, now=True) == "the driver (process 5 on n7) does not answer: end process 5 on n7."
    sent = Submission("a", "slurm", 1.0, "ann", "gate", "gate", (), 0, 0, job="12", after="11")
    sent.write(directory)
    command(
        slurm,
        "squeue",
        'case "$*" in *83*) echo "83|RUNNING|1:00:00|n1|None";; *11*) echo "11|RUNNING|1:00:00|n7|None";;',
        '*12*) echo "12|PENDING|1:00:00||Dependency";; esac',
    )
    command(slurm, "scancel", f'echo "$@" >> {tmp_path}/cancelled')
    said = cancel(directory, now=True)
    assert "its SLURM job 11 is cancelled; what it had left in SLURM is cancelled: 83" in said
    assert "SLURM job 12, which was to go on with it, is cancelled" in said
    assert (tmp_path / "cancelled").read_text().split() == ["11", "83", "12"]


def test_a_driver_that_waits_in_the_queue_is_cancelled_there(slurm: Path, tmp_path: Path) -> None:
    directory = RunDirectory.of(tmp_path / "p.zarr")
    directory.path.mkdir()
    Submission("a", "slurm", 1.0, "ann", "gate", "gate", (), 0, 0, job="12").write(directory)
    command(slurm, "squeue", 'echo "12|PENDING|1:00:00||Priority"')
    command(slurm, "scancel", f'echo "$@" > {tmp_path}/cancelled')
    status = open_run(directory.out).status
    assert (status.standing, status.driver) == ("starting", "SLURM job 12, pending (Priority)")
    assert cancel(directory) == "the driver (SLURM job 12) had not begun and is cancelled."
    assert (tmp_path / "cancelled").read_text() == "12\n"
    command(slurm, "squeue", 'echo "12|CANCELLED|1:00:00||None"')
    assert open_run(directory.out).status.standing == "failed"
    assert "SLURM says of job 12: CANCELLED" in explain(directory)[0].paragraph
