"""HEALPix maps in FITS tables: written as a stream, read lazily by runs of pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import dask.array as da
import numpy as np
from astropy.io import fits
from dask.base import tokenize

from lensflow.arrays.checksum import ALL_ONES, check_sums
from lensflow.arrays.columns import FORMS, Pixels, find_column
from lensflow.arrays.headers import BLOCK, read_units, whole_number
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from astropy.io.fits import Header
    from numpy.typing import NDArray

from lensflow.arrays.headers import Unit

CHUNK = 4**11  # px read by a task
ROW = 1024  # px in a row of the table, as healpy writes it
PARTIAL = ".partial"  # ends the name of what is not complete
LARGEST = 1 << 29  # nside, the largest whose pixel numbers fit 64 bits
ORDERINGS = {"RING": "RING", "NEST": "NESTED", "NESTED": "NESTED"}
WRITTEN = {"f4": "E", "f8": "D"}


@dataclass(frozen=True)
class HealpixFile:
    """A map in a FITS file.

    Parameters
    ----------
    values
        The pixels (npix,) f4 or f8, in the order of the file, lazy, in chunks of 4^11.
    nside
        Of the map.
    ordering
        RING or NESTED as the header says, which may be wrong; empty where it says nothing.
    header
        The cards of the table.
    pixels
        The same values, for reading runs of them in a task.
    """

    values: da.Array
    nside: int
    ordering: str
    header: dict[str, Any]
    pixels: Pixels


def open_healpix(path: str | Path, *, column: int | str = 0) -> HealpixFile:
    """Open a full-sky HEALPix map in the first table of a FITS file, without reading its pixels.

    Parameters
    ----------
    path
        The file.
    column
        Number or name of the column.

    Raises
    ------
    BadInput
        If it is truncated, no HEALPix map of the full sky, or its NSIDE and its length disagree.
    """
    path = Path(path)
    unit = _table(path)
    header = unit.header
    nside = _nside(header, path)
    pixels = Pixels(path, 12 * nside**2, find_column(unit, column, path))
    rows, repeat = whole_number(header, "NAXIS2", path, least=1, most=1 << 62), pixels.place.repeat
    if rows * repeat != pixels.count:
        raise BadInput(
            f"{path}: NSIDE: found {nside}, that is {pixels.count} pixels, and a table of {rows * repeat}; "
            "expected both to agree: is it a map of the full sky?"
        )
    ordering = ORDERINGS.get(str(header.get("ORDERING", "")).strip().upper(), "")
    cards = {key: value for key, value in header.items() if key not in {"COMMENT", "HISTORY", ""}}
    return HealpixFile(_lazy(pixels), nside, ordering, cards, pixels)


def check_healpix(path: str | Path) -> None:
    """Hold the pixels of a map against the DATASUM of its header, if there is one.

    Raises
    ------
    BadInput
        If they differ, or the file is no map.
    """
    check_sums(Path(path), _table(Path(path)))


def _table(path: Path) -> Unit:
    for unit in read_units(path):
        if unit.index and str(unit.header.get("XTENSION", "")).strip() == "BINTABLE":
            return unit
    raise BadInput(f"{path}: found no binary table, expected a HEALPix map")


def _nside(header: Header, path: Path) -> int:
    kind = str(header.get("PIXTYPE", "HEALPIX")).strip().upper()
    if kind != "HEALPIX" or "NSIDE" not in header:
        found = f"PIXTYPE {kind}" if kind != "HEALPIX" else "no NSIDE"
        raise BadInput(f"{path}: found {found}, expected the header of a HEALPix map; is it one?")
    if str(header.get("INDXSCHM", "IMPLICIT")).strip().upper() != "IMPLICIT":
        raise BadInput(f"{path}: INDXSCHM: found {header['INDXSCHM']!r}, expected IMPLICIT, a map of the full sky")
    return whole_number(header, "NSIDE", path, least=1, most=LARGEST)


def _lazy(pixels: Pixels) -> da.Array:
    stat, wanted = pixels.path.stat(), pixels.place.wanted
    lengths = tuple(min(CHUNK, pixels.count - start) for start in range(0, pixels.count, CHUNK))
    return da.map_blocks(
        partial(_read, pixels),
        chunks=(lengths,),
        dtype=wanted,
        meta=np.empty(0, wanted),
        name=f"read-healpix-{tokenize(str(pixels.path), stat.st_size, stat.st_mtime_ns, pixels.place)}",
    )


def _read(pixels: Pixels, *, block_id: tuple[int]) -> NDArray[np.floating]:
    return pixels.read(block_id[0] * CHUNK, (block_id[0] + 1) * CHUNK)


def write_healpix(
    path: str | Path,
    chunks: Iterable[NDArray[np.floating]],
    *,
    column: str,
    nside: int,
    ordering: str,
    keys: Mapping[str, Any],
) -> Path:
    """Write a full-sky map as one column of a FITS table, as a stream; it has its name when it is complete.

    Parameters
    ----------
    path
        The file; replaced if there is one.
    chunks
        Runs of pixels, f4 or f8, in order.
    column
        Name of the column.
    nside
        Of the map.
    ordering
        RING or NESTED.
    keys
        Further cards: values, or values with comments.

    Raises
    ------
    BadInput
        If there are not 12 nside^2 pixels.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + PARTIAL)
    runs = iter(chunks)
    first = np.asarray(next(runs, np.empty(0, np.float32)))
    kind = "f8" if first.dtype == np.float64 else "f4"
    header = _header(column, nside, ORDERINGS[ordering], WRITTEN[kind], keys)
    with unfinished.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        start = file.tell()
        file.write(header.tostring().encode("ascii"))
        count, total = _stream(file, chain([first], runs), f">{kind}", most=12 * nside**2)
        if count != 12 * nside**2:
            raise BadInput(f"{path}: found {count} pixels so far, expected {12 * nside**2} for nside {nside}")
        file.write(b"\0" * (-file.tell() % BLOCK))
        header["DATASUM"] = str(total)
        file.seek(start)  # the header is as long as it was: every card has 80 bytes
        file.write(header.tostring().encode("ascii"))
        file.flush()
        os.fsync(file.fileno())
    return unfinished.replace(path)


