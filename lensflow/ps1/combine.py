"""Bands of a skycell combined into one image, a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.ps1.cells import CRVAL_AGREEMENT, Rect
from lensflow.ps1.fits_cells import FitsBand
from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.zarr_cells import ZarrBand

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from lensflow.ps1.cells import BandFiles, CellFiles
    from lensflow.ps1.tessellation import Projection

Missing = Literal["renormalise", "skip", "fail"]


@dataclass(frozen=True)
class Recipe:
    """How bands become one image.

    Parameters
    ----------
    bands, weights
        The bands and their weights w; w_tot is the sum over all of them.
    missing
        ``"renormalise"``: F = w_tot sum_B w f / sum_B w over the finite bands B; ``"skip"``: the sum over the bands
        that exist as files, NaN in any of them gives NaN; ``"fail"``: every band must exist, NaN in any gives NaN.
    invalid_bits
        Mask bits that turn a pixel of a band to NaN.
    uncertainty
        Whether the variance is made too.
    on_corrupt
        ``"mask"``: a damaged band is NaN, marked and noted; ``"fail"``: it is an error.

    Raises
    ------
    BadOption
        If the weights do not match the bands.
    """

    bands: tuple[str, ...]
    weights: tuple[float, ...]
    missing: Missing = "renormalise"
    invalid_bits: int = 0
    uncertainty: bool = False
    on_corrupt: Literal["mask", "fail"] = "mask"

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands) or any(len(b) != 1 for b in self.bands):
            raise BadOption(f"bands: found {self.bands}, expected different single letters such as r i z y")
        if len(self.bands) > 8:
            raise BadOption(f"bands: found {len(self.bands)} of them, expected at most 8")
        if len(self.weights) != len(self.bands):
            raise BadOption(f"weights: found {len(self.weights)} of them, expected one for each of {self.bands}")
        if not all(0 < weight < float("inf") for weight in self.weights):
            raise BadOption(f"weights: found {self.weights}, expected positive numbers")
        if self.missing not in ("renormalise", "skip", "fail"):
            raise BadOption(f"missing: found {self.missing!r}, expected renormalise, skip or fail")
        if self.on_corrupt not in ("mask", "fail"):
            raise BadOption(f"on_corrupt: found {self.on_corrupt!r}, expected mask or fail")
        if not 0 <= self.invalid_bits <= 65535:
            raise BadOption(f"invalid_bits: found {self.invalid_bits}, expected a sum of mask bits, 0..65535")

    def norms(self, existing: int) -> NDArray[np.float32]:
        """Return the factor of sum w f for each set of absent bands (bit k = band k), NaN where there is no value.

        Parameters
        ----------
        existing
            The set of bands that exist as files.
        """
        sets = np.arange(1 << len(self.bands))
        if self.missing != "renormalise":
            # a band without a file is left out (skip) or was refused before (fail); a NaN of the others shows
            return np.where(sets & existing, np.nan, 1.0).astype(np.float32)
        left = sum(w * ((sets >> k & 1) == 0) for k, w in enumerate(self.weights))
        with np.errstate(divide="ignore"):
            factor = sum(self.weights) / np.asarray(left, np.float64)
        factor[-1] = np.nan  # no band is left
        return factor.astype(np.float32)


@dataclass
class Slab:
    """Some rows of a combined skycell, all columns of its data rectangle."""

    rect: Rect  # in pixels of the cell
    flux: NDArray[np.float32]
    mask: NDArray[np.uint16]
    variance: NDArray[np.float32] | None


class Combination:
    """The combined image of one skycell, read by rows.

    Parameters
    ----------
    cell
        Its files.
    projection
        Its grid.
    recipe
        How to combine.
    """

    def __init__(self, cell: CellFiles, projection: Projection, recipe: Recipe) -> None:
        self.cell, self.projection, self.recipe = cell, projection, recipe
        self.rect = cell.rect
        self.damaged: set[str] = set()
        self._readers: dict[str, FitsBand | ZarrBand] = {}

    @cached_property
    def _files(self) -> dict[str, BandFiles]:
        return {band: files for band in self.recipe.bands if (files := self.cell.band(band)) is not None}

    def slabs(self, start: int, stop: int) -> Generator[Slab]:
        """Yield rows ``start`` to ``stop`` (pixels of the cell) from the bottom up.

        If a band turns out to be damaged half-way, all is yielded again without it: take the last value.
        """
        try:
            self._open(stop)
            while True:
                before = len(self.damaged)
                for rows in self._steps(start, stop):
                    slab = self._combine(rows)
                    if len(self.damaged) > before:
                        break  # a band was lost: once more without it
                    yield slab
                else:
                    return
        finally:
            for reader in self._readers.values():
                reader.close()

    def _open(self, stop: int) -> None:
        for band, files in self._files.items():
            kind = FitsBand if files.format == "fits" else ZarrBand
            try:
                weighted, last = self.recipe.uncertainty, stop - files.rect.y0
                reader = kind(files, self.projection, self.cell.cell, weight=weighted, stop=last)
            except BadInput as error:
                self._give_up(band, error)
            else:
                self._readers[band] = reader

    def _steps(self, start: int, stop: int) -> Iterator[Rect]:
        step = max((reader.step for reader in self._readers.values()), default=max(1, stop - start))
        while start < stop:
            end = min(stop, (start // step + 1) * step)  # whole stored rows of tiles
            yield Rect(start, self.rect.x0, end, self.rect.x1)
            start = end

    def _give_up(self, band: str, error: BadInput) -> None:
        if self.recipe.on_corrupt == "fail":
            raise error
        self.damaged.add(band)
        files = self._files[band]
        events.note(
            "corrupt-file",
            f"band {band} of {self.cell.cell} was left out: {error}",
            file=next((path for path in files.read(weight=True) if str(error).startswith(f"{path}:")), files.image),
            cell=str(self.cell.cell),
            band=band,
            reason=str(error),
        )

    def _combine(self, rows: Rect) -> Slab:
        recipe = self.recipe
        shape = rows.shape
        slab = Slab(rows, np.zeros(shape, np.float32), np.zeros(shape, np.uint16), None)
        if recipe.uncertainty:
            slab.variance = np.zeros(shape, np.float32)
        absent = np.zeros(shape, np.uint8)  # bit k: band k has no value here
        existing = 0
        for k, (band, weight) in enumerate(zip(recipe.bands, recipe.weights, strict=True)):
            existing |= (band in self._files) << k
            if band not in self._readers or band in self.damaged:
                absent |= np.uint8(1 << k)
                continue
            try:
                self._add(slab, absent, band, weight, np.uint8(1 << k))
            except BadInput as error:
                self._give_up(band, error)
                return slab
        self._normalise(slab, absent, recipe.norms(existing))
        return slab

    def _add(self, slab: Slab, absent: NDArray[np.uint8], band: str, weight: float, bit: np.uint8) -> None:
        """Add w f where the band has a value, and mark where it has none."""
        rect, reader = self._files[band].rect, self._readers[band]
        part = rect.common(slab.rect)
        here = part.moved(-slab.rect.y0, -slab.rect.x0).slices
        if part != slab.rect:  # a cutout smaller than the others
            absent |= bit
            if part.empty:
                return
            absent[here] &= ~bit
        rows = part.y0 - rect.y0, part.y1 - rect.y0
        flux, mask = reader.flux(*rows), reader.mask(*rows)
        without = ~np.isfinite(flux)
        if mask is not None:
            slab.mask[here] |= mask
            if self.recipe.invalid_bits:
                without |= (mask & np.uint16(self.recipe.invalid_bits)) != 0
        if without.any():
            np.copyto(flux, 0, where=without)
            absent[here] |= np.multiply(without, bit)  # an index by pixel takes ten times as long
        flux *= np.float32(weight)
        slab.flux[here] += flux
        if slab.variance is not None:
            variance = reader.variance(*rows)
            np.copyto(variance, 0, where=without)
            variance *= np.float32(weight**2)
            slab.variance[here] += variance

    def _normalise(self, slab: Slab, absent: NDArray[np.uint8], norms: NDArray[np.float32]) -> None:
        if absent.any():
            slab.flux *= (factor := np.take(norms, absent))
            if slab.variance is not None:
                slab.variance *= factor
                slab.variance *= factor
        for band in self.damaged:
            rect = self._files[band].rect.common(slab.rect)
            if not rect.empty:
                here = rect.moved(-slab.rect.y0, -slab.rect.x0).slices
                lost = np.isnan(slab.flux[here])
                slab.mask[here] |= np.where(lost, np.uint16(MaskBit.BLANK), np.uint16(MaskBit.SUSPECT))

    def tangents(self) -> dict[str, tuple[float, float]]:
        """Return CRVAL in degrees of each band that is open."""
        return {band: reader.tangent for band, reader in self._readers.items()}


def agrees(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Return whether two tangent points of one projection are the same to 1e-7 deg."""
    ra = abs((first[0] - second[0] + 180) % 360 - 180)
    return ra <= CRVAL_AGREEMENT and abs(first[1] - second[1]) <= CRVAL_AGREEMENT
