"""The starlet transform: an image as a sum of scales, each the difference of two smoothings by a cubic B spline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import correlate1d

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.lensing.patches.masks import Edge

SCALES = 5
SPLINE = np.array([1, 4, 6, 4, 1]) / 16


def starlet(image: NDArray[np.float64], scales: int = SCALES) -> NDArray[np.float64]:
    """Return scales w_j = c_{j-1} - c_j and at last c, whose sum is the image; reflected at the border.

    Parameters
    ----------
    image
        Two-dimensional.
    scales
        How many; the taps of scale j are 2^j pixels apart ("a trous").
    """
    found = np.empty((scales + 1, *image.shape))
    smooth = image
    for j in range(scales):
        taps = np.zeros(4 * 2**j + 1)
        taps[:: 2**j] = SPLINE
        smoother = correlate1d(correlate1d(smooth, taps, axis=0, mode="reflect"), taps, axis=1, mode="reflect")
        found[j] = smooth - smoother
        smooth = smoother
    found[scales] = smooth
    return found


def starlet_statistics(
    image: NDArray[np.float64], *, edges: NDArray[np.float64], inner: NDArray[np.bool_] | None = None, edge: Edge
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the sum of |w| and the number of peaks of each scale in bins [lo, hi) of w / std(w): (scale, bin).

    Parameters
    ----------
    image
        Not smoothed, zero where it is masked.
    edges
        Of the bins.
    inner
        Pixels that count; all if None.
    edge
        As for :func:`lensflow.lensing.pixel_statistics.pixel_statistics`.
    """
    bins = edges.size - 1
    l1, peaks = np.zeros((SCALES, bins)), np.zeros((SCALES, bins), np.int64)
    kept = np.ones(image.shape, bool) if inner is None else inner
    for j, scale in enumerate(starlet(image)[:SCALES]):
        spread = scale[kept].std() if kept.any() else np.nan
        place = np.searchsorted(edges, scale / spread, side="right") - 1 if spread > 0 else np.full(scale.shape, -1)
        inside = kept & (place >= 0) & (place < bins)
        l1[j] = np.bincount(place[inside], weights=np.abs(scale[inside]), minlength=bins)
        peaks[j] = np.bincount(place[inside & local_maxima(scale, edge)], minlength=bins)
    return l1, peaks


def local_maxima(image: NDArray[np.float64], edge: Edge) -> NDArray[np.bool_]:
    """Return which pixels are above all eight neighbours; none at the border if ``edge`` is ``crop``."""
    rows, columns = image.shape
    padded = np.pad(image, 1, mode="wrap") if edge == "wrap" else np.pad(image, 1, constant_values=np.inf)
    found = np.ones(image.shape, bool)
    for down in range(3):
        for across in range(3):
            if (down, across) != (1, 1):
                found &= image > padded[down : down + rows, across : across + columns]
    return found
