"""Rows of a simulated mesh in batches and parts, with what FastPM does to them and what disks do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Fault = Literal["truncated", "flipped", "negative", "nan", "id", "short"]
BOTH = 0.05  # of the pixels of a slice that straddles two batches are in both
EMPTY_RANKS = 5  # rows of no mass a batch
BEYOND = 40  # rows after the last slice
WILD = 1 << 60  # an ID that no slice has


@dataclass(frozen=True)
class Rows:
    """Rows of one slice in one batch: pixels in their order and masses, 1e10 Msun/h."""

    batch: int
    sheet: int
    pixel: NDArray[np.int64]
    mass: NDArray[np.float32]


@dataclass(frozen=True)
class Batches:
    """How rows were appended.

    Parameters
    ----------
    count, parts
        Batches, and files of each.
    nslices, npix
        Of the mesh.
    order
        Of the rows of a slice: sorted or shuffled.
    quirks
        Whether batches end inside slices, and rows lie about.
    """

    count: int
    parts: int
    nslices: int
    npix: int
    order: str
    quirks: bool

    def rows_of(
        self, sheet: int, sheets: range, number: NDArray[np.float64], unit: float, rng: np.random.Generator
    ) -> list[Rows]:
        """Divide the particles (pixel,) of a slice among batches; rows are what is not empty.

        Parameters
        ----------
        sheet, sheets
            The slice, and all.
        number
            Particles in each pixel.
        unit
            Mass of a particle.
        rng
            What is drawn from.
        """
        # the time of emission varies by half a slice around the border of batches: they share two slices
        reach, scale = 0.5 * self.quirks, self.count / len(sheets)
        place = sheet - sheets.start
        first = max(0, min(int((place - reach) * scale), self.count - 1))
        last = max(0, min(int((place + 1 + reach) * scale - 1e-9), self.count - 1))
        (pixels,) = np.nonzero(number)
        if first == last or not self.quirks:
            return [self._rows(first, sheet, pixels, number[pixels] * unit, rng)]
        draw = rng.random(len(pixels))
        both = (draw < BOTH) & (number[pixels] > 1)
        early = both | (draw < 0.5)
        late = both | ~early
        share = np.where(both, np.maximum(1, np.floor(number[pixels] / 2)), number[pixels])
        left = np.where(both, number[pixels] - share, number[pixels])
        return [
            self._rows(first, sheet, pixels[early], share[early] * unit, rng),
            self._rows(last, sheet, pixels[late], left[late] * unit, rng),
        ]

    def _rows(
        self, batch: int, sheet: int, pixel: NDArray[np.int64], mass: NDArray[np.float64], rng: np.random.Generator
    ) -> Rows:
        turn = rng.permutation(len(pixel)) if self.order == "shuffled" else slice(None)
        return Rows(batch, sheet, pixel[turn], mass[turn].astype(np.float32))

    def columns(
        self, rows: Sequence[Rows], faults: Sequence[Fault], rng: np.random.Generator
    ) -> tuple[dict[str, list[NDArray[np.generic]]], NDArray[np.int64]]:
        """Return the parts of each column, and where the writer believes that slices begin."""
        columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in ("ID", "Aemit", "Mass", "Rmom")}
        sizes = np.zeros(self.nslices + 2, np.int64)
        middle = (min(one.sheet for one in rows) + max(one.sheet for one in rows) + 1) // 2
        victim = min((one.batch for one in rows if one.sheet == middle and len(one.pixel)), default=-1)
        for batch in range(self.count):
            mine = [one for one in rows if one.batch == batch]
            ids = np.concatenate([np.empty(0, np.int64), *(one.sheet * self.npix + one.pixel for one in mine)])
            mass = np.concatenate([np.empty(0, np.float32), *(one.mass for one in mine)])
            if self.quirks and batch == self.count - 1:
                beyond = self.nslices * self.npix + np.sort(rng.integers(self.npix, size=BEYOND))
                ids, mass = np.append(ids, beyond), np.append(mass, np.ones(BEYOND, np.float32))
            if batch == victim:
                _break_row(ids, mass, faults, middle * self.npix, self.npix)
            slices = np.minimum(ids // self.npix, self.nslices)
            if self.quirks:
                places = np.sort(rng.integers(len(ids) + 1, size=EMPTY_RANKS))
                slices = np.insert(slices, places, slices[np.minimum(places, len(ids) - 1)] if len(ids) else 0)
                wild = rng.integers(self.nslices * self.npix, size=EMPTY_RANKS)
                ids, mass = np.insert(ids, places, wild), np.insert(mass, places, np.float32(0))
            sizes += np.bincount(np.clip(slices, 0, self.nslices) + 1, minlength=self.nslices + 2)
            aemit = ((slices + 0.5) / self.nslices).astype(np.float32)
            momentum = (mass * rng.normal(0, 300, len(mass))).astype(np.float32)
            inner = np.sort(rng.integers(len(ids) + 1, size=self.parts - 1)).tolist()
            for start, stop in pairwise((0, *inner, len(ids))):
                for name, values in zip(columns, (ids, aemit, mass, momentum), strict=True):
                    columns[name].append(values[start:stop])
        if "short" in faults:
            columns["Mass"][-1] = columns["Mass"][-1][:-1]
        return columns, np.array([*accumulate(sizes.tolist(), initial=0)], np.int64)


def _break_row(ids: NDArray[np.int64], mass: NDArray[np.float32], faults: Sequence[Fault], low: int, npix: int) -> None:
    """Spoil the row in the middle of a slice."""
    (places,) = np.nonzero((ids >= low) & (ids < low + npix))
    victim = places[len(places) // 2]
    if "negative" in faults:
        mass[victim] *= -1
    if "nan" in faults:
        mass[victim] = np.nan
    if "id" in faults:
        ids[victim] = WILD


def harm(maps: Path, faults: Sequence[Fault], sheet: range) -> None:
    """Spoil the file in which the IDs of a sheet begin, behind the back of its header: cut it, or turn a bit."""
    for path in sorted((maps / "ID").glob("[0-9A-F]*")):
        ids = np.fromfile(path, "<i8")
        mass = np.fromfile(maps / "Mass" / path.name, "<f4")
        (rows,) = np.nonzero((ids >= sheet.start) & (ids < sheet.stop) & (mass > 0))
        if len(rows):
            break
    if "flipped" in faults:
        mass[rows[0]] = np.nextafter(mass[rows[0]], np.float32(np.inf))
    (maps / "Mass" / path.name).write_bytes(mass.tobytes()[: -3 if "truncated" in faults else None])
