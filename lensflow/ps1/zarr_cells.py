"""Skycells in a Zarr v3 store: /PPPP/skycell.PPPP.0YX/{b, b_wt, b_mask}, with v already scaled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from zarr.errors import NodeNotFoundError

from lensflow import events
from lensflow.arrays.headers import is_systems_fault, parse_header
from lensflow.errors import BadInput
from lensflow.ps1.bands import Scaling, check_range, mask_integers
from lensflow.ps1.cells import BandFiles, CellFiles, Rect, check_header
from lensflow.ps1.tessellation import Skycell

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Geometry, Projection

WIDEST = 1024  # px of a side of a chunk, unless the cell is larger

Purpose = Literal["image", "mask", "weight"]


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
        if not group.is_dir():
            raise BadInput(f"{group}: found a file, expected the group of a skycell; convert the skycell again")
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

    def __init__(
        self,
        files: BandFiles,
        projection: Projection,
        cell: Skycell,
        *,
        weight: bool,
        stop: int = 0,  # noqa: ARG002 - whole chunks are read anyway
    ) -> None:
        self._files = files
        self._image, self._header = _open(files.image, files, projection, cell, "image")
        self._scaling = Scaling.from_header(self._header, files.image, stored=False)
        self.step = int(self._image.chunks[0])
        self._mask = None if files.mask is None else _open(files.mask, files, projection, cell, "mask")[0]
        self._weight = None
        if weight and files.weight is not None:
            self._weight, header = _open(files.weight, files, projection, cell, "weight")
            self._weight_scaling = Scaling.from_header(header, files.weight, stored=False)

    @property
    def tangent(self) -> tuple[float, float]:
        """CRVAL of the image in degrees."""
        return float(self._header["CRVAL1"]), float(self._header["CRVAL2"])

    def flux(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return counts/s of rows, NaN where blank."""
        path = self._files.image
        return check_range(self._scaling.flux(_rows(self._image, path, start, stop)), path)

    def mask(self, start: int, stop: int) -> NDArray[np.uint16] | None:
        """Return the mask bits of rows, None without a mask."""
        if self._mask is None or self._files.mask is None:
            return None
        return mask_integers(_rows(self._mask, self._files.mask, start, stop), bzero=0, place=self._files.mask)

    def variance(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the variance in (counts/s)^2 of rows."""
        if self._weight is None or self._files.weight is None:
            raise BadInput(f"{self._files.image}: found no {self._files.band}_wt beside it, expected one")
        path = self._files.weight
        return check_range(self._weight_scaling.variance(_rows(self._weight, path, start, stop)), path, square=True)

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


def _open(
    path: str, files: BandFiles, projection: Projection, cell: Skycell, purpose: Purpose
) -> tuple[zarr.Array[Any], Header]:
    array = _array(path)
    _check_form(array, path, (projection.height, projection.width), purpose)
    header = _header(array, path)
    check_header(header, path, projection, cell, files.band)
    absent = array.nchunks - array.nchunks_initialized
    if absent:  # chunks of nothing but the fill value need not be stored, and lost ones look the same
        events.note(
            "absent-chunks",
            f"{path}: {absent} of {array.nchunks} chunks are not stored and taken as {array.fill_value}",
            file=path,
            cell=str(cell),
            band=files.band,
        )
    return array, header


def _check_form(array: zarr.Array[Any], path: str, shape: tuple[int, int], purpose: Purpose) -> None:
    """Refuse what would be read as something else, or would not fit into memory, before a chunk is read."""
    kinds = "iu" if purpose == "mask" else "f"
    chunk = tuple(max(size, WIDEST) for size in shape)
    for name, found, expected, sound in (
        ("shape", array.shape, shape, array.shape == shape),
        ("data_type", array.dtype, "uint16" if kinds == "iu" else "float32", array.dtype.kind in kinds),
        (
            "chunk_shape",
            array.chunks,
            f"at most {chunk}",
            all(0 < a <= b for a, b in zip(array.chunks, chunk, strict=False)),
        ),
        ("fill_value", array.fill_value, "0" if kinds == "iu" else "NaN", _is_nothing(array.fill_value, kinds)),
    ):
        if not sound:
            raise BadInput(f"{path}: {name}: found {found}, expected {expected}; convert the skycell again")


def _is_nothing(fill: Any, kinds: str) -> bool:  # noqa: ANN401 - whatever the metadata hold
    return bool(fill == 0) if kinds == "iu" else bool(fill != fill)  # noqa: PLR0124 - NaN alone differs from itself


def _array(path: str) -> zarr.Array[Any]:
    try:
        return zarr.open_array(path, mode="r")
    except NodeNotFoundError as error:  # a folder without zarr.json, which zarr reports as an error of the system
        raise BadInput(f"{path}: found a folder without a Zarr array; convert the skycell again") from error
    except Exception as error:  # zarr and its codecs raise what they like
        if is_systems_fault(error):
            raise
        raise BadInput(f"{path}: found no readable Zarr array ({error}); convert the skycell again") from error


def _header(array: zarr.Array[Any], path: str) -> Header:
    attributes: Any = array.metadata.attributes
    text = attributes.get("header") if isinstance(attributes, dict) else attributes
    if not isinstance(text, str) or not isinstance(attributes, dict):
        raise BadInput(f"{path}: attribute header: found {type(text).__name__}, expected FITS cards as one text")
    header = parse_header(text)
    header["NAXIS2"], header["NAXIS1"] = array.shape
    return header


def _rows(array: zarr.Array[Any], path: str, start: int, stop: int) -> NDArray[Any]:
    try:
        return np.asarray(array[start:stop])
    except Exception as error:  # codecs raise what they like
        if is_systems_fault(error) and not (isinstance(error, MemoryError) and _is_small(array, stop - start)):
            raise
        raise BadInput(f"{path}: its pixels cannot be decoded ({error}); convert the skycell again") from error


def _is_small(array: zarr.Array[Any], rows: int) -> bool:
    """Return whether rows would fit into memory many times over: then a chunk lied about its size."""
    try:
        np.empty((4 * max(rows, array.chunks[0]), array.shape[1]), array.dtype)
    except MemoryError:
        return False
    return True
