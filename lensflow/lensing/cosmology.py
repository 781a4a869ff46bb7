"""Distances in a flat universe of matter, dark energy and perhaps radiation; comoving, in Mpc/h."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LIGHT = 299792.458  # km/s
HUBBLE = 100.0  # km/s/(Mpc/h)
CRITICAL = 27.7455  # 1e10 Msun/h / (Mpc/h)^3, the critical density of FastPM
NEGLIGIBLE, LARGEST_RADIATION = 1e-8, 3e-4  # of 1 - OmegaM - OmegaLambda: rounding, and more than any radiation is
PANELS, NODES = 8, 32  # of the quadrature in sqrt(a): 1e-14
NEWTON = 60  # steps at most, of the inverse
TABLE = 4096  # values of a, from which the inverse starts


@dataclass(frozen=True)
class Cosmology:
    """A background of matter, a cosmological constant and radiation.

    Parameters
    ----------
    omega_m, omega_lambda
        Densities over the critical one; what is left to 1 is radiation.
    h
        Hubble constant over 100 km/s/Mpc; distances in Mpc/h do not depend on it.

    Raises
    ------
    BadInput
        If what is left is neither 0 nor as little as radiation is.
    """

    omega_m: float
    omega_lambda: float
    h: float

    def __post_init__(self) -> None:
        left = 1 - self.omega_m - self.omega_lambda
        if not (self.omega_m > 0 and self.h > 0 and -NEGLIGIBLE <= left < LARGEST_RADIATION):
            raise BadInput(
                f"OmegaM {self.omega_m:g}, OmegaLambda {self.omega_lambda:g}, h {self.h:g}: found {left:.3g} left for "
                f"radiation, expected 0 to {LARGEST_RADIATION:g} in a flat universe; give the option cosmology as "
                "OmegaM,OmegaLambda,h"
            )

    @property
    def omega_r(self) -> float:
        """Density of radiation."""
        left = 1 - self.omega_m - self.omega_lambda
        return left if left > NEGLIGIBLE else 0.0

    def chi(self, a: ArrayLike) -> NDArray[np.float64]:
        """Return the comoving distance to scale factors: (c/100) int_a^1 da/(a^2 E(a)).

        Parameters
        ----------
        a
            Scale factors, 0 (the horizon) to 1, or a little beyond.
        """
        # with u = sqrt(a) the integrand 2/(u^3 E) is smooth down to u = 0
        start = np.sqrt(np.asarray(a, np.float64))[..., None, None]
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        width = (1 - start) / PANELS
        u = start + width * (np.arange(PANELS)[:, None] + (nodes + 1) / 2)
        found: NDArray[np.float64] = (self._integrand(u) * weights).sum(axis=(-1, -2)) * width[..., 0, 0] / 2
        return LIGHT / HUBBLE * found

    def scale_factor(self, chi: ArrayLike) -> NDArray[np.float64]:
        """Return the scale factors at comoving distances, the inverse of :meth:`chi`."""
        wanted = np.asarray(chi, np.float64)
        grid = np.linspace(0, 1, TABLE) ** 2
        u = np.sqrt(np.interp(wanted, self.chi(grid)[::-1], grid[::-1]))
        for _ in range(NEWTON):
            step = (self.chi(u**2) - wanted) / (LIGHT / HUBBLE * self._integrand(u))
            u = u + step
            if np.all(np.abs(step) <= 4 * np.finfo(np.float64).eps):
                break
        return u**2

    def _integrand(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 2/(u^3 E(u^2)), E^2 = OmegaM a^-3 + OmegaLambda + OmegaR a^-4, a = u^2."""
        # u^6 E^2 = OmegaM + OmegaLambda u^6 + OmegaR/u^2
        found: NDArray[np.float64] = 2 * u / np.sqrt(self.omega_m * u**2 + self.omega_lambda * u**8 + self.omega_r)
        return np.where(u > 0, found, 2 / np.sqrt(self.omega_m) if self.omega_r == 0 else 0.0)
