"""Means and variances of one box over those of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ratios(numerator: xr.Dataset, denominator: xr.Dataset) -> xr.Dataset:
    """Divide means and variances, with errors R sqrt((s_1/x_1)^2 + (s_2/x_2)^2) from the jackknife errors of both.

    Parameters
    ----------
    numerator, denominator
        Nodes of :func:`lensflow.lensing.aggregate.aggregate`.

    Returns
    -------
    xr.Dataset
        ``{statistic}_mean_ratio``, ``{statistic}_variance_ratio`` and each with ``_error``; NaN for 0/0.
    """
    made: dict[str, xr.DataArray] = {}
    for name in (str(key).removesuffix("_mean") for key in numerator.data_vars if str(key).endswith("_mean")):
        if f"{name}_mean" not in denominator:
            continue
        for kind, stored, power in (("mean", "mean", 1), ("variance", "std", 2)):
            above, below = numerator[f"{name}_{stored}"], denominator[f"{name}_{stored}"]
            errors = (node[f"{name}_{kind}_error"].values for node in (numerator, denominator))
            ratio, error = _ratio(above.values**power, below.values**power, *errors)
            made[f"{name}_{kind}_ratio"] = above.copy(data=ratio)
            made[f"{name}_{kind}_ratio_error"] = above.copy(data=error)
    return xr.Dataset(made)


def _ratio(
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    above_error: NDArray[np.float64],
    below_error: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0: the bin is empty in every patch
        ratio = above / below
        return ratio, np.abs(ratio) * np.sqrt((above_error / above) ** 2 + (below_error / below) ** 2)
