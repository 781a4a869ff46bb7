"""What can go wrong before a worker works: each is said in a sentence, and nothing is left behind."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from distributed.security import Security

import lensflow as lf
from lensflow.engine.slurm.certificates import issue
from lensflow.engine.slurm.queue import QueueError
from lensflow.engine.slurm.record import Folder, jobs, pending
from lensflow.engine.slurm.script import job_script
from lensflow.engine.slurm.words import ClusterWords
from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from tests.slurm.conftest import Site

sandbox: Any = sys.modules["slurm_sandbox"]
blocks: Any = sys.modules["slurm_blocks"]
LATER: dict[str, Any] = {"job_extra_directives": ["--begin=now+1hour"]}


def refusal(address: str, *files: str) -> str:
    """Return why a client of another process is refused; a client that failed may not be left lying about in this."""
    code = """
import sys
from distributed import Client
from lensflow.engine.slurm.certificates import security
address, *files = sys.argv[1:]
Client(address, security=security(*files) if files else None, timeout=3)
"""
    done = subprocess.run([sys.executable, "-c", code, address, *files], capture_output=True, text=True, check=False)
    assert done.returncode
    return done.stderr


def heard(client: Client, part: str, seconds: float) -> str:
    """Wait until the cluster says something, and return it."""
    words, said = ClusterWords(client), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said += words.new()
        if found := [one for one in said if part in one]:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"{part!r} was not said within {seconds} s, but {said}")


@pytest.mark.parametrize(
    ("options", "message", "line"),
    [
        ({"queue": "nope"}, "invalid partition specified: nope", "queue"),
        ({"memory": "999GiB"}, "Memory specification can not be satisfied", "memory"),
        ({"job_extra_directives": ["--nonsense"]}, "unrecognized option", "job_extra_directives"),
    ],
)
def test_a_refused_job_is_told_in_slurms_words_with_the_line_to_change(
    site: Site, options: dict[str, Any], message: str, line: str
) -> None:
    with pytest.raises(QueueError, match=f"{message}.*the profile's line to change is {line}"), site.cluster(**options):
        pass
    assert site.folders == []


def test_fifty_jobs_are_one_sbatch_and_why_they_wait_is_told(site: Site) -> None:
    with site.cluster(jobs=50, maximum_jobs=50, **LATER) as client:
        assert heard(client, "BeginTime", 20) == "50 jobs wait in SLURM's queue: BeginTime"
        (folder,) = site.folders
        known = jobs(folder)
        assert len(known) == 50
        assert len({job.partition("_")[0] for job in known}) == 1
        assert set(pending(folder).values()) == {"BeginTime"}
    assert {state.phase for state in jobs(folder).values()} == {"gone"}


def test_workers_that_cannot_reach_the_scheduler_are_told_of(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_: str, *more: Any) -> str:
        return job_script("tls://127.0.0.1:9", *more)

    monkeypatch.setattr("lensflow.engine.slurm.cluster.job_script", wrong)
    with site.cluster() as client:
        said = heard(client, "nobody answers at 127.0.0.1:9", 60)
    assert "likely cause: a firewall, or the profile's interface" in said
    assert "its log is" in said


def test_a_dead_drivers_jobs_are_swept_up_by_the_next_cluster(site: Site) -> None:
    code = f"""
import sys, time, lensflow as lf
with lf.cluster("slurm", **{ {**site.options, **LATER}!r}):
    print("up", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "up\n"
        driver.send_signal(signal.SIGKILL)
    (folder,) = site.folders
    assert len(sandbox.queued()) == 2
    assert (folder / "tls" / "key.pem").exists()
    with site.cluster(jobs=0):
        assert not (folder / "tls").exists()
        assert sandbox.queued() == []


def test_only_who_has_the_certificates_can_talk_to_a_cluster(site: Site, tmp_path: Path) -> None:
    with site.cluster(jobs=1) as client:
        client.wait_for_workers(1, timeout=60)
        (folder,) = site.folders
        for path in (folder / "tls").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        address = client.scheduler.address
        strange = issue(Folder(tmp_path), 1)
        assert "certificate does not match" in refusal(address, strange.tls_client_cert, strange.tls_client_key)
        assert "TLS expects" in refusal(address)
        assert "Connection" in refusal(address.replace("tls://", "tcp://"))
        for name in (folder, folder / "scheduler.json"):  # who sees the folder may join
            with lf.cluster(name) as other:
                assert other.submit(sum, [1, 2]).result() == 3
        key = (folder / "tls" / "key.pem").read_text().splitlines()[1]
        everywhere = [one for one in folder.rglob("*") if one.is_file() and one.name != "key.pem"]
        assert not [one for one in everywhere if key in one.read_text()]
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
        for host in client.run(blocks.listening).values():
            assert set(host) == {"127.0.0.1"}
        assert set(client.run_on_scheduler(blocks.listening)) == {"127.0.0.1"}


def test_security_is_not_off_by_accident(site: Site) -> None:
    options = {**site.options, "interface": None, "security": False}
    with pytest.raises(BadOption, match="anybody could run code as you"), lf.cluster("slurm", **options):
        pass
    with pytest.raises(BadInput, match="no scheduler file"), lf.cluster(site.shared):
        pass


def test_security_that_is_off_on_loopback(site: Site) -> None:
    with site.cluster(security=False, jobs=0) as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        assert Security().require_encryption is False
