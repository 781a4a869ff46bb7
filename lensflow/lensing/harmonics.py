"""Spherical harmonics of HEALPix maps by ducc0: analysis, synthesis, skies drawn from a spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, pi
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lensflow.errors import BadInput, BadOption
from lensflow.lensing.patches.ordering import stored_index

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Iterations = Literal["lsmr2", "jacobi3"]
Order = Literal["RING", "NESTED"]

RESIDUALS = 3  # of "jacobi3": what healpy and the Fortran anafast do by default
LSMR_STEPS = 2
LSMR_EPSILON = 1e-14  # never reached: the number of steps decides, so that every map is treated alike
CHUNK = 1 << 22  # pixels that are reordered at a time


@dataclass(frozen=True)
class Harmonics:
    """Transforms between RING pixels and alm, which are stored m by m."""

    nside: int
    lmax: int
    threads: int

    @classmethod
    def of(cls, ring: NDArray[np.float64], lmax: int | None, iterations: Iterations, threads: int) -> Harmonics:
        """Return the transforms for a map; lmax is 2 nside for "lsmr2" and 3 nside - 1 for "jacobi3" by default."""
        if iterations not in get_args(Iterations):
            raise BadOption(f"iterations: found {iterations!r}, expected {' or '.join(get_args(Iterations))}")
        nside = isqrt(ring.size // 12)
        if lmax is None:
            lmax = 2 * nside if iterations == "lsmr2" else 3 * nside - 1
        if lmax < 0:
            raise BadOption(f"lmax: found {lmax}, expected 0 or more")
        return cls(nside, lmax, threads)

    @property
    def _words(self) -> dict[str, Any]:
        import ducc0  # noqa: PLC0415 - a compiled extension that plain imports need not pay

        rings = ducc0.healpix.Healpix_Base(self.nside, "RING").sht_info()
        return {**rings, "spin": 0, "lmax": self.lmax, "nthreads": self.threads}

    def analyse(self, ring: NDArray[np.float64], iterations: Iterations) -> NDArray[np.complex128]:
        """Return the alm of a map."""
        import ducc0  # noqa: PLC0415 - as above

        pixels = ring[None]
        if iterations == "lsmr2":
            found = ducc0.sht.pseudo_analysis(map=pixels, maxiter=LSMR_STEPS, epsilon=LSMR_EPSILON, **self._words)
            return np.asarray(found[0][0])
        area = 4 * pi / ring.size  # sr, the weight of each pixel
        alm = area * ducc0.sht.adjoint_synthesis(map=pixels, **self._words)[0]
        for _ in range(RESIDUALS):
            residual = ring - self.synthesise(alm)
            alm += area * ducc0.sht.adjoint_synthesis(map=residual[None], **self._words)[0]
        return np.asarray(alm)

    def synthesise(self, alm: NDArray[np.complex128]) -> NDArray[np.float64]:
        """Return the map of some alm."""
        import ducc0  # noqa: PLC0415 - as above

        return np.asarray(ducc0.sht.synthesis(alm=alm[None], **self._words)[0])


def orders(lmax: int) -> list[tuple[int, slice]]:
    """Return where the l = m..lmax of each m stand among the alm."""
    starts = [m * (2 * lmax + 3 - m) // 2 for m in range(lmax + 2)]
    return [(m, slice(starts[m], starts[m + 1])) for m in range(lmax + 1)]


def spectrum(alm: NDArray[np.complex128], lmax: int) -> NDArray[np.float64]:
    """Return C_l = sum_m |a_lm|^2 / (2 l + 1)."""
    power = np.zeros(lmax + 1)
    for m, columns in orders(lmax):  # a real map: -m has the power of m
        power[m:] += (1 if m == 0 else 2) * (alm[columns].real ** 2 + alm[columns].imag ** 2)
    return power / (2 * np.arange(lmax + 1) + 1)


def to_ring(values: ArrayLike, ordering: Order) -> NDArray[np.float64]:
    """Return a copy of a map in RING order and float64."""
    found = np.asarray(values)
    nside = isqrt(found.size // 12)
    if found.ndim != 1 or not nside or 12 * nside**2 != found.size:
        raise BadInput(f"map: found shape {found.shape}, expected (12 nside^2,) pixels of the full sky")
    if ordering == "RING":
        return found.astype(np.float64)
    if ordering != "NESTED":
        raise BadOption(f"ordering: found {ordering!r}, expected RING or NESTED")
    if nside & (nside - 1):
        raise BadInput(f"map: found nside {nside} in NESTED order, expected a power of two")
    ring = np.empty(found.size)
    for start in range(0, found.size, CHUNK):  # an index of all pixels would be as large as the map
        part = np.arange(start, min(start + CHUNK, found.size))
        ring[stored_index(part, nside, "RING")] = found[part[0] : part[-1] + 1]
    return ring


def gaussian_map(
    cl: ArrayLike, *, nside: int, rng: np.random.Generator, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a Gaussian sky.

    Parameters
    ----------
    cl
        Power spectrum, l = 0..lmax.
    nside
        Of the map.
    rng
        Source of the harmonics.
    threads
        Of the transform; 0 takes all cores.

    Returns
    -------
    tuple
        The map in RING order, and the spectrum of the very harmonics that were drawn.
    """
    wanted = np.asarray(cl, np.float64)
    if wanted.ndim != 1 or not wanted.size or not (wanted >= 0).all():
        raise BadOption(f"cl: found shape {wanted.shape}, expected a spectrum (lmax + 1,) without negative values")
    lmax = wanted.size - 1
    count = (lmax + 1) * (lmax + 2) // 2
    alm = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    for m, columns in orders(lmax):  # a_l0 is real and has the whole power of its l
        alm[columns] *= np.sqrt(wanted[m:] / 2)
        if m == 0:
            alm[columns] = alm[columns].real * np.sqrt(2)
    return Harmonics(nside, lmax, threads).synthesise(alm), spectrum(alm, lmax)
