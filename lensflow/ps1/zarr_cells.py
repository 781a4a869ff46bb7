"""Skycells in a Zarr v3 store: /PPPP/skycell.PPPP.0YX/{b, b_wt, b_mask}, with v already scaled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from astropy.io.fits import Header
from zarr.errors import NodeNotFoundError

from lensflow.arrays.fits import without_unreadable_cards
from lensflow.errors import BadInput
from lensflow.ps1.bands import Scaling
from lensflow.ps1.cells import BandFiles, CellFiles, Rect, check_header
from lensflow.ps1.tessellation import Skycell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Geometry, Projection


def is_zarr(source: Path) -> bool:
    """Return whether a folder is a Zarr v3 group."""
    return (source / "zarr.json").is_file()


def list_zarr(store: Path, geometry: Geometry) -> list[CellFiles]:
    """List the skycells of a store by its folders, opening no array.

    Raises
    ------
    BadInput
        If a skycell is there twice (as /714 and as /0714).
    """
    cells: dict[Skycell, CellFiles] = {}
    for group in sorted(store.glob("*/skycell.*")):
        cell = Skycell.parse(group.name)
        if group.parent.name.lstrip("0") != str(cell.projection):
            raise BadInput(f"{group}: found it in group {group.parent.name}, expected {cell.projection:04d}; move it")
        if cell in cells:
            raise BadInput(f"{group}: {cell} is also in {Path(cells[cell].bands[0].image).parent}; keep one")
        bands = _bands(group, geometry.projection(cell.projection))
        if bands:
            cells[cell] = CellFiles(cell, bands)
    return [cells[cell] for cell in sorted(cells)]


def _bands(group: Path, projection: Projection) -> tuple[BandFiles, ...]:
    arrays = {path.name for path in group.iterdir() if path.is_dir()}
    rect = Rect(0, 0, projection.height, projection.width)

    def path(name: str) -> str | None:
        return str(group / name) if name in arrays else None

    return tuple(
        BandFiles(name, str(group / name), path(f"{name}_mask"), path(f"{name}_wt"), rect, "zarr")
        for name in sorted(arrays)
        if len(name) == 1
    )


class ZarrBand:
    """One band of a skycell in a Zarr store, open for reading by rows.

    Parameters
    ----------
    files
        Where the arrays are.
    projection, cell
        What their headers must agree with.
    weight
        Whether the variance will be asked for.

    Raises
    ------
    BadInput
        If an array is damaged or contradicts its name.
    """

    def __init__(self, files: BandFiles, projection: Projection, cell: Skycell, *, weight: bool) -> None:
        self._files = files
        self._image, self._header = _open(files.image, files, projection, cell)
        self._scaling = Scaling.from_header(self._header, files.image, stored=False)
        self.step = int(self._image.chunks[0])
        self._mask = None if files.mask is None else _open(files.mask, files, projection, cell)[0]
        self._weight = None
        if weight and files.weight is not None:
            self._weight, header = _open(files.weight, files, projection, cell)
            self._weight_scaling = Scaling.from_header(header, files.weight, stored=False)

    @property
    def tangent(self) -> tuple[float, float]:
        """CRVAL of the image in degrees."""
        return float(self._header["CRVAL1"]), float(self._header["CRVAL2"])

    def flux(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return counts/s of rows, NaN where blank."""
        return self._scaling.flux(_rows(self._image, self._files.image, start, stop))

    def mask(self, start: int, stop: int) -> NDArray[np.uint16] | None:
        """Return the mask bits of rows, None without a mask."""
        if self._mask is None or self._files.mask is None:
            return None
        return _rows(self._mask, self._files.mask, start, stop).astype(np.uint16, copy=False)

    def variance(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the variance in (counts/s)^2 of rows."""
        if self._weight is None or self._files.weight is None:
            raise BadInput(f"{self._files.image}: found no {self._files.band}_wt beside it, expected one")
        return self._weight_scaling.variance(_rows(self._weight, self._files.weight, start, stop))

    def close(self) -> None:
        """Nothing stays open between reads."""


def read_zarr_header(path: str) -> Header:
    """Return the FITS header that an array carries in ``attrs["header"]``.

    Raises
    ------
    BadInput
        If it is not an array with a header.
    """
    return _header(_array(path), path)


def _open(path: str, files: BandFiles, projection: Projection, cell: Skycell) -> tuple[zarr.Array[Any], Header]:
    array = _array(path)
    expected = (projection.height, projection.width)
    if array.shape != expected:
        raise BadInput(f"{path}: shape: found {array.shape}, expected {expected}; convert the skycell again")
    header = _header(array, path)
    check_header(header, path, projection, cell, files.band)
    return array, header


def _array(path: str) -> zarr.Array[Any]:
    try:
        return zarr.open_array(path, mode="r")
    except NodeNotFoundError as error:  # a folder without zarr.json, which zarr reports as an error of the system
        raise BadInput(f"{path}: found a folder without a Zarr array; convert the skycell again") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise BadInput(f"{path}: found no readable Zarr array ({error}); convert the skycell again") from error


def _header(array: zarr.Array[Any], path: str) -> Header:
    text: Any = array.attrs.get("header")
    if not isinstance(text, str):
        raise BadInput(f"{path}: attribute header: found {type(text).__name__}, expected FITS cards as one text")
    header = without_unreadable_cards(Header.fromstring(text))
    header["NAXIS2"], header["NAXIS1"] = array.shape
    return header


def _rows(array: zarr.Array[Any], path: str, start: int, stop: int) -> NDArray[Any]:
    try:
        return np.asarray(array[start:stop])
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise BadInput(f"{path}: its pixels cannot be decoded ({error}); convert the skycell again") from error
