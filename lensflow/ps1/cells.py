"""What is known of skycells before a pixel is read: their files, and the rectangle of data in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from lensflow.errors import BadInput
from lensflow.ps1.tessellation import Skycell

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Geometry, Projection

CRVAL_TOLERANCE = 2e-5  # deg; IPP rounded its table of tangent points
CRVAL_AGREEMENT = 1e-7  # deg, between cells of one projection
CRPIX_TOLERANCE = 1e-3  # px
LARGEST = 1e9  # deg, px: more than any number of a sound WCS


class Rect(NamedTuple):
    """A rectangle of pixels, stops excluded."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def empty(self) -> bool:
        """True without pixels."""
        return self.y1 <= self.y0 or self.x1 <= self.x0

    def moved(self, y: int, x: int) -> Rect:
        """Return the rectangle y rows up and x columns right."""
        return Rect(self.y0 + y, self.x0 + x, self.y1 + y, self.x1 + x)

    def grown(self, margin: int) -> Rect:
        """Return the rectangle with a margin (negative: without) on all sides."""
        return Rect(self.y0 - margin, self.x0 - margin, self.y1 + margin, self.x1 + margin)

    def common(self, other: Rect) -> Rect:
        """Return what two rectangles share, empty if nothing."""
        return Rect(max(self.y0, other.y0), max(self.x0, other.x0), min(self.y1, other.y1), min(self.x1, other.x1))

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rectangle as an index of an array (y, x)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def bounding(rects: list[Rect]) -> Rect:
    """Return the smallest rectangle that holds all of them."""
    return Rect(min(r.y0 for r in rects), min(r.x0 for r in rects), max(r.y1 for r in rects), max(r.x1 for r in rects))


@dataclass(frozen=True)
class BandFiles:
    """Where one band of a skycell is stored.

    Parameters
    ----------
    band
        ``"r"`` ...
    image, mask, weight
        Paths (of FITS files, or of arrays in a Zarr store); None if there is none.
    rect
        The data rectangle in pixels of the cell: all of it unless the file is a cutout.
    format
        Who reads it.
    """

    band: str
    image: str
    mask: str | None
    weight: str | None
    rect: Rect
    format: Literal["fits", "zarr"] = "fits"

    def read(self, *, weight: bool) -> tuple[str, ...]:
        """Return the files of the band that are read, the weight only if it is needed."""
        files = (self.image, self.mask, self.weight if weight else None)
        return tuple(path for path in files if path is not None)


@dataclass(frozen=True)
class CellFiles:
    """A skycell and the files of its bands."""

    cell: Skycell
    bands: tuple[BandFiles, ...]

    @property
    def rect(self) -> Rect:
        """The data rectangle of the cell, in its own pixels: what any band covers."""
        return bounding([files.rect for files in self.bands])

    def band(self, name: str) -> BandFiles | None:
        """Return the files of a band, or None."""
        return next((files for files in self.bands if files.band == name), None)


class BandReader(Protocol):
    """One band of a skycell, open for reading by rows of its data rectangle (FITS and Zarr offer the same)."""

    step: int  # rows that are stored together

    def flux(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return counts/s, NaN where blank."""

    def mask(self, start: int, stop: int) -> NDArray[np.uint16] | None:
        """Return the mask bits, None without a mask."""

    def variance(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the variance in (counts/s)^2."""

    def close(self) -> None:
        """Close the files."""


def check_header(
    header: Mapping[str, Any], place: str, projection: Projection, cell: Skycell, band: str | None = None
) -> Rect:
    """Hold a header against the tessellation and return the data rectangle in pixels of the cell.

    Parameters
    ----------
    header
        FITS header of an image, mask or weight.
    place
        The file, for messages.
    projection, cell, band
        What it should be.

    Raises
    ------
    BadInput
        If name, band, orientation, tangent point, origin or size contradict the tessellation.
    """
    named = header.get("SKYCELL")
    if named is not None and named_cell(header, place) != cell:
        raise _contradiction(place, "SKYCELL", named, str(cell))
    filter_id = header.get("FPA.FILTERID")
    if band is not None and filter_id is not None and str(filter_id)[:1] != band:
        raise _contradiction(place, "FPA.FILTERID", filter_id, f"{band}.00000")
    _check_axes(header, place, projection.geometry)
    for key, expected in (("CRVAL1", projection.ra), ("CRVAL2", projection.dec)):
        # RA is an angle on a circle of declination: 0 and 360 are one
        off = abs((_number(header, key, place) - expected + 180) % 360 - 180)
        if not off <= CRVAL_TOLERANCE:
            raise _contradiction(place, key, header[key], f"{expected:.6f} of projection {projection.number}")
    x0, y0 = (
        _origin(full - _number(header, key, place), f"{place}: {key}")
        for key, full in zip(("CRPIX1", "CRPIX2"), projection.cell_crpix(cell.y, cell.x), strict=True)
    )
    rect = Rect(y0, x0, y0 + int(header["NAXIS2"]), x0 + int(header["NAXIS1"]))
    full_cell = Rect(0, 0, projection.height, projection.width)
    if rect.empty or rect.common(full_cell) != rect:
        raise _contradiction(place, "NAXIS, CRPIX", tuple(rect), f"pixels within {tuple(full_cell)} of {cell}")
    return rect


def named_cell(header: Mapping[str, Any], place: str) -> Skycell:
    """Return the skycell that a header names.

    Raises
    ------
    BadInput
        If SKYCELL is not the name of one.
    """
    try:
        return Skycell.parse(str(header["SKYCELL"]))
    except BadInput as error:
        raise BadInput(f"{place}: SKYCELL: {error}") from error


def _check_axes(header: Mapping[str, Any], place: str, geometry: Geometry) -> None:
    """RA falls with x, Dec rises with y: the obsolete PC001001 = -1 says so, and a reader that skips it mirrors."""
    for axis, expected in ((1, -geometry.pixel_scale), (2, geometry.pixel_scale)):
        if f"CD{axis}_{axis}" in header:
            found = _number(header, f"CD{axis}_{axis}", place)
        else:
            keys = (f"PC00{axis}00{axis}", f"PC{axis}_{axis}")
            turn = next((_number(header, key, place) for key in keys if key in header), 1.0)
            found = _number(header, f"CDELT{axis}", place) * turn
        if not abs(found / expected - 1) <= 1e-4:
            raise _contradiction(place, f"CDELT{axis}, PC00{axis}00{axis}", found, f"{expected:.6e} deg/px")


def _origin(offset: float, place: str) -> int:
    nearest = round(offset)
    if abs(offset - nearest) > CRPIX_TOLERANCE:
        raise BadInput(
            f"{place}: found an origin {offset:.4f} px inside the skycell, expected a whole number of pixels; "
            "only crops of RINGS.V3 skycells can be placed"
        )
    return nearest


def _number(header: Mapping[str, Any], key: str, place: str) -> float:
    found = header.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) <= LARGEST:
        raise BadInput(f"{place}: {key}: found {found!r}, expected a number; fetch the file again")
    return float(found)


def _contradiction(place: str, key: str, found: object, expected: str) -> BadInput:
    return BadInput(f"{place}: {key}: found {found!r}, expected {expected}; rename or fetch the file again")
