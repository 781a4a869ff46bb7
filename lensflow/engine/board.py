"""What the drivers have told the scheduler of their runs: the state of every block, and what happened lately."""

from __future__ import annotations

import logging
import math
import time
import uuid
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STATES = ("pending", "active", "retrying", "done", "mended", "quarantined")  # mended: done after a failure
PENDING, ACTIVE, RETRYING, DONE, MENDED, QUARANTINED = range(len(STATES))
GONE = "driver gone"
ENDED = 20  # runs that stay listed after their end
NOTES = 50  # notes that are shown
KINDS = 50  # kinds of notes that are counted apart
OTHER = "other"
CHANGES = 1 << 16  # changed blocks remembered for pages that ask only for what is new
FASTEST, SLOWEST = 1e-3, 1e5  # s: a block's time is kept as a 16-bit logarithm between these, to 0.03 %

logger = logging.getLogger("lensflow")


def pack_seconds(seconds: float) -> int:
    """Return a duration as a number from 1 to 65535 that grows with its logarithm."""
    bounded = min(max(seconds, FASTEST), SLOWEST)
    return 1 + round(65534 * math.log(bounded / FASTEST) / math.log(SLOWEST / FASTEST))


@dataclass
class Cells:
    """One grid of blocks; ``first`` is the number of its first block among all blocks of the run, in C order."""

    label: str
    dims: tuple[str, ...]
    numblocks: tuple[int, ...]
    first: int

    @property
    def size(self) -> int:
        """Number of blocks."""
        return math.prod(self.numblocks)

    def number(self, index: str) -> int:
        """Return the number of the block with an index such as ``3,0``.

        Raises
        ------
        ValueError
            If the grid has no such block.
        """
        at = tuple(int(one) for one in index.split(",")) if index else ()
        flat = 0
        for place, count in zip(at, self.numblocks, strict=True):
            if not 0 <= place < count:
                raise ValueError(f"no block {place} of {count}")
            flat = flat * count + place
        return self.first + flat


