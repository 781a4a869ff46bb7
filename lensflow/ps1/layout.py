"""The layout of a projection: its box, its blocks, who owns what, and what is left to others. No pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from lensflow.arrays.interlock import interlocked, padded
from lensflow.arrays.reproject import TanGrid
from lensflow.ps1.cells import Rect, bounding
from lensflow.ps1.ownership import Coverage, owned_regions, uncovered

if TYPE_CHECKING:
    from lensflow.ps1.cells import CellFiles
    from lensflow.ps1.combine import Recipe
    from lensflow.ps1.ownership import Index
    from lensflow.ps1.tessellation import Projection, Skycell


@dataclass(frozen=True)
class Layout:
    """All that is known of the image of a projection before a pixel is read.

    Parameters
    ----------
    projection
        The grid.
    cells
        Cells that are used as data: the selected ones that are present, and halo cells.
    selected
        The selected cells that are present.
    recipe
        How bands are combined.
    crval
        The tangent point of the files in degrees.
    edge, split
        Rules of ownership, px.
    pad
        Margin of the image around the box on all sides, px: the halo of the outermost blocks.
    columns_per_block
        Width of blocks in strides of cells; None is the whole width.
    reach
        How far from the selected data other projections fill what no cell owns, px.
    sources
        The other projections, in order of number, each with the cells that may fill something here.
    """

    projection: Projection
    cells: tuple[CellFiles, ...]
    selected: tuple[Skycell, ...]
    recipe: Recipe
    crval: tuple[float, float]
    edge: int
    split: int
    pad: int
    columns_per_block: int | None = None
    reach: int = 0
    sources: tuple[Layout, ...] = ()

    @cached_property
    def box(self) -> Rect:
        """Bounding rectangle of the selected data, in pixels of the projection."""
        return bounding(self.selected_rects())

    @property
    def cells_read(self) -> tuple[CellFiles, ...]:
        """All cells that are read: of the projection, and of those that fill in."""
        return (*self.cells, *(files for other in self.sources for files in other.cells))

    def combining(self, recipe: Recipe) -> Layout:
        """Return the layout with another recipe, for the other projections as well."""
        return replace(self, recipe=recipe, sources=tuple(replace(one, recipe=recipe) for one in self.sources))

    def selected_rects(self) -> list[Rect]:
        """Return the data rectangles of the selected cells, in pixels of the projection."""
        chosen = set(self.selected)
        return [self.data_rect(files) for files in self.cells if files.cell in chosen]

    def data_rect(self, files: CellFiles) -> Rect:
        """Return the data rectangle of a cell, in pixels of the projection."""
        return files.rect.moved(*self.projection.cell_origin(files.cell.y, files.cell.x))

    @cached_property
    def usable(self) -> dict[Index, Rect]:
        """The usable rectangle of each cell, in pixels of the projection."""
        full = Rect(0, 0, self.projection.height, self.projection.width).grown(-self.edge)
        return {
            (files.cell.y, files.cell.x): files.rect.common(full).moved(
                *self.projection.cell_origin(files.cell.y, files.cell.x)
            )
            for files in self.cells
        }

    @cached_property
    def coverage(self) -> Coverage:
        """All pixels that some cell owns."""
        return Coverage(list(self.usable.values()))

    @property
    def tan(self) -> TanGrid:
        """The grid on the sky, by the tangent point of the files."""
        x, y = self.projection.crpix
        return TanGrid(*self.crval, x - 1, y - 1, self.projection.geometry.pixel_scale)

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Chunks of the box: T rows (the last block holds the rest), the whole width or n*S columns."""
        height, width = self.box.shape
        columns = self.columns_per_block
        across = width if columns is None else columns * self.projection.stride_x
        return _lengths(height, self.projection.stride_y), _lengths(width, across)

    @property
    def pieces(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Chunks of the padded image: rows that blocks share as their halos are pieces of their own."""
        down, across = self.chunks
        return interlocked(down, self.pad), padded(across, self.pad)

    def piece(self, index: tuple[int, ...]) -> Rect:
        """Return the pixels of the projection that a piece of the padded image covers."""
        corner = self.box.grown(self.pad)
        (y0, y1), (x0, x1) = (
            list(pairwise(accumulate(lengths, initial=0)))[i] for i, lengths in zip(index, self.pieces, strict=True)
        )
        return Rect(y0, x0, y1, x1).moved(corner.y0, corner.x0)

    def owned(self, area: Rect) -> dict[Index, list[Rect]]:
        """Return what each cell owns of an area, in pixels of the projection."""
        regions: dict[Index, list[Rect]] = {}
        for index, rect in owned_regions(
            area,
            self.usable,
            stride=(self.projection.stride_y, self.projection.stride_x),
            overlap=self.projection.geometry.overlap,
            split=self.split,
        ):
            regions.setdefault(index, []).append(rect)
        return regions

    def unowned(self, area: Rect) -> list[Rect]:
        """Return what no cell owns of an area, within reach of the selected data: for other projections to fill."""
        near = [rect.grown(self.reach) for rect in self.selected_rects()]
        return uncovered(area, near, list(self.usable.values()))


def _lengths(size: int, step: int) -> tuple[int, ...]:
    whole, rest = divmod(size, step)
    return (step,) * whole + ((rest,) if rest else ())
