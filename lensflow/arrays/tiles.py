"""Tile-compressed FITS images: the table of tiles is proved sound before a decoder sees it.

A decoder trusts what it is given, so the one of astropy is given a header that was written here, from values that
were checked, in front of the bytes of the file.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header

from lensflow.arrays.headers import BLOCK, is_systems_fault, whole_number
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lensflow.arrays.headers import Unit

ALGORITHMS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")  # of those for images; the rest are for others
QUANTIZERS = ("NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
FORMATS = {  # TFORM of the columns that hold tiles (length and offset in the heap), or a number for each of them
    "COMPRESSED_DATA": "1?[PQ]B",
    "GZIP_COMPRESSED_DATA": "1?[PQ]B",
    "UNCOMPRESSED_DATA": "1?[PQ][BIJED]",
    "ZSCALE": "1?D",
    "ZZERO": "1?D",
    "ZBLANK": "1?J",
}
ITEMSIZE = {"B": 1, "I": 2, "J": 4, "E": 4, "D": 8}
DESCRIPTORS = {"P": ">i4", "Q": ">i8"}
EMPTY = fits.PrimaryHDU().header.tostring()  # how a file begins whose image is in its first extension


class TiledImage:
    """A tile-compressed image, open for reading by rows.

    Parameters
    ----------
    file
        The open file; it stays the caller's.
    unit
        Where the table of the image lies in it.
    path
        Its name, for messages.

    Raises
    ------
    BadInput
        If the table contradicts itself, or tiles lie outside the file or on top of each other.
    """

    def __init__(self, file: BinaryIO, unit: Unit, path: Path) -> None:
        self.path, self._file = path, file
        self._header = _sound_header(unit, path)
        self._table = _read_table(file, unit, self._header, path)
        self._places = _check_tiles(self._table, unit, self._header, path)
        self._heap = unit.data + self._header.get("THEAP", self._header["NAXIS1"] * self._header["NAXIS2"])
        self._header.remove("THEAP", ignore_missing=True)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` as stored, shape (rows, columns).

        Each call costs as much as some thirty tiles on top of the tiles themselves: ask for many rows.

        Raises
        ------
        BadInput
            If they cannot be decoded.
        """
        height, tall = self._header["ZNAXIS2"], self._header["ZTILE2"]
        start, stop, _ = slice(start, stop).indices(height)
        first = min(start, height - 1) // tall
        last = -(-max(stop, first * tall + 1) // tall)  # one at least: it gives the type of no rows
        try:
            image = self._decode(first, last)
        except Exception as error:  # decoders raise what they like, in classes of their own
            if is_systems_fault(error):
                raise
            # without the rows: several tasks may meet the damage of one file, and their notes must be one
            raise BadInput(f"{self.path}: its pixels cannot be decoded ({error}); fetch the file again") from error
        return image[start - first * tall : max(start, stop) - first * tall]

    def _decode(self, first: int, last: int) -> NDArray[Any]:
        """Decode rows of tiles as an image of its own: only so does astropy read their bytes all at once."""
        header = self._header.copy()
        tall, across = header["ZTILE2"], -(-header["ZNAXIS1"] // header["ZTILE1"])
        tiles = slice(first * across, last * across)
        table, heap = self._cut(tiles)
        header["NAXIS2"], header["PCOUNT"] = len(table), len(heap)
        header["ZNAXIS2"] = min(last * tall, header["ZNAXIS2"]) - first * tall
        header["ZTILE2"] = min(tall, header["ZNAXIS2"])
        if "ZQUANTIZ" in header:  # noise to take off depends on a tile's place in the table, 10000 of them in turn
            header["ZDITHER0"] = (header.get("ZDITHER0", 0) + tiles.start - 1) % 10000 + 1
        head = (EMPTY + header.tostring()).encode("ascii")
        padding = bytes(-(table.nbytes + len(heap)) % BLOCK)
        window = b"".join((head, table.tobytes(), heap, padding))
        with fits.open(BytesIO(window), memmap=False, do_not_scale_image_data=True) as hdus:
            return np.asarray(hdus[1].section[:])  # half the time of .data

    def _cut(self, tiles: slice) -> tuple[NDArray[Any], bytes]:
        """Return rows of the table with the part of the heap that they point into."""
        table = self._table[tiles].copy()
        begins, stops = (ends[:, tiles] for ends in self._places)
        used = stops > begins
        start = int(begins[used].min())
        for name, begin, taken in zip(_columns(table), begins, used, strict=True):
            table[name][:, 1] = np.where(taken, begin - start, 0)
        self._file.seek(self._heap + start)
        return table, self._file.read(int(stops[used].max()) - start)


def _sound_header(unit: Unit, path: Path) -> Header:
    """Return a header with what the decoder needs and nothing else."""
    table = unit.header
    most = unit.size + 1
    header = Header([("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2)])
    for key, least in (("NAXIS1", 1), ("NAXIS2", 1), ("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", 1)):
        header[key] = whole_number(table, key, path, least=least, most=len(FORMATS) if key == "TFIELDS" else most)
    for i in range(1, header["TFIELDS"] + 1):
        header[f"TTYPE{i}"], header[f"TFORM{i}"] = _column(table, i, path)
    if "THEAP" in table:
        least = header["NAXIS1"] * header["NAXIS2"]
        header["THEAP"] = whole_number(table, "THEAP", path, least=least, most=unit.size)
    header["ZIMAGE"] = True
    for key in ("ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2"):
        header[key] = table[key]  # checked already
    for axis, default in ((1, header["ZNAXIS1"]), (2, 1)):  # rows, if nothing is said
        key = f"ZTILE{axis}"
        size = whole_number(table, key, path, least=1, most=header[f"ZNAXIS{axis}"]) if key in table else default
        header[key] = size
    header["ZCMPTYPE"] = _one_of(table, "ZCMPTYPE", ALGORITHMS, path)
    _take_parameters(header, table, path)
    return header


def _column(table: Header, number: int, path: Path) -> tuple[str, str]:
    name, form = str(table.get(f"TTYPE{number}", "")), str(table.get(f"TFORM{number}", ""))
    if not re.fullmatch(FORMATS.get(name, "no such column") + r"(\(\d+\))?", form):
        raise BadInput(
            f"{path}: TTYPE{number}, TFORM{number}: found {name!r}, {form!r}, expected a column of compressed tiles; "
            "fetch the file again"
        )
    return name, form.partition("(")[0]


def _one_of(table: Header, key: str, choices: tuple[str, ...], path: Path) -> str:
    found = table.get(key)
    if found not in choices:
        raise BadInput(f"{path}: {key}: found {found!r}, expected one of {', '.join(choices)}; fetch the file again")
    return str(found)


def _take_parameters(header: Header, table: Header, path: Path) -> None:
    """Take over what Rice's code and the quantiser of floats need."""
    numbers: dict[str, int] = {}
    for i in range(1, 10):
        name = str(table.get(f"ZNAME{i}", ""))
        if name in ("BLOCKSIZE", "BYTEPIX"):
            numbers[name] = whole_number(table, f"ZVAL{i}", path, least=1, most=32)
    quantised = any(header[f"TTYPE{i}"] == "ZSCALE" for i in range(1, header["TFIELDS"] + 1))
    width = 4 if quantised else abs(header["ZBITPIX"]) // 8
    if header["ZCMPTYPE"].startswith("RICE"):
        block, pixel = numbers.setdefault("BLOCKSIZE", 32), numbers.setdefault("BYTEPIX", 4)
        if block not in (16, 32) or pixel != width or width == 8:
            raise BadInput(
                f"{path}: BLOCKSIZE, BYTEPIX: found {block}, {pixel}, expected 16 or 32, and {width} for "
                f"ZBITPIX {header['ZBITPIX']}; fetch the file again"
            )
    for i, (name, number) in enumerate(numbers.items(), start=1):
        header[f"ZNAME{i}"], header[f"ZVAL{i}"] = name, number
    if quantised:
        header["ZQUANTIZ"] = _one_of(table, "ZQUANTIZ", QUANTIZERS, path) if "ZQUANTIZ" in table else "NO_DITHER"
        if "ZDITHER0" in table:
            header["ZDITHER0"] = whole_number(table, "ZDITHER0", path, least=0, most=10000)
        if "ZBLANK" in table:
            header["ZBLANK"] = whole_number(table, "ZBLANK", path, least=-(1 << 31), most=(1 << 31) - 1)


def _columns(table: NDArray[Any]) -> list[str]:
    """Return the columns that say where tiles lie in the heap: number of items, first byte."""
    return [name for name in table.dtype.names or () if table[name].ndim == 2]


def _check_tiles(
    table: NDArray[Any], unit: Unit, header: Header, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prove that every tile is stored once, inside the heap and apart from all others.

    Returns
    -------
    tuple
        First byte of each tile, and one past its last, by column and tile; equal where a column does not hold it.
    """
    count = 1
    for axis in (1, 2):
        count *= -(-header[f"ZNAXIS{axis}"] // header[f"ZTILE{axis}"])
    if count != header["NAXIS2"]:
        raise BadInput(f"{path}: NAXIS2: found {header['NAXIS2']} compressed tiles, expected {count}; fetch it again")
    heap = unit.size - header.get("THEAP", header["NAXIS1"] * header["NAXIS2"])
    sizes = {header[f"TTYPE{i}"]: ITEMSIZE[header[f"TFORM{i}"][-1]] for i in range(1, header["TFIELDS"] + 1)}
    columns = _columns(table)
    begins = np.stack([table[name][:, 1].astype(np.int64) for name in columns])
    lengths = np.stack([table[name][:, 0].astype(np.int64) * sizes[name] for name in columns])
    used = lengths != 0
    starts, stops = begins[used], begins[used] + lengths[used]
    order = np.argsort(starts, kind="stable")
    if (
        (used.sum(axis=0) != 1).any()
        or ((lengths < 0) | (lengths > heap) | (begins < 0) | (begins > heap))[used].any()
        or (stops > heap).any()
        or (starts[order][1:] < stops[order][:-1]).any()
    ):
        raise BadInput(
            f"{path}: COMPRESSED_DATA: found tiles outside the {heap} bytes of the heap, on top of each other or "
            "missing; fetch the file again"
        )
    return begins, begins + lengths


def _read_table(file: BinaryIO, unit: Unit, header: Header, path: Path) -> NDArray[Any]:
    fields: list[Any] = []
    for i in range(1, header["TFIELDS"] + 1):
        form = header[f"TFORM{i}"].lstrip("1")
        kind = {"D": ">f8", "J": ">i4"}.get(form)
        fields.append((header[f"TTYPE{i}"], kind) if kind else (header[f"TTYPE{i}"], DESCRIPTORS[form[0]], (2,)))
    names = [name for name, *_ in fields]
    if len(set(names)) < len(names) or "COMPRESSED_DATA" not in names or ("ZSCALE" in names) != ("ZZERO" in names):
        raise BadInput(f"{path}: TTYPE: found columns {names}, expected COMPRESSED_DATA among them; fetch it again")
    dtype = np.dtype(fields)
    if dtype.itemsize != header["NAXIS1"]:
        raise BadInput(f"{path}: NAXIS1: found {header['NAXIS1']}, expected {dtype.itemsize} bytes; fetch it again")
    file.seek(unit.data)
    return np.frombuffer(file.read(dtype.itemsize * header["NAXIS2"]), dtype)
