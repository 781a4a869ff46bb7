"""A sky to simulate: stars, galaxies and detector defects, fixed to RA and Dec.

The sky is drawn patch by patch, each patch from its own seed. What is at a position therefore depends on
the seed alone, never on which cells were asked for, and all projections see the same objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.tessellation import grid_to_sky

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from lensflow.ps1.tessellation import Geometry, Projection, Skycell

PATCH = 0.4  # deg, about the size of a skycell
CELL_AREA = (6240 * 6.94444461259988e-05) ** 2  # deg^2
BRIGHTEST, FAINTEST = 12.0, 22.0  # mag in r
STAR_SLOPE, GALAXY_SLOPE = 0.3, 0.45  # of log10 dN/dm
BANDS = {"r": 0.0, "i": 1.0, "z": 1.55, "y": 1.85}  # colours along one sequence: r - band in units of r - i
GAP = MaskBit.DETECTOR | MaskBit.BLANK
ALL_BANDS = -1
FARTHEST = 100.0  # px, no object reaches beyond


@dataclass(frozen=True)
class Defect:
    """A convex polygon on the sky whose pixels carry mask bits.

    Parameters
    ----------
    ra, dec
        Corners in degrees, in order round the polygon.
    bits
        Set in the mask.
    blank
        The pixels have no value.
    band
        Index of the one band it is in, or ALL_BANDS.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    bits: int
    blank: bool
    band: int = ALL_BANDS


@dataclass(frozen=True)
class Scene:
    """What is on the sky.

    Parameters
    ----------
    stars
        source_id, ra, dec (deg), flux_{band} (counts/s), phot_{g,bp,rp}_mean_mag.
    galaxies
        ra, dec (deg), flux_{band} (counts/s), r_e (px), axis_ratio, angle (rad, north through east).
    defects
        Mask shapes.
    """

    stars: pd.DataFrame
    galaxies: pd.DataFrame
    defects: tuple[Defect, ...]


def draw_scene(
    cells: Sequence[tuple[Projection, Skycell]],
    *,
    seed: int,
    stars: float,
    galaxies: float,
    defects: bool,
) -> Scene:
    """Draw the sky that covers some cells.

    Parameters
    ----------
    cells
        Each with its projection.
    seed
        Of everything.
    stars, galaxies
        Mean number in the area of a skycell.
    defects
        Gaps, streaks, and what bright stars do to a detector.
    """
    geometry = cells[0][0].geometry
    patches = [_Patch(seed, geometry, *where).draw(stars, galaxies, defects=defects) for where in _patches(cells)]
    return Scene(
        stars=pd.concat([patch.stars for patch in patches], ignore_index=True),
        galaxies=pd.concat([patch.galaxies for patch in patches], ignore_index=True),
        defects=tuple(defect for patch in patches for defect in patch.defects),
    )


def _patches(cells: Iterable[tuple[Projection, Skycell]]) -> list[tuple[int, int]]:
    """Return (Dec index, RA index) of the patches from which something may reach into the cells, in order."""
    found: set[tuple[int, int]] = set()
    for projection, cell in cells:
        y0, x0 = projection.cell_origin(cell.y, cell.x)
        patch = PATCH / projection.geometry.pixel_scale  # px
        margin = max(patch, FARTHEST)  # streaks, fixed in degrees, are shorter than a patch
        points = ceil(8 * (max(projection.width, projection.height) + 2 * margin) / patch)
        x = np.linspace(x0 - margin, x0 + projection.width + margin, points)
        y = np.linspace(y0 - margin, y0 + projection.height + margin, points)
        ra, dec = grid_to_sky(projection, *np.meshgrid(x, y))
        row = np.floor((dec + 90) / PATCH).astype(int)
        column = np.floor(ra / 360 * _columns(row)).astype(int)
        found.update(zip(row.ravel().tolist(), column.ravel().tolist(), strict=True))
    return sorted(found)


def _columns(row: ArrayLike) -> NDArray[np.int_]:
    middle = np.deg2rad((np.asarray(row) + 0.5) * PATCH - 90)
    return np.maximum(1, np.rint(360 * np.cos(middle) / PATCH)).astype(int)


