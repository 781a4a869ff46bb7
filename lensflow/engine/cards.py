"""What a notebook shows of graphs and runs: small tables that take the colours of the page they are on."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import TYPE_CHECKING

from lensflow.engine.progress import Cell, duration, in_notebook
from lensflow.engine.tunnel import through_jupyter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lensflow.engine.catalog import Graph
    from lensflow.engine.params import Parameter
    from lensflow.engine.runs import Run, Status

LEFT = "style='text-align:left'"
AT_WORK = frozenset({"starting", "running"})


def run_card(status: Status) -> str:
    """Return where a run stands, with a bar."""
    share = 100 * status.done / status.total if status.total else 0
    rows = [
        ("store", escape(status.out)),
        ("standing", status.standing),
        ("blocks", f"{status.done} of {status.total} ({share:.0f} %)"),
        ("quarantined", str(status.quarantined)),
        ("notes", str(status.notes)),
        ("time", duration(status.seconds)),
    ]
    if status.standing == "running" and status.dashboard:
        rows.append(("dashboard", _anchor(through_jupyter(status.dashboard))))
    rows += [("jobs", escape(one)) for one in status.jobs]
    if status.tunnel and status.standing == "running":
        rows.append(("from afar", f"<code>{escape(status.tunnel)}</code>"))
    if status.log:
        rows.append(("log", escape(status.log)))
    bar = f"<progress value='{status.done + status.quarantined}' max='{max(status.total, 1)}'></progress>"
    return f"{table('lensflow run', rows)}{bar}"


def graph_card(graph: Graph) -> str:
    """Return what a graph is for and the words that it takes."""
    head = "".join(f"<th {LEFT}>{one}</th>" for one in ("word", "type", "default", "meaning"))
    body = "".join(f"<tr>{_cells(one)}</tr>" for one in graph.parameters.entries)
    return f"<table><caption>{escape(graph.name)}: {escape(graph.summary)}</caption><tr>{head}</tr>{body}</table>"


def _cells(word: Parameter) -> str:
    default = "required" if word.required else "" if word.default in (None, ()) else str(word.default)
    texts = (word.name, word.describe(), default, word.help)
    return "".join(f"<td {LEFT}>{escape(text)}</td>" for text in texts)


def table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return rows of a name and a text (HTML) as a table."""
    body = "".join(f"<tr><th {LEFT}>{name}</th><td {LEFT}>{text}</td></tr>" for name, text in rows)
    return f"<table><caption>{caption}</caption>{body}</table>"


def _anchor(link: str) -> str:
    return f"<a href='{escape(link, quote=True)}' target='_blank'>{escape(link)}</a>"


def watch(run: Run, every: float) -> None:
    """Show a run until no driver is at work on it: a card in a notebook, elsewhere a line when something changes."""
    show = _shower()
    while True:
        status = run.status
        show(status)
        if status.standing not in AT_WORK:
            return
        time.sleep(every)


def _shower() -> Callable[[Status], None]:
    """Return a function that shows a status in place of the one before."""
    if in_notebook():
        cell = Cell()
        return lambda status: cell.show(str(status), run_card(status))
    told: list[str] = []

    def tell(status: Status) -> None:
        if str(status) not in told[-1:]:
            told.append(str(status))
            sys.stderr.write(f"{status}\n")

    return tell
