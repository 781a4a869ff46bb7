"""Cells cut back out of the store, in the formats of the field."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from astropy.io import fits
from astropy.wcs import WCS

import lensflow as lf
from lensflow.errors import BadInput, BadOption
from lensflow.ps1 import export as module
from lensflow.ps1.export import export
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, Projection, Skycell

CELLS = tuple(f"skycell.2246.0{y}{x}" for y in (3, 4) for x in (0, 1, 4, 5))
DROPPED = "skycell.2246.034"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows with a gap of columns, noise of each cell its own, one cell missing; written by xarray."""
    folder = tmp_path_factory.mktemp("store")
    words = {"scale": 40, "stars": 20, "galaxies": 5, "weights": False, "bands": ("r", "i"), "format": "zarr"}
    truth = simulate(folder, CELLS, seed=5, drop=(DROPPED,), **words)  # type: ignore[arg-type]
    tree = lf.graph("ps1_convolution")(truth.source, scale=40, selection=CELLS, bands=("r", "i"))
    tree.to_zarr(folder / "out.zarr", consolidated=False)
    return folder / "out.zarr"


@pytest.fixture(scope="module")
def node(store: Path) -> xr.Dataset:
    with xr.open_datatree(store, engine="zarr", consolidated=False) as tree:
        return tree["2246"].to_dataset().load()


