"""The timeline: each worker's work at its time, deaths and new drivers marked, hundreds of workers folded."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lensflow.engine.journal import State
from lensflow.engine.report.stages import Timings
from lensflow.engine.report.timeline import COLOURS, COLUMNS, LANES, memory_chart, of_writes, timeline

if TYPE_CHECKING:
    from pathlib import Path


def timings(rows: list[tuple[int, int, float, float]], stages: int = 2, workers: int = 2) -> Timings:
    return Timings(
        [f"stage{one}" for one in range(stages)], [f"tcp://h:{one}" for one in range(workers)], np.array(rows)
    )


def area(svg: str, colour: int, lane: int) -> int:
    (path,) = re.findall(rf'<path class="c-{colour}" d="([^"]*)"', svg) or [""]
    return sum(int(width) for width in re.findall(rf"M\d+ {lane}h(\d+)v1", path))


def test_work_is_drawn_where_and_when_it_was_done() -> None:
    found = timeline(timings([(0, 0, 100.0, 6.0), (1, 0, 106.0, 3.0), (0, 1, 101.0, 1.0), (1, 1, 109.0, 1.0)]), [], [])
    assert found["seconds"] == 10.0
    assert found["legend"] == [("stage0", "c-0"), ("stage1", "c-1")]
    assert found["lanes"] == ["h:0", "h:1"]
    for colour, lane, share in ((0, 0, 0.6), (1, 0, 0.3), (0, 1, 0.1), (1, 1, 0.1)):
        assert area(found["svg"], colour, lane) == pytest.approx(share * COLUMNS, abs=1)


def test_short_tasks_add_up() -> None:
    rows = [(0, 0, 0.001 * one, 0.001) for one in range(1000)] + [(1, 0, 1.0, 1.0)]
    found = timeline(timings(rows, workers=1), [], [])
    assert area(found["svg"], 1, 0) + area(found["svg"], 0, 0) == COLUMNS
    assert area(found["svg"], 0, 0) == pytest.approx(COLUMNS / 2, abs=1)


def test_deaths_and_new_drivers_are_marked() -> None:
    troubles = [{"t": 107.0, "worker": worker, "what": "died"} for worker in ("tcp://h:0", "tcp://elsewhere")]
    found = timeline(timings([(0, 0, 100.0, 10.0)], workers=1), [{"t": 99.0}, {"t": 105.0}], troubles)
    assert found["svg"].count('class="session"') == 1
    assert found["svg"].count("<title>died</title>") == 1


def test_many_workers_and_stages_are_folded() -> None:
    rows = [(one % 12, one, float(one), 1.0 + one) for one in range(LANES + 10)]
    found = timeline(timings(rows, stages=12, workers=LANES + 10), [], [])
    assert len(found["lanes"]) == LANES
    assert found["folded"] == 10
    assert len(found["legend"]) == COLOURS
    assert found["legend"][-1] == ("other steps", f"c-{COLOURS - 1}")


def test_nothing_is_drawn_of_nothing() -> None:
    assert timeline(Timings(), [], []) == {}
    assert memory_chart(Timings(), None, None) == {}
    assert of_writes(State()).rows.shape == (0, 4)


def test_without_timings_the_writes_are_known() -> None:
    state = State(done={"a[0]": {"began": 5.0, "seconds": 1.0, "pid": 3, "host": "h"}, "a[1]": {}})
    found = of_writes(state)
    assert found.workers == ["process 3 on h"]
    assert found.rows.tolist() == [[0, 0, 5.0, 1.0]]


@pytest.mark.parametrize(("limit", "shown"), [(300, True), (10_000, False), (None, False)])
def test_memory_is_drawn_against_its_limit_unless_that_is_far_away(limit: int | None, shown: bool) -> None:  # noqa: FBT001
    found = memory_chart(Timings(memory={"w": [(0.0, 100), (1.0, 200)]}), limit, 150)
    assert found["limit_shown"] == shown
    assert ('class="limit"' in found["svg"]) == shown
    assert 'class="predicted"' in found["svg"]
    assert found["top"] >= 200


def entry(**fields: Any) -> str:
    return json.dumps({"t": 1.0, "event": "tasks", **fields}) + "\n"


def test_batches_number_their_stages_and_workers_anew(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(
        entry(stages=["a", "b"], workers=["w"], rows=[[0, 0, 1.0, 2.0], [1, 0, 3.0, 4.0]], memory={"w": 5})
        + entry(stages=["b"], workers=["v", "w"], rows=[[0, 0, 5.0, 6.0], [0, 1, 7.0, 8.0]], memory={"w": 9})
        + entry(stages=[], workers=[], rows=[], memory={"v": 1})
        + '{"t": 1, "event": "tasks"}\n{"torn'
    )
    found = Timings.read(path)
    assert (found.names, found.workers) == (["a", "b"], ["w", "v"])
    assert found.rows.tolist() == [[0, 0, 1, 2], [1, 0, 3, 4], [1, 1, 5, 6], [1, 0, 7, 8]]
    assert found.memory_peaks() == {"w": 9, "v": 1}
    longest, other = found.stages()
    assert (longest["stage"], longest["count"], longest["p50"], longest["total"]) == ("b", 3, 6.0, 18.0)
    assert (other["stage"], other["share"]) == ("a", 0.1)
