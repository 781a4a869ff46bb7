"""Statistics of many skies brought together: what they are on average, and how they vary and correlate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import xarray as xr

from lensflow import events
from lensflow.errors import BadOption
from lensflow.lensing.skies.covariance import joined, moments_of
from lensflow.lensing.skies.noise_audit import LAGS, noise_audit
from lensflow.lensing.skies.ratios import ratios
from lensflow.lensing.skies.samples import gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Patches = Literal["all", "rmp", "rip"]

SCHEMA = "kappa_aggregate/1"
BLACKLIST = (132,)  # of 10 deg: looks along an axis of the tiling
JOINED = ("power_spectrum", "pdf", "peaks", "minima", "v0", "v1", "v2")


def aggregate(
    runs: Iterable[xr.Dataset | str | Path],
    *,
    patches: Patches = "all",
    blacklist: Sequence[int] = BLACKLIST,
    join: Sequence[str] = JOINED,
) -> xr.DataTree:
    """Average statistics over patches and skies, a node a box, and compare two boxes.

    Patches of one sky are correlated; so errors are delete-one-sky jackknives, and the Hartlap factor is given for the
    number of samples and for that of skies.

    Parameters
    ----------
    runs
        Outputs of kappa_statistics (datasets or Zarr stores) or HDF5 files of them. Their attribute ``box`` says which
        belong together, their ``seed`` which sky each is; files of one sky at several redshifts are put together.
    patches
        "rmp" leaves out those along axes of a tiled box (replication affected, "rip"), "rip" keeps them alone.
    blacklist
        Indices of patches that are left out in any case.
    join
        Statistics whose joint covariance is wanted, ``joined_cov``; those that the runs lack are passed over.

    Returns
    -------
    xr.DataTree
        A node a box with ``{statistic}_mean``, ``_std``, ``_cov``, ``_corr`` ...; ``ratio`` where there are two boxes.

    Raises
    ------
    BadInput
        If there are no runs, one is twice there, or their options or bins differ.
    BadOption
        If `patches` is unknown or leaves none.
    """
    if patches not in get_args(Patches):
        raise BadOption(f"patches: found {patches!r}, expected {', '.join(get_args(Patches))}")
    boxes = gather(runs)
    nodes = {box: _node(_chosen(one, patches, blacklist), join) for box, one in boxes.items()}
    for box, one in boxes.items():
        nodes[box] = _audited(nodes[box], one, box)
    if len(nodes) == 2:
        above, below = sorted(nodes, key=_rank)
        node = ratios(nodes[above], nodes[below])
        nodes["ratio"] = node.assign_attrs(numerator=above, denominator=below)
    about = {"schema": SCHEMA, "patches": patches, "blacklist": list(blacklist)}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=about), **{f"/{name}": node for name, node in nodes.items()}})


def _rank(box: str) -> tuple[float, str]:
    """Return what boxes are sorted by: large ones first where they are called by their size, else bigbox, tiled."""
    try:
        return -float(box), box
    except ValueError:
        return 0.0, box


def _chosen(samples: xr.Dataset, patches: Patches, blacklist: Sequence[int]) -> xr.Dataset:
    """Leave out the patches that are not wanted."""
    kept = np.ones(samples.sizes["patch"], bool)
    if patches != "all":
        if "rip" not in samples.coords:
            raise BadOption(f"patches: found {patches!r} for runs that do not say which patches it is, expected all")
        kept = samples["rip"].values.astype(bool) == (patches == "rip")
    kept[[index for index in blacklist if index < kept.size]] = False
    if not kept.any():
        raise BadOption(f"patches: {patches!r} without {list(blacklist)} leaves none of {kept.size}")
    return samples.isel(patch=np.flatnonzero(kept))


def _node(samples: xr.Dataset, join: Sequence[str]) -> xr.Dataset:
    names = [str(name) for name, one in samples.data_vars.items() if {"sky", "patch", "zs", "ngal"} <= set(one.dims)]
    made: dict[str, xr.DataArray] = {}
    for name in names:
        made |= moments_of(name, samples[name])
        made[f"{name}_mean"].attrs = dict(samples[name].attrs)
    coords = {name: one for name, one in samples.coords.items() if one.dims and not {"sky", "patch"} & set(one.dims)}
    wanted = [name for name in join if name in names]
    if len(wanted) > 1:
        vectors = joined(samples, wanted)
        made |= moments_of("joined", vectors)
        coords |= {name: one for name, one in vectors.coords.items() if one.dims == ("entry",)}
    return xr.Dataset(made, coords).assign_attrs(
        n_skies=samples.sizes["sky"],
        n_patches=samples.sizes["patch"],
        seeds=samples["sky"].values.tolist(),
        patches_used=samples["patch"].values.tolist(),
        **samples.attrs,
    )


def _audited(node: xr.Dataset, samples: xr.Dataset, box: str) -> xr.Dataset:
    """Add whether noise repeats from patch to patch, and say so."""
    density = samples["ngal"].values
    if "power_spectrum" not in samples or 0 not in density or len(density) < 2 or samples.sizes["patch"] < 2 * LAGS:
        return node.assign_attrs(noise_audit="not made: it takes power spectra with ngal 0 and above")
    audits = [noise_audit(samples.isel(sky=k)) for k in range(samples.sizes["sky"])]
    repeats = xr.concat([one["noise_repeats"] for one in audits], "sky").any("ngal").any("zs").values
    if repeats.any():
        seeds = [int(seed) for seed in samples["sky"].values[repeats]]
        events.note(
            "noise-repeats",
            f"{box}: the noise of {len(seeds)} of {repeats.size} skies repeats from patch to patch; "
            "do not use their covariances at ngal above 0",
            box=box,
            seeds=seeds,
        )
    return node.assign({"noise_repeats": ("sky", repeats)}).assign_coords(sky=samples["sky"].values)