@pytest.fixture(scope="module")
def files(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = export(store, tmp_path_factory.mktemp("fits"))
    return {path.name.removeprefix("rings.v3.").removesuffix(".convolved.fits"): path for path in found}


def grid() -> Projection:
    return Geometry(40).projection(2246)


def test_c3_every_cell_that_is_there_is_exported(files: dict[str, Path]) -> None:
    assert sorted(files) == sorted(set(CELLS) - {DROPPED})
    assert not list(next(iter(files.values())).parent.glob("*.partial"))


def test_a_cell_as_fits(files: dict[str, Path], node: xr.Dataset) -> None:
    path = files["skycell.2246.041"]
    cell = Skycell.parse("skycell.2246.041")
    y0, x0 = grid().cell_origin(4, 1)
    part = node.sel(y=slice(y0, y0 + grid().height - 1), x=slice(x0, x0 + grid().width - 1))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASK", "COVERAGE"]
        for hdu, name in zip(hdus, ("flux", "mask", "coverage"), strict=True):
            np.testing.assert_array_equal(hdu.data, part[name].values)
            assert (hdu.header["NAXIS1"], hdu.header["NAXIS2"]) == (grid().width, grid().height)
            assert (hdu.header["CRPIX1"], hdu.header["CRPIX2"]) == grid().cell_crpix(4, 1)
            assert hdu.header["SKYCELL"] == str(cell)
            sky = WCS(hdu.header).wcs_pix2world(12, 34, 0)
            expected = WCS(fits.Header(node.attrs["wcs"])).wcs_pix2world(
                x0 + 12 - int(node.x[0]), y0 + 34 - int(node.y[0]), 0
            )
            np.testing.assert_allclose(sky, expected, rtol=0, atol=1e-10)
        assert hdus[0].data.dtype == np.dtype(">f4")
        assert hdus["MASK"].data.dtype == np.uint16
        assert hdus[0].header["BUNIT"] == "counts/s"
        assert path.stat().st_size % 2880 == 0


def test_mask_bits_survive_signed_storage(store: Path, tmp_path: Path) -> None:
    with xr.open_datatree(store, engine="zarr", consolidated=False) as tree:
        loud = tree.load()
    loud["2246"].mask[:3, 0] = [0, 32768, 65535]
    loud.to_zarr(tmp_path / "a.zarr", consolidated=False)
    (path,) = export(tmp_path / "a.zarr", tmp_path / "fits", format="fits-projection")
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(hdus["MASK"].data[:3, 0], [0, 32768, 65535])


def test_a_projection_as_fits(store: Path, node: xr.Dataset, tmp_path: Path) -> None:
    (path,) = export(store, tmp_path, format="fits-projection")
    assert path.name == "rings.v3.projection.2246.convolved.fits"
    with fits.open(path) as hdus:
        for hdu, name in zip(hdus, ("flux", "mask", "coverage"), strict=True):
            np.testing.assert_array_equal(hdu.data, node[name].values)
            assert hdu.header["CRPIX1"] == node.attrs["wcs"]["CRPIX1"]


@pytest.mark.parametrize("pair", [("030", "031"), ("030", "040"), ("030", "041"), ("044", "045"), ("031", "040")])
def test_c11_overlaps_of_neighbours_are_the_same_bits(files: dict[str, Path], pair: tuple[str, str]) -> None:
    cells = [Skycell.parse(f"skycell.2246.{one}") for one in pair]
    images = []
    for cell in cells:
        image = np.full(grid().shape, -1, np.float32)
        y0, x0 = grid().cell_origin(cell.y, cell.x)
        image[y0 : y0 + grid().height, x0 : x0 + grid().width] = fits.getdata(files[str(cell)])
        images.append(image)
    both = (images[0] != -1) & (images[1] != -1)
    assert both.sum() >= 12 * 12
    assert images[0][both].tobytes() == images[1][both].tobytes()
    assert np.isfinite(images[0][both]).any()


def test_cells_as_zarr_groups(store: Path, files: dict[str, Path], tmp_path: Path) -> None:
    made = export(store, tmp_path / "cells.zarr", format="cells")
    assert [path.name for path in made] == sorted(files)
    again = export(store, tmp_path / "cells.zarr", format="cells", cells=("rings.v3.skycell.2246.030",))
    assert again == [tmp_path / "cells.zarr/2246/skycell.2246.030"]
    for path in made:
        group = zarr.open_group(path, mode="r")
        assert sorted(group) == ["coverage", "flux", "mask"]
        with fits.open(files[path.name]) as hdus:
            for hdu, name in zip(hdus, ("flux", "mask", "coverage"), strict=True):
                np.testing.assert_array_equal(group[name], hdu.data)
        assert WCS(fits.Header(group["flux"].attrs["wcs"])).has_celestial


def test_cells_as_flat_arrays(store: Path, files: dict[str, Path], tmp_path: Path) -> None:
    export(store, tmp_path / "flat.zarr", format="flat")
    group = zarr.open_group(tmp_path / "flat.zarr", mode="r")
    assert sorted(group) == sorted(f"{cell}_{kind}" for cell in files for kind in ("data", "mask"))
    np.testing.assert_array_equal(group["skycell.2246.045_data"], fits.getdata(files["skycell.2246.045"]))


@pytest.mark.parametrize("format_", ["fits", "cells"])
def test_what_is_not_complete_has_another_name(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    def torn(*_: object, **__: object) -> object:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        if format_ == "fits":
            patch.setattr(np, "memmap", torn)
        else:
            patch.setattr(zarr.Array, "__setitem__", torn)
        with pytest.raises(OSError, match="disk full"):
            export(store, tmp_path / "out", format=format_, cells=(CELLS[0],))  # type: ignore[arg-type]
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.name.startswith(("rings", "flux"))]
    assert left
    assert all(name.endswith(module.PARTIAL) for name in left)
    export(store, tmp_path / "out", format=format_, cells=(CELLS[0],))  # type: ignore[arg-type]
    assert not list((tmp_path / "out").rglob("*" + module.PARTIAL))


def test_errors_say_what_is_wrong(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"found no skycell\.2246\.099, only 7 cells"):
        export(store, tmp_path, cells=("skycell.2246.099",))
    with pytest.raises(BadInput, match=DROPPED):
        export(store, tmp_path, cells=(DROPPED,))
    with pytest.raises(BadOption, match="format: found 'png'"):
        export(store, tmp_path, format="png")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no Zarr store"):
        export(tmp_path / "nothing", tmp_path)
    xr.DataTree(xr.Dataset(attrs={"schema": "other"})).to_zarr(tmp_path / "b.zarr", consolidated=False)
    with pytest.raises(BadInput, match="schema: found 'other'"):
        export(tmp_path / "b.zarr", tmp_path)
