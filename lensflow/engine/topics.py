"""Several listeners to one Dask event topic of one client: Dask itself keeps the last one only."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    Heard = Callable[[tuple[float, Any]], None]

_guard = threading.Lock()
_listeners: dict[tuple[str, str], tuple[Heard, ...]] = {}  # by client and topic


@contextmanager
def listening(client: Client, topic: str, heard: Heard) -> Iterator[None]:
    """Call ``heard`` with (time, message) of every event of a topic, in Dask's own thread."""
    name = (client.id, topic)
    with _guard:
        first = name not in _listeners
        _listeners[name] = (*_listeners.get(name, ()), heard)
    if first:
        client.subscribe_topic(topic, lambda event: _tell(name, event))
    try:
        yield
    finally:
        with _guard:
            left = tuple(one for one in _listeners[name] if one is not heard)
            _listeners[name] = left
            if not left:
                del _listeners[name]
        if not left and client.status == "running":
            client.unsubscribe_topic(topic)


def _tell(name: tuple[str, str], event: tuple[float, Any]) -> None:
    for heard in _listeners.get(name, ()):
        heard(event)
