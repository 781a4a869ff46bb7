"""Random fields on the sphere whose power spectra are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import healpy
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Field = Literal["gaussian", "lognormal"]


def draw_field(
    cl: NDArray[np.float64], nside: int, *, field: Field = "gaussian", rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw an overdensity, NESTED, not below -1, whose expected power spectrum is ``cl``.

    Parameters
    ----------
    cl
        From l = 0 on; it ends the band of the field.
    nside
        Of the map.
    field
        ``gaussian``, clipped at -1, or ``lognormal``, which never comes near it.
    rng
        What is drawn from.
    """
    if field == "lognormal":
        gaussian = gaussian_spectrum(cl)
        variance = ((2 * np.arange(len(cl)) + 1) * gaussian).sum() / (4 * np.pi)
        values = np.exp(_draw(gaussian, nside, rng) - variance / 2) - 1
    else:
        values = np.maximum(_draw(cl, nside, rng), -1)
    nested: NDArray[np.float64] = healpy.reorder(values, r2n=True)
    return nested


def gaussian_spectrum(cl: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the spectrum of the Gaussian field whose exponential has the spectrum ``cl``: xi_G = ln(1 + xi)."""
    order = len(cl)
    nodes, weights = np.polynomial.legendre.leggauss(2 * order)
    factors = (2 * np.arange(order) + 1) / (4 * np.pi)
    # xi = sum (2l+1)/(4 pi) C_l P_l and its inverse C_l = 2 pi int xi P_l dx
    xi = np.log1p(np.polynomial.legendre.legval(nodes, factors * cl))
    below, here = np.zeros_like(nodes), np.ones_like(nodes)
    found = np.empty(order)
    for ell in range(order):
        found[ell] = 2 * np.pi * (weights * xi * here).sum()
        below, here = here, ((2 * ell + 1) * nodes * here - ell * below) / (ell + 1)
    return np.maximum(found, 0)


def _draw(cl: NDArray[np.float64], nside: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a Gaussian field, RING."""
    lmax = len(cl) - 1
    ell, m = healpy.Alm.getlm(lmax)
    normal = rng.standard_normal((2, len(ell)))
    alm = np.where(m == 0, normal[0], (normal[0] + 1j * normal[1]) / np.sqrt(2)) * np.sqrt(cl[ell])
    drawn: NDArray[np.float64] = healpy.alm2map(alm, nside, lmax=lmax, pixwin=False)
    return drawn
