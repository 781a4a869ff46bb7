"""Errors of means and variances by leaving out one sky after the other: patches of one sky are correlated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def jackknife_errors(
    values: NDArray[np.float64], used: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the delete-one-sky errors of mean and variance, s^2 = (n-1)/n sum_k (x_k - mean x)^2 over n skies.

    Parameters
    ----------
    values
        Samples (sky, patch, bin).
    used
        Which of them (sky, patch) count; a sky without any is no sky.

    Returns
    -------
    tuple
        Errors (bin,) of the mean and of the variance (ddof 1); NaN for fewer than two skies.
    """
    held = used.any(axis=1)
    values, used = values[held], used[held]
    skies, bins = values.shape[0], values.shape[-1]
    if skies < 2:
        return np.full(bins, np.nan), np.full(bins, np.nan)
    # sums of each sky about the mean of all; then those of all but one are differences
    middle = values[used].mean(axis=0)
    centred = np.where(used[..., None], values - middle, 0.0)
    first, second = centred.sum(axis=1), (centred**2).sum(axis=1)
    left = (used.sum() - used.sum(axis=1))[:, None]
    mean = (first.sum(axis=0) - first) / left
    with np.errstate(invalid="ignore", divide="ignore"):  # one sample left: no variance
        variance = ((second.sum(axis=0) - second) / left - mean**2) * left / (left - 1)
    return _spread(mean), _spread(variance)


def _spread(estimates: NDArray[np.float64]) -> NDArray[np.float64]:
    skies = estimates.shape[0]
    square = ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0)
    spread: NDArray[np.float64] = np.sqrt((skies - 1) / skies * square)
    return spread
