"""Separable Gaussian convolution of images, with a truncated kernel, zero outside the image.

The kernel along each axis is w_k = exp(-k^2 / 2 sigma^2) / sum over abs(k) <= radius. Three ways lead to
the same answer, within 1e-6 of its peak of a float64 reference:

==========================  =====================================================
sigma < 8                   one dense band a block of rows (`banded`)
8 <= sigma <= radius / 6    low-rank blocks along both axes (`lowrank`)
sigma > radius / 6          low-rank blocks inside, dense bands at the cut (`banded`)
==========================  =====================================================

All are BLAS products on slabs of the image, in float32, without a temporary of its size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.arrays.banded import SHORT, AxisBlur, blur_banded
from lensflow.arrays.gaussian_bands import blur_banded_masked
from lensflow.arrays.kernel import Blocks, Kernel, all_finite, full_coverage, slab, validity, zero_filled
from lensflow.arrays.lowrank import Smoother
from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    F4 = NDArray[np.float32]
    Window = tuple[tuple[int, int], tuple[int, int]]

LOWRANK_SIGMA = 8.0  # px; narrower kernels gain nothing from coarse blocks
PASS_BYTES = 1 << 22  # coarse grids up to this size need no splitting into passes


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
    kernel = Kernel.checked(sigma, radius)
    area = _window(image, window)
    out = np.empty(_shape(area), np.float32)
    if _is_smooth(kernel):
        finite = _lowrank(image, kernel, area, out)
    else:
        _banded(image, kernel, area, out)
        finite = all_finite(out, (0, out.shape[0]), (0, out.shape[1]))
    if not finite:
        raise BadInput(f"image {image.shape} holds NaN or infinite pixels: expected finite; use gaussian_blur_masked.")
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
    kernel = Kernel.checked(sigma, radius)
    area = _window(image, window)
    flux, coverage = np.empty(_shape(area), np.float32), np.empty(_shape(area), np.float32)
    if _is_smooth(kernel):
        _lowrank(image, kernel, area, flux, coverage)
    else:
        _masked_banded(image, kernel, area, flux, coverage)
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
    plain = Kernel.checked(sigma, radius)
    kernel = Kernel(sigma / math.sqrt(2.0), plain.radius, float((plain.weights**2).sum()))
    area = _window(variance, window)
    out = np.empty(_shape(area), np.float32)
    if _is_smooth(kernel):
        _lowrank(variance, kernel, area, out, fill=True)
    else:
        _banded(variance, kernel, area, out, zero_filled)
    return out


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


def _is_smooth(kernel: Kernel) -> bool:
    return kernel.smooth and kernel.sigma >= LOWRANK_SIGMA


def _passes(kernel: Kernel, image: NDArray[Any], area: Window) -> Iterator[tuple[Window, slice]]:
    """Split the window into rows so that the coarse grids stay below 15 % of the image.

    Narrow kernels have coarse grids almost as fine as the image; but then the halo of a pass is short.
    """
    (y0, y1), columns = area
    size, rank = Smoother.block(kernel)
    coarse = 2 * 8 * image.size * (rank / size) ** 2  # bytes: flux and validity in float64
    count = math.ceil(coarse / max(PASS_BYTES, 0.15 * 4 * image.size))
    step = max(-(-(y1 - y0) // count), 4 * kernel.reach)
    for begin in range(y0, y1, step):
        end = min(begin + step, y1)
        yield ((begin, end), columns), slice(begin - y0, end - y0)


def _lowrank(
    image: NDArray[Any],
    kernel: Kernel,
    area: Window,
    flux: F4,
    coverage: F4 | None = None,
    *,
    fill: bool = False,
) -> bool:
    """Blur through low-rank blocks; invalid pixels count as zero with a coverage or `fill`.

    Returns False, at once, if there are invalid pixels that do not.
    """
    masked = fill or coverage is not None
    for part, rows in _passes(kernel, image, area):
        smoother = Smoother.plan(kernel, image.shape, part)
        with np.errstate(invalid="ignore", over="ignore"):
            coarse, valid = smoother.coarse(image, masked=masked)
            if not masked and not np.isfinite(coarse.sum()):
                return False
        if valid is not None and not valid.any():
            flux[rows] = 0.0
        else:
            smoother.refine(coarse, flux[rows])
        if coverage is None:
            continue
        if valid is None:
            full_coverage(kernel, image.shape, part, coverage[rows])
        elif valid.any():
            smoother.refine(valid, coverage[rows], limit=(0.0, 1.0))
        else:
            coverage[rows] = 0.0
    return True


def _banded(image: NDArray[Any], kernel: Kernel, area: Window, out: F4, view: Callable[[F4], F4] | None = None) -> None:
    """Blur the image, or the `view` of its slabs, by bands."""
    y, x = (AxisBlur.plan(kernel, n, lo, hi) for n, (lo, hi) in zip(image.shape, area, strict=True))

    def read(rows: slice, columns: slice) -> F4:
        part = slab(image, rows, columns)
        return part if view is None else view(part)

    with np.errstate(invalid="ignore", over="ignore"):
        blur_banded(read, y, x, out)


def _masked_banded(image: NDArray[Any], kernel: Kernel, area: Window, flux: F4, coverage: F4) -> None:
    """Blur values and validity by bands; the closed form where all pixels are valid."""
    y, x = (Blocks(1, n, lo, hi, kernel.reach) for n, (lo, hi) in zip(image.shape, area, strict=True))
    if all_finite(image, y.inputs, x.inputs):
        _banded(image, kernel, area, flux)
        full_coverage(kernel, image.shape, area, coverage)
        return
    if kernel.reach > SHORT:
        with np.errstate(invalid="ignore", over="ignore"):
            blur_banded_masked(image, kernel, area, flux, coverage)
        return
    _banded(image, kernel, area, coverage, validity)
    np.clip(coverage, 0.0, 1.0, out=coverage)
    if coverage.any():
        _banded(image, kernel, area, flux, zero_filled)
    else:
        flux[...] = 0.0
