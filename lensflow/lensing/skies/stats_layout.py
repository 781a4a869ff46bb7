"""Where statistics of patches stand in an HDF5 file, and in which units: the layout of LensingSSC, with additions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = "kappa_statistics/1"
PARAMETERS = "metadata/parameters"
PATCHES = "metadata/patches"
FULL_SKY = ("cl_full_sky", "full_sky/cl")  # variable and path: C_l of the whole map, added
CONFIGURATIONS = {"equilateral": "equilateral", "folded": "isosceles", "squeezed": "squeezed"}  # ours: theirs


@dataclass(frozen=True)
class Entry:
    """A variable and the datasets that hold it, one for each number density and smoothing.

    Parameters
    ----------
    variable
        Its name.
    path
        Of a dataset (patch, ...), with {ngal} and {smoothing} to be filled in.
    dims
        What follows the patch.
    stored
        Type in the file.
    config
        The triangles, of a bispectrum.
    added
        Whether LensingSSC does not write it.
    """

    variable: str
    path: str
    dims: tuple[str, ...] = ()
    stored: str = "<f4"
    config: str | None = None
    added: bool = False

    @property
    def smoothed(self) -> bool:
        """Whether it is measured on smoothed maps."""
        return "{smoothing}" in self.path


_SMOOTHED = "smoothed_statistics/ngal_{ngal}/sl_{smoothing}/"
_NU = ("nu_bin",)

ENTRIES = (
    Entry("power_spectrum", "power_spectra/ngal_{ngal}/cl", ("ell_bin",)),
    Entry("mean", "power_spectra/ngal_{ngal}/mean", added=True),
    *(
        Entry("bispectrum", f"bispectra/ngal_{{ngal}}/{theirs}", ("ell_bin",), config=ours)
        for ours, theirs in CONFIGURATIONS.items()
    ),
    *(Entry(name, f"{_SMOOTHED}{name}", _NU) for name in ("pdf", "peaks", "minima")),
    *(Entry(name, f"{_SMOOTHED}minkowski/{name}", _NU) for name in ("v0", "v1", "v2")),
    *(Entry(f"sigma{k}", f"{_SMOOTHED}sigma/{k}") for k in (0, 1)),
    *(
        Entry(f"{name}_counts", f"{_SMOOTHED}{name}_counts", _NU, "<i4", added=True)
        for name in ("pdf", "peaks", "minima")
    ),
    Entry("n_pix", f"{_SMOOTHED}n_pix", (), "<i4", added=True),
    Entry("moments", f"{_SMOOTHED}moments", ("moment",), added=True),
)


def spectral_factor(variable: str, ell: NDArray[np.float64]) -> NDArray[np.float64] | float:
    """Return what a spectrum is multiplied by in the file: l (l+1)/2 pi, l^4/(2 pi)^2 for the bispectrum, else 1."""
    if variable == "power_spectrum":
        return ell * (ell + 1) / (2 * np.pi)
    return ell**4 / (2 * np.pi) ** 2 if variable == "bispectrum" else 1.0


def number(value: float) -> str:
    """Return a number as it stands in names: 10 for 10.0."""
    return f"{value:g}"
