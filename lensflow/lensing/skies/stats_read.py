"""Statistics of patches from HDF5 files: ours, and those that LensingSSC published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xarray as xr

from lensflow.errors import BadInput
from lensflow.lensing.patches.patches import centres, replicated
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
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

NAME = re.compile(r"stats_zs(?P<zs>[\d.]+)_s(?P<seed>\d+)_oa[\d.]+\.h5")


def read_stats_hdf5(path: str | Path, *, box: str | None = None) -> xr.Dataset:
    """Read a file of statistics as the dataset it was exported from, dims (zs, ngal, [smoothing, config,] patch, bin).

    Of published files v1, v2 and sigma1 are turned from pixels of the map in units of sigma0 to arcmin, and the
    positions of the patches are added. What cannot be undone is said in attributes: bispectra are absolute values
    (``signed`` 0), v0 is taken at the lower edges of bins (``threshold``).

    Parameters
    ----------
    path
        The file.
    box
        Name of the simulations it belongs to; what the file says, else the name of its folder.

    Raises
    ------
    BadInput
        If it is no HDF5 file, or datasets are missing or have other shapes than its parameters say.
    """
    path = Path(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise BadInput(f"{path}: found no readable HDF5 file ({error}), expected statistics of patches") from error
    with file:
        about, coords = _parameters(file, path)
        published = "version" not in about
        dataset = xr.Dataset(coords=coords, attrs=_attributes(about, path, box))
        for name, variable in _variables(file, path, coords, published=published):
            dataset[name] = variable
        if FULL_SKY[1] in file:
            dataset[FULL_SKY[0]] = (("zs", "multipole"), file[FULL_SKY[1]][:][None])
        return dataset.assign_coords(_patches(file, about)).assign(_validity(file))


def _parameters(file: h5py.File, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes and the coordinates but those of patches."""
    if PARAMETERS not in file:
        raise BadInput(f"{path}: found no {PARAMETERS}, expected it in statistics of patches; is it such a file?")
    group = file[PARAMETERS]
    about = {name: _plain(value) for name, value in group.attrs.items()}
    named = NAME.fullmatch(path.name)
    for name, kind in (("zs", float), ("seed", int)):
        if name not in about and named is None:
            raise BadInput(
                f"{path}: found no {name}, neither inside nor in its name, expected stats_zs1.0_s100_oa10.h5"
            )
        about[name] = kind(about[name] if name in about else named[name])  # type: ignore[index]
    wanted = ("bins", "nu", "l_edges", "ell", "ngal_list")
    missing = [name for name in wanted if name not in group]
    missing += [name for name in ("patch_size_deg", "xsize", "epsilon") if name not in about]
    if missing:
        raise BadInput(f"{path}: {PARAMETERS}: found no {', '.join(missing)}; expected them in every such file")
    coords: dict[str, Any] = {
        "zs": ("zs", [about["zs"]]),
        "ngal": ("ngal", group["ngal_list"][:].astype(np.float64)),
        "ell": ("ell_bin", group["ell"][:]),
        "l_edges": ("ell_edge", group["l_edges"][:]),
        "nu": ("nu_bin", group["nu"][:]),
        "nu_edges": ("nu_edge", group["bins"][:]),
    }
    if "sl_list" in group:
        coords["smoothing"] = ("smoothing", group["sl_list"][:].astype(np.float64), {"units": "arcmin"})
    for name, dims in (("n_modes", ("ell_bin",)), ("n_triangles", ("config", "ell_bin"))):
        if name in group:
            coords[name] = (dims, group[name][:])
    return about, coords


def _attributes(about: dict[str, Any], path: Path, box: str | None) -> dict[str, Any]:
    options = json.loads(about.get("options", "{}"))
    options |= {name: about[name] for name in ("patch_size_deg", "xsize", "epsilon")}
    return {
        "schema": SCHEMA,
        "seed": about["seed"],
        "box": box or about.get("box") or path.resolve().parent.name,
        "realisation": int(about.get("realisation", 0)),
        "epsilon": float(about["epsilon"]),
        "options": json.dumps(options, sort_keys=True),
        "source": str(path),
        "published": int("version" not in about),
    }


