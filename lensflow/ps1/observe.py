"""Taking a simulated sky: exposure, noise and weights of one cell and band, and the files they go to."""

from __future__ import annotations

from dataclasses import dataclass
from shutil import copytree
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
import zarr
from astropy.io import fits

from lensflow.errors import BadOption
from lensflow.ps1 import encode
from lensflow.ps1.skymodel import BANDS
from lensflow.ps1.truth import EXPTIME, SATURATION, window_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Projection, Skycell
    from lensflow.ps1.truth import Sky

SKY_NOISE = {"r": 0.12, "i": 0.09, "z": 0.2, "y": 0.35}  # counts/s, rms of a pixel
GAIN = 1.1  # e/count
SLAB = 256  # rows of noise made at a time
CENSUS = 20.7  # mag in G, the limit of the Gaia catalogue

IMAGE, MASK, WEIGHT = "", "mask", "wt"

Layer: TypeAlias = (
    "tuple[str, NDArray[np.float32] | NDArray[np.uint16]]"  # IMAGE, MASK or WEIGHT; counts or bits
)


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
        Whether to record the variance and the bits too.
    quantise
        Whether to round to int16.
    """

    sky: Sky
    seed: int
    noise: bool
    weights: bool
    masks: bool
    quantise: bool

    @property
    def kinds(self) -> list[str]:
        """The layers recorded, in order."""
        return [IMAGE, *[MASK] * self.masks, *[WEIGHT] * self.weights]

    def layers(self, grid: Projection, cell: Skycell, band: str) -> Iterator[Layer]:
        """Yield image (L in counts, NaN where there is no value), mask and variance of L of a cell."""
        window = window_of(grid, cell)
        flux = self.sky.flux(grid, window, band)
        mask, blank = self.sky.defects(grid, window, band, flux)
        if self.sky.mode == "label":
            flux.fill(10 * cell.y + cell.x)
            mask.fill(10 * cell.y + cell.x)
        counts = np.multiply(flux, np.float32(EXPTIME[band]), out=flux)
        variance = counts / np.float32(GAIN)
        variance += np.float32((SKY_NOISE[band] * EXPTIME[band]) ** 2)
        if self.noise:
            rng = np.random.default_rng([self.seed, cell.projection, cell.y, cell.x, list(BANDS).index(band)])
            for start in range(0, len(counts), SLAB):
                rows = slice(start, start + SLAB)
                counts[rows] += rng.standard_normal(counts[rows].shape, np.float32) * np.sqrt(variance[rows])
        counts[blank] = np.nan
        variance[blank] = np.nan
        yield IMAGE, counts
        if self.masks:
            yield MASK, mask
        if self.weights:
            yield WEIGHT, variance


class Writer(Protocol):
    """Where cells go."""

    def write(self, grid: Projection, cell: Skycell, band: str, layer: Layer, *, quantise: bool) -> None:
        """Write an image, a mask or a weight."""

    def repeat(self, base: Skycell, grid: Projection, cell: Skycell, band: str, kinds: Sequence[str]) -> None:
        """Write layers of another cell anew under the header of this one."""


def _header(grid: Projection, cell: Skycell, band: str) -> fits.Header:
    return encode.cell_header(grid, cell, band, exptime=EXPTIME[band], gain=GAIN, saturation=SATURATION)


@dataclass(frozen=True)
class FitsWriter:
    """Files as the archive names them, flat in a folder."""

    folder: Path

    def path(self, cell: Skycell, band: str, kind: str) -> Path:
        """Return ``rings.v3.skycell.PPPP.0YX.stk.B.unconv[.mask|.wt].fits``."""
        return self.folder / f"rings.v3.{cell}.stk.{band}.unconv{kind and '.'}{kind}.fits"

    def write(self, grid: Projection, cell: Skycell, band: str, layer: Layer, *, quantise: bool) -> None:
        """Write an image, a mask or a weight; FITS files are always quantised."""
        del quantise
        kind, values = layer
        path, header = self.path(cell, band, kind), _header(grid, cell, band)
        if kind == MASK:
            encode.write_mask_fits(path, values, header)
        else:
            scaling = encode.Scaling.fit(values)
            encode.write_scaled_fits(path, scaling.encode(values), header, scaling)

    def repeat(self, base: Skycell, grid: Projection, cell: Skycell, band: str, kinds: Sequence[str]) -> None:
        """Write layers of another cell anew under the header of this one."""
        for kind in kinds:
            header = _header(grid, cell, band)
            encode.readdress_fits(self.path(base, band, kind), self.path(cell, band, kind), header)


@dataclass(frozen=True)
class ZarrWriter:
    """One Zarr v3 store with a group a projection, and in it a group a cell."""

    folder: Path

    def write(self, grid: Projection, cell: Skycell, band: str, layer: Layer, *, quantise: bool) -> None:
        """Write v of an image or weight as float32, or the bits of a mask."""
        kind, values = layer
        group = zarr.open_group(self.folder, mode="a").require_group(f"{cell.projection:04d}/{cell}")
        header = _header(grid, cell, band)
        name = band + (kind and f"_{kind}")
        if kind == MASK:
            encode.write_zarr(group, name, values, encode.mask_header(header))
            return
        scaling = encode.Scaling.fit(values)
        if quantise:
            stored = scaling.values(scaling.encode(values))
        else:
            stored = encode.A * np.arcsinh(
                (values.astype(np.float64) - scaling.boffset) / (2 * scaling.bsoften)
            )
        encode.write_zarr(group, name, stored.astype(np.float32), encode.scaled_header(header, scaling))

    def repeat(self, base: Skycell, grid: Projection, cell: Skycell, band: str, kinds: Sequence[str]) -> None:
        """Write layers of another cell anew under the header of this one."""
        root = zarr.open_group(self.folder, mode="a")
        root.require_group(f"{cell.projection:04d}/{cell}")
        for kind in kinds:
            name = band + (kind and f"_{kind}")
            here = f"{cell.projection:04d}/{cell}/{name}"
            copytree(
                self.folder / f"{base.projection:04d}/{base}/{name}", self.folder / here, dirs_exist_ok=True
            )
            array = root[here]
            cards = fits.Header.fromstring(str(array.attrs["header"]))
            cards.update(_header(grid, cell, band))
            array.attrs["header"] = cards.tostring(sep="", padding=False)


def write_cells(
    writer: Writer,
    telescope: Telescope,
    cells: Sequence[tuple[Projection, Skycell]],
    *,
    bands: Sequence[str],
    drop: Sequence[str],
    reuse: bool,
) -> None:
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
    """
    for band in bands:
        bases: dict[tuple[int, int], Skycell] = {}
        for grid, cell in cells:
            kinds = [kind for kind in telescope.kinds if not _dropped(drop, cell, band, kind)]
            base = bases.get((grid.height, grid.width))
            if base is not None:
                writer.repeat(base, grid, cell, band, kinds)
            elif kinds:
                for layer in telescope.layers(grid, cell, band):
                    if layer[0] in kinds:
                        writer.write(grid, cell, band, layer, quantise=telescope.quantise)
                if reuse and kinds == telescope.kinds:
                    bases[grid.height, grid.width] = cell


