"""Gaussian smoothing by banded matrix products, exact at the cut of the kernel.

Along an axis, blocks of output rows are products of small matrices with input rows. Short kernels are
one dense band. Long kernels whose cut is visible (sigma > radius / 6) are split by block distance m:

    out block b = Q sum_(inside) T_m Q^T (in block b - m) + sum_(at the cut) W_m (in block b - m),

low-rank (see `lowrank`) where all weights of the pair of blocks lie within the radius, dense where the
cut passes through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.arrays.kernel import Blocks, Kernel
from lensflow.arrays.lowrank import GROUP, RANK, basis, blur_group, group_matrix, transfers

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    F8 = NDArray[np.float64]
    Rows = Callable[[int, int], F4]  # (start, stop) -> these rows of the source

SHORT = 48  # px: a kernel that reaches no farther is applied as one dense band
BAND = 64  # rows of an output block of a short kernel


@dataclass(frozen=True)
class Band:
    """A dense matrix applied to the input rows from `offset` px after the start of an output block."""

    offset: int
    matrix: F4


@dataclass(frozen=True)
class AxisBlur:
    """The blur along one axis as bands and, for long kernels, low-rank blocks."""

    blocks: Blocks
    bands: tuple[Band, ...]
    vectors: F4 | None = None
    matrix: F8 | None = None

    @classmethod
    def plan(cls, kernel: Kernel, length: int, lo: int, hi: int) -> AxisBlur:
        """Plan the blur of pixels lo .. hi-1 of an axis of `length` pixels."""
        reach = kernel.reach
        if reach <= SHORT:
            band = Band(-reach, _dense(kernel, BAND, -reach, BAND + reach))
            return cls(Blocks(BAND, length, lo, hi, reach), (band,))
        size = (reach + 1) // 9  # px; costs 4 size + 2 rank products a pixel: small, yet many times the rank
        inside = (reach + 1) // size - 1  # block distances wholly within the radius
        edge = inside * size
        bands = (
            Band(-reach, _dense(kernel, size, -reach, -edge)),
            Band(edge + size, _dense(kernel, size, edge + size, reach + size)),
        )
        q = basis(kernel, size, RANK)
        matrix = group_matrix(transfers(kernel, q, inside))
        return cls(Blocks(size, length, lo, hi, reach), bands, q, matrix)

    def moments(self, rows: Rows) -> F4 | None:
        """Project all input blocks onto the basis: (blocks * rank, width)."""
        if self.vectors is None:
            return None
        rank = self.vectors.shape[1]
        coarse: F4 | None = None
        for i, (a, b, skip) in enumerate(self.blocks.sources()):
            part = rows(a, b)
            if coarse is None:
                coarse = np.empty((self.blocks.number * rank, part.shape[1]), np.float32)
            np.matmul(self.vectors[skip : skip + b - a].T, part, out=coarse[i * rank : (i + 1) * rank])
        return coarse

    def far(self, coarse: F4 | None, begin: int, end: int) -> F4 | None:
        """Blurred coarse blocks begin .. end-1, at most GROUP of them."""
        if coarse is None or self.vectors is None or self.matrix is None:
            return None
        out = np.empty(((end - begin) * self.vectors.shape[1], coarse.shape[1]))
        blur_group(self.matrix, coarse, self.blocks.first, (begin, end), out)
        return out.astype(np.float32)

    def near(self, rows: Rows, b: int, far: F4 | None, out: F4) -> None:
        """Output block `b` into `out`: its bands plus the interpolated low-rank part `far`."""
        written = False
        if far is not None and self.vectors is not None:
            np.matmul(self.vectors[: len(out)], far, out=out)
            written = True
        start = self.blocks.lo + b * self.blocks.size
        first, last = self.blocks.inputs  # beyond, pixels have no weight and may be NaN
        for band in self.bands:
            begin = start + band.offset
            lo, hi = max(begin, first), min(begin + band.matrix.shape[1], last)
            if lo >= hi:
                continue
            matrix = band.matrix[: len(out), lo - begin : hi - begin]
            if written:
                out += matrix @ rows(lo, hi)
            else:
                np.matmul(matrix, rows(lo, hi), out=out)
                written = True
        if not written:
            out[...] = 0.0

    def apply(self, source: F4, out: F4) -> None:
        """Blur a whole array along axis 0 into `out`."""

        def rows(a: int, b: int) -> F4:
            return source[a:b]

        coarse = self.moments(rows)
        for begin in range(0, self.blocks.count, GROUP):
            end = min(begin + GROUP, self.blocks.count)
            far = self.far(coarse, begin, end)
            for b in range(begin, end):
                self.near(rows, b, _block(far, b - begin, end - begin), out[self.blocks.targets(b)])


def _dense(kernel: Kernel, size: int, lo: int, hi: int) -> F4:
    """Band matrix from the input rows lo .. hi-1, relative to the block start, to `size` output rows."""
    return kernel.toeplitz(size, hi - lo, -lo, cut=True).astype(np.float32)


def _block(far: F4 | None, i: int, n: int) -> F4 | None:
    """Block `i` of `n` stacked ones."""
    if far is None:
        return None
    rank = len(far) // n
    return far[i * rank : (i + 1) * rank]


def blur_banded(read: Callable[[slice, slice], F4], y: AxisBlur, x: AxisBlur, out: F4) -> None:
    """Blur an image, read by slabs, into the window `out`: rows first, then columns, slab by slab.

    Parameters
    ----------
    read
        (rows, columns) -> that part of the image, finite float32.
    y, x
        The plans of the two axes.
    out
        float32 (window rows, window columns).
    """
    x0, x1 = x.blocks.inputs
    across = AxisBlur(_shifted(x.blocks, x0, x1), x.bands, x.vectors, x.matrix)

    def rows(a: int, b: int) -> F4:
        return read(slice(a, b), slice(x0, x1))

    coarse = y.moments(rows)
    tall = np.empty((y.blocks.size, x1 - x0), np.float32)
    for begin in range(0, y.blocks.count, GROUP):
        end = min(begin + GROUP, y.blocks.count)
        far = y.far(coarse, begin, end)
        for b in range(begin, end):
            target: Any = out[y.blocks.targets(b)]
            part = tall[: len(target)]
            y.near(rows, b, _block(far, b - begin, end - begin), part)
            across.apply(part.T, target.T)


def _shifted(blocks: Blocks, begin: int, end: int) -> Blocks:
    """Count the blocks from pixel `begin` of an axis cut at `end`."""
    return Blocks(blocks.size, end - begin, blocks.lo - begin, blocks.hi - begin, blocks.reach)
