"""Why a block failed: in what way, where, with how much memory, and what was said last."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from distributed import KilledWorker

from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from types import TracebackType

Cause = Literal["raised", "input", "killed", "memory", "time", "note"]


class Isolated(LensflowError):
    """A block run alone, in a process of its own, killed that process."""

    def __init__(self, message: str, words: tuple[str, ...] = (), *, crashed: bool = False) -> None:
        super().__init__(message)
        self.words = words
        self.crashed = crashed  # by a fault of its code, which more memory does not mend


class TookTooLong(LensflowError):
    """A task of a block ran longer than a task may."""

    def __init__(self, message: str, words: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.words = words


class Refused(LensflowError):
    """Science code noted something that this run is told not to accept."""


@dataclass(frozen=True)
class Memory:
    """Bytes a worker used when it was last looked at, and its limit; None where unknown."""

    used: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Failure:
    """Why a block failed.

    Parameters
    ----------
    error, trace
        The exception, and its traceback as text.
    cause
        In what way it failed.
    where
        The worker it failed on, "" where nobody knows.
    words
        The last lines that its process, or Dask about it, had logged.
    memory
        Of that worker.
    """

    error: BaseException
    trace: str
    cause: Cause
    where: str = ""
    words: tuple[str, ...] = ()
    memory: Memory = field(default_factory=Memory)

    @classmethod
    def of(
        cls,
        error: BaseException,
        trace: TracebackType | None,
        *,
        where: str = "",
        words: tuple[str, ...] = (),
        memory: Memory | None = None,
    ) -> Failure:
        """Keep the traceback as text: frames would keep arrays alive."""
        text = "".join(traceback.format_exception(type(error), error, trace, chain=False))
        said = words or getattr(error, "words", ())
        return cls(error, text, cause_of(error), where, said, memory or Memory())

    @property
    def exception(self) -> str:
        """The name of the exception's class."""
        return type(self.error).__name__

    @property
    def message(self) -> str:
        """What happened, in a sentence."""
        if isinstance(self.error, KilledWorker):  # its own text explains Dask
            return f"the workers on which it ran died, the last was {self.where or 'not known'}"
        return str(self.error)

    @property
    def summary(self) -> dict[str, Any]:
        """What is kept of each attempt: cause, exception, message, place."""
        return {"cause": self.cause, "exception": self.exception, "message": self.message, "where": self.where}

    def as_json(self) -> dict[str, Any]:
        """Return what the journal keeps of it."""
        return {
            **self.summary,
            "traceback": self.trace,
            "words": list(self.words),
            "memory": {"used": self.memory.used, "limit": self.memory.limit},
        }


def cause_of(error: BaseException) -> Cause:
    """Tell in what way a block failed from what was raised."""
    if isinstance(error, KilledWorker | Isolated):
        return "killed"
    if isinstance(error, TookTooLong):
        return "time"
    if isinstance(error, Refused):
        return "note"
    if isinstance(error, MemoryError):
        return "memory"
    return "input" if isinstance(error, LensflowError) and not isinstance(error, OSError) else "raised"
