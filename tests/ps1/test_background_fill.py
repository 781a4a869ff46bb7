"""Cells of other projections that fill in pass the same stages as all others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lensflow.ps1 import wholecells
from lensflow.ps1.background import Cleaning, clean_cell
from lensflow.ps1.mosaic import FILLED, projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, grid_to_sky, locate
from lensflow.ps1.wholecells import cleaned_pieces, star_catalogue

SCALE = 40
NUMBER, CORNER = 2157, (9, 9)  # the north-western corner of a projection at RA 0


def serving() -> tuple[str, ...]:
    """All cells of other projections on which pixels round the corner lie."""
    grid = Geometry(SCALE).projection(NUMBER)
    y0, x0 = grid.cell_origin(*CORNER)
    y, x = np.mgrid[y0 - 30 : y0 + grid.height + 31 : 5, x0 - 30 : x0 + grid.width + 31 : 5]
    ra, dec = grid_to_sky(grid, x, y)
    found = set()
    for a, d in zip(ra.ravel(), dec.ravel(), strict=True):
        cell = locate(float(a), float(d), Geometry(SCALE))[0]
        around = [(cell.y + i, cell.x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        found |= {f"skycell.{cell.projection}.0{i}{j}" for i, j in around if 0 <= i < 10 and 0 <= j < 10}
    return tuple(sorted(name for name in found if f".{NUMBER}." not in name))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words: dict[str, Any] = {"format": "zarr", "stars": 25, "galaxies": 8, "bands": ("r",), "defects": False}
    cells = (f"skycell.{NUMBER}.0{CORNER[0]}{CORNER[1]}", *serving())
    return simulate(tmp_path_factory.mktemp("corner"), cells, scale=SCALE, seed=5, **words).source


def options(**words: Any) -> Options:
    chosen: dict[str, Any] = {"selection": (str(NUMBER),), "bands": ("r",), "weights": (1.0,), "uncertainty": True}
    return Options(scale=SCALE, **{**chosen, **words})


def image(source: Path, cleaning: Cleaning | None, **words: Any) -> xr.Dataset:
    layout = options(**words).plan(source)[1][0].layout
    assert len(layout.sources) > 1
    if cleaning is None:
        return projection_image(layout, origin=True).compute(scheduler="sync")
    catalogue = next(source.parent.rglob("gaia*.csv"))
    pieces, _ = cleaned_pieces(layout, cleaning, star_catalogue((catalogue,), epoch=None), origin=True)
    return projection_image(layout, pieces).compute(scheduler="sync")


@pytest.mark.parametrize("columns", [None, 1])
def test_both_ways_to_the_image_fill_it_alike(source: Path, columns: int | None) -> None:
    read = image(source, None, columns_per_block=columns)
    stitched = image(source, Cleaning(uncertainty=True), columns_per_block=columns)
    assert (read.origin == FILLED).sum() > 2000
    for name in read:
        assert read[name].to_numpy().tobytes() == stitched[name].to_numpy().tobytes()


def test_c16_what_fills_in_has_no_sky(source: Path) -> None:
    before = image(source, None)
    after = image(source, Cleaning("sep"))
    filled = (after.origin == FILLED).to_numpy()
    assert float(np.nanstd(before.flux.to_numpy()[filled])) > 0
    assert np.nanmedian(after.flux.to_numpy()[filled]) == 0
    assert np.isfinite(after.flux.to_numpy()[filled]).mean() > 0.99
    np.testing.assert_array_equal(after.mask, before.mask)


def test_c15_stars_on_what_fills_in_are_removed(source: Path) -> None:
    filled = (image(source, None).origin == FILLED).to_numpy()
    kept = image(source, Cleaning("sep")).flux.to_numpy()[filled]
    removed = image(source, Cleaning("sep", stars="gaia", tmag_limit=19)).flux.to_numpy()[filled]
    assert removed.max() < 0.1 * kept.max()


def test_each_cell_is_cleaned_once_for_a_projection(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(files: Any, *rest: Any) -> Any:
        calls.append(str(files.cell))
        return clean_cell(files, *rest)

    monkeypatch.setattr(wholecells, "clean_cell", count)
    image(source, Cleaning("sep"), columns_per_block=1)
    layout = options().plan(source)[1][0].layout
    assert len(set(calls)) == len(calls) <= len(layout.cells_read)
    assert len(calls) > 3
