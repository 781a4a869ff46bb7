"""FITS images read by rows: only the rows (tiles) that are asked for are read and decompressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lensflow.arrays.checksum import check_sums
from lensflow.arrays.headers import BITPIX, open_file, read_units, whole_number
from lensflow.arrays.tiles import TiledImage
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from types import TracebackType

    from astropy.io.fits import Header
    from numpy.typing import NDArray

    from lensflow.arrays.headers import Unit

LARGEST = 1 << 31  # px of a side of an image
EXTENSION = b"XTENSION"  # how a header begins that is not the first
DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}  # of BITPIX


def read_image_header(path: str | Path) -> tuple[int, Header]:
    """Return the index and the header of the first 2-D image of a FITS file, without its pixels.

    The header of a tile-compressed image is that of its table, with NAXIS1 and NAXIS2 those of the image.

    Raises
    ------
    BadInput
        If the file is not FITS, has no 2-D image, or is shorter than its headers say.
    OSError
        If the system cannot read the file.
    """
    unit = _first_image(Path(path))
    return unit.index, _as_image(unit.header, _form(unit.header, Path(path)))


def _first_image(path: Path) -> Unit:
    for unit in read_units(path):
        if _is_image(unit.header):
            return unit
    raise BadInput(f"{path}: found no 2-D image, expected a FITS file with one; fetch it again")


def _is_image(header: Header) -> bool:
    if header.get("ZIMAGE", False) is True:
        return bool(header.get("ZNAXIS") == 2)
    return str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE" and bool(header["NAXIS"] == 2)


def _form(header: Header, path: Path) -> tuple[int, int, int]:
    """Return BITPIX, NAXIS1 and NAXIS2 of the image."""
    prefix = "Z" if header.get("ZIMAGE", False) is True else ""
    bitpix = header.get(prefix + "BITPIX")
    if bitpix not in BITPIX:
        raise BadInput(f"{path}: {prefix}BITPIX: found {bitpix!r}, expected one of {BITPIX}; fetch it again")
    width, height = (whole_number(header, f"{prefix}NAXIS{axis}", path, least=1, most=LARGEST) for axis in (1, 2))
    return int(bitpix), width, height


def _as_image(header: Header, form: tuple[int, int, int]) -> Header:
    """Turn the header of a table of tiles into that of its image."""
    header["NAXIS"] = 2
    for key, value in zip(("BITPIX", "NAXIS1", "NAXIS2"), form, strict=True):
        header[key] = value
    return header


class FitsImage:
    """The first 2-D image of a FITS file, open for reading by rows.

    Parameters
    ----------
    path
        The file; tile-compressed images are read tile by tile.

    Attributes
    ----------
    header
        Its header.
    shape
        (rows, columns).

    Raises
    ------
    BadInput
        If the file is damaged, by what it says of itself or by its DATASUM and CHECKSUM.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        unit = _first_image(self.path)
        form = bitpix, width, height = _form(unit.header, self.path)
        self.shape = (height, width)
        check_sums(self.path, unit)
        self._start, self._dtype = unit.data, np.dtype(DTYPES[bitpix])
        self._file = open_file(self.path)
        try:
            compressed = unit.header.get("ZIMAGE", False) is True
            self._tiles = TiledImage(self._file, unit, self.path) if compressed else None
            if not compressed:
                self._check_end(unit)
        except BaseException:
            self._file.close()
            raise
        self.header = _as_image(unit.header, form)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` as stored (BZERO, BSCALE not applied), shape (rows, columns).

        Raises
        ------
        BadInput
            If they cannot be decoded.
        """
        array = self._plain(start, stop) if self._tiles is None else self._tiles.rows(start, stop)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def _check_end(self, unit: Unit) -> None:
        """Refuse an image that goes on after its end: then its size is not what its header says."""
        self._file.seek(unit.data + unit.size)
        padding = self._file.read(unit.stop - unit.data - unit.size)
        after = self._file.read(len(EXTENSION))
        if padding.strip(b"\0") or (after != EXTENSION and after.strip(b"\0")):  # old tapes end in zeros
            raise BadInput(
                f"{self.path}: NAXIS, BITPIX: found {unit.size} bytes of pixels and more behind them, "
                "expected zeros and the end or another header; fetch the file again"
            )

    def _plain(self, start: int, stop: int) -> NDArray[Any]:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        shape = (max(0, stop - start), self.shape[1])
        self._file.seek(self._start + start * shape[1] * self._dtype.itemsize)
        content = self._file.read(shape[0] * shape[1] * self._dtype.itemsize)
        if len(content) < shape[0] * shape[1] * self._dtype.itemsize:
            raise BadInput(f"{self.path}: the file became shorter while it was read; fetch it again")
        return np.frombuffer(content, self._dtype).reshape(shape)
