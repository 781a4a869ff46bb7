"""Plans of rows: planned rows and the rest are all rows, whatever lies between them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.lensing.mesh.bigfile import open_block
from lensflow.lensing.mesh.bigfile_write import write_block
from lensflow.lensing.mesh.probes import Unsorted
from lensflow.lensing.mesh.rows import plan_rows

NSIDE, NSLICES, CHUNK = 2, 6, 16
NPIX = 12 * NSIDE**2


def mesh(path: Path, parts: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """Write ID and Mass of each part, and return what planning needs of a mesh."""
    for k, (name, dtype) in enumerate((("ID", "<i8"), ("Mass", "<f4"))):
        write_block(path / name, [part[k] for part in parts], dtype=dtype)
    blocks = {"ids": open_block(path / "ID"), "mass": open_block(path / "Mass")}
    return SimpleNamespace(**blocks, nside=NSIDE, npix=NPIX, nslices=NSLICES, offsets=None)


@st.composite
def part(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows in the order of IDs, some beyond the last slice, and rows without mass and with any ID among them."""
    ids = sorted(draw(st.lists(st.integers(0, (NSLICES + 1) * NPIX - 1), max_size=60)))
    rows = [(one, 1.0) for one in ids]
    for place, wild in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(-5, 10 * NPIX)), max_size=20)):
        rows.insert(min(place, len(rows)), (wild, 0.0))
    table = np.array(rows, np.float64).reshape(-1, 2)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.float32)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(part(), min_size=1, max_size=3),
    st.tuples(st.integers(0, NSLICES - 1), st.integers(1, NSLICES)),
    st.booleans(),
)
def test_every_row_is_planned_once(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[tuple[np.ndarray, np.ndarray]],
    wanted: tuple[int, int],
    scan: bool,  # noqa: FBT001 - drawn
) -> None:
    sheets = range(wanted[0], min(wanted[0] + wanted[1], NSLICES))
    plan = plan_rows(mesh(tmp_path_factory.mktemp("mesh"), parts), sheets, chunk=CHUNK, scan=scan)
    taken = [np.zeros(len(ids), int) for ids, _ in parts]
    for one in plan.sheets:
        assert one.own
        assert one.width == 1
        for chunk, spans in enumerate(one.groups):
            low = one.sheet * NPIX + chunk * CHUNK
            for span in spans:
                ids, mass = (column[span.start : span.stop] for column in parts[span.part])
                assert ((ids >= low) & (ids < low + CHUNK))[mass > 0].all()
                taken[span.part][span.start : span.stop] += 1
    for touched in plan.parts:
        for rest in touched.rest:
            ids, mass = (column[rest.span.start : rest.span.stop] for column in parts[rest.span.part])
            assert ((ids >= rest.low) & (ids < rest.high))[mass > 0].all()
            taken[touched.part][rest.span.start : rest.span.stop] += 1
        counted = taken[touched.part]
        if not scan:
            assert (counted == 1).all()
        ids, mass = parts[touched.part]
        mine = (mass > 0) & (ids >= sheets.start * NPIX) & (ids < sheets.stop * NPIX)
        assert (counted[mine] == 1).all()
    touched_parts = {one.part for one in plan.parts}
    for k, (ids, mass) in enumerate(parts):
        has_rows = ((mass > 0) & (ids >= sheets.start * NPIX) & (ids < sheets.stop * NPIX)).any()
        assert (k in touched_parts) == has_rows


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(0, NSLICES * NPIX, 7)))
def test_rows_in_any_order_are_found(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    ids = np.array(order)
    made = mesh(tmp_path_factory.mktemp("mesh"), [(ids, np.ones(len(ids), np.float32))])
    plan = plan_rows(made, range(NSLICES), chunk=CHUNK, scan=True)
    for one in plan.sheets:
        spans = one.groups[0] if not one.own or one.width > 1 else [span for group in one.groups for span in group]
        found = np.concatenate([ids[span.start : span.stop] for span in spans])
        assert set(ids[ids // NPIX == one.sheet]) <= set(found)
        assert one.width == 3 or (np.diff(found) > 0).all()


def test_an_order_that_is_not_one_is_noticed(tmp_path: Path) -> None:
    from lensflow.lensing.mesh.part_rows import probe_part  # noqa: PLC0415 - only here

    ids = np.arange(NSLICES * NPIX)[::-1]
    made = mesh(tmp_path, [(ids, np.ones(len(ids), np.float32))])
    with pytest.raises(Unsorted):
        probe_part(made, 0, range(NSLICES), CHUNK)
