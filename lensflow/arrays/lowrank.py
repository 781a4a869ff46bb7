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

from lensflow.arrays.kernel import Blocks, Kernel, slab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    F8 = NDArray[np.float64]

RANK = 8  # numbers kept of a block; a multiple of 4 suits BLAS
SHAPES = (
    (20.0, 1.2, RANK),
    (0.0, 2.8, 12),
)  # from this sigma on, D / sigma and rank: 6e-8 of the peak is left
GROUP = 8  # blocks blurred by one matrix product


def basis(kernel: Kernel, size: int, rank: int) -> F4:
    """Vectors (size, rank), orthonormal but for rounding, that span blocks of the kernel best."""
    far = kernel.reach + size
    step = max(1, int(kernel.sigma / 4))
    columns = np.arange(-far, far + size, step)
    responses = kernel.gaussian(np.arange(size)[:, None] - columns)
    vectors = np.linalg.svd(responses, full_matrices=False)[0][:, :rank]
    # The same space turned towards 1, x, x^2 ...: a smooth image then has one large number a block.
    powers = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, size), vectors.shape[1] - 1)
    turned = np.linalg.qr(vectors @ (vectors.T @ powers))[0]
    return np.ascontiguousarray(turned, dtype=np.float32)


def transfers(kernel: Kernel, vectors: F4, distance: int) -> F8:
    """Matrices T_m, m = -distance .. distance, stacked as (2 distance + 1, rank, rank).

    The pseudo-inverse instead of the transpose makes up for the rounding of the vectors to float32.
    """
    size = len(vectors)
    dual = np.linalg.pinv(vectors.astype(np.float64))
    return np.stack(
        [dual @ kernel.toeplitz(size, size, m * size, cut=False) @ dual.T for m in range(-distance, distance + 1)]
    )


def group_matrix(t: F8) -> F8:
    """Block Toeplitz matrix that takes GROUP + 2 distance input blocks to GROUP output blocks."""
    distance, rank = len(t) // 2, t.shape[1]
    matrix = np.zeros((GROUP, rank, GROUP + 2 * distance, rank))
    for b in range(GROUP):
        for m in range(-distance, distance + 1):
            matrix[b, :, b - m + distance] = t[m + distance]
    return matrix.reshape(GROUP * rank, -1)


