"""Drivers that go on by themselves: real processes, ended and watched from this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xarray as xr

import lensflow as lf
from lensflow.cli import main
from lensflow.engine import cancel
from lensflow.engine.detach import prepare
from lensflow.engine.lock import Lock
from lensflow.engine.requests import ask_to_stop
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.submission import Submission
from lensflow.engine.why import explain
from lensflow.errors import BadInput, BadOption, RunLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil
    from distributed import Client

GRAPH = Path(__file__).with_name("slow_graph.py")
WAIT = 90.0  # s for anything to happen at all
TERMINAL = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"  # a terminal that hangs up at the end


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """The path of a store; no driver of it outlives the test."""
    (tmp_path / "log" / "blocks").mkdir(parents=True)
    yield tmp_path / "a.zarr"
    if (sent := Submission.read(RunDirectory.of(tmp_path / "a.zarr"))) and (process := sent.process()):
        os.killpg(process.pid, signal.SIGKILL)


def lazy(out: Path, *, bands: int = 12) -> xr.Dataset:
    made = lf.graph(GRAPH)(bands=bands, log=str(out.parent / "log"), seconds=0.01)
    assert isinstance(made, xr.Dataset)
    return made


def hold(out: Path, band: int = 4) -> None:
    """Make blocks from a number on wait."""
    (out.parent / "log" / "hold").write_text(str(band))


def let_go(out: Path) -> None:
    (out.parent / "log" / "hold").unlink()


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, f"{what}: not within {WAIT:.0f} s"
        time.sleep(0.05)


def submitted(out: Path, client: Client, **words: object) -> lf.Run:
    """Send a run off to a driver that uses a cluster there is, and wait until it has written some blocks."""
    run = lf.submit(lazy(out), out, cluster=client.scheduler.address, **words)
    until(lambda: run.status.done >= 2, "two blocks")
    return run


def driver(run: lf.Run) -> psutil.Process:
    sent = Submission.read(run.directory)
    assert sent is not None
    process = sent.process()
    assert process is not None
    return process


def ended(run: lf.Run) -> bool:
    return standing(run) not in {"starting", "running"}


def standing(run: lf.Run) -> str:
    return run.status.standing


def test_a_driver_outlives_the_terminal(out: Path, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    hold(out)
    words = ["submit", str(GRAPH), "--bands=12", f"--log={out.parent / 'log'}", f"--out={out}", "--detach"]
    command = [sys.executable, "-m", "lensflow", *words, f"--cluster={client.scheduler.address}"]
    shown = subprocess.run(
        [sys.executable, "-c", TERMINAL, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout
    run = lf.open_run(out)
    for word in ("run  ", f"process {driver(run).pid} on", "driver.out", "/lensflow", "ssh -N -L", "--watch"):
        assert word in shown
    assert standing(run) == "running"
    assert driver(run).terminal() is None
    let_go(out)
    until(lambda: ended(run), "the end")
    assert standing(run) == "done"
    assert run.verify().clean
    assert main(["logs", str(out), "driver.out", "-f"]) == 0  # until it has said its last word
    assert "a.zarr: done, 12 of 12" in capsys.readouterr().out


def test_a_killed_driver_is_told_and_resumed(out: Path, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    hold(out)
    run = submitted(out, client)
    driver(run).kill()
    until(lambda: ended(run), "the news of its death")
    assert standing(run) == "died"
    assert f"`lensflow resume {out}` goes on" in str(run.status)
    assert "ended without a word" in explain(run.directory)[0].paragraph
    assert "no driver is at work" in run.cancel()
    assert main(["resume", str(out), "--detach", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["driver"] == f"process {driver(run).pid} on {os.uname().nodename}"
    assert told["dashboard"].endswith("/lensflow")
    assert "has ended" in run.cancel(now=True)  # not when the blocks that are held are done
    assert standing(run) == "interrupted"
    let_go(out)
    assert lf.run(lazy(out), out, client=client).verify().clean


def test_a_run_is_cancelled_from_another_process(
    out: Path, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LENSFLOW_BANDS", "3")  # words of the environment do not overrule what is submitted
    monkeypatch.setenv("LENSFLOW_WINDOW", "20")
    hold(out)
    run = submitted(out, client, window=3)
    ask_to_stop(run.directory, "an earlier driver", now=True)  # which this one is not
    assert main(["cancel", str(out), "--json"]) == 0
    assert "finishes the blocks in flight" in json.loads(capsys.readouterr().out)["said"]
    assert "stopping: cancelled by" in str(run.status)
    let_go(out)
    until(lambda: ended(run), "the end")
    status = run.status
    assert (status.standing, status.total) == ("interrupted", 12)
    assert 2 <= status.done < 12
    assert not run.verify().damaged
    assert "cancelled by" in explain(run.directory)[0].paragraph


def test_a_driver_that_hangs_is_ended_by_force(out: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "ANSWER", 0.5)
    monkeypatch.setattr(cancel, "LEAVE", 0.5)
    hold(out)
    run = submitted(out, client)
    driver(run).suspend()
    assert "has not answered yet" in run.cancel()
    assert "ended by force" in run.cancel(now=True)
    until(lambda: ended(run), "its end")
    assert standing(run) == "died"


def test_one_driver_at_a_time_and_it_is_cancelled_before_it_begins(out: Path, client: Client) -> None:
    run = lf.submit(lazy(out), out, cluster=client.scheduler.address)
    assert standing(run) == "starting"
    assert "starting" in str(run.status)
    assert "is about to begin" in explain(run.directory)[0].paragraph
    with pytest.raises(RunLocked, match="is about to begin; wait for it, or stop it"):
        lf.submit(lazy(out), out, cluster=client.scheduler.address)
    assert "had not begun" in run.cancel()
    until(lambda: ended(run), "its end")
    assert standing(run) == "failed"


def test_a_driver_that_fails_before_it_begins_leaves_its_words(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (profile := out.with_name("odd.yaml")).write_text("lensflow: {cluster: {class: nowhere.Cluster}}")
    assert main(["submit", str(GRAPH), "--out", str(out), "--cluster", str(profile), "--detach"]) == 1
    assert "cannot be imported" in capsys.readouterr().out
    run = lf.open_run(out)
    assert standing(run) == "failed"
    assert "driver.out" in str(run.status)
    explained = explain(run.directory)[0]
    assert "ended before the run began" in explained.paragraph
    assert any("cannot be imported" in line for line in explained.words)
    assert "no driver is at work" in run.cancel()


def test_what_cannot_be_made_again_is_not_sent_off(out: Path) -> None:
    with pytest.raises(BadOption, match="made or changed by hand"):
        lf.submit(lazy(out) + 1, out)
    with pytest.raises(BadOption, match="--chain 2: found the profile local"):
        lf.submit(lazy(out), out, chain=2)
    assert not RunDirectory.of(out).path.exists()
    with pytest.raises(BadInput, match="no lensflow run here"):
        lf.open_run(out)
    prepare(RunDirectory.of(out))
    with Lock(RunDirectory.of(out).lock), pytest.raises(RunLocked, match="lensflow cancel"):
        prepare(RunDirectory.of(out))


def test_a_damaged_record_is_no_record(out: Path) -> None:
    directory = RunDirectory.of(out)
    prepare(directory)
    for text in ("", "[]", "{", json.dumps({"id": "a", "unknown": 1})):
        (directory.path / "submission.json").write_text(text)
        assert Submission.read(directory) is None
