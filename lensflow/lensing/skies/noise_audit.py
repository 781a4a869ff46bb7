"""Whether the shape noise of neighbouring patches is independent, told from their power spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAGS = 6
SIGNIFICANT = 5.0  # standard deviations of the correlation of n independent numbers, 1/sqrt(n)


def noise_audit(dataset: xr.Dataset, *, lags: int = LAGS) -> xr.Dataset:
    """Correlate along the patch index what noise adds to the last bin of the power spectrum.

    Shape noise that is drawn anew for each patch leaves no correlation; noise that repeats from patch to patch, as when
    worker processes start from one state of a generator, does, and makes the covariances of noisy statistics useless.

    Parameters
    ----------
    dataset
        Statistics of the patches of one sky, with number density 0 among others.
    lags
        Largest distance along the patch index.

    Returns
    -------
    xr.Dataset
        lag_correlation (zs, ngal, lag); threshold and noise_repeats (zs, ngal), the latter true where a correlation
        is beyond 5/sqrt(n) of n patches. Densities above 0 only.

    Raises
    ------
    BadInput
        If there is no power spectrum with and without noise, or there are fewer patches than lags ask for.
    """
    if "power_spectrum" not in dataset or not (dataset["ngal"] == 0).any() or not (dataset["ngal"] > 0).any():
        raise BadInput("noise audit: found no power_spectrum at ngal 0 and above, expected both; add 0 to ngal")
    if dataset.sizes["patch"] < 2 * lags:
        raise BadInput(f"noise audit: found {dataset.sizes['patch']} patches, expected {2 * lags} at least")
    power = dataset["power_spectrum"].isel(ell_bin=-1).transpose("zs", "ngal", "patch")
    density = power["ngal"].values
    noisy = power.isel(ngal=np.flatnonzero(density > 0))
    added = noisy.values - power.isel(ngal=np.flatnonzero(density == 0)).values  # (zs, ngal, patch)
    correlation = np.stack([_correlation(added, lag) for lag in range(1, lags + 1)], axis=-1)
    threshold = SIGNIFICANT / np.sqrt(np.maximum(np.isfinite(added).sum(axis=-1), 1))
    cell = ("zs", "ngal")
    return xr.Dataset(
        {
            "lag_correlation": ((*cell, "lag"), correlation),
            "threshold": (cell, threshold),
            "noise_repeats": (cell, (np.abs(correlation) > threshold[..., None]).any(axis=-1)),
        },
        coords={"zs": power["zs"].values, "ngal": noisy["ngal"].values, "lag": np.arange(1, lags + 1)},
    )


def _correlation(values: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Return the autocorrelation r_k = sum d_i d_(i+k) / sum d_i^2 along the last axis, of values less their mean.

    Pairs with a patch that has no value are left out, and made up for in number.
    """
    valid = np.isfinite(values)
    count = np.maximum(valid.sum(axis=-1, keepdims=True), 1)
    mean = np.where(valid, values, 0).sum(axis=-1, keepdims=True) / count
    centred = np.where(valid, values - mean, 0)
    pairs = (valid[..., lag:] & valid[..., :-lag]).sum(axis=-1)
    whole = (values.shape[-1] - lag) / values.shape[-1]  # of the patches have a partner
    scale = np.divide(whole * count[..., 0], pairs, out=np.ones(pairs.shape), where=pairs > 0)
    product = (centred[..., lag:] * centred[..., :-lag]).sum(axis=-1)
    square = (centred**2).sum(axis=-1)
    found: NDArray[np.float64] = np.divide(scale * product, square, out=np.zeros_like(square), where=square > 0)
    return found
