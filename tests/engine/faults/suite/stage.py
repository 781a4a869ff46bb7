"""One run in a folder of its own: its commands, its processes, and what they leave behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from lensflow.engine import journal
from lensflow.engine.runs import Run

from .process import MARK, Ended, Running, Stuck, end_survivors, survivors, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[4]
GRAPH = ROOT / "tests" / "engine" / "slow_graph.py"
BANDS, WINDOW, WORKERS = 40, 6, 2
SECONDS = 0.04  # a read and a smoothing take
FAREWELL = 60.0  # s in which the processes of a dead driver end by themselves
JITTER = 0.08  # s: two blocks' worth


@dataclass
class Stage:
    """The place where one scenario is played.

    Parameters
    ----------
    folder, seed
        Where, and what decides the moments and the victims.
    warm
        Address of a cluster that outlives the stage: commands that nobody means to kill start faster there.
    """

    folder: Path
    seed: int
    warm: str
    problems: list[str] = field(default_factory=list)
    named: set[str] = field(default_factory=set)  # blocks that may be written again: damaged on purpose, say
    guilty: str | None = None
    in_flight: int = 0  # blocks that deaths may have cost
    deaths: int = 0
    copied: bool = False  # whether the store was finished before the scenario began
    _started: list[Running] = field(default_factory=list)
    _before: dict[str, Counter[int]] = field(default_factory=dict)
    _undo: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}")
        self.out, self.log = self.folder / "a.zarr", self.folder / "log"
        (self.log / "blocks").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no process and no mount behind."""
        for running in self._started:
            running.signal(signal.SIGKILL)
        end_survivors(self.folder)
        for running in self._started:
            running.process.wait()
        for undo in reversed(self._undo):
            undo()

    def undo(self, act: Callable[[], object]) -> None:
        """Remember what must be done at the end, come what may."""
        self._undo.append(act)

    @property
    def run_folder(self) -> Path:
        """The run directory."""
        return self.out.with_name(self.out.name + ".run")

    def start(self, command: Iterable[str], environment: Mapping[str, str] | None = None) -> Running:
        """Start a command; every process that comes of it is known by a mark in its environment."""
        said = self.folder / f"said-{len(self._started)}"
        path = os.pathsep.join([*filter(None, [(environment or {}).get("PYTHONPATH")]), str(ROOT)])
        surroundings = {**os.environ, **(environment or {}), MARK: str(self.folder), "PYTHONPATH": path}
        with said.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.DEVNULL,
                stderr=err,
                env=surroundings,
                cwd=self.folder,
                start_new_session=True,
            )
        self._started.append(Running(process, said))
        return self._started[-1]

    def submit(
        self, *more: str, local: bool = False, held: bool = False, environment: Mapping[str, str] | None = None
    ) -> Running:
        """Start ``lensflow submit``, on a cluster of its own (``local``) or on the warm one.

        ``held`` makes its last blocks wait, so that it cannot end before it is disturbed.
        """
        if held:
            (self.log / "hold").write_text(str(BANDS - WORKERS), encoding="ascii")
        words = ["submit", str(GRAPH), "--bands", str(BANDS), "--seconds", str(SECONDS), "--log", str(self.log)]
        where = self._where(more, local=local)
        words += ["--out", str(self.out), "--window", str(WINDOW), *where, *more]
        return self.start(["-m", "lensflow", *words], environment)

    def resume(self, *more: str, local: bool = False) -> Running:
        """Start ``lensflow resume``."""
        return self.start(["-m", "lensflow", "resume", str(self.out), *self._where(more, local=local), *more])

    def _where(self, more: tuple[str, ...], *, local: bool) -> list[str]:
        if local:
            return ["--cluster", "local", "--workers", str(WORKERS)]
        return [] if "--cluster" in more else ["--cluster", self.warm]

    def entries(self, event: str, log: str = "journal") -> list[dict[str, Any]]:
        """Return the entries of one kind of the journal, or of another log."""
        return [one for one in journal.read(self.run_folder / f"{log}.jsonl") if one["event"] == event]

    def run(self) -> Run:
        """Return the run as it lies on disk."""
        return Run.open(self.out)

    @contextmanager
    def moment(self, running: Running) -> Iterator[None]:
        """Wait for a random moment of a run at work; its last blocks wait until the ``with`` statement is left."""
        self.reach(self.rng.randrange(1, BANDS - WINDOW), running)
        time.sleep(self.rng.uniform(0, JITTER))
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let the last blocks go."""
        (self.log / "hold").unlink(missing_ok=True)

    def reach(self, wanted: int, running: Running) -> None:
        """Wait until a run at work has done so many blocks."""

        def reached() -> bool:
            if running.process.poll() is not None:
                raise Stuck(f"the run ended before it was disturbed: {running.words()[-300:]!r}")
            return len(self.entries("done")) >= wanted

        wait_until(reached, f"{wanted} blocks done")

    def lose(self) -> None:
        """Count a death: all that was in flight may have to be done again."""
        self.deaths += 1
        self.in_flight += min(WINDOW, BANDS - len(self.entries("done")))

    def workers(self, running: Running) -> list[psutil.Process]:
        """Return the worker processes of a command with a cluster of its own."""
        children = psutil.Process(running.process.pid).children(recursive=True)
        return [one for one in children if "spawn_main" in " ".join(one.cmdline())]

    def poison(self, kind: str, **more: object) -> str:
        """Poison a block chosen by the seed, and return its identifier."""
        band = self.rng.randrange(BANDS)
        (self.log / "poison.json").write_text(json.dumps({"kind": kind, "band": band, **more}))
        return block(band)

    def alone(self) -> bool:
        """Whether a block is running in a process of its own."""
        return any("lensflow.engine.alone" in " ".join(one.cmdline()) for one in self.survivors())

    def survivors(self) -> list[psutil.Process]:
        """Return the processes of this stage that are alive."""
        return survivors(self.folder)

    def expect(self, ended: Ended, *codes: int, says: str = "") -> None:
        """Hold a command's end against what it should be; an error is one sentence."""
        if ended.code not in codes:
            self.problems.append(f"exit code {ended.code}, expected {codes}: {ended.err[-500:]!r}")
        if says not in ended.err:
            self.problems.append(f"it should say {says!r}, it said {ended.err[-500:]!r}")
        if "Traceback" in ended.err:
            self.problems.append(f"a traceback: {ended.err[-800:]!r}")
        sentences = [line for line in ended.err.splitlines() if line.startswith("lensflow: ")]
        if ended.code not in {0, 4, 130, -signal.SIGKILL} and len(sentences) != 1:
            self.problems.append(f"an error is one sentence, it said {ended.err[-500:]!r}")

    def remember(self) -> None:
        """Take the work counted so far for that of another run."""
        self._before = {name: self._count(name) for name in ("reads", "blocks")}

    def counted(self, name: str) -> Counter[int]:
        """Return how often each band was read (``reads``) or begun (``blocks``)."""
        return self._count(name) - self._before.get(name, Counter())

    def _count(self, name: str) -> Counter[int]:
        folder = self.log if name == "reads" else self.log / "blocks"
        return Counter(int(path.name.split(".")[0]) for path in folder.glob("*.*.*"))


def block(band: int) -> str:
    """Return the identifier of a band's block."""
    return f"smooth[{band},0]"
