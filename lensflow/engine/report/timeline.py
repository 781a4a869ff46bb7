"""What each worker did when, and how much memory it used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.engine.report.stages import Timings
from lensflow.engine.report.svg import raster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lensflow.engine.journal import State

COLUMNS = 900  # steps of time that are drawn
LANES = 64  # workers that get a lane of their own
COLOURS = 8  # stages that get a colour of their own, the longest in total
LANE = 14  # px
CHART = 160  # px


def of_writes(state: State) -> Timings:
    """Return what is known of a run without task timings: when its blocks were written, by which process."""
    found = Timings(names=["write"])
    workers: dict[str, int] = {}
    rows = []
    for record in state.done.values():
        if "began" in record:
            worker = workers.setdefault(f"process {record.get('pid')} on {record.get('host')}", len(workers))
            rows.append((0.0, worker, record["began"], record["seconds"]))
    found.workers, found.rows = list(workers), np.array(rows, float).reshape(-1, 4)
    return found


def timeline(
    timings: Timings, sessions: Sequence[Mapping[str, Any]], troubles: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Draw a lane for each worker, coloured by stage.

    Parameters
    ----------
    timings
        Spans of work.
    sessions
        Starts of drivers: marked by a line, and nothing is drawn between two of them.
    troubles
        Events of workers that died or hung: marked in their lanes.

    Returns
    -------
    dict
        ``svg``, ``legend`` (stage and CSS class), ``lanes`` (names), ``folded`` (workers without a lane), ``seconds``.
    """
    if not timings.rows.size:
        return {}
    begin = timings.rows[:, 2].min()
    end = (timings.rows[:, 2] + timings.rows[:, 3]).max()
    span = max(float(end - begin), 1e-3)
    order = [timings.names.index(one["stage"]) for one in timings.stages()]
    colour = np.full(len(order), COLOURS - 1)
    colour[order[: COLOURS - 1]] = np.arange(min(len(order), COLOURS - 1))
    by_start = timings.rows[np.argsort(timings.rows[:, 2], kind="stable"), 1].astype(int)
    seen = list(dict.fromkeys(by_start.tolist()))
    lanes = seen[:LANES]
    cells = np.stack([_lane(timings.rows[timings.rows[:, 1] == one], colour, begin, span) for one in lanes])
    classes = {number: f"c-{number}" for number in range(COLOURS)}
    marks = [_mark(float(one["t"]), begin, span, len(lanes), "session") for one in sessions[1:]]
    for one in troubles:
        if one.get("worker") in timings.workers and timings.workers.index(one["worker"]) in lanes:
            lane = lanes.index(timings.workers.index(one["worker"]))
            marks.append(_trouble(float(one["t"]), begin, span, lane, str(one.get("what", ""))))
    height = len(lanes) * LANE
    body = f'<g transform="scale(1 {LANE})">{raster(cells, classes)}</g>'
    grid = "".join(f'<path class="lane" d="M0 {(lane + 1) * LANE}h{COLUMNS}"/>' for lane in range(len(lanes)))
    return {
        "svg": f'<svg viewBox="0 0 {COLUMNS} {height}" class="timeline" role="img" preserveAspectRatio="none"'
        f' style="height:{height}px">{grid}{body}{"".join(filter(None, marks))}</svg>',
        "legend": [(timings.names[one], f"c-{colour[one]}") for one in order[: COLOURS - 1]]
        + ([("other steps", f"c-{COLOURS - 1}")] if len(order) >= COLOURS else []),
        "lanes": [_short(timings.workers[one]) for one in lanes],
        "folded": len(seen) - len(lanes),
        "seconds": span,
    }


def _lane(rows: NDArray[np.float64], colour: NDArray[np.int64], begin: float, span: float) -> NDArray[np.int64]:
    """Return for each step of time the colour of the stage that took most of it, -1 where more of it was idle."""
    busy = np.zeros((COLOURS, COLUMNS))
    first = (rows[:, 2] - begin) / span * COLUMNS
    last = first + rows[:, 3] / span * COLUMNS
    for stage, start, stop in zip(colour[rows[:, 0].astype(int)], first, last, strict=True):
        low, high = int(start), min(int(stop), COLUMNS - 1)
        if low >= high:
            busy[stage, min(low, COLUMNS - 1)] += stop - start
        else:
            busy[stage, low] += low + 1 - start
            busy[stage, low + 1 : high] += 1
            busy[stage, high] += stop - high
    return np.where(busy.sum(axis=0) > 0.25, busy.argmax(axis=0), -1)


def _mark(t: float, begin: float, span: float, lanes: int, name: str) -> str:
    at = (t - begin) / span * COLUMNS
    return f'<path class="{name}" d="M{at:.1f} 0v{lanes * LANE}"/>' if 0 <= at <= COLUMNS else ""


def _trouble(t: float, begin: float, span: float, lane: int, what: str) -> str:
    at = min(max((t - begin) / span * COLUMNS, 3), COLUMNS - 3)
    return f'<circle class="trouble" cx="{at:.1f}" cy="{(lane + 0.5) * LANE}" r="4"><title>{what}</title></circle>'


def _short(worker: str) -> str:
    return worker.rpartition("://")[2]


def memory_chart(timings: Timings, limit: int | None, predicted: int | None) -> dict[str, Any]:
    """Draw the memory of each worker over time, with its limit and what the plan predicted.

    Returns
    -------
    dict
        ``svg``, and ``top``: the bytes at its upper edge; empty where nothing is known.
    """
    samples = [(t, used) for one in timings.memory.values() for t, used in one]
    if not samples:
        return {}
    times = [t for t, _ in samples]
    begin, span = min(times), max(max(times) - min(times), 1e-3)
    highest = max(used for _, used in samples)
    top = 1.08 * max(highest, predicted or 0, limit if limit and limit < 4 * max(highest, predicted or 0) else 0)
    lines = []
    for one in timings.memory.values():
        points = " ".join(
            f"{(t - begin) / span * COLUMNS:.1f},{CHART * (1 - used / top):.1f}" for t, used in _thin(one, COLUMNS)
        )
        lines.append(f'<polyline class="used" points="{points}"/>')
    for value, name in ((limit, "limit"), (predicted, "predicted")):
        if value and value <= top:
            lines.append(f'<path class="{name}" d="M0 {CHART * (1 - value / top):.1f}h{COLUMNS}"/>')
    return {
        "svg": f'<svg viewBox="0 0 {COLUMNS} {CHART}" class="memory" role="img" preserveAspectRatio="none"'
        f' style="height:{CHART}px">{"".join(lines)}</svg>',
        "top": top,
        "limit_shown": bool(limit and limit <= top),
    }


def _thin(samples: list[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """Return at most so many samples, the largest of each step."""
    step = max(1, -(-len(samples) // most))
    return [max(samples[place : place + step], key=lambda one: one[1]) for place in range(0, len(samples), step)]