def _dropped(drop: Sequence[str], cell: Skycell, band: str, kind: str) -> bool:
    return bool({str(cell), f"{cell}.{band}", f"{cell}.{band}.{kind}"}.intersection(drop))


def check_drop(drop: Sequence[str], cells: Sequence[Skycell], bands: Sequence[str]) -> None:
    """Refuse to leave out what would not be written anyway.

    Raises
    ------
    BadOption
        If a name is not that of a cell, or of a cell's file.
    """
    names = {str(cell) for cell in cells}
    ends = {"", *(f".{band}{end}" for band in bands for end in ("", ".mask", ".wt"))}
    for text in drop:
        name = ".".join(text.split(".")[:3])
        if name not in names or text[len(name) :] not in ends:
            raise BadOption(
                f"drop: found {text!r}, expected a simulated cell or one of its files, "
                f"such as {cells[0]} or {cells[0]}.{bands[0]}.mask"
            )


def write_selection(path: Path, cells: Sequence[tuple[Projection, Skycell]]) -> None:
    """Write the master list of the cells of a TESS CCD."""
    rows = [
        {
            "NAME": str(cell),
            "projection": cell.projection,
            "y": cell.y,
            "x": cell.x,
            "NAXIS1": grid.width,
            "NAXIS2": grid.height,
            "CRPIX1": grid.cell_crpix(cell.y, cell.x)[0],
            "CRPIX2": grid.cell_crpix(cell.y, cell.x)[1],
            "CRVAL1": grid.ra,
            "CRVAL2": grid.dec,
        }
        for grid, cell in cells
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def write_catalogue(path: Path, stars: pd.DataFrame) -> None:
    """Write the stars that Gaia sees: G up to 20.7."""
    columns = ["source_id", "ra", "dec", *(f"phot_{band}_mean_mag" for band in ("g", "bp", "rp"))]
    path.parent.mkdir(parents=True, exist_ok=True)
    stars.loc[stars["phot_g_mean_mag"] < CENSUS, columns].to_csv(path, index=False)
