"""Pixels that no cell of a projection owns, resampled from the projections round it: a window of a source at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lensflow.arrays.reproject import Bilinear, Mapped
from lensflow.ps1.cells import Rect, bounding
from lensflow.ps1.suppliers import NEAR, TILE, homographies, source_rects, tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from lensflow.arrays.reproject import Homography
    from lensflow.ps1.layout import Layout
    from lensflow.ps1.pixels import Pixels
    from lensflow.ps1.suppliers import Tile

WINDOW = 1 << 24  # px of a source that are held at once: at most 170 MB


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
    ordered = sorted(supplies, key=lambda supply: supply.source[axis])
    parts: list[list[Supply]] = [[]]
    end = ordered[0].source[axis]
    for supply in ordered:
        if supply.source[axis] > end:
            parts.append([])
        parts[-1].append(supply)
        end = max(end, supply.source[axis + 2])
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
