"""Skycells stitched into the image of a projection: one task a block, each reads just the rows it needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from lensflow import events
from lensflow.ps1.cells import Rect, bounding
from lensflow.ps1.combine import Combination, Recipe, agrees
from lensflow.ps1.ownership import owned_regions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lensflow.ps1.cells import CellFiles
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
        Margin of the image around the box on all sides, px.
    columns_per_block
        Width of blocks in strides of cells; None is the whole width.
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

    @cached_property
    def box(self) -> Rect:
        """Bounding rectangle of the selected data, in pixels of the projection."""
        return bounding(self.selected_rects())

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

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Chunks of the box: T rows (the last block holds the rest), the whole width or n*S columns."""
        height, width = self.box.shape
        columns = self.columns_per_block
        across = width if columns is None else columns * self.projection.stride_x
        return _lengths(height, self.projection.stride_y), _lengths(width, across)

    @property
    def padded_chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Chunks of the padded image: as those of the box, the outermost carry the pad."""
        down, across = (_padded(lengths, self.pad) for lengths in self.chunks)
        return down, across

    def block(self, index: tuple[int, ...]) -> Rect:
        """Return the pixels of the projection that a block of the padded image covers."""
        corner = self.box.grown(self.pad)
        (y0, y1), (x0, x1) = (
            list(pairwise(accumulate(lengths, initial=0)))[i]
            for i, lengths in zip(index, self.padded_chunks, strict=True)
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


def _lengths(size: int, step: int) -> tuple[int, ...]:
    whole, rest = divmod(size, step)
    return (step,) * whole + ((rest,) if rest else ())


def _padded(lengths: tuple[int, ...], pad: int) -> tuple[int, ...]:
    padded = list(lengths)
    padded[0] += pad
    padded[-1] += pad
    return tuple(padded)


def stitch(layout: Layout, *, origin: bool = False, block_id: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
    """Read, combine and paste the cells of one block.

    Returns
    -------
    tuple
        flux (f4), mask (u2), then variance (f4) if the recipe asks for it, then origin (u1) if asked for.
    """
    area = layout.block(block_id)
    flux = np.full(area.shape, np.nan, np.float32)
    mask = np.zeros(area.shape, np.uint16)
    variance = np.full(area.shape, np.nan, np.float32) if layout.recipe.uncertainty else None
    source = np.zeros(area.shape, np.uint8) if origin else None
    cells = {(files.cell.y, files.cell.x): files for files in layout.cells}
    for index, regions in layout.owned(area).items():
        files = cells[index]
        _paste(files, layout, [r.moved(-area.y0, -area.x0) for r in regions], area, (flux, mask, variance))
        if source is not None:
            for region in regions:
                source[region.moved(-area.y0, -area.x0).slices] = 1 if files.cell in layout.selected else 2
    return tuple(array for array in (flux, mask, variance, source) if array is not None)


def _paste(
    files: CellFiles,
    layout: Layout,
    regions: list[Rect],
    area: Rect,
    outputs: tuple[NDArray[np.float32], NDArray[np.uint16], NDArray[np.float32] | None],
) -> None:
    """Write the regions (pixels of the block) of one cell."""
    y, x = layout.projection.cell_origin(files.cell.y, files.cell.x)
    y, x = y - area.y0, x - area.x0  # of the cell in the block
    extent = bounding(regions)
    combination = Combination(files, layout.projection, layout.recipe)
    for slab in combination.slabs(extent.y0 - y, extent.y1 - y):
        here = slab.rect.moved(y, x)
        for region in regions:
            part = region.common(here)
            if part.empty:
                continue
            inside = part.moved(-here.y0, -here.x0).slices
            for output, values in zip(outputs, (slab.flux, slab.mask, slab.variance), strict=True):
                if output is not None and values is not None:
                    output[part.slices] = values[inside]
    note_tangents(files, layout, combination.tangents())


def note_tangents(files: CellFiles, layout: Layout, tangents: Mapping[str, tuple[float, float]]) -> None:
    """Tell of bands whose tangent point (CRVAL, deg) is not that of the projection."""
    for band, crval in tangents.items():
        if not agrees(crval, layout.crval):
            events.note(
                "tangent-point",
                f"band {band} of {files.cell} has CRVAL {crval}, the others of its projection {layout.crval}",
                cell=str(files.cell),
                band=band,
            )


def _pick(block: tuple[NDArray[Any], ...], *, index: int) -> NDArray[Any]:
    return block[index]


def projection_image(layout: Layout, *, origin: bool = False) -> xr.Dataset:
    """Return the stitched image of a projection before it is convolved, lazily.

    Parameters
    ----------
    layout
        What to stitch.
    origin
        Also tell where each pixel comes from: 0 nowhere, 1 a selected cell, 2 a halo cell.

    Returns
    -------
    xr.Dataset
        ``flux`` (y, x) f4 in counts/s, NaN where there is nothing; ``mask`` u2; ``variance`` f4 in (counts/s)^2
        if the recipe makes it; ``origin`` u1 if asked for. The box with ``pad`` pixels on all sides; y and x
        are pixel indices of the projection. Blocks of one row of cells: a tile of a file is read once.
    """
    names: dict[str, type] = {"flux": np.float32, "mask": np.uint16}
    if layout.recipe.uncertainty:
        names["variance"] = np.float32
    if origin:
        names["origin"] = np.uint8
    # the blocks are tuples, picked apart below: what is read is read once for all of them; the type of their
    # array has a field for each, so that a plan of memory knows how large they are
    packed = np.dtype(list(names.items()))
    blocks = da.map_blocks(
        stitch, layout, origin=origin, chunks=layout.padded_chunks, dtype=packed, meta=np.empty((0, 0), packed)
    )
    return unpacked(blocks, layout)


def unpacked(blocks: da.Array, layout: Layout) -> xr.Dataset:
    """Return the variables of blocks that are tuples of arrays, named by the fields of their type."""
    area = layout.box.grown(layout.pad)
    coords = {
        "y": np.arange(area.y0, area.y1, dtype=np.int32),
        "x": np.arange(area.x0, area.x1, dtype=np.int32),
    }
    return xr.Dataset(
        {
            name: (
                ("y", "x"),
                da.map_blocks(_pick, blocks, index=k, dtype=blocks.dtype[k], meta=np.empty((0, 0), blocks.dtype[k])),
            )
            for k, name in enumerate(blocks.dtype.names)
        },
        coords=coords,
    )
