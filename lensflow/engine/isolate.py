"""Run one block in a process of its own: what it does there, nobody else can be blamed for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from lensflow.engine.failure import Isolated, TookTooLong
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
LAST_WORDS = 20  # lines kept of what the process said
BESIDE_THE_POINT = (  # lines of a dumped stack that are the same for every block
    "Extension modules:",
    "site-packages/dask/",
    "lensflow/engine/alone.py",
    '"<frozen runpy>"',
)
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}  # which more memory does not mend
TICK = 0.1  # s between looks at the process
GRACE = 1.0  # s for a process that hangs to say where


class Interrupted(LensflowError):
    """A block run alone was stopped by the user: it is pending, and nobody is to blame."""


@dataclass(frozen=True)
class Limits:
    """What a block that runs alone may use.

    Parameters
    ----------
    memory
        Bytes, None for no limit.
    seconds
        For each task, None for no limit.
    """

    memory: int | None = None
    seconds: float | None = None


def run_alone(
    tasks: dict[Hashable, Any],
    key: Hashable,
    limits: Limits,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Any, list[Any]]:
    """Run one block's tasks, one after the other, in a process of their own; return its record and its notes.

    The process has a session of its own, so that Ctrl-C in the terminal does not reach it; ``stop`` is asked
    whether to end it.

    Raises
    ------
    Isolated
        If the process dies: then the block itself is guilty.
    TookTooLong
        If a task of it does not end.
    Interrupted
        If ``stop`` said so.
    Exception
        Whatever the block raised.
    """
    with tempfile.TemporaryDirectory(prefix="lensflow-alone-") as name:
        folder = Path(name)
        (folder / "order").write_bytes(cloudpickle.dumps((tasks, key, limits.memory)))
        code = _Child(folder).wait(limits.seconds, stop)
        if not (folder / "answer").exists():
            words = _words(folder)
            raise Isolated(
                f"run alone, the block ended its process ({_ending(code)}; last words: {_said(words)})",
                words,
                crashed=-code in CRASHES,
            )
        record, notes, error = cloudpickle.loads((folder / "answer").read_bytes())
    if error is not None:
        raise error
    return record, notes


class _Child:
    """The process that runs a block alone: its order, progress, words and answer are files in a folder."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "lensflow.engine.alone", str(folder), str(os.getpid())]
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.folder = folder
        with (folder / "words").open("wb") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdout=out, stderr=out, env=environment, start_new_session=True
            )

    def wait(self, seconds: float | None, stop: Callable[[], bool]) -> int:
        """Wait for the process to end, no longer than ``seconds`` for each task."""
        task, since = self._task(), time.monotonic()
        while True:
            try:
                return self.process.wait(timeout=TICK)
            except subprocess.TimeoutExpired:
                pass
            if stop():
                self._kill()
                raise Interrupted("stopped by the user while it ran alone")
            if (now := self._task()) != task:
                task, since = now, time.monotonic()
            if seconds is not None and task and time.monotonic() - since > seconds:
                self._say_where()
                raise TookTooLong(
                    f"run alone, its step {task} did not end within {seconds:g} s", _words(self.folder)
                ) from None

    def _task(self) -> str:
        """Return the task at work, "" between them."""
        try:
            return (self.folder / "task").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _say_where(self) -> None:
        """End the process after it has written its stack among its words."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(GRACE)
        self._kill()

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _words(folder: Path) -> tuple[str, ...]:
    lines = (folder / "words").read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line for line in lines if line.strip() and not any(one in line for one in BESIDE_THE_POINT)]
    crash = next((place for place, line in enumerate(told) if line.startswith("Fatal Python error")), None)
    return tuple(told[-LAST_WORDS:] if crash is None else told[crash : crash + LAST_WORDS])


def _said(words: tuple[str, ...]) -> str:
    """Return the one line that tells most: of a crash the first, else the last."""
    crash = next((line for line in words if line.startswith("Fatal Python error")), None)
    return crash or (words[-1] if words else "it said nothing")


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"signal {-code}, {name}" + (
        ", which the system also sends when memory is short" if name == "SIGKILL" else ""
    )