class _Patch:
    """A rectangle in RA and Dec and the random numbers that fill it."""

    def __init__(self, seed: int, geometry: Geometry, row: int, column: int) -> None:
        self.rng = np.random.default_rng([seed, row, column])
        self.scale = geometry.pixel_scale
        width = 360 / int(_columns(row))
        self.ra = column * width, (column + 1) * width
        self.dec = row * PATCH - 90, min((row + 1) * PATCH - 90, 90.0)
        self.sines = np.sin(np.deg2rad(self.dec[0])), np.sin(np.deg2rad(self.dec[1]))
        self.area = np.rad2deg(1) * width * float(self.sines[1] - self.sines[0])  # deg^2
        self.first_id = (row * 4096 + column) * 1_000_000

    def draw(self, stars: float, galaxies: float, *, defects: bool) -> Scene:
        star_table = self.draw_stars(stars)
        galaxy_table = self.draw_galaxies(galaxies)
        shapes = self.draw_defects(star_table) if defects else ()
        return Scene(star_table, galaxy_table, shapes)

    def positions(self, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Spread points evenly over the sphere within the patch."""
        ra = self.rng.uniform(*self.ra, number)
        dec = np.rad2deg(np.arcsin(self.rng.uniform(*self.sines, number)))
        return ra, dec

    def magnitudes(self, number: int, slope: float, brightest: float) -> NDArray[np.float64]:
        """Draw dN/dm ~ 10^(slope m) by inverting its integral."""
        u = self.rng.uniform(10 ** (slope * (brightest - FAINTEST)), 1, number)
        return FAINTEST + np.log10(u) / slope

    def draw_stars(self, density: float) -> pd.DataFrame:
        number = self.rng.poisson(density * self.area / CELL_AREA)
        ra, dec = self.positions(number)
        r = self.magnitudes(number, STAR_SLOPE, BRIGHTEST)
        red = np.clip(self.rng.lognormal(np.log(0.25), 0.7, number), 0.02, 1.8)  # r - i of dwarfs
        colour = np.where(self.rng.random(number) < 0.02, np.nan, 0.45 + 1.25 * red)  # BP - RP, 2 % unmeasured
        return pd.DataFrame(
            {
                "source_id": self.first_id + np.arange(number, dtype=np.int64),
                "ra": ra,
                "dec": dec,
                **_fluxes(r, red),
                "phot_g_mean_mag": r + 0.08 - 0.15 * red,
                "phot_bp_mean_mag": r + 0.1 + 0.45 * colour,
                "phot_rp_mean_mag": r + 0.1 - 0.55 * colour,
            }
        )

    def draw_galaxies(self, density: float) -> pd.DataFrame:
        number = self.rng.poisson(density * self.area / CELL_AREA)
        ra, dec = self.positions(number)
        r = self.magnitudes(number, GALAXY_SLOPE, BRIGHTEST + 3)
        size = 2 + 8 * self.rng.beta(1.2, 3.0, number) ** np.clip((r - 13) / 7, 0.2, 1.3)  # bright ones are large
        return pd.DataFrame(
            {
                "ra": ra,
                "dec": dec,
                **_fluxes(r, self.rng.uniform(0.15, 0.6, number)),
                "r_e": size,
                "axis_ratio": self.rng.uniform(0.25, 1, number),
                "angle": self.rng.uniform(0, np.pi, number),
            }
        )

    def draw_defects(self, stars: pd.DataFrame) -> tuple[Defect, ...]:
        bright = stars[stars["flux_r"] > _flux(14.0)]
        found = [shape for _, star in bright.iterrows() for shape in self.star_defects(star)]
        found += [
            self.strip(length=(0.08, 0.3), width=(2, 6), bits=GAP, blank=True, band=band)
            for band in (ALL_BANDS, *range(len(BANDS)))
            for _ in range(self.rng.poisson(0.5))
        ]
        found += [
            self.strip(length=(0.2, 0.38), width=(2, 4), bits=MaskBit.STREAK, blank=False, band=band)
            for band in range(len(BANDS))
            for _ in range(self.rng.poisson(0.2))
        ]
        return tuple(found)

    def star_defects(self, star: pd.Series) -> list[Defect]:
        """Diffraction spikes, and for the brightest a core without values and a ghost beside it."""
        magnitude = 25 - 2.5 * np.log10(star["flux_r"])
        length = 15 + 15 * (14 - magnitude)  # px
        found = [
            self.shape(star["ra"], star["dec"], _strip(length, 2.0, angle), MaskBit.SPIKE)
            for angle in np.deg2rad([45, 135])
        ]
        if magnitude < 13.0:
            core = _disc(1.5 + (13 - magnitude))
            bits = MaskBit.BLANK | MaskBit.SAT | MaskBit.STARCORE
            found.append(self.shape(star["ra"], star["dec"], core, bits, blank=True))
        if magnitude < 12.7:
            away = self.rng.uniform(0, 2 * np.pi)
            disc = _disc(12.0) + 50 * np.array([[np.cos(away), np.sin(away)]])
            found.append(self.shape(star["ra"], star["dec"], disc, MaskBit.GHOST))
        return found

    def strip(
        self, *, length: tuple[float, float], width: tuple[float, float], bits: int, blank: bool, band: int
    ) -> Defect:
        """Place a straight strip anywhere at any angle, its length in degrees and its width in pixels."""
        ra, dec = self.positions(1)
        corners = _strip(
            self.rng.uniform(*length) / 2 / self.scale, self.rng.uniform(*width), self.rng.uniform(0, np.pi)
        )
        return self.shape(float(ra[0]), float(dec[0]), corners, bits, blank=blank, band=band)

    def shape(
        self,
        ra: float,
        dec: float,
        corners: NDArray[np.float64],
        bits: int,
        *,
        blank: bool = False,
        band: int = ALL_BANDS,
    ) -> Defect:
        """Fix corners (n, 2), in pixels towards east and north of a position, to the sky."""
        there = shifted(ra, dec, *np.deg2rad(corners.T * self.scale))
        return Defect(*there, bits=int(bits), blank=blank, band=band)


def shifted(
    ra: ArrayLike, dec: ArrayLike, xi: ArrayLike, eta: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the position (deg) at tangent-plane offsets xi (east), eta (north), in radians, from another."""
    d0 = np.deg2rad(dec)
    towards = np.cos(d0) - np.asarray(eta) * np.sin(d0)
    away = np.rad2deg(np.arctan2(xi, towards))
    there = np.arctan2(np.sin(d0) + np.asarray(eta) * np.cos(d0), np.hypot(xi, towards))
    return (np.asarray(ra) + away) % 360.0, np.rad2deg(there)


def _flux(magnitude: ArrayLike) -> NDArray[np.float64]:
    return 10 ** (0.4 * (25 - np.asarray(magnitude, np.float64)))  # counts/s, AB zero point 25


def _fluxes(r: NDArray[np.float64], red: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {f"flux_{band}": _flux(r - step * red) for band, step in BANDS.items()}


def _strip(half_length: float, width: float, angle: float) -> NDArray[np.float64]:
    along = half_length * np.array([np.cos(angle), np.sin(angle)])
    across = width / 2 * np.array([-np.sin(angle), np.cos(angle)])
    return np.array([along + across, along - across, -along - across, -along + across])


def _disc(radius: float) -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
