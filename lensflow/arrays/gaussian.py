"""Separable Gaussian convolution of images, with a truncated kernel, zero outside the image.

The kernel along each axis is w_k = exp(-k^2 / 2 sigma^2) / sum over abs(k) <= radius. Three ways lead to
the same answer, within 1e-6 of its peak of a float64 reference:

==========================  =====================================================
sigma < 12                  one dense band a block of rows (`banded`)
12 <= sigma <= radius / 6   low-rank blocks along both axes (`lowrank`)
sigma > radius / 6          low-rank blocks inside, dense bands at the cut (`banded`)
==========================  =====================================================

All of them are BLAS products on slabs of the image, in float32, without a temporary of its size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.arrays.banded import AxisBlur, blur_banded
from lensflow.arrays.lowrank import Blocks, Kernel, Smoother, slab, zero_filled
from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    Window = tuple[tuple[int, int], tuple[int, int]]

SIGMA_RANGE = (0.5, 200.0)  # px
LOWRANK_SIGMA = 12.0  # px; narrower kernels gain nothing from coarse blocks
PASS_BYTES = 1 << 24  # coarse grids up to this size need no splitting into passes


def gaussian_blur(
    image: NDArray[Any], *, sigma: float, radius: int, window: Window | None = None
) -> NDArray[np.float32]:
    """Convolve an image with a truncated Gaussian of unit sum; it is zero outside.

    Parameters
    ----------
    image
        Finite pixels (y, x), any real type; computed in float32.
    sigma
        Width of the Gaussian, px, 0.5 to 200.
    radius
        Largest distance along an axis, px, at which a pixel counts; at least 1.
    window
        ((y0, y1), (x0, x1)): compute this part of the output only. The whole image supplies its halo.

    Returns
    -------
    numpy.ndarray
        float32 with the shape of the window, in the unit of the image.

    Raises
    ------
    BadOption
        If sigma, radius, window or the kind of the image is out of range.
    BadInput
        If the image is not finite: use :func:`gaussian_blur_masked` for such images.
    """
    kernel = _kernel(sigma, radius)
    area = _window(image, window)
    out = np.empty(_shape(area), np.float32)
    if not _smooth(kernel):
        _banded(image, kernel, area, _plain, out)
        finite = _all_finite(out, ((0, out.shape[0]), (0, out.shape[1])))
        return out if finite else _not_finite(image)
    for part, rows in _passes(kernel, image, area):
        smoother = Smoother.plan(kernel, image.shape, part)
        with np.errstate(invalid="ignore", over="ignore"):
            coarse, _ = smoother.coarse(image, masked=False)
            if not np.isfinite(coarse.sum(dtype=np.float64)):
                _not_finite(image)
        smoother.refine(coarse, out[rows])
    return out


def gaussian_blur_masked(
    image: NDArray[Any], *, sigma: float, radius: int, window: Window | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convolve an image that may hold NaN, and its validity, with a truncated Gaussian.

    With V = 1 where the image F is finite and 0 elsewhere, and G the kernel of :func:`gaussian_blur`,
    this is (G * (F V), G * V). Their ratio is the normalised convolution.

    Parameters
    ----------
    image
        Pixels (y, x), any real type; NaN and infinities are invalid.
    sigma, radius, window
        As for :func:`gaussian_blur`.

    Returns
    -------
    flux, coverage : numpy.ndarray
        float32 with the shape of the window; the coverage lies in 0 .. 1.

    Raises
    ------
    BadOption
        If sigma, radius, window or the kind of the image is out of range.
    """
    kernel = _kernel(sigma, radius)
    area = _window(image, window)
    flux, coverage = np.empty(_shape(area), np.float32), np.empty(_shape(area), np.float32)
    if not _smooth(kernel):
        _masked_banded(image, kernel, area, flux, coverage)
        return flux, coverage
    for part, rows in _passes(kernel, image, area):
        smoother = Smoother.plan(kernel, image.shape, part)
        with np.errstate(invalid="ignore", over="ignore"):
            coarse, valid = smoother.coarse(image, masked=True)
        if valid is not None and not valid.any():
            flux[rows], coverage[rows] = 0.0, 0.0
            continue
        smoother.refine(coarse, flux[rows])
        if valid is None:
            _full_coverage(kernel, image.shape, part, coverage[rows])
        else:
            smoother.refine(valid, coverage[rows], limit=(0.0, 1.0))
    return flux, coverage


def gaussian_blur_variance(
    variance: NDArray[Any], *, sigma: float, radius: int, window: Window | None = None
) -> NDArray[np.float32]:
    """Propagate the variance of uncorrelated noise through :func:`gaussian_blur`.

    The kernel is squared: w_k^2 is a Gaussian of width sigma / sqrt(2) whose sum is below 1.

    Parameters
    ----------
    variance
        Variance of each pixel (y, x); NaN and infinities count as 0.
    sigma, radius, window
        As for :func:`gaussian_blur`: those of the kernel that blurs the image.

    Returns
    -------
    numpy.ndarray
        float32 with the shape of the window, sum of w_k^2 var along both axes.

    Raises
    ------
    BadOption
        If sigma, radius, window or the kind of the image is out of range.
    """
    plain = _kernel(sigma, radius)
    weights = plain.gaussian(np.arange(-plain.reach, plain.reach + 1))
    kernel = Kernel(sigma / math.sqrt(2.0), radius, float((weights**2).sum()))
    area = _window(variance, window)
    out = np.empty(_shape(area), np.float32)
    if not _smooth(kernel):
        _banded(variance, kernel, area, _filled, out)
        return out
    for part, rows in _passes(kernel, variance, area):
        smoother = Smoother.plan(kernel, variance.shape, part)
        with np.errstate(invalid="ignore", over="ignore"):
            coarse, _ = smoother.coarse(variance, masked=True)
        smoother.refine(coarse, out[rows])
    return out


