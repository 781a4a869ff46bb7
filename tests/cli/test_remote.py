"""``status``, ``logs`` and ``cancel`` where there is only a run directory to look at."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

import lensflow as lf
from lensflow.cli import main, remote
from lensflow.engine import outputs
from lensflow.engine.identity import Identity
from lensflow.engine.journal import Log
from lensflow.engine.lock import Lock
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.submission import Submission

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory.of(tmp_path / "o.zarr")
    (found.path / "logs").mkdir(parents=True)
    found.write(Identity("g", "", {}, "1", "geo", {}), source=None, plan={}, blocks=2, grids=[])
    with Log(found.journal) as log:
        log.append("session", host="node1", pid=41, dashboard="http://127.0.0.1:8787/status")
        log.append("done", block="a[0]")
    return found


def test_logs_show_the_driver_first_and_the_last_lines(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(directory.out)
    assert main(["logs", out]) == 1
    assert "nothing was printed yet" in capsys.readouterr().err
    (directory.path / "logs" / "driver.log").write_text("a warning\n")
    (directory.path / "logs" / "driver.out").write_text("".join(f"line {number}\n" for number in range(100_000)))
    (directory.path / "logs" / "empty").touch()
    assert main(["logs", out, "-n", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown == "==> driver.out\nline 99998\nline 99999\n==> driver.log\na warning\n"
    assert main(["logs", out, "driver.log"]) == 0
    assert capsys.readouterr().out == "a warning\n"
    assert main(["logs", out, "driver.loq"]) == 2
    assert "driver.out, driver.log" in capsys.readouterr().err


def test_a_log_is_followed_while_its_run_goes_on(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "POLL", 0.01)
    printed = directory.path / "logs" / "driver.out"
    printed.write_text("begun\n")

    def drive() -> None:
        with Lock(directory.lock), printed.open("a") as file:
            began.set()
            for word in ("one", "two"):
                time.sleep(0.05)
                file.write(f"{word}\n")
                file.flush()

    began = threading.Event()
    driver = threading.Thread(target=drive)
    driver.start()
    began.wait()
    assert main(["logs", str(directory.out), "-f"]) == 0
    driver.join()
    assert capsys.readouterr().out == "begun\none\ntwo\n"


def test_status_is_watched_until_the_run_ends(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "EVERY", 0.01)
    monkeypatch.setattr(remote, "SHARE", 0)
    began = threading.Event()

    def drive() -> None:
        with Lock(directory.lock), Log(directory.journal) as log:
            began.set()
            time.sleep(0.3)
            log.append("done", block="a[1]")
            time.sleep(0.3)
            log.append("end", outcome="done", seconds=1.0)

    driver = threading.Thread(target=drive)
    driver.start()
    began.wait()
    assert main(["status", str(directory.out), "--watch"]) == 0
    driver.join()
    first, *_, last = capsys.readouterr().out.splitlines()
    assert "running, 1 of 2 blocks" in first
    assert "done, 2 of 2 blocks" in last


def test_a_driver_on_another_host_is_believed_for_a_while(directory: RunDirectory) -> None:
    sent = Submission("a", "background", time.time(), "ann", "elsewhere", "elsewhere", (), 0, 1, pid=1, started=1.0)
    sent.write(directory)
    status = lf.open_run(directory.out).status
    assert (status.standing, status.driver) == ("starting", "process 1 on elsewhere")
    old = Submission(
        "a", "background", time.time() - 1e4, "ann", "elsewhere", "elsewhere", (), 0, 1, pid=1, started=1.0
    )
    old.write(directory)
    assert lf.open_run(directory.out).status.standing == "died"


def test_a_run_of_this_folder_that_has_not_begun_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory.of(tmp_path / "p.zarr")
    directory.path.mkdir()
    Submission("a", "background", time.time(), "ann", os.uname().nodename, "", (), 0, 0, pid=2**22, started=1.0).write(
        directory
    )
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 0
    assert "p.zarr: failed, its driver (process 4194304 on" in capsys.readouterr().out
    assert main(["cancel", "p.zarr"]) == 0
    assert "no driver is at work" in capsys.readouterr().out
    assert main(["why", "p.zarr"]) == 0
    assert "ended before the run began" in capsys.readouterr().out
    assert main(["resume", "p.zarr"]) == 1
    assert "no lensflow run here" in capsys.readouterr().err
