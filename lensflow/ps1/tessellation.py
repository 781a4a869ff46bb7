"""The RINGS.V3 tessellation of Pan-STARRS: projections, skycells, and the pixels that they share.

2157 projections (487..2643) of 10 x 10 skycells each. The cells of a projection are crops of one pixel
grid (X, Y), 0-based with integers at pixel centres; neighbours share exactly ``overlap`` pixels.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PIXEL_SCALE = 6.94444461259988e-05  # deg/px
CELLS = 10  # cells along each axis of a projection
OVERLAP = 480  # px shared by neighbouring cells
SPLIT = 240  # px, the border of ownership: the middle of the overlap
EDGE = 10  # px at the edge of a cell that are not used
FIRST, LAST = 487, 2643  # projection numbers

_NAME = re.compile(r"(?:rings\.v3\.)?skycell\.(\d+)\.0(\d)(\d)")


@dataclass(frozen=True)
class Ring:
    """A row of the tessellation: projections of one declination; CRPIX is that of cell (5, 5), 1-based."""

    zone: int
    projcell: int
    nband: int
    dec: float
    dec_min: float
    dec_max: float
    xcell: int
    ycell: int
    crpix1: float
    crpix2: float


@cache
def rings() -> tuple[Ring, ...]:
    """Return the ring table of RINGS.V3, south to north (Magnier et al. 2020; STScI's ``ps1grid.fits``)."""
    lines = files("lensflow.ps1").joinpath("rings_v3.csv").read_text(encoding="ascii").splitlines()
    return tuple(_ring(row) for row in csv.DictReader(lines))


def _ring(row: dict[str, str]) -> Ring:
    return Ring(
        *(int(row[key]) for key in ("ZONE", "PROJCELL", "NBAND")),
        *(float(row[key]) for key in ("DEC", "DEC_MIN", "DEC_MAX")),
        *(int(row[key]) for key in ("XCELL", "YCELL")),
        *(float(row[key]) for key in ("CRPIX1", "CRPIX2")),
    )


@dataclass(frozen=True)
class Geometry:
    """RINGS.V3, or a copy of it with pixels ``scale`` times as large, so that tests run on small cells.

    Parameters
    ----------
    scale
        Divisor of 240; 1 is the sky survey itself.

    Raises
    ------
    BadOption
        If ``scale`` does not divide 240.
    """

    scale: int = 1

    def __post_init__(self) -> None:
        if self.scale < 1 or SPLIT % self.scale:
            raise BadOption(f"scale: found {self.scale}, expected a divisor of 240 such as 1, 20 or 40")

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring cells share."""
        return OVERLAP // self.scale

    @property
    def split(self) -> int:
        """Pixels from the start of an overlap to the border of ownership."""
        return SPLIT // self.scale

    @property
    def edge(self) -> int:
        """Pixels at the edge of a cell that are not used."""
        return max(1, round(EDGE / self.scale))

    @property
    def radius(self) -> int:
        """Radius of the kernel in pixels: the overlap less the edge."""
        return self.overlap - self.edge

    @property
    def pixel_scale(self) -> float:
        """Degrees a pixel."""
        return PIXEL_SCALE * self.scale

    def projection(self, number: int) -> Projection:
        """Return one of the projections 487..2643.

        Raises
        ------
        BadOption
            If there is no such projection.
        """
        if not FIRST <= number <= LAST:
            raise BadOption(f"projection: found {number}, expected a number from {FIRST} to {LAST}")
        return _projection(self, number)


RINGS_V3 = Geometry()


@dataclass(frozen=True)
class Projection:
    """A tangent-plane grid of 10 x 10 skycells.

    Parameters
    ----------
    number
        487..2643.
    geometry
        The tessellation, or its scaled copy.
    ra, dec
        Nominal tangent point (CRVAL) in degrees.
    width, height
        NAXIS1 and NAXIS2 of a skycell.
    crpix
        (CRPIX1, CRPIX2) of the whole grid, 1-based.
    """

    number: int
    geometry: Geometry
    ra: float
    dec: float
    width: int
    height: int
    crpix: tuple[float, float]

    @property
    def stride_x(self) -> int:
        """Pixels from a cell to the next in x."""
        return self.width - self.geometry.overlap

    @property
    def stride_y(self) -> int:
        """Pixels from a cell to the next in y."""
        return self.height - self.geometry.overlap

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (y, x) of the grid of 10 x 10 cells."""
        overlap = self.geometry.overlap
        return CELLS * self.stride_y + overlap, CELLS * self.stride_x + overlap

    def cell_origin(self, y: int, x: int) -> tuple[int, int]:
        """Return (Y, X) of the first pixel of cell (y, x) on the grid."""
        return y * self.stride_y, x * self.stride_x

    def cell_crpix(self, y: int, x: int) -> tuple[float, float]:
        """Return (CRPIX1, CRPIX2) of cell (y, x), 1-based."""
        y0, x0 = self.cell_origin(y, x)
        return self.crpix[0] - x0, self.crpix[1] - y0

    def wcs_keys(
        self, *, origin: tuple[int, int] = (0, 0), crval: tuple[float, float] | None = None
    ) -> dict[str, float | str]:
        """Return the FITS WCS of the grid, or of a crop of it, as plain numbers and text.

        Parameters
        ----------
        origin
            (Y, X) of the first pixel of the crop, as :meth:`cell_origin` gives it.
        crval
            (RA, Dec) of the tangent point in degrees, if a header states it; nominal by default.

        Notes
        -----
        LONPOLE is always written: for the pole (2643) FITS would assume 0 and turn the grid by 180 degrees.
        """
        ra, dec = (self.ra, self.dec) if crval is None else crval
        scale = self.geometry.pixel_scale
        return {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": float(ra),
            "CRVAL2": float(dec),
            "CRPIX1": float(self.crpix[0] - origin[1]),
            "CRPIX2": float(self.crpix[1] - origin[0]),
            "CD1_1": -scale,
            "CD1_2": 0.0,
            "CD2_1": 0.0,
            "CD2_2": scale,
            "LONPOLE": 180.0,
            "RADESYS": "FK5",
            "EQUINOX": 2000.0,
        }


@cache
def _projection(geometry: Geometry, number: int) -> Projection:
    ring = max((ring for ring in rings() if ring.projcell <= number), key=lambda ring: ring.projcell)
    n, overlap = geometry.scale, geometry.overlap
    stride_x, stride_y = ceil((ring.xcell - OVERLAP) / n), ceil((ring.ycell - OVERLAP) / n)
    half = CELLS // 2
    return Projection(
        number=number,
        geometry=geometry,
        ra=(number - ring.projcell) * 360 / ring.nband,
        dec=ring.dec,
        width=stride_x + overlap,
        height=stride_y + overlap,
        # (c - 1/2)/n + 1/2: the reference point stays at the same place when n x n pixels become one
        crpix=(
            (ring.crpix1 - 0.5) / n + 0.5 + half * stride_x,
            (ring.crpix2 - 0.5) / n + 0.5 + half * stride_y,
        ),
    )


@dataclass(frozen=True, order=True)
class Skycell:
    """The name of a skycell: projection number, row y and column x, 0..9 each."""

    projection: int
    y: int
    x: int

    @classmethod
    def parse(cls, text: str) -> Skycell:
        """Read ``skycell.PPPP.0YX`` or ``rings.v3.skycell.PPPP.0YX``.

        Raises
        ------
        BadInput
            If the text is neither.
        """
        match = _NAME.fullmatch(text.strip())
        if match is None or not FIRST <= int(match[1]) <= LAST:
            raise BadInput(f"skycell: found {text!r}, expected skycell.PPPP.0YX with PPPP from {FIRST:04d} to {LAST}")
        return cls(int(match[1]), int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"skycell.{self.projection:04d}.0{self.y}{self.x}"


def locate(ra: float, dec: float, geometry: Geometry = RINGS_V3) -> tuple[Skycell, float, float]:
    """Find the skycell at a position: a lookup, not the rule of ownership between projections.

    Parameters
    ----------
    ra, dec
        Degrees.
    geometry
        The tessellation, or its scaled copy.

    Returns
    -------
    tuple
        The cell, and (X, Y) on the grid of its projection.

    Raises
    ------
    BadOption
        If the survey does not reach so far south.
    """
    ring = next((ring for ring in rings() if ring.dec_min <= dec < ring.dec_max), None)
    if ring is None:
        raise BadOption(f"dec: found {dec}, expected {rings()[0].dec_min:.4f} to 90, the reach of RINGS.V3")
    projection = geometry.projection(ring.projcell + round(ra * ring.nband / 360) % ring.nband)
    gx, gy = sky_to_grid(projection, ra, dec)
    x = _index(float(gx), projection.stride_x, geometry.split)
    y = _index(float(gy), projection.stride_y, geometry.split)
    return Skycell(projection.number, y, x), float(gx), float(gy)


def _index(position: float, stride: int, split: int) -> int:
    return min(max(floor((position - split) / stride), 0), CELLS - 1)


def sky_to_grid(
    projection: Projection, ra: ArrayLike, dec: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project positions to pixels (X, Y) of a projection, NaN where they lie behind the tangent plane.

    Parameters
    ----------
    projection
        The grid; its nominal tangent point is used.
    ra, dec
        Degrees, any shapes that broadcast.

    Notes
    -----
    TAN of Calabretta & Greisen (2002) with LONPOLE 180, in float64.
    """
    a = np.asarray(ra, np.float64) - projection.ra
    a = np.deg2rad(a - 360 * np.rint(a / 360))  # near 0 across RA 0/360, where 360 has but 1e-9 px to spare
    d, d0 = np.deg2rad(np.asarray(dec, np.float64)), np.deg2rad(projection.dec)
    cosine = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)  # of the distance to the centre
    cosine = np.where(cosine > 0, cosine, np.nan)
    xi = np.cos(d) * np.sin(a) / cosine
    eta = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / cosine
    px = np.rad2deg(1.0) / projection.geometry.pixel_scale  # pixels a radian
    return projection.crpix[0] - 1 - xi * px, projection.crpix[1] - 1 + eta * px


def grid_to_sky(projection: Projection, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (RA in 0..360, Dec) in degrees of pixels (X, Y) of a projection; inverse of `sky_to_grid`."""
    step = np.deg2rad(projection.geometry.pixel_scale)
    xi = (projection.crpix[0] - 1 - np.asarray(x, np.float64)) * step
    eta = (np.asarray(y, np.float64) - projection.crpix[1] + 1) * step
    d0 = np.deg2rad(projection.dec)
    towards = np.cos(d0) - eta * np.sin(d0)
    ra = projection.ra + np.rad2deg(np.arctan2(xi, towards))
    dec = np.arctan2(np.sin(d0) + eta * np.cos(d0), np.hypot(xi, towards))
    return ra % 360.0, np.rad2deg(dec)
