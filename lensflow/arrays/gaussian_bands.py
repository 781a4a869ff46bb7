"""The blur of an image with invalid pixels, and of its validity, by bands (see `banded`)."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.arrays.banded import AxisBlur
from lensflow.arrays.gaussian_gaps import LOST, MIXED, Columns, Sieve, parts
from lensflow.arrays.kernel import Kernel, full_coverage
from lensflow.arrays.lowrank import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    Window = tuple[tuple[int, int], tuple[int, int]]


def blur_banded_masked(image: NDArray[Any], kernel: Kernel, area: Window, flux: F4, coverage: F4) -> None:
    """Blur a window and its validity: rows first, then columns, slab by slab."""
    y, x = (AxisBlur.plan(kernel, n, lo, hi) for n, (lo, hi) in zip(image.shape, area, strict=True))
    x0, x1 = x.blocks.inputs
    whole = dataclasses.replace(x.blocks, length=x1 - x0, lo=x.blocks.lo - x0, hi=x.blocks.hi - x0)
    across = dataclasses.replace(x, blocks=whole)

    both = np.empty((2 * whole.size, whole.hi - whole.lo), np.float32)
    for rows, tall, found in _blurred_rows(y, image, (x0, x1)):
        n = rows.stop - rows.start
        for columns, kind in _spans(across, found):
            at = rows, slice(columns[0] - whole.lo, columns[1] - whole.lo)
            here = dataclasses.replace(across, blocks=dataclasses.replace(whole, lo=columns[0], hi=columns[1]))
            if kind == LOST:
                flux[at] = coverage[at] = 0.0
            elif kind == MIXED:  # both at once: products of twice the size
                out = both[: 2 * n, : columns[1] - columns[0]]
                here.apply(tall.reshape(2 * n, -1).T, out.T)
                flux[at] = out[:n]
                np.clip(out[n:], 0.0, 1.0, out=coverage[at])
            else:
                here.apply(tall[0].T, flux[at].T)
                sides = (area[0][0] + rows.start, area[0][0] + rows.stop), (columns[0] + x0, columns[1] + x0)
                full_coverage(kernel, image.shape, sides, coverage[at])


def _spans(across: AxisBlur, found: Columns) -> list[tuple[tuple[int, int], int]]:
    """Output columns (first, last + 1), and the validity in their reach."""
    blocks = across.blocks
    step = blocks.size if across.vectors is None else GROUP * blocks.size
    edges = np.append(np.arange(blocks.lo, blocks.hi, step), blocks.hi)
    begin, end = (np.clip(at, 0, blocks.length) for at in (edges[:-1] - blocks.reach, edges[1:] + blocks.reach))
    return [((int(edges[a]), int(edges[b])), kind) for a, b, kind in parts(found, begin, end)]


def _blurred_rows(y: AxisBlur, image: NDArray[Any], columns: tuple[int, int]) -> Iterator[tuple[slice, F4, Columns]]:
    """Blur along y, block by block: (rows of the window, image and validity, what they hold in reach)."""
    blocks, width = y.blocks, columns[1] - columns[0]
    sieve = Sieve(image, columns, max(blocks.size, *(band.matrix.shape[1] for band in y.bands)))
    tall, extra = (np.empty(2 * blocks.size * width, np.float32) for _ in range(2))
    far = None if y.vectors is None else Far(y, y.vectors, sieve, width)
    for b in range(blocks.count):
        rows = blocks.targets(b)
        shape = 2, rows.stop - rows.start, width
        part, more = (space[: math.prod(shape)].reshape(shape) for space in (tall, extra))
        found = [] if far is None else [far.block(b, part)]
        for band in y.bands:
            begin = blocks.lo + b * blocks.size + band.offset
            lo, hi = max(begin, blocks.inputs[0]), min(begin + band.matrix.shape[1], blocks.inputs[1])
            if lo < hi:
                matrix = band.matrix[: part.shape[1], lo - begin : hi - begin]
                target = more if found else part
                needed = far is not None  # a single product without damage is known in closed form
                found.append(sieve.product(matrix, (lo, hi), target) or _undamaged(matrix, target, write=needed))
                if len(found) > 1:
                    part += more
        yield rows, part, Columns.any_row(np.stack([f.damaged for f in found]), np.stack([f.lost for f in found]))


def _undamaged(weights: F4, out: F4, *, write: bool) -> Columns:
    """Say that all rows are valid, and write their product to out[1]."""
    if write:
        out[1] = weights.sum(axis=1, dtype=np.float64)[:, None]
    return Columns(*np.zeros((2, out.shape[2]), np.bool_))


class Far:
    """The low-rank part of a long kernel along y, for an image and its validity."""

    def __init__(self, y: AxisBlur, vectors: F4, sieve: Sieve, width: int) -> None:
        """Project all blocks of input rows onto the basis."""
        rank, number = vectors.shape[1], y.blocks.number
        self._y, self._vectors = y, vectors
        self._moments = np.empty((2, number * rank, width), np.float32)
        self._found = Columns(*(np.empty((number, width), np.bool_) for _ in range(2)))
        self._blurred: list[F4 | None] = []
        for i, (a, b, skip) in enumerate(y.blocks.sources()):
            moments = self._moments[:, i * rank : (i + 1) * rank]
            weights = vectors[skip : skip + b - a].T
            found = sieve.product(weights, (a, b), moments) or _undamaged(weights, moments, write=True)
            self._found.damaged[i], self._found.lost[i] = found.damaged, found.lost

    def block(self, b: int, out: F4) -> Columns:
        """Write output block `b` to out; the blocks are asked for in order."""
        blocks, rank = self._y.blocks, self._vectors.shape[1]
        if b % GROUP == 0:
            self._blurred = [self._y.far(m, b, min(b + GROUP, blocks.count)) for m in self._moments]
        for blurred, target in zip(self._blurred, out, strict=True):
            if blurred is not None:
                at = b % GROUP * rank
                np.matmul(self._vectors[: len(target)], blurred[at : at + rank], out=target)
        distance = -(-blocks.reach // blocks.size)
        near = slice(max(0, b - distance - blocks.first), b + distance + 1 - blocks.first)
        return Columns.any_row(self._found.damaged[near], self._found.lost[near])
