"""Where sorted rows change from one run of IDs to the next, found by looking at a few of them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from numpy.typing import NDArray

    from lensflow.lensing.mesh.bigfile import Block

NEAR, FAR = 16, 1 << 20  # rows looked at for one that counts, at first and at most at a time
GROWTH = 16


class Unsorted(Exception):
    """Rows that were taken for sorted are not."""


class Probe:
    """A part of ID and Mass, open for looking at single rows; those without mass, or with wild IDs, do not count.

    Parameters
    ----------
    ids, mass
        The blocks.
    part
        Which part of both.
    limit
        IDs from here on are wild.
    """

    def __init__(self, ids: Block, mass: Block, part: int, *, limit: int) -> None:
        self.rows = ids.parts[part].rows
        self._limit = limit
        self._types = (np.dtype("<i8"), mass.dtype)
        self._files: list[BinaryIO] = []
        try:
            for block in (ids, mass):
                self._files.append(block.parts[part].path.open("rb", buffering=0))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def from_row(self, row: int, stop: int) -> tuple[int, int] | None:
        """Return the first row from ``row`` on, before ``stop``, that counts, and its ID; None without one."""
        window = NEAR
        while row < stop:
            count = min(window, stop - row)
            ids, mass = (
                self._read(file, kind, row, count) for file, kind in zip(self._files, self._types, strict=True)
            )
            (places,) = np.nonzero((mass > 0) & (ids >= 0) & (ids < self._limit))
            if len(places):
                return row + int(places[0]), int(ids[places[0]])
            row, window = row + count, min(window * GROWTH, FAR)
        return None

    @staticmethod
    def _read(file: BinaryIO, kind: np.dtype[Any], row: int, count: int) -> NDArray[Any]:
        file.seek(row * kind.itemsize)
        content = file.read(count * kind.itemsize)
        if len(content) < count * kind.itemsize:
            raise BadInput(f"{file.name}: the file became shorter while it was read; copy it again")
        return np.frombuffer(content, kind)


@dataclass
class Borders:
    """Finds the first row of each run of ``unit`` IDs, remembering what it has seen.

    Parameters
    ----------
    probe
        The rows.
    unit
        IDs a run.
    start, stop
        The rows among which to look.
    """

    probe: Probe
    unit: int
    start: int
    stop: int
    _rows: list[int] = field(default_factory=list)
    _runs: list[int] = field(default_factory=list)

    def sample(self, count: int) -> None:
        """Look at evenly spaced rows.

        Raises
        ------
        Unsorted
            If a later one belongs to an earlier run.
        """
        for row in np.unique(np.linspace(self.start, self.stop - 1, count).astype(np.int64)).tolist():
            self._look(row, self.stop)

    def first(self, run: int) -> int:
        """Return the first row of a run: all before it belong to earlier ones, none after it.

        Raises
        ------
        Unsorted
            If a later row belongs to an earlier run.
        """
        place = bisect_left(self._runs, run)
        low = self._rows[place - 1] + 1 if place else self.start
        high = self._rows[place] if place < len(self._rows) else self.stop
        while low < high:
            middle = (low + high) // 2
            found = self._look(middle, high)
            if found is None or found[1] >= run:
                high = middle
            else:
                low = found[0] + 1
        return low

    def at(self, runs: Iterable[int]) -> list[int]:
        """Return the first row of each run."""
        return [self.first(run) for run in runs]

    @property
    def ends(self) -> tuple[int, int] | None:
        """The first and the last run seen; None if no row counts."""
        return (self._runs[0], self._runs[-1]) if self._runs else None

    def _look(self, row: int, stop: int) -> tuple[int, int] | None:
        """Return a row and its run, and remember it."""
        found = self.probe.from_row(row, stop)
        if found is None:
            return None
        row, run = found[0], found[1] // self.unit
        place = bisect_left(self._rows, row)
        if place == len(self._rows) or self._rows[place] != row:
            if (place and self._runs[place - 1] > run) or (place < len(self._runs) and self._runs[place] < run):
                raise Unsorted
            self._rows.insert(place, row)
            self._runs.insert(place, run)
        return row, run
