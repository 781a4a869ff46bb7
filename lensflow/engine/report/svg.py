"""Cells drawn as SVG paths: many neighbours of one colour are one stroke of the pen, so large maps stay small."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def raster(cells: NDArray[np.integer], classes: Mapping[int, str], *, gap: float = 0.0) -> str:
    """Draw a raster of cells of size 1: a path for each value that has a class.

    Parameters
    ----------
    cells
        Values, shape (rows, columns).
    classes
        CSS class of each value that is drawn.
    gap
        Space left free at the right and the bottom of each cell, of its size; cells are drawn one by one then.
    """
    paths = []
    for value, name in classes.items():
        hits = cells == value
        if hits.any():
            steps = _single(hits, 1 - gap) if gap else _runs(hits)
            paths.append(f'<path class="{name}" d="{"".join(steps)}"/>')
    return "".join(paths)


def _runs(hits: NDArray[np.bool_]) -> list[str]:
    """Return a rectangle for each run of hits in a row."""
    edges = np.diff(np.pad(hits, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, begins = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return [f"M{begin} {row}h{end - begin}v1H{begin}z" for row, begin, end in zip(rows, begins, ends, strict=True)]


def _single(hits: NDArray[np.bool_], side: float) -> list[str]:
    return [f"M{column} {row}h{side:g}v{side:g}h-{side:g}z" for row, column in np.argwhere(hits)]


def titles(names: Mapping[tuple[int, int], str]) -> str:
    """Return invisible cells (row, column) that say what they are when they are pointed at."""
    cells = (
        f'<rect x="{column}" y="{row}" width="1" height="1" class="hover"><title>{escape(name)}</title></rect>'
        for (row, column), name in names.items()
    )
    return "".join(cells)
