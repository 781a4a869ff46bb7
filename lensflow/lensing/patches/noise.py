"""Shape noise of a patch: normal deviates that depend on what the patch is, and on nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class NoiseName:
    """What names the noise of one patch at one density of galaxies; equal names give equal noise.

    Parameters
    ----------
    seed
        Of the simulation.
    zs
        Redshift of the sources; six digits count.
    patch
        Index of the patch.
    ngal
        Galaxies per arcmin^2; six digits count.
    realisation
        Of the noise.
    apron
        Pixels by which the patch is larger on each side than what is kept of it.
    """

    seed: int
    zs: float
    patch: int
    ngal: float
    realisation: int = 0
    apron: int = 0

    def __str__(self) -> str:
        words = [
            f"lensflow/noise/1|seed={self.seed:d}|zs={self.zs:.6g}|patch={self.patch:d}",
            f"ngal={self.ngal:.6g}|real={self.realisation:d}",
        ]
        return "|".join([*words, f"apron={self.apron:d}"] if self.apron else words)

    def key(self) -> NDArray[np.uint64]:
        """Return the key of the counter-based generator: 128 bits of BLAKE2b of the name."""
        digest = hashlib.blake2b(str(self).encode("ascii"), digest_size=16).digest()
        return np.frombuffer(digest, "<u8").astype(np.uint64)

    def generator(self) -> np.random.Generator:
        """Return a generator at the start of this noise."""
        return np.random.Generator(np.random.Philox(key=self.key()))


def noise_sigma(*, ngal: float, epsilon: float, pixel_arcmin: float) -> float:
    """Return the standard deviation of shape noise in a pixel of convergence: epsilon / sqrt(ngal A_pix).

    Parameters
    ----------
    ngal
        Galaxies per arcmin^2; 0 stands for no noise at all.
    epsilon
        Dispersion of ellipticity.
    pixel_arcmin
        Side of a pixel.
    """
    return epsilon / sqrt(ngal * pixel_arcmin**2) if ngal else 0.0


def add_noise(image: NDArray[np.float64], name: NoiseName, sigma: float) -> NDArray[np.float64]:
    """Return the image with its noise; without noise (``sigma`` 0) the image itself."""
    if sigma == 0:
        return image
    noisy = name.generator().standard_normal(image.shape)
    noisy *= sigma
    noisy += image
    return noisy