def _header(column: str, nside: int, ordering: str, letter: str, keys: Mapping[str, Any]) -> Header:
    """Return the header of the table, with the cards that healpy writes."""
    pixels = 12 * nside**2
    repeat = ROW if pixels % ROW == 0 else 1
    made = fits.Header([("XTENSION", "BINTABLE", "binary table extension"), ("BITPIX", 8), ("NAXIS", 2)])
    made["NAXIS1"] = repeat * np.dtype(FORMS[letter][0]).itemsize
    made["NAXIS2"] = pixels // repeat
    made.update({"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": 1, "TTYPE1": column, "TFORM1": f"{repeat}{letter}"})
    made["PIXTYPE"] = ("HEALPIX", "HEALPIX pixelisation")
    made["ORDERING"] = (ordering, "pixel ordering scheme, RING or NESTED")
    made["NSIDE"] = (nside, "resolution parameter")
    made["FIRSTPIX"], made["LASTPIX"] = 0, pixels - 1
    made["INDXSCHM"], made["OBJECT"] = ("IMPLICIT", "indexing: IMPLICIT or EXPLICIT"), "FULLSKY"
    made.update(keys)
    made["DATASUM"] = ("0", "ones-complement sum of the pixels")
    return made


def _stream(file: BinaryIO, runs: Iterable[NDArray[np.floating]], kind: str, *, most: int) -> tuple[int, int]:
    """Write runs of pixels; return how many, ending where they are too many, and their ones'-complement sum."""
    count = total = 0
    for run in runs:
        stored = np.ascontiguousarray(run, dtype=kind)
        count += stored.size
        if count > most:
            break
        total += int(stored.view(">u4").sum(dtype=np.uint64))
        file.write(stored.data)
    while total >> 32:
        total = (total & ALL_ONES) + (total >> 32)
    return count, total
