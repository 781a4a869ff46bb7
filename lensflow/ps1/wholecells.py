"""Skycells that are cleaned as a whole, each once, and the pieces of the image that are stitched of their parts."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize

from lensflow.arrays.interlock import Pieces
from lensflow.ps1.background import CleanCell, clean_cell
from lensflow.ps1.cells import Rect, bounding
from lensflow.ps1.fill import fill
from lensflow.ps1.gaia import read_stars
from lensflow.ps1.mosaic import Pixels, note_tangents, origins
from lensflow.ps1.removed import removed_table
from lensflow.ps1.suppliers import extents as supplied
from lensflow.ps1.tessellation import Skycell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import xarray as xr
    from dask.delayed import Delayed
    from numpy.typing import NDArray

    from lensflow.ps1.background import Cleaning
    from lensflow.ps1.layout import Layout

Place = tuple[int, ...]  # of a piece


def star_catalogue(paths: Sequence[Path], *, epoch: float | None) -> Delayed | None:
    """Return the task that reads catalogues of stars, one for all cells; None without any."""
    return dask.delayed(read_stars, pure=True)(tuple(paths), epoch=epoch) if paths else None


def cleaned_pieces(
    layout: Layout, cleaning: Cleaning, stars: Delayed | None = None, *, origin: bool = False
) -> tuple[Pieces, xr.Dataset | None]:
    """Return the image of a projection, as :func:`lensflow.ps1.mosaic.stitched_pieces`, made of cleaned cells.

    Parameters
    ----------
    layout
        What to stitch.
    cleaning
        What is done to each cell, those of the halo and of other projections alike.
    stars
        The catalogue, for ``stars="gaia"``.
    origin
        Also tell where each pixel comes from.

    Returns
    -------
    tuple
        The pieces, and the table of what was removed from the cells of the projection; None if stars stay.

    Notes
    -----
    A cell is kept until all that is made of it is made. So what later pieces need, and the rows, are taken together
    with the first piece: a few rows of pixels outlive it, not the whole cell. For the same reason a cell that fills
    another projection is cleaned once for each of the two.
    """
    names = {"flux": "f4", "mask": "u2", "variance": "f4", "origin": "u1"}
    wanted = {"flux": True, "mask": True, "variance": cleaning.uncertainty, "origin": origin}
    packed = np.dtype([(name, kind) for name, kind in names.items() if wanted[name]])
    extents = _extents(layout)
    cells = _cells(layout, {cell for needed in extents.values() for cell in needed}, cleaning, stars)
    own = [cell for cell in cells if cell.projection == layout.projection.number]
    take: Delayed = dask.delayed(attrgetter("removed"), pure=True, traverse=False)
    rows = {cell: take(cells[cell]) for cell in own} if stars is not None else {}
    blocks = np.empty([len(lengths) for lengths in layout.pieces], object)
    kept: dict[tuple[Place, Skycell], Delayed] = {}
    met: set[Skycell] = set()
    for place, needed in extents.items():
        new = [cell for cell in needed if cell not in met]
        met.update(new)
        early = [rows[cell] for cell in new if cell in rows]
        for later, cell in ((one, cell) for one in extents for cell in new if one > place and cell in extents[one]):
            kept[later, cell] = _crop(cells[cell], extents[later][cell])
            early.append(kept[later, cell])
        parts = [cells[cell] if cell in new else kept[place, cell] for cell in needed]
        stitch = partial(stitch_cleaned, layout, place, list(needed), origin=origin, uncertainty=cleaning.uncertainty)
        value = dask.delayed(stitch, pure=True, traverse=False)(parts, early)
        blocks[place] = da.from_delayed(value, layout.piece(place).shape, meta=np.empty((0, 0), packed))
    return Pieces(da.block(blocks.tolist())), removed_table(rows) if rows else None


def _cells(layout: Layout, needed: set[Skycell], cleaning: Cleaning, stars: Delayed | None) -> dict[Skycell, Delayed]:
    """Return a task for each cell that is needed: it reads and cleans all of the cell."""
    fields = [("flux", "f4"), ("mask", "u2"), *([("variance", "f4")] if cleaning.uncertainty else [])]
    packed = np.dtype(fields)  # a task makes several arrays: a plan of memory reads their size from the type
    tasks = {}
    for source in (layout, *layout.sources):
        for files in source.cells:
            if files.cell not in needed:
                continue
            # bound, not passed: Dask would look for arrays in every field
            clean = partial(clean_cell, files, source.projection, source.recipe, cleaning)
            cell = da.map_blocks(
                clean,
                stars,
                chunks=tuple((size,) for size in files.rect.shape),
                dtype=packed,
                meta=np.empty((0, 0), packed),
                name=f"clean_cell-{tokenize(clean, stars, layout.projection.number)}",
            )
            tasks[files.cell] = cell.to_delayed().item()
    return tasks


def _extents(layout: Layout) -> dict[Place, dict[Skycell, Rect]]:
    """Return what each piece needs of each cell: the smallest rectangle (in pixels of the cell) that holds it."""
    found: dict[Place, dict[Skycell, Rect]] = {}
    for place in np.ndindex(*(len(lengths) for lengths in layout.pieces)):
        area, number = layout.piece(place), layout.projection.number
        needed = found.setdefault(place, {})
        for index, regions in layout.owned(area).items():
            y0, x0 = layout.projection.cell_origin(*index)
            needed[Skycell(number, *index)] = bounding(regions).moved(-y0, -x0)
        for (at, index), rect in supplied(layout, area).items():
            source = layout.sources[at].projection
            y0, x0 = source.cell_origin(*index)
            needed[Skycell(source.number, *index)] = rect.moved(-y0, -x0)
    return found


def _crop(cell: Delayed, rect: Rect) -> Delayed:
    return dask.delayed(partial(CleanCell.crop, rect=rect), pure=True, traverse=False)(cell)


def stitch_cleaned(
    layout: Layout,
    place: Place,
    cells: Sequence[Skycell],
    parts: Sequence[CleanCell],
    _early: Sequence[object],
    *,
    origin: bool,
    uncertainty: bool,
) -> tuple[NDArray[Any], ...]:
    """Paste cleaned cells, or parts of them, into one piece of the image, and fill what they leave.

    Returns
    -------
    tuple
        flux (f4), mask (u2), variance (f4) and origin (u1) if asked for.
    """
    area = layout.piece(place)
    held = dict(zip(cells, parts, strict=True))
    read = partial(cleaned_pixels, held=held, uncertainty=uncertainty)
    pixels = read(layout, area)
    filled = fill(layout, area, pixels, read=read)
    arrays = [array for array in pixels if array is not None]
    return (*arrays, origins(layout, area, filled)) if origin else tuple(arrays)


def cleaned_pixels(layout: Layout, area: Rect, *, held: Mapping[Skycell, CleanCell], uncertainty: bool) -> Pixels:
    """Paste what the cells of a projection own of an area, as far as it is held."""
    pixels = Pixels(
        np.full(area.shape, np.nan, np.float32),
        np.zeros(area.shape, np.uint16),
        np.full(area.shape, np.nan, np.float32) if uncertainty else None,
    )
    files = {(one.cell.y, one.cell.x): one for one in layout.cells}
    for index, regions in layout.owned(area).items():
        part = held.get(files[index].cell)
        if part is None:
            continue  # nothing that is asked for lies on it
        y0, x0 = layout.projection.cell_origin(*index)
        for region in regions:
            inside = region.moved(-y0, -x0).common(part.rect)
            if inside.empty:
                continue
            here = inside.moved(y0 - area.y0, x0 - area.x0).slices
            there = inside.moved(-part.rect.y0, -part.rect.x0).slices
            for pasted, values in zip(pixels, (part.flux, part.mask, part.variance), strict=True):
                if pasted is not None and values is not None:
                    pasted[here] = values[there]
        note_tangents(files[index], layout, part.tangents)
    return pixels
