"""Convergence maps of a known power spectrum, stored as they should be, or mislabelled as they are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lensflow.arrays.healpix_fits import write_healpix
from lensflow.errors import BadOption
from lensflow.lensing.harmonics import gaussian_map
from lensflow.lensing.patches.ordering import ORDERINGS, Ordering, nested_index, stored_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RUN = 1 << 22  # pixels that are reordered at a time
# what the last step of a reordering meant to make
MEANT: dict[Ordering, Literal["NESTED", "RING"]] = {
    "NESTED": "NESTED",
    "RING": "RING",
    "n2r_twice": "RING",
    "r2n_twice": "NESTED",
}


@dataclass(frozen=True)
class SimulatedKappa:
    """A map and the truth of it.

    Parameters
    ----------
    path
        The file.
    kappa
        The map in NESTED order, as it would be without any harm.
    cl
        The spectrum of its harmonics: of this very sky, no mean over skies.
    """

    path: Path
    kappa: NDArray[np.float32]
    cl: NDArray[np.float64]

    def __str__(self) -> str:
        return str(self.path)


def kappa_spectrum(lmax: int, zs: float = 1.0) -> NDArray[np.float64]:
    """Return a spectrum near that of convergence: l (l+1) C_l/2 pi = 3e-5 at l 350 for sources at z 1."""
    ell = np.arange(lmax + 1)
    cl = 1e-7 * zs / (1 + ell / 50) ** 2
    cl[:2] = 0
    return cl


def simulate_kappa(
    out: str | Path,
    *,
    nside: int = 256,
    cl: tuple[float, ...] = (),
    seed: int = 0,
    ordering: Ordering = "NESTED",
    label: Literal["NESTED", "RING"] | None = None,
    zs: float = 1.0,
) -> SimulatedKappa:
    """Write a Gaussian convergence map ``kappa_zs{zs}_s{seed}.fits``. The same options write the same bytes.

    Parameters
    ----------
    out
        Folder to write to.
    nside
        A power of two.
    cl
        Spectrum, l = 0..lmax; one near that of convergence up to 2 nside by default.
    seed
        Of the harmonics, and in the name and the header.
    ordering
        Of the pixels in the file: NESTED, RING, or reordered twice as if they had been of the other order:
        n2r_twice, r2n_twice.
    label
        What the header says of it, NESTED or RING; by default the truth, and for twice reordered pixels what the last
        step meant to make.
    zs
        Redshift of the sources, in the name and the header.

    Raises
    ------
    BadOption
        If `nside`, `ordering` or `label` is none of those.
    """
    if nside < 1 or nside & (nside - 1):
        raise BadOption(f"nside: found {nside}, expected a power of two")
    if ordering not in ORDERINGS:
        raise BadOption(f"ordering: found {ordering!r}, expected {', '.join(ORDERINGS)}")
    label = label or MEANT[ordering]
    if label not in {"NESTED", "RING"}:
        raise BadOption(f"label: found {label!r}, expected NESTED or RING")
    spectrum = np.asarray(cl, np.float64) if len(cl) else kappa_spectrum(2 * nside, zs)
    ring, drawn = gaussian_map(spectrum, nside=nside, rng=np.random.default_rng(seed))
    kappa = np.concatenate([ring[stored_index(run, nside, "RING")].astype(np.float32) for run in _runs(ring.size)])
    path = Path(out) / f"kappa_zs{float(zs)}_s{seed}.fits"
    stored = (kappa[nested_index(run, nside, ordering)] for run in _runs(ring.size))
    write_healpix(path, stored, column="KAPPA", nside=nside, ordering=label, keys={"ZS": float(zs), "SEED": seed})
    return SimulatedKappa(path, kappa, drawn)


def _runs(pixels: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, pixels, RUN):
        yield np.arange(start, min(start + RUN, pixels))
