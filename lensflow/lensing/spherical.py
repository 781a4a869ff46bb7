"""Harmonics of full-sky HEALPix maps: power spectra and Gaussian smoothing, by ducc0."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, log, pi, radians
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Iterations = Literal["lsmr2", "jacobi3"]
Ordering = Literal["RING", "NESTED"]

UNSEEN = -1.6375e30  # what HEALPix programs write where there is no value
RESIDUALS = 3  # of "jacobi3": what healpy and the Fortran anafast do by default
LSMR_STEPS = 2
LSMR_EPSILON = 1e-14  # never reached: the number of steps decides, so that every map is treated alike
CHUNK = 1 << 22  # pixels that are reordered at a time


class FullSky(NamedTuple):
    """The pseudo power spectrum of a map, l = 0..lmax, and the fraction of the sky that it was measured on."""

    cl: NDArray[np.float64]
    f_sky: float


def full_sky_cl(
    values: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    lmax: int | None = None,
    iterations: Iterations = "lsmr2",
    ordering: Ordering = "RING",
    threads: int = 1,
) -> FullSky:
    """Measure the pseudo power spectrum of a full-sky map, C_l = sum_m |a_lm|^2 / (2 l + 1).

    The mean of the valid pixels is taken off and the others are set to zero; ``f_sky`` is not divided out.

    Parameters
    ----------
    values
        A HEALPix map, 12 nside^2 pixels. NaN and UNSEEN count as masked.
    mask
        In the same order; above 0.5 a pixel is used.
    lmax
        The largest multipole; 2 nside for "lsmr2", 3 nside - 1 for "jacobi3" if not given.
    iterations
        How the missing pixel weights are made up for: "lsmr2" two steps of LSMR (relative error 1.4e-6 up to
        2 nside at nside 1024), "jacobi3" three corrections by the residual, as healpy and the Fortran anafast do.
    ordering
        Of the pixels.
    threads
        Of the transforms; 0 takes all cores.

    Returns
    -------
    FullSky
        The spectrum and the fraction of pixels used.

    Raises
    ------
    BadInput
        If it is no HEALPix map, the mask has another length, or no pixel is left.
    BadOption
        If `iterations` or `ordering` is unknown, or `lmax` is negative.
    """
    ring = _to_ring(values, ordering)
    valid = _valid(ring)
    if mask is not None:
        wanted = _to_ring(mask, ordering)
        if wanted.size != ring.size:
            raise BadInput(f"mask: found {wanted.size} pixels, expected {ring.size} as in the map; degrade one of them")
        valid &= wanted > 0.5
    count = int(np.count_nonzero(valid))
    if not count:
        raise BadInput("map: found no valid pixel, expected some; look at its mask")
    ring -= ring.mean(where=valid)
    ring[~valid] = 0.0
    harmonics = _Harmonics.of(ring, lmax, iterations, threads)
    return FullSky(_spectrum(harmonics.analyse(ring, iterations), harmonics.lmax), count / ring.size)


def smooth_sphere(
    values: ArrayLike,
    *,
    fwhm_deg: float,
    lmax: int | None = None,
    iterations: Iterations = "jacobi3",
    ordering: Ordering = "RING",
    threads: int = 1,
) -> NDArray[np.float64]:
    """Convolve a full-sky map with a Gaussian, a_lm exp(-l (l+1) sigma^2 / 2).

    Parameters
    ----------
    values
        A HEALPix map, 12 nside^2 pixels, all of them valid.
    fwhm_deg
        Full width at half maximum in degrees, sigma sqrt(8 ln 2).
    lmax, iterations, ordering, threads
        As in `full_sky_cl`; with "jacobi3" and its lmax this is what healpy and the Fortran smoothing do.

    Returns
    -------
    ndarray
        The map, in the order it came in.

    Raises
    ------
    BadInput
        If it is no HEALPix map, or pixels of it are invalid.
    BadOption
        If `iterations` or `ordering` is unknown, or `lmax` or `fwhm_deg` is negative.
    """
    if not fwhm_deg >= 0:
        raise BadOption(f"fwhm_deg: found {fwhm_deg}, expected 0 or more")
    ring = _to_ring(values, ordering)
    invalid = ring.size - int(np.count_nonzero(_valid(ring)))
    if invalid:
        raise BadInput(f"map: found {invalid} invalid pixels, expected none to smooth; fill them first")
    harmonics = _Harmonics.of(ring, lmax, iterations, threads)
    alm = harmonics.analyse(ring, iterations)
    ell = np.arange(harmonics.lmax + 1)
    window = np.exp(-0.5 * ell * (ell + 1) * radians(fwhm_deg) ** 2 / (8 * log(2)))
    for m, columns in _orders(harmonics.lmax):
        alm[columns] *= window[m:]
    smooth = harmonics.synthesise(alm)
    return smooth if ordering == "RING" else smooth[_ring_index(np.arange(smooth.size), harmonics.nside)]


@dataclass(frozen=True)
class _Harmonics:
    """Transforms between RING pixels and alm, which are stored m by m."""

    nside: int
    lmax: int
    threads: int

    @classmethod
    def of(cls, ring: NDArray[np.float64], lmax: int | None, iterations: Iterations, threads: int) -> _Harmonics:
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


def _orders(lmax: int) -> list[tuple[int, slice]]:
    """Return where the l = m..lmax of each m stand among the alm."""
    starts = [m * (2 * lmax + 3 - m) // 2 for m in range(lmax + 2)]
    return [(m, slice(starts[m], starts[m + 1])) for m in range(lmax + 1)]


def _spectrum(alm: NDArray[np.complex128], lmax: int) -> NDArray[np.float64]:
    power = np.zeros(lmax + 1)
    for m, columns in _orders(lmax):  # a real map: -m has the power of m
        power[m:] += (1 if m == 0 else 2) * (alm[columns].real ** 2 + alm[columns].imag ** 2)
    return power / (2 * np.arange(lmax + 1) + 1)


def _to_ring(values: ArrayLike, ordering: Ordering) -> NDArray[np.float64]:
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
        ring[_ring_index(part, nside)] = found[part[0] : part[-1] + 1]
    return ring


def _ring_index(nested: NDArray[np.int64], nside: int) -> NDArray[np.int64]:
    import ducc0  # noqa: PLC0415 - as above

    return np.asarray(ducc0.healpix.Healpix_Base(nside, "RING").nest2ring(nested))


def _valid(ring: NDArray[np.float64]) -> NDArray[np.bool_]:
    # UNSEEN as float32 and as float64 differ in the last digits
    return np.isfinite(ring) & ~np.isclose(ring, UNSEEN, rtol=1e-5, atol=0)
