"""Everything a report says of a run, as a JSON object."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.engine import journal
from lensflow.engine.report.stages import Timings
from lensflow.engine.report.story import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lensflow.engine.rundir import RunDirectory

PERCENTILES = (5, 50, 95)


def gather(directory: RunDirectory, timings: Timings | None = None) -> dict[str, Any]:
    """Collect what the run directory knows.

    Parameters
    ----------
    directory
        Of the run; no driver is needed.
    timings
        What tasks took, if it has been read already.
    """
    described, state = directory.describe(), directory.state()
    timings = timings or Timings.read(directory.tasks)
    entries = list(journal.read(directory.events))
    by_event = {name: [one for one in entries if one["event"] == name] for name in ("note", "retry", "error", "worker")}
    found = {
        "schema": "lensflow-report/2",
        "written": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "run": {key: value for key, value in described.items() if key not in {"source", "identity", "plan", "grids"}},
        "identity": {key: value for key, value in described["identity"].items() if key != "inputs"},
        "grids": described.get("grids", []),
        "plan": described["plan"],
        "inputs": len(described["identity"]["inputs"]),
        "blocks": _blocks(described["blocks"], state, by_event["retry"]),
        "seconds": round(state.worked, 3),
        "variables": variables(state),
        "stages": timings.stages(),
        "memory": timings.memory_peaks(),
        "sessions": state.sessions,
        "quarantined": list(state.quarantined.values()),
        "damaged": state.damaged,
        "workers": by_event["worker"],
        "note_kinds": dict(Counter(one["kind"] for one in by_event["note"])),
        "notes": by_event["note"],
        "errors": by_event["error"],
    }
    return {"sentence": sentence(found), **found}


def _blocks(total: int, state: journal.State, retries: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "total": total,
        "done": len(state.done),
        "quarantined": len(state.quarantined),
        "damaged": len(state.damaged),
        "retried": len(retries),
        "write_seconds": _percentiles(one["seconds"] for one in state.done.values()),
        "peak_rss": max((one["peak_rss"] for one in state.done.values()), default=0),
    }


def _percentiles(values: Iterable[float]) -> dict[str, float]:
    known = list(values)
    return {f"p{p}": round(float(np.percentile(known, p)), 4) for p in PERCENTILES} if known else {}


def variables(state: journal.State) -> dict[str, dict[str, Any]]:
    """Add up the statistics of each variable over its blocks (by group and name)."""
    found: dict[str, dict[str, Any]] = {}
    for block, record in state.done.items():
        group = block.rpartition("[")[0].rpartition("/")[0]
        for name, digest in record["variables"].items():
            one = found.setdefault(
                f"{group}/{name}".lstrip("/"), {"nbytes": 0, "nan_bytes": 0.0, "minimum": None, "maximum": None}
            )
            one["nbytes"] += digest["nbytes"]
            one["nan_bytes"] += digest["nbytes"] * digest["nan_fraction"]
            for key, choose in (("minimum", min), ("maximum", max)):
                if digest[key] is not None:
                    one[key] = digest[key] if one[key] is None else choose(one[key], digest[key])
    for one in found.values():
        one["nan_fraction"] = one.pop("nan_bytes") / one["nbytes"] if one["nbytes"] else 0.0
    return found
