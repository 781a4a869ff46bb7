"""What is stored of patch statistics: variables, coordinates, attributes."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lensflow.lensing.patches.bispectrum import CONFIGURATIONS, triangles
from lensflow.lensing.patches.fourier import modes
from lensflow.lensing.patches.full_sky import full_sky_spectra
from lensflow.lensing.patches.kappa_sources import digest
from lensflow.lensing.patches.patch_statistics import FAILED, NO_COUNT
from lensflow.lensing.patches.patch_tasks import Survey, field, records, worst
from lensflow.lensing.patches.patches import replicated
from lensflow.lensing.patches.pixel_statistics import MOMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    from numpy.typing import NDArray

    from lensflow.lensing.patches.patch_statistics import Recipe
    from lensflow.lensing.patches.statistics_options import Options

SCHEMA = "kappa_statistics/1"

_ABOUT: dict[str, dict[str, Any]] = {
    "power_spectrum": {"units": "sr", "long_name": "power spectrum of the patch, not smoothed"},
    "bispectrum": {"units": "sr2", "long_name": "bispectrum of the patch, not smoothed", "signed": 1},
    "pdf": {"units": "1", "long_name": "probability density of nu, normalised over the bins"},
    "peaks": {"units": "1", "long_name": "density of peaks in nu, normalised over the bins"},
    "minima": {"units": "1", "long_name": "density of minima in nu, normalised over the bins"},
    "pdf_counts": {"units": "px", "long_name": "pixels in a bin"},
    "peaks_counts": {"units": "1", "long_name": "peaks in a bin"},
    "minima_counts": {"units": "1", "long_name": "minima in a bin"},
    "v0": {"units": "1", "long_name": "fraction of the area above the middle of a bin", "threshold": "midpoint"},
    "v1": {"units": "1/arcmin", "long_name": "length of contours over area, over 4, per unit of nu"},
    "v2": {"units": "1/arcmin2", "long_name": "curvature of contours over area, over 2 pi, per unit of nu"},
    "moments": {"long_name": "connected moments about the mean, derivatives in 1/arcmin"},
    "sigma0": {"units": "1", "long_name": "standard deviation of the smoothed patch"},
    "sigma1": {"units": "1/arcmin", "long_name": "root mean square gradient of the smoothed patch"},
    "n_pix": {"units": "px", "long_name": "pixels that count, in the range of the bins or not"},
    "mean": {"units": "1", "long_name": "mean convergence of the patch, the super-sample mode"},
    "starlet_l1": {"units": "1", "long_name": "sum of absolute starlet coefficients in bins of their SNR"},
    "starlet_peaks": {"units": "1", "long_name": "peaks of starlet coefficients in bins of their SNR"},
    "f_valid": {"units": "1", "long_name": "share of valid pixels, the least of all redshifts"},
    "status": {
        "long_name": "state of the patch, the worst of all redshifts",
        "flag_values": [0, 1, 2, 3],
        "flag_meanings": "good approximate too_few_valid failed",
        "quarantine_value": FAILED,  # what the engine writes where a block could not be made
    },
}


def statistics_dataset(survey: Survey, options: Options) -> xr.Dataset:
    """Return the statistics of all patches as a lazy dataset.

    Parameters
    ----------
    survey
        What is measured.
    options
        Of the graph.

    Returns
    -------
    xr.Dataset
        Dimensions zs, ngal, smoothing, config, patch, and bins.
    """
    packed = records(survey)
    # the records of some patches side by side: one stored chunk of every variable
    groups = packed.rechunk({1: options.patches_per_block})
    dataset = xr.Dataset(coords=_coords(survey), attrs=_attrs(survey, options))
    for name, (_, before, after) in survey.recipe.fields().items():
        if name in {"f_valid", "status"}:
            array = worst(groups, name, np.min if name == "f_valid" else np.max)
            dataset[name] = (("patch",), array)
        else:
            dataset[name] = (("zs", *before, "patch", *after), field(groups, name, len(before)))
        _describe(dataset[name])
    if options.wants("full_sky_cl") and survey.patches:
        spectra = full_sky_spectra(survey)
        # not "ell": xarray has no dimension that is named as a coordinate along another
        dataset["cl_full_sky"] = (("zs", "multipole"), spectra)
        dataset["multipole"] = np.arange(spectra.shape[1])
        dataset["cl_full_sky"].attrs = {"units": "sr", "long_name": "pseudo power spectrum of the whole map"}
        dataset["cl_full_sky"].encoding = {"chunks": (1, spectra.shape[1]), "fill_value": np.nan}
    return dataset


def _describe(variable: xr.DataArray) -> None:
    variable.attrs = dict(_ABOUT[str(variable.name)])
    array: da.Array = variable.data
    fill = np.nan if array.dtype.kind == "f" else FAILED if variable.name == "status" else NO_COUNT
    variable.encoding = {"chunks": tuple(max(lengths) for lengths in array.chunks), "fill_value": fill}


def _coords(survey: Survey) -> dict[str, Any]:
    recipe = survey.recipe
    nu, ell = np.asarray(recipe.nu_edges), np.asarray(recipe.l_edges)
    grid = (recipe.pixels, recipe.size_deg, recipe.l_edges)
    coords: dict[str, Any] = {
        "zs": ("zs", np.asarray(survey.zs), {"long_name": "redshift of sources"}),
        "ngal": ("ngal", np.asarray(recipe.ngal, np.float64), {"units": "1/arcmin2"}),
        "smoothing": ("smoothing", np.asarray(recipe.smoothing_lengths, np.float64), {"units": "arcmin"}),
        "patch": ("patch", np.arange(survey.count, dtype=np.int32)),
        "nu_edges": ("nu_edge", nu),
        "nu": ("nu_bin", (nu[1:] + nu[:-1]) / 2),
        "l_edges": ("ell_edge", ell),
        "ell": ("ell_bin", (ell[1:] + ell[:-1]) / 2),
        "n_modes": ("ell_bin", modes(*grid).counts),
    }
    if "bispectrum" in recipe.statistics:
        listed = [triangles(one, *grid, recipe.triangles).counts for one in CONFIGURATIONS]
        coords["config"] = ("config", _names(CONFIGURATIONS))
        coords["n_triangles"] = (("config", "ell_bin"), np.stack(listed))
    if "moments" in recipe.statistics:
        coords["moment"] = ("moment", _names(MOMENTS))
    return coords | _positions(survey)


def _names(names: Sequence[str]) -> NDArray[np.object_]:
    """Return names as Zarr stores them without limit of length."""
    return np.array(names, dtype=object)


def _positions(survey: Survey) -> dict[str, Any]:
    if not survey.patches:
        return {"file": ("patch", _names([one.path.name for one in survey.maps]))}
    where = np.array([(one.theta, one.phi) for one in survey.patches])
    return {
        "theta": ("patch", np.rad2deg(where[:, 0]), {"units": "deg", "long_name": "colatitude of the centre"}),
        "phi": ("patch", np.rad2deg(where[:, 1]), {"units": "deg", "long_name": "longitude of the centre"}),
        "rip": ("patch", replicated(where, survey.recipe.size_deg), {"long_name": "affected by replication of a box"}),
    }


def _attrs(survey: Survey, options: Options) -> dict[str, Any]:
    recipe: Recipe = survey.recipe
    said = survey.maps[0].attrs
    record = {**options.record(), "patch_size_deg": recipe.size_deg, "xsize": recipe.pixels}
    attrs: dict[str, Any] = {
        "schema": SCHEMA,
        "epsilon": options.epsilon,
        "realisation": options.realisation,
        "options": json.dumps(record, sort_keys=True),
        "digest": digest(list(survey.maps)),
        # normal deviates and transforms are theirs
        "versions": json.dumps({name: version(name) for name in ("lensflow", "numpy", "scipy")}),
    }
    if survey.seed >= 0:
        attrs["seed"] = survey.seed
    for key in ("box", "BoxSize", "BOXSIZE"):
        if key in said:
            attrs["box"] = said[key] if isinstance(said[key], str) else f"{said[key]:g}"
            break
    if survey.patches:
        attrs["ordering"], attrs["nside"] = survey.orderings[0], survey.maps[0].nside
    if survey.mask is not None:
        attrs["mask"] = str(survey.mask.path)
    return attrs
