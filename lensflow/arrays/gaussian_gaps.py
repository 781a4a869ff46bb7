"""Invalid pixels of an image: products of matrices with its rows, and the parts that they touch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.arrays.kernel import slab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    Flags = NDArray[np.bool_]

VALID, MIXED, LOST = 0, 1, 2  # of a part of the image: all, some or none of the pixels in reach are valid
TILE = 32  # columns that are cleaned together
CACHED = 1 << 16  # pixels whose cleaning stays in the cache of a core


@dataclass(frozen=True)
class Columns:
    """Which columns of some rows hold an invalid pixel, and which hold no valid one."""

    damaged: Flags
    lost: Flags

    @classmethod
    def any_row(cls, damaged: Flags, lost: Flags) -> Columns:
        """Join what is flagged in several rows (row, column)."""
        return cls(np.logical_or.reduce(damaged, axis=0), np.logical_and.reduce(lost, axis=0))


class Sieve:
    """Products of small matrices with rows of an image in which invalid pixels count as zero.

    An invalid pixel makes its column of a product NaN or infinite, so that looking for one costs nothing.
    Only the columns it is in are then cleaned and multiplied again, gathered side by side. Where most columns of
    the rows before were damaged, all are cleaned at once.
    """

    def __init__(self, image: NDArray[Any], columns: tuple[int, int], rows: int) -> None:
        """Reserve space to clean this many rows of these columns."""
        self._image, self._columns = image, slice(*columns)
        size = rows * (columns[1] - columns[0])
        self._pixels, self._valid = np.empty(size, np.float32), np.empty(size, np.float32)
        self._finite = np.empty(size, np.bool_)
        self._mostly_damaged = False

    def product(self, weights: F4, rows: tuple[int, int], out: F4) -> Columns | None:
        """Write weights @ (valid pixels) to out[0], and weights @ validity to out[1] unless None is returned.

        Of the half-open rows; None says that all their pixels are valid.
        """
        part = slab(self._image, slice(*rows), self._columns)
        width = part.shape[1]
        runs = [(0, width)]
        if not self._mostly_damaged:
            np.matmul(weights, part, out=out[0])
            if np.isfinite(out[0, 0].sum(dtype=np.float64)):
                return None
            out[1] = weights.sum(axis=1, dtype=np.float64)[:, None]
            runs = damaged_runs(~np.isfinite(out[0, 0]))
        found = self._clean(weights, part, runs, out)
        self._mostly_damaged = damaged_runs(found.damaged) == [(0, width)]
        return found if found.damaged.any() else None

    def _clean(self, weights: F4, part: F4, runs: list[tuple[int, int]], out: F4) -> Columns:
        """Repeat the products in runs of columns, without the invalid pixels."""
        height, width = part.shape
        taken = sum(b - a for a, b in runs)
        pixels, valid = (a[: height * taken].reshape(height, taken) for a in (self._pixels, self._valid))
        finite = self._finite[: height * taken].reshape(height, taken)
        source = part if taken == width else np.concatenate([part[:, a:b] for a, b in runs], axis=1, out=pixels)
        step = max(1, CACHED // taken)
        for at in range(0, height, step):
            _clean(source[at : at + step], pixels[at : at + step], valid[at : at + step], finite[at : at + step])
        good, some = np.logical_and.reduce(finite, axis=0), np.logical_or.reduce(finite, axis=0)
        if taken == width:
            np.matmul(weights, pixels, out=out[0])
            np.matmul(weights, valid, out=out[1])
            return Columns(~good, ~some)
        columns = np.concatenate([np.arange(a, b) for a, b in runs])
        damaged, lost = np.zeros(width, np.bool_), np.zeros(width, np.bool_)
        damaged[columns], lost[columns] = ~good, ~some
        products, at = (weights @ pixels, weights @ valid), 0
        for a, b in runs:
            for target, product in zip(out, products, strict=True):
                target[:, a:b] = product[:, at : at + b - a]
            at += b - a
        return Columns(damaged, lost)


def _clean(source: F4, pixels: F4, valid: F4, finite: Flags) -> None:
    """Write the source without its invalid pixels, and which are valid, as numbers and as flags."""
    np.isfinite(source, out=finite)
    number = valid.view(np.int32)
    np.copyto(number, finite)
    np.multiply(source.view(np.int32), number, out=pixels.view(np.int32))  # bits: NaN * 0 = 0
    np.copyto(valid, finite)


def damaged_runs(flags: Flags) -> list[tuple[int, int]]:
    """Half-open runs of tiles of columns with a flag; one run of all columns if most tiles have one."""
    n = len(flags)
    tiles = np.logical_or.reduceat(flags, np.arange(0, n, TILE))
    if 2 * np.count_nonzero(tiles) > len(tiles):
        return [(0, n)]
    edges = np.flatnonzero(np.diff(tiles, prepend=False, append=False))
    return [(int(a) * TILE, min(int(b) * TILE, n)) for a, b in edges.reshape(-1, 2)]


def parts(found: Columns, begin: NDArray[np.int64], end: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Classify tiles by what is flagged in their reach begin .. end-1: (first, last + 1, VALID or MIXED or LOST).

    Neighbours of one kind are joined.
    """
    damaged, lost = (np.concatenate([[0], np.cumsum(flags)]) for flags in (found.damaged, found.lost))
    kinds = np.where(damaged[end] > damaged[begin], MIXED, VALID)
    kinds[lost[end] - lost[begin] == end - begin] = LOST
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    return [(a, b, int(kinds[a])) for a, b in itertools.pairwise(edges)]
