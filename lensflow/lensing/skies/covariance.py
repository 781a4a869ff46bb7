"""Mean, scatter and covariance of statistics over patches and skies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lensflow.lensing.skies.jackknife import jackknife_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BINS = ("ell_bin", "nu_bin", "moment", "entry")  # the dimension that a vector runs along
CELLS = ("zs", "ngal", "smoothing", "scale", "config")  # dimensions with a covariance each
ENTRY = "entry"


def moments_of(name: str, samples: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return mean, scatter, covariance and their errors of one statistic.

    A sample that lacks a value in a bin that others have is left out and counted; a bin that no sample has stays NaN.

    Parameters
    ----------
    name
        Of the statistic: the first part of the names of the results.
    samples
        Values (sky, patch, zs, ngal, ..., bin).

    Returns
    -------
    dict
        ``mean, std, mean_error, variance_error`` (..., bin); ``cov, corr`` (..., bin, bin_2) with ddof 1;
        ``n_samples, n_skies, n_dropped, hartlap_samples, hartlap_skies`` (...).
    """
    cells = [dim for dim in CELLS if dim in samples.dims]
    bins = next((dim for dim in BINS if dim in samples.dims), None)
    if bins is None:  # one number a patch
        samples, bins = samples.expand_dims("one", axis=-1), "one"
    values = _numbers(samples.transpose(*cells, "sky", "patch", bins))
    shape = values.shape[: len(cells)]
    found = [_cell(one) for one in values.reshape(-1, *values.shape[len(cells) :])]
    dims = {0: (), 1: (bins,), 2: (bins, f"{bins}_2")}
    made: dict[str, xr.DataArray] = {}
    for key in found[0]:
        stacked = np.stack([np.asarray(one[key]) for one in found])
        array = xr.DataArray(stacked.reshape(*shape, *stacked.shape[1:]), dims=(*cells, *dims[stacked.ndim - 1]))
        if bins == "one":
            array = array.isel({dim: 0 for dim in ("one", "one_2") if dim in array.dims})
        made[f"{name}_{key}"] = array
    return made


def _numbers(samples: xr.DataArray) -> NDArray[np.float64]:
    """Return values in float64; of counts, what was not counted is negative and becomes NaN."""
    values = samples.values.astype(np.float64)
    if samples.dtype.kind == "i":
        values[values < 0] = np.nan
    return values


def _cell(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return the moments of vectors (sky, patch, bin)."""
    bins = values.shape[-1]
    held = np.isfinite(values).any(axis=(0, 1))  # a bin without triangles or pixels is NaN throughout
    used = np.asarray(np.isfinite(values[..., held]).all(axis=-1)) & bool(held.any())
    chosen = values[used][:, held]
    count, skies = len(chosen), int(used.any(axis=1).sum())
    mean, mean_error, variance_error = (np.full(bins, np.nan) for _ in range(3))
    cov = np.full((bins, bins), np.nan)
    if count:
        mean[held] = chosen.mean(axis=0)
    if count > 1:
        centred = chosen - mean[held]
        cov[np.ix_(held, held)] = centred.T @ centred / (count - 1)
        mean_error[held], variance_error[held] = jackknife_errors(values[..., held], used)
    std = np.sqrt(np.diag(cov))
    with np.errstate(invalid="ignore", divide="ignore"):  # a bin that never varies: no correlation
        corr = cov / np.outer(std, std)
    size = int(held.sum())
    return {
        "mean": mean,
        "std": std,
        "mean_error": mean_error,
        "variance_error": variance_error,
        "cov": cov,
        "corr": corr,
        "n_samples": count,
        "n_skies": skies,
        "n_dropped": used.size - count,
        "hartlap_samples": hartlap(count, size),
        "hartlap_skies": hartlap(skies, size),
    }


def hartlap(n: int, p: int) -> float:
    """Return (n - p - 2)/(n - 1), which makes the inverse of a covariance of p numbers from n samples unbiased.

    NaN where it is not positive: there are too few samples (Hartlap, Simon and Schneider 2007).
    """
    return (n - p - 2) / (n - 1) if n > p + 2 else float("nan")


def joined(samples: xr.Dataset, names: Sequence[str]) -> xr.DataArray:
    """Return statistics side by side as one vector (sky, patch, zs, ngal, entry), which coordinates name.

    Parameters
    ----------
    samples
        Variables (sky, patch, zs, ngal, ..., bin).
    names
        Which of them, in this order.
    """
    parts = []
    for name in names:  # names as objects: Zarr has no type for text of fixed length
        variable = samples[name]
        inner = [dim for dim in (*CELLS[2:], *BINS) if dim in variable.dims]
        ordered = variable.transpose("sky", "patch", "zs", "ngal", *inner)
        sizes = [ordered.sizes[dim] for dim in inner]
        index = np.indices(sizes).reshape(len(sizes), -1)
        place = dict(zip(inner, index, strict=True))
        lengths, configs = np.full(index.shape[1], np.nan), np.full(index.shape[1], "", dtype=object)
        if "smoothing" in place:
            lengths = samples["smoothing"].values[place["smoothing"]]
        if "config" in place:
            configs = samples["config"].values[place["config"]]
        parts.append(
            xr.DataArray(
                _numbers(ordered).reshape(*ordered.shape[:4], -1),
                dims=("sky", "patch", "zs", "ngal", ENTRY),
                coords={
                    "entry_statistic": (ENTRY, np.full(index.shape[1], name, dtype=object)),
                    "entry_smoothing": (ENTRY, lengths),
                    "entry_config": (ENTRY, configs),
                    "entry_bin": (ENTRY, index[-1]),
                },
            )
        )
    return xr.concat(parts, ENTRY, coords="different", compat="equals", join="exact")
