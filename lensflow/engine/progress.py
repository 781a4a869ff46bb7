"""How far a run is and when it will end: an estimate that admits what it does not know, and a live line."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

if TYPE_CHECKING:
    from typing import Self

ENOUGH = 8  # blocks before an estimate is ventured
EVERY = 30.0  # s between plain lines
BURST = 100  # times that the mean time of a round may be the median before the mean is believed
RECENT = 64  # blocks the estimate looks back on


def duration(seconds: float) -> str:
    """Spell seconds for a reader: ``15 ms``, ``42 s``, ``3 min 20 s``, ``5 h 07 min``."""
    if 0 < seconds < 0.95:
        return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else f"{1000 * seconds:.1g} ms"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s" if whole >= 10 else f"{seconds:.1f} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(nbytes: float) -> str:
    """Spell bytes for a reader in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} TiB"


@dataclass
class Pace:
    """The times at which blocks of this session were finished."""

    slots: int
    started: float = field(default_factory=time.monotonic)
    count: int = 0
    finished: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def beat(self, now: float | None = None) -> None:
        """Note that a block has just been finished."""
        self.count += 1
        self.finished.append(time.monotonic() if now is None else now)

    def rate(self) -> float | None:
        """Return blocks a second over the recent past, None before enough are known."""
        if self.count < ENOUGH:
            return None
        first = self.finished[0] if self.count > len(self.finished) else self.started
        steps = len(self.finished) - (1 if self.count > len(self.finished) else 0)
        return steps / max(self.finished[-1] - first, 1e-9)

    def eta(self, left: int) -> tuple[float, float] | None:
        """Return the seconds to the end as (typical, pessimistic), None ("unknown") before 8 blocks.

        Finishing times are looked at in rounds of one block a slot: a round's length is the time of one block,
        whatever the number of slots. Typical is what is left times the median round, pessimistic its 90th percentile.
        """
        rate = self.rate()
        if rate is None:
            return None
        step = min(self.slots, len(self.finished) // 4)
        times = list(self.finished)
        rounds = sorted(later - earlier for earlier, later in zip(times[:-step], times[step:], strict=True))
        slow = rounds[min(len(rounds) - 1, int(0.9 * len(rounds)))]
        typical, mean = rounds[len(rounds) // 2] * left / step, left / rate
        if typical < mean / BURST:  # most rounds take no time: fewer slots than thought, or blocks that end together
            typical = mean
        return typical, max(typical, slow * left / step)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


class Cell:
    """A place in a notebook's output that is written anew each time."""

    def __init__(self) -> None:
        display: Any = import_module("IPython.display").display  # only where there is a notebook
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, text: str, html: str) -> None:
        """Show something instead of what was there."""
        self._handle.update({"text/plain": text, "text/html": html}, raw=True)


class Display:
    """The live line of a run in a terminal or notebook; elsewhere (a log file) a plain line now and then."""

    def __init__(self, total: int, done: int, slots: int, *, show: bool | None = None) -> None:
        console = Console(stderr=True, force_jupyter=False)
        notebook = in_notebook()
        live = console.is_terminal or notebook if show is None else show
        self._cell = Cell() if live and notebook else None
        self.pace = Pace(max(1, slots))
        self.total, self.done, self.failed, self.notes = total, done, 0, 0
        self._plain = not live and show is None
        self._printed = time.monotonic()
        self._progress = Progress(
            TextColumn("[bold]blocks"),
            BarColumn(),
            TaskProgressColumn("{task.completed}/{task.total}"),
            TextColumn("{task.description}"),
            console=console,
            disable=not live or notebook,
        )
        self._task = self._progress.add_task("starting", total=total, completed=done)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def refresh(self, in_flight: int) -> None:
        """Show the present numbers."""
        if self._plain and time.monotonic() - self._printed > EVERY:
            self._printed = time.monotonic()
            sys.stderr.write(f"blocks {self.done + self.failed}/{self.total}, {self.line(in_flight)}\n")
        self._progress.update(self._task, completed=self.done + self.failed, description=self.line(in_flight))
        if self._cell:
            ended = self.done + self.failed
            line = f"blocks {ended}/{self.total}, {self.line(in_flight)}"
            bar = f"<progress value='{ended}' max='{max(self.total, 1)}'></progress>"
            self._cell.show(line, f"{bar} {escape(line)}")

    def line(self, in_flight: int) -> str:
        """Return the text beside the bar: rate, time left, what is wrong."""
        parts = [f"{in_flight} in flight"]
        rate = self.pace.rate()
        if rate is not None:
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{duration(1 / rate)} a block")
        parts.append(f"left {self.left()}")
        if self.failed:
            parts.append(f"{self.failed} quarantined")
        if self.notes:
            parts.append(f"{self.notes} notes")
        return ", ".join(parts)

    def left(self) -> str:
        """Return the time to the end, ``unknown`` while too little is known."""
        estimate = self.pace.eta(self.total - self.done - self.failed)
        if estimate is None:
            return "unknown"
        typical, slow = estimate
        return duration(typical) if slow < 1.2 * typical else f"{duration(typical)} (or {duration(slow)})"
