"""Options of the patch statistics: checked before anything is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from math import isfinite
from pathlib import Path  # noqa: TC003 - types of options are read at run time
from typing import Any, Literal, Self, get_args

import numpy as np

from lensflow.errors import BadOption
from lensflow.lensing.patches.masks import Edge  # noqa: TC001 - the same
from lensflow.lensing.patches.patches import centres
from lensflow.lensing.patches.sampling import Interpolation  # noqa: TC001 - the same
from lensflow.lensing.patches.smoothing import TRUNCATE

Statistic = Literal[
    "power_spectrum",
    "bispectrum",
    "pdf",
    "peak_counts",
    "minima_counts",
    "minkowski",
    "moments",
    "starlet",
    "full_sky_cl",
]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
DEFAULT_STATISTICS = STATISTICS[:7]
NARROWEST = 0.5  # px, sigma of smoothing: below, the kernel is one pixel
SMALLEST = 8  # px, side of a patch
WIDEST_SIZE = 60.0  # deg, of a patch: sqrt(2) of it from both poles leaves a belt


@dataclass(frozen=True)
class Options:
    """Options of the graph, as they are called there.

    Parameters
    ----------
    zs
        Only the maps of these redshifts of sources, all by default; for a flat image, the redshift of its sources.
    patch_size_deg, xsize
        Side of the square patches, and their pixels along a side; of flat images the files say it.
    rotation_deg
        By which patches are turned; at 45 they do not overlap.
    interpolation
        Between the four pixels of HEALPix around, or the nearest.
    n_points
        Odd number of points on the spiral, for sizes that LensingSSC does not have.
    mask
        A HEALPix map or image; where it is at most 1/2 nothing counts.
    min_valid
        A patch with a smaller share of valid pixels is NaN.
    ordering
        Of HEALPix maps: what their label says, or what they are in truth.
    ordering_check
        Whether labels of FITS files are held against their pixels.
    validation_level
        A label that pixels contradict is an error, or noted (lenient), or not looked at (off).
    statistics
        Which to make; starlet and full_sky_cl have to be asked for.
    smoothing_lengths
        Gaussian sigma, arcmin.
    ngal
        Galaxies per arcmin^2, which give shape noise; 0 is without noise.
    epsilon
        Dispersion of ellipticity.
    realisation
        Of the noise: other numbers, other noise.
    seed
        Of the simulation, for the noise; by default as the maps or their names say.
    nu_edges
        Bins [lo, hi) of kappa over its standard deviation; -4, -3 ... 4 by default.
    l_edges
        Bins (lo, hi] of multipoles; eight from 300 to 3000, equal in log l, by default.
    boundary
        Beyond the border of a patch when smoothing: reflected, periodic, or an apron of sky that is cut off after.
    edge
        No peaks within a pixel of the border and no derivatives within two, or the patch as periodic.
    triangles
        Second sides of triangles rounded to nearest modes, or toward zero as LensTools does.
    snr_sigma
        What nu is in units of: the standard deviation of each patch, or this number.
    pixel_scale_arcmin
        Of a flat image whose header has neither ANGLE nor CDELT.
    patches_per_block
        Patches whose results are stored together.

    Raises
    ------
    BadOption
        If one is out of range.
    """

    zs: tuple[float, ...] = ()
    patch_size_deg: float = 10.0
    xsize: int = 2048
    rotation_deg: float = 45.0
    interpolation: Interpolation = "bilinear"
    n_points: int | None = None
    mask: Path | None = None
    min_valid: float = 0.5
    ordering: Literal["header", "NESTED", "RING", "n2r_twice", "r2n_twice"] = "header"
    ordering_check: bool = True
    validation_level: Literal["strict", "lenient", "off"] = "strict"
    statistics: tuple[str, ...] = DEFAULT_STATISTICS
    smoothing_lengths: tuple[float, ...] = (2.0, 5.0, 8.0, 10.0)
    ngal: tuple[float, ...] = (0.0, 7.0, 15.0, 30.0, 50.0)
    epsilon: float = 0.26
    realisation: int = 0
    seed: int | None = None
    nu_edges: tuple[float, ...] = tuple(np.linspace(-4, 4, 9).tolist())
    l_edges: tuple[float, ...] = tuple(np.geomspace(300, 3000, 9).tolist())
    boundary: Literal["reflect", "wrap", "apron"] = "reflect"
    edge: Edge = "crop"
    triangles: Literal["round", "trunc"] = "round"
    snr_sigma: Literal["patch"] | float = "patch"
    pixel_scale_arcmin: float | None = None
    patches_per_block: int = 8

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:  # noqa: ANN401 - as the graph was called
        """Take the keywords of the graph; names that are no option are left alone."""
        names = {one.name for one in fields(cls)}
        return cls(**{key: value for key, value in keywords.items() if key in names})

    def __post_init__(self) -> None:
        unknown = [one for one in self.statistics if one not in STATISTICS]
        if unknown or not self.statistics:
            raise BadOption(f"statistics: found {unknown[0] if unknown else 'none'}, expected {', '.join(STATISTICS)}")
        for name in ("smoothing_lengths", "ngal", "zs"):
            _distinct(name, getattr(self, name))
        if not self.ngal or min(self.ngal) < 0:
            raise BadOption(f"ngal: found {self.ngal}, expected 0 or more galaxies per arcmin^2, 0 for no noise")
        _within("epsilon", self.epsilon, 0, np.inf, open_ended=True)
        _within("patch_size_deg", self.patch_size_deg, 0, WIDEST_SIZE, open_ended=True)
        _within("xsize", self.xsize, SMALLEST, np.inf)
        _within("min_valid", self.min_valid, 0, 1)
        _within("realisation", self.realisation, 0, np.inf)
        _within("patches_per_block", self.patches_per_block, 1, np.inf)
        for name in ("nu_edges", "l_edges"):
            _edges(name, getattr(self, name))
        _within("l_edges", self.l_edges[0], 0, np.inf)
        if self.snr_sigma != "patch":
            _within("snr_sigma", self.snr_sigma, 0, np.inf, open_ended=True)
        if self.pixel_scale_arcmin is not None:
            _within("pixel_scale_arcmin", self.pixel_scale_arcmin, 0, np.inf, open_ended=True)

    def check_grid(self, size_deg: float, pixels: int) -> None:
        """Refuse multipoles and smoothings that the pixels of a patch do not resolve.

        Raises
        ------
        BadOption
            If there are such.
        """
        highest = 180 * pixels / size_deg
        if self.l_edges[-1] > highest:
            raise BadOption(
                f"l_edges: found {self.l_edges[-1]:g}, expected at most {highest:g}, "
                f"which {pixels} pixels along {size_deg:g} deg resolve"
            )
        pixel = 60 * size_deg / pixels
        for one in self.smoothing_lengths:
            if not one >= NARROWEST * pixel:
                raise BadOption(
                    f"smoothing_lengths: found {one:g} arcmin, expected at least {NARROWEST * pixel:.3g}: "
                    f"half a pixel of {pixel:.3g} arcmin"
                )

    def wants(self, *names: Statistic) -> bool:
        """Whether any of these statistics is to be made."""
        return any(one in self.statistics for one in names)

    def apron(self, pixel_arcmin: float) -> int:
        """Return the pixels by which a patch is sampled wider on each side."""
        if self.boundary != "apron" or not self.smoothing_lengths:
            return 0
        return int(TRUNCATE * max(self.smoothing_lengths) / pixel_arcmin + 0.5)

    @cached_property
    def positions(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Colatitude and longitude of the patches, rad."""
        return centres(self.patch_size_deg, self.n_points)

    def record(self) -> dict[str, Any]:
        """Return the options as they go into attributes."""
        return {**asdict(self), "mask": None if self.mask is None else str(self.mask)}


def _within(name: str, value: float, least: float, most: float, *, open_ended: bool = False) -> None:
    """Refuse what is not finite or out of range; ``open_ended`` leaves out the least value itself."""
    if isfinite(value) and least <= value <= most and not (open_ended and value == least):
        return
    lower = f"more than {least:g}" if open_ended else f"{least:g} or more"
    raise BadOption(f"{name}: found {value}, expected {lower}" + ("" if most == np.inf else f" and at most {most:g}"))


def _distinct(name: str, values: tuple[float, ...]) -> None:
    if not all(isfinite(one) for one in values) or len({f"{one:.6g}" for one in values}) < len(values):
        raise BadOption(f"{name}: found {', '.join(map(str, values))}, expected numbers that differ in six digits")


def _edges(name: str, values: tuple[float, ...]) -> None:
    if len(values) < 2 or not all(isfinite(one) for one in values) or not (np.diff(values) > 0).all():
        raise BadOption(f"{name}: found {', '.join(map(str, values))}, expected two or more increasing numbers")
