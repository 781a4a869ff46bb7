"""Pixels of stored HEALPix maps, read by the task that needs them: Zarr by chunks, FITS by pages of the file."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import zarr
from astropy.io import fits
from numba import njit

from lensflow.errors import BadInput
from lensflow.lensing.patches.masks import blank_unseen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


class PixelReader(Protocol):
    """What gives the values of stored pixels."""

    nside: int

    def take(self, stored: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the values at places of the stored map, of any shape; NaN where nothing was observed."""
        ...


@njit(cache=True, nogil=True)
def _mark(places: NDArray[np.int64], length: int, touched: NDArray[np.bool_]) -> None:
    for place in places:
        touched[place // length] = True


@njit(cache=True, nogil=True)
def _gather(chunk: NDArray[np.floating], first: int, places: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    last = first + chunk.size
    for k in range(places.size):
        if first <= places[k] < last:
            values[k] = chunk[places[k] - first]


class ChunkReader:
    """A map in a Zarr array: each chunk is read when first asked for, and kept as long as the reader.

    Parameters
    ----------
    array
        Of shape (..., npix).
    row
        Index of the map along the other dimensions.
    """

    def __init__(self, array: zarr.Array[Any], row: tuple[int, ...] = ()) -> None:
        self._array, self._row = array, row
        self._length = array.chunks[-1]
        self._chunks: dict[int, NDArray[np.floating]] = {}
        self.nside = int(np.sqrt(array.shape[-1] // 12))

    def take(self, stored: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the values at places of the stored map, of any shape; NaN where nothing was observed."""
        places = np.ascontiguousarray(stored).reshape(-1)
        touched = np.zeros(-(-self._array.shape[-1] // self._length), bool)
        _mark(places, self._length, touched)
        values = np.empty(places.size)
        for number in np.flatnonzero(touched).tolist():
            _gather(self._chunk(number), number * self._length, places, values)
        return blank_unseen(values).reshape(stored.shape)

    def _chunk(self, number: int) -> NDArray[np.floating]:
        if number not in self._chunks:
            first = number * self._length
            where: Any = (*self._row, slice(first, first + self._length))
            try:
                self._chunks[number] = np.asarray(self._array[where])
            except (ValueError, RuntimeError) as error:  # of the codecs: the bytes are there and wrong
                raise BadInput(
                    f"{self._array.store_path}: chunk {number} of {self._row} cannot be decoded ({error}); "
                    "verify and resume the run that made the store"
                ) from error
        return self._chunks[number]


class PageReader:
    """A map in a table of a FITS file that is mapped into memory: only pages with wanted pixels are read.

    Parameters
    ----------
    column
        The column as astropy gives it: (rows,) or (rows, pixels a row).
    """

    def __init__(self, column: NDArray[np.floating]) -> None:
        self._rows = column if column.ndim == 2 else column[:, None]
        self.nside = int(np.sqrt(self._rows.size // 12))

    def take(self, stored: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the values at places of the stored map, of any shape; NaN where nothing was observed."""
        row, within = np.divmod(stored, self._rows.shape[1])
        return blank_unseen(self._rows[row, within].astype(np.float64))


@contextmanager
def zarr_reader(path: Path, name: str, row: tuple[int, ...] = ()) -> Iterator[ChunkReader]:
    """Open one map of a variable in a Zarr store."""
    group = zarr.open_group(path, mode="r")
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise BadInput(f"{path}: {name}: found a group, expected an array of pixels")
    yield ChunkReader(array, row)


@contextmanager
def fits_reader(path: Path) -> Iterator[PageReader]:
    """Open the first column of the first table of a FITS file."""
    with fits.open(path, memmap=True) as units:
        table = next((unit for unit in units if isinstance(unit, fits.BinTableHDU)), None)
        if table is None:
            raise BadInput(f"{path}: found no binary table, expected a HEALPix map")
        yield PageReader(table.data.field(0))
