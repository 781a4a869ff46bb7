"""Power spectra of flat patches: which Fourier modes a bin holds, and their mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Modes:
    """The modes of a half plane that lie in bins, each listed once, sorted by bin.

    Parameters
    ----------
    row, column
        Wave numbers along axis 0 (of either sign) and axis 1 (not negative), in periods a patch.
    bin
        Index of the bin of each.
    bins
        How many there are.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    bin: NDArray[np.int64]
    bins: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Modes in each bin."""
        return np.bincount(self.bin, minlength=self.bins)


def fourier(image: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the transform of a patch over the half plane of axis 1, unnormalised, made by one thread."""
    return fft.rfft2(image, workers=1)  # type: ignore[no-any-return]


@lru_cache(maxsize=8)
def modes(n: int, size_deg: float, l_edges: tuple[float, ...]) -> Modes:
    """List the modes of an n x n patch with lo < l <= hi of a bin; l = 360 |k| / size.

    Parameters
    ----------
    n
        Pixels along a side.
    size_deg
        Side of the patch.
    l_edges
        Increasing.
    """
    edges = np.asarray(l_edges)
    most = min(n // 2, int(edges[-1] * size_deg / 360) + 1)
    lowest = -most if most < (n + 1) // 2 else -(n // 2)
    row, column = np.meshgrid(np.arange(lowest, most + 1), np.arange(most + 1), indexing="ij")
    if n % 2 == 0 and most == n // 2:  # -n/2 and n/2 are the same mode, which FFT lists once, as -n/2
        row, column = row[:-1], column[:-1]
    multipole = 360.0 / size_deg * np.sqrt(row**2 + column**2)
    place = np.searchsorted(edges, multipole, side="left") - 1  # lo < l <= hi
    inside = (place >= 0) & (place < edges.size - 1)
    order = np.argsort(place[inside], kind="stable")
    return Modes(row[inside][order], column[inside][order], place[inside][order], edges.size - 1)


def power_spectrum(
    waves: NDArray[np.complex128], *, size_deg: float, l_edges: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the power spectrum in sr: (size/n^2)^2 times the mean of |F|^2 over the modes of a bin.

    Parameters
    ----------
    waves
        Of :func:`fourier`.
    size_deg
        Side of the patch.
    l_edges
        Of the bins; a bin without modes is NaN.
    """
    n = waves.shape[0]
    listed = modes(n, size_deg, l_edges)
    values = waves[listed.row, listed.column]
    power = values.real**2 + values.imag**2
    sums = np.bincount(listed.bin, weights=power, minlength=listed.bins)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = sums / listed.counts
    scale: float = (np.deg2rad(size_deg) / n**2) ** 2
    return mean * scale
