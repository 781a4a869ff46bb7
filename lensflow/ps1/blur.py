"""Convolution of the image of a projection with a Gaussian, aware of pixels without a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from lensflow.arrays.gaussian import gaussian_blur_masked, gaussian_blur_variance
from lensflow.arrays.overlap import map_overlap

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

Nan = Literal["normalise", "zero"]


def blur_block(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32] | None = None,
    *,
    sigma: float,
    radius: int,
    nan: Nan,
    min_coverage: float,
) -> tuple[NDArray[np.float32], ...]:
    """Convolve a block that carries its halo of ``radius`` pixels, and return it without.

    With V = 1 where F is finite and G the kernel: coverage = G*V; flux = G*(F V)/coverage, NaN where coverage <
    min_coverage (``"normalise"``), or flux = G*(F V), NaN where F was NaN (``"zero"``).

    Returns
    -------
    tuple
        flux, coverage, and with a variance the uncertainty sqrt(sum_k w_k^2 var), divided like the flux.
    """
    window = ((radius, flux.shape[0] - radius), (radius, flux.shape[1] - radius))
    blurred, coverage = gaussian_blur_masked(flux, sigma=sigma, radius=radius, window=window)
    outputs = [blurred, coverage]
    if variance is not None:
        uncertainty = gaussian_blur_variance(variance, sigma=sigma, radius=radius, window=window)
        np.maximum(uncertainty, 0, out=uncertainty)  # rounding may leave -0
        np.sqrt(uncertainty, out=uncertainty)
        outputs.append(uncertainty)
    inner = slice(*window[0]), slice(*window[1])
    lost = ~(coverage >= min_coverage) if nan == "normalise" else ~np.isfinite(flux[inner])
    for values in (blurred, *outputs[2:]):
        if nan == "normalise":
            np.divide(values, coverage, out=values, where=~lost)
        values[lost] = np.nan
    np.clip(coverage, 0, 1, out=coverage)
    return tuple(outputs)


def convolve(image: xr.Dataset, *, sigma: float, radius: int, nan: Nan, min_coverage: float) -> xr.Dataset:
    """Convolve a padded projection image lazily; the outermost ``radius`` pixels are its halo.

    Parameters
    ----------
    image
        ``flux`` (y, x) in counts/s, and ``variance`` if the uncertainty is wanted, on the box with ``radius``
        pixels on all sides.
    sigma, radius
        Of the kernel w_k = exp(-k^2/2 sigma^2)/sum over abs(k) <= radius, in px.
    nan, min_coverage
        See :func:`blur_block`.

    Returns
    -------
    xr.Dataset
        ``flux``, ``coverage`` and maybe ``uncertainty``, f4 on the box; the kernel in the attributes.
    """
    inputs = [image[name] for name in ("flux", "variance") if name in image]
    names = ("flux", "coverage", "uncertainty")[: len(inputs) + 1]
    blurred = map_overlap(
        blur_block,
        *inputs,
        depth={"y": radius, "x": radius},
        boundary="valid",
        trim=False,
        outputs=dict.fromkeys(names, "f4"),
        kwargs={"sigma": sigma, "radius": radius, "nan": nan, "min_coverage": min_coverage},
    )
    return blurred.assign_attrs(sigma_px=sigma, radius_px=radius)
