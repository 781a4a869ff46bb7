"""Why a worker of a SLURM cluster has not come, from squeue's words and the logs of its jobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lensflow.engine.doctor.waiting import last_words, late, over
from lensflow.engine.journal import Log
from lensflow.engine.site.ask import Answer

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "tls://10.0.0.1:40001"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lensflow-cluster-20261121-ab12" / "logs").mkdir(parents=True)
    return tmp_path / "lensflow-cluster-20261121-ab12"


@pytest.mark.parametrize(
    ("listed", "level", "words"),
    [
        ("7|PENDING|Priority|\n", "WARN", "its job 7 waits (Priority)"),
        ("7_0|PENDING|AssocMaxJobsLimit|\n", "WARN", "its job 7_0 waits"),
        ("7|PENDING|PartitionTimeLimit|\n", "FIX", "(PartitionTimeLimit)"),
        ("7|PENDING|Resources|\n8|RUNNING|None|n1\n", "FIX", f"is running on n1 and not heard of at {ADDRESS}"),
        ("", "FIX", "its job has ended"),
    ],
)
def test_what_squeue_says(folder: Path, listed: str, level: str, words: str) -> None:
    asked: list[tuple[str, ...]] = []

    def ask(*given: str, **_: object) -> Answer:
        asked.append(given)
        return Answer(listed)

    found = late(folder, ADDRESS, "no worker came up within 60 s", ask)
    assert found.level == level
    assert words in found.found
    assert found.found.startswith("no worker came up within 60 s")
    assert found.remedy
    assert "--name=lensflow-20261121-ab12" in asked[0]


def test_squeue_that_does_not_answer(folder: Path) -> None:
    found = late(folder, ADDRESS, "no worker", lambda *_, **__: Answer(problem="squeue gave no answer within 15 s"))
    assert (found.level, found.found) == ("FIX", "no worker, and squeue gave no answer within 15 s")


def test_the_last_words_of_the_newest_log(folder: Path) -> None:
    assert last_words(folder) == ""
    for name, text, age in (
        ("1.log", "old\n", 100),
        ("2.log", "x" * 9000 + "\nno module lensflow\n\n", 50),
        ("3.log", "", 0),
    ):
        path = folder / "logs" / name
        path.write_text(text)
        os.utime(path, (1e9 - age, 1e9 - age))
    assert last_words(folder) == "; its log ends: no module lensflow"
    found = late(folder, ADDRESS, "no worker", lambda *_, **__: Answer(""))
    assert found.found == "no worker; its job has ended; its log ends: no module lensflow"


def test_what_the_last_words_probably_mean(folder: Path) -> None:
    (folder / "logs" / "1.log").write_text("lensflow: nobody answers at 10.0.0.1:4001 from n1 (timed out)\n")
    found = late(folder, ADDRESS, "no worker", lambda *_, **__: Answer(""))
    assert "(timed out); likely cause: a firewall" in found.found


def test_a_worker_whose_job_has_ended_is_not_waited_for(folder: Path) -> None:
    assert not over(folder)
    with Log(folder / "jobs.jsonl") as log:
        for event in ("submitted", "running"):
            log.append(event, job="7_0")
            assert not over(folder)
        log.append("gone", job="7_0", reason="FAILED")
    assert over(folder)
