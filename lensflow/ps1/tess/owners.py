"""Which projection a TESS pixel is made of: geometry alone, known before a pixel is read.

The owner is the projection with the nearest tangent point among those whose usable cells hold all four corners of
the TESS pixel. All its Pan-STARRS pixels come from the owner, so nothing is counted twice where projections overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lensflow.ps1.tess.sources import Source
    from lensflow.ps1.tess.wcs import TanSip

    Floats = NDArray[np.float64]

NOBODY = -1
MARGIN = 1.0  # px of the source round the corners of a TESS pixel; its sides are straight to 1e-3 px


def directions(image: TanSip, x: Floats, y: Floats) -> Floats:
    """Return the directions (3, ...) of pixels of a TESS image, not normalised."""
    x, y = image.undistorted(x, y)
    found: Floats = np.tensordot(image.matrix, np.stack([x, y, np.ones_like(x)]), axes=1)
    return found


def owners(
    image: TanSip, sources: Sequence[Source], rows: tuple[int, int], offset: tuple[float, float]
) -> tuple[NDArray[np.int16], dict[int, NDArray[np.bool_]]]:
    """Find the owners of some rows of a TESS image, and which tiles of their stores they need.

    Parameters
    ----------
    image
        The TESS image.
    sources
        The projections, by rising number: that decides between equally near ones.
    rows
        First row, and one past the last.
    offset
        (dx, dy): a pixel (x, y) of the template shows what is at (x - dx, y - dy) of the image.

    Returns
    -------
    tuple
        Index of the owner (row, column), `NOBODY` where no projection holds the pixel; touched tiles by index.
    """
    y, x = np.mgrid[rows[0] : rows[1] + 1, 0 : image.shape[1] + 1].astype(np.float64)
    x, y = x - offset[0], y - offset[1]
    corners = directions(image, x - 0.5, y - 0.5)
    centres = directions(image, x[:-1, :-1], y[:-1, :-1])
    owner = np.full(centres.shape[1:], NOBODY, np.int16)
    nearest = np.full(centres.shape[1:], -np.inf)
    for k, source in enumerate(sources):
        held = _all_corners(source.occupancy.holds(*_pixels(source, corners)))
        if held.any():
            closeness = np.tensordot(source.centre, centres, axes=1)  # cosine, but for a factor of the pixel
            better = held & (closeness > nearest)
            owner[better], nearest[better] = k, closeness[better]
    touched = {int(k): _touched(sources[k], corners, owner == k) for k in np.unique(owner) if k != NOBODY}
    return owner, touched


def _pixels(source: Source, corners: Floats) -> tuple[Floats, Floats]:
    x, y, z = corners
    u, v, w = (row[0] * x + row[1] * y + row[2] * z for row in np.linalg.inv(source.matrix))
    w = np.where(w > 0, w, np.nan)
    return u / w, v / w


def _all_corners(held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    every: NDArray[np.bool_] = held[:-1, :-1] & held[:-1, 1:] & held[1:, :-1] & held[1:, 1:]
    return every


def _touched(source: Source, corners: Floats, mine: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the tiles that the pixels `mine` reach into."""
    u, v = _pixels(source, corners)
    (low_x, high_x), (low_y, high_y) = (
        _tile_range(values, mine, edges) for values, edges in zip((u, v), source.tile_edges[::-1], strict=True)
    )
    touched = np.zeros([len(edges) - 1 for edges in source.tile_edges], bool)
    for down in range(int((high_y - low_y).max()) + 1):
        for across in range(int((high_x - low_x).max()) + 1):
            touched[np.minimum(low_y + down, high_y), np.minimum(low_x + across, high_x)] = True
    return touched


def _tile_range(
    values: Floats, mine: NDArray[np.bool_], edges: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last tile along an axis of each of the pixels `mine`."""
    four = (values[:-1, :-1][mine], values[:-1, 1:][mine], values[1:, :-1][mine], values[1:, 1:][mine])
    low, high = np.minimum.reduce(four) - MARGIN, np.maximum.reduce(four) + MARGIN
    first, last = (np.searchsorted(edges, place, side="right") - 1 for place in (low, high))
    return first.clip(0, len(edges) - 2), last.clip(0, len(edges) - 2)
