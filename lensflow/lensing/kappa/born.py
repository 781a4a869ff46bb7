"""Weights of mass sheets in maps of convergence, in the Born approximation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from lensflow.lensing.cosmology import HUBBLE, LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lensflow.lensing.cosmology import Cosmology

Weight = Literal["integral", "midpoint"]
NODES = 16  # of the quadrature over a shell


def efficiency(chi: NDArray[np.float64], chi_s: float, cosmology: Cosmology) -> NDArray[np.float64]:
    """Return W(chi) = A (1 + z) chi (1 - chi/chi_s), h/Mpc, with A = 3/2 OmegaM (100/c)^2.

    Parameters
    ----------
    chi
        Comoving distances, Mpc/h.
    chi_s
        That of the sources.
    cosmology
        The background.
    """
    amplitude = 1.5 * cosmology.omega_m * (HUBBLE / LIGHT) ** 2
    return amplitude / cosmology.scale_factor(chi) * chi * (1 - chi / chi_s)


def born_weights(
    chi_min: NDArray[np.float64],
    chi_max: NDArray[np.float64],
    zs: Sequence[float],
    cosmology: Cosmology,
    *,
    weight: Weight = "integral",
    truncate: bool = True,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what the overdensity of each shell counts in the convergence of sources at each redshift.

    Parameters
    ----------
    chi_min, chi_max
        Near and far sides of the shells (sheet,), Mpc/h.
    zs
        Redshifts of sources.
    cosmology
        The background.
    weight
        ``integral``: int W dchi over the shell, exact for an overdensity that is constant along the ray;
        ``midpoint``: W at the mean distance by volume, times the thickness, as LensingSSC has it.
    truncate
        Cut the shell that holds the sources there; False takes it whole (midpoint only), as LensingSSC does.

    Returns
    -------
    weights : (zs, sheet) f8
    chi_s : (zs,) f8
        Distances of the sources, Mpc/h.
    """
    chi_s = cosmology.chi(1 / (1 + np.asarray(zs, np.float64)))
    rows = [_weights(chi_min, chi_max, float(one), cosmology, weight, truncate=truncate) for one in chi_s]
    return np.array(rows), chi_s


def _weights(
    chi_min: NDArray[np.float64],
    chi_max: NDArray[np.float64],
    chi_s: float,
    cosmology: Cosmology,
    weight: Weight,
    *,
    truncate: bool,
) -> NDArray[np.float64]:
    far = np.minimum(chi_max, chi_s) if truncate else chi_max
    found = np.zeros(len(chi_min))
    used = chi_min < chi_s
    near, far = chi_min[used], far[used]
    if weight == "integral":
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        chi = (far + near)[:, None] / 2 + (far - near)[:, None] / 2 * nodes
        found[used] = (efficiency(chi, chi_s, cosmology) * weights).sum(axis=1) * (far - near) / 2
    else:
        middle = 0.75 * (far**4 - near**4) / (far**3 - near**3)
        # of a shell that is taken whole the middle may lie behind the sources: it counts nothing
        found[used] = np.maximum(efficiency(middle, chi_s, cosmology), 0) * (far - near)
    return found
