"""Skycells stitched into the image of a projection: one task a piece, each reads just the rows it needs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from lensflow import events
from lensflow.arrays.interlock import Pieces
from lensflow.ps1.cells import Rect, bounding
from lensflow.ps1.combine import Combination, agrees
from lensflow.ps1.fill import fill
from lensflow.ps1.layout import Layout
from lensflow.ps1.pixels import Pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lensflow.ps1.cells import CellFiles

__all__ = [
    "Layout",
    "Pixels",
    "note_tangents",
    "origins",
    "owned_pixels",
    "projection_image",
    "stitch",
    "stitched_pieces",
    "unpacked",
]

SELECTED, HALO, FILLED = 1, 2, 3  # where a pixel comes from


def owned_pixels(layout: Layout, area: Rect) -> Pixels:
    """Read and combine what the cells of a projection own of an area, and paste it together."""
    pixels = Pixels(
        np.full(area.shape, np.nan, np.float32),
        np.zeros(area.shape, np.uint16),
        np.full(area.shape, np.nan, np.float32) if layout.recipe.uncertainty else None,
    )
    cells = {(files.cell.y, files.cell.x): files for files in layout.cells}
    for index, regions in layout.owned(area).items():
        _paste(cells[index], layout, [r.moved(-area.y0, -area.x0) for r in regions], area, pixels)
    return pixels


def stitch(layout: Layout, *, origin: bool = False, block_id: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
    """Make one piece: what cells of the projection own, then what other projections fill in.

    Returns
    -------
    tuple
        flux (f4), mask (u2), then variance (f4) if the recipe asks for it, then origin (u1) if asked for.
    """
    area = layout.piece(block_id)
    pixels = owned_pixels(layout, area)
    filled = fill(layout, area, pixels, read=owned_pixels)
    arrays = [array for array in pixels if array is not None]
    return (*arrays, origins(layout, area, filled)) if origin else tuple(arrays)


def origins(layout: Layout, area: Rect, filled: list[tuple[Rect, NDArray[np.bool_]]]) -> NDArray[np.uint8]:
    """Tell where each pixel of an area comes from; ``filled`` are rectangles and which of their pixels were."""
    source = np.zeros(area.shape, np.uint8)
    chosen = {(cell.y, cell.x) for cell in layout.selected}
    for index, regions in layout.owned(area).items():
        for region in regions:
            source[region.moved(-area.y0, -area.x0).slices] = SELECTED if index in chosen else HALO
    for rect, supplied in filled:
        source[rect.moved(-area.y0, -area.x0).slices][supplied] = FILLED
    return source


def _paste(
    files: CellFiles,
    layout: Layout,
    regions: list[Rect],
    area: Rect,
    pixels: Pixels,
) -> None:
    """Write the regions (pixels of the piece) of one cell."""
    y, x = layout.projection.cell_origin(files.cell.y, files.cell.x)
    y, x = y - area.y0, x - area.x0  # of the cell in the piece
    extent = bounding(regions)
    combination = Combination(files, layout.projection, layout.recipe)
    for slab in combination.slabs(extent.y0 - y, extent.y1 - y):
        here = slab.rect.moved(y, x)
        for region in regions:
            part = region.common(here)
            if part.empty:
                continue
            inside = part.moved(-here.y0, -here.x0).slices
            for output, values in zip(pixels, (slab.flux, slab.mask, slab.variance), strict=True):
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


def stitched_pieces(layout: Layout, *, origin: bool = False) -> Pieces:
    """Return the stitched image of a projection before it is convolved, lazily, in the pieces of the layout.

    Parameters
    ----------
    layout
        What to stitch.
    origin
        Also tell where each pixel comes from: 0 nowhere, 1 a selected cell, 2 a halo cell, 3 another projection.

    Returns
    -------
    Pieces
        A field for each array: ``flux`` f4 in counts/s, NaN where there is
        nothing; ``mask`` u2; ``variance`` f4 in (counts/s)^2 if the recipe makes it; ``origin`` u1 if asked for. What
        is read is read once for all of them; from the fields a plan of memory knows how large they are.
    """
    names: dict[str, type] = {"flux": np.float32, "mask": np.uint16}
    if layout.recipe.uncertainty:
        names["variance"] = np.float32
    if origin:
        names["origin"] = np.uint8
    packed = np.dtype(list(names.items()))
    # bound, not passed: Dask would look for arrays in every field of every cell
    make = partial(stitch, layout, origin=origin)
    return Pieces(da.map_blocks(make, chunks=layout.pieces, dtype=packed, meta=np.empty((0, 0), packed)), make)


def projection_image(layout: Layout, pieces: Pieces | None = None, *, origin: bool = False) -> xr.Dataset:
    """Return the image of a projection before it is convolved as variables, lazily: to look at.

    Parameters
    ----------
    layout
        Of the projection.
    pieces
        The image in pieces; None for those of :func:`stitched_pieces`, which ``origin`` goes to.

    Returns
    -------
    xr.Dataset
        A variable for each field, on the box with ``pad`` pixels on all sides; y and x are pixel indices of the
        projection.
    """
    shown = stitched_pieces(layout, origin=origin) if pieces is None else pieces
    return unpacked(shown.array, layout.box.grown(layout.pad))


def unpacked(blocks: da.Array, area: Rect) -> xr.Dataset:
    """Return the variables of blocks that are tuples of arrays, named by the fields of their type."""
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
