"""Outlines on a picture: closed polygons that any graph may set on its output, in the coordinates of its images.

A group carries them as its attribute ``outlines``, a list of ``{"name": "A", "y": [0, 0, 9, 9], "x": [0, 9, 9, 0]}``
with the names of its own dimensions and, for what is planned but not there, ``"dashed": True``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

ATTRIBUTE = "outlines"
MOST = 400  # polygons that are drawn
AXES_POINTS = 300.0  # what the wider side of an image takes on the page, about
LETTER = 0.62  # width of a letter over its size
SIZES = (2.5, 7.0)  # points; names that need smaller letters are left out


class Outline(NamedTuple):
    """A closed polygon with a name."""

    name: str
    down: NDArray[np.float64]
    across: NDArray[np.float64]
    dashed: bool

    @property
    def width(self) -> float:
        """From its leftmost to its rightmost corner."""
        return float(np.ptp(self.across))


def outlines(attrs: Mapping[Any, Any], image: xr.DataArray) -> list[Outline]:
    """Return the outlines among the attributes of a group that lie on an image with coordinates.

    What does not have the form of an outline is somebody else's attribute, and left alone.
    """
    if not all(dim in image.coords for dim in image.dims):
        return []
    found = attrs.get(ATTRIBUTE)
    return list(_sound(found[:MOST], *map(str, image.dims))) if isinstance(found, list) else []


def _sound(entries: list[Any], down: str, across: str) -> Iterator[Outline]:
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        rows, columns = (_numbers(entry.get(dim)) for dim in (down, across))
        if rows.size == columns.size > 2:
            yield Outline(str(entry.get("name", "")), rows, columns, bool(entry.get("dashed")))


def _numbers(found: object) -> NDArray[np.float64]:
    if not isinstance(found, list) or not all(isinstance(one, int | float) for one in found):
        return np.empty(0)
    numbers = np.array(found, np.float64)
    return numbers if np.isfinite(numbers).all() else np.empty(0)


def draw_outlines(axes: Axes, drawn: list[Outline], *, colour: str) -> None:
    """Draw thin lines and small names over an image, whose limits stay."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    points = AXES_POINTS / max(abs(right - left), abs(top - bottom), 1e-12)  # a unit of the coordinates
    for one in drawn:
        style = "--" if one.dashed else "-"
        axes.plot([*one.across, one.across[0]], [*one.down, one.down[0]], style, color=colour, lw=0.4, alpha=0.7)
        size = min(one.width * points / max(LETTER * len(one.name), 1), SIZES[1])
        if size >= SIZES[0]:
            place = float(one.across.mean()), float(one.down.mean())
            words = {"ha": "center", "va": "center", "clip_on": True, "parse_math": False}
            axes.text(*place, one.name, color=colour, fontsize=size, alpha=0.85, **words)  # type: ignore[arg-type]
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
