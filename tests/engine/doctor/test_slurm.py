"""SLURM's own words, recorded, against profiles with a fault each."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lensflow.engine.doctor.slurm import idle, slurm
from lensflow.engine.doctor.wanted import Wanted
from lensflow.engine.site.ask import Answer, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from lensflow.engine.doctor.finding import Finding

RECORDED = Path(__file__).with_name("recorded")
FILES = {
    "partition": "partitions.txt",
    "node": "nodes.txt",
    "config": "config.txt",
    "associations": "associations.txt",
    "user": "default_account.txt",
}


def recorded(*, refused: str = "", **changes: Answer) -> Callable[..., Answer]:
    """Return an `ask` that gives recorded answers; some changed, sbatch refusing with a message."""

    def asked(*words: str, **_: object) -> Answer:
        if words[0] in changes:
            return changes[words[0]]
        if words[0] == "sinfo":
            return Answer("debug*\nshort\nclosed\n")
        if words[0] == "sbatch":
            return Answer(problem=refused)
        return Answer((RECORDED / next(FILES[word] for word in words if word in FILES)).read_text())

    return asked


def profile(**options: Any) -> Wanted:
    good = {"queue": "debug", "cores": 4, "memory": "4GiB", "walltime": "01:00:00", "account": "astro"}
    return Wanted("mine.yaml", "slurm", {**good, **options})


def bad(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.level != "OK"]


def test_a_profile_that_keeps_to_the_limits() -> None:
    found = list(slurm(profile(), recorded()))
    assert not bad(found)
    assert "slurm-wlm" in found[0].found or "22.05.8" in found[0].found
    assert any("--partition=debug --account=astro --time=01:00:00 --mem=4096M" in one.found for one in found)


@pytest.mark.parametrize(
    ("options", "subject", "word", "remedy"),
    [
        ({"queue": "debgu"}, "partition", "Did you mean 'debug'?", "queue: debug"),
        ({"queue": "closed"}, "partition", "closed", "queue: debug"),
        (
            {"queue": "short", "memory": "1GiB"},
            "walltime",
            "01:00:00 is beyond the 00:10:00 of partition short",
            'walltime: "00:10:00"',
        ),
        ({"walltime": "13:00:00"}, "walltime", "of account astro", 'walltime: "12:00:00"'),
        ({"walltime": "2-00:00:00", "account": None}, "walltime", "partition debug", 'walltime: "1-00:00:00"'),
        ({"walltime": "12h"}, "walltime", "'12h' is no time", 'walltime: "12:00:00"'),
        ({"memory": "lots"}, "memory", "'lots' is no size", "memory: 6000MiB"),
        ({"walltime": 3600}, "walltime", "YAML takes", 'walltime: "01:00:00"'),
        ({"memory": "64GiB"}, "memory", "64.0 GiB a job", "memory: 6000MiB"),
        ({"queue": "short", "walltime": "00:05:00"}, "memory", "2.0 GiB", "memory: 2000MiB"),
        ({"cores": 48}, "cores", "48 a job", "cores: 4"),
    ],
)
def test_a_fault_is_found_with_the_line_to_change(
    options: dict[str, Any], subject: str, word: str, remedy: str
) -> None:
    found = bad(list(slurm(profile(**options), recorded())))
    assert [(one.level, one.subject, one.remedy) for one in found] == [("FIX", subject, remedy)]
    assert word in found[0].found


def test_somebody_elses_account() -> None:
    (found,) = bad(list(slurm(profile(account="astros"), recorded())))
    assert (found.level, found.remedy) == ("WARN", "account: astro")  # this SLURM does not insist on accounts
    config = (RECORDED / "config.txt").read_text().replace("Enforce = none", "Enforce = associations,limits")
    insisting = recorded()

    def asked(*words: str, **named: object) -> Answer:
        return Answer(config) if "config" in words else insisting(*words, **named)

    (found,) = bad(list(slurm(profile(account="astros"), asked)))
    assert (found.level, found.remedy) == ("FIX", "account: astro")


def test_a_partition_for_others() -> None:
    shown = (RECORDED / "partitions.txt").read_text().replace("AllowAccounts=ALL", "AllowAccounts=physics", 1)
    plain = recorded()

    def asked(*words: str, **named: object) -> Answer:
        return Answer(shown) if "partition" in words else plain(*words, **named)

    (found,) = bad(list(slurm(profile(), asked)))
    assert (found.level, found.subject, found.remedy) == ("FIX", "partition", "account: physics")


def test_sbatch_has_the_last_word() -> None:
    said = "allocation failure: Requested node configuration is not available"
    (found,) = bad(list(slurm(profile(), recorded(refused=said))))
    assert (found.level, found.subject) == ("FIX", "sbatch")
    assert said in found.found


def test_a_slurm_that_does_not_answer() -> None:
    silent = Answer(problem="sinfo gave no answer within 15 s")
    (found,) = slurm(profile(), recorded(sinfo=silent))
    assert found.level == "FIX"
    assert silent.problem in found.found


def test_no_slurm_here() -> None:
    (found,) = slurm(profile(), recorded(sinfo=Answer(problem="sinfo is not installed here", missing=True)))
    assert found.level == "FIX"
    assert "login node" in found.remedy
    assert not list(idle(recorded(sinfo=Answer(problem="x", missing=True))))
    assert [one.level for one in idle(recorded())] == ["OK"]


def test_no_accounts_kept() -> None:
    nothing = recorded(sacctmgr=Answer(problem="You are not running a supported accounting_storage plugin"))
    (found,) = bad(list(slurm(profile(), nothing)))
    assert (found.level, found.subject) == ("WARN", "account")
    assert not bad(list(slurm(profile(account=None), nothing)))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that makes a shell script which stands in for a command of SLURM."""

    def make(body: str) -> str:
        path = tmp_path / "sinfo"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return path.name

    return make


def test_asking(command: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "17")  # of the job this runs in
    assert ask(command('echo "debug $SLURM_MEM_PER_NODE"')).text == "debug \n"
    assert ask(command("echo first >&2; echo why >&2; exit 3")).problem == "why"
    assert ask("no-such-command-of-slurm").missing


def test_asking_is_bounded(command: Callable[[str], str]) -> None:
    begun = time.monotonic()
    found = ask(command("exec sleep 60"), seconds=0.2)
    assert "no answer" in found.problem
    assert time.monotonic() - begun < 30
