"""What is stored: variables, chunks that blocks own whole, attributes that other tools read."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from astropy.io.fits import Header
from astropy.wcs import WCS

import lensflow as lf
from lensflow import events
from lensflow.ps1.cells import BandFiles, CellFiles, Rect
from lensflow.ps1.combine import Recipe
from lensflow.ps1.mosaic import Layout
from lensflow.ps1.outputs import stored_chunks, within_selection
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import RINGS_V3, Geometry, Skycell, grid_to_sky

RAGGED = ("skycell.2246.022", "skycell.2246.033", "skycell.2246.034")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("constant")
    return simulate(out, rows=(1, 5), columns=(1, 6), scale=40, mode="constant", value=2.5, format="zarr").source


def node(source: Path, **words: object) -> xr.Dataset:
    tree = lf.graph("ps1_convolution")(source, scale=40, **words)
    assert isinstance(tree, xr.DataTree)
    return tree["2246"].to_dataset()


@pytest.mark.parametrize("columns", [None, 1, 2, 10])
@pytest.mark.parametrize("selection", [(), RAGGED, ("skycell.2246.044",)])
def test_every_block_owns_whole_stored_chunks(source: Path, columns: int | None, selection: tuple[str, ...]) -> None:
    made = node(source, columns_per_block=columns, selection=selection, origin=True, uncertainty=True)
    grid = Geometry(40).projection(2246)
    for name in ("flux", "mask", "coverage", "uncertainty", "origin"):
        stored = made[name].encoding["chunks"]
        assert stored[0] == grid.stride_y
        assert stored[1] <= 1024
        for lengths, chunk in zip(made[name].chunks or (), stored, strict=True):
            starts = np.cumsum((0, *lengths[:-1]))
            assert not (starts % chunk).any()


@pytest.mark.parametrize("columns", [None, 1, 3])
@pytest.mark.parametrize("number", [487, 2246, 2643])
def test_chunks_at_the_true_size(number: int, columns: int | None) -> None:
    plan = true_size(number, [(0, 0), (0, 9), (9, 9)], columns)
    height, width = stored_chunks(plan)
    assert height == plan.projection.stride_y
    assert 256 <= width <= 1024 or plan.chunks[1][0] == width
    assert columns is None or plan.chunks[1][0] % width == 0


def true_size(number: int, cells: list[tuple[int, int]], columns: int | None = None) -> Layout:
    grid = RINGS_V3.projection(number)
    files = tuple(
        CellFiles(Skycell(number, y, x), (BandFiles("r", "r.fits", None, None, Rect(0, 0, grid.height, grid.width)),))
        for y, x in cells
    )
    selected = tuple(one.cell for one in files)
    return Layout(grid, files, selected, Recipe(("r",), (1.0,)), (0.0, 0.0), 10, 240, 470, columns)


def test_laying_out_a_ragged_projection_at_the_true_size_makes_no_image() -> None:
    plan = true_size(2246, [(y, x) for y in range(10) for x in range(10) if (y + x) % 3])
    chunks = plan.chunks
    flux = da.zeros(plan.box.shape, chunks=chunks, dtype=np.float32)
    tracemalloc.start()
    within_selection(flux, plan)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # the box has 3.5e9 pixels


def test_flux_ends_where_the_selected_cells_do(source: Path) -> None:
    made = node(source, selection=RAGGED, columns_per_block=1, uncertainty=True, origin=True).compute(scheduler="sync")
    grid = Geometry(40).projection(2246)
    inside = np.zeros(made.flux.shape, bool)
    for y, x in ((2, 2), (3, 3), (3, 4)):
        y0, x0 = grid.cell_origin(y - 2, x - 2)
        inside[y0 : y0 + grid.height, x0 : x0 + grid.width] = True
    np.testing.assert_array_equal(np.isfinite(made.flux), inside)
    np.testing.assert_array_equal(np.isfinite(made.uncertainty), inside)
    np.testing.assert_allclose(made.flux.values[inside], 2.5, rtol=1e-4)
    assert (made.origin.values[~inside] == 2).any()
    assert made.attrs["cells"] == list(RAGGED)
    assert made.attrs["halo_cells"] == sorted(made.attrs["halo_cells"])
    assert "skycell.2246.023" in made.attrs["halo_cells"]


@pytest.mark.parametrize("number", [715, 2643])
def test_a4_the_stored_wcs_is_the_formula(tmp_path: Path, number: int) -> None:
    cell = f"skycell.{number:04d}.036"
    words = {"scale": 40, "mode": "constant", "bands": ("r",), "weights": False, "format": "zarr"}
    source = simulate(tmp_path, (cell,), **words).source  # type: ignore[arg-type]
    made = lf.graph("ps1_convolution")(source, scale=40, bands=("r",))[f"{number:04d}"].to_dataset()
    keys = json.loads(json.dumps(made.attrs["wcs"]))
    assert (keys["LONPOLE"], keys["RADESYS"], keys["EQUINOX"]) == (180, "FK5", 2000)
    x, y = np.meshgrid([0, 100, 150], [0, 57, 150])
    ra, dec = WCS(Header(keys)).wcs_pix2world(x, y, 0)
    grid = Geometry(40).projection(number)
    place = x + int(made.x[0]), y + int(made.y[0])
    for tangent, tolerance in ((grid, 2e-5), (replace(grid, ra=keys["CRVAL1"], dec=keys["CRVAL2"]), 1e-11)):
        expected = grid_to_sky(tangent, *place)
        turned = (ra - expected[0] + 180) % 360 - 180
        np.testing.assert_allclose(turned * np.cos(np.deg2rad(dec)), 0, atol=tolerance)
        np.testing.assert_allclose(dec, expected[1], rtol=0, atol=tolerance)
    assert (keys["CRVAL1"] == grid.ra) == (number == 2643)  # that of the header, rounded by the survey


def test_coordinates_and_attributes(source: Path) -> None:
    tree = lf.graph("ps1_convolution")(source, scale=40, sigma=40.0, selection=(*RAGGED, "skycell.2246.099"))
    made = tree["2246"].to_dataset()
    grid = Geometry(40).projection(2246)
    assert (made.y.dtype, made.x.dtype) == (np.int32, np.int32)
    assert (int(made.y[0]), int(made.x[0])) == grid.cell_origin(2, 2)
    assert (np.diff(made.y) == 1).all()
    assert made.sizes == {"y": grid.stride_y + grid.height, "x": 2 * grid.stride_x + grid.width}
    assert made.attrs["missing_cells"] == ["skycell.2246.099"]
    assert (made.attrs["sigma_px"], made.attrs["radius_px"], made.attrs["zero_point"]) == (1.0, 11, 25)
    assert made.mask.attrs["quarantine_value"] == 8
    assert len(made.mask.attrs["flag_masks"]) == len(made.mask.attrs["flag_meanings"].split()) == 16
    assert tree.attrs["schema"] == "ps1_convolution/1"
    assert json.loads(tree.attrs["options"])["sigma"] == 40


def test_xarray_stores_it_as_meant(source: Path, tmp_path: Path) -> None:
    lf.graph("ps1_convolution")(source, scale=40, columns_per_block=1).to_zarr(tmp_path / "a.zarr", consolidated=False)
    group = zarr.open_group(tmp_path / "a.zarr/2246", mode="r")
    for name, kind, fill in (("flux", "f4", np.nan), ("mask", "u2", 0), ("coverage", "f4", 0)):
        array = group[name]
        assert isinstance(array, zarr.Array)
        assert array.dtype == np.dtype(kind)
        np.testing.assert_equal(array.fill_value, np.dtype(kind).type(fill))
        assert array.chunks == node(source, columns_per_block=1)[name].encoding["chunks"]
        assert "zstd" in str(array.compressors).lower()
    assert "_FillValue" not in group["mask"].attrs
    with xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False) as stored:
        assert stored["2246"].mask.dtype == np.uint16


def test_what_is_missing_or_left_alone_is_noted(tmp_path: Path) -> None:
    folder = simulate(tmp_path / "sky", rows=(3, 4), columns=(3, 5), scale=40, mode="constant", value=2.5).source
    (folder / "rings.v3.skycell.2246.033.stk.r.unconv.mask.fits").unlink()
    (folder / "rings.v3.skycell.2246.034.stk.i.unconv.fits").unlink()
    (folder / "download.fits").write_bytes(b"<html>no such file</html>")
    with events.collect() as notes:
        node(folder, selection=("skycell.2246.033", "skycell.2246.034", "skycell.2246.035"))
    assert sorted(one.kind for one in notes) == ["ignored-file", "missing-band", "missing-cell", "missing-mask"]
    said = {one.kind: one.message for one in notes}
    assert "skycell.2246.033 has no mask of band r" in said["missing-mask"]
    assert str(folder / "download.fits") in said["ignored-file"]


def test_cutouts_without_any_mask_are_not_blamed_for_it(tmp_path: Path) -> None:
    folder = simulate(tmp_path / "sky", rows=(3, 4), columns=(3, 4), scale=40, mode="constant", value=2.5).source
    for mask in folder.glob("*mask.fits"):
        mask.unlink()
    with events.collect() as notes:
        node(folder)
    assert notes == []
