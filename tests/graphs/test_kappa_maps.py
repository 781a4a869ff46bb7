"""Convergence maps the whole way, on worker processes: mass sheets in, a store and FITS files out."""

from pathlib import Path
from typing import Any

import dask
import healpy
import numpy as np
import pytest
import xarray as xr
from dask.utils import key_split

import lensflow as lf
from lensflow.cli import main
from lensflow.engine.tasks import lower
from lensflow.engine.work import Work
from lensflow.errors import BadOption
from lensflow.lensing.mesh.simulate_usmesh import simulate_usmesh

GRAPH = lf.graph("kappa_maps")


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sheets")
    simulate_usmesh(folder / "mesh", nside=16, nslices=20, slices=(10, 20), NC=256, seed=5)
    tree = lf.graph("mass_sheets")(folder / "mesh", sheet_range=(10, 20), pixels_per_block=4**4)
    tree.to_zarr(folder / "sheets.zarr", consolidated=False)
    return folder / "sheets.zarr"


def test_convergence_maps_of_a_store(sheets: Path, tmp_path: Path) -> None:
    out = tmp_path / "kappa.zarr"
    assert main(["submit", "kappa_maps", str(sheets), "--zs", ".5,1", "--out", str(out), "--workers", "1"]) == 0
    with xr.open_zarr(out, consolidated=False) as maps, xr.open_zarr(sheets, consolidated=False) as read:
        expected = maps.weights.values @ read.delta.sel(sheet=maps.sheet).values.astype(np.float64)
        np.testing.assert_allclose(maps.kappa, expected, rtol=0, atol=1e-8)
        assert maps.kappa.encoding["chunks"] == (1, 256)
        assert maps.attrs["seed"] == 5
        assert main(["export", str(out), str(tmp_path / "fits")]) == 0
        written = healpy.read_map(tmp_path / "fits" / "kappa_zs0.5_s5.fits", nest=True)
        np.testing.assert_array_equal(written, maps.kappa.sel(zs=0.5))


def test_building_is_lazy_and_a_block_is_one_task(sheets: Path) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        lazy = GRAPH(sheets, zs=(0.5, 1.0))
        with pytest.raises(AssertionError, match="computed"):
            lazy["kappa"].compute()
    work = Work.of(lazy)
    tasks = lower(work.tree, work.grids, Path("o.zarr"), "0" * 8).tasks
    assert len(work.blocks) == 12
    made = [key for key in tasks if key_split(key) == "kappa-write-kappa"]  # the others are names for these
    assert (len(made), len(tasks)) == (12, 24)


def test_inputs_are_what_is_read(sheets: Path) -> None:
    assert GRAPH.verb("inputs")(sheets=sheets, zs=(1.0,)) == [sheets]


def test_options_out_of_range_are_refused_while_building(sheets: Path) -> None:
    with pytest.raises(BadOption, match="zs"):
        GRAPH(sheets, zs=(-1.0,))
    with pytest.raises(BadOption, match="truncate"):
        GRAPH(sheets, zs=(1.0,), truncate=False)
