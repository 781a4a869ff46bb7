"""The output grid as a picture: what became of each block, and how long writing it took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.engine.progress import duration
from lensflow.engine.report.svg import raster, titles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lensflow.engine.journal import State

STATES = ("done", "retried", "missing", "damaged", "quarantined")  # the worst last
DONE, RETRIED, MISSING, DAMAGED, QUARANTINED = range(len(STATES))
LEVELS = 6  # shades of the map of seconds
FOLD = 60  # blocks in a row where a grid has one long dimension only
LARGEST = 400  # rows and columns that are drawn; of more, several blocks share a cell, and the worst shows
POINTED = 2500  # blocks that can be pointed at


@dataclass(frozen=True)
class Map:
    """Pictures of one grid (SVG), what the shades of the second mean, and what was drawn."""

    label: str
    caption: str
    states: str
    seconds: str
    scale: list[str]


def maps(grids: Sequence[Mapping[str, Any]], state: State, retried: set[str]) -> list[Map]:
    """Draw every grid of a run.

    Parameters
    ----------
    grids
        Label, dims and numblocks of each.
    state, retried
        What became of the blocks, and which of them needed more than one attempt.
    """
    return [_map(grid, state, retried) for grid in grids]


def _map(grid: Mapping[str, Any], state: State, retried: set[str]) -> Map:
    shape = _folded(grid["numblocks"])
    names = _names(grid)
    states = np.fromiter((_state(name, state, retried) for name in names), np.int8, len(names))
    seconds = np.fromiter((state.done.get(name, {}).get("seconds", np.nan) for name in names), float, len(names))
    limits = _limits(seconds)
    levels = np.where(np.isfinite(seconds), np.searchsorted(limits, np.nan_to_num(seconds)), -1)
    blocks = " x ".join(map(str, grid["numblocks"])) or "1"
    caption = f"{blocks} block{'' if len(names) == 1 else 's'} ({', '.join(map(str, grid['dims'])) or 'no dimension'})"
    pointed = {}
    if len(names) <= POINTED:
        for place, name in enumerate(names):
            took = f", {duration(seconds[place])}" if np.isfinite(seconds[place]) else ""
            pointed[divmod(place, shape[1])] = f"{name}: {STATES[states[place]]}{took}"
    return Map(
        label=str(grid["label"]),
        caption=caption,
        states=_drawn(states, shape, {value: f"s-{name}" for value, name in enumerate(STATES)}, pointed),
        seconds=_drawn(levels, shape, {-1: "s-missing", **{level: f"l-{level}" for level in range(LEVELS)}}, pointed),
        scale=[f"to {duration(limit)}" for limit in limits] + ([f"over {duration(limits[-1])}"] if limits.size else []),
    )


def _names(grid: Mapping[str, Any]) -> list[str]:
    """Return the identifiers of a grid's blocks in C order."""
    places = product(*(range(count) for count in grid["numblocks"]))
    return [f"{grid['label']}[{','.join(map(str, index))}]" for index in places]


def _folded(numblocks: Sequence[int]) -> tuple[int, int]:
    """Return rows and columns of the picture: a long line of blocks is broken, further dimensions stand below."""
    total = math.prod(numblocks)
    columns = numblocks[-1] if numblocks else 1
    if (columns <= 4 and columns < total / 4) or columns == total:
        columns = min(total, max(FOLD, math.isqrt(total) * 2))
    return -(-total // max(columns, 1)), max(columns, 1)


def _state(name: str, state: State, retried: set[str]) -> int:
    if name in state.done:
        return RETRIED if name in retried else DONE
    if name in state.quarantined:
        return QUARANTINED
    return DAMAGED if name in state.damaged else MISSING


def _limits(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper limits of all shades but the last: equally many blocks in each."""
    known = seconds[np.isfinite(seconds)]
    if not known.size:
        return np.empty(0)
    return np.unique(np.quantile(known, np.arange(1, LEVELS) / LEVELS))


def _drawn(
    values: NDArray[np.integer],
    shape: tuple[int, int],
    classes: Mapping[int, str],
    pointed: Mapping[tuple[int, int], str],
) -> str:
    whole = np.full(shape[0] * shape[1], -2, np.int64)  # -2: behind the last block, not drawn
    whole[: values.size] = values
    cells = _thinned(whole.reshape(shape))
    rows, columns = cells.shape
    side = min(26, 860 / columns, 420 / rows)  # px of a cell on the page
    body = raster(cells, classes, gap=0.12 if values.size <= POINTED else 0.0) + titles(pointed)
    return (
        f'<svg viewBox="0 0 {columns} {rows}" width="{columns * side:.0f}" height="{rows * side:.0f}"'
        f' preserveAspectRatio="none" role="img" class="map">{body}</svg>'
    )


def _thinned(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Let several blocks share a cell where there are too many, the worst (largest) one showing."""
    steps = [max(1, -(-length // LARGEST)) for length in cells.shape]
    padded = np.pad(cells, [(0, -length % step) for length, step in zip(cells.shape, steps, strict=True)], "edge")
    rows, columns = (length // step for length, step in zip(padded.shape, steps, strict=True))
    worst: NDArray[np.int64] = padded.reshape(rows, steps[0], columns, steps[1]).max(axis=(1, 3))
    return worst
