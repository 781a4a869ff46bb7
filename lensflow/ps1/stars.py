"""Bright stars taken out of a skycell, and the list of what went with them.

Stars brighter in the band of TESS than a limit are decided on by the catalogue alone, so every cell that sees such a
star removes it, also a cell that sees only its wings. What the mask says is known to each cell by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from lensflow.ps1.maskbits import MaskBit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.segments import Segmentation

REACH = 32  # px round a position without value in which the nearest pixel with one is looked for
FLAGGED = np.uint16(MaskBit.SAT | MaskBit.STARCORE)  # both: the core of a saturated star
NOBODY = -1  # source_id of what no star of the catalogue explains
REMOVED = np.dtype(
    [
        ("source_id", "i8"),
        ("ra", "f8"),
        ("dec", "f8"),
        ("x", "f8"),
        ("y", "f8"),
        ("tess_mag", "f8"),
        ("segment_id", "i4"),
        ("reason", "u1"),
    ]
)


class Reason(IntEnum):
    """Why a source is gone."""

    CATALOG_BRIGHT_STAR = 1  # brighter than the limit
    CATALOG_NEIGHBOR = 2  # a fainter star in the segment of a bright one
    QUALITY_FLAG_STAR = 3  # a star in a segment that the mask calls saturated
    QUALITY_FLAG_NO_STAR = 4  # such a segment without a star


@dataclass(frozen=True)
class Stars:
    """Stars of a catalogue on a skycell and round it.

    Parameters
    ----------
    table
        source_id, ra, dec, tess_mag.
    x, y
        Pixels of the image at hand, 0-based, integers at pixel centres.
    """

    table: NDArray[np.void]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def remove_stars(
    flux: NDArray[np.float32],
    mask: NDArray[np.uint16],
    found: Segmentation,
    stars: Stars,
    *,
    limit: float,
) -> NDArray[np.void]:
    """Set the segments of bright stars, and of saturated ones, to zero; NaN stays NaN.

    A bright region belongs to its nearest segment: they go together. Under a star lies what the nearest pixel with a
    value belongs to; with a bright region go all segments that touch it, the pieces into which deblending broke the
    ring of its wings.

    Parameters
    ----------
    flux
        (y, x), changed.
    mask
        Bits of the pixels.
    found
        What the pixels belong to.
    stars
        Those on the image, and round it as far as their wings may reach.
    limit
        TESS magnitude; brighter stars are removed.

    Returns
    -------
    ndarray
        A row for each removed source: source_id, ra, dec, x, y, tess_mag, segment_id, reason; ra and dec are NaN
        where no star of the catalogue is known.
    """
    under = _under(flux, found, stars, limit)
    bright = (stars.table["tess_mag"] < limit) & (under > 0)
    by_catalogue = _groups(found, under[bright])
    y, x = np.divmod(np.flatnonzero((mask & FLAGGED) == FLAGGED), mask.shape[1])
    beside = _beside(found.ids, y, x)
    by_flags = np.setdiff1d(_groups(found, beside[beside > 0]), by_catalogue)
    gone = np.zeros(len(found.home), bool)
    gone[by_catalogue] = gone[by_flags] = True
    gone = gone[found.home]
    gone[0] = False
    np.copyto(flux, 0, where=gone[found.ids] & ~np.isnan(flux))
    home = found.home[under]
    rows = [
        _rows(stars, bright, home, Reason.CATALOG_BRIGHT_STAR),
        _rows(stars, ~bright & np.isin(home, by_catalogue), home, Reason.CATALOG_NEIGHBOR),
        _rows(stars, np.isin(home, by_flags), home, Reason.QUALITY_FLAG_STAR),
        _unknown(np.setdiff1d(by_flags, home), found.home[beside], y, x),
    ]
    return np.concatenate(rows)


def _groups(found: Segmentation, ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the homes of some ids, and of the segments that touch those that are bright regions."""
    pieces = found.touching[np.isin(found.touching[:, 0], ids), 1]
    return np.unique(np.concatenate([found.home[ids], found.home[pieces]]))


def _under(flux: NDArray[np.float32], found: Segmentation, stars: Stars, limit: float) -> NDArray[np.int32]:
    """Return the id under each star, 0 where there is none; stars outside count only if they are bright."""
    height, width = found.ids.shape
    y, x = np.rint(stars.y).astype(int), np.rint(stars.x).astype(int)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    ids = np.where(inside, found.ids[y, x], 0)
    bright = stars.table["tess_mag"] < limit
    for k in np.flatnonzero(bright & ~(inside & np.isfinite(flux[y, x]))):
        ids[k] = found.ids[_nearest_value(flux, int(y[k]), int(x[k]))]
    return ids


def _nearest_value(flux: NDArray[np.float32], y: int, x: int) -> tuple[int, int]:
    """Return the nearest pixel with a value, the pixel itself if there is none near."""
    top, left = max(0, y - REACH), max(0, x - REACH)
    ys, xs = np.nonzero(np.isfinite(flux[top : y + REACH + 1, left : x + REACH + 1]))
    if not len(ys):
        return y, x
    nearest = np.argmin((ys + top - y) ** 2 + (xs + left - x) ** 2)
    return int(ys[nearest]) + top, int(xs[nearest]) + left


def _beside(ids: NDArray[np.int32], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the id at some pixels or, where they have none, the largest beside them."""
    height, width = ids.shape
    here: NDArray[np.int32] = ids[y, x]
    around = [
        ids[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    ]
    return np.where(here > 0, here, np.max(around, axis=0))


def _rows(stars: Stars, which: NDArray[np.bool_], home: NDArray[np.int32], reason: Reason) -> NDArray[np.void]:
    rows = np.zeros(int(which.sum()), REMOVED)
    for name in ("source_id", "ra", "dec", "tess_mag"):
        rows[name] = stars.table[name][which]
    rows["x"], rows["y"] = stars.x[which], stars.y[which]
    rows["segment_id"], rows["reason"] = home[which], reason
    order = np.lexsort((rows["source_id"], rows["tess_mag"]))
    return rows[order]


def _unknown(
    segments: NDArray[np.int32], home: NDArray[np.int32], y: NDArray[np.int64], x: NDArray[np.int64]
) -> NDArray[np.void]:
    """Return a row for each flagged segment without a star, at the middle of its flagged pixels."""
    rows = np.zeros(len(segments), REMOVED)
    rows["source_id"], rows["segment_id"], rows["reason"] = NOBODY, segments, Reason.QUALITY_FLAG_NO_STAR
    for name in ("ra", "dec", "tess_mag", "x", "y"):
        rows[name] = np.nan
    for row, segment in zip(rows, segments, strict=True):
        own = home == segment
        if own.any():
            row["y"], row["x"] = y[own].mean(), x[own].mean()
    return rows
