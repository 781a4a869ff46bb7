"""Rows of a mesh added up in pixels, and what they are found to be: what runs on workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow import events
from lensflow.errors import BadInput
from lensflow.lensing.mesh.part_rows import LAST_ID, Rest, check_bytes
from lensflow.lensing.mesh.pieces import Binning, ByteSums, Piece, Rows, Tally
from lensflow.lensing.mesh.row_sums import (
    BAD_ID,
    BAD_MASS,
    COUNTS,
    ELSEWHERE,
    FIRST_BAD,
    FOREIGN,
    KEPT,
    ZERO_MASS,
    add_rows,
    byte_sum,
    moments,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lensflow.lensing.mesh.bigfile import Block


def bin_rows(piece: Piece, binning: Binning) -> tuple[NDArray[np.float64], Tally]:
    """Add up the masses of a piece of a sheet.

    Parameters
    ----------
    piece, binning
        Which rows and pixels, and how.

    Returns
    -------
    mass : (pixels,) f8
        In 1e10 Msun/h.
    Tally
        What the rows were.

    Raises
    ------
    BadInput
        If rows are bad and ``level`` is strict, or if rows are not where they were planned.
    """
    total = np.zeros(piece.pixels)
    low = piece.sheet * binning.npix
    window = (low, low + binning.npix, binning.nslices * binning.npix)
    judged = [_add(rows, binning, window, total, piece.first, own=piece.own) for rows in piece.rows]
    occupied, mass, least, most, first, second = moments(total, piece.scale)
    counted = judged if piece.counts else []
    return total, Tally(
        rows=sum(one.kept for one in judged),
        zero=sum(one.zero for one in counted),
        bad=sum(one.bad for one in counted),
        mass=float(sum(one.mass for one in judged)),
        occupied=occupied,
        total=mass,
        least=least,
        most=most,
        first=first,
        second=second,
        bytes=_by_part(counted),
        complaint=next((one.complaint for one in counted if one.complaint), ""),
    )


def examine(pieces: Sequence[Piece], binning: Binning) -> str:
    """Look at all rows of a sheet before its pixels are made; return a complaint about the first bad, or nothing."""
    complaints = (bin_rows(piece, binning)[1].complaint for piece in pieces if piece.counts)
    return next(filter(None, complaints), "")


class _Judged(NamedTuple):
    part: int
    kept: int
    zero: int
    bad: int
    mass: float
    bytes: ByteSums
    complaint: str


def _add(
    rows: Rows, binning: Binning, window: tuple[int, int, int], total: NDArray[np.float64], first: int, *, own: bool
) -> _Judged:
    """Add the rows of a part to pixels from ``first`` on, and judge them."""
    counts = np.zeros(COUNTS + 2, np.int64)
    counts[FIRST_BAD], counts[COUNTS + 1] = -1, first
    span, mass = rows.span, 0.0
    sums = ByteSums()
    summing = binning.level == "strict" and not span.scanned
    if span.shared:  # where slices are out of order those beyond the last may lie anywhere
        window = (*window[:2], 2 * window[2])
    for ids, masses in rows.read(binning.chunk_size):
        if summing:
            sums = sums.plus(ByteSums(len(ids), byte_sum(ids), byte_sum(masses)))
        mass += add_rows(binning.nested(ids), masses, window, total, counts)
    wild = int(counts[BAD_MASS] + counts[BAD_ID])
    astray = int(counts[FOREIGN] * (not span.shared) + counts[ELSEWHERE] * (own and not span.shared))
    complaint = _complaint(rows, counts, wild, astray) if wild or astray else ""
    if complaint and (binning.level == "strict" or (astray and binning.level == "off")):
        raise BadInput(complaint)
    if complaint and binning.level == "off":
        events.note("bad-rows", f"{complaint}: they are left out", file=str(rows.ids.parts[0].path))
        complaint = ""
    zero = 0 if span.shared else int(counts[ZERO_MASS])
    return _Judged(span.part, int(counts[KEPT]), zero, wild + astray, mass, sums, complaint)


def _complaint(rows: Rows, counts: NDArray[np.int64], wild: int, astray: int) -> str:
    """Say what is wrong with rows: block, part, rows, and what to do."""
    part = rows.ids.parts[0].path
    where = f"{part}: rows {rows.span.start} to {rows.span.stop}"
    if wild:
        kind = "masses that are NaN, infinite or negative" if counts[BAD_MASS] else "IDs beyond all slices"
        path = rows.mass.parts[0].path if counts[BAD_MASS] else part
        where = f"{path}: rows {rows.span.start} to {rows.span.stop}"
        return (
            f"{where}: found {wild} rows with {kind}, the first of them {rows.span.start + counts[FIRST_BAD]}, "
            "expected none; copy the block again, or choose validation_level lenient"
        )
    return (
        f"{where}: found {astray} rows of other slices or pixels, expected those of one in order; choose plan scan, "
        "or copy the block again if that fails"
    )


def _by_part(judged: Sequence[_Judged]) -> dict[int, ByteSums]:
    found: dict[int, ByteSums] = {}
    for one in judged:
        found[one.part] = found.get(one.part, ByteSums()).plus(one.bytes)
    return found


def verify_part(
    part: int, columns: tuple[Block, Block], rest: Sequence[Rest], tallies: Sequence[Tally], binning: Binning
) -> ByteSums:
    """Read the rows of a part that no sheet has, and hold the bytes of all of it against its header.

    Parameters
    ----------
    part, columns
        Its number; ID and Mass, of which only that part.
    rest
        Those rows.
    tallies
        Of the sheets that have the others.
    binning
        How rows are read.

    Raises
    ------
    BadInput
        If the sums differ, or these rows are bad or of chosen sheets.
    """
    ids, mass = columns
    total = ByteSums()
    for one in rest:
        window = (one.low, one.high, LAST_ID)
        total = total.plus(_add(Rows(ids, mass, one.span), binning, window, np.empty(0), 0, own=False).bytes)
    for tally in tallies:
        total = total.plus(tally.bytes.get(part, ByteSums()))
    check_bytes(ids, 0, total.ids)
    check_bytes(mass, 0, total.mass)
    if total.rows != ids.rows:
        raise BadInput(
            f"{ids.parts[0].path}: {total.rows} of {ids.rows} rows were planned for, expected all; choose plan scan"
        )
    return total