def blur_group(matrix: F8, coarse: F8 | F4, first: int, group: tuple[int, int], out: F8) -> None:
    """Blur coarse blocks along axis 0: output blocks of the half-open `group`, at most GROUP, into `out`.

    `coarse` holds input blocks from index `first` on; blocks outside it are zero.
    """
    rank = matrix.shape[0] // GROUP
    begin, end = group
    distance = (matrix.shape[1] // rank - GROUP) // 2
    lo = max(begin - distance, first)
    hi = min(end + distance, first + coarse.shape[0] // rank)
    if lo >= hi:
        out[...] = 0.0
        return
    columns = slice((lo - begin + distance) * rank, (hi - begin + distance) * rank)
    np.matmul(matrix[: (end - begin) * rank, columns], coarse[(lo - first) * rank : (hi - first) * rank], out=out)


@dataclass(frozen=True)
class Smoother:
    """Low-rank blur of a window of an image with a kernel whose cut is invisible."""

    kernel: Kernel
    y: Blocks
    x: Blocks
    vectors: F4
    matrix: F8

    @classmethod
    def plan(cls, kernel: Kernel, shape: tuple[int, int], window: tuple[tuple[int, int], tuple[int, int]]) -> Smoother:
        """Choose blocks and matrices for an image of `shape`, of which `window` is wanted."""
        size, rank = cls.block(kernel)
        q = basis(kernel, size, rank)
        t = transfers(kernel, q, (kernel.reach + size - 1) // size)
        y, x = (Blocks(size, n, lo, hi, kernel.reach) for n, (lo, hi) in zip(shape, window, strict=True))
        return cls(kernel, y, x, q, group_matrix(t))

    @staticmethod
    def block(kernel: Kernel) -> tuple[int, int]:
        """Pixels and numbers a block: small ones are fastest, large ones make the coarser grid."""
        ratio, rank = next((ratio, rank) for sigma, ratio, rank in SHAPES if kernel.sigma >= sigma)
        return int(ratio * kernel.sigma), rank

    @property
    def rank(self) -> int:
        """Numbers a block."""
        return int(self.vectors.shape[1])

    def coarse(self, image: NDArray[Any], *, masked: bool) -> tuple[F8, F8 | None]:
        """Project the image onto the blocks: (coarse image, coarse validity).

        Invalid pixels count as zero if `masked`; the validity is None where all are valid. An invalid
        pixel makes its column of a product NaN or infinite, so that looking for one costs nothing;
        rows that follow damaged ones are taken to be damaged.
        """
        flux = np.empty((self.y.number * self.rank, self.x.number * self.rank))
        valid: F8 | None = None
        strip = np.zeros((2, self.rank, self.x.number * self.x.size), np.float32)
        x0, x1 = self.x.inputs
        inside = strip[:, :, x0 - self.x.origin : x1 - self.x.origin]
        cleaner: Cleaner | None = None
        damaged = False
        for i, (a, b, skip) in enumerate(self.y.sources()):
            weights = self.vectors[skip : skip + b - a].T
            part = slab(image, slice(a, b), slice(x0, x1))
            rows = slice(i * self.rank, (i + 1) * self.rank)
            if not damaged:
                np.matmul(weights, part, out=inside[0])
                damaged = masked and not np.isfinite(inside[0].sum(dtype=np.float64))
            if damaged:
                cleaner = cleaner or Cleaner.of_shape(self.y.size, x1 - x0)
                valid = np.outer(self._ones(self.y), self._ones(self.x)) if valid is None else valid
                damaged = cleaner.project(weights, part, inside)
                self._narrow(strip[1], valid[rows])
            self._narrow(strip[0], flux[rows])
        return flux, valid

    def _ones(self, blocks: Blocks) -> F8:
        """Projection of an axis of valid pixels."""
        vectors = self.vectors.astype(np.float64)
        return np.concatenate([vectors[skip : skip + b - a].sum(axis=0) for a, b, skip in blocks.sources()])

    def _narrow(self, strip: F4, out: F8) -> None:
        """Project full-width rows (rank, blocks * size) along x."""
        out[...] = (strip.reshape(-1, self.x.size) @ self.vectors).reshape(out.shape)

    def refine(self, coarse: F8, out: F4, *, limit: tuple[float, float] | None = None) -> None:
        """Blur the coarse image along both axes and interpolate it onto the window `out`.

        Rounding is clipped to the `limit`, if there is one, while the pixels are in cache.
        """
        rank, size = self.rank, self.x.size
        narrow = np.empty((GROUP * rank, coarse.shape[1]))
        wide = np.empty((GROUP * rank, self.x.count * rank))
        for begin in range(0, self.y.count, GROUP):
            end = min(begin + GROUP, self.y.count)
            n = (end - begin) * rank
            blur_group(self.matrix, coarse, self.y.first, (begin, end), narrow[:n])
            for left in range(0, self.x.count, GROUP):
                right = min(left + GROUP, self.x.count)
                target = wide[:n, left * rank : right * rank]
                blur_group(self.matrix, narrow[:n].T, self.x.first, (left, right), target.T)
            strip = (wide[:n].astype(np.float32).reshape(-1, rank) @ self.vectors.T).reshape(n, self.x.count * size)
            for b in range(begin, end):
                rows = self.y.targets(b)
                part = strip[(b - begin) * rank : (b - begin + 1) * rank, : out.shape[1]]
                np.matmul(self.vectors[: rows.stop - rows.start], part, out=out[rows])
                if limit is not None:
                    np.clip(out[rows], *limit, out=out[rows])


@dataclass(frozen=True)
class Cleaner:
    """Work space in which invalid pixels of a few rows are replaced by zero."""

    finite: NDArray[np.bool_]
    number: NDArray[np.int32]
    pixels: F4

    @classmethod
    def of_shape(cls, rows: int, columns: int) -> Cleaner:
        """Reserve the space for blocks of this shape."""
        shape = rows, columns
        return cls(np.empty(shape, np.bool_), np.empty(shape, np.int32), np.empty(shape, np.float32))

    def project(self, weights: F4, part: F4, out: F4) -> bool:
        """Project the valid pixels into out[0], the validity into out[1]; False if all are valid."""
        n = len(part)
        finite, number, pixels = self.finite[:n], self.number[:n], self.pixels[:n]
        np.isfinite(part, out=finite)
        np.copyto(number, finite)
        np.multiply(part.view(np.int32), number, out=pixels.view(np.int32))  # bits: NaN * 0 = 0
        np.matmul(weights, pixels, out=out[0])
        np.copyto(pixels, finite)
        np.matmul(weights, pixels, out=out[1])
        return not finite.all()
