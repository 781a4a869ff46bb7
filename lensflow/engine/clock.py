"""A clock that is put back silences Dask until it has caught up: that must not look like patience."""

from __future__ import annotations

import socket
import time

from lensflow.engine.progress import duration
from lensflow.errors import LensflowError

PUT_BACK = 5.0  # s: what daily corrections do not reach
SILENCE = 20.0  # s without news after which nothing is expected any more


class Clock:
    """Compares the clock on the wall with the one that only goes forward.

    Dask times its messages by the wall clock; put back by an hour, it sends nothing for an hour.
    """

    def __init__(self) -> None:
        self._ahead = _ahead()
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Take note that something has come from the cluster."""
        self._heard = time.monotonic()

    def check(self) -> None:
        """Make sure that news can still be expected.

        Raises
        ------
        LensflowError
            If the clock was put back and nothing has come for a while.
        """
        self._ahead = max(self._ahead, _ahead())
        back = self._ahead - _ahead()
        if back > PUT_BACK and time.monotonic() - self._heard > SILENCE:
            raise LensflowError(
                f"the clock of {socket.gethostname()} was put back by {duration(back)}, and Dask sends nothing until it"
                " has caught up; what is done is safe: resume the run"
            )


def _ahead() -> float:
    return time.time() - time.monotonic()
