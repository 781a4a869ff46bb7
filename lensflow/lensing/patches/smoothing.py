"""Gaussian smoothing of patches by cosine or Fourier transforms, exact for the truncated kernel of scipy.ndimage."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from numpy.typing import NDArray

Boundary = Literal["reflect", "wrap"]
TRUNCATE = 4.0  # sigma, where scipy.ndimage.gaussian_filter ends its kernel


def kernel_radius(sigma: float) -> int:
    """Return how many pixels the kernel reaches; ``sigma`` in px."""
    return int(TRUNCATE * sigma + 0.5)


@lru_cache(maxsize=32)
def transfer(sigma: float, count: int, step: float) -> NDArray[np.float64]:
    """Return what the kernel does to the cosines of wave numbers ``step * q`` per pixel, q = 0..count - 1.

    Parameters
    ----------
    sigma
        px.
    count
        How many wave numbers.
    step
        Radians a pixel; pi/n for the DCT-II of n pixels, 2 pi/n for their FFT.
    """
    k = np.arange(1, kernel_radius(sigma) + 1)
    weights = np.exp(-0.5 * (k / sigma) ** 2)
    total = 1 + 2 * weights.sum()
    # t_q = w_0 + 2 sum_k w_k cos(q k step)
    return (1 + 2 * np.cos(step * np.outer(np.arange(count), k)) @ weights) / total  # type: ignore[no-any-return]


class Smoother:
    """One image, transformed once, to be smoothed to any number of widths.

    Parameters
    ----------
    image
        Square.
    boundary
        ``reflect`` repeats the pixels at the border in reverse order, ``wrap`` takes the image as periodic.
    """

    def __init__(self, image: NDArray[np.float64], boundary: Boundary = "reflect") -> None:
        self.shape = image.shape
        self.boundary = boundary
        # one thread: what is added in which order does not depend on the machine
        self._waves: NDArray[Any] = (
            fft.rfft2(image, workers=1) if boundary == "wrap" else fft.dctn(image, type=2, workers=1)
        )

    def smoothed(self, sigma: float) -> NDArray[np.float64]:
        """Return the image smoothed by a Gaussian of ``sigma`` px (not FWHM)."""
        rows, columns = self.shape
        if self.boundary == "wrap":
            down = transfer(sigma, rows, 2 * np.pi / rows)
            across = transfer(sigma, columns // 2 + 1, 2 * np.pi / columns)
            waves = self._waves * down[:, None]
            waves *= across
            return fft.irfft2(waves, s=self.shape, workers=1)  # type: ignore[no-any-return]
        waves = self._waves * transfer(sigma, rows, np.pi / rows)[:, None]
        waves *= transfer(sigma, columns, np.pi / columns)
        return fft.idctn(waves, type=2, overwrite_x=True, workers=1)  # type: ignore[no-any-return]


def smooth(image: NDArray[np.float64], sigma: float, boundary: Boundary = "reflect") -> NDArray[np.float64]:
    """Smooth one image by a Gaussian of ``sigma`` px, as ``scipy.ndimage.gaussian_filter(image, sigma)`` does."""
    return Smoother(image, boundary).smoothed(sigma)
