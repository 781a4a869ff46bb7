"""What a run's driver, and the jobs of its workers, have printed: the end of it, or all that comes."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lensflow.engine.rundir import RunDirectory

POLL = 0.5  # s between two looks at files that may grow
BLOCK = 1 << 16  # bytes read at a time from the end


def logs(directory: RunDirectory) -> dict[str, Path]:
    """Return the files of a run that hold what was printed, by name: the driver's own first."""
    found = sorted((directory.path / "logs").glob("*"), key=lambda one: (one.name != "driver.out", one.name))
    return {one.name: one for one in found if one.is_file() and one.stat().st_size}


def tail(path: Path, lines: int) -> tuple[str, int]:
    """Return the last lines of a file and where it ended."""
    with path.open("rb") as file:
        end = start = file.seek(0, 2)
        text = b""
        while start and text.count(b"\n") <= lines:
            step = min(BLOCK, start)
            start -= step
            file.seek(start)
            text = file.read(step) + text
    return "\n".join(text.decode(errors="replace").splitlines()[-lines:] if lines else []), end


def follow(path: Path, offset: int, over: Callable[[], bool]) -> Iterator[str]:
    """Yield what is added to a file after a place in it, until it is over and all has been told."""
    last = False
    while True:
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(offset)
            if text := file.read():
                offset += len(text)
                yield text.decode(errors="replace")
        if last:
            return
        last = over()  # then one more look: it may have printed between
        if not last:
            time.sleep(POLL)
