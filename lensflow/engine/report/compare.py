"""Two runs side by side: what differs in what they were made from, in time, memory and failures, and in the pixels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lensflow.engine.report.facts import gather
from lensflow.engine.report.page import environment
from lensflow.engine.rundir import replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lensflow.engine.journal import State
    from lensflow.engine.rundir import RunDirectory


def compare(first: RunDirectory, second: RunDirectory) -> dict[str, Any]:
    """Compare two runs.

    Returns
    -------
    dict
        ``differences`` of what they were made from, ``figures`` and ``stages`` side by side with the ratio second /
        first, ``pixels`` block by block, and ``variables``.
    """
    one, other = gather(first), gather(second)
    return {
        "schema": "lensflow-comparison/1",
        "runs": [_summary(one), _summary(other)],
        "differences": _differences(first, second, one, other),
        "figures": _figures(one, other),
        "stages": _stages(one, other),
        "pixels": _pixels(first.state(), second.state()),
        "variables": {
            name: [one["variables"].get(name), other["variables"].get(name)]
            for name in sorted(one["variables"].keys() | other["variables"].keys())
        },
    }


def write_comparison(first: RunDirectory, second: RunDirectory, page: Path) -> Path:
    """Write a comparison as HTML to ``page`` and as JSON beside it; return the page's path."""
    found = compare(first, second)
    replace(page.with_suffix(".json"), json.dumps(found, indent=1))
    replace(page, environment().get_template("comparison.html.j2").render(**found))
    return page


def _summary(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"out": facts["run"]["out"], "graph": facts["identity"]["graph"], "sentence": facts["sentence"]}


def _differences(
    first: RunDirectory, second: RunDirectory, one: Mapping[str, Any], other: Mapping[str, Any]
) -> list[dict[str, str]]:
    """List what decides the pixels and is not the same: graph, source, arguments, geometry, inputs, versions."""
    pairs: dict[str, tuple[object, object]] = {
        "graph": (one["identity"]["graph"], other["identity"]["graph"]),
        "source": (one["identity"]["source_sha256"], other["identity"]["source_sha256"]),
        "geometry": (one["identity"]["geometry"], other["identity"]["geometry"]),
    }
    for kind, left, right in (
        ("argument", one["identity"]["arguments"], other["identity"]["arguments"]),
        ("version of", one["run"]["versions"], other["run"]["versions"]),
        ("input", *(directory.describe()["identity"]["inputs"] for directory in (first, second))),
    ):
        pairs.update({f"{kind} {key}": (left.get(key), right.get(key)) for key in sorted(left.keys() | right.keys())})
    return [
        {"what": what, "first": _said(left), "second": _said(right)}
        for what, (left, right) in pairs.items()
        if left != right
    ]


def _said(value: object) -> str:
    return "-" if value is None else str(value)


def _figures(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    def of(facts: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
        blocks, plan = facts["blocks"], facts["plan"]
        return {
            "time": (facts["seconds"], "duration"),
            "work in tasks": (sum(stage["total"] for stage in facts["stages"]), "duration"),
            "peak memory of a worker, measured": (blocks["peak_rss"], "size"),
            "peak memory of a worker, predicted": (plan["peak_memory"], "size"),
            "tasks": (plan["tasks"], "number"),
            "bytes written before compression": (plan["output_bytes"], "size"),
            "blocks": (blocks["total"], "number"),
            "quarantined": (blocks["quarantined"], "number"),
            "failed attempts": (blocks["retried"], "number"),
            "notes": (len(facts["notes"]), "number"),
        }

    left, right = of(one), of(other)
    return [
        {"what": what, "first": value, "second": right[what][0], "ratio": _ratio(value, right[what][0]), "unit": unit}
        for what, (value, unit) in left.items()
    ]


def _stages(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    left, right = ({stage["stage"]: stage for stage in facts["stages"]} for facts in (one, other))
    found = []
    for name in dict.fromkeys([*left, *right]):
        medians = [side[name]["p50"] if name in side else None for side in (left, right)]
        found.append({"stage": name, "first": medians[0], "second": medians[1], "ratio": _ratio(*medians)})
    return found


def _ratio(first: float | None, second: float | None) -> float | None:
    return round(second / first, 3) if first and second is not None else None


def _pixels(first: State, second: State) -> dict[str, Any]:
    """Compare the checksums of the blocks that both have written."""
    common = first.done.keys() & second.done.keys()
    same = {block for block in common if _checksums(first.done[block]) == _checksums(second.done[block])}
    return {
        "identical": len(same),
        "different": sorted(common - same),
        "only_first": len(first.done.keys() - common),
        "only_second": len(second.done.keys() - common),
    }


def _checksums(record: Mapping[str, Any]) -> dict[str, str]:
    return {name: digest["checksum"] for name, digest in record["variables"].items()}
