"""Borders of skycells on the image of their projection, as attributes: any picture of it can draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from lensflow.ps1.cells import Rect
    from lensflow.ps1.inventory import Plan

ATTRIBUTE = "outlines"


def outlined(node: xr.Dataset, plan: Plan) -> xr.Dataset:
    """Return the image of a projection with the borders of its skycells in its attributes.

    Parameters
    ----------
    node
        Of this projection.
    plan
        Of this projection.

    Returns
    -------
    xr.Dataset
        With an attribute ``outlines``, an entry a selected skycell: its name as 2246.033, and y and x of its corners
        in pixels of the projection, half a pixel beyond the centres of its outermost. Where a skycell is missing, the
        place where it would lie is dashed.
    """
    layout = plan.layout
    chosen = set(layout.selected)
    entries = [_entry(str(files.cell), layout.data_rect(files)) for files in layout.cells if files.cell in chosen]
    for cell in plan.missing:
        y0, x0 = layout.projection.cell_origin(cell.y, cell.x)
        place = layout.box.common(type(layout.box)(y0, x0, y0 + layout.projection.height, x0 + layout.projection.width))
        entries += [] if place.empty else [{**_entry(str(cell), place), "dashed": True}]
    return node.assign_attrs({ATTRIBUTE: entries})


def _entry(name: str, rect: Rect) -> dict[str, Any]:
    y0, x0, y1, x1 = (edge - 0.5 for edge in rect)
    return {"name": name.removeprefix("skycell."), "y": [y0, y0, y1, y1], "x": [x0, x1, x1, x0]}
