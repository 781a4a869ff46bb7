"""Notes from science code: what happened to the data that a user must hear of.

A reader that masks a corrupt file calls :func:`note`. Wherever the task ran, the note reaches
the journal and the report of the run; outside a run it is logged as a warning.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC = "lensflow-notes"  # the Dask event topic that carries notes to the driver

logger = logging.getLogger("lensflow")
_collected: ContextVar[list[Note] | None] = ContextVar("lensflow_notes", default=None)


@dataclass(frozen=True)
class Note:
    """Something a user must hear of: kind, one sentence, details that fit into JSON, and where and when it was said.

    ``worker`` is an address, "" outside workers; ``made`` is in seconds since 1970, by the worker's clock.
    """

    kind: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)
    worker: str = ""
    made: float = field(default_factory=time.time, compare=False)


def note(kind: str, message: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
    """Tell the run, from whichever worker this is, that something happened to the data.

    Parameters
    ----------
    kind
        A short slug to count by, such as ``"corrupt-file"``.
    message
        One sentence for the report.
    **fields
        JSON-ready details (file, cell, band ...).
    """
    one = Note(kind, message, fields)
    collected = _collected.get()
    if collected is not None:
        collected.append(one)
    elif not _send(one):
        logger.warning("%s: %s", kind, message)


@contextmanager
def collect() -> Iterator[list[Note]]:
    """Gather the notes of this context into a list instead of sending them."""
    notes: list[Note] = []
    token = _collected.set(notes)
    try:
        yield notes
    finally:
        _collected.reset(token)


def _send(one: Note) -> bool:
    """Send the note through the worker this code runs on; False where there is none."""
    from distributed import get_worker  # noqa: PLC0415 - half a second that plain use need not pay

    try:
        worker = get_worker()
    except ValueError:
        return False
    key = worker.get_current_task()
    worker.log_event(TOPIC, {"key": key, **plain(asdict(replace(one, worker=worker.address)))})
    return True


def received(message: dict[str, Any]) -> Note:
    """Return the note that a message of the topic carries."""
    return Note(**{one.name: message[one.name] for one in fields(Note)})


def plain(value: object) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value in JSON's own types; what has none (paths, NaN) as text."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(one) for one in value), key=repr)  # a set's own order differs between processes
    fits = value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
    return value if fits else str(value)