class Told:
    """A run as its driver tells it.

    Parameters
    ----------
    message
        What the driver said at the beginning.
    version
        The board's version by then.
    """

    def __init__(self, message: Mapping[str, Any], version: int) -> None:
        self.run = str(message["run"])
        self.name, self.out = str(message["name"]), str(message["out"])
        self.client = str(message.get("client", ""))
        self.threads = int(message.get("threads", 0))
        self.grids = list(_grids(message.get("grids", ())))
        size = sum(one.size for one in self.grids)
        self.total = int(message.get("total", size))
        self.states = bytearray(size)
        self.seconds = array("H", bytes(2 * size))
        self.counts = [size, *(0 for _ in STATES[1:])]
        self.version = version
        self.since = version  # a page that knows less needs the whole map
        self.changes: deque[tuple[int, int]] = deque(maxlen=CHANGES)  # version, number of a block
        self.began = self.heard = time.time()
        self.ended: float | None = None
        self.outcome: str | None = None
        self.rate: float | None = None
        self.left = "unknown"
        self.happened: Counter[str] = Counter()  # in this session: done, retried, quarantined
        self.nbytes = 0
        self.reasons: dict[str, str] = {}  # of the quarantined blocks
        self.kinds: Counter[str] = Counter()
        self.notes: deque[tuple[float, str, str]] = deque(maxlen=NOTES)
        self._active: set[str] = set()
        self._labels = {one.label: one for one in self.grids}
        for block in message.get("done", ()):
            self._set(block, DONE, version)
        for block in message.get("quarantined", ()):
            self._give_up(block, "in an earlier session", version)

    @property
    def in_flight(self) -> int:
        """Blocks that are being made."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """Blocks that are still to be made and not in flight."""
        return self.counts[PENDING] + self.counts[RETRYING] + self.counts[ACTIVE] - self.in_flight

    def hear(self, message: Mapping[str, Any], version: int) -> list[tuple[float, int]]:
        """Take in news; return seconds and bytes of each block that was written."""
        self.heard, self.version = time.time(), version
        self.ended = self.outcome = None  # a driver thought gone speaks again
        written = [(block, float(seconds), int(nbytes)) for block, seconds, nbytes in message.get("done", ())]
        for block in message.get("retried", ()):
            self.happened["retried"] += 1
            self._set(block, RETRYING, version)
        for block, seconds, nbytes in written:
            self.happened["done"] += 1
            self.nbytes += nbytes
            self.reasons.pop(block, None)
            self._set(block, MENDED if self._state(block) == RETRYING else DONE, version, seconds)
        for block, reason in message.get("quarantined", ()):
            self.happened["quarantined"] += 1
            self._give_up(block, reason, version)
        for kind, text in message.get("notes", ()):
            self.kinds[kind if kind in self.kinds or len(self.kinds) < KINDS else OTHER] += 1
            self.notes.append((message.get("t", self.heard), str(kind), str(text)))
        final = {one[0] for one in written} | {one[0] for one in message.get("quarantined", ())}
        self._in_flight(set(message.get("active", ())) - final, version)
        self.rate, self.left = message.get("rate"), str(message.get("left") or "unknown")
        return [(seconds, nbytes) for _, seconds, nbytes in written]

    def end(self, outcome: str, version: int) -> None:
        """Close the run."""
        self.ended, self.outcome, self.version = time.time(), outcome, version
        self.rate, self.left = None, ""
        self._in_flight(set(), version)

    def _give_up(self, block: str, reason: str, version: int) -> None:
        self.reasons[block] = str(reason)
        self._set(block, QUARANTINED, version)

    def _in_flight(self, active: set[str], version: int) -> None:
        for block in active - self._active:
            if self._state(block) in {PENDING, QUARANTINED}:
                self.reasons.pop(block, None)
                self._set(block, ACTIVE, version)
        for block in self._active - active:
            if self._state(block) == ACTIVE:
                self._set(block, PENDING, version)
        self._active = active

    def _state(self, block: str) -> int | None:
        number = self._number(block)
        return None if number is None else self.states[number]

    def _set(self, block: str, state: int, version: int, seconds: float | None = None) -> None:
        number = self._number(block)
        if number is None:
            logger.warning("%s: the run has no block %s", self.out, block)
            return
        self.counts[self.states[number]] -= 1
        self.counts[state] += 1
        self.states[number] = state
        if seconds is not None:
            self.seconds[number] = pack_seconds(seconds)
        if len(self.changes) == CHANGES:
            self.since = self.changes[0][0]
        self.changes.append((version, number))

    def _number(self, block: str) -> int | None:
        label, _, index = block.removesuffix("]").rpartition("[")
        try:
            return self._labels[label].number(index)
        except (KeyError, ValueError):
            return None


def _grids(grids: Iterable[Mapping[str, Any]]) -> Iterator[Cells]:
    first = 0
    for one in grids:
        yield (cells := Cells(str(one["label"]), tuple(one["dims"]), tuple(one["numblocks"]), first))
        first += cells.size


@dataclass
class Board:
    """The runs of one scheduler, newest last."""

    born: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # tells it from that of a scheduler before
    version: int = 0
    runs: dict[str, Told] = field(default_factory=dict)

    @property
    def active(self) -> list[str]:
        """Tokens of the runs whose driver is at work."""
        return [run for run, told in self.runs.items() if told.outcome is None]

    def hear(self, message: Mapping[str, Any]) -> list[tuple[float, int]]:
        """Take in what a driver says; return seconds and bytes of each block that was written."""
        self.version += 1
        run, event = message["run"], message["event"]
        if event == "begin":
            self.runs.pop(run, None)
            self.runs[run] = Told(message, self.version)
            self._forget()
        elif run not in self.runs:
            logger.warning("run %s: %r from a driver whose beginning was not heard", run, event)
        elif event == "news":
            return self.runs[run].hear(message, self.version)
        elif event == "end":
            self.runs[run].end(str(message["outcome"]), self.version)
        return []

    def lost(self, client: str) -> None:
        """Mark the runs of a driver that left without a word."""
        for run in self.active:
            if client and self.runs[run].client == client:
                self.version += 1
                self.runs[run].end(GONE, self.version)

    def _forget(self) -> None:
        ended = [run for run, told in self.runs.items() if told.outcome is not None]
        for run in ended[: max(0, len(ended) - ENDED)]:
            del self.runs[run]
