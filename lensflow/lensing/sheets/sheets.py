"""Mass sheets of a mesh as a lazy tree: rows are read once, pixels and what is known of a sheet come of one pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from lensflow.lensing.mesh.bin_rows import bin_rows, examine
from lensflow.lensing.mesh.pieces import Piece, Rows
from lensflow.lensing.mesh.rows import UNSORTED_CHUNKS
from lensflow.lensing.sheets.sheet_values import (
    SHEET,
    VERIFIED,
    Part,
    Sheet,
    overdensity,
    summarise,
    tally_of,
    verified,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.lensing.mesh.bigfile import Block
    from lensflow.lensing.mesh.pieces import Binning
    from lensflow.lensing.mesh.rows import RowPlan, SheetRows
    from lensflow.lensing.mesh.usmesh import UsMesh

    Tasks = dict[tuple[object, ...], tuple[object, ...]]

BINNED = np.dtype([("mass", np.float64)])  # what a task of rows makes; with it comes a tally
# layers of tasks, and what each needs
STEPS: dict[str, tuple[str, ...]] = {
    "bin-rows": (),
    "bin-unsorted-rows": (),
    "examine-rows": (),
    "tally": ("bin-rows", "bin-unsorted-rows"),
    "overdensity": ("bin-rows", "bin-unsorted-rows", "tally", "examine-rows"),
    "sheet-values": ("tally", "examine-rows"),
    "verify-part": ("tally",),
}


@dataclass(frozen=True)
class Shells:
    """Sheets as shells around the observer: arrays (sheet,), in Mpc/h; z is that of the middle in scale factor."""

    a_min: NDArray[np.float64]
    a_max: NDArray[np.float64]
    z: NDArray[np.float64]
    chi_min: NDArray[np.float64]
    chi_max: NDArray[np.float64]
    chi_mid: NDArray[np.float64]

    @classmethod
    def of(cls, mesh: UsMesh, sheets: range) -> Shells:
        """Return the shells of slices."""
        edges = np.asarray(mesh.edges)
        a_min, a_max = edges[sheets.start : sheets.stop], edges[sheets.start + 1 : sheets.stop + 1]
        near, far = mesh.cosmology.chi(a_max), mesh.cosmology.chi(a_min)
        # int chi^3 dchi / int chi^2 dchi
        middle = 0.75 * (far**4 - near**4) / (far**3 - near**3)
        return cls(a_min, a_max, 2 / (a_min + a_max) - 1, near, far, middle)

    def pixel_volume(self, npix: int) -> NDArray[np.float64]:
        """Return the volume of a pixel of each, (Mpc/h)^3."""
        return 4 * pi * (self.chi_max**3 - self.chi_min**3) / (3 * npix)


@dataclass(frozen=True)
class SheetGraph:
    """The tasks that make sheets.

    Parameters
    ----------
    mesh, plan, binning
        What is read, where it is, and how.
    shells
        The sheets.
    chunk
        Pixels of a chunk.
    """

    mesh: UsMesh
    plan: RowPlan
    binning: Binning
    shells: Shells
    chunk: int

    @cached_property
    def _names(self) -> dict[str, str]:
        """The name of each layer of tasks."""
        token = tokenize(self.mesh.digest, str(self.mesh.path), self.plan, self.binning, self.chunk)
        return {step: f"{step}-{token}" for step in STEPS}

    def arrays(self) -> tuple[da.Array, da.Array, da.Array]:
        """Return delta (sheet, pixel) f4, what is known of sheets (sheet,) and of parts (part,), structured."""
        layers: dict[str, Tasks] = {step: {} for step in STEPS}
        for i, rows in enumerate(self.plan.sheets):
            self._add_sheet(i, rows, layers)
        self._add_parts(layers)
        graph = HighLevelGraph(
            {self._names[step]: tasks for step, tasks in layers.items()},
            {self._names[step]: {self._names[need] for need in needs} for step, needs in STEPS.items()},
        )
        sheets, npix = (1,) * len(self.plan.sheets), self.mesh.npix
        made = {}
        for step, width, meta in (
            ("bin-rows", self.chunk, BINNED),  # never used as arrays: a plan of memory learns their sizes
            ("bin-unsorted-rows", self.chunk * UNSORTED_CHUNKS, BINNED),
            ("overdensity", self.chunk, np.dtype(np.float32)),
        ):
            pixels = tuple(min(width, npix - first) for first in range(0, npix, width))
            made[step] = da.Array(graph, self._names[step], (sheets, pixels), meta=np.empty((0, 0), meta))
        parts = (1,) * len(self.plan.parts)
        return (
            made["overdensity"],
            da.Array(graph, self._names["sheet-values"], (sheets,), meta=np.empty(0, SHEET)),
            da.Array(graph, self._names["verify-part"], (parts,), meta=np.empty(0, VERIFIED)),
        )

    def _add_sheet(self, i: int, rows: SheetRows, layers: dict[str, Tasks]) -> None:
        """Add the tasks of a sheet: its rows by groups of chunks, what they were, and the chunks."""
        pieces = self._pieces(i, rows)
        step = "bin-rows" if rows.width == 1 else "bin-unsorted-rows"
        binned = [(self._names[step], i, group) for group in range(len(pieces))]
        tallies = [(self._names["tally"], i, group) for group in range(len(pieces))]
        for key, tally, piece in zip(binned, tallies, pieces, strict=True):
            layers[step][key] = (bin_rows, piece, self.binning)
            layers["tally"][tally] = (tally_of, key)
        verdict: object = "it has no rows" if self.binning.level == "lenient" and rows.empty else None
        if self.binning.level == "lenient" and len(pieces) > 1 and not rows.empty:
            verdict = (self._names["examine-rows"], i)
            layers["examine-rows"][verdict] = (examine, list(pieces), self.binning)
        scale = pieces[0].scale
        for c in range(self.mesh.npix // self.chunk):
            group, place = divmod(c, rows.width)
            where = slice(place * self.chunk, (place + 1) * self.chunk)
            # the tally is asked for with the pixels, so that nobody keeps the rows for it
            needs = (binned[group], tallies[group], verdict)
            layers["overdensity"][self._names["overdensity"], i, c] = (overdensity, *needs, where, scale)
        about = Sheet(rows.sheet, self.mesh.npix, scale, self.binning.level)
        layers["sheet-values"][self._names["sheet-values"], i] = (summarise, tallies, verdict, about)

    def _pieces(self, i: int, rows: SheetRows) -> tuple[Piece, ...]:
        width, npix = rows.width * self.chunk, self.mesh.npix
        return tuple(
            Piece(
                sheet=rows.sheet,
                first=group * width,
                pixels=min(width, npix - group * width),
                rows=tuple(Rows(*self._columns[span.part], span) for span in spans),
                own=rows.own,
                counts=group == 0 or rows.width == 1,
                scale=float(1 / (self.shells.pixel_volume(npix)[i] * self.mesh.rhobar)),
            )
            for group, spans in enumerate(rows.groups)
        )

    @cached_property
    def _columns(self) -> dict[int, tuple[Block, Block]]:
        """ID and Mass of each part, of which only that part."""
        return {one.part: (self.mesh.ids.only(one.part), self.mesh.mass.only(one.part)) for one in self.plan.parts}

    def _add_parts(self, layers: dict[str, Tasks]) -> None:
        """Add a task for each part that has not been looked at whole: what is left of it, and the sum of all."""
        first = self.plan.sheets[0].sheet
        for k, one in enumerate(self.plan.parts):
            users = [] if one.scanned else [self._names["tally"]]
            tallies = [
                (name, sheet - first, group)
                for name in users
                for sheet in one.sheets
                for group, spans in enumerate(self.plan.sheets[sheet - first].groups)
                if any(span.part == one.part for span in spans)
            ]
            about = Part(one.part, *self._columns[one.part], one.rest, one.scanned)
            layers["verify-part"][self._names["verify-part"], k] = (verified, about, tallies, self.binning)
