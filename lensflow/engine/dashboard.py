"""The /lensflow page on Dask's own dashboard: every run of the scheduler, its blocks as a map, live."""

from __future__ import annotations

import base64
import json
import socket
import sys
import time
import weakref
from functools import cache
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tornado import web

from lensflow.engine.board import FASTEST, SLOWEST, STATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distributed import Client

    from lensflow.engine.board import Board, Told

OWN = "127.0.0.1"
KNOCK = 1.0  # s for a dashboard to open its door
SHOWN = 200  # quarantined blocks that are listed; the report has them all
# The page needs nothing from elsewhere, and nothing that a note or a block's name holds may run.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'"
)
_served: weakref.WeakSet[web.Application] = weakref.WeakSet()


def link(client: Client) -> str | None:
    """Return the address of Dask's dashboard as it is where the driver runs, None where there is none.

    Dask names the host at which workers find the scheduler, also when the dashboard listens to its own host only.
    """
    found: str | None = client.dashboard_link
    parts = urlsplit(found or "")
    if parts.port is None or parts.hostname is None or _answers(parts.hostname, parts.port):
        return found
    return parts._replace(netloc=f"{OWN}:{parts.port}").geturl() if _answers(OWN, parts.port) else found


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=KNOCK).close()
    except OSError:
        return False
    return True


def page(client: Client) -> str | None:
    """Return the address of the /lensflow page of the client's scheduler, None where it has no dashboard."""
    found = link(client)
    return beside(found) if found else None


def beside(link: str) -> str:
    """Return the address of the /lensflow page, given that of a scheduler's own dashboard."""
    return f"{link.rpartition('/')[0]}/lensflow"


def serve(scheduler: Any) -> None:  # noqa: ANN401 - a Scheduler
    """Add the page to the scheduler's running web server, once.

    Dask's configuration can name further pages too, but only of a scheduler that has not started yet.
    """
    application = scheduler.http_application
    if application in _served:
        return
    _served.add(application)
    wanted = {"scheduler": scheduler}
    # whatever stands before: a scheduler may be told to answer below a prefix
    application.add_handlers(
        r".*$", [(r"(?:/.*)?/lensflow/?", Page), (r"(?:/.*)?/lensflow/state\.json", State, wanted)]
    )


class Page(web.RequestHandler):
    """The page itself: the same for everybody, filled in by what it asks for."""

    def get(self) -> None:
        """Send the page."""
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.write(_html())


class State(web.RequestHandler):
    """What has changed since the page last asked."""

    def initialize(self, scheduler: Any) -> None:  # noqa: ANN401 - a Scheduler
        """Learn whose runs to show."""
        self.scheduler = scheduler

    def get(self) -> None:
        """Send the news since ``?since=``, everything where the page has nothing yet."""
        watch = self.scheduler.plugins.get("lensflow")
        if watch is None:
            raise web.HTTPError(404)
        self.set_header("Content-Type", "application/json")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.write(json.dumps(state(watch.board, self.get_argument("since", ""))))


@cache
def _html() -> str:
    return resources.files("lensflow.engine").joinpath("templates", "dashboard.html").read_text(encoding="utf-8")


def state(board: Board, since: str = "") -> dict[str, Any]:
    """Return what a page shows, as far as it does not know it yet.

    Parameters
    ----------
    board
        What the drivers have told.
    since
        The ``version`` of the last answer; anything else is answered in full.

    Returns
    -------
    dict
        Ready for JSON: ``order`` has all runs, newest first, ``runs`` those with news: with a map of all blocks,
        or with the changed ones only.
    """
    born, _, version = since.partition(".")
    known = int(version) if born == board.born and version.isdecimal() else -1
    return {
        "version": f"{board.born}.{board.version}",
        "now": time.time(),
        "states": STATES,
        "range": [FASTEST, SLOWEST],
        "order": list(reversed(board.runs)),
        "runs": [_run(told, known) for told in board.runs.values() if told.version > known],
    }


def _run(told: Told, known: int) -> dict[str, Any]:
    plain = ("run", "name", "out", "threads", "total", "began", "heard", "ended", "outcome", "rate", "left", "nbytes")
    shown = {name: getattr(told, name) for name in plain}
    shown |= {"inFlight": told.in_flight, "kinds": told.kinds, "notes": list(told.notes)}
    shown |= {"quarantined": list(islice(told.reasons.items(), SHOWN)), "given_up": len(told.reasons)}
    if known < told.since:
        shown["grids"] = [{"label": one.label, "dims": one.dims, "numblocks": one.numblocks} for one in told.grids]
        shown["map"] = {"states": _packed(told.states), "seconds": _packed(_little(told.seconds))}
    else:
        shown["changed"] = [[one, told.states[one], told.seconds[one]] for one in _changed(told, known)]
    return shown


def _changed(told: Told, known: int) -> Iterable[int]:
    """Return the numbers of the blocks that have changed after a version."""
    found = set()
    for version, number in reversed(told.changes):
        if version <= known:
            break
        found.add(number)
    return sorted(found)


def _little(numbers: Any) -> bytes:  # noqa: ANN401 - an array
    """Return the numbers as every browser of today has them in memory."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return bytes(numbers)


def _packed(content: bytes | bytearray) -> str:
    return base64.b64encode(content).decode()
