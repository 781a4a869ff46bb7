"""All statistics of one patch: noise at each density, smoothing at each length, everything measured on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lensflow.lensing.patches.bispectrum import CONFIGURATIONS, bispectrum
from lensflow.lensing.patches.fourier import fourier, power_spectrum
from lensflow.lensing.patches.masks import Edge, eroded, valid_pixels
from lensflow.lensing.patches.noise import add_noise, noise_sigma
from lensflow.lensing.patches.pixel_statistics import MOMENTS, density, pixel_statistics
from lensflow.lensing.patches.smoothing import Boundary, Smoother
from lensflow.lensing.patches.starlet import SCALES, starlet_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lensflow.lensing.patches.noise import NoiseName

GOOD, APPROXIMATE, TOO_FEW, FAILED = range(4)  # status of a patch, the worst of its redshifts
NO_COUNT = -1  # what counts are where a patch was not measured
ALWAYS_MADE = {"f_valid", "status"}  # whatever the patch is like
COVERED = 0.5  # share of the kernel on valid pixels that a smoothed pixel needs


@dataclass(frozen=True)
class Recipe:
    """What is measured on a patch, and how.

    Parameters
    ----------
    size_deg, pixels
        Side of a patch, and in pixels.
    statistics, smoothing_lengths, ngal, epsilon, nu_edges, l_edges, boundary, edge, triangles, snr_sigma, min_valid
        As in the options of the graph.
    apron
        Pixels around the patch that serve the smoothing alone.
    """

    size_deg: float
    pixels: int
    statistics: tuple[str, ...]
    smoothing_lengths: tuple[float, ...]
    ngal: tuple[float, ...]
    epsilon: float
    nu_edges: tuple[float, ...]
    l_edges: tuple[float, ...]
    boundary: Literal["reflect", "wrap", "apron"] = "reflect"
    edge: Edge = "crop"
    triangles: Literal["round", "trunc"] = "round"
    snr_sigma: float | None = None
    min_valid: float = 0.5
    apron: int = 0

    @property
    def pixel_arcmin(self) -> float:
        """Side of a pixel."""
        return 60 * self.size_deg / self.pixels

    def lengths(self) -> dict[str, int]:
        """Return the length of each dimension of the results but zs and patch."""
        return {
            "ngal": len(self.ngal),
            "smoothing": len(self.smoothing_lengths),
            "config": len(CONFIGURATIONS),
            "scale": SCALES,
            "ell_bin": len(self.l_edges) - 1,
            "nu_bin": len(self.nu_edges) - 1,
            "moment": len(MOMENTS),
        }

    def fields(self) -> dict[str, tuple[type, tuple[str, ...], tuple[str, ...]]]:
        """Return type, dimensions before the patch and after it, of each variable that is measured on patches."""
        wanted, level = set(self.statistics), ("ngal", "smoothing")
        found: dict[str, tuple[type, tuple[str, ...], tuple[str, ...]]] = {}
        if "power_spectrum" in wanted:
            found["power_spectrum"] = (np.float64, ("ngal",), ("ell_bin",))
        if "bispectrum" in wanted:
            found["bispectrum"] = (np.float64, ("ngal", "config"), ("ell_bin",))
        for statistic, name in (("pdf", "pdf"), ("peak_counts", "peaks"), ("minima_counts", "minima")):
            if statistic in wanted:
                found[name] = (np.float64, level, ("nu_bin",))
                found[f"{name}_counts"] = (np.int32, level, ("nu_bin",))
        if "minkowski" in wanted:
            found |= dict.fromkeys(("v0", "v1", "v2"), (np.float64, level, ("nu_bin",)))
        if "moments" in wanted:
            found["moments"] = (np.float64, level, ("moment",))
        if "starlet" in wanted:
            found["starlet_l1"] = (np.float64, ("ngal", "scale"), ("nu_bin",))
            found["starlet_peaks"] = (np.int32, ("ngal", "scale"), ("nu_bin",))
        found |= {"sigma0": (np.float64, level, ()), "sigma1": (np.float64, level, ()), "n_pix": (np.int32, level, ())}
        return found | {
            "mean": (np.float64, ("ngal",), ()),
            "f_valid": (np.float64, (), ()),
            "status": (np.uint8, (), ()),
        }

    def dtype(self) -> np.dtype[np.void]:
        """Return the type of the record that holds all results of a patch."""
        lengths = self.lengths()
        return np.dtype(
            [
                (name, kind, tuple(lengths[dim] for dim in (*before, *after)))
                for name, (kind, before, after) in self.fields().items()
            ]
        )


def measure(
    image: NDArray[np.float64], recipe: Recipe, *, noise: NoiseName, mask: NDArray[np.floating] | None = None
) -> NDArray[np.void]:
    """Measure one patch.

    Parameters
    ----------
    image
        Convergence, NaN where it is missing, with the apron.
    recipe
        What to measure.
    noise
        Name of its noise; densities of galaxies and the apron are those of the recipe.
    mask
        Of the image's shape; pixels above 1/2 are used.

    Returns
    -------
    NDArray
        One record, of :meth:`Recipe.dtype`.
    """
    record = np.zeros((), recipe.dtype())
    valid = valid_pixels(image, mask)
    inside = _cropped(valid, recipe.apron)
    record["f_valid"] = inside.mean()
    whole = bool(valid.all())
    record["status"] = GOOD if whole else APPROXIMATE
    if not inside.any() or record["f_valid"] < recipe.min_valid:
        return _unmeasured(record)
    patch = _Masked(image if whole else np.where(valid, image, 0.0), None if whole else valid, recipe)
    for i, ngal in enumerate(recipe.ngal):
        name = replace(noise, ngal=ngal, apron=recipe.apron)
        sigma = noise_sigma(ngal=ngal, epsilon=recipe.epsilon, pixel_arcmin=recipe.pixel_arcmin)
        noisy = add_noise(patch.image, name, sigma)
        if patch.valid is not None:
            noisy = np.where(patch.valid, noisy, 0.0)
        _unsmoothed(record, i, _cropped(noisy, recipe.apron), inside, patch)
        for k, (smoothed, counted) in enumerate(patch.smoothed(noisy)):
            _smoothed(record, (i, k), smoothed, counted, recipe)
    return record


def _unmeasured(record: NDArray[np.void]) -> NDArray[np.void]:
    for name in record.dtype.names or ():
        if name not in ALWAYS_MADE:
            record[name] = nan if record.dtype[name].base.kind == "f" else NO_COUNT
    record["status"] = TOO_FEW
    return record


def _cropped(image: NDArray[Any], apron: int) -> NDArray[Any]:
    return image[apron:-apron, apron:-apron] if apron else image


class _Masked:
    """A patch, zero where it is not valid, and how it is smoothed."""

    def __init__(self, image: NDArray[np.float64], valid: NDArray[np.bool_] | None, recipe: Recipe) -> None:
        self.image, self.valid, self.recipe = image, valid, recipe
        self.boundary: Boundary = "wrap" if recipe.boundary == "wrap" else "reflect"
        self.sigmas = [one / recipe.pixel_arcmin for one in recipe.smoothing_lengths]
        self.coverage: list[NDArray[np.float64]] = []
        if valid is not None:
            smoother = Smoother(valid.astype(np.float64), self.boundary)
            self.coverage = [smoother.smoothed(sigma) for sigma in self.sigmas]

    def smoothed(self, noisy: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_] | None]]:
        """Yield the patch at each length without its apron, and its valid pixels, None if all are."""
        smoother, apron = Smoother(noisy, self.boundary), self.recipe.apron
        for k, sigma in enumerate(self.sigmas):
            image = _cropped(smoother.smoothed(sigma), apron)
            if self.valid is None:
                yield image, None
                continue
            coverage = _cropped(self.coverage[k], apron)
            counted = _cropped(self.valid, apron) & (coverage >= COVERED)
            # G*(kappa M) / G*M
            yield np.divide(image, coverage, out=np.zeros_like(image), where=counted), counted


def _unsmoothed(
    record: NDArray[np.void], i: int, image: NDArray[np.float64], inside: NDArray[np.bool_], patch: _Masked
) -> None:
    recipe = patch.recipe
    covered = float(inside.mean())  # the mean of M, of M^2 and of M^3: masks are 0 or 1
    record["mean"][i] = image.mean() / covered
    names = record.dtype.names or ()
    if "power_spectrum" in names or "bispectrum" in names:
        waves = fourier(image)
        grid: dict[str, Any] = {"size_deg": recipe.size_deg, "l_edges": recipe.l_edges}
        if "power_spectrum" in names:
            record["power_spectrum"][i] = power_spectrum(waves, **grid) / covered
        for c, configuration in enumerate(CONFIGURATIONS if "bispectrum" in names else ()):
            made = bispectrum(waves, configuration=configuration, rounding=recipe.triangles, **grid)
            record["bispectrum"][i, c] = made / covered
    if "starlet_l1" in names:
        kept = None if patch.valid is None else eroded(inside, recipe.edge)
        edges = np.asarray(recipe.nu_edges)
        record["starlet_l1"][i], record["starlet_peaks"][i] = starlet_statistics(
            image, edges=edges, inner=kept, edge=recipe.edge
        )


def _smoothed(
    record: NDArray[np.void],
    place: tuple[int, int],
    image: NDArray[np.float64],
    counted: NDArray[np.bool_] | None,
    recipe: Recipe,
) -> None:
    edges = np.asarray(recipe.nu_edges)
    found = pixel_statistics(
        image,
        edges=edges,
        pixel_arcmin=recipe.pixel_arcmin,
        valid=counted,
        edge=recipe.edge,
        snr_sigma=recipe.snr_sigma,
    )
    for name in record.dtype.names or ():
        if name in {"pdf", "peaks", "minima"}:
            record[name][place] = density(getattr(found, f"{name}_counts"), edges)
        elif hasattr(found, name):
            record[name][place] = getattr(found, name)