def _variables(
    file: h5py.File, path: Path, coords: dict[str, Any], *, published: bool
) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield the variables that the file holds."""
    held: dict[str, list[Entry]] = {}
    for entry in ENTRIES:
        if next(_paths(entry, coords), "") in file:
            held.setdefault(entry.variable, []).append(entry)
    ell = np.asarray(coords["ell"][1])
    attrs = dict(file[PARAMETERS].attrs)
    pixel = 60 * float(attrs["patch_size_deg"]) / float(attrs["xsize"])  # arcmin
    for name, entries in held.items():
        parts = [_stacked(file, path, entry, coords) / spectral_factor(name, ell) for entry in entries]
        if published and name in {"v1", "sigma1"}:
            parts = [part / pixel for part in parts]
        elif published and name == "v2":
            parts = [part / pixel**2 for part in parts]
        if published and name == "sigma1":  # of kappa / sigma0
            (sigma0,) = (_stacked(file, path, one, coords) for one in held["sigma0"])
            parts = [parts[0] * sigma0]
        yield name, _variable(entries, parts, file[next(_paths(entries[0], coords))].attrs)


def _variable(entries: list[Entry], parts: list[NDArray[np.float64]], said: Mapping[str, Any]) -> xr.DataArray:
    entry = entries[0]
    levels = ("ngal", "smoothing") if entry.smoothed else ("ngal",)
    attrs = {"threshold": str(said.get("threshold", "lower edge"))} if entry.variable == "v0" else {}
    if entry.config is None:
        values = parts[0][None].astype("<i4" if entry.stored == "<i4" else "<f8")
        return xr.DataArray(values, dims=("zs", *levels, "patch", *entry.dims), attrs=attrs)
    return xr.DataArray(
        np.stack(parts, axis=1)[None],
        dims=("zs", *levels, "config", "patch", *entry.dims),
        coords={"config": [str(one.config) for one in entries]},
        attrs={"signed": int(said.get("signed", 0))},
    )


def _stacked(file: h5py.File, path: Path, entry: Entry, coords: dict[str, Any]) -> NDArray[np.float64]:
    """Return all number densities and smoothings of an entry: (ngal, [smoothing,] patch, bin)."""
    arrays = []
    for place in _paths(entry, coords):
        if place not in file:
            raise BadInput(
                f"{path}: found no {place}, expected it as {PARAMETERS} names its number density; fetch it again"
            )
        arrays.append(np.asarray(file[place][...], np.float64))
    shapes = {array.shape for array in arrays}
    bins = {"ell_bin": len(coords["ell"][1]), "nu_bin": len(coords["nu"][1])}
    expected = tuple(bins.get(dim, size) for dim, size in zip(entry.dims, arrays[0].shape[1:], strict=False))
    if len(shapes) > 1 or arrays[0].shape[1:] != expected:
        raise BadInput(
            f"{path}: {entry.path}: found shapes {sorted(shapes)}, expected (patches, {expected}) throughout"
        )
    stacked = np.stack(arrays)
    if not entry.smoothed:
        return stacked
    return stacked.reshape(len(coords["ngal"][1]), -1, *stacked.shape[1:])


def _paths(entry: Entry, coords: dict[str, Any]) -> Iterator[str]:
    lengths = coords["smoothing"][1] if entry.smoothed and "smoothing" in coords else [0.0]
    for ngal in coords["ngal"][1]:
        for length in lengths if entry.smoothed else [0.0]:
            yield entry.path.format(ngal=number(ngal), smoothing=number(length))


def _patches(file: h5py.File, about: dict[str, Any]) -> dict[str, Any]:
    """Return where the patches are: what the file says, else where LensingSSC cuts them; nothing for flat maps."""
    count = file[next(iter(_datasets(file)))].shape[0]
    found = {name: file[f"{PATCHES}/{name}"] for name in ("theta", "phi", "rip") if f"{PATCHES}/{name}" in file}
    if len(found) == 3:
        theta, phi, rip = (found[name][:] for name in ("theta", "phi", "rip"))
    elif "version" in about:
        return {}
    else:
        size = float(about["patch_size_deg"])
        positions = centres(size)
        rip = replicated(positions, size)
        theta, phi = np.degrees(positions.T)
        if theta.size != count:
            raise BadInput(f"{file.filename}: found {count} patches, expected {theta.size} of {size:g} deg")
    return {
        "theta": ("patch", theta, {"units": "deg"}),
        "phi": ("patch", phi, {"units": "deg"}),
        "rip": ("patch", np.asarray(rip, bool)),
    }


def _datasets(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return [name for name in found if not name.startswith(("metadata/", "full_sky/"))]


def _validity(file: h5py.File) -> dict[str, Any]:
    kept = [name for name in ("f_valid", "status") if f"{PATCHES}/{name}" in file]
    return {name: ("patch", file[f"{PATCHES}/{name}"][:]) for name in kept}


def _plain(value: Any) -> Any:  # noqa: ANN401 - what an HDF5 attribute may be
    return value.item() if isinstance(value, np.generic) else value
