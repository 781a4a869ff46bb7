"""Skycells in a folder of FITS files: raw archive files, known by name, and cutouts, known by header."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lensflow.arrays.fits import FitsImage, read_image_header
from lensflow.errors import BadInput
from lensflow.ps1.bands import Scaling, check_range, mask_integers, mask_zero
from lensflow.ps1.cells import BandFiles, CellFiles, Rect, check_header, named_cell
from lensflow.ps1.tessellation import FIRST, LAST, Skycell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Geometry, Projection

STEP = 64  # rows worked on at a time: they fit the cache
AHEAD = 1024  # rows decoded at a time: starting the decoder costs as much as fifty of them, which are tiles

_RAW = re.compile(r"rings\.v3\.(skycell\.\d+\.0\d\d)\.stk\.([a-z])\.unconv(?:\.(mask|wt))?\.fits")
_KIND = re.compile(r"\.unconv[._](mask|wt)\b")
_FILTER = re.compile(r"[a-z]\b")

Kind = Literal["image", "mask", "weight"]
_KINDS: dict[str | None, Kind] = {None: "image", "mask": "mask", "wt": "weight"}


@dataclass
class Found:
    """What a folder holds."""

    files: dict[tuple[Skycell, str], dict[Kind, str]] = field(default_factory=dict)
    rects: dict[tuple[Skycell, str], Rect] = field(default_factory=dict)  # of cutouts
    ignored: list[str] = field(default_factory=list)

    def add(self, cell: Skycell, band: str, kind: Kind, path: str) -> None:
        """Take a file in; two files for one purpose are an error."""
        kinds = self.files.setdefault((cell, band), {})
        if kind in kinds:
            raise BadInput(f"{path}: {kind} of band {band} of {cell} is also in {kinds[kind]}; keep one of the two")
        kinds[kind] = path


def list_fits(folder: Path, geometry: Geometry) -> tuple[list[CellFiles], list[str]]:
    """List the skycells of a folder and its subfolders, reading the headers of cutouts only.

    Parameters
    ----------
    folder
        Raw files ``rings.v3.skycell.PPPP.0YX.stk.{b}.unconv{,.mask,.wt}.fits`` and cutouts under any name.
    geometry
        The tessellation, or its scaled copy.

    Returns
    -------
    tuple
        The cells in order of name, and the names of FITS files that are not skycells.

    Raises
    ------
    BadInput
        If two files hold the same band of a cell, or a cutout does not lie on the pixels of its skycell.
    """
    found = Found()
    for path in _fits_files(folder):
        raw = _RAW.fullmatch(path.name)
        if raw is not None and FIRST <= int(raw[1].split(".")[1]) <= LAST:
            found.add(Skycell.parse(raw[1]), raw[2], _KINDS[raw[3]], str(path))
        else:
            _take_cutout(found, path, folder, geometry)
    return _cells(found, geometry), found.ignored


def _fits_files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        # a folder in the place of a file is a damaged file, not an absent one
        names += [name for name in folders if _RAW.fullmatch(name)]
        yield from (Path(root, name) for name in sorted(names) if name.endswith(".fits"))


def _take_cutout(found: Found, path: Path, folder: Path, geometry: Geometry) -> None:
    try:
        _, header = read_image_header(path)
    except BadInput:
        found.ignored.append(str(path.relative_to(folder)))  # named in the attributes of the result
        return
    band = str(header.get("FPA.FILTERID", ""))[:1]
    if "SKYCELL" not in header or not band:
        found.ignored.append(str(path.relative_to(folder)))
        return
    if not _FILTER.match(str(header["FPA.FILTERID"])):
        raise BadInput(
            f"{path}: FPA.FILTERID: found {header['FPA.FILTERID']!r}, expected r.00000 or alike; fetch the file again"
        )
    cell = named_cell(header, str(path))
    kind = _KIND.search(path.name)
    purpose = _KINDS[kind[1] if kind else None]
    found.add(cell, band, purpose, str(path))
    if purpose == "image":
        projection = geometry.projection(cell.projection)
        found.rects[cell, band] = check_header(header, str(path), projection, cell, band)


def _cells(found: Found, geometry: Geometry) -> list[CellFiles]:
    cells: dict[Skycell, list[BandFiles]] = {}
    for (cell, band), kinds in sorted(found.files.items()):
        if "image" not in kinds:
            continue  # a mask or weight without its image says nothing
        projection = geometry.projection(cell.projection)
        rect = found.rects.get((cell, band), Rect(0, 0, projection.height, projection.width))
        files = BandFiles(band, kinds["image"], kinds.get("mask"), kinds.get("weight"), rect)
        cells.setdefault(cell, []).append(files)
    return [CellFiles(cell, tuple(bands)) for cell, bands in cells.items()]


class _Ahead:
    """An image read upwards, whose rows are decoded many at a time."""

    def __init__(self, path: str, stop: int) -> None:
        self._image = FitsImage(path)
        self.path, self.header = path, self._image.header
        self._stop = min(stop, self._image.shape[0])
        self._start, self._decoded = 0, np.empty((0, 0))

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows as stored."""
        if start < self._start or stop > self._start + len(self._decoded):
            self._decoded = np.empty((0, 0))  # first, that there are never two
            self._decoded = self._image.rows(start, max(stop, min(start + AHEAD, self._stop)))
            self._start = start
        return self._decoded[start - self._start : stop - self._start]

    def close(self) -> None:
        """Close the file."""
        self._image.close()


