"""Measured power spectra beside a theory: a look at whether maps are what they should be, never a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def check_cl(cl: NDArray[np.floating], theory: tuple[ArrayLike, ArrayLike], *, l_edges: Sequence[float]) -> xr.Dataset:
    """Return the ratio of a power spectrum to a theory in bins, modes weighted by 2l + 1.

    Parameters
    ----------
    cl
        Of the full sky, from l = 0 on.
    theory
        l and C_l; interpolated in the logarithm of both.
    l_edges
        Edges of the bins.

    Returns
    -------
    xr.Dataset
        ratio (ell_bin), and error (ell_bin): what Gaussian fields scatter by.

    Raises
    ------
    BadInput
        If bins reach beyond the spectrum or the theory.
    """
    ell = np.arange(len(cl))
    edges, known = np.asarray(l_edges, np.float64), np.asarray(theory[0], np.float64)
    most = min(len(cl) - 1, known.max())
    if not (max(1, known.min()) <= edges[0] and edges[-1] <= most + 1 and (np.diff(edges) >= 1).all()):
        raise BadInput(
            f"l_edges: found {edges[0]:g} to {edges[-1]:g}, expected increasing ones within {max(1, known.min()):g} "
            f"and {most + 1:g}, which spectrum and theory cover"
        )
    expected = np.exp(np.interp(np.log(np.maximum(ell, 1)), np.log(known), np.log(np.asarray(theory[1], np.float64))))
    bins, weights = np.digitize(ell, edges) - 1, 2 * ell + 1
    used = (bins >= 0) & (bins < len(edges) - 1)
    modes = np.bincount(bins[used], weights[used])
    ratio = np.bincount(bins[used], (weights * cl / expected)[used]) / modes
    return xr.Dataset(
        {"ratio": ("ell_bin", ratio), "error": ("ell_bin", np.sqrt(2 / modes))},
        coords={"ell": ("ell_bin", (edges[1:] + edges[:-1]) / 2)},
    )
