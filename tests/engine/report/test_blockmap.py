"""The map of blocks: every block is somewhere on it, in the colour of what became of it, however many there are."""

from __future__ import annotations

import math
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.engine.journal import State
from lensflow.engine.report.blockmap import POINTED, STATES, maps

SHAPES = st.lists(st.integers(1, 7), max_size=3)


def grid(*numblocks: int) -> dict[str, Any]:
    return {"label": "g/a", "dims": ["t", "y", "x"][-len(numblocks) :] if numblocks else [], "numblocks": numblocks}


def cells_of(svg: str, name: str) -> float:
    """Return the area of a class: the cells that are drawn in it."""
    (path,) = re.findall(rf'<path class="{name}" d="([^"]*)"', svg) or [""]
    runs = sum(int(one) for one in re.findall(r"h(\d+)v1H", path))
    return runs + len(re.findall(r"h0\.88v0\.88", path))


@given(numblocks=SHAPES, data=st.data())
@settings(deadline=None, max_examples=60)
def test_every_block_is_drawn_once_in_its_colour(numblocks: list[int], data: st.DataObject) -> None:
    total = math.prod(numblocks)
    names = [f"g/a[{index}]" for index in _indices(numblocks)]
    what = data.draw(st.lists(st.sampled_from(STATES), min_size=total, max_size=total))
    kinds = dict(zip(names, what, strict=True))
    state = State(
        done={name: {"seconds": 1.0} for name, kind in kinds.items() if kind in {"done", "retried"}},
        quarantined={name: {} for name, kind in kinds.items() if kind == "quarantined"},
        damaged={name: "gone" for name, kind in kinds.items() if kind == "damaged"},
    )
    (found,) = maps([grid(*numblocks)], state, {name for name, kind in kinds.items() if kind == "retried"})
    for kind in STATES:
        assert cells_of(found.states, f"s-{kind}") == what.count(kind)
    for name, kind in kinds.items():
        assert f"<title>{name}: {kind}" in found.states


def _indices(numblocks: list[int]) -> list[str]:
    indices = [""]
    for count in numblocks:
        indices = [f"{one},{place}".lstrip(",") for one in indices for place in range(count)]
    return indices


def test_of_many_blocks_the_worst_shows_and_the_page_stays_small() -> None:
    done = {f"g/a[{row},{column}]": {"seconds": row + 1.0} for row in range(1000) for column in range(100)}
    lost = "g/a[777,50]"
    del done[lost]
    (found,) = maps([grid(1000, 100)], State(done=done, quarantined={lost: {}}), set())
    assert len(done) > POINTED
    assert cells_of(found.states, "s-quarantined") >= 1
    assert len(found.states) < 200_000
    assert len(found.seconds) < 200_000
    assert "<title>" not in found.states


def test_the_shades_of_seconds_are_explained_and_hold_about_as_many_blocks() -> None:
    done = {f"g/a[{place}]": {"seconds": float(place + 1)} for place in range(60)}
    (found,) = maps([grid(60)], State(done=done), set())
    assert [cells_of(found.seconds, f"l-{level}") for level in range(6)] == [10] * 6
    assert found.scale[0] == "to 11 s"
    assert found.scale[-1] == "over 50 s"
    assert found.caption == "60 blocks (x)"
