"""The result as it is stored: variables, attributes, conventions."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from lensflow import events
from lensflow.ps1.bands import ZERO_POINT
from lensflow.ps1.cells import Rect
from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.ownership import uncovered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lensflow.ps1.inventory import Inventory, Plan
    from lensflow.ps1.mosaic import Layout

SCHEMA = "ps1_convolution/1"
WIDEST = 1024  # px, of a stored chunk
NARROWEST = 256

_ABOUT: dict[str, dict[str, Any]] = {
    "flux": {"units": "counts/s", "long_name": "convolved flux, AB zero point 25"},
    "mask": {
        "long_name": "mask bits of the skycell that owns the pixel",
        "flag_masks": [bit.value for bit in MaskBit],
        "flag_meanings": " ".join(str(bit.name).replace("_", ".") for bit in MaskBit),
        "quarantine_value": MaskBit.BLANK.value,  # what the engine writes where a block could not be made
    },
    "coverage": {"units": "1", "long_name": "weight of the kernel that fell on valid pixels"},
    "uncertainty": {"units": "counts/s", "long_name": "standard deviation of flux, noise taken as uncorrelated"},
    "origin": {
        "long_name": "where the pixel comes from",
        "flag_values": [0, 1, 2, 3],
        "flag_meanings": "none selected_cell halo_cell other_projection",
    },
}
_FILL = {"flux": np.nan, "coverage": 0.0, "uncertainty": np.nan, "mask": 0, "origin": 0}


def projection_node(blurred: xr.Dataset, plan: Plan) -> xr.Dataset:
    """Make of the variables of a projection what is stored of it.

    Parameters
    ----------
    blurred
        Flux, mask, coverage and maybe uncertainty and origin on the box; its attributes are kept.
    plan
        Of this projection.
    """
    node = blurred.copy()
    for name in ("flux", "uncertainty"):
        if name in node:
            node[name] = node[name].copy(data=within_selection(node[name].data, plan.layout))
    node = node[[name for name in ("flux", "mask", "coverage", "uncertainty", "origin") if name in node]]
    chunks = stored_chunks(plan.layout)
    for key, variable in node.data_vars.items():
        variable.attrs = dict(_ABOUT[str(key)])
        variable.encoding = {"chunks": chunks, "fill_value": _FILL[str(key)]}
    for axis in ("y", "x"):
        node[axis].attrs = {"units": "px", "long_name": f"pixel index {axis} of the projection, 0-based"}
    node.attrs = {**_node_attrs(plan), **blurred.attrs}
    return node


def stored_chunks(layout: Layout) -> tuple[int, int]:
    """Return the shape of stored chunks: T rows, and a width that divides the width of blocks."""
    down, across = layout.chunks
    if len(across) == 1:
        return down[0], min(WIDEST, across[0])
    widths = (width for width in range(WIDEST, NARROWEST - 1, -1) if across[0] % width == 0)
    return down[0], next(widths, across[0])


def within_selection(flux: da.Array, layout: Layout) -> da.Array:
    """Set pixels outside the union of the selected cells to NaN: halo cells serve only as halo."""
    gaps = [
        gap.moved(-layout.box.y0, -layout.box.x0)
        for gap in uncovered(layout.box, [layout.box], layout.selected_rects())
    ]
    if not gaps:
        return flux
    corners = tuple(tuple(accumulate(lengths, initial=0)) for lengths in flux.chunks)
    return da.map_blocks(_blank, flux, gaps=gaps, corners=corners, dtype=np.float32, meta=np.empty((0, 0), np.float32))


def _blank(
    flux: NDArray[np.float32],
    *,
    gaps: Sequence[Rect],
    corners: tuple[tuple[int, ...], ...],
    block_id: tuple[int, ...],
) -> NDArray[np.float32]:
    y0, x0 = (corner[i] for corner, i in zip(corners, block_id, strict=True))
    area = Rect(y0, x0, y0 + flux.shape[0], x0 + flux.shape[1])
    here = [part.moved(-y0, -x0) for part in map(area.common, gaps) if not part.empty]
    if here:
        flux = flux.copy()
        for part in here:
            flux[part.slices] = np.nan
    return flux


def _node_attrs(plan: Plan) -> dict[str, Any]:
    layout, recipe = plan.layout, plan.layout.recipe
    chosen = set(layout.selected)
    used = {
        str(files.cell): "".join(band for band in recipe.bands if files.band(band) is not None)
        for files in layout.cells_read
    }
    attrs: dict[str, Any] = {
        "projection": layout.projection.number,
        "zero_point": ZERO_POINT,
        "bands": list(recipe.bands),
        "weights": list(recipe.weights),
        "bands_used": used,
        "cells": [str(cell) for cell in layout.selected],
        "halo_cells": [str(files.cell) for files in layout.cells if files.cell not in chosen],
        "missing_cells": [str(cell) for cell in plan.missing],
        "fill_cells": [str(files.cell) for other in layout.sources for files in other.cells],
        "wcs": layout.projection.wcs_keys(origin=(layout.box.y0, layout.box.x0), crval=layout.crval),
    }
    without_mask = [
        f"{files.cell}.{one.band}" for files in layout.cells_read for one in files.bands if one.mask is None
    ]
    if without_mask:
        attrs["without_mask"] = without_mask
    estimated = [str(files.cell) for files in layout.cells if any(one.weight is None for one in files.bands)]
    if recipe.uncertainty and estimated:
        attrs["uncertainty_estimated"] = estimated
    return attrs


def tree(
    nodes: Mapping[str, xr.Dataset], *, inventory: Inventory, plans: Sequence[Plan], options: Mapping[str, Any]
) -> xr.DataTree:
    """Return the result: nodes by path, PPPP of a projection; the root's attributes say what was asked for."""
    selected = sorted(cell for plan in plans for cell in (*plan.layout.selected, *plan.missing))
    attrs: dict[str, Any] = {
        "schema": SCHEMA,
        "tessellation": "RINGS.V3",
        "options": json.dumps(options, sort_keys=True),
        "selection": [str(cell) for cell in selected],
    }
    _note_what_is_missing(inventory, plans)
    if inventory.absent:  # of projections without any file: there is no node to say it
        attrs["missing_cells"] = [str(cell) for cell in inventory.absent]
    if inventory.ignored:
        attrs["ignored_files"] = list(inventory.ignored)
    root = xr.DataTree(xr.Dataset(attrs=attrs))
    for path, node in nodes.items():
        root[path] = xr.DataTree(node)
    return root


def _note_what_is_missing(inventory: Inventory, plans: Sequence[Plan]) -> None:
    """Say which cells, bands and masks are absent, and which files are left alone."""
    masked = any(one.mask is not None for files in inventory.cells for one in files.bands)
    for plan in plans:
        for cell in plan.missing:
            message = f"{cell} is selected and has no files: a hole in the image of its projection"
            events.note("missing-cell", message, cell=str(cell))
    # a cell may serve several projections
    for files in {files.cell: files for plan in plans for files in plan.layout.cells_read}.values():
        for band in plans[0].layout.recipe.bands:
            found = files.band(band)
            if found is None:
                message = f"{files.cell} has no band {band}: made of the others"
                events.note("missing-band", message, cell=str(files.cell), band=band)
            elif masked and found.mask is None:
                message = f"{files.cell} has no mask of band {band}, though others have: taken as without a bit"
                events.note("missing-mask", message, cell=str(files.cell), band=band)
    for cell in inventory.absent:
        events.note("missing-cell", f"{cell} is selected and its projection has no files", cell=str(cell))
    for name in inventory.ignored:
        path = str(inventory.source / name)
        events.note("ignored-file", f"{path} is no skycell that can be read: left alone", file=path)
