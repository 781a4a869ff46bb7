"""Mass sheets and convergence maps as HEALPix FITS files; a file that is there and sound is kept."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from lensflow.arrays.headers import BLOCK
from lensflow.arrays.healpix_fits import check_healpix, open_healpix, write_healpix
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

SHEETS, MAPS = "mass_sheets/1", "kappa_maps/1"  # schemas
CREATOR = f"lensflow {version('lensflow')}"


def export(store: Path, out: Path, *, sheets: tuple[int, ...] = ()) -> list[Path]:
    """Write mass sheets as ``delta-sheet-{i:02d}.fits``, one column DELTA, NESTED.

    A file that is already there is kept if it was made of the same and its pixels are sound, else written anew.

    Parameters
    ----------
    store
        The Zarr store of a run of mass_sheets.
    out
        Folder to write.
    sheets
        Which; all that are not quarantined by default.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    BadInput
        If the store is not such a one, or lacks a sheet.
    """
    with open_store(store, SHEETS) as dataset:
        held = dataset["sheet"].values.tolist()
        good = [sheet for sheet, status in zip(held, dataset["status"].values, strict=True) if status == 0]
        absent = [sheet for sheet in sheets if sheet not in good]
        if absent:
            raise BadInput(f"{store}: found no good sheet {absent[0]}, only {len(good)} of {len(held)} are")
        return [_sheet(dataset, held.index(sheet), Path(out)) for sheet in sheets or good]


def export_kappa(store: Path, out: Path, *, zs: tuple[float, ...] = ()) -> list[Path]:
    """Write convergence maps as ``kappa_zs{zs}_s{seed}.fits``, one column KAPPA, NESTED.

    A file that is already there is kept if it was made of the same and its pixels are sound, else written anew.

    Parameters
    ----------
    store
        The Zarr store of a run of kappa_maps.
    out
        Folder to write.
    zs
        Which redshifts of sources; all by default.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    BadInput
        If the store is not such a one, or lacks a redshift.
    """
    with open_store(store, MAPS) as dataset:
        held = dataset["zs"].values.tolist()
        absent = [one for one in zs if one not in held]
        if absent:
            raise BadInput(
                f"{store}: found no map of zs {absent[0]:g}, only of {', '.join(f'{one:g}' for one in held)}"
            )
        return [_map(dataset, held.index(one), Path(out)) for one in zs or held]


def open_store(store: Path, schema: str) -> xr.Dataset:
    """Open the root of the store of a run, without reading its pixels.

    Raises
    ------
    BadInput
        If it is not a store of that schema.
    """
    if not (Path(store) / "zarr.json").is_file():
        raise BadInput(f"{store}: found no Zarr store, expected the output of a run of {schema.partition('/')[0]}")
    dataset = xr.open_dataset(store, engine="zarr", chunks=None, consolidated=False, decode_timedelta=False)
    if dataset.attrs.get("schema") != schema:
        found = dataset.attrs.get("schema")
        dataset.close()
        raise BadInput(f"{store}: schema: found {found!r}, expected {schema}; give the output of such a run")
    return dataset


def _sheet(dataset: xr.Dataset, place: int, out: Path) -> Path:
    one = dataset.isel(sheet=place)
    keys = {
        "SHEET": int(one["sheet"]),
        "NSLICES": dataset.attrs["nslices"],
        "A_MIN": float(one["a_min"]),
        "A_MAX": float(one["a_max"]),
        "Z": float(one["z"]),
        "CHI_MIN": (float(one["chi_min"]), "Mpc/h"),
        "CHI_MAX": (float(one["chi_max"]), "Mpc/h"),
        "RHOBAR": (dataset.attrs["rhobar"], "1e10 Msun/h / (Mpc/h)^3"),
        "MASSSUM": (float(one["mass_sum"]), "1e10 Msun/h"),
        "NROWS": int(one["n_rows"]),
        **_common(dataset),
    }
    return _write(out / f"delta-sheet-{keys['SHEET']:02d}.fits", "DELTA", one["delta"].variable, dataset, keys)


def _map(dataset: xr.Dataset, place: int, out: Path) -> Path:
    one = dataset.isel(zs=place)
    used = dataset["sheet"].values[one["weights"].values > 0]
    zs, seed = float(one["zs"]), dataset.attrs.get("seed")
    keys = {
        "ZS": zs,
        "CHI_S": (float(one["chi_s"]), "Mpc/h"),
        "WEIGHT": dataset.attrs["weight"],
        "SHEET0": (int(used.min()), "first sheet in the sum"),
        "SHEET1": (int(used.max()), "last sheet in the sum"),
        "BORN": True,
        **_common(dataset),
    }
    name = f"kappa_zs{zs:.12g}" if zs % 1 else f"kappa_zs{zs:.1f}"
    path = out / (f"{name}_s{seed}.fits" if seed is not None else f"{name}.fits")
    return _write(path, "KAPPA", one["kappa"].variable, dataset, keys)


def _common(dataset: xr.Dataset) -> dict[str, Any]:
    """Return the cards on the simulation."""
    attrs = dataset.attrs
    seed = {"SEED": attrs["seed"]} if attrs.get("seed") is not None else {}
    return {
        "OMEGA_M": attrs["OmegaM"],
        "OMEGA_L": attrs["OmegaLambda"],
        "H": attrs["HubbleParam"],
        "BOXSIZE": (attrs["BoxSize"], "Mpc/h"),
        "NC": attrs["NC"],
        **seed,
        "SRCHASH": attrs["source_digest"],
    }


def _write(path: Path, column: str, values: xr.Variable, dataset: xr.Dataset, keys: dict[str, Any]) -> Path:
    """Write a map, unless a sound one of the same is there."""
    text = json.dumps([keys, dataset.attrs["options"], dataset.attrs["nside"], CREATOR], sort_keys=True)
    keys |= {"CFGHASH": hashlib.sha256(text.encode()).hexdigest(), "CREATOR": CREATOR}
    if not _is_sound(path, keys):
        chunk = values.encoding.get("preferred_chunks", {}).get("pixel", len(values))
        write_healpix(
            path, _runs(values, chunk), column=column, nside=dataset.attrs["nside"], ordering="NESTED", keys=keys
        )
    return path


def _runs(values: xr.Variable, length: int) -> Iterator[NDArray[np.floating]]:
    """Yield the pixels by stored chunks: each is read once, and one is held at a time."""
    for start in range(0, len(values), length):
        yield values[start : start + length].values


def _is_sound(path: Path, keys: Mapping[str, Any]) -> bool:
    """Whether a file is complete, undamaged, and made of the same with the same options."""
    if not path.is_file():
        return False
    try:
        found = open_healpix(path)
        check_healpix(path)
    except BadInput:  # what something else has left there
        return False
    ends = found.pixels.place.data + found.pixels.count * found.values.dtype.itemsize
    whole = path.stat().st_size == -(-ends // BLOCK) * BLOCK
    return whole and found.header.get("CFGHASH") == keys["CFGHASH"] and "DATASUM" in found.header
