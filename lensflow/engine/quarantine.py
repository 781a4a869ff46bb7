"""What to do with a block that failed: try again, try it alone or with more memory, or give it up with a reason."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lensflow.engine.failure import Failure

BASE, LONGEST = 0.5, 60.0  # s of waiting before the first retry, and at most
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
MAY_PASS = OSError | EOFError  # a disk, a network, a file that is being written
SECOND_THOUGHTS = 2  # retries of an error that looks like the code's own: some come now and then

How = Literal["worker", "alone", "large"]
Verdict = Literal["retry", "isolate", "enlarge", "quarantine", "stop"]


@dataclass(frozen=True)
class Policy:
    """How often and how long to try.

    Parameters
    ----------
    retries
        Attempts after the first for errors that may pass (I/O, lost data). Any other error is tried twice more at
        most.
    """

    retries: int = 3

    def judge(self, failure: Failure, attempt: int, how: How = "worker", *, large: bool = False) -> Verdict:
        """Decide after the ``attempt``-th failure (1-based) of a block.

        A dead or a hung worker, or one without memory, is no proof against the block, for others ran there too: it
        is run alone, on one thread, before it is blamed. If memory may have been short even so, it goes to a worker
        of the large class, where there is one.

        Parameters
        ----------
        failure, attempt
            What happened, and the how many-th time.
        how
            Where: on a worker among others, alone in a process of its own, or on a large worker.
        large
            Whether there are workers of the large class.
        """
        if failure.cause in {"input", "note"}:
            return "quarantine"  # it will not become better
        if isinstance(failure.error, OSError) and failure.error.errno in NO_ROOM:
            return "retry" if attempt <= self.retries else "stop"  # the fault is the disk's, not the block's
        if failure.cause in {"killed", "memory", "time"}:
            if how == "worker":
                return "isolate"
            may_help = failure.cause != "time" and not getattr(failure.error, "crashed", False)
            return "enlarge" if how == "alone" and large and may_help else "quarantine"
        allowed = self.retries if isinstance(failure.error, MAY_PASS) else min(SECOND_THOUGHTS, self.retries)
        return "retry" if attempt <= allowed else "quarantine"

    def wait(self, attempt: int) -> float:
        """Return the seconds before the next attempt: exponential, with jitter so that herds disperse."""
        doubled: float = BASE * 2.0 ** (attempt - 1)
        return min(LONGEST, doubled) * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret
