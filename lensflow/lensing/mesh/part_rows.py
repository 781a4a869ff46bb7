"""The rows of one part of a mesh by slice and pixel chunk: found by probing, or by reading all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lensflow.errors import BadInput
from lensflow.lensing.mesh.bigfile import MODULUS
from lensflow.lensing.mesh.probes import Borders, Probe, Unsorted
from lensflow.lensing.mesh.row_sums import byte_sum, scan_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lensflow.lensing.mesh.bigfile import Block
    from lensflow.lensing.mesh.usmesh import UsMesh

SAMPLES = 33  # rows looked at, evenly spaced, before a part, or its rows of a slice, are taken for sorted
LAST_ID = int(np.iinfo(np.int64).max)
READ = 1 << 21  # rows read at a time by a scan


@dataclass(frozen=True)
class Span:
    """Rows ``start`` to ``stop`` of a part.

    Parameters
    ----------
    part, start, stop
        Where.
    scanned
        Whether planning has read and summed all rows of the part.
    shared
        Whether rows of other sheets are among them.
    """

    part: int
    start: int
    stop: int
    scanned: bool = False
    shared: bool = False

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


@dataclass(frozen=True)
class Rest:
    """Rows of a part that no chosen sheet has, and the IDs that they may have, up to ``high``."""

    span: Span
    low: int
    high: int


@dataclass(frozen=True)
class PartRows:
    """The rows of a part.

    Parameters
    ----------
    spans
        Those of each chosen slice that it has.
    chunks
        Of those in which IDs are sorted, if asked for, the rows of each pixel chunk.
    rest
        All others, unless they have been scanned.
    beyond
        How many come after the last slice.
    """

    spans: dict[int, Span] = field(default_factory=dict)
    chunks: dict[int, tuple[Span, ...]] = field(default_factory=dict)
    rest: tuple[Rest, ...] = ()
    beyond: int = 0

    @property
    def scanned(self) -> bool:
        """Whether all rows have been read."""
        return any(span.scanned for span in self.spans.values())


def probe_part(mesh: UsMesh, part: int, sheets: range, chunk: int) -> PartRows:
    """Find the rows of sheets in a part whose slices are in order, by looking at a few.

    Parameters
    ----------
    mesh, part
        Where.
    sheets
        The slices wanted.
    chunk
        Pixels of a chunk; 0 if chunks are not wanted.

    Raises
    ------
    Unsorted
        If slices are found out of order.
    """
    rows, npix = mesh.ids.parts[part].rows, mesh.npix
    if rows == 0:
        return PartRows()
    with Probe(mesh.ids, mesh.mass, part, limit=2 * mesh.nslices * npix) as probe:
        borders = Borders(probe, npix, 0, rows)
        borders.sample(SAMPLES)
        begin, finish, end = borders.at((sheets.start, sheets.stop, mesh.nslices))
        spans: dict[int, Span] = {}
        row = begin
        while (found := probe.from_row(row, finish)) is not None:
            sheet = found[1] // npix
            if sheet not in sheets:
                raise Unsorted
            spans[sheet] = Span(part, row, row := borders.first(sheet + 1))
        if spans:  # rows without mass behind the last that counts
            spans[sheet] = Span(part, spans[sheet].start, finish)
        else:
            finish = begin
        parts = ((0, begin, 0, sheets.start * npix), (finish, end, sheets.stop * npix, mesh.nslices * npix))
        rest = [
            Rest(Span(part, start, stop), low, high)
            for start, stop, low, high in (*parts, (end, rows, mesh.nslices * npix, LAST_ID))
            if start < stop
        ]
        return PartRows(spans, _chunked(probe, spans.items(), npix, chunk), tuple(rest), rows - end)


def _chunked(probe: Probe, spans: Iterable[tuple[int, Span]], npix: int, chunk: int) -> dict[int, tuple[Span, ...]]:
    """Return the rows of each pixel chunk, of the slices in which IDs are sorted."""
    found = {}
    count = npix // chunk if chunk else 0
    for sheet, span in spans if count else ():
        borders = Borders(probe, chunk, span.start, span.stop)
        try:
            borders.sample(SAMPLES)
            inner = borders.at(range(sheet * count + 1, (sheet + 1) * count))
        except Unsorted:
            continue
        cuts = pairwise((span.start, *inner, span.stop))
        found[sheet] = tuple(Span(span.part, start, stop, span.scanned) for start, stop in cuts)
    return found


def scan_part(mesh: UsMesh, part: int, sheets: range, chunk: int, *, strict: bool) -> PartRows:
    """Find the rows of sheets in a part by reading all of it.

    Parameters
    ----------
    mesh, part, sheets, chunk
        As of :func:`probe_part`.
    strict
        Hold bytes against the sums of the headers and refuse bad rows, naming the first.

    Raises
    ------
    BadInput
        If ``strict`` and they are not as they should be.
    """
    slices = np.zeros((mesh.nslices + 1, 5), np.int64)
    state = np.array([0, -1, 0, 0, -1], np.int64)
    sums = [0, 0]
    rows = mesh.ids.parts[part].rows
    for start in range(0, rows, READ):
        columns = [block.read(part, start, min(start + READ, rows)) for block in (mesh.ids, mesh.mass)]
        if strict:
            sums = [total + byte_sum(values) for total, values in zip(sums, columns, strict=True)]
        scan_rows(columns[0].view("<i8"), columns[1], mesh.npix, slices, state)
    if strict:
        for block, total in zip((mesh.ids, mesh.mass), sums, strict=True):
            check_bytes(block, part, total)
        _check_rows(mesh, part, slices, state)
    return _scanned(mesh, part, sheets, chunk, slices, turned=bool(state[2]))


def _scanned(
    mesh: UsMesh, part: int, sheets: range, chunk: int, slices: NDArray[np.int64], *, turned: bool
) -> PartRows:
    """Make spans of the first and last rows of slices; where slices turn they overlap."""
    present = [k for k in range(mesh.nslices) if slices[k, 2]]
    starts = [int(slices[k, 0]) for k in present]
    spans = {}
    for place, k in enumerate(present):
        stop = int(slices[k, 1]) if turned or k == present[-1] else starts[place + 1]
        if k in sheets:
            spans[k] = Span(part, starts[place], stop, scanned=True, shared=turned)
    in_order = ((k, span) for k, span in spans.items() if not (turned or slices[k, 4]))
    with Probe(mesh.ids, mesh.mass, part, limit=2 * mesh.nslices * mesh.npix) as probe:
        chunks = _chunked(probe, in_order, mesh.npix, chunk)
    return PartRows(spans, chunks, (), int(slices[-1, 2]))


def check_bytes(block: Block, part: int, total: int) -> None:
    """Hold the sum of all bytes of a part against its header.

    Raises
    ------
    BadInput
        If it differs.
    """
    stated = block.parts[part].byte_sum
    if total % MODULUS != stated:
        raise BadInput(
            f"{block.parts[part].path}: found bytes that add up to {total % MODULUS}, expected {stated} as "
            f"{block.path}/header says: the part is damaged; copy it again"
        )


def _check_rows(mesh: UsMesh, part: int, slices: NDArray[np.int64], state: NDArray[np.int64]) -> None:
    path = mesh.ids.parts[part].path
    if state[3]:
        raise BadInput(
            f"{path}: found {state[3]} bad rows, the first of them {state[4]}, expected masses that are finite and "
            "not negative and IDs of slices; copy the part again, or choose validation_level lenient"
        )
    last = slices[:-1, 1].max()
    if slices[-1, 2] and slices[-1, 0] < last and not state[2]:
        raise BadInput(
            f"{path}: row {slices[-1, 0]}: found an ID beyond the last slice before row {last - 1} of an earlier one, "
            f"expected less than {mesh.nslices * mesh.npix}; copy the part again, or choose validation_level lenient"
        )
