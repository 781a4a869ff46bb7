"""One pass over the pixels of a smoothed patch that counts and sums what its statistics are made of.

Compiled: numpy would go through memory thirty times. One thread, in the order of the pixels: the same bits always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

MASKED, VALID, INNER = 0, 1, 2  # what a pixel is good for: nothing, its value, its value and its derivatives
PADDING = 2  # px around the patch, as far as derivatives reach
# sums over pixels: of k^2, k^3, k^4 and how many, then with the gradient g and the Laplacian L
K2, K3, K4, ALL, G2, K2L, G2L, K3L, KG2L, G4, WITH_G = range(11)
PIXELS, PEAKS, MINIMA, MIDDLES = range(4)  # rows of counts


@njit(cache=True, nogil=True, error_model="numpy")
def _derive(
    padded: NDArray[np.float64],
    i: int,
    g2: NDArray[np.float64],
    laplacian: NDArray[np.float64],
    curvature: NDArray[np.float64],
) -> None:
    """Fill |g|^2, L and the curvature of contours of a row of the patch, in units of pixels; axis 1 is x."""
    up2, up, here, down, down2 = padded[i], padded[i + 1], padded[i + 2], padded[i + 3], padded[i + 4]
    for j in range(g2.size):
        gx, gy = 0.5 * (here[j + 3] - here[j + 1]), 0.5 * (down[j + 2] - up[j + 2])
        fxx = 0.25 * (here[j + 4] + here[j] - 2 * here[j + 2])
        fyy = 0.25 * (down2[j + 2] + up2[j + 2] - 2 * here[j + 2])
        fxy = 0.25 * (down[j + 3] + up[j + 1] - down[j + 1] - up[j + 3])
        square = gx * gx + gy * gy
        g2[j], laplacian[j] = square, fxx + fyy
        turn = (2 * gx * gy * fxy - gx * gx * fyy - gy * gy * fxx) / square
        curvature[j] = turn if square > 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _bins(nu: NDArray[np.float64], edges: NDArray[np.float64], place: NDArray[np.int32]) -> None:
    """Fill the bin [lo, hi) of each value; -1 below the first edge, as many as there are bins above the last."""
    bins = edges.size - 1
    first, scale = edges[0], bins / (edges[-1] - edges[0])
    for j in range(nu.size):  # right for equal bins, but for rounding; NaN has no bin
        guess = (nu[j] - first) * scale
        place[j] = np.int32(min(max(guess, -1.0), bins)) if np.isfinite(nu[j]) else np.int32(bins if nu[j] > 0 else -1)
    for j in range(nu.size):
        k = place[j]
        while k >= 0 and nu[j] < edges[k]:
            k -= 1
        while k < bins and nu[j] >= edges[k + 1]:
            k += 1
        place[j] = k


@njit(cache=True, nogil=True, error_model="numpy")
def _find_extrema(
    counts: NDArray[np.int64],
    rows: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    place: NDArray[np.int32],
    inner: NDArray[np.bool_],
    margin: int,
) -> None:
    """Count the pixels of the middle row that are above, and those that are below, all eight neighbours."""
    up, here, down = rows
    bins = counts.shape[1] - 1
    for j in range(margin, place.size - margin):
        c = j + PADDING
        v = here[c]
        # without branches: which way a pixel goes cannot be foretold
        row = (v > here[c - 1]) & (v > here[c + 1]) & (v > up[c]) & (v > down[c])
        above = row & (v > up[c - 1]) & (v > up[c + 1]) & (v > down[c - 1]) & (v > down[c + 1])
        row = (v < here[c - 1]) & (v < here[c + 1]) & (v < up[c]) & (v < down[c])
        below = row & (v < up[c - 1]) & (v < up[c + 1]) & (v < down[c - 1]) & (v < down[c + 1])
        if (above | below) and inner[j] and 0 <= place[j] < bins:
            counts[PEAKS if above else MINIMA, place[j]] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _add_contours(
    line: NDArray[np.float64],
    place: NDArray[np.int32],
    inner: NDArray[np.bool_],
    g2: NDArray[np.float64],
    curvature: NDArray[np.float64],
) -> None:
    """Add |g| and the curvature of a row to the bins of its pixels."""
    for j in range(place.size):
        if inner[j] and 0 <= place[j] < line.shape[1]:
            line[0, place[j]] += np.sqrt(g2[j])
            line[1, place[j]] += curvature[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_values(sums: NDArray[np.float64], k: NDArray[np.float64], inner: NDArray[np.bool_]) -> None:
    """Add the powers of a row to the sums."""
    second, third, fourth, count = 0.0, 0.0, 0.0, 0
    for j in range(k.size):
        if inner[j]:
            k2 = k[j] * k[j]
            second += k2
            third += k2 * k[j]
            fourth += k2 * k2
            count += 1
    sums[K2] += second
    sums[K3] += third
    sums[K4] += fourth
    sums[ALL] += count


@njit(cache=True, nogil=True, error_model="numpy")
def _add_derivatives(
    sums: NDArray[np.float64],
    k: NDArray[np.float64],
    inner: NDArray[np.bool_],
    g2: NDArray[np.float64],
    laplacian: NDArray[np.float64],
) -> None:
    """Add what has derivatives in it, of a row, to the sums."""
    a, b, c, d, e, f, count = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    for j in range(k.size):
        if inner[j]:
            k2, kl, g = k[j] * k[j], k[j] * laplacian[j], g2[j]
            a += g
            b += k[j] * kl
            c += g * laplacian[j]
            d += k2 * kl
            e += g * kl
            f += g * g
            count += 1
    sums[G2] += a
    sums[K2L] += b
    sums[G2L] += c
    sums[K3L] += d
    sums[KG2L] += e
    sums[G4] += f
    sums[WITH_G] += count


@njit(cache=True, nogil=True, error_model="numpy")
def _count(
    counts: NDArray[np.int64],
    nu: NDArray[np.float64],
    place: NDArray[np.int32],
    use: NDArray[np.uint8],
    middles: NDArray[np.float64],
) -> None:
    """Count the pixels of a row by bin, and those that are inner by the middles of bins that they reach."""
    bins = middles.size
    for j in range(nu.size):
        k = place[j]
        if use[j] >= VALID and 0 <= k < bins:
            counts[PIXELS, k] += 1
        if use[j] >= INNER:
            reached = bins if k >= bins else 0 if k < 0 else k + (nu[j] >= middles[k])
            counts[MIDDLES, reached] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def pixel_pass(
    padded: NDArray[np.float64],
    use: NDArray[np.uint8],
    scale: tuple[float, float],
    edges: NDArray[np.float64],
    margins: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Count and sum over a patch.

    Parameters
    ----------
    padded
        The patch with ``PADDING`` more pixels on each side.
    use
        What each pixel is good for; one row that stands for all if all are alike.
    scale
        What moments are taken about, and what values are divided by for the bins.
    edges
        Of the bins of value over sigma.
    margins
        Pixels at the border without peaks, and without derivatives.

    Returns
    -------
    tuple
        counts (pixels; peaks; minima; pixels by how many middles of bins they reach) i8, line (sums of |g|; of the
        curvature, by bin) and the sums of moments, in units of pixels.
    """
    n, bins = padded.shape[0] - 2 * PADDING, edges.size - 1
    counts, line, sums = np.zeros((4, bins + 1), np.int64), np.zeros((2, bins)), np.zeros(11)
    middles = 0.5 * (edges[1:] + edges[:-1])
    g2, laplacian, curvature, place = np.empty(n), np.empty(n), np.empty(n), np.empty(n, np.int32)
    for i in range(n):
        rows = padded[i + 1], padded[i + 2], padded[i + 3]
        flags = use[min(i, use.shape[0] - 1)]
        row, inner = rows[1][PADDING : n + PADDING], flags == INNER
        nu = row / scale[1]
        _bins(nu, edges, place)
        _count(counts, nu, place, flags, middles)
        k = row - scale[0]
        _add_values(sums, k, inner)
        if margins[1] <= i < n - margins[1]:
            _derive(padded, i, g2, laplacian, curvature)
            a, b = margins[1], n - margins[1]
            _add_derivatives(sums, k[a:b], inner[a:b], g2[a:b], laplacian[a:b])
            _add_contours(line, place[a:b], inner[a:b], g2[a:b], curvature[a:b])
        if margins[0] <= i < n - margins[0]:
            _find_extrema(counts, rows, place, inner, margins[0])
    return counts, line, sums


def padded(image: NDArray[np.float64], edge: str) -> NDArray[np.float64]:
    """Return the image with the pixels beyond its border: of the other side (``wrap``), else the nearest."""
    return np.pad(image, PADDING, mode="wrap" if edge == "wrap" else "edge")
