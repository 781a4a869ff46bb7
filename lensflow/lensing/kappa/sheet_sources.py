"""Mass sheets to be summed along the line of sight: a store of mass_sheets, or a folder of FITS files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from lensflow.arrays.healpix_fits import open_healpix
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.cosmology import Cosmology
from lensflow.lensing.sheets.sheet_export import SHEETS, open_store
from lensflow.lensing.sheets.sheet_outputs import PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lensflow.arrays.columns import Pixels

NAME = re.compile(r"delta-sheet-(\d+)\.fits")
DATA = "delta"
# attribute of a store, card of a file
RUN = {
    "OmegaM": "OMEGA_M",
    "OmegaLambda": "OMEGA_L",
    "HubbleParam": "H",
    "BoxSize": "BOXSIZE",
    "NC": "NC",
    "seed": "SEED",
    "nslices": "NSLICES",
    "rhobar": "RHOBAR",
    "source_digest": "SRCHASH",
}


@dataclass(frozen=True)
class StoredSheet:
    """A sheet in a Zarr store: the array, and its row.

    Parameters
    ----------
    path, place
        Where.
    """

    path: str
    place: int

    def read(self, start: int, stop: int) -> NDArray[np.floating]:
        """Return a run of pixels."""
        values: NDArray[np.floating] = _array(self.path)[self.place, start:stop]  # type: ignore[assignment]
        return values


@lru_cache(maxsize=4)
def _array(path: str) -> zarr.Array[Any]:
    return zarr.open_array(path, mode="r")


@dataclass(frozen=True)
class Sheets:
    """Sheets that can be read.

    Parameters
    ----------
    path
        Where they are.
    readers
        What reads each, by its number; those that are quarantined are not there.
    quarantined
        The numbers of these.
    edges
        The nslices + 1 edges of the slices in scale factor.
    nside, chunk
        Resolution, and pixels read at a time.
    cosmology
        The background.
    attrs
        Of the simulation.
    """

    path: Path
    readers: dict[int, StoredSheet | Pixels]
    quarantined: tuple[int, ...]
    edges: NDArray[np.float64]
    nside: int
    chunk: int
    cosmology: Cosmology
    attrs: dict[str, Any]


def open_sheets(
    path: Path, *, cosmology: tuple[float, float, float] | None = None, nslices: int | None = None
) -> Sheets:
    """Open a store of mass_sheets, or a folder of files ``delta-sheet-{i}.fits``.

    Parameters
    ----------
    path
        Which.
    cosmology, nslices
        OmegaM, OmegaLambda, h, and the number of slices: of files that do not say.

    Raises
    ------
    BadInput
        If there are none, or they are of different simulations.
    BadOption
        If files do not say what cosmology they are of, and no option does.
    """
    path = Path(path)
    if (path / "zarr.json").is_file():
        return _from_store(path)
    files = sorted(one for one in path.glob("delta-sheet-*.fits") if NAME.fullmatch(one.name))
    if not files:
        raise BadInput(f"{path}: found neither a Zarr store nor files delta-sheet-NN.fits, expected mass sheets")
    return _from_files(path, files, cosmology, nslices)


def _from_store(path: Path) -> Sheets:
    with open_store(path, SHEETS) as dataset:
        attrs = dataset.attrs
        numbers = dataset["sheet"].values.tolist()
        spoilt = {one for one, status in zip(numbers, dataset["status"].values, strict=True) if status} | _doubtful(
            path
        )
        edges = np.linspace(0, 1, attrs["nslices"] + 1)  # of sheets that are absent; the others say theirs
        edges[numbers], edges[np.array(numbers) + 1] = dataset["a_min"].values, dataset["a_max"].values
        readers = {n: StoredSheet(str(path / DATA), i) for i, n in enumerate(numbers) if n not in spoilt}
        return Sheets(
            path=path,
            readers=dict(readers),
            quarantined=tuple(sorted(spoilt & set(numbers))),
            edges=edges,
            nside=attrs["nside"],
            chunk=dataset["delta"].encoding["chunks"][1],
            cosmology=Cosmology(attrs["OmegaM"], attrs["OmegaLambda"], attrs["HubbleParam"]),
            attrs={name: attrs[name] for name in RUN if name in attrs},
        )


def _doubtful(path: Path) -> set[int]:
    """Return the sheets that have rows of parts which were not verified."""
    if not (path / PARTS).is_dir():
        return set()
    with xr.open_dataset(path, group=PARTS, engine="zarr", chunks=None, consolidated=False) as parts:
        bad = parts.isel(part=parts["verified"].values == 0)
        spans = zip(bad["first_sheet"].values.tolist(), bad["last_sheet"].values.tolist(), strict=True)
        return {sheet for first, last in spans for sheet in range(first, last + 1)}


def _from_files(
    path: Path, files: Sequence[Path], cosmology: tuple[float, float, float] | None, nslices: int | None
) -> Sheets:
    opened = {int(NAME.fullmatch(one.name)[1]): open_healpix(one) for one in files}  # type: ignore[index]
    first = next(iter(opened.values()))
    for number, one in opened.items():
        if (one.ordering or "NESTED") != "NESTED":
            raise BadInput(f"{one.pixels.path}: ORDERING: found {one.ordering}, expected NESTED; reorder the file")
        for key in ("NSIDE", *RUN.values()):
            if one.header.get(key) != first.header.get(key):
                raise BadInput(
                    f"{one.pixels.path}: {key}: found {one.header.get(key)!r} in sheet {number}, expected "
                    f"{first.header.get(key)!r} as in {first.pixels.path.name}; keep simulations apart"
                )
    cards = first.header
    nslices = cards.get("NSLICES", nslices)
    given = cosmology or tuple(cards[key] for key in ("OMEGA_M", "OMEGA_L", "H") if key in cards)
    if nslices is None or len(given) != 3:
        raise BadOption(f"{path}: its files do not state cosmology and nslices: give both options")
    edges = np.linspace(0, 1, nslices + 1)
    for number, one in opened.items():
        if not 0 <= number < nslices:
            raise BadInput(f"{one.pixels.path}: found sheet {number}, expected less than {nslices} as nslices says")
        edges[number], edges[number + 1] = (
            one.header.get("A_MIN", edges[number]),
            one.header.get("A_MAX", edges[number + 1]),
        )
    attrs = {name: cards[key] for name, key in RUN.items() if key in cards}
    attrs |= dict(zip(("OmegaM", "OmegaLambda", "HubbleParam"), given, strict=True)) | {"nslices": nslices}
    attrs.setdefault("source_digest", hashlib.sha256("".join(one.name for one in files).encode()).hexdigest())
    return Sheets(
        path=path,
        readers={number: one.pixels for number, one in opened.items()},
        quarantined=(),
        edges=edges,
        nside=first.nside,
        chunk=min(12 * first.nside**2, first.values.chunks[0][0]),
        cosmology=Cosmology(*given),
        attrs=attrs,
    )