class FitsBand:
    """One band of a skycell in FITS files, open for reading by rows of its data rectangle.

    Parameters
    ----------
    files
        Where they are.
    projection, cell
        What their headers must agree with.
    weight
        Whether the variance will be asked for.
    stop
        One past the last row that will be asked for: rows before it are decoded ahead.

    Raises
    ------
    BadInput
        If a file is damaged or contradicts its name.
    """

    def __init__(self, files: BandFiles, projection: Projection, cell: Skycell, *, weight: bool, stop: int = 0) -> None:
        self.step, self._stop = STEP, stop
        self._open: list[_Ahead] = []
        try:
            self._image = self._checked(files.image, files, projection, cell)
            self._scaling = Scaling.from_header(self._image.header, files.image)
            self._mask = None
            if files.mask is not None:
                self._mask = self._checked(files.mask, files, projection, cell)
                self._mask_zero = mask_zero(self._mask.header, files.mask)
            self._weight = None
            if weight and files.weight is not None:
                self._weight = self._checked(files.weight, files, projection, cell)
                self._weight_scaling = Scaling.from_header(self._weight.header, files.weight)
        except BaseException:
            self.close()
            raise

    def _checked(self, path: str, files: BandFiles, projection: Projection, cell: Skycell) -> _Ahead:
        image = _Ahead(path, self._stop)
        self._open.append(image)
        rect = check_header(image.header, path, projection, cell, files.band)
        if rect != files.rect:
            raise BadInput(
                f"{path}: NAXIS, CRPIX: found pixels {tuple(rect)} of {cell}, expected {tuple(files.rect)}; "
                "fetch the file again"
            )
        return image

    @property
    def tangent(self) -> tuple[float, float]:
        """CRVAL of the image in degrees."""
        return float(self._image.header["CRVAL1"]), float(self._image.header["CRVAL2"])

    def flux(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return counts/s of rows of the data rectangle, NaN where blank."""
        stored = self._image.rows(start, stop)
        flux = self._scaling.flux(stored)
        return flux if self._scaling.is_bounded(stored.dtype) else check_range(flux, self._image.path)

    def mask(self, start: int, stop: int) -> NDArray[np.uint16] | None:
        """Return the mask bits of rows of the data rectangle, None without a mask."""
        if self._mask is None:
            return None
        return mask_integers(self._mask.rows(start, stop), bzero=self._mask_zero, place=self._mask.path)

    def variance(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the variance in (counts/s)^2 of rows of the data rectangle."""
        if self._weight is None:
            raise BadInput(f"{self._image.path}: found no weight image beside it, expected one for the uncertainty")
        variance = self._weight_scaling.variance(self._weight.rows(start, stop))
        return check_range(variance, self._weight.path, square=True)

    def close(self) -> None:
        """Close the files."""
        for image in self._open:
            image.close()
