"""Every failure is told in a paragraph, whatever the run directory still knows of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lensflow.cli import main
from lensflow.engine.identity import Identity
from lensflow.engine.journal import Log
from lensflow.engine.lock import Lock
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.why import explain
from lensflow.errors import UnknownName

if TYPE_CHECKING:
    from pathlib import Path

GRIDS = [{"label": "2246/flux", "dims": ["y", "x"], "numblocks": [4, 2]}]
ALONE = {
    "cause": "killed",
    "exception": "Isolated",
    "message": "run alone, the block ended its process (signal 11, SIGSEGV)",
    "where": "alone on node7",
    "words": ["Fatal Python error: Segmentation fault", '  File "mine.py", line 7 in make'],
    "memory": {"used": None, "limit": 2**30},
    "tried": [
        {"t": 1.0, "how": "worker", "cause": "killed", "exception": "KilledWorker", "message": "died", "where": "tcp://a:1"},
        {"t": 2.0, "how": "alone", "cause": "killed", "exception": "Isolated", "message": "ended", "where": "alone"},
    ],
    "attempts": 2,
    "traceback": "",
}  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory.of(tmp_path / "o.zarr")
    found.path.mkdir()
    found.write(Identity("g", "", {}, "1", "geo", {}), source=None, plan={}, blocks=8, grids=GRIDS)
    return found


def journal(directory: RunDirectory, *entries: tuple[str, dict[str, Any]]) -> None:
    with Log(directory.journal) as log:
        for event, fields in entries:
            log.append(event, **fields)


SESSION = ("session", {"host": "node1", "pid": 41})
END = ("end", {"outcome": "quarantined", "seconds": 1.0})


def test_a_block_that_killed_its_process(directory: RunDirectory) -> None:
    done = [("done", {"block": f"2246/flux[{y},{x}]"}) for y in range(4) for x in range(2) if (y, x) != (3, 1)]
    journal(directory, SESSION, *done, ("quarantined", {"block": "2246/flux[3,1]", **ALONE}), END)
    (found,) = explain(directory)
    for told in (
        "Block 2246/flux[3,1] was given up",
        "killed its process: run alone, the block ended its process (signal 11, SIGSEGV) (Isolated, alone on node7)",
        "The limit was 1.0 GiB",
        "Before, it was tried on a worker (tcp://a:1): died (KilledWorker).",
        f"run `lensflow resume {directory.out} --failed-only`",
    ):
        assert told in found.paragraph
    assert 'File "mine.py", line 7 in make' in str(found)


@pytest.mark.parametrize(("cause", "word"), [("memory", "--memory x2"), ("time", "--timeout SECONDS")])
def test_what_to_do_depends_on_the_cause(directory: RunDirectory, cause: str, word: str) -> None:
    journal(directory, SESSION, ("quarantined", {"block": "2246/flux[0,0]", **ALONE, "cause": cause}), END)
    assert explain(directory, "2246/flux[0,0]")[0].command == f"lensflow resume {directory.out} --failed-only {word}"


def test_a_run_whose_driver_died(directory: RunDirectory) -> None:
    journal(directory, SESSION, ("done", {"block": "2246/flux[0,0]"}))
    (found,) = explain(directory)
    assert "The driver (process 41 on node1" in found.paragraph
    assert "7 of 8 blocks are to do" in found.paragraph
    assert found.command == f"lensflow resume {directory.out}"


def test_a_run_that_was_stopped_by_the_disk(directory: RunDirectory) -> None:
    journal(directory, SESSION, ("end", {"outcome": "failed", "seconds": 1.0}))
    with Log(directory.events) as events:
        events.append("error", kind="OutputError", message="block a cannot be written (No space left on device)")
    (directory.path / "logs").mkdir()
    (directory.path / "logs" / "driver.log").write_text("first\nlast words\n")
    (found,) = explain(directory)
    assert "with 8 of 8 blocks to do: block a cannot be written (No space left on device)." in found.paragraph
    assert found.words == ("first", "last words")


def test_runs_that_go_on_were_interrupted_never_began_or_are_whole(directory: RunDirectory) -> None:
    assert "No block was begun" in explain(directory)[0].paragraph
    journal(directory, SESSION, ("end", {"outcome": "interrupted", "seconds": 1.0}))
    assert "was interrupted" in explain(directory)[0].paragraph
    with Lock(directory.lock):
        assert f"The run is going on: process {os.getpid()}" in explain(directory)[0].paragraph
    journal(directory, *(("done", {"block": f"2246/flux[{y},{x}]"}) for y in range(4) for x in range(2)))
    assert explain(directory) == []
    assert main(["why", str(directory.out)]) == 0


def test_a_damaged_block(directory: RunDirectory) -> None:
    journal(directory, SESSION, ("damaged", {"block": "2246/flux[1,0]", "reason": "flux is missing"}))
    assert "reading it back has shown that flux is missing." in explain(directory, "2246/flux[1,0]")[0].paragraph


def test_a_block_that_was_written_at_last(directory: RunDirectory) -> None:
    with Log(directory.events) as events:
        for number in range(2):
            retry = {"attempt": number + 1, "exception": "OSError", "message": "stale handle", "where": "tcp://a:1"}
            events.append("retry", block="2246/flux[1,1]", **retry)
    journal(directory, SESSION, ("done", {"block": "2246/flux[1,1]", "attempts": 3, "pid": 9, "host": "node2"}))
    (found,) = explain(directory, "2246/flux[1,1]")
    assert "is written" in found.paragraph
    assert "at attempt 3; before: on a worker (tcp://a:1): stale handle (OSError), 2 times." in found.paragraph
    assert found.command == ""


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("2246/flux[9,0]", r"those of 2246/flux are 2246/flux\[0\.\.3, 0\.\.1\]"),
        ("2246/flux[0]", "no block"),
        ("2246/flx[0,0]", r"Did you mean '2246/flux\[0,0\]'"),
        ("nonsense", "no block 'nonsense'"),
    ],
)
def test_a_block_that_is_not_there(directory: RunDirectory, block: str, said: str) -> None:
    journal(directory, SESSION, ("done", {"block": "2246/flux[0,0]"}))
    with pytest.raises(UnknownName, match=said):
        explain(directory, block)


def test_as_json(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    journal(directory, SESSION, ("quarantined", {"block": "2246/flux[0,0]", **ALONE}), END)
    assert main(["why", str(directory.out), "2246/flux[0,0]", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["block"] == "2246/flux[0,0]"
    assert found["words"] == ALONE["words"]


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([value, None]) if name != "tried" else st.just(value) for name, value in ALONE.items()
    },
)


@given(fields=FIELDS, retry=FIELDS, event=st.sampled_from(["quarantined", "done", "damaged"]))
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_missing_is_in_the_way(
    directory: RunDirectory, fields: dict[str, Any], retry: dict[str, Any], event: str
) -> None:
    for path in (directory.journal, directory.events):
        path.unlink(missing_ok=True)
    with Log(directory.events) as events:
        events.append("retry", block="2246/flux[2,0]", **retry)
    journal(directory, SESSION, (event, {"block": "2246/flux[2,0]", "reason": "gone", **fields}))
    for found in [*explain(directory), *explain(directory, "2246/flux[2,0]")]:
        assert str(found)
        assert "None" not in str(found)
