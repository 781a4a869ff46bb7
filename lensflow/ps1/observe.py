"""Taking a simulated sky: exposure, noise and weights of one cell and band, and the files they go to."""

from __future__ import annotations

from dataclasses import dataclass
from shutil import copytree
from typing import TYPE_CHECKING, Protocol

import numpy as np
import zarr
from astropy.io import fits

from lensflow.ps1 import encode
from lensflow.ps1.skymodel import BANDS
from lensflow.ps1.truth import EXPTIME, SATURATION, window_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Projection, Skycell
    from lensflow.ps1.truth import Sky

SKY_NOISE = {"r": 0.12, "i": 0.09, "z": 0.2, "y": 0.35}  # counts/s, rms of a pixel
GAIN = 1.1  # e/count
SLAB = 256  # rows of noise made at a time

IMAGE, MASK, WEIGHT = "", "mask", "wt"


@dataclass(frozen=True)
class Exposure:
    """One band of one cell as recorded, all (y, x).

    Parameters
    ----------
    counts
        L, NaN where there is no value.
    variance
        Of L, NaN where there is no value.
    bits
        The mask.
    """

    counts: NDArray[np.float32]
    variance: NDArray[np.float32]
    bits: NDArray[np.uint16]


@dataclass(frozen=True)
class Telescope:
    """How the sky is recorded.

    Parameters
    ----------
    sky
        To be seen.
    seed
        Of the noise.
    noise
        Whether there is any.
    weights, masks
        Whether to write the variance and the bits too.
    """

    sky: Sky
    seed: int
    noise: bool
    weights: bool
    masks: bool

    @property
    def kinds(self) -> list[str]:
        """The files of a cell and band, in order."""
        return [IMAGE, *[MASK] * self.masks, *[WEIGHT] * self.weights]

    def expose(self, grid: Projection, cell: Skycell, band: str) -> Exposure:
        """Record one band of a cell."""
        window = window_of(grid, cell)
        flux = self.sky.flux(grid, window, band)
        bits, blank = self.sky.defects(grid, window, band, flux)
        if self.sky.mode == "label":
            flux.fill(10 * cell.y + cell.x)
            bits.fill(10 * cell.y + cell.x)
        counts = np.multiply(flux, np.float32(EXPTIME[band]), out=flux)
        # variance of L = sky + L/gain, in counts^2
        variance = np.divide(counts, np.float32(GAIN), dtype=np.float32)
        variance += np.float32((SKY_NOISE[band] * EXPTIME[band]) ** 2)
        if self.noise:
            rng = np.random.default_rng([self.seed, cell.projection, cell.y, cell.x, list(BANDS).index(band)])
            for start in range(0, len(counts), SLAB):
                rows = slice(start, start + SLAB)
                counts[rows] += rng.standard_normal(counts[rows].shape, np.float32) * np.sqrt(variance[rows])
        counts[blank] = np.nan
        variance[blank] = np.nan
        return Exposure(counts, variance, bits)


class Writer(Protocol):
    """Where cells go."""

    def write(self, grid: Projection, cell: Skycell, band: str, kind: str, counts: NDArray[np.float32]) -> None:
        """Write an image or a weight (y, x) in counts."""

    def write_mask(self, grid: Projection, cell: Skycell, band: str, bits: NDArray[np.uint16]) -> None:
        """Write the bits (y, x) of a mask."""

    def repeat(self, base: Skycell, grid: Projection, cell: Skycell, band: str, kind: str) -> None:
        """Write what the base has anew under the header of this cell."""


def _header(grid: Projection, cell: Skycell, band: str) -> fits.Header:
    return encode.cell_header(grid, cell, band, exptime=EXPTIME[band], gain=GAIN, saturation=SATURATION)


@dataclass(frozen=True)
class FitsWriter:
    """Files as the archive names them, flat in a folder."""

    folder: Path

    def path(self, cell: Skycell, band: str, kind: str) -> Path:
        """Return ``rings.v3.skycell.PPPP.0YX.stk.B.unconv[.mask|.wt].fits``."""
        return self.folder / f"rings.v3.{cell}.stk.{band}.unconv{kind and '.'}{kind}.fits"

    def write(self, grid: Projection, cell: Skycell, band: str, kind: str, counts: NDArray[np.float32]) -> None:
        """Write an image or a weight (y, x) in counts."""
        scaling = encode.Scaling.fit(counts)
        header = _header(grid, cell, band)
        encode.write_scaled_fits(self.path(cell, band, kind), scaling.encode(counts), header, scaling)

    def write_mask(self, grid: Projection, cell: Skycell, band: str, bits: NDArray[np.uint16]) -> None:
        """Write the bits (y, x) of a mask."""
        encode.write_mask_fits(self.path(cell, band, MASK), bits, _header(grid, cell, band))

    def repeat(self, base: Skycell, grid: Projection, cell: Skycell, band: str, kind: str) -> None:
        """Write what the base has anew under the header of this cell."""
        header = _header(grid, cell, band)
        encode.readdress_fits(self.path(base, band, kind), self.path(cell, band, kind), header)


