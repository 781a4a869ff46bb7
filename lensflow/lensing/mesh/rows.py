"""Which rows of a mesh belong to which sheet and pixels: planned by looking at a few, or at all where they must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow import events
from lensflow.lensing.mesh.part_rows import PartRows, Rest, Span, probe_part, scan_part
from lensflow.lensing.mesh.probes import Unsorted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lensflow.lensing.mesh.usmesh import UsMesh

UNSORTED_CHUNKS = 12  # of pixels, 400 MB in f8, filled at a time where IDs are unsorted: rows are read again for more


@dataclass(frozen=True)
class SheetRows:
    """The rows of a sheet.

    Parameters
    ----------
    sheet
        Its slice.
    groups
        For each group of pixel chunks, in order, the rows that may belong to it.
    width
        Pixel chunks a group.
    own
        Whether each group has rows of its own; if not, each has all of them.
    offset_error
        Rows that the writer's index places elsewhere.
    """

    sheet: int
    groups: tuple[tuple[Span, ...], ...]
    width: int
    own: bool
    offset_error: int

    @property
    def empty(self) -> bool:
        """Whether it has no rows."""
        return not any(self.groups)


@dataclass(frozen=True)
class TouchedPart:
    """A part that holds rows of chosen sheets.

    Parameters
    ----------
    part
        Its number.
    sheets
        Those that it holds rows of.
    rest
        Its other rows.
    scanned
        Whether planning has read and summed all its rows.
    """

    part: int
    sheets: tuple[int, ...]
    rest: tuple[Rest, ...]
    scanned: bool


@dataclass(frozen=True)
class RowPlan:
    """Where the rows of chosen sheets are.

    Parameters
    ----------
    sheets, parts
        The sheets, and the parts they are in.
    beyond
        Rows after the last slice.
    """

    sheets: tuple[SheetRows, ...]
    parts: tuple[TouchedPart, ...]
    beyond: int


def plan_rows(
    mesh: UsMesh, sheets: range, *, chunk: int, scan: bool = False, strict: bool = True, nested: bool = True
) -> RowPlan:
    """Find the rows of sheets.

    Parameters
    ----------
    mesh
        Whose rows.
    sheets
        The slices wanted.
    chunk
        Pixels of a chunk; divides npix.
    scan
        Look at all rows of every part; otherwise only of those that turn out to be unsorted.
    strict
        Refuse parts that are looked at whole and hold bad rows, or other bytes than their headers say.
    nested
        Whether rows are numbered in the order in which chunks are cut.

    Raises
    ------
    BadInput
        If a part is damaged.
    """
    split = nested and chunk < mesh.npix
    found = {}
    for part in range(len(mesh.ids.parts)):
        try:
            one = None if scan else probe_part(mesh, part, sheets, chunk if split else 0)
        except Unsorted:
            name = mesh.ids.parts[part].path
            events.note("unsorted-part", f"{name}: its slices are out of order: all of it was read", file=str(name))
            one = None
        found[part] = one or scan_part(mesh, part, sheets, chunk if split else 0, strict=strict)
    count = mesh.npix // chunk
    return RowPlan(
        sheets=tuple(_sheet(mesh, sheet, found, count) for sheet in sheets),
        parts=tuple(
            TouchedPart(part, tuple(one.spans), one.rest, one.scanned) for part, one in found.items() if one.spans
        ),
        beyond=sum(one.beyond for one in found.values()),
    )


def _sheet(mesh: UsMesh, sheet: int, found: Mapping[int, PartRows], count: int) -> SheetRows:
    """Put together the rows of a sheet from all parts; ``count`` chunks make a sheet."""
    holders = [one for one in found.values() if sheet in one.spans]
    spans = tuple(one.spans[sheet] for one in holders)
    wrong = _misplaced(mesh, sheet, spans)
    if count > 1 and all(sheet in one.chunks for one in holders):
        split = [one.chunks[sheet] for one in holders]
        groups = tuple(tuple(part[c] for part in split if part[c].rows) for c in range(count))
        return SheetRows(sheet, groups, 1, own=True, offset_error=wrong)
    width = min(count, UNSORTED_CHUNKS)
    return SheetRows(sheet, (spans,) * -(-count // width), width, own=count <= width, offset_error=wrong)


def _misplaced(mesh: UsMesh, sheet: int, spans: tuple[Span, ...]) -> int:
    """Count the rows of a sheet that are not where the writer's index has them: rows offset[k+1] to offset[k+2]."""
    total = sum(span.rows for span in spans)
    if mesh.offsets is None or len(mesh.offsets) < sheet + 3:
        return total
    begin, end = (int(mesh.offsets[sheet + shift]) for shift in (1, 2))
    for span in spans:
        start = mesh.ids.starts[span.part]
        total -= max(0, min(end, start + span.stop) - max(begin, start + span.start))
    return total
