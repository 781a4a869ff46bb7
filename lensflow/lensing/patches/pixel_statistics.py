"""Statistics of the pixels of one smoothed patch: histogram, peaks, minima, Minkowski functionals, moments."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt
from typing import TYPE_CHECKING

import numpy as np

from lensflow.lensing.patches import pixel_pass as at
from lensflow.lensing.patches.masks import Edge, eroded

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOMENTS = ("s0", "s1", "S0", "S1", "S2", "K0", "K1", "K2", "K3")
MARGINS: dict[Edge, tuple[int, int]] = {"crop": (1, 2), "wrap": (0, 0)}  # px without peaks, without derivatives


@dataclass(frozen=True)
class PixelStatistics:
    """What the pixels of a patch give, in bins of nu = kappa / sigma unless it says otherwise.

    Parameters
    ----------
    pdf_counts, peaks_counts, minima_counts
        Pixels, peaks and minima in each bin.
    n_pix
        Pixels that count, in the range of the bins or not.
    v0, v1, v2
        Minkowski functionals: area above the middle of a bin; boundary in 1/arcmin and curvature in 1/arcmin^2 in it.
    moments
        s0, s1, S0, S1, S2, K0, K1, K2, K3, derivatives in 1/arcmin.
    sigma0, sigma1
        Standard deviation, and the root mean square of the gradient in 1/arcmin.
    """

    pdf_counts: NDArray[np.int64]
    peaks_counts: NDArray[np.int64]
    minima_counts: NDArray[np.int64]
    n_pix: int
    v0: NDArray[np.float64]
    v1: NDArray[np.float64]
    v2: NDArray[np.float64]
    moments: NDArray[np.float64]
    sigma0: float
    sigma1: float


def density(counts: NDArray[np.integer], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return counts over their sum and the width of their bins; NaN if there are none."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=-1, keepdims=True) / np.diff(edges)  # type: ignore[no-any-return]


def pixel_statistics(
    image: NDArray[np.float64],
    *,
    edges: NDArray[np.float64],
    pixel_arcmin: float,
    valid: NDArray[np.bool_] | None = None,
    edge: Edge = "crop",
    snr_sigma: float | None = None,
    subtract_mean: bool = True,
) -> PixelStatistics:
    """Measure one patch.

    Parameters
    ----------
    image
        Square, smoothed, float64.
    edges
        Of the bins [lo, hi) of nu, increasing.
    pixel_arcmin
        Side of a pixel; 1 for results in units of pixels.
    valid
        Pixels that count; all if None. The histogram takes these, all else those whose neighbours are valid too.
    edge
        ``crop``: no peaks within a pixel of the border, no derivatives within two; ``wrap``: periodic.
    snr_sigma
        What nu is in units of; the standard deviation of the patch if None.
    subtract_mean
        Whether moments are taken about the mean.

    Returns
    -------
    PixelStatistics
        All NaN and zero where the patch is constant or has no valid pixel.
    """
    use, chosen = _usable(image, valid, edge)
    mean, sigma0 = (float(chosen.mean()), float(chosen.std())) if chosen.size else (nan, nan)
    sigma = sigma0 if snr_sigma is None else snr_sigma
    counts, line, sums = at.pixel_pass(
        at.padded(image, edge), use, (mean if subtract_mean else 0.0, sigma), edges, MARGINS[edge]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        line /= sums[at.WITH_G] * np.diff(edges) * sigma
        above = counts[at.MIDDLES, ::-1].cumsum()[::-1] / (sums[at.ALL] if sigma > 0 else nan)
        moments = _moments(sums, sigma0, pixel_arcmin)
    return PixelStatistics(
        pdf_counts=counts[at.PIXELS, :-1],
        peaks_counts=counts[at.PEAKS, :-1],
        minima_counts=counts[at.MINIMA, :-1],
        n_pix=image.size if valid is None else int(valid.sum()),
        v0=above[1:],
        v1=line[0] / (4 * pixel_arcmin),
        v2=line[1] / (2 * np.pi * pixel_arcmin**2),
        moments=moments,
        sigma0=sigma0,
        sigma1=float(moments[1]),
    )


def _usable(
    image: NDArray[np.float64], valid: NDArray[np.bool_] | None, edge: Edge
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return what each pixel is good for, as the pass takes it, and the values of those that are good for all."""
    if valid is None:
        return np.full((1, image.shape[1]), at.INNER, np.uint8), image
    inner = eroded(valid, edge)
    return valid.astype(np.uint8) + inner, image[inner]


def _moments(sums: NDArray[np.float64], s0: float, pixel: float) -> NDArray[np.float64]:
    """Return the connected moments of sums in units of pixels; averages with g or L are over where those are."""
    plain, derived = sums / sums[at.ALL], sums / sums[at.WITH_G]
    s1 = sqrt(derived[at.G2]) / pixel if derived[at.G2] >= 0 else nan
    return np.array(
        [
            s0,
            s1,
            plain[at.K3],
            derived[at.K2L] / pixel**2,
            derived[at.G2L] / pixel**4,
            plain[at.K4] - 3 * s0**4,
            derived[at.K3L] / pixel**2 + 3 * s0**2 * s1**2,
            derived[at.KG2L] / pixel**4 + s1**4,
            derived[at.G4] / pixel**4 - 2 * s1**4,
        ]
    )
