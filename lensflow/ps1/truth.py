"""What a simulated sky is in truth: the noiseless image on the grid of any projection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import xarray as xr

from lensflow.errors import BadOption
from lensflow.ps1.bands import WEIGHTS
from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.render import render_defects, render_flux
from lensflow.ps1.skymodel import BANDS

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from lensflow.ps1.render import Window
    from lensflow.ps1.skymodel import Scene
    from lensflow.ps1.tessellation import Geometry, Projection, Skycell

Mode: TypeAlias = Literal["sky", "label", "constant", "delta"]

EXPTIME = {"r": 720.0, "i": 1860.0, "z": 720.0, "y": 500.0}  # s
SATURATION = 1.2e6  # counts


@dataclass(frozen=True)
class Sky:
    """What is to be seen: all that decides the pixels, apart from noise.

    Parameters
    ----------
    mode
        Of :func:`simulate`.
    scene
        Objects and defects, for ``mode="sky"``.
    value
        Counts/s of ``constant`` and of the one pixel of ``delta``.
    delta
        (Y, X) on the grid of that pixel.
    """

    mode: Mode
    scene: Scene
    value: float
    delta: tuple[int, int]

    def flux(self, projection: Projection, window: Window, band: str) -> NDArray[np.float32]:
        """Return the noiseless flux (y, x), counts/s, clipped where a pixel saturates."""
        (y0, y1), (x0, x1) = window
        if self.mode == "sky":
            image = render_flux(self.scene, projection, window, band=band)
            return np.minimum(image, np.float32(SATURATION / EXPTIME[band]), out=image)
        image = np.full((y1 - y0, x1 - x0), self.value if self.mode == "constant" else 0, np.float32)
        y, x = self.delta
        if self.mode == "delta" and y0 <= y < y1 and x0 <= x < x1:
            image[y - y0, x - x0] = self.value
        return image

    def defects(
        self, projection: Projection, window: Window, band: str, flux: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Return mask bits (y, x) and the pixels without value; the flux tells what is saturated."""
        mask, blank = render_defects(self.scene, projection, window, band=list(BANDS).index(band))
        if self.mode == "sky":
            saturated = np.uint16(MaskBit.SAT | MaskBit.STARCORE)
            mask[flux >= np.float32(SATURATION / EXPTIME[band])] |= saturated
        return mask, blank


@dataclass(frozen=True)
class Truth:
    """What was written, and what a perfect telescope would have seen.

    Parameters
    ----------
    root
        The folder that was written.
    source
        Where the cells are: ``root`` for FITS, ``root/skycells.zarr`` for Zarr.
    selection, catalogue
        The master list of cells and the Gaia catalogue (CSV).
    cells
        All cells asked for, dropped ones included.
    files
        How many images, masks and weights were written.
    geometry
        The tessellation, scaled.
    bands
        As written.
    sky
        What decides the pixels.
    """

    root: Path
    source: Path
    selection: Path
    catalogue: Path
    cells: tuple[Skycell, ...]
    files: int
    geometry: Geometry
    bands: tuple[str, ...]
    sky: Sky

    def __str__(self) -> str:
        scene, form = self.sky.scene, "files" if self.source == self.root else "arrays"
        return (
            f"{_number(len(self.cells), 'skycell')} in {self.files} {form} with {_number(len(scene.stars), 'star')} "
            f"and {_number(len(scene.galaxies), 'galaxy', 'galaxies')} on and round them, written to {self.source}"
        )

    __repr__ = __str__  # the arrays of the sky would fill pages

    @property
    def stars(self) -> pd.DataFrame:
        """Stars: source_id, ra, dec (deg), flux_{band} (counts/s), phot_{g,bp,rp}_mean_mag."""
        return self.sky.scene.stars

    def image(self, projection: int | None = None, *, holes: bool = True) -> xr.DataArray:
        """Return the noiseless combined flux on the bounding box of the cells of a projection.

        Parameters
        ----------
        projection
            Its number; by default that of the first cell.
        holes
            Leave out what has no value: a pixel is renormalised to the bands that have one, and NaN where
            none has. Without, all bands are seen everywhere.

        Returns
        -------
        xr.DataArray
            (y, x) float64, counts/s: sum of w f over sum of w, times the weights of all bands.

        Raises
        ------
        BadOption
            If no cell of the projection was simulated, or the cells are labels.
        """
        if self.sky.mode == "label":
            raise BadOption("mode: found 'label', expected another: labels overlap, so the image is the owner's")
        grid, window = self._box(projection)
        total = np.zeros([stop - start for start, stop in window])
        weight = np.zeros_like(total)
        for band in self.bands:
            flux = self.sky.flux(grid, window, band)
            seen = ~self.sky.defects(grid, window, band, flux)[1] if holes else np.ones(flux.shape, np.bool_)
            total += WEIGHTS[band] * np.where(seen, flux, 0)
            weight += WEIGHTS[band] * seen
        weight[weight == 0] = np.nan
        total *= sum(WEIGHTS[band] for band in self.bands) / weight
        return self._array(total, window, "flux")

    def mask(self, projection: int | None = None) -> xr.DataArray:
        """Return the bits (y, x) uint16 of all bands on the bounding box of the cells of a projection."""
        grid, window = self._box(projection)
        bits = np.zeros([stop - start for start, stop in window], np.uint16)
        for band in self.bands:
            bits |= self.sky.defects(grid, window, band, self.sky.flux(grid, window, band))[0]
        return self._array(bits, window, "mask")

    def _box(self, number: int | None) -> tuple[Projection, Window]:
        grid = grid_of(self.geometry, self.cells[0].projection if number is None else number)
        windows = [window_of(grid, cell) for cell in self.cells if cell.projection == grid.number]
        if not windows:
            raise BadOption(f"projection: found {number}, expected one of which cells were simulated")
        y, x = (
            (min(window[axis][0] for window in windows), max(window[axis][1] for window in windows)) for axis in (0, 1)
        )
        return grid, (y, x)

    @staticmethod
    def _array(values: NDArray[np.generic], window: Window, name: str) -> xr.DataArray:
        coords = {dim: np.arange(*ends, dtype=np.int32) for dim, ends in zip("yx", window, strict=True)}
        return xr.DataArray(values, dims=("y", "x"), coords=coords, name=name)


def _number(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def grid_of(geometry: Geometry, number: int) -> Projection:
    """Return a projection with the tangent point that headers state: the survey rounded it to float32."""
    nominal = geometry.projection(number)
    return replace(nominal, ra=float(np.float32(nominal.ra)), dec=float(np.float32(nominal.dec)))


def window_of(grid: Projection, cell: Skycell) -> Window:
    """Return the rows and columns of the grid that a cell covers."""
    y0, x0 = grid.cell_origin(cell.y, cell.x)
    return (y0, y0 + grid.height), (x0, x0 + grid.width)
