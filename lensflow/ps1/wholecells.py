"""Skycells that are cleaned as a whole, each once, and the blocks of the image that are stitched of their parts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from lensflow.ps1.background import CleanCell, clean_cell
from lensflow.ps1.cells import bounding
from lensflow.ps1.gaia import read_stars
from lensflow.ps1.mosaic import note_tangents, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import xarray as xr
    from dask.delayed import Delayed
    from numpy.typing import NDArray

    from lensflow.ps1.background import Cleaning
    from lensflow.ps1.cells import Rect
    from lensflow.ps1.mosaic import Layout
    from lensflow.ps1.ownership import Index

Place = tuple[int, int]  # of a block


def star_catalogue(paths: Sequence[Path], *, epoch: float | None) -> Delayed | None:
    """Return the task that reads catalogues of stars, one for all cells; None without any."""
    return dask.delayed(read_stars, pure=True)(tuple(paths), epoch=epoch) if paths else None


def clean_cells(layout: Layout, cleaning: Cleaning, stars: Delayed | None = None) -> dict[Index, Delayed]:
    """Return a task for each cell that the image of a projection needs: it reads and cleans all of the cell.

    The name of a task depends on the cell and on what is done to it alone: asked for twice, it is done once.

    Parameters
    ----------
    layout
        Whose cells; the selected ones and those of the halo alike.
    cleaning
        What is done to them.
    stars
        The catalogue, for ``stars="gaia"``.
    """
    fields = [("flux", "f4"), ("mask", "u2"), *([("variance", "f4")] if cleaning.uncertainty else [])]
    packed = np.dtype(fields)  # a task makes several arrays: a plan of memory reads their size from the type
    used = {index for _, needed in _extents(layout) for index in needed}
    tasks = {}
    for files in layout.cells:
        if (files.cell.y, files.cell.x) not in used:
            continue
        height, width = files.rect.shape
        cell = da.map_blocks(
            clean_cell,
            files,
            layout.projection,
            layout.recipe,
            cleaning,
            stars,
            chunks=((height,), (width,)),
            dtype=packed,
            meta=np.empty((0, 0), packed),
        )
        tasks[files.cell.y, files.cell.x] = cell.to_delayed().item()
    return tasks


def cleaned_image(
    layout: Layout, cells: Mapping[Index, Delayed], *, uncertainty: bool, origin: bool, beside: Mapping[Index, Delayed]
) -> xr.Dataset:
    """Return the stitched image of a projection, as :func:`lensflow.ps1.mosaic.projection_image`, of cleaned cells.

    Parameters
    ----------
    layout
        What to stitch.
    cells
        From :func:`clean_cells`.
    uncertainty, origin
        Whether to make ``variance`` and ``origin``.
    beside
        What else is taken from the cells. It is made with the first block that needs a cell.

    Notes
    -----
    A cell is kept until all that is made of it is made. So what later blocks need is cut out together with the first:
    a few rows outlive the block, not the whole cell.
    """
    names = {"flux": "f4", "mask": "u2", "variance": "f4", "origin": "u1"}
    wanted = {"flux": True, "mask": True, "variance": uncertainty, "origin": origin}
    packed = np.dtype([(name, kind) for name, kind in names.items() if wanted[name]])
    extents = dict(_extents(layout))
    blocks = np.empty([len(lengths) for lengths in layout.padded_chunks], object)
    kept: dict[tuple[Place, Index], Delayed] = {}
    met: set[Index] = set()
    for place, needed in extents.items():
        new = [index for index in needed if index not in met]
        met.update(new)
        early = [beside[index] for index in new if index in beside]
        for later, index in ((one, index) for one in extents for index in new if one > place and index in extents[one]):
            kept[later, index] = _crop(cells[index], extents[later][index])
            early.append(kept[later, index])
        parts = [cells[index] if index in new else kept[place, index] for index in needed]
        stitch = partial(stitch_cleaned, layout, place, list(needed), origin=origin, uncertainty=uncertainty)
        value = dask.delayed(stitch, pure=True, traverse=False)(parts, early)
        blocks[place] = da.from_delayed(value, layout.block(place).shape, meta=np.empty((0, 0), packed))
    return unpacked(da.block(blocks.tolist()), layout)


def _extents(layout: Layout) -> Iterator[tuple[Place, dict[Index, Rect]]]:
    """Yield the blocks, and of each cell they need the smallest rectangle (in pixels of the cell) that holds it."""
    down, across = layout.padded_chunks
    for place in np.ndindex(len(down), len(across)):
        needed = {}
        for index, regions in layout.owned(layout.block(place)).items():
            y0, x0 = layout.projection.cell_origin(*index)
            needed[index] = bounding(regions).moved(-y0, -x0)
        yield (place[0], place[1]), needed


def _crop(cell: Delayed, rect: Rect) -> Delayed:
    return dask.delayed(partial(CleanCell.crop, rect=rect), pure=True, traverse=False)(cell)


def stitch_cleaned(
    layout: Layout,
    place: Place,
    indices: Sequence[Index],
    parts: Sequence[CleanCell],
    _early: Sequence[object],
    *,
    origin: bool,
    uncertainty: bool,
) -> tuple[NDArray[Any], ...]:
    """Paste cleaned cells, or parts of them, into one block of the image.

    Returns
    -------
    tuple
        flux (f4), mask (u2), variance (f4) and origin (u1) if asked for.
    """
    area = layout.block(place)
    flux = np.full(area.shape, np.nan, np.float32)
    mask = np.zeros(area.shape, np.uint16)
    variance = np.full(area.shape, np.nan, np.float32) if uncertainty else None
    source = np.zeros(area.shape, np.uint8) if origin else None
    held = dict(zip(indices, parts, strict=True))
    files = {(one.cell.y, one.cell.x): one for one in layout.cells}
    for index, regions in layout.owned(area).items():
        part = held[index]
        y0, x0 = layout.projection.cell_origin(*index)
        for region in regions:
            here = region.moved(-area.y0, -area.x0).slices
            there = region.moved(-y0 - part.rect.y0, -x0 - part.rect.x0).slices
            flux[here], mask[here] = part.flux[there], part.mask[there]
            if variance is not None and part.variance is not None:
                variance[here] = part.variance[there]
            if source is not None:
                source[here] = 1 if files[index].cell in layout.selected else 2
        note_tangents(files[index], layout, part.tangents)
    return tuple(array for array in (flux, mask, variance, source) if array is not None)
