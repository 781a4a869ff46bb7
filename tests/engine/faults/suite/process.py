"""Commands at work, and the processes that come of them."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAIT = 120.0  # s for anything to happen at all
MARK = "FAULT_STAGE"  # the variable by which every descendant of a stage's processes is known


class Stuck(Exception):
    """What was waited for has not happened."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    err: str


@dataclass(frozen=True)
class Running:
    """A command at work, in a process group of its own."""

    process: subprocess.Popen[bytes]
    said: Path

    def wait(self) -> Ended:
        """Wait for its end."""
        try:
            code = self.process.wait(timeout=WAIT)
        except subprocess.TimeoutExpired:
            raise Stuck(f"{self.said.name}: no end within {WAIT:.0f} s; it said {self.words()[-300:]!r}") from None
        return Ended(code, self.words())

    def words(self) -> str:
        """Return what it has written to its standard error so far."""
        return self.said.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to all processes of its group, as a terminal does."""
        if self.process.poll() is None:  # else its number may be somebody else's by now
            os.killpg(self.process.pid, number)


def wait_until(true: Callable[[], object], what: str, seconds: float = WAIT) -> None:
    """Wait until something is true; say what it was if it never is."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise Stuck(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.01)


def survivors(folder: Path) -> list[psutil.Process]:
    """Return the processes of the stage in a folder that are alive, whoever their parents are by now."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if one.environ().get(MARK) == str(folder) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def end_survivors(folder: Path) -> None:
    """Kill what is left of the stage in a folder."""
    for one in survivors(folder):
        with suppress(psutil.NoSuchProcess):
            one.kill()