@dataclass(frozen=True)
class ZarrWriter:
    """One Zarr v3 store with a group a projection, and in it a group a cell.

    Parameters
    ----------
    folder
        The store.
    quantise
        Whether to round v to the steps of int16 or keep it to float32.
    """

    folder: Path
    quantise: bool = True

    def write(self, grid: Projection, cell: Skycell, band: str, kind: str, counts: NDArray[np.float32]) -> None:
        """Write v = a asinh((L - BOFFSET)/(2 BSOFTEN)) of an image or weight (y, x) in counts."""
        scaling = encode.Scaling.fit(counts)
        v = scaling.values(scaling.encode(counts)) if self.quantise else scaling.stretched(counts)
        header = encode.scaled_header(_header(grid, cell, band), scaling)
        encode.write_zarr(self._group(cell), _array_name(band, kind), v.astype(np.float32), header)

    def write_mask(self, grid: Projection, cell: Skycell, band: str, bits: NDArray[np.uint16]) -> None:
        """Write the bits (y, x) of a mask."""
        header = encode.mask_header(_header(grid, cell, band))
        encode.write_zarr(self._group(cell), _array_name(band, MASK), bits, header)

    def repeat(self, base: Skycell, grid: Projection, cell: Skycell, band: str, kind: str) -> None:
        """Write what the base has anew under the header of this cell."""
        group, name = self._group(cell), _array_name(band, kind)
        copytree(
            self.folder / f"{base.projection:04d}/{base}/{name}",
            self.folder / f"{cell.projection:04d}/{cell}/{name}",
            dirs_exist_ok=True,
        )
        cards = fits.Header.fromstring(str(group[name].attrs["header"]))
        cards.update(_header(grid, cell, band))
        group[name].attrs["header"] = cards.tostring(sep="", padding=False)

    def _group(self, cell: Skycell) -> zarr.Group:
        return zarr.open_group(self.folder, mode="a").require_group(f"{cell.projection:04d}/{cell}")


def _array_name(band: str, kind: str) -> str:
    return f"{band}_{kind}" if kind else band


def write_cells(
    writer: Writer,
    telescope: Telescope,
    cells: Sequence[tuple[Projection, Skycell]],
    *,
    bands: Sequence[str],
    drop: Sequence[str],
    reuse: bool,
) -> int:
    """Write cells band by band, so that no more than one band of one cell is in memory.

    Parameters
    ----------
    writer, telescope
        Where to, and how.
    cells
        Each with its projection.
    bands
        To write.
    drop
        Names of cells, or of files as ``skycell.2246.033.i.mask``, to leave out.
    reuse
        Compute the first cell of each size only, and repeat its pixels.

    Returns
    -------
    int
        How many images, masks and weights were written.
    """
    written = 0
    for band in bands:
        bases: dict[tuple[int, int], Skycell] = {}
        for grid, cell in cells:
            kinds = [kind for kind in telescope.kinds if not _dropped(drop, cell, band, kind)]
            written += len(kinds)
            base = bases.get((grid.height, grid.width))
            if base is not None:
                for kind in kinds:
                    writer.repeat(base, grid, cell, band, kind)
            elif kinds:
                _write_exposure(writer, telescope.expose(grid, cell, band), (grid, cell, band), kinds=kinds)
                if reuse and kinds == telescope.kinds:
                    bases[grid.height, grid.width] = cell
    return written


def _write_exposure(
    writer: Writer, exposure: Exposure, where: tuple[Projection, Skycell, str], *, kinds: Sequence[str]
) -> None:
    if IMAGE in kinds:
        writer.write(*where, IMAGE, exposure.counts)
    if MASK in kinds:
        writer.write_mask(*where, exposure.bits)
    if WEIGHT in kinds:
        writer.write(*where, WEIGHT, exposure.variance)


def _dropped(drop: Sequence[str], cell: Skycell, band: str, kind: str) -> bool:
    return bool({str(cell), f"{cell}.{band}", f"{cell}.{band}.{kind}"}.intersection(drop))
