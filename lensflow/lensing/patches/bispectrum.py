"""Bispectra of flat patches in three shapes of triangles: signed, and real."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from lensflow.lensing.patches.fourier import modes

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rounding = Literal["round", "trunc"]
CONFIGURATIONS = ("equilateral", "folded", "squeezed")
SHARE = {"folded": -0.5, "squeezed": -0.1}  # the second side as a multiple of the first


@dataclass(frozen=True)
class Triangles:
    """Triangles of wave vectors k + q + r = 0 on the grid of the transform.

    Parameters
    ----------
    k, q
        Sides (2, triangles): along axis 0 and axis 1.
    bin
        Index of the bin of k.
    bins
        How many there are.
    """

    k: NDArray[np.int64]
    q: NDArray[np.int64]
    bin: NDArray[np.int64]
    bins: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Triangles in each bin."""
        return np.bincount(self.bin, minlength=self.bins)


@lru_cache(maxsize=32)
def triangles(
    configuration: str, n: int, size_deg: float, l_edges: tuple[float, ...], rounding: Rounding = "round"
) -> Triangles:
    """List the triangles of one shape, with their first side in the bins.

    Parameters
    ----------
    configuration
        ``equilateral``, ``folded`` (sides k, k/2, k/2) or ``squeezed`` (sides k, k/10, 9k/10).
    n, size_deg, l_edges
        As for :func:`lensflow.lensing.patches.fourier.modes`.
    rounding
        ``round`` takes the second side to the nearest integers and drops triangles with a side of length zero;
        ``trunc`` takes it toward zero, keeps those, which hold the mean of the patch, and leaves out the last edge.
    """
    listed = modes(n, size_deg, l_edges)
    k = np.stack([listed.row, listed.column])
    exact = _second_side(configuration, k.astype(np.float64))
    q = (np.rint(exact) if rounding == "round" else np.trunc(exact)).astype(np.int64)
    kept = (np.abs(q) <= n // 2).all(axis=0) & (np.abs(k + q) <= n // 2).all(axis=0)
    if configuration == "equilateral":  # of the three turns of a triangle by 120 degrees one is enough
        kept &= ~((k[0] < 0) & (k[1] < -np.sqrt(3) * k[0]))
    if rounding == "round":
        kept &= q.any(axis=0) & (k + q).any(axis=0)
    else:
        kept &= 360.0 / size_deg * np.sqrt((k**2).sum(axis=0)) < l_edges[-1]
    return Triangles(k[:, kept], q[:, kept], listed.bin[kept], listed.bins)


def _second_side(configuration: str, k: NDArray[np.float64]) -> NDArray[np.float64]:
    if configuration in SHARE:
        return SHARE[configuration] * k
    half, height = 0.5, np.sqrt(3) / 2  # turned by 120 degrees
    return np.stack([-half * k[0] - height * k[1], height * k[0] - half * k[1]])


def bispectrum(
    waves: NDArray[np.complex128],
    *,
    configuration: str,
    size_deg: float,
    l_edges: tuple[float, ...],
    rounding: Rounding = "round",
) -> NDArray[np.float64]:
    """Return the bispectrum in sr^2: size^4/n^6 times the mean of Re F(k) F(q) F(-k-q) over triangles, signed.

    Parameters
    ----------
    waves
        Of :func:`lensflow.lensing.fourier.fourier`.
    configuration, size_deg, l_edges, rounding
        As for :func:`triangles`; a bin without triangles is NaN.
    """
    n = waves.shape[0]
    listed = triangles(configuration, n, size_deg, l_edges, rounding)
    product = _at(waves, listed.k) * _at(waves, listed.q) * _at(waves, -listed.k - listed.q)
    sums = np.bincount(listed.bin, weights=product.real, minlength=listed.bins)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = sums / listed.counts
    scale: float = np.deg2rad(size_deg) ** 4 / float(n) ** 6
    return mean * scale


def _at(waves: NDArray[np.complex128], k: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Return the transform of a real image at wave vectors of either sign: F(-k) is the conjugate of F(k)."""
    mirrored = k[1] < 0
    row, column = np.where(mirrored, -k, k)
    values: NDArray[np.complex128] = waves[row % waves.shape[0], column]
    values[mirrored] = values[mirrored].conj()
    return values
