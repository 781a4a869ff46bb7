"""What Dask says while a run goes on: into a file of the run directory instead of onto the terminal."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REMEMBERED = 500  # lines looked through for what was said of a worker
LINE = "%(asctime)s %(name)s %(levelname)s %(message)s"


class Words:
    """The last lines that were logged."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=REMEMBERED)

    def add(self, line: str) -> None:
        """Remember a line."""
        self._lines.append(line)

    def about(self, name: str, most: int = 5) -> tuple[str, ...]:
        """Return the last lines that name something, a worker's address say."""
        return tuple(line for line in tuple(self._lines) if name and name in line)[-most:]


class _Keeper(logging.Handler):
    """Writes warnings to a file and remembers them."""

    def __init__(self, path: Path, words: Words) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter(LINE))
        self._file = path.open("a", encoding="utf-8")
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; a full disk must not stop the run here: the run itself will say so."""
        line = self.format(record)
        self._words.add(line.splitlines()[0])
        try:
            self._file.write(f"{line}\n")
            self._file.flush()
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: the words are still remembered."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@contextmanager
def kept(path: Path) -> Iterator[Words]:
    """Keep the warnings of Dask in this process in a file while the block of a ``with`` statement runs."""
    words = Words()
    path.parent.mkdir(exist_ok=True)
    keeper = _Keeper(path, words)
    # a logger that passes its records on to another of these would have them kept twice
    dask = [one for one in dask_loggers() if not one.propagate or one.name == "distributed"]
    loggers = [logging.getLogger("lensflow"), *dask]
    for one in loggers:
        one.addHandler(keeper)
    try:
        yield words
    finally:
        for one in loggers:
            one.removeHandler(keeper)
        keeper.close()


def dask_loggers() -> list[logging.Logger]:
    """Return Dask's loggers that have handlers of their own, and the one above all of them."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    found = [logging.getLogger(name) for name in dict.fromkeys(["distributed", *names])]
    return [one for one in found if one.handlers or one.name == "distributed"]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask's own chatter (busy dashboard port, workers leaving) off the terminal, not from other handlers."""
    terminals = [one for logger in dask_loggers() for one in logger.handlers if type(one) is logging.StreamHandler]

    def grave(record: logging.LogRecord) -> bool:  # one for each caller: several threads may be quiet in turns
        return record.levelno >= logging.CRITICAL

    for one in terminals:
        one.addFilter(grave)
    try:
        yield
    finally:
        for one in terminals:
            one.removeFilter(grave)
