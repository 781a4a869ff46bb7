"""Weighted sums of sheets for several redshifts at once, compiled; on one thread, in the order of sheets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

CACHED: Final = 256  # pixels of which all sheets, in float64, stay in the cache
EIGHT: Final = 8


@njit(cache=True, nogil=True)
def accumulate(delta: NDArray[np.float32], weights: NDArray[np.float64], total: NDArray[np.float64]) -> None:
    """Add sum_i w_i(zs) delta_i(p) to ``total``, sheet by sheet; what counts nothing is not looked at.

    Parameters
    ----------
    delta
        (sheet, pixel).
    weights
        (zs, sheet).
    total
        (zs, pixel); added to.
    """
    double = np.empty((delta.shape[0], CACHED))
    count = np.array([np.count_nonzero(row) for row in weights])
    order = np.empty(weights.shape, np.int64)  # first the sheets that count, for each redshift
    for k in range(len(weights)):
        order[k, : count[k]] = np.flatnonzero(weights[k])
    for first in range(0, total.shape[1], CACHED):
        size = min(CACHED, total.shape[1] - first)
        for i in range(delta.shape[0]):
            source, target = delta[i, first : first + size], double[i, :size]
            for p in range(size):
                target[p] = source[p]
        for k in range(total.shape[0]):
            row, used = total[k, first : first + size], order[k, : count[k]]
            whole = count[k] // EIGHT * EIGHT
            for j in range(0, whole, EIGHT):
                _add_eight(row, double, used[j : j + EIGHT], weights[k])
            for i in used[whole:]:
                one, w = double[i, :size], weights[k, i]
                for p in range(size):
                    row[p] += w * one[p]


@njit(cache=True, nogil=True)
def _add_eight(
    row: NDArray[np.float64], double: NDArray[np.float64], some: NDArray[np.int64], weights: NDArray[np.float64]
) -> None:
    """Add eight sheets, one after the other: the same sum as one by one, but read and written once."""
    size = len(row)
    a, b, c, d = double[some[0], :size], double[some[1], :size], double[some[2], :size], double[some[3], :size]
    e, f, g, h = double[some[4], :size], double[some[5], :size], double[some[6], :size], double[some[7], :size]
    r, s, t, u = weights[some[0]], weights[some[1]], weights[some[2]], weights[some[3]]
    v, w, x, y = weights[some[4]], weights[some[5]], weights[some[6]], weights[some[7]]
    for p in range(size):
        first = (((row[p] + r * a[p]) + s * b[p]) + t * c[p]) + u * d[p]
        row[p] = (((first + v * e[p]) + w * f[p]) + x * g[p]) + y * h[p]
