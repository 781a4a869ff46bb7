"""The report as a page: everything in one HTML file that works offline, prints, and suits light and dark."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jinja2

from lensflow.engine import journal, progress
from lensflow.engine.report import blockmap, timeline
from lensflow.engine.report.facts import gather
from lensflow.engine.report.looks import looks
from lensflow.engine.report.stages import Timings
from lensflow.engine.rundir import RunDirectory, replace

if TYPE_CHECKING:
    from pathlib import Path

LISTED = 200  # notes and failures shown on the page; the JSON has all


def write_report(directory: RunDirectory) -> Path:
    """Write ``report.json`` and ``report.html`` into the run directory and return the path of the latter."""
    timings = Timings.read(directory.tasks)
    facts = gather(directory, timings)
    replace(directory.path / "report.json", json.dumps(facts, indent=1))
    page = environment().get_template("report.html.j2").render(**facts, **_drawn(directory, facts, timings))
    replace(directory.report, page)
    return directory.report


def environment() -> jinja2.Environment:
    """Return where the templates are, with all that is shown escaped."""
    made = jinja2.Environment(loader=jinja2.PackageLoader("lensflow.engine"), autoescape=True)
    made.filters.update(size=progress.size, duration=progress.duration)
    return made


def _drawn(directory: RunDirectory, facts: dict[str, Any], timings: Timings) -> dict[str, Any]:
    state = directory.state()
    retried = {one["block"] for one in journal.read(directory.events) if one["event"] == "retry" and "block" in one}
    last = state.sessions[-1] if state.sessions else {}
    spans = timings if timings.rows.size else timeline.of_writes(state)
    limit = last.get("memory_limit")
    return {
        "listed": LISTED,
        "maps": blockmap.maps(facts["grids"], state, retried),
        "states": blockmap.STATES,
        "timeline": timeline.timeline(spans, state.sessions, facts["workers"]),
        "memory_chart": timeline.memory_chart(timings, limit, facts["plan"].get("peak_memory")),
        "limit": limit,
        "looks": looks(directory),
    }
