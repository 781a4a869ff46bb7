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


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _derive(padded, i, g2, laplacian, curvature):  # type: ignore[no-untyped-def]
    """Fill |g|^2, L and the curvature of isodensity lines of row ``i``, in units of pixels; axis 1 is x."""
    up2, up, here, down, down2 = padded[i - 2], padded[i - 1], padded[i], padded[i + 1], padded[i + 2]
    for j in range(2, here.size - 2):
        gx, gy = 0.5 * (here[j + 1] - here[j - 1]), 0.5 * (down[j] - up[j])
        fxx = 0.25 * (here[j + 2] + here[j - 2] - 2 * here[j])
        fyy = 0.25 * (down2[j] + up2[j] - 2 * here[j])
        fxy = 0.25 * (down[j + 1] + up[j - 1] - down[j - 1] - up[j + 1])
        square = gx * gx + gy * gy
        g2[j], laplacian[j] = square, fxx + fyy
        turn = (2 * gx * gy * fxy - gx * gx * fyy - gy * gy * fxx) / square
        curvature[j] = turn if square > 0 else 0.0


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _bins(row, sigma, edges, first, scale, place):  # type: ignore[no-untyped-def]
    """Fill the bin [lo, hi) of each value over sigma; -1 below the first edge, as many as there are bins above."""
    bins = edges.size - 1
    for j in range(row.size):
        guess = (row[j] / sigma - first) * scale
        place[j] = int(min(max(guess, -1.0), float(bins))) if guess == guess else -1  # noqa: PLR0124 - NaN
    for j in range(row.size):
        nu, k = row[j] / sigma, place[j]
        while k >= 0 and nu < edges[k]:
            k -= 1
        while k < bins and nu >= edges[k + 1]:
            k += 1
        place[j] = k


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _extremum(padded, i, j):  # type: ignore[no-untyped-def]
    """Return 1 for a pixel above all eight neighbours, -1 for one below all, else 0."""
    here, up, down = padded[i], padded[i - 1], padded[i + 1]
    value = here[j]
    if value > here[j - 1]:
        above = value > here[j + 1] and value > up[j] and value > down[j] and value > up[j - 1]
        return 1 if above and value > up[j + 1] and value > down[j - 1] and value > down[j + 1] else 0
    if value < here[j - 1]:
        below = value < here[j + 1] and value < up[j] and value < down[j] and value < up[j - 1]
        return -1 if below and value < up[j + 1] and value < down[j - 1] and value < down[j + 1] else 0
    return 0


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _add_row(sums, k, use, inner, g2, laplacian, masked):  # type: ignore[no-untyped-def]
    """Add a row to the sums of moments; ``k`` without its mean, derivatives only between ``inner``."""
    part = np.zeros(11)
    for j in range(k.size):
        if masked and use[j] < INNER:
            continue
        k2 = k[j] * k[j]
        part[K2] += k2
        part[K3] += k2 * k[j]
        part[K4] += k2 * k2
        part[ALL] += 1
        if inner[0] <= j < inner[1]:
            g, curl = g2[j + PADDING], laplacian[j + PADDING]
            part[G2] += g
            part[K2L] += k2 * curl
            part[G2L] += g * curl
            part[K3L] += k2 * k[j] * curl
            part[KG2L] += k[j] * g * curl
            part[G4] += g * g
            part[WITH_G] += 1
    sums += part


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def pixel_pass(padded, use, masked, mean, sigma, edges, margins):  # type: ignore[no-untyped-def]
    """Count and sum over a patch.

    Parameters
    ----------
    padded
        The patch with ``PADDING`` more pixels on each side.
    use, masked
        What each pixel is good for, looked at only if ``masked``.
    mean, sigma
        What moments are taken about, and what values are divided by for the bins.
    edges
        Of the bins of value over sigma.
    margins
        Pixels at the border without peaks, and without derivatives.

    Returns
    -------
    tuple
        counts (pixels; peaks; minima; pixels by the number of midpoints of bins not above them) i8, line (sums of
        \\|g\\|; of the curvature, by bin) and the sums of moments, in units of pixels.
    """
    n, bins = padded.shape[0] - 2 * PADDING, edges.size - 1
    counts, line, sums = np.zeros((4, bins + 1), np.int64), np.zeros((2, bins)), np.zeros(11)
    middles = 0.5 * (edges[1:] + edges[:-1])
    scale = bins / (edges[-1] - edges[0])
    g2, laplacian, curvature = np.zeros(n + 4), np.zeros(n + 4), np.zeros(n + 4)
    place = np.zeros(n, np.int64)
    for i in range(n):
        row, flags = padded[i + PADDING, PADDING : n + PADDING], use[i if masked else 0]
        with_peaks = margins[0] <= i < n - margins[0]
        with_g = margins[1] <= i < n - margins[1]
        inner = (margins[1], n - margins[1]) if with_g else (0, 0)
        if with_g:
            _derive(padded, i + PADDING, g2, laplacian, curvature)
        _bins(row, sigma, edges, edges[0], scale, place)
        _add_row(sums, row - mean, flags, inner, g2, laplacian, masked)
        for j in range(n):
            if masked and flags[j] == MASKED:
                continue
            k = place[j]
            if 0 <= k < bins:
                counts[0, k] += 1
            if masked and flags[j] < INNER:
                continue
            middle = 0 if k < 0 else bins if k == bins else k + (row[j] / sigma >= middles[k])
            counts[3, middle] += 1
            if not 0 <= k < bins:
                continue
            if inner[0] <= j < inner[1]:
                line[0, k] += np.sqrt(g2[j + PADDING])
                line[1, k] += curvature[j + PADDING]
            if with_peaks and margins[0] <= j < n - margins[0]:
                kind = _extremum(padded, i + PADDING, j + PADDING)
                if kind != 0:
                    counts[1 if kind > 0 else 2, k] += 1
    return counts, line, sums


def padded(image: NDArray[np.float64], edge: str) -> NDArray[np.float64]:
    """Return the image with the pixels beyond its border: of the other side (``wrap``), else the nearest."""
    return np.pad(image, PADDING, mode="wrap" if edge == "wrap" else "edge")