def _kernel(sigma: float, radius: int) -> Kernel:
    """Check the two options."""
    low, high = SIGMA_RANGE
    if not low <= sigma <= high:
        raise BadOption(
            f"sigma is {sigma!r} px: expected {low:g} to {high:g} px; rescale the image or sigma."
        )
    if int(radius) != radius or radius < 1:
        raise BadOption(f"radius is {radius!r} px: expected an integer of at least 1, say 6 sigma.")
    return Kernel(float(sigma), int(radius))


def _window(image: NDArray[Any], window: Window | None) -> Window:
    """Check the image and the window; the whole image if None."""
    if image.ndim != 2 or 0 in image.shape:
        raise BadOption(f"image has the shape {image.shape}: expected two axes (y, x), neither empty.")
    if image.dtype.kind not in "fiu":
        raise BadOption(f"image is of type {image.dtype}: expected real numbers; convert it to float32.")
    ny, nx = image.shape
    if window is None:
        return (0, ny), (0, nx)
    (y0, y1), (x0, x1) = window
    if not (0 <= y0 < y1 <= ny and 0 <= x0 < x1 <= nx):
        raise BadOption(f"window is {window!r}: expected a part of the image {(ny, nx)} that is not empty.")
    return (int(y0), int(y1)), (int(x0), int(x1))


def _shape(area: Window) -> tuple[int, int]:
    (y0, y1), (x0, x1) = area
    return y1 - y0, x1 - x0


def _smooth(kernel: Kernel) -> bool:
    return kernel.smooth and kernel.sigma >= LOWRANK_SIGMA


def _passes(kernel: Kernel, image: NDArray[Any], area: Window) -> Iterator[tuple[Window, slice]]:
    """Split the window into rows so that the coarse grids stay below a fifth of the image.

    Narrow kernels have coarse grids almost as fine as the image; but then the halo of a pass is short.
    """
    (y0, y1), columns = area
    coarse = 2 * 8 * image.size * Smoother.density(kernel)  # bytes: flux and validity in float64
    count = math.ceil(coarse / max(PASS_BYTES, 0.2 * 4 * image.size))
    step = max(-(-(y1 - y0) // count), 4 * kernel.reach)
    for begin in range(y0, y1, step):
        end = min(begin + step, y1)
        yield ((begin, end), columns), slice(begin - y0, end - y0)


def _banded(image: NDArray[Any], kernel: Kernel, area: Window, view: Callable[[F4], F4], out: F4) -> None:
    """Blur view(image) by bands."""
    y, x = (AxisBlur.plan(kernel, n, lo, hi) for n, (lo, hi) in zip(image.shape, area, strict=True))
    with np.errstate(invalid="ignore", over="ignore"):
        blur_banded(lambda rows, columns: view(slab(image, rows, columns)), y, x, out)


def _masked_banded(image: NDArray[Any], kernel: Kernel, area: Window, flux: F4, coverage: F4) -> None:
    """Blur values and validity by bands; the closed form where all pixels are valid."""
    y, x = (Blocks(1, n, lo, hi, kernel.reach) for n, (lo, hi) in zip(image.shape, area, strict=True))
    if _all_finite(image, (y.inputs, x.inputs)):
        _banded(image, kernel, area, _plain, flux)
        _full_coverage(kernel, image.shape, area, coverage)
        return
    _banded(image, kernel, area, _valid, coverage)
    np.clip(coverage, 0.0, 1.0, out=coverage)
    if coverage.any():
        _banded(image, kernel, area, _filled, flux)
    else:
        flux[...] = 0.0


def _full_coverage(kernel: Kernel, shape: tuple[int, int], area: Window, out: F4) -> None:
    """Coverage where all pixels are valid: the product of the sums of the weights inside each axis."""
    k = np.arange(-kernel.reach, kernel.reach + 1)
    total = np.concatenate([[0.0], np.cumsum(kernel.gaussian(k))])
    sides = []
    for n, (lo, hi) in zip(shape, area, strict=True):
        at = np.arange(lo, hi)
        upper = np.minimum(n - 1 - at, kernel.reach) + kernel.reach + 1
        lower = kernel.reach - np.minimum(at, kernel.reach)
        sides.append((total[upper] - total[lower]).astype(np.float32))
    np.multiply(sides[0][:, None], sides[1], out=out)


def _all_finite(image: NDArray[Any], area: Window) -> bool:
    (y0, y1), (x0, x1) = area
    columns = slice(x0, x1)
    return all(bool(np.isfinite(image[a : min(a + 128, y1), columns]).all()) for a in range(y0, y1, 128))


def _plain(part: F4) -> F4:
    return part


def _filled(part: F4) -> F4:
    return zero_filled(part)


def _valid(part: F4) -> F4:
    return np.isfinite(part).astype(np.float32)


def _not_finite(image: NDArray[Any]) -> F4:
    raise BadInput(
        f"image {image.shape} holds NaN or infinite pixels: expected finite ones; use gaussian_blur_masked."
    )
