"""HEALPix maps in FITS tables: written as a stream, read lazily by runs of pixels."""

from __future__ import annotations

import os
import re
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
from lensflow.arrays.headers import BLOCK, open_file, read_units, whole_number
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
# letter of TFORM -> type in the file, type in memory
FORMS = {
    "E": (">f4", "f4"),
    "D": (">f8", "f8"),
    "B": ("u1", "f4"),
    "I": (">i2", "f4"),
    "J": (">i4", "f8"),
    "K": (">i8", "f8"),
}
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
    """

    values: da.Array
    nside: int
    ordering: str
    header: dict[str, Any]


@dataclass(frozen=True)
class _Place:
    """Where the pixels of one column lie: row ``r`` holds ``repeat`` of them, ``offset`` bytes after its start."""

    data: int
    width: int
    offset: int
    repeat: int
    stored: str
    wanted: str
    scale: float
    zero: float


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
    place = _place(unit, column, path)
    rows = whole_number(header, "NAXIS2", path, least=1, most=1 << 62)
    if rows * place.repeat != 12 * nside**2:
        raise BadInput(
            f"{path}: NSIDE: found {nside}, that is {12 * nside**2} pixels, and a table of {rows * place.repeat}; "
            "expected both to agree: is it a map of the full sky?"
        )
    ordering = ORDERINGS.get(str(header.get("ORDERING", "")).strip().upper(), "")
    cards = {key: value for key, value in header.items() if key not in {"COMMENT", "HISTORY", ""}}
    return HealpixFile(_lazy(path, place, 12 * nside**2), nside, ordering, cards)


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
        if str(unit.header.get("XTENSION", "")).strip() == "BINTABLE":
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


def _place(unit: Unit, column: int | str, path: Path) -> _Place:
    header = unit.header
    count = whole_number(header, "TFIELDS", path, least=1, most=999)
    names = [str(header.get(f"TTYPE{number}", "")).strip() for number in range(1, count + 1)]
    if isinstance(column, str):
        if column not in names:
            raise BadInput(f"{path}: found the columns {', '.join(names)}, expected {column}")
        column = names.index(column)
    if not 0 <= column < count:
        raise BadInput(f"{path}: found {count} columns, expected one with the number {column}")
    offset = 0
    for number in range(1, column + 2):
        form = str(header.get(f"TFORM{number}", "")).strip()
        match = re.fullmatch(r"(\d*)([BIJKED])", form)
        if match is None:
            raise BadInput(f"{path}: TFORM{number}: found {form!r}, expected numbers such as 1024E")
        repeat, (stored, wanted) = int(match[1] or 1), FORMS[match[2]]
        size = repeat * np.dtype(stored).itemsize
        offset += size
    width = whole_number(header, "NAXIS1", path, least=1, most=1 << 31)
    if repeat < 1 or offset > width:
        raise BadInput(f"{path}: NAXIS1: found {width} bytes, expected {offset} or more, as TFORM says")
    scale, zero = (float(header.get(f"{key}{column + 1}", value)) for key, value in (("TSCAL", 1), ("TZERO", 0)))
    return _Place(unit.data, width, offset - size, repeat, stored, wanted, scale, zero)


def _lazy(path: Path, place: _Place, pixels: int) -> da.Array:
    stat = path.stat()
    lengths = tuple(min(CHUNK, pixels - start) for start in range(0, pixels, CHUNK))
    return da.map_blocks(
        partial(_read, path, place, pixels),
        chunks=(lengths,),
        dtype=place.wanted,
        meta=np.empty(0, place.wanted),
        name=f"read-healpix-{tokenize(str(path), stat.st_size, stat.st_mtime_ns, place)}",
    )


def _read(path: Path, place: _Place, pixels: int, *, block_id: tuple[int]) -> NDArray[np.floating]:
    start = block_id[0] * CHUNK
    stop = min(start + CHUNK, pixels)
    first, last = start // place.repeat, -(-stop // place.repeat)
    with open_file(path) as file:
        file.seek(place.data + first * place.width)
        content = file.read((last - first) * place.width)
    if len(content) < (last - first) * place.width:
        raise BadInput(f"{path}: the file became shorter while it was read; fetch it again")
    shape, strides = (last - first, place.repeat), (place.width, np.dtype(place.stored).itemsize)
    whole = np.ndarray(shape, place.stored, content, place.offset, strides)
    values = whole.astype(place.wanted).reshape(-1)[start - first * place.repeat :][: stop - start]
    if (place.scale, place.zero) != (1, 0):
        values = (values * place.scale + place.zero).astype(place.wanted)
    return values


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
