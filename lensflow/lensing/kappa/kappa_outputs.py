"""Convergence maps of mass sheets: each chunk of pixels of each sheet is read once for all redshifts of sources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.kappa.born import Weight, born_weights
from lensflow.lensing.kappa.sheet_sums import accumulate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.arrays.columns import Pixels
    from lensflow.lensing.kappa.sheet_sources import Sheets, StoredSheet

SCHEMA = "kappa_maps/1"
TOGETHER = 16  # sheets read before their pixels are added: sums of all redshifts then leave the cache less often
_ABOUT: dict[str, dict[str, Any]] = {
    "kappa": {"units": "1", "long_name": "convergence, Born approximation"},
    "zs": {"units": "1", "long_name": "redshift of the sources"},
    "chi_s": {"units": "Mpc/h", "long_name": "comoving distance of the sources"},
    "weights": {"units": "1", "long_name": "what the overdensity of a sheet counts"},
    "missing_weight": {"units": "1", "long_name": "weight of the sheets that are missing"},
    "sheet": {"long_name": "slice in scale factor"},
}


@dataclass(frozen=True)
class KappaOptions:
    """Options, as the graph describes them.

    Raises
    ------
    BadOption
        If one is out of range.
    """

    zs: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5)
    weight: Weight = "integral"
    truncate: bool = True
    allow_missing: bool = False

    def __post_init__(self) -> None:
        if not self.zs or not all(np.isfinite(one) and one > 0 for one in self.zs) or len(set(self.zs)) < len(self.zs):
            raise BadOption(f"zs: found {self.zs}, expected redshifts above 0, each once")
        if self.weight not in {"integral", "midpoint"}:
            raise BadOption(f"weight: found {self.weight!r}, expected integral or midpoint")
        if self.weight == "integral" and not self.truncate:
            raise BadOption("truncate: found False, expected True: only weight midpoint takes whole shells")


def kappa_maps(sheets: Sheets, options: KappaOptions) -> xr.Dataset:
    """Sum sheets along the line of sight, lazily.

    Parameters
    ----------
    sheets
        What is summed.
    options
        Redshifts of the sources, and how.

    Raises
    ------
    BadInput
        If a sheet that counts is missing or quarantined, or sources lie behind the farthest.
    """
    numbers, weights, chi_s, missing = _weights(sheets, options)
    npix = 12 * sheets.nside**2
    lengths = tuple(min(sheets.chunk, npix - start) for start in range(0, npix, sheets.chunk))
    used: list[bool] = np.any(weights, axis=0).tolist()
    readers = tuple(sheets.readers[n] for n, wanted in zip(numbers, used, strict=True) if wanted)
    add = partial(add_sheets, readers=readers, weights=weights[:, used], chunk=sheets.chunk, npix=npix)
    name = f"kappa-{tokenize(str(sheets.path), sheets.attrs, numbers, weights, sheets.chunk)}"
    chunks = ((len(options.zs),), lengths)
    pixel = 8 * len(options.zs) + 4 * (min(TOGETHER, len(readers)) + 1)  # bytes: sums, sheets read, and one decoded
    with dask.annotate(workspace=lengths[0] * pixel):  # of a task beside its result, for the plan
        kappa = da.map_blocks(add, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32), name=name)
    dataset = xr.Dataset(
        {
            "kappa": (("zs", "pixel"), kappa),
            "weights": (("zs", "sheet"), weights),
            "missing_weight": ("zs", missing),
        },
        coords={"zs": np.array(options.zs), "sheet": np.array(numbers, np.int32), "chi_s": ("zs", chi_s)},
    )
    for key, variable in dataset.variables.items():
        variable.attrs = dict(_ABOUT[str(key)])
    dataset["kappa"].encoding = {"chunks": (1, lengths[0])}
    dataset.attrs = {
        "schema": SCHEMA,
        "nside": sheets.nside,
        "ordering": "NESTED",
        **sheets.attrs,
        "source": str(sheets.path),
        "weight": options.weight,
        "truncate": options.truncate,
        "options": json.dumps({**options.__dict__, "nslices": sheets.attrs["nslices"]}, sort_keys=True),
    }
    return dataset


def _weights(
    sheets: Sheets, options: KappaOptions
) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the sheets there are, their weights, the distances of sources, and the weight of what is missing."""
    start = 1 if sheets.edges[0] == 0 else 0  # no light comes from a = 0
    every = np.arange(start, len(sheets.edges) - 1)
    chi = sheets.cosmology.chi(sheets.edges)
    weights, chi_s = born_weights(
        chi[every + 1],
        chi[every],
        options.zs,
        sheets.cosmology,
        weight=options.weight,
        truncate=options.truncate,
    )
    there = np.isin(every, list(sheets.readers))
    farthest = chi[min([*sheets.readers, *sheets.quarantined])]
    behind = [zs for zs, one in zip(options.zs, chi_s, strict=True) if one > farthest * (1 + 1e-12)]
    if behind and not options.allow_missing:
        raise BadInput(
            f"{sheets.path}: sources of zs {max(behind):g} are {chi_s.max():.1f} Mpc/h away, the farthest sheet ends "
            f"at {farthest:.1f}; choose smaller zs, or make more sheets"
        )
    missing = weights * ~there
    lost = every[missing.any(axis=0)].tolist()
    if lost:
        kinds = ["quarantined" if one in sheets.quarantined else "missing" for one in lost]
        message = f"{sheets.path}: found sheet {lost[0]} {kinds[0]} ({len(lost)} such), and it counts in kappa"
        if not options.allow_missing:
            raise BadInput(f"{message}; make it, or choose allow_missing")
        events.note("missing-sheet", f"{message}: left out", sheets=lost)
    return every[there].tolist(), weights[:, there], chi_s, missing.sum(axis=1)


def add_sheets(
    *,
    readers: tuple[StoredSheet | Pixels, ...],
    weights: NDArray[np.float64],
    chunk: int,
    npix: int,
    block_id: tuple[int, int],
) -> NDArray[np.float32]:
    """Read a run of pixels of each sheet once and return kappa (zs, pixel), summed in float64 in the order of sheets.

    Parameters
    ----------
    readers, weights
        The sheets, and what they count (zs, sheet).
    chunk, npix
        Pixels of a chunk, and all.
    block_id
        Which chunk.
    """
    start = block_id[1] * chunk
    stop = min(start + chunk, npix)
    total = np.zeros((len(weights), stop - start))
    read = np.empty((min(TOGETHER, len(readers)), stop - start), np.float32)
    for begin in range(0, len(readers), TOGETHER):
        some = readers[begin : begin + TOGETHER]
        for values, reader in zip(read, some, strict=False):
            values[:] = reader.read(start, stop)
        accumulate(read[: len(some)], weights[:, begin : begin + TOGETHER], total)
    return total.astype(np.float32)
