"""What happened, one JSON line each, append-only: enough to resume after any death of any process."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from lensflow.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEEDED = {  # by event; an entry that lacks one of these has been altered
    "end": {"t", "outcome", "seconds"},
    "done": {"t", "block"},
    "quarantined": {"t", "block"},
    "damaged": {"t", "block", "reason"},
}
SYNC = 1.0  # s: what a machine crash may take from the journal; a killed process loses nothing


class Log:
    """An append-only file of JSON lines with one writer.

    Every line is handed to the kernel at once, so it outlives the process; the disk is asked to keep it at
    most once a second.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._synced = 0.0

    def __enter__(self) -> Self:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        _cut_torn_line(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def append(self, event: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Add one line: the time, the event and its fields.

        Raises
        ------
        OutputError
            If it cannot be written; then nothing of it is.
        """
        line = json.dumps({"t": round(time.time(), 3), "event": event, **fields}, allow_nan=False) + "\n"
        try:
            self._write(line.encode())
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); make room there and resume the run"
            ) from error

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            _cut_torn_line(self._file)
            raise
        if time.monotonic() - self._synced > SYNC:
            os.fsync(self._file)
            self._synced = time.monotonic()


def _cut_torn_line(file: int) -> None:
    """Drop what a crash left of a last line."""
    size = os.lseek(file, 0, os.SEEK_END)
    end = size
    while end:
        start = max(0, end - 65536)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log; a torn last line and damaged lines are passed over.

    What is lost with a damaged line is redone: a block without its line counts as not done.
    """
    try:
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return  # torn: the next writer cuts it off
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict) and entry.keys() >= NEEDED.get(str(entry.get("event")), {"event"}):
                    yield entry
    except (FileNotFoundError, NotADirectoryError):
        return


@dataclass
class State:
    """What the journal says of each block and of the run as a whole.

    Parameters
    ----------
    done
        Record of each finished block, by identifier.
    quarantined
        What is known of each block given up, by identifier.
    damaged
        Blocks that were done and that ``verify`` found missing or altered.
    sessions
        One entry a start of the driver, with its end where it had one.
    """

    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantined: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def worked(self) -> float:
        """Seconds that drivers have worked on the run, all sessions together."""
        times = sorted(one["t"] for one in self.done.values())
        total = 0.0
        for one, after in zip(self.sessions, [*self.sessions[1:], {"t": math.inf}], strict=bool(self.sessions)):
            last = max((t for t in times if one["t"] <= t < after["t"]), default=one["t"])
            total += one.get("seconds", last - one["t"])  # a session that died lasted until its last block at least
        return total

    @property
    def memory_limit(self) -> int | None:
        """Bytes a worker had in the last session, None without a limit."""
        limit: int | None = self.sessions[-1].get("memory_limit") if self.sessions else None
        return limit


def fold(path: Path) -> State:
    """Read a journal from its first line to its last and return where the run stands."""
    state = State()
    for entry in read(path):
        _apply(state, entry)
    return state


def _apply(state: State, entry: dict[str, Any]) -> None:
    event, block = entry["event"], entry.get("block", "")
    if event == "done":
        state.done.pop(block, None)  # so that the order is that of the last time
        state.done[block] = entry
        state.quarantined.pop(block, None)
        state.damaged.pop(block, None)
    elif event == "quarantined":
        state.quarantined[block] = entry
        state.done.pop(block, None)
        state.damaged.pop(block, None)
    elif event == "damaged":
        state.damaged[block] = entry["reason"]
        state.done.pop(block, None)
        state.quarantined.pop(block, None)
    elif event == "session":
        state.sessions.append(dict(entry))
    elif event == "end" and state.sessions:
        state.sessions[-1].update(ended=entry["t"], outcome=entry["outcome"], seconds=entry["seconds"])
