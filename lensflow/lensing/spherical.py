"""Full-sky HEALPix maps: pseudo power spectra, and Gaussian smoothing on the sphere."""

from __future__ import annotations

from math import log, radians
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow.errors import BadInput, BadOption
from lensflow.lensing.harmonics import Harmonics, orders, spectrum, to_ring
from lensflow.lensing.patches.ordering import stored_index

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from lensflow.lensing.harmonics import Iterations, Order

UNSEEN = -1.6375e30  # what HEALPix programs write where there is no value
LARGEST = 1e30  # no map has larger values


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
    ordering: Order = "RING",
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
    ring = to_ring(values, ordering)
    valid = _valid(ring)
    if mask is not None:
        wanted = to_ring(mask, ordering)
        if wanted.size != ring.size:
            raise BadInput(f"mask: found {wanted.size} pixels, expected {ring.size} as in the map; degrade one of them")
        valid &= wanted > 0.5
    count = int(np.count_nonzero(valid))
    if not count:
        raise BadInput("map: found no valid pixel, expected some; look at its mask")
    if count == ring.size:
        ring -= ring.mean()
    else:
        ring -= ring[valid].mean()
        ring[~valid] = 0.0
    harmonics = Harmonics.of(ring, lmax, iterations, threads)
    return FullSky(spectrum(harmonics.analyse(ring, iterations), harmonics.lmax), count / ring.size)


def smooth_sphere(
    values: ArrayLike,
    *,
    fwhm_deg: float,
    lmax: int | None = None,
    iterations: Iterations = "jacobi3",
    ordering: Order = "RING",
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
    ring = to_ring(values, ordering)
    invalid = ring.size - int(np.count_nonzero(_valid(ring)))
    if invalid:
        raise BadInput(f"map: found {invalid} invalid pixels, expected none to smooth; fill them first")
    harmonics = Harmonics.of(ring, lmax, iterations, threads)
    alm = harmonics.analyse(ring, iterations)
    ell = np.arange(harmonics.lmax + 1)
    window = np.exp(-0.5 * ell * (ell + 1) * radians(fwhm_deg) ** 2 / (8 * log(2)))
    for m, columns in orders(harmonics.lmax):
        alm[columns] *= window[m:]
    smooth = harmonics.synthesise(alm)
    return smooth if ordering == "RING" else smooth[stored_index(np.arange(smooth.size), harmonics.nside, "RING")]


def _valid(ring: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pixels have a value: neither NaN nor infinite nor UNSEEN, in one pass."""
    valid: NDArray[np.bool_] = np.abs(ring) < LARGEST
    return valid
