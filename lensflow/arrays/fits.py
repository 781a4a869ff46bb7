"""FITS images read by rows: only the rows (tiles) that are asked for are read and decompressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

BLOCK = 2880  # bytes, the unit of which a FITS file is made


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
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        index, start = 0, 0
        while start < size:
            file.seek(start)
            header = _next_header(file, path)
            data = -(-_data_bytes(header, path) // BLOCK) * BLOCK
            start = file.tell() + data
            if start > size:
                raise BadInput(
                    f"{path}: the file is truncated: found {size} bytes, expected at least {start}; fetch it again"
                )
            if _is_image(header):
                return index, _as_image(header, path)
            index += 1
    raise BadInput(f"{path}: found no 2-D image, expected a FITS file with one; fetch it again")


def without_unreadable_cards(header: Header) -> Header:
    """Drop cards that are not FITS, such as ``KEY = NaN``: who needs their value then misses it, nobody else does."""
    bad = []
    for i, card in enumerate(header.cards):
        try:
            _ = card.value
        except fits.VerifyError:
            bad.append(i)
    for i in reversed(bad):
        del header[i]
    return header


def _next_header(file: Any, path: Path) -> Header:  # noqa: ANN401 - a binary file
    try:
        header = without_unreadable_cards(Header.fromfile(file))
        header["NAXIS"]  # every header has it; a text file does not
    except (OSError, EOFError, ValueError, KeyError, fits.VerifyError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the file's
        raise BadInput(f"{path}: found no FITS header ({error}), expected a FITS file; fetch it again") from error
    return header


def _data_bytes(header: Header, path: Path) -> int:
    try:
        axes = [int(header[f"NAXIS{i}"]) for i in range(1, int(header["NAXIS"]) + 1)]
        pixels = int(np.prod(axes, dtype=np.int64)) if axes else 0
        items = int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + pixels)
        return abs(int(header["BITPIX"])) // 8 * items
    except (KeyError, TypeError, ValueError, fits.VerifyError) as error:
        raise BadInput(f"{path}: the size of its data cannot be read ({error}); fetch it again") from error


def _is_image(header: Header) -> bool:
    if header.get("ZIMAGE", False):
        return bool(header.get("ZNAXIS") == 2)
    return str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE" and int(header["NAXIS"]) == 2


def _as_image(header: Header, path: Path) -> Header:
    compressed = header.get("ZIMAGE", False)
    for key in ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2"):
        name = "Z" + key if compressed else key
        value = header.get(name)
        if not isinstance(value, int):
            raise BadInput(f"{path}: {name}: found {value!r}, expected an integer; fetch the file again")
        header[key] = value
    return header


def _open_image(path: Path, index: int) -> tuple[Any, Any]:
    # no memory map: its handle would live as long as any array cut from it
    file = fits.open(path, memmap=False, do_not_scale_image_data=True, lazy_load_hdus=True)
    try:
        return file, file[index]
    except Exception as error:
        file.close()
        if not _damage(error):
            raise
        raise BadInput(f"{path}: its image cannot be opened ({error}); fetch the file again") from error


def _damage(error: Exception) -> bool:
    """Return whether the file is at fault: decoders raise what they like, but the system's errors have a number."""
    return not isinstance(error, MemoryError) and not (isinstance(error, OSError) and error.errno is not None)


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
        If the file is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        index, self.header = read_image_header(path)
        self.shape = (int(self.header["NAXIS2"]), int(self.header["NAXIS1"]))
        self._file, self._hdu = _open_image(self.path, index)

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
        try:
            array = np.asarray(self._hdu.section[start:stop])
        except Exception as error:
            if not _damage(error):
                raise
            # without the rows: several tasks may meet the damage of one file, and their notes must be one
            raise BadInput(f"{self.path}: its pixels cannot be decoded ({error}); fetch the file again") from error
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
