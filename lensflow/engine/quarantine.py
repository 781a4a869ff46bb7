"""What to do with a block that failed: try again, try it alone, or give it up with a reason."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cloudpickle
from distributed import KilledWorker

from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import TracebackType

BASE, LONGEST = 0.5, 60.0  # s of waiting before the first retry, and at most

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Verdict = Literal["retry", "isolate", "quarantine", "stop"]


class Interrupted(LensflowError):
    """A block run alone was stopped by the user: it is pending, and nobody is to blame."""


class Isolated(LensflowError):
    """A block run alone, in a process of its own, killed that process."""


@dataclass(frozen=True)
class Failure:
    """Why a block failed: the exception, its traceback as text, and whether its worker died of it."""

    error: BaseException
    trace: str

    @classmethod
    def of(cls, error: BaseException, trace: TracebackType | None) -> Failure:
        """Keep the traceback as text: frames would keep arrays alive."""
        return cls(error, "".join(traceback.format_exception(type(error), error, trace, chain=False)))

    def as_json(self) -> dict[str, Any]:
        """Return what the journal keeps of it."""
        return {"exception": type(self.error).__name__, "message": str(self.error), "traceback": self.trace}


@dataclass(frozen=True)
class Policy:
    """How often and how long to try.

    Parameters
    ----------
    retries
        Attempts after the first for errors that may pass (I/O, lost data, memory). Any other error is tried
        once more: a second identical failure is taken at its word.
    """

    retries: int = 3

    def judge(self, failure: Failure, attempt: int) -> Verdict:
        """Decide after the ``attempt``-th failure (1-based) of a block.

        A worker that died is no proof against the block: it is run alone before it is blamed.
        """
        if isinstance(failure.error, KilledWorker):
            return "isolate"
        if isinstance(failure.error, LensflowError) and not isinstance(failure.error, OSError):
            return "quarantine"  # bad input and the like: it will not become better
        if isinstance(failure.error, OSError) and failure.error.errno in NO_ROOM:
            return "retry" if attempt <= self.retries else "stop"  # the fault is the disk's, not the block's
        allowed = self.retries if isinstance(failure.error, OSError | MemoryError | EOFError) else min(1, self.retries)
        return "retry" if attempt <= allowed else "quarantine"

    def wait(self, attempt: int) -> float:
        """Return the seconds before the next attempt: exponential, with jitter so that herds disperse."""
        doubled: float = BASE * 2.0 ** (attempt - 1)
        return min(LONGEST, doubled) * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret


def run_alone(
    tasks: dict[Hashable, Any],
    key: Hashable,
    memory_limit: int | None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Any, list[Any]]:
    """Run one block's tasks in a process of its own and return its record and its notes.

    The process has a session of its own, so that Ctrl-C in the terminal does not reach it; ``stop`` is asked
    whether to end it.

    Raises
    ------
    Isolated
        If the process dies: then the block itself is guilty.
    Interrupted
        If ``stop`` said so.
    Exception
        Whatever the block raised.
    """
    with tempfile.TemporaryDirectory(prefix="lensflow-alone-") as folder:
        order, answer = Path(folder, "order"), Path(folder, "answer")
        order.write_bytes(cloudpickle.dumps((tasks, key, memory_limit)))
        command = [sys.executable, "-m", "lensflow.engine.alone", str(order), str(answer)]
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        words = Path(folder, "words")
        with words.open("wb") as out:
            child = subprocess.Popen(  # noqa: S603 - our own module
                command, stdout=out, stderr=out, env=environment, start_new_session=True
            )
            code = _wait(child, stop)
        if not answer.exists():
            said = words.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise Isolated(f"run alone, the block ended its process ({_ending(code)}; last words: {said[0]})")
        record, notes, error = cloudpickle.loads(answer.read_bytes())
    if error is not None:
        raise error
    return record, notes


def _wait(child: subprocess.Popen[bytes], stop: Callable[[], bool]) -> int:
    while True:
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if stop():
                child.kill()
                child.wait()
                raise Interrupted("stopped by the user while it ran alone") from None


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
