"""The result as it is stored: variables, attributes, conventions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from lensflow.ps1.bands import ZERO_POINT
from lensflow.ps1.maskbits import MaskBit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lensflow.ps1.cells import Rect
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
    },
    "coverage": {"units": "1", "long_name": "weight of the kernel that fell on valid pixels"},
    "uncertainty": {"units": "counts/s", "long_name": "standard deviation of flux, noise taken as uncorrelated"},
    "origin": {
        "long_name": "where the pixel comes from",
        "flag_values": [0, 1, 2],
        "flag_meanings": "none selected_cell halo_cell",
    },
}
_FILL = {"flux": np.nan, "coverage": 0.0, "uncertainty": np.nan, "mask": 0, "origin": 0}


def projection_node(image: xr.Dataset, blurred: xr.Dataset, plan: Plan, attrs: Mapping[str, Any]) -> xr.Dataset:
    """Put the variables of a projection together: what is stored of it.

    Parameters
    ----------
    image
        The padded projection image.
    blurred
        Flux, coverage and maybe uncertainty on the box.
    plan
        Of this projection.
    attrs
        Attributes to add.
    """
    pad = plan.layout.pad
    inside = image.isel(y=slice(pad, -pad or None), x=slice(pad, -pad or None))
    node = blurred.assign({name: inside[name] for name in ("mask", "origin") if name in inside})
    for name in ("flux", "uncertainty"):
        if name in node:
            node[name] = node[name].copy(data=within_selection(node[name].data, plan.layout))
    node = node[[name for name in ("flux", "mask", "coverage", "uncertainty", "origin") if name in node]]
    chunks = stored_chunks(plan.layout)
    for name, variable in node.data_vars.items():
        variable.attrs = dict(_ABOUT[str(name)])
        variable.encoding = {"chunks": chunks, "fill_value": _FILL[str(name)]}
    for name in ("y", "x"):
        node[name].attrs = {"units": "px", "long_name": f"pixel index {name} of the projection, 0-based"}
    node.attrs = {**_node_attrs(plan), **attrs}
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
    rects = layout.selected_rects()
    if _outside(layout.box, rects) is None:
        return flux
    corners = tuple(tuple(np.cumsum((0, *lengths)).tolist()) for lengths in flux.chunks)
    moved = tuple(rect.moved(-layout.box.y0, -layout.box.x0) for rect in rects)
    return da.map_blocks(
        _keep, flux, rects=moved, corners=corners, dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )


def _outside(area: Rect, rects: Sequence[Rect]) -> NDArray[np.bool_] | None:
    """Return where an area is outside of all rectangles, None if nowhere."""
    outside = None
    borders_y = sorted({area.y0, area.y1} | {y for r in rects for y in (r.y0, r.y1) if area.y0 < y < area.y1})
    borders_x = sorted({area.x0, area.x1} | {x for r in rects for x in (r.x0, r.x1) if area.x0 < x < area.x1})
    for y0, y1 in zip(borders_y, borders_y[1:], strict=False):
        for x0, x1 in zip(borders_x, borders_x[1:], strict=False):
            if not any(r.y0 <= y0 < r.y1 and r.x0 <= x0 < r.x1 for r in rects):
                if outside is None:
                    outside = np.zeros(area.shape, np.bool_)
                outside[y0 - area.y0 : y1 - area.y0, x0 - area.x0 : x1 - area.x0] = True
    return outside


def _keep(
    flux: NDArray[np.float32],
    *,
    rects: tuple[Rect, ...],
    corners: tuple[tuple[int, ...], ...],
    block_id: tuple[int, ...],
) -> NDArray[np.float32]:
    y0, x0 = (corner[i] for corner, i in zip(corners, block_id, strict=True))
    area = type(rects[0])(y0, x0, y0 + flux.shape[0], x0 + flux.shape[1])
    outside = _outside(area, [rect for rect in rects if not rect.common(area).empty])
    return flux if outside is None else np.where(outside, np.float32(np.nan), flux)


def _node_attrs(plan: Plan) -> dict[str, Any]:
    layout, recipe = plan.layout, plan.layout.recipe
    chosen = set(layout.selected)
    used = {
        str(files.cell): "".join(band for band in recipe.bands if files.band(band) is not None)
        for files in layout.cells
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
        "wcs": layout.projection.wcs_keys(origin=(layout.box.y0, layout.box.x0), crval=layout.crval),
    }
    without_mask = [
        f"{files.cell}.{one.band}" for files in layout.cells for one in files.bands if one.mask is None
    ]
    if without_mask:
        attrs["without_mask"] = without_mask
    return attrs


def tree(
    nodes: Mapping[int, xr.Dataset], *, inventory: Inventory, plans: Sequence[Plan], options: Mapping[str, Any]
) -> xr.DataTree:
    """Return the result: one node PPPP a projection, what was asked for in the attributes of the root."""
    selected = sorted(cell for plan in plans for cell in (*plan.layout.selected, *plan.missing))
    attrs: dict[str, Any] = {
        "schema": SCHEMA,
        "tessellation": "RINGS.V3",
        "options": json.dumps(options, sort_keys=True),
        "selection": [str(cell) for cell in selected],
    }
    if inventory.ignored:
        attrs["ignored_files"] = list(inventory.ignored)
    root = xr.DataTree(xr.Dataset(attrs=attrs))
    for number, node in nodes.items():
        root[f"{number:04d}"] = xr.DataTree(node)
    return root
