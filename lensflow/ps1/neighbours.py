"""Which cells of which other projections may fill what a projection lacks: known before a pixel is read."""

from __future__ import annotations

from dataclasses import replace
from math import hypot
from typing import TYPE_CHECKING

import numpy as np

from lensflow import events
from lensflow.errors import BadInput
from lensflow.ps1.inventory import Plan, check_bands, tangent_point
from lensflow.ps1.layout import Layout
from lensflow.ps1.suppliers import extents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from lensflow.ps1.cells import CellFiles
    from lensflow.ps1.inventory import Inventory
    from lensflow.ps1.ownership import Index
    from lensflow.ps1.tessellation import Projection


def with_sources(plans: Sequence[Plan], inventory: Inventory, *, reach: int) -> list[Plan]:
    """Give the layout of each projection the cells of others that fill what it lacks.

    Parameters
    ----------
    plans
        Of the projections that are made.
    inventory
        What there is; any cell may serve, selected or not.
    reach
        How far from the selected data pixels are filled, px.

    Raises
    ------
    BadInput
        If a cell that serves lacks what the recipe needs.
    """
    sources = _Sources(plans, inventory)
    return [replace(plan, layout=_with_sources(plan.layout, sources.near(plan.layout), reach)) for plan in plans]


def all_plans(plans: Iterable[Plan]) -> list[Plan]:
    """Return the plans and those of the projections that serve them, for all that is read."""
    found = list(plans)
    return [*found, *(Plan(source, ()) for plan in found for source in plan.layout.sources)]


class _Sources:
    """The projections of an inventory as sources, each laid out once, its header read only if it is near."""

    def __init__(self, plans: Sequence[Plan], inventory: Inventory) -> None:
        self._plans = {plan.layout.projection.number: plan.layout for plan in plans}
        self._cells: dict[int, list[CellFiles]] = {}
        for files in inventory.cells:
            self._cells.setdefault(files.cell.projection, []).append(files)
        self._grids = [inventory.geometry.projection(number) for number in sorted(self._cells)]
        self._made: dict[int, Layout | None] = {}

    def near(self, layout: Layout) -> list[Layout]:
        """Return the projections whose grids may meet that of another."""
        found = [
            self._source(grid, layout)
            for grid in self._grids
            if grid.number != layout.projection.number and _may_meet(grid, layout.projection)
        ]
        return [one for one in found if one is not None]

    def _source(self, grid: Projection, layout: Layout) -> Layout | None:
        if grid.number not in self._made:
            cells = tuple(self._cells[grid.number])
            crval = self._tangent_point(grid, layout)
            self._made[grid.number] = crval and Layout(
                grid, cells, (), layout.recipe, crval, edge=layout.edge, split=layout.split, pad=0
            )
        return self._made[grid.number]

    def _tangent_point(self, grid: Projection, layout: Layout) -> tuple[float, float] | None:
        if grid.number in self._plans:
            return self._plans[grid.number].crval
        try:
            return tangent_point(self._cells[grid.number], grid, strict=layout.recipe.on_corrupt == "fail")
        except BadInput as error:
            if layout.recipe.on_corrupt == "fail":
                raise
            events.note("corrupt-file", f"projection {grid.number} fills nothing: {error}", projection=grid.number)
            return None


def _may_meet(one: Projection, other: Projection) -> bool:
    """Return whether two grids may overlap or lie within a margin of each other: by their circumscribed circles."""
    first, second = (_direction(grid) for grid in (one, other))
    # a plane's tangent is longer than the angle: half a diagonal never underestimates it
    reach = sum(hypot(*grid.shape) / 2 + grid.geometry.overlap for grid in (one, other))
    return bool(np.arccos(np.clip(first @ second, -1, 1)) < np.deg2rad(reach * one.geometry.pixel_scale))


def _direction(grid: Projection) -> NDArray[np.float64]:
    a, d = np.deg2rad(grid.ra), np.deg2rad(grid.dec)
    return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _with_sources(layout: Layout, near: Sequence[Layout], reach: int) -> Layout:
    """Keep of the projections near a layout the cells from which some pixel may come."""
    layout = replace(layout, reach=reach, sources=tuple(near))
    needed: dict[int, set[Index]] = {}
    for place, index in extents(layout, layout.box.grown(layout.pad)):
        needed.setdefault(place, set()).add(index)
    sources = []
    for place, indices in sorted(needed.items()):
        used = tuple(files for files in near[place].cells if (files.cell.y, files.cell.x) in indices)
        check_bands(used, near[place].recipe)
        sources.append(replace(near[place], cells=used))
    return replace(layout, sources=tuple(sources))
