"""The doctor's page as a user sees it, and as a program does."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from lensflow.cli import doctor as command
from lensflow.cli import main
from lensflow.engine.doctor import examination as examine_module
from lensflow.engine.doctor.finding import Finding, fix, ok, warn
from lensflow.engine.doctor.wanted import Kind, Wanted

if TYPE_CHECKING:
    from pathlib import Path

LONG = "ib0 does not exist here or is down; there are lo, eth0, eth1, eth2 and a great many others that nobody named"


def test_a_line_is_aligned_and_keeps_its_remedy_whole() -> None:
    text = str(command.line(fix("interface", LONG, "interface: eth0"), 60))
    lines = text.splitlines()
    assert lines[0].startswith("FIX   interface    ib0 does")
    assert all(line.startswith(" " * command.MARGIN) for line in lines[1:])
    assert max(map(len, lines)) <= 60
    assert lines[-1].strip() == "-> interface: eth0"


def test_a_line_for_a_pipe_is_whole() -> None:
    assert str(command.line(warn("x", LONG, "y"), None)).splitlines()[0].endswith(LONG)
    assert "\n" not in str(command.line(ok("x", LONG), None))


def test_a_healthy_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--out", str(tmp_path), "--no-canary", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"]
    assert {"versions", "threads", "spill place", "output", "room", "clock"} <= {
        one["subject"] for one in found["findings"]
    }


def test_a_fault_decides_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--out", str(tmp_path / "no"), "--no-canary"]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said  # no colour but on a terminal
    assert f"mkdir -p {tmp_path / 'no'}" in said
    assert "1 to fix" in said.splitlines()[-1]


def test_a_profile_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--cluster", "lokal", "--no-canary"]) == 2
    assert "Did you mean 'local'?" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "patience"), [("local", 60.0), ("slurm", 180.0)])
def test_how_long_a_worker_is_waited_for(
    kind: Kind, patience: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def sent(_profile: str, _folder: Path, *, wait: float) -> list[Finding]:
        waits.append(wait)
        return []

    monkeypatch.setattr(examine_module, "send", sent)
    monkeypatch.setattr(examine_module, "_checks", lambda *_, **__: [])
    monkeypatch.setattr(Wanted, "of", lambda name: Wanted(name, kind))
    list(examine_module.examine("mine", tmp_path, wait=None))
    list(examine_module.examine("mine", tmp_path, wait=7))
    assert waits == [patience, 7]


def test_an_output_that_hangs_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(examine_module, "DISK", 0.2)
    real = type(tmp_path).is_dir
    monkeypatch.setattr(type(tmp_path), "is_dir", lambda self: release.wait(60) if self == tmp_path else real(self))
    try:
        found = list(examine_module.examine("local", tmp_path, wait=None))
    finally:
        release.set()
    assert [one.found for one in found if one.subject == "output"] == ["no answer within 200 ms"]
    assert (found[-1].level, found[-1].subject) == ("WARN", "canary")


def test_no_canary_where_its_job_would_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine_module, "send", lambda *_, **__: [ok("canary", "sent")])
    monkeypatch.setattr(examine_module, "slurm", lambda _wanted: [fix("partition", "there is none", "queue: debug")])
    monkeypatch.setattr(Wanted, "of", lambda name: Wanted(name, "slurm"))
    last = list(examine_module.examine("mine", tmp_path, wait=None))[-1]
    assert (last.level, last.subject) == ("WARN", "canary")
    monkeypatch.setattr(examine_module, "slurm", lambda _wanted: [warn("account", "not checked", "look")])
    assert list(examine_module.examine("mine", tmp_path, wait=None))[-1] == ok("canary", "sent")


def test_the_last_line_counts() -> None:
    assert command.summary([ok("a", "b")]) == "1 checks, all in order"
    assert command.summary([ok("a", "b"), warn("a", "b", "c"), fix("a", "b", "c")]) == (
        "1 to fix, 1 to think about, 1 in order"
    )
