"""Pixels that no cell of a projection owns, filled from the projections round it.

Each pixel is asked for in the projections in order of the distance of their tangent points: the first in which all
four pixels round its position are owned supplies it. Which projection that is follows from rectangles alone. So an
area is cut into tiles until one projection supplies all of a tile, which its corners tell: the map between two
projections keeps straight lines straight, and which of two tangent points is nearer changes along a straight line.
Only tiles along such a line, or along the edge of what a projection owns, are decided pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow.arrays.reproject import Bilinear, Homography, Mapped
from lensflow.ps1.cells import Rect, bounding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from lensflow.ps1.layout import Layout
    from lensflow.ps1.mosaic import Pixels

TILE = 256  # px, the side of tiles before they are cut
SMALLEST = 32  # px, of tiles that are decided pixel by pixel
WINDOW = 1 << 24  # px of a source that are held at once: at most 170 MB
NEAR = 0.5  # of the nearness of tangent points: no grid reaches so far, and behind the sky it is negative


class Tile(NamedTuple):
    """A rectangle, and who supplies it: one projection all of it, or each pixel the first of several that can."""

    rect: Rect
    suppliers: tuple[int, ...]  # places in the sources of the layout
    whole: bool


@dataclass(frozen=True)
class Supply:
    """What one projection supplies of a tile."""

    rect: Rect
    homography: Homography
    chosen: NDArray[np.bool_] | None = None  # of the tile; None is all of it

    @property
    def supplied(self) -> NDArray[np.bool_]:
        """Which pixels of the tile."""
        return np.ones(self.rect.shape, np.bool_) if self.chosen is None else self.chosen

    @cached_property
    def source(self) -> Rect:
        """The pixels of the projection that are needed."""
        return Rect(*(int(edge) for edge in source_rects(np.array([self.rect]), self.homography)[0][0]))

    def mapped(self) -> Mapped:
        """Return the positions of its pixels in the projection."""
        y, x = _pixels(self.rect)
        mapped = self.homography(x, y)
        return mapped if self.chosen is None else Mapped(*(values[self.chosen] for values in mapped))


def fill(
    layout: Layout, area: Rect, pixels: Pixels, *, read: Callable[[Layout, Rect], Pixels]
) -> list[tuple[Rect, NDArray[np.bool_]]]:
    """Fill what no cell owns of an area, as far as other projections reach.

    Parameters
    ----------
    layout
        Of the projection, with its sources.
    area
        In pixels of the projection.
    pixels
        Of the area; filled in place.
    read
        Returns the owned pixels of an area of a source. At most 2^24 pixels are asked for at once.

    Returns
    -------
    list
        Rectangles and which of their pixels were supplied, be it with NaN.
    """
    maps = homographies(layout)
    supplies: dict[int, list[Supply]] = {}
    for tile in tiles(layout, area, maps):
        for place, supply in _supplies(layout, tile, maps):
            supplies.setdefault(place, []).append(supply)
    for place, wanted in sorted(supplies.items()):
        for window, inside in _windows(wanted):
            source = read(layout.sources[place], window)
            for supply in inside:
                _resample(source, window, supply, pixels, area)
    return [(supply.rect, supply.supplied) for wanted in supplies.values() for supply in wanted]


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


def _pixels(rect: Rect) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(rect.y0, rect.y1)[:, None], np.arange(rect.x0, rect.x1)[None, :]


def _supplies(layout: Layout, tile: Tile, maps: Sequence[Homography]) -> Iterator[tuple[int, Supply]]:
    """Yield what each source supplies of a tile."""
    if tile.whole:
        [place] = tile.suppliers
        yield place, Supply(tile.rect, maps[place])
        return
    y, x = _pixels(tile.rect)
    best = np.full(tile.rect.shape, NEAR)
    chosen = np.full(tile.rect.shape, -1)
    for place in tile.suppliers:
        there = maps[place](x, y)
        below, left = (np.floor(axis).astype(np.int64) for axis in (there.y, there.x))
        better = layout.sources[place].coverage.holds(below, left) & (there.nearness > best)
        best[better] = there.nearness[better]
        chosen[better] = place
    for place in tile.suppliers:
        mine = chosen == place
        if mine.any():
            yield place, Supply(tile.rect, maps[place], mine)


def _windows(supplies: list[Supply]) -> Iterator[tuple[Rect, list[Supply]]]:
    """Group what a projection supplies so that little else is read with it, and no more than a window at once."""
    window = bounding([supply.source for supply in supplies])
    height, width = window.shape
    if len(supplies) == 1:
        yield window, supplies
        return
    for axis in (1, 0):
        parts = _apart(supplies, axis)
        if len(parts) > 1:
            for part in parts:
                yield from _windows(part)
            return
    if height * width <= WINDOW:
        yield window, supplies
        return
    # files hold whole rows: halved by rows, nothing is read twice but what lies on the border
    axis = 0 if height > TILE else 1
    ordered = sorted(supplies, key=lambda supply: supply.source[axis])
    half = len(ordered) // 2
    yield from _windows(ordered[:half])
    yield from _windows(ordered[half:])


def _apart(supplies: list[Supply], axis: int) -> list[list[Supply]]:
    """Split where a row or column of the projection is not needed at all."""
    parts: list[list[Supply]] = []
    end = 0
    for supply in sorted(supplies, key=lambda supply: supply.source[axis]):
        if parts and supply.source[axis] <= end:
            parts[-1].append(supply)
        else:
            parts.append([supply])
        end = max(end, supply.source[axis + 2]) if len(parts[-1]) > 1 else supply.source[axis + 2]
    return parts


def _resample(source: Pixels, window: Rect, supply: Supply, pixels: Pixels, area: Rect) -> None:
    """Paste the values at the positions of a tile.

    A pixel holds the flux of its solid angle, cos^3(distance to the tangent point) times that at the centre.
    """
    there = supply.mapped()
    between = Bilinear.at(there.x, there.y, origin=(window.y0, window.x0), width=window.shape[1])
    angle = 1 / (there.nearness * there.nearness * there.nearness)  # a power is ten times as slow
    here = supply.rect.moved(-area.y0, -area.x0).slices
    into = ... if supply.chosen is None else supply.chosen
    pixels.flux[here][into] = between.of(source.flux) * angle
    pixels.mask[here][into] = between.nearest(source.mask)
    if pixels.variance is not None and source.variance is not None:
        # neighbours that share a source pixel vary together: interpolated like a flux, not summed with squared
        # weights, the variance of a sum over many pixels comes out right with the noise taken as uncorrelated
        pixels.variance[here][into] = between.of(source.variance) * angle**2
