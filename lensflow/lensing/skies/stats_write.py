"""Statistics of patches as HDF5 files, one a source redshift, in the layout of LensingSSC."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xarray as xr

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.skies.stats_layout import (
    ENTRIES,
    FULL_SKY,
    PARAMETERS,
    PATCHES,
    SCHEMA,
    Entry,
    number,
    spectral_factor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTIAL = ".partial"  # ends the name of what is not complete
PER_PATCH = ("theta", "phi", "rip", "f_valid", "status")
UNITS = {
    "v1": "1/arcmin",
    "v2": "1/arcmin^2",
    "sigma1": "1/arcmin",
    "power_spectrum": "l(l+1)/(2 pi) P [sr]",
    "bispectrum": "l^4/(2 pi)^2 B [sr^2]",
}


def export_hdf5(dataset: xr.Dataset, out: str | Path, *, zs: float | None = None) -> list[Path]:
    """Write ``stats_zs{zs}_s{seed}_oa{size}.h5``; a file of that name is replaced, never left half-written.

    Parameters
    ----------
    dataset
        The output of kappa_statistics.
    out
        Folder to write to.
    zs
        The source redshift to write; each of the dataset by default.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    BadInput
        If the dataset lacks what its file must say.
    BadOption
        If the dataset does not hold the redshift.
    """
    held = [float(value) for value in np.atleast_1d(dataset["zs"].values)]
    chosen = held if zs is None else [one for one in held if np.isclose(one, zs, rtol=1e-6)]
    if not chosen:
        raise BadOption(f"zs: found {zs}, expected one of {', '.join(map(str, held))}, which the dataset holds")
    known = {entry.variable for entry in ENTRIES} | {*PER_PATCH, FULL_SKY[0]}
    left = sorted(str(name) for name in set(dataset.data_vars) - known)
    if left:
        events.note("not-exported", f"{', '.join(left)}: the HDF5 layout has no place for them", variables=left)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    about = _about(dataset)
    return [_write(dataset.sel(zs=one), folder, one, about) for one in chosen]


def export(store: Path, out: Path, *, zs: float | None = None) -> list[Path]:
    """Write a finished store of kappa_statistics as HDF5 files, one a source redshift.

    Parameters
    ----------
    store
        The Zarr store of the run.
    out
        Folder to write to.
    zs
        The source redshift to write; all of them by default.

    Raises
    ------
    BadInput
        If the store is not one of patch statistics.
    BadOption
        If it does not hold the redshift.
    """
    if not (Path(store) / "zarr.json").is_file():
        raise BadInput(f"{store}: found no Zarr store, expected the output of a run of kappa_statistics")
    with xr.open_zarr(store, chunks=None, consolidated=False) as dataset:
        if dataset.attrs.get("schema") != SCHEMA:
            raise BadInput(f"{store}: schema: found {dataset.attrs.get('schema')!r}, expected {SCHEMA}")
        return export_hdf5(dataset, out, zs=zs)


def _about(dataset: xr.Dataset) -> dict[str, Any]:
    """Return the attributes that the file needs, all of them looked for at once."""
    options = json.loads(dataset.attrs.get("options", "{}"))
    found = {**options, **dataset.attrs}
    wanted = ("seed", "patch_size_deg", "xsize", "epsilon")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise BadInput(
            f"dataset: attributes: found no {', '.join(missing)}, expected the output of a run of kappa_statistics"
        )
    return {
        **{name: found[name] for name in wanted},
        "options": json.dumps(options, sort_keys=True),
        **_origin(dataset),
    }


def _origin(dataset: xr.Dataset) -> dict[str, Any]:
    return {name: dataset.attrs[name] for name in ("box", "realisation", "schema") if name in dataset.attrs}


def _write(one: xr.Dataset, folder: Path, zs: float, about: dict[str, Any]) -> Path:
    path = folder / f"stats_zs{zs}_s{about['seed']}_oa{number(about['patch_size_deg'])}.h5"
    partial = path.with_name(path.name + PARTIAL)
    with h5py.File(partial, "w") as file:
        _write_parameters(file, one, zs, about)
        _write_patches(file, one)
        for entry in ENTRIES:
            if entry.variable in one and (entry.config is None or entry.config in one["config"].values):
                _write_entry(file, one, entry)
        if FULL_SKY[0] in one:
            file[FULL_SKY[1]] = one[FULL_SKY[0]].values
        file.flush()
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)
    return path


def _write_parameters(file: h5py.File, one: xr.Dataset, zs: float, about: dict[str, Any]) -> None:
    group = file.create_group(PARAMETERS)
    edges = one["l_edges"].values
    size, pixels = _whole(about["patch_size_deg"]), int(about["xsize"])
    group.attrs.update(
        {
            "creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "epsilon": float(about["epsilon"]),
            "lmax": _whole(edges[-1]),
            "lmin": _whole(edges[0]),
            "nbin": edges.size - 1,
            "patch_size_deg": size,
            "pixarea_arcmin2": (60 * float(size) / pixels) ** 2,
            "xsize": pixels,
            "zs": zs,
            "version": version("lensflow"),
            **{name: value for name, value in about.items() if name not in {"patch_size_deg", "xsize", "epsilon"}},
        }
    )
    group["bins"] = one["nu_edges"].values.astype("<f8")
    group["nu"] = one["nu"].values.astype("<f8")
    group["l_edges"] = edges.astype("<f8")
    group["ell"] = one["ell"].values.astype("<f8")
    group["ngal_list"] = _whole_numbers(one["ngal"].values)
    if "smoothing" in one.dims:
        group["sl_list"] = _whole_numbers(one["smoothing"].values)
    for name in ("n_modes", "n_triangles"):
        if name in one.coords:
            group[name] = one[name].values


def _write_patches(file: h5py.File, one: xr.Dataset) -> None:
    group = file.create_group(PATCHES)
    for name in PER_PATCH:
        if name in one.variables:
            values = one[name].values
            group[name] = values.astype("u1") if values.dtype == bool else values
            group[name].attrs.update({key: value for key, value in one[name].attrs.items() if key == "units"})


def _write_entry(file: h5py.File, one: xr.Dataset, entry: Entry) -> None:
    variable = one[entry.variable]
    if entry.config is not None:
        variable = variable.sel(config=entry.config)
    factor = spectral_factor(entry.variable, one["ell"].values)
    for path, cell in _cells(variable, entry):
        values = cell.transpose("patch", *entry.dims).values
        group = file.create_dataset(path, data=(values * factor).astype(entry.stored))
        if entry.variable in UNITS:
            group.attrs["units"] = UNITS[entry.variable]
        if entry.variable == "bispectrum":
            group.attrs["signed"] = int(variable.attrs.get("signed", 1))  # LensingSSC: 0, absolute values
        if entry.variable == "v0":
            group.attrs["threshold"] = variable.attrs.get("threshold", "midpoint")  # LensingSSC: "lower edge"


def _cells(variable: xr.DataArray, entry: Entry) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield path and values for each number density and smoothing."""
    for i, ngal in enumerate(variable["ngal"].values):
        if not entry.smoothed:
            yield entry.path.format(ngal=number(ngal)), variable.isel(ngal=i)
            continue
        for k, length in enumerate(variable["smoothing"].values):
            path = entry.path.format(ngal=number(ngal), smoothing=number(length))
            yield path, variable.isel(ngal=i, smoothing=k)


def _whole(value: float) -> int | float:
    """Return a number as the type that LensingSSC gives it: an integer where it is one."""
    rounded = round(float(value), 9)  # ends of logarithmic edges are a last digit off
    return int(rounded) if rounded.is_integer() else float(value)


def _whole_numbers(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    whole = bool(np.all(values == np.round(values)))
    return values.astype("<i8" if whole else "<f8")
