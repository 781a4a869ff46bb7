"""Which skycell a pixel of a projection comes from: arithmetic on rectangles, no pixel value plays a part.

Neighbours share an overlap. Each pixel has one writer: along each axis the cell on this side of the middle of
the overlap is asked first, then the one on the other side; among the four combinations the first cell that
is present and usable (``edge`` pixels from its edges, inside its data) owns the pixel.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow.ps1.cells import Rect
from lensflow.ps1.tessellation import CELLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Index = tuple[int, int]  # (y, x) of a cell


class Strip(NamedTuple):
    """Pixels of one axis that have the same cells to come from, in order of preference."""

    start: int
    stop: int
    cells: tuple[int, ...]


def strips(start: int, stop: int, *, stride: int, overlap: int, split: int) -> list[Strip]:
    """Cut an axis into strips of equal candidates.

    With h = split: the first choice is clip(floor((X - h)/S), 0, 9), the second the other cell that shares X in
    an overlap [kS, kS + O), 1 <= k <= 9.
    """
    borders = {start, stop}
    for k in range(1, CELLS):
        borders |= {k * stride, k * stride + split, k * stride + overlap}
    inside = sorted(border for border in borders if start <= border <= stop)
    return [Strip(a, b, _candidates(a, stride, overlap, split)) for a, b in pairwise(inside)]


def _candidates(position: int, stride: int, overlap: int, split: int) -> tuple[int, ...]:
    first = min(max((position - split) // stride, 0), CELLS - 1)
    k, beyond = divmod(position, stride)
    if 1 <= k < CELLS and beyond < overlap:
        return first, (k - 1 if first == k else k)
    return (first,)


def owned_regions(
    area: Rect, usable: Mapping[Index, Rect], *, stride: Index, overlap: int, split: int
) -> list[tuple[Index, Rect]]:
    """Return who owns what inside an area of a projection: disjoint rectangles, one cell each.

    Parameters
    ----------
    area
        Pixels of the projection.
    usable
        The usable rectangle, in pixels of the projection, of each cell that is present.
    stride
        (T, S): pixels from a cell to the next, in y and x.
    overlap, split
        Pixels; see :func:`strips`.
    """
    near = {index: rect for index, rect in usable.items() if not rect.common(area).empty}
    if not near:
        return []
    down = _cut(
        strips(area.y0, area.y1, stride=stride[0], overlap=overlap, split=split),
        {edge for rect in near.values() for edge in (rect.y0, rect.y1)},
    )
    across = _cut(
        strips(area.x0, area.x1, stride=stride[1], overlap=overlap, split=split),
        {edge for rect in near.values() for edge in (rect.x0, rect.x1)},
    )
    rows = [(y, _merged_row([(x, _owner(y, x, near)) for x in across])) for y in down]
    return _merged(rows)


def _cut(parts: list[Strip], edges: set[int]) -> list[Strip]:
    pieces = []
    for part in parts:
        borders = sorted({part.start, part.stop} | {edge for edge in edges if part.start < edge < part.stop})
        pieces += [Strip(a, b, part.cells) for a, b in pairwise(borders)]
    return pieces


def _owner(y: Strip, x: Strip, usable: Mapping[Index, Rect]) -> Index | None:
    for cy in y.cells:
        for cx in x.cells:
            rect = usable.get((cy, cx))
            # an elementary rectangle lies wholly inside or outside of it: its first pixel tells
            if rect is not None and rect.y0 <= y.start < rect.y1 and rect.x0 <= x.start < rect.x1:
                return cy, cx
    return None


def _merged_row(cells: list[tuple[Strip, Index | None]]) -> list[tuple[int, int, Index]]:
    """Join neighbouring pieces of one owner in a row: (start, stop, owner)."""
    runs: list[tuple[int, int, Index]] = []
    for x, owner in cells:
        if owner is None:
            continue
        if runs and runs[-1][2] == owner and runs[-1][1] == x.start:
            runs[-1] = (runs[-1][0], x.stop, owner)
        else:
            runs.append((x.start, x.stop, owner))
    return runs


def _merged(rows: list[tuple[Strip, list[tuple[int, int, Index]]]]) -> list[tuple[Index, Rect]]:
    """Join runs that continue unchanged in the next row."""
    done: list[tuple[Index, Rect]] = []
    growing: dict[tuple[int, int, Index], int] = {}  # run -> its first row
    last = rows[0][0].start
    for y, runs in [*rows, (Strip(rows[-1][0].stop, rows[-1][0].stop, ()), [])]:
        ended = [run for run in growing if run not in runs]
        done.extend((run[2], Rect(growing.pop(run), run[0], last, run[1])) for run in ended)
        for run in runs:
            growing.setdefault(run, y.start)
        last = y.stop
    return sorted(done)


class Coverage:
    """The union of rectangles, to be asked about many pixels at once.

    Their edges cut the plane into elementary rectangles that lie wholly inside or outside of it.
    """

    def __init__(self, rects: Sequence[Rect]) -> None:
        rects = rects or [Rect(0, 0, 0, 0)]  # edges to count from, and nothing inside
        self._y = np.array(sorted({edge for r in rects for edge in (r.y0, r.y1)}), np.int64)
        self._x = np.array(sorted({edge for r in rects for edge in (r.x0, r.x1)}), np.int64)
        self._inside = np.zeros((len(self._y) + 1, len(self._x) + 1), np.bool_)  # the outermost reach to infinity
        for rect in rects:
            rows, columns = (
                slice(*np.searchsorted(edges, ends, "right"))
                for edges, ends in ((self._y, (rect.y0, rect.y1)), (self._x, (rect.x0, rect.x1)))
            )
            self._inside[rows, columns] = True
        heights, widths = (np.diff(edges, prepend=edges[:1], append=edges[-1:]) for edges in (self._y, self._x))
        inside = self._inside.astype(np.int64)
        # pixels inside, of whole elementary rectangles: below a row, left of a column, and below and left of both
        self._below = _before(inside * heights[:, None], axis=0)
        self._left = _before(inside * widths, axis=1)
        self._corner = _before(self._below * widths, axis=1)

    def holds(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether all of (y, x), (y, x+1), (y+1, x) and (y+1, x+1) are inside, for each pixel."""
        rows = [np.searchsorted(self._y, y + k, "right") for k in (0, 1)]
        columns = [np.searchsorted(self._x, x + k, "right") for k in (0, 1)]
        first, *others = (self._inside[row, column] for row in rows for column in columns)
        for one in others:
            first &= one
        return np.asarray(first, np.bool_)

    def count(self, rects: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many pixels of rectangles (..., 4: y0, x0, y1, x1) are inside."""
        y0, x0, y1, x1 = np.moveaxis(rects, -1, 0)
        return self._before(y1, x1) - self._before(y0, x1) - self._before(y1, x0) + self._before(y0, x0)

    def _before(self, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the pixels inside that are below y and left of x."""
        row, column = np.searchsorted(self._y, y, "right"), np.searchsorted(self._x, x, "right")
        up, right = y - self._y[np.maximum(row - 1, 0)], x - self._x[np.maximum(column - 1, 0)]
        return np.asarray(
            self._corner[row, column]
            + right * self._below[row, column]
            + up * self._left[row, column]
            + up * right * self._inside[row, column]
        )


def _before(counts: NDArray[np.int64], *, axis: int) -> NDArray[np.int64]:
    return np.asarray(np.cumsum(counts, axis=axis) - counts)


def uncovered(area: Rect, within: Sequence[Rect], by: Sequence[Rect]) -> list[Rect]:
    """Return, as disjoint rectangles, what some rectangles cover of an area and others do not."""
    near, gone = ([r.common(area) for r in rects if not r.common(area).empty] for rects in (within, by))
    if not near:
        return []
    y, x = (
        np.array(sorted({edge for r in [*near, *gone] for edge in (r[axis], r[axis + 2])}), np.int64) for axis in (0, 1)
    )
    left = np.zeros((len(y) - 1, len(x) - 1), np.bool_)
    for rects, value in ((near, True), (gone, False)):
        for r in rects:
            left[slice(*np.searchsorted(y, (r.y0, r.y1))), slice(*np.searchsorted(x, (r.x0, r.x1)))] = value
    columns = [Strip(int(a), int(b), ()) for a, b in pairwise(x)]
    rows = [
        (
            Strip(int(a), int(b), ()),
            _merged_row([(column, (0, 0) if one else None) for column, one in zip(columns, line, strict=True)]),
        )
        for (a, b), line in zip(pairwise(y), left, strict=True)
    ]
    return [rect for _, rect in _merged(rows)]
