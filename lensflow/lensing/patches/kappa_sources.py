"""What convergence there is: a store of kappa_maps, HEALPix files or flat images, and what is known of each."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from lensflow.arrays.headers import read_units
from lensflow.arrays.healpix_fits import open_healpix
from lensflow.errors import BadInput
from lensflow.lensing.patches.ordering import ORDERINGS, Ordering
from lensflow.lensing.patches.readers import fits_reader, zarr_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lensflow.lensing.patches.readers import PixelReader

SUFFIXES = (".fits", ".fit", ".fts")
ZS_IN_NAME, SEED_IN_NAME = re.compile(r"_zs(\d+(?:\.\d+)?)"), re.compile(r"_s(\d+)")
VARIABLE = "kappa"


@dataclass(frozen=True)
class KappaMap:
    """One map of convergence.

    Parameters
    ----------
    path
        Of the store or file.
    kind
        ``zarr`` and ``fits`` are HEALPix maps, ``flat`` is an image.
    zs
        Redshift of its sources; None where nothing says.
    ordering
        As the label of a HEALPix map says: ``NESTED``, ``RING`` or "".
    nside
        Of a HEALPix map, 0 for an image.
    row
        Index of the map in its store.
    seed
        Of the simulation; None where nothing says.
    attrs
        What else the store or the header says.
    """

    path: Path
    kind: Literal["zarr", "fits", "flat"]
    zs: float | None
    ordering: str = ""
    nside: int = 0
    row: int = 0
    seed: int | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @contextmanager
    def open(self) -> Iterator[PixelReader]:
        """Open a HEALPix map for reading."""
        if self.kind == "zarr":
            with zarr_reader(self.path, VARIABLE, (self.row,)) as chunks:
                yield chunks
        else:
            with fits_reader(self.path) as pages:
                yield pages

    def stored_in(self, wanted: str) -> Ordering:
        """Return the ordering to take the map for: the label's for ``header``, else ``wanted``.

        Raises
        ------
        BadInput
            If the label is to say it and does not.
        """
        found = self.ordering if wanted == "header" else wanted
        for one in ORDERINGS:
            if one == found:
                return one
        raise BadInput(f"{self.path}: ORDERING: found {found!r}, expected NESTED or RING; give --ordering")


def find_maps(source: Path) -> list[KappaMap]:
    """List the maps of a source, ordered by redshift, images by name.

    Parameters
    ----------
    source
        A Zarr store of kappa_maps, a FITS file, or a folder of FITS files of one kind.

    Raises
    ------
    BadInput
        If there is none, or files of both kinds, or one is not what it claims to be.
    """
    if (source / "zarr.json").is_file() or (source / ".zgroup").is_file():
        return _stored_maps(source)
    if not source.exists():
        raise BadInput(f"{source}: no such file or folder; expected a store of kappa_maps or FITS files")
    files = [source] if source.is_file() else sorted(one for one in source.iterdir() if one.suffix.lower() in SUFFIXES)
    if not files:
        raise BadInput(f"{source}: found no FITS file in it, expected maps of convergence")
    maps = [_file_map(one) for one in files]
    kinds = {one.kind for one in maps}
    if len(kinds) > 1:
        raise BadInput(f"{source}: found HEALPix maps and flat images in it; put them into folders of their own")
    if kinds == {"flat"}:
        return maps
    nsides = sorted({one.nside for one in maps})
    if len(nsides) > 1:
        raise BadInput(f"{source}: NSIDE: found {nsides}, expected one for all maps")
    return sorted(maps, key=lambda one: (one.zs is None, one.zs))


def _stored_maps(source: Path) -> list[KappaMap]:
    group = zarr.open_group(source, mode="r")
    if VARIABLE not in group or "zs" not in group:
        raise BadInput(f"{source}: found {', '.join(sorted(group.keys()))}; expected {VARIABLE} and zs, of kappa_maps")
    values, redshifts = group[VARIABLE], group["zs"]
    if not isinstance(values, zarr.Array) or not isinstance(redshifts, zarr.Array):
        raise BadInput(f"{source}: {VARIABLE}, zs: found groups, expected arrays")
    attrs: dict[str, Any] = dict(group.attrs)
    nside = int(attrs.get("nside", 0))
    rows = redshifts.shape[0]
    if values.shape != (rows, 12 * nside**2):
        raise BadInput(f"{source}: {VARIABLE}: found shape {values.shape}, expected {(rows, 12 * nside**2)} of nside")
    seed = attrs.get("seed")
    return [
        KappaMap(
            source,
            "zarr",
            float(zs),
            str(attrs.get("ordering", "")),
            nside,
            row,
            None if seed is None else int(seed),
            attrs,
        )
        for row, zs in enumerate(np.asarray(redshifts[:]).tolist())
    ]


def _file_map(path: Path) -> KappaMap:
    headers = [unit.header for unit in read_units(path)]
    if not any(str(header.get("XTENSION", "")).strip() == "BINTABLE" for header in headers):
        first = next((dict(header.items()) for header in headers if header.get("NAXIS", 0) == 2), None)
        if first is None:
            raise BadInput(f"{path}: found neither a table nor an image, expected a map of convergence")
        return KappaMap(path, "flat", _number(first, "ZS", ZS_IN_NAME, path), seed=_seed(first, path), attrs=first)
    found = open_healpix(path)
    zs, seed = _number(found.header, "ZS", ZS_IN_NAME, path), _seed(found.header, path)
    return KappaMap(path, "fits", zs, found.ordering, found.nside, 0, seed, found.header)


def _number(header: Mapping[str, Any], key: str, pattern: re.Pattern[str], path: Path) -> float | None:
    if key in header:
        return float(header[key])
    named = pattern.search(path.name)
    return float(named[1]) if named else None


def _seed(header: Mapping[str, Any], path: Path) -> int | None:
    found = _number(header, "SEED", SEED_IN_NAME, path)
    return None if found is None else int(found)


def digest(maps: list[KappaMap]) -> str:
    """Return a hash of what the maps are made of: names, sizes and labels of files, metadata of stores."""
    hashed = hashlib.sha256()
    for one in maps:
        size = (one.path / "zarr.json").read_bytes() if one.kind == "zarr" else str(one.path.stat().st_size).encode()
        hashed.update(f"{one.path.name}|{one.kind}|{one.zs}|{one.ordering}|{one.nside}|{one.row}|".encode())
        hashed.update(size)
    return hashed.hexdigest()
