"""Play a scenario: disturb a run, resume it until it is complete, and hold what came of it against the truth."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow.cli import main
from lensflow.errors import LensflowError

from .process import WAIT, Stuck, wait_until
from .stage import BANDS, FAREWELL, WORKERS, Stage, block

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from .scenario import Scenario

RESUMES = 3  # one is enough where nothing else happens
HALOS = 2  # bands outside a window that its blocks reach into


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario; the number of problems says whether it is as it should be."""

    scenario: str
    seed: int
    identical: bool
    redone: int
    in_flight: int
    innocents: int
    guilty_found: bool | None
    seconds: float
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """An undisturbed run, and its store's files as they should come out."""

    out: Path
    files: dict[str, bytes]


def make_reference(folder: Path, client: Client) -> Reference:
    """Run once, undisturbed."""
    with Stage(folder, 0, client.scheduler.address) as stage:
        stage.expect(stage.submit().wait(), 0)
        once = Counter(range(BANDS))
        if stage.problems or stage.counted("reads") != once or stage.counted("blocks") != once:
            raise Stuck(f"an undisturbed run reads or begins some bands not once: {stage.problems}")
        return Reference(stage.out, contents(stage.out))


def contents(store: Path) -> dict[str, bytes]:
    """Return the bytes of a store's files; of its metadata all but the argument ``log``: each run has its own."""
    found = {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    root = json.loads(found.get("zarr.json", b"{}"))
    root.get("attributes", {}).get("lensflow", {}).get("arguments", {}).pop("log", None)
    return {**found, "zarr.json": json.dumps(root).encode()}


def play(scenario: Scenario, folder: Path, *, seed: int, client: Client, reference: Reference) -> Outcome:
    """Play a scenario in a folder of its own and return what came of it.

    ``client`` is of a cluster that outlives it, where those commands run that nobody means to kill.
    """
    client.cluster.scale(WORKERS)  # a worker that dies while it starts is not started again by its nanny
    client.wait_for_workers(WORKERS, timeout=WAIT)
    begun = time.monotonic()
    with Stage(folder, seed, client.scheduler.address) as stage:
        if scenario.finished:
            _copy(reference, stage)
        found: bool | None = None
        try:
            scenario.act(stage)
            found = _judged(stage)
            _complete(stage)
            _hold(stage)
        except (Stuck, LensflowError) as error:
            stage.problems.append(str(error))
        identical = contents(stage.out) == reference.files
        if not identical:
            stage.problems.append(f"the store differs: {_differing(stage, reference)}")
        return Outcome(
            scenario.name,
            seed,
            identical=identical,
            redone=_redone(stage),
            in_flight=stage.in_flight,
            innocents=len({one["block"] for one in stage.entries("quarantined")} - {stage.guilty}),
            guilty_found=found,
            seconds=round(time.monotonic() - begun, 2),
            problems=tuple(stage.problems),
        )


def _copy(reference: Reference, stage: Stage) -> None:
    """Give a stage the undisturbed run, as if it had been made there; its log stays where it is."""
    for path in (reference.out, reference.out.with_name(reference.out.name + ".run")):
        shutil.copytree(path, stage.folder / path.name)
    stage.log = reference.out.parent / "log"
    stage.copied = True
    stage.remember()


def _judged(stage: Stage) -> bool | None:
    """Whether the guilty block, and it alone, was given up; None where no block is guilty."""
    if stage.guilty is None:
        return None
    given_up = {one["block"] for one in stage.entries("quarantined")}
    if given_up != {stage.guilty}:
        stage.problems.append(f"guilty is {stage.guilty}, quarantined were {sorted(given_up)}")
    return stage.guilty in given_up


def _complete(stage: Stage) -> None:
    """Heal what is poisoned and resume until nothing is left to do."""
    (stage.log / "poison.json").unlink(missing_ok=True)
    stage.release()
    for _ in range(RESUMES):
        if _settled(stage):
            return
        if not (stage.run_folder / "run.json").exists():  # it died before it had said what it is
            stage.expect(stage.submit().wait(), 0)
        elif stage.run().status.quarantined:
            stage.expect(stage.resume("--failed-only").wait(), 0)
        else:
            stage.expect(stage.resume().wait(), 0)
    stage.problems.append(f"not complete after {RESUMES} resumes: {stage.run().status}")


def _settled(stage: Stage) -> bool:
    """Whether every block is done, and the last driver has lived to say so."""
    try:
        run = stage.run()
    except LensflowError:
        return False
    sessions = run.directory.state().sessions
    return run.status.standing == "done" and bool(sessions) and "ended" in sessions[-1]


def _hold(stage: Stage) -> None:
    """Hold journal, store and work done against what they should be."""
    with redirect_stdout(io.StringIO()) as said:
        code = main(["verify", str(stage.out)])
    if code != 0:
        stage.problems.append(f"verify ends with {code}: {said.getvalue()[-500:]!r}")
    excused = stage.named | {stage.guilty}
    written = Counter(one["block"] for one in stage.entries("done"))
    wrong = {f"{name} {written[name]}" for name in map(block, range(BANDS)) if written[name] != 1}
    if extra := {one for one in wrong if one.split()[0] not in excused}:
        stage.problems.append(f"blocks journalled more or less often than once: {sorted(extra)}")
    if _redone(stage) > stage.in_flight:
        stage.problems.append(f"{_redone(stage)} blocks done again, {stage.in_flight} were in flight")
    again = _again(stage, "reads")
    bound = stage.in_flight + HALOS * max(stage.deaths, 1) + (HALOS + 1) * len(stage.named | ({stage.guilty} - {None}))
    if len(again) > bound:
        stage.problems.append(f"{len(again)} bands read again, at most {bound} were needed: {sorted(again)}")
    wait_until(lambda: not stage.survivors(), "the processes of the run have ended", FAREWELL)


def _redone(stage: Stage) -> int:
    """Return how many blocks were begun again for no fault of theirs."""
    excused = stage.named | {stage.guilty}
    return sum(block(band) not in excused for band in _again(stage, "blocks"))


def _again(stage: Stage, name: str) -> set[int]:
    least = 1 if stage.copied else 2
    return {band for band, count in stage.counted(name).items() if count >= least}


def _differing(stage: Stage, reference: Reference) -> list[str]:
    found = contents(stage.out)
    names = found.keys() | reference.files.keys()
    return sorted(one for one in names if found.get(one) != reference.files.get(one))[:10]
