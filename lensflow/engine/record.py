"""What is remembered of a block's pixels: a checksum to verify them by and a few numbers to judge them by."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator

SLAB = 1 << 20  # elements looked at together: statistics cost no memory


@dataclass(frozen=True)
class Digest:
    """Checksum and statistics of one variable of a block; minimum, maximum and mean are of the finite values."""

    checksum: str
    nbytes: int
    nan_fraction: float
    minimum: float | None
    maximum: float | None
    mean: float | None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def checksum(values: np.ndarray) -> str:
    """Return the 128-bit xxh3 hash of type, shape and bytes of an array (C order)."""
    hasher = xxhash.xxh3_128(f"{values.dtype.str}{values.shape}".encode())
    for part in _slabs(values):
        hasher.update(np.ascontiguousarray(part).view(np.uint8).data)
    return hasher.hexdigest()


def digest(values: np.ndarray) -> Digest:
    """Return checksum and statistics of an array, a slab at a time."""
    finite, total = 0, 0.0
    low, high = math.inf, -math.inf
    for part in _slabs(values):
        good = part[np.isfinite(part)] if part.dtype.kind in "fc" else part
        if good.size == 0:
            continue
        numbers = np.abs(good) if good.dtype.kind == "c" else good
        finite += good.size
        total += float(numbers.sum(dtype=np.float64))
        low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    some = finite > 0
    return Digest(
        checksum=checksum(values),
        nbytes=values.nbytes,
        nan_fraction=1 - finite / values.size if values.size else 0.0,
        minimum=low if some else None,
        maximum=high if some else None,
        mean=total / finite if some else None,
    )


def _slabs(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield flat runs of rows, in C order, of about ``SLAB`` elements."""
    if values.ndim == 0:
        yield values.reshape(1)
        return
    if values.size == 0:
        return
    rows = max(1, SLAB // max(1, values.size // len(values)))
    for start in range(0, len(values), rows):
        yield values[start : start + rows].reshape(-1)
