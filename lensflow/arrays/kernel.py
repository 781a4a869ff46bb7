"""The truncated Gaussian kernel, and the blocks and slabs in which images are convolved with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    F8 = NDArray[np.float64]

SIGMA_RANGE = (0.5, 200.0)  # px


@dataclass(frozen=True)
class Kernel:
    """The truncated Gaussian total * exp(-k^2 / 2 sigma^2) / sum over abs(k) <= radius."""

    sigma: float
    radius: int
    total: float = 1.0

    @classmethod
    def checked(cls, sigma: float, radius: int) -> Kernel:
        """Refuse a width or radius, px, out of range."""
        low, high = SIGMA_RANGE
        if not low <= sigma <= high:
            raise BadOption(f"sigma is {sigma!r} px: expected {low:g} to {high:g} px; rescale the image.")
        if not (radius >= 1 and float(radius).is_integer()):
            raise BadOption(f"radius is {radius!r} px: expected an integer of at least 1, say 6 sigma.")
        return cls(float(sigma), int(radius))

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

    @property
    def weights(self) -> F8:
        """Weights at the offsets -reach .. reach; their sum is the total."""
        return self.gaussian(np.arange(-self.reach, self.reach + 1))

    def toeplitz(self, rows: int, columns: int, offset: int, *, cut: bool) -> F8:
        """Matrix w(offset + row - column), zero beyond the reach if `cut`."""
        k = offset + np.arange(1 - columns, rows)
        weights = self.gaussian(k)
        if cut:
            weights[np.abs(k) > self.reach] = 0.0
        matrix: F8 = weights[np.arange(rows)[:, None] - np.arange(columns) + columns - 1]
        return matrix


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
        """Number of output blocks."""
        return -(-(self.hi - self.lo) // self.size)

    @property
    def inputs(self) -> tuple[int, int]:
        """Range of input pixels within reach of the window."""
        return max(0, self.lo - self.reach), min(self.length, self.hi + self.reach)

    @property
    def first(self) -> int:
        """Index of the first input block, at most 0."""
        return (self.inputs[0] - self.lo) // self.size

    @property
    def last(self) -> int:
        """Index after the last input block."""
        return -((self.lo - self.inputs[1]) // self.size)

    @property
    def number(self) -> int:
        """Number of input blocks."""
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


def slab(image: NDArray[Any], rows: slice, columns: slice) -> F4:
    """Return a part of the image as native float32 with contiguous rows; a view where it is that already."""
    part = image[rows, columns]
    if part.dtype == np.float32 and part.dtype.isnative and part.strides[1] == part.itemsize:
        return part
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(part, dtype=np.float32)


def zero_filled(part: F4) -> F4:
    """Set pixels to 0 where not finite: a product of bit patterns, twice as fast as numpy.where."""
    return np.multiply(part.view(np.int32), np.isfinite(part).astype(np.int32)).view(np.float32)


def validity(part: F4) -> F4:
    """Return 1 where the pixels are finite, 0 elsewhere."""
    return np.isfinite(part).astype(np.float32)


def full_coverage(
    kernel: Kernel, shape: tuple[int, int], area: tuple[tuple[int, int], tuple[int, int]], out: F4
) -> None:
    """Coverage where all pixels are valid: the product of the sums of the weights inside each axis."""
    total = np.concatenate([[0.0], np.cumsum(kernel.weights)])
    sides = []
    for n, (lo, hi) in zip(shape, area, strict=True):
        at = np.arange(lo, hi)
        upper = np.minimum(n - 1 - at, kernel.reach) + kernel.reach + 1
        lower = kernel.reach - np.minimum(at, kernel.reach)
        sides.append((total[upper] - total[lower]).astype(np.float32))
    np.multiply(sides[0][:, None], sides[1], out=out)


def all_finite(image: NDArray[Any], rows: tuple[int, int], columns: tuple[int, int]) -> bool:
    """Whether all pixels of a part are finite, looked at by slabs of 128 rows."""
    return all(
        np.isfinite(slab(image, slice(a, min(a + 128, rows[1])), slice(*columns))).all() for a in range(*rows, 128)
    )
