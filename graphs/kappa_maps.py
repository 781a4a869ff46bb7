"""Convergence maps: mass sheets summed along the line of sight for sources at several redshifts."""

from pathlib import Path
from typing import Literal

import xarray as xr

from lensflow.lensing.kappa.kappa_outputs import KappaOptions, kappa_maps
from lensflow.lensing.kappa.sheet_sources import open_sheets
from lensflow.lensing.pictures.picture_maps import picture_kappa as picture
from lensflow.lensing.sheets.sheet_export import export_kappa as export

__all__ = ["export", "graph", "inputs", "picture"]


def graph(
    sheets: Path,
    *,
    zs: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5),
    weight: Literal["integral", "midpoint"] = "integral",
    truncate: bool = True,
    allow_missing: bool = False,
    cosmology: tuple[float, float, float] | None = None,
    nslices: int | None = None,
) -> xr.Dataset:
    """Sum mass sheets to maps of convergence in the Born approximation.

    Parameters
    ----------
    sheets
        Store of a run of mass_sheets, or a folder of files delta-sheet-NN.fits.
    zs
        Redshifts of the sources.
    weight
        ``integral`` of the lensing efficiency over each shell, or its value at the ``midpoint``, as LensingSSC has it.
    truncate
        Cut the shell that holds the sources there; otherwise it is taken whole (midpoint only).
    allow_missing
        Leave out sheets that are missing or quarantined, and say how much they count.
    cosmology
        OmegaM, OmegaLambda and h of files that do not state them.
    nslices
        Slices between a = 0 and 1 of files that do not state them.

    Returns
    -------
    xr.Dataset
        kappa (zs, pixel) f4, NESTED; weights (zs, sheet) and missing_weight (zs) f8; coordinate chi_s (zs) in Mpc/h.

    Raises
    ------
    BadInput, BadOption
        If sheets that count are missing or of different simulations; if an option is out of range.
    """
    options = KappaOptions(zs=zs, weight=weight, truncate=truncate, allow_missing=allow_missing)
    return kappa_maps(open_sheets(sheets, cosmology=cosmology, nslices=nslices), options)


def inputs(sheets: Path, **_: object) -> list[Path]:
    """List what the graph reads, for fingerprints: of a store its metadata."""
    return [Path(sheets)]
