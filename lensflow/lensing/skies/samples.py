"""Runs on several skies put side by side, after proof that they are of one kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lensflow.errors import BadInput
from lensflow.lensing.skies.stats_read import read_stats_hdf5

if TYPE_CHECKING:
    from collections.abc import Iterable

# options that say where input comes from, which of equal draws it is, or how it is stored: they may differ
FREE = {"seed", "realisation", "box", "zs", "ordering", "ordering_check", "validation_level", "patches_per_block"}
COORDINATES = ("zs", "ngal", "smoothing", "config", "ell", "l_edges", "nu", "nu_edges", "theta", "phi")
DEFINITIONS = ("signed", "threshold", "units")  # attributes of variables that change what they mean


def gather(runs: Iterable[xr.Dataset | str | Path]) -> dict[str, xr.Dataset]:
    """Return the runs of each box along a dimension ``sky``, whose coordinate is the seed.

    Raises
    ------
    BadInput
        If there are none, a sky is twice there, or they differ in options, bins or definitions.
    """
    boxes: dict[str, dict[int, list[xr.Dataset]]] = {}
    for one in runs:
        run = _opened(one)
        boxes.setdefault(str(run.attrs.get("box", "all")), {}).setdefault(_seed(run), []).append(run)
    if not boxes:
        raise BadInput("runs: found none, expected outputs of kappa_statistics or HDF5 files of them")
    skies = {box: {seed: _one_sky(parts) for seed, parts in held.items()} for box, held in boxes.items()}
    every = [run for held in skies.values() for run in held.values()]
    for run in every[1:]:
        _check_alike(every[0], run)
    return {box: _side_by_side(held) for box, held in skies.items()}


def _opened(run: xr.Dataset | str | Path) -> xr.Dataset:
    if isinstance(run, xr.Dataset):
        return run
    path = Path(run)
    if path.is_dir():
        store: xr.Dataset = xr.open_zarr(path, chunks=None, consolidated=False)
        return store.assign_attrs(source=str(path))
    return read_stats_hdf5(path)


def _name(run: xr.Dataset) -> str:
    return str(run.attrs.get("source") or f"run of seed {run.attrs.get('seed')}")


def _seed(run: xr.Dataset) -> int:
    if "seed" not in run.attrs:
        raise BadInput(f"{_name(run)}: found no attribute seed, expected the output of a run of kappa_statistics")
    return int(run.attrs["seed"])


def _one_sky(parts: list[xr.Dataset]) -> xr.Dataset:
    """Put the redshifts of one sky together."""
    held = np.concatenate([np.atleast_1d(part["zs"].values) for part in parts])
    if len(np.unique(held)) < held.size:
        names = " and ".join(_name(part) for part in parts)
        raise BadInput(f"{names}: found one sky at one redshift more than once; give each once, of one realisation")
    for part in parts[1:]:
        _check_alike(parts[0], part, but=("zs",))
    if len(parts) == 1:
        return parts[0]
    made = xr.concat(parts, "zs", data_vars="minimal", coords="minimal", compat="override", join="override")
    return made.sortby("zs")


def _check_alike(first: xr.Dataset, other: xr.Dataset, *, but: tuple[str, ...] = ()) -> None:
    """Raise if two runs cannot be averaged."""

    def refuse(what: str, found: object, expected: object) -> None:
        raise BadInput(
            f"{_name(other)}: {what}: found {found}, expected {expected} as in {_name(first)}; "
            "bring runs with equal options together only"
        )

    mine, theirs = (json.loads(run.attrs.get("options", "{}")) for run in (first, other))
    for key in sorted((mine.keys() | theirs.keys()) - FREE):
        if mine.get(key) != theirs.get(key):
            refuse(f"option {key}", theirs.get(key), mine.get(key))
    if set(first.data_vars) != set(other.data_vars):
        refuse("statistics", sorted(map(str, other.data_vars)), sorted(map(str, first.data_vars)))
    for name in (one for one in COORDINATES if one not in but):
        if not _equal(first.coords.get(name), other.coords.get(name)):
            refuse(name, _values(other, name), _values(first, name))
    for variable in first.data_vars.values():
        name = str(variable.name)
        for key in DEFINITIONS:
            if variable.attrs.get(key) != other[name].attrs.get(key):
                refuse(f"{name}: {key}", other[name].attrs.get(key), variable.attrs.get(key))


def _equal(first: xr.DataArray | None, other: xr.DataArray | None) -> bool:
    if first is None or other is None:
        return first is other
    if first.shape != other.shape:
        return False
    if first.dtype.kind in "fiu":
        return bool(np.allclose(first.values, other.values, rtol=1e-6, equal_nan=True))
    return bool((first.values == other.values).all())


def _values(run: xr.Dataset, name: str) -> Any:  # noqa: ANN401 - for a message
    return run[name].values.tolist() if name in run.coords else None


def _side_by_side(held: dict[int, xr.Dataset]) -> xr.Dataset:
    seeds = sorted(held)
    runs = [held[seed].drop_vars("patch", errors="ignore") for seed in seeds]
    made = xr.concat(
        runs,
        xr.DataArray(seeds, dims="sky", name="sky"),
        data_vars="all",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="drop",
    )
    made = made.assign_coords(patch=np.arange(made.sizes["patch"]))
    for name in made.data_vars:
        made[name].attrs = dict(runs[0][name].attrs)
    kept = {key: value for key, value in runs[0].attrs.items() if key in {"options", "epsilon"}}
    return made.assign_attrs(kept)
