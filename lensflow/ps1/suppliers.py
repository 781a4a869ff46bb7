"""Which projection supplies each pixel that no cell of another owns: rectangles and straight lines, no pixel is read.

Each pixel is asked for in the projections in order of the distance of their tangent points: the first in which all
four pixels round its position are owned supplies it. Which projection that is follows from rectangles alone. So an
area is cut into tiles until one projection supplies all of a tile, which its corners tell: the map between two
projections keeps straight lines straight, and which of two tangent points is nearer changes along a straight line.
Only tiles along such a line, or along the edge of what a projection owns, are decided pixel by pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow.arrays.reproject import Homography
from lensflow.ps1.cells import Rect, bounding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from lensflow.ps1.layout import Layout
    from lensflow.ps1.ownership import Index

TILE = 256  # px, the side of tiles before they are cut
SMALLEST = 32  # px, of tiles that are decided pixel by pixel
NEAR = 0.5  # of the nearness of tangent points: no grid reaches so far, and behind the sky it is negative


class Tile(NamedTuple):
    """A rectangle, and who supplies it: one projection all of it, or each pixel the first of several that can."""

    rect: Rect
    suppliers: tuple[int, ...]  # places in the sources of the layout
    whole: bool


def homographies(layout: Layout) -> list[Homography]:
    """Return the maps from a projection to its sources."""
    return [Homography.between(layout.tan, source.tan) for source in layout.sources]


def tiles(layout: Layout, area: Rect, maps: Sequence[Homography]) -> list[Tile]:
    """Cut what other projections are to fill of an area into tiles with one supplier, or too small to be cut.

    Parameters
    ----------
    layout
        Of the projection, with its sources.
    area
        In pixels of the projection.
    maps
        To the sources; see :func:`homographies`.
    """
    if not maps:
        return []
    found: list[Tile] = []
    rects = np.array([tile for rect in layout.unowned(area) for tile in _cut(rect)], np.int64).reshape(-1, 4)
    while len(rects):
        some, whole, nearest = _ask(layout, rects, maps)
        reached = some.any(axis=0)
        safe = np.maximum(nearest, 0)
        alone = reached & (nearest >= 0) & whole[safe, np.arange(len(rects))]
        small = (rects[:, 2:] - rects[:, :2]).max(axis=1) <= SMALLEST
        for at in np.flatnonzero(reached & (alone | small)):
            suppliers = (int(nearest[at]),) if alone[at] else tuple(np.flatnonzero(some[:, at]).tolist())
            found.append(Tile(Rect(*rects[at].tolist()), suppliers, bool(alone[at])))
        rects = _quarters(rects[reached & ~alone & ~small])
    return found


def extents(layout: Layout, area: Rect) -> dict[tuple[int, Index], Rect]:
    """Return what filling an area needs of the cells of its sources, some pixels to spare, before any is read.

    Returns
    -------
    dict
        By the place of a source in the layout and the (y, x) of its cell: the smallest rectangle, in pixels of the
        source, of what the cell owns there.
    """
    maps = homographies(layout)
    wanted: dict[int, list[Rect]] = {}
    for tile in tiles(layout, area, maps):
        for place in tile.suppliers:
            wanted.setdefault(place, []).append(tile.rect)
    found = {}
    for place, rects in sorted(wanted.items()):
        needed, _ = source_rects(np.array(rects), maps[place])
        around = Rect(*needed[:, :2].min(axis=0).tolist(), *needed[:, 2:].max(axis=0).tolist())
        for index, regions in layout.sources[place].owned(around).items():
            parts = [part for region in regions for part in _common(needed, region)]
            if parts:
                found[place, index] = bounding(parts)
    return found


def _common(rects: NDArray[np.int64], region: Rect) -> list[Rect]:
    """Return the smallest rectangle that holds what rectangles (n, 4) and a region share, if anything."""
    first, last = np.maximum(rects[:, :2], region[:2]), np.minimum(rects[:, 2:], region[2:])
    some = (first < last).all(axis=1)
    return [Rect(*first[some].min(axis=0).tolist(), *last[some].max(axis=0).tolist())] if some.any() else []


def _ask(
    layout: Layout, rects: NDArray[np.int64], maps: Sequence[Homography]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Return, for each source and rectangle, whether it owns some and all of it, and for each the nearest that may.

    That is -1 where different sources are nearest in different corners.
    """
    shape = len(maps), len(rects)
    some, whole = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    nearness = np.zeros((*shape, 4))
    for place, (source, homography) in enumerate(zip(layout.sources, maps, strict=True)):
        needed, near = source_rects(rects, homography)
        count = source.coverage.count(needed)
        visible = near.min(axis=1) > NEAR
        some[place] = visible & (count > 0)
        whole[place] = visible & (count == (needed[:, 2] - needed[:, 0]) * (needed[:, 3] - needed[:, 1]))
        nearness[place] = np.where(some[place][:, None], near, -1)
    first = nearness.argmax(axis=0)  # of equals the first: the lower number
    return some, whole, np.where((first == first[:, :1]).all(axis=1), first[:, 0], -1)


def source_rects(rects: NDArray[np.int64], homography: Homography) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rectangles of a source that rectangles (n, 4) need, with a pixel to spare, and how near (n, 4) it is.

    Straight lines stay straight, so that the corners bound the rest. A rectangle behind the sky needs nothing.
    """
    y0, x0, y1, x1 = rects.T
    mapped = homography(np.stack([x0, x1 - 1, x0, x1 - 1], axis=1), np.stack([y0, y0, y1 - 1, y1 - 1], axis=1))
    lowest, highest = ([edge(axis, axis=1) for axis in (mapped.y, mapped.x)] for edge in (np.min, np.max))
    needed = np.stack([*(np.floor(one) - 1 for one in lowest), *(np.floor(one) + 3 for one in highest)], axis=1)
    visible = mapped.nearness.min(axis=1) > NEAR
    return np.where(visible[:, None], needed, 0).astype(np.int64), mapped.nearness


def _cut(rect: Rect) -> Iterator[Rect]:
    for y in range(rect.y0, rect.y1, TILE):
        for x in range(rect.x0, rect.x1, TILE):
            yield Rect(y, x, min(y + TILE, rect.y1), min(x + TILE, rect.x1))


def _quarters(rects: NDArray[np.int64]) -> NDArray[np.int64]:
    """Halve the sides (of rectangles (n, 4)) that are longer than the smallest tile."""
    for first, last in ((0, 2), (1, 3)):
        long = rects[:, last] - rects[:, first] > SMALLEST
        upper = rects[long]
        middle = (upper[:, first] + upper[:, last]) // 2
        rects = rects.copy()
        rects[long, last] = middle
        upper[:, first] = middle
        rects = np.concatenate([rects, upper])
    return rects
