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
    """Return the 128-bit xxh3 hash of type, shape and values of an array (C order).

    All NaNs count as one: 0/0 is a NaN with its sign bit set, and a stored chunk of those, taken for empty, reads
    back as the fill value's.
    """
    hasher = xxhash.xxh3_128(f"{values.dtype.str}{values.shape}".encode())
    for part in _slabs(values):
        hasher.update(_one_nan(np.ascontiguousarray(part)).view(np.uint8).data)
    return hasher.hexdigest()


def _one_nan(part: np.ndarray) -> np.ndarray:
    if part.dtype.kind not in "fc":
        return part
    missing = np.isnan(part)
    if missing.any():
        part = part.copy()
        part[missing] = part.dtype.type(complex(np.nan, np.nan) if part.dtype.kind == "c" else np.nan)
    return part


def digest(values: np.ndarray) -> Digest:
    """Return checksum and statistics of an array, a slab at a time."""
    finite, total = 0, 0.0
    low, high = math.inf, -math.inf
    for part in _slabs(values):
        good = part[np.isfinite(part)] if part.dtype.kind in "fc" else part
        if good.size == 0:
            continue
        with np.errstate(over="ignore"):
            numbers = np.abs(good) if good.dtype.kind == "c" else good
            total += float(numbers.sum(dtype=np.float64))
        finite += good.size
        low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    some = finite > 0
    mean = total / finite if some else math.inf
    return Digest(
        checksum=checksum(values),
        nbytes=values.nbytes,
        nan_fraction=1 - finite / values.size if values.size else 0.0,
        minimum=low if math.isfinite(low) else None,
        maximum=high if math.isfinite(high) else None,
        mean=mean if math.isfinite(mean) else None,
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
