"""The report of a run: one self-contained HTML page and the same as JSON."""

from __future__ import annotations

import base64
import io
import json
import time
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import xarray as xr

from lensflow.engine import journal, progress
from lensflow.engine.catalog import PROVENANCE
from lensflow.engine.catalog import graph as load_graph
from lensflow.engine.rundir import RunDirectory, replace
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

PERCENTILES = (5, 50, 95)
SIDE = 1024  # px of a generic quick look, at most


def write_report(directory: RunDirectory) -> Path:
    """Write ``report.json`` and ``report.html`` into the run directory and return the path of the latter."""
    found = gather(directory)
    replace(directory.path / "report.json", json.dumps(found, indent=1))
    environment = jinja2.Environment(loader=jinja2.PackageLoader("lensflow.engine"), autoescape=True)
    environment.filters.update(size=progress.size, duration=progress.duration)
    page = environment.get_template("report.html.j2").render(**found, picture=_picture(directory))
    replace(directory.report, page)
    return directory.report


def gather(directory: RunDirectory) -> dict[str, Any]:
    """Collect everything a report says, as a JSON object."""
    described, state = directory.describe(), directory.state()
    entries = list(journal.read(directory.events))
    notes = [one for one in entries if one["event"] == "note"]
    kinds: dict[str, int] = {}
    for one in notes:
        kinds[one["kind"]] = kinds.get(one["kind"], 0) + 1
    seconds = [one["seconds"] for one in state.done.values()]
    return {
        "schema": "lensflow-report/1",
        "written": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "run": {key: value for key, value in described.items() if key not in {"source", "identity", "plan"}},
        "identity": {key: value for key, value in described["identity"].items() if key != "inputs"},
        "plan": described["plan"],
        "inputs": len(described["identity"]["inputs"]),
        "blocks": {
            "total": described["blocks"],
            "done": len(state.done),
            "quarantined": len(state.quarantined),
            "damaged": len(state.damaged),
            "retried": sum(one["event"] == "retry" for one in entries),
            "write_seconds": _percentiles(seconds),
            "peak_rss": max((one["peak_rss"] for one in state.done.values()), default=0),
        },
        "variables": _variables(state),
        "sessions": state.sessions,
        "quarantined": list(state.quarantined.values()),
        "note_kinds": kinds,
        "notes": notes,
        "errors": [one for one in entries if one["event"] == "error"],
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{p}": round(float(np.percentile(values, p)), 4) for p in PERCENTILES}


def _variables(state: journal.State) -> dict[str, dict[str, Any]]:
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


def _picture(directory: RunDirectory) -> dict[str, str]:
    """Draw the quick look: the graph's own ``picture`` verb, else the first image of the store.

    A report must not fail because a picture does: what went wrong is said in its place.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a plot's warnings are not the run's
            # not chunked: a picture reads few pixels, and a graph of all chunks would cost more than they do
            with xr.open_datatree(directory.out, engine="zarr", consolidated=False) as tree:
                return {"png": _png(_draw(tree))}
    except Exception as error:  # noqa: BLE001 - shown in the report
        return {"problem": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _draw(tree: xr.DataTree) -> Figure:
    made_by = tree.attrs.get(PROVENANCE, {}).get("graph")
    if made_by:
        graph = load_graph(made_by)
        if graph.offers("picture"):
            return graph.verb("picture")(tree)  # type: ignore[no-any-return]
    return _generic(tree)


def _generic(tree: xr.DataTree) -> Figure:
    """Draw the last two dimensions of the first variable that has them, coarsely, or a line of one dimension."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that a run need not pay

    for node in tree.subtree:
        for name, variable in node.data_vars.items():
            if variable.ndim == 0 or variable.dtype.kind not in "biuf":
                continue
            coarse = variable[(0,) * max(0, variable.ndim - 2)]
            coarse = coarse[tuple(slice(None, None, max(1, length // SIDE)) for length in coarse.shape)]
            figure = Figure(figsize=(8, 6), layout="constrained")
            axes = figure.add_subplot()
            if coarse.ndim == 2:
                coarse.plot.pcolormesh(ax=axes, robust=True)
            else:
                coarse.plot.line(ax=axes)
            axes.set_title(f"{node.path}/{name}".replace("//", "/"))
            return figure
    raise LensflowError("the store holds no variable that can be drawn")


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
