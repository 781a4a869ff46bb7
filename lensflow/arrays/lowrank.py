"""Gaussian smoothing through low-rank blocks: smooth kernels on a few numbers a block.

A Gaussian of width sigma between a block of D <~ sigma pixels and any other block is a matrix of
numerical rank p ~ 8, whatever the distance. With the p best basis vectors Q (D x p) of such blocks,

    out block b = Q sum_m T_m Q^T (in block b - m),    T_m = Q^T W_m Q  (p x p),

where W_m[i, j] = w(m D + i - j). Each fine pixel is read once and written once by a small matrix
product, and the blur itself happens on a grid D/p times coarser. The scheme is the black-box fast
multipole method on one level (Fong & Darve 2009, J. Comput. Phys. 228, 8712), with singular vectors
in place of Chebyshev nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    F8 = NDArray[np.float64]

RANK = 8  # numbers kept of a block; a multiple of 4 suits BLAS
BLOCK_PER_SIGMA = 1.2  # D/sigma at which rank 8 leaves 6e-8 of the peak
GROUP = 8  # blocks blurred by one matrix product


@dataclass(frozen=True)
class Kernel:
    """The truncated Gaussian total * exp(-k^2 / 2 sigma^2) / sum over abs(k) <= radius."""

    sigma: float
    radius: int
    total: float = 1.0

    @property
    def smooth(self) -> bool:
        """Whether the cut at the radius is invisible: exp(-18) = 1.5e-8 of the peak."""
        return 6.0 * self.sigma <= self.radius

    @property
    def reach(self) -> int:
        """Largest distance, px, at which a pixel counts."""
        return int(min(self.radius, np.ceil(6.0 * self.sigma)))

    def gaussian(self, offset: NDArray[np.int64]) -> F8:
        """Weights at the offsets, px, without the cut."""
        k = np.arange(-self.reach, self.reach + 1)
        peak = self.total / np.exp(-0.5 * (k / self.sigma) ** 2).sum()
        weights: F8 = peak * np.exp(-0.5 * (offset / self.sigma) ** 2)
        return weights

    def toeplitz(self, rows: int, columns: int, offset: int, *, cut: bool) -> F8:
        """Matrix w(offset + row - column), zero beyond the reach if `cut`."""
        k = offset + np.arange(1 - columns, rows)
        weights = self.gaussian(k)
        if cut:
            weights[np.abs(k) > self.reach] = 0.0
        return weights[np.arange(rows)[:, None] - np.arange(columns) + columns - 1]


@dataclass(frozen=True)
class Blocks:
    """Blocks of `size` px along one axis; block 0 begins where the wanted window does.

    Output blocks are 0 .. count-1 (the last may be short), input blocks first .. last-1 are those
    within reach that overlap the axis of `length` px.
    """

    size: int
    length: int
    lo: int
    hi: int
    reach: int

    @property
    def count(self) -> int:
        return -(-(self.hi - self.lo) // self.size)

    @property
    def inputs(self) -> tuple[int, int]:
        """Range of input pixels within reach of the window."""
        return max(0, self.lo - self.reach), min(self.length, self.hi + self.reach)

    @property
    def first(self) -> int:
        return (self.inputs[0] - self.lo) // self.size

    @property
    def last(self) -> int:
        return -((self.lo - self.inputs[1]) // self.size)

    @property
    def number(self) -> int:
        return self.last - self.first

    @property
    def origin(self) -> int:
        """Pixel index, possibly negative, at which input block `first` begins."""
        return self.lo + self.first * self.size

    def sources(self) -> Iterator[tuple[int, int, int]]:
        """Input blocks as (start, stop, pixels of the block that lie before start)."""
        begin, end = self.inputs
        for k in range(self.first, self.last):
            start = self.lo + k * self.size
            a, b = max(start, begin), min(start + self.size, end)
            yield a, b, a - start

    def targets(self, b: int) -> slice:
        """Rows of output block `b` within the window."""
        return slice(b * self.size, min((b + 1) * self.size, self.hi - self.lo))


def basis(kernel: Kernel, size: int, rank: int) -> F8:
    """Orthonormal vectors (size, rank) that span blocks of the kernel best in least squares."""
    far = kernel.reach + size
    step = max(1, int(kernel.sigma / 4))
    columns = np.arange(-far, far + size, step)
    responses = kernel.gaussian(np.arange(size)[:, None] - columns)
    return np.linalg.svd(responses, full_matrices=False)[0][:, : min(rank, size)]


def transfers(kernel: Kernel, vectors: F8, distance: int) -> F8:
    """Matrices T_m, m = -distance .. distance, stacked as (2 distance + 1, rank, rank)."""
    size = len(vectors)
    return np.stack(
        [
            vectors.T @ kernel.toeplitz(size, size, m * size, cut=False) @ vectors
            for m in range(-distance, distance + 1)
        ]
    )


def group_matrix(t: F8) -> F4:
    """Block Toeplitz matrix that takes GROUP + 2 distance input blocks to GROUP output blocks."""
    distance, rank = len(t) // 2, t.shape[1]
    matrix = np.zeros((GROUP, rank, GROUP + 2 * distance, rank), np.float32)
    for b in range(GROUP):
        for m in range(-distance, distance + 1):
            matrix[b, :, b - m + distance] = t[m + distance]
    return matrix.reshape(GROUP * rank, -1)


def blur_group(matrix: F4, coarse: F4, first: int, begin: int, end: int, out: F4) -> None:
    """Blur coarse blocks along axis 0: output blocks begin .. end-1 (at most GROUP) into `out`.

    `coarse` holds input blocks from index `first` on; blocks outside it are zero.
    """
    rank = matrix.shape[0] // GROUP
    distance = (matrix.shape[1] // rank - GROUP) // 2
    lo = max(begin - distance, first)
    hi = min(end + distance, first + coarse.shape[0] // rank)
    if lo >= hi:
        out[...] = 0.0
        return
    columns = slice((lo - begin + distance) * rank, (hi - begin + distance) * rank)
    np.matmul(matrix[: (end - begin) * rank, columns], coarse[(lo - first) * rank : (hi - first) * rank], out=out)


def slab(image: NDArray[Any], rows: slice, columns: slice) -> F4:
    """Part of the image as native float32 with contiguous rows; a view where it is that already."""
    part = image[rows, columns]
    if part.dtype == np.float32 and part.dtype.isnative and part.strides[1] == part.itemsize:
        return part
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(part, dtype=np.float32)


@dataclass(frozen=True)
class Smoother:
    """Low-rank blur of a window of an image with a kernel whose cut is invisible."""

    kernel: Kernel
    y: Blocks
    x: Blocks
    vectors: F4
    matrix: F4

    @classmethod
    def plan(
        cls, kernel: Kernel, shape: tuple[int, int], window: tuple[tuple[int, int], tuple[int, int]]
    ) -> Smoother:
        """Choose blocks and matrices for an image of `shape`, of which `window` is wanted."""
        size = int(BLOCK_PER_SIGMA * kernel.sigma)
        q = basis(kernel, size, RANK)
        t = transfers(kernel, q, (kernel.reach + size - 1) // size)
        y, x = (Blocks(size, n, lo, hi, kernel.reach) for n, (lo, hi) in zip(shape, window, strict=True))
        return cls(kernel, y, x, np.ascontiguousarray(q, dtype=np.float32), group_matrix(t))

    @property
    def rank(self) -> int:
        return self.vectors.shape[1]

    def coarse(self, image: NDArray[Any], *, masked: bool) -> tuple[F4, F4 | None]:
        """Project the image onto the blocks: (coarse image, coarse validity).

        Invalid pixels count as zero if `masked`; the validity is None where all are valid.
        """
        shape = (self.y.number * self.rank, self.x.number * self.rank)
        flux, valid = np.empty(shape, np.float32), np.empty(shape, np.float32) if masked else None
        strip = np.zeros((2, self.rank, self.x.number * self.x.size), np.float32)
        x0, x1 = self.x.inputs
        inside = strip[:, :, x0 - self.x.origin : x1 - self.x.origin]
        damaged = False
        for i, (a, b, skip) in enumerate(self.y.sources()):
            weights = self.vectors[skip : skip + b - a].T
            rows = slice(i * self.rank, (i + 1) * self.rank)
            part = slab(image, slice(a, b), slice(x0, x1))
            np.matmul(weights, part, out=inside[0])
            if valid is not None:
                inside[1] = weights.sum(axis=1, keepdims=True)
                damaged |= mend(weights, part, inside)
                self._narrow(strip[1], valid[rows])
            self._narrow(strip[0], flux[rows])
        return flux, valid if damaged else None

    def _narrow(self, strip: F4, out: F4) -> None:
        """Project full-width rows (rank, blocks * size) along x."""
        out[...] = (strip.reshape(-1, self.x.size) @ self.vectors).reshape(out.shape)

    def refine(self, coarse: F4, out: F4) -> None:
        """Blur the coarse image along both axes and interpolate it onto the window `out`."""
        rank, size = self.rank, self.x.size
        narrow = np.empty((GROUP * rank, coarse.shape[1]), np.float32)
        wide = np.empty((GROUP * rank, self.x.count * rank), np.float32)
        for begin in range(0, self.y.count, GROUP):
            end = min(begin + GROUP, self.y.count)
            n = (end - begin) * rank
            blur_group(self.matrix, coarse, self.y.first, begin, end, narrow[:n])
            for left in range(0, self.x.count, GROUP):
                right = min(left + GROUP, self.x.count)
                target = wide[:n, left * rank : right * rank]
                blur_group(self.matrix, narrow[:n].T, self.x.first, left, right, target.T)
            strip = (wide[:n].reshape(-1, rank) @ self.vectors.T).reshape(n, self.x.count * size)
            for b in range(begin, end):
                rows = self.y.targets(b)
                part = strip[(b - begin) * rank : (b - begin + 1) * rank, : out.shape[1]]
                np.matmul(self.vectors[: rows.stop - rows.start], part, out=out[rows])


def mend(weights: F4, part: F4, inside: F4) -> bool:
    """Redo the columns in which an invalid pixel spoilt the projection `inside[0]`.

    Every invalid pixel makes its column of the product NaN or infinite, so that whole columns need no
    other search. Returns whether there was one.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        bad = np.flatnonzero(~np.isfinite(inside[0].sum(axis=0)))
    if bad.size == 0:
        return False
    few = bad.size < part.shape[1] // 2
    part = part[:, bad] if few else part
    finite = np.isfinite(part)
    columns: Any = bad if few else slice(None)
    inside[0][:, columns] = weights @ np.where(finite, part, np.float32(0.0))
    inside[1][:, columns] = weights @ finite.astype(np.float32)
    return True
