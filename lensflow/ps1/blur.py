"""Convolution of the image of a projection with a Gaussian, aware of pixels without a value."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lensflow.arrays.gaussian import gaussian_blur_masked, gaussian_blur_variance
from lensflow.arrays.interlock import map_overlap
from lensflow.ps1.mosaic import unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from lensflow.arrays.interlock import Pieces
    from lensflow.ps1.layout import Layout

BLURRED = ("flux", "variance")  # the fields that need a halo, in the order that blur_block takes them

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


def convolve(pieces: Pieces, layout: Layout, *, sigma: float, radius: int, nan: Nan, min_coverage: float) -> xr.Dataset:
    """Convolve the image of a projection lazily, block by block.

    Parameters
    ----------
    pieces
        The image on the box with a margin of ``radius`` pixels, as the layout cuts it: flux (counts/s), mask, and
        variance, origin as they are wanted.
    layout
        Of the projection.
    sigma, radius
        Of the kernel w_k = exp(-k^2/2 sigma^2)/sum over abs(k) <= radius, in px.
    nan, min_coverage
        See :func:`blur_block`.

    Returns
    -------
    xr.Dataset
        ``flux``, ``coverage`` and maybe ``uncertainty``, f4 on the box; ``mask`` and maybe ``origin`` as they were; the
        kernel in the attributes.
    """
    names = pieces.array.dtype.names
    carried = [name for name in names if name not in BLURRED]
    made = ["flux", "coverage", *(["uncertainty"] if "variance" in names else [])]
    blocks = map_overlap(
        partial(_blur_fields, names=names, sigma=sigma, radius=radius, nan=nan, min_coverage=min_coverage),
        pieces,
        layout.chunks,
        depth=radius,
        haloed=BLURRED,
        dtype=np.dtype([*((name, "f4") for name in made), *((name, pieces.array.dtype[name]) for name in carried)]),
        name="blur",
    )
    return unpacked(blocks, layout.box).assign_attrs(sigma_px=sigma, radius_px=radius)


def _blur_fields(
    block: tuple[NDArray[Any], ...],
    *,
    names: Sequence[str],
    **kernel: Any,  # noqa: ANN401 - as blur_block takes them
) -> tuple[NDArray[Any], ...]:
    """Blur what is to be blurred of a block and hand on the rest."""
    fields = dict(zip(names, block, strict=True))
    blurred = blur_block(*(fields.pop(name) for name in BLURRED if name in fields), **kernel)
    return (*blurred, *fields.values())
