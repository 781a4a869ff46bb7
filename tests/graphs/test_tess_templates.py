"""TESS templates the whole way: simulated skycells, convolved, binned, verified, exported, drawn."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS

import lensflow as lf
from lensflow.cli import main
from lensflow.errors import BadInput, BadOption
from lensflow.ps1.tess.export import export, file_name

SCALE = 20
GRAPH = lf.graph("tess_templates")
OFFSETS = ((0.0, 0.0), (0.3, -0.4))
SIMULATED = [
    "--rows",
    "4,6",
    "--columns",
    "4,6",
    "--stars",
    "40",
    "--galaxies",
    "10",
    "--shape",
    "90,100",
    "--seed",
    "5",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four skycells and the image of a TESS CCD, from the command line, and their convolution."""
    out = tmp_path_factory.mktemp("tess")
    assert main(["simulate", "tess_templates", str(out), "--scale", str(SCALE), *SIMULATED]) == 0
    lazy = lf.graph("ps1_convolution")(out / "skycells", scale=SCALE)
    lazy.to_zarr(out / "ps1.zarr", zarr_format=3, consolidated=False)
    return out


def tess_of(folder: Path) -> Path:
    [path] = folder.glob("tess*-s0020-3-3-*_ffic.fits")
    return path


@pytest.fixture(scope="module")
def lazy(folder: Path) -> Any:
    return GRAPH(folder / "ps1.zarr", tess_of(folder), offsets=OFFSETS, rows_per_block=32)


@pytest.fixture(scope="module")
def store(folder: Path, lazy: Any) -> Path:
    out = folder / "templates.zarr"
    done = lf.run(lazy, out)
    assert done.failed.empty
    assert done.verify().clean
    return out


def test_a_run_stores_what_the_graph_means(store: Path, lazy: xr.Dataset) -> None:
    expected = lazy.compute(scheduler="sync")
    with xr.open_zarr(store, chunks=None, consolidated=False) as found:
        for name, values in expected.data_vars.items():
            np.testing.assert_array_equal(found[name].values, values.values)
        assert found.attrs["wcs"] == lazy.attrs["wcs"]
        assert found.attrs["offset"] == [list(one) for one in OFFSETS]
    count = expected.COUNT.values
    assert (count > 0).mean() > 0.9
    np.testing.assert_array_equal(np.isnan(expected.FLUX_SUM.values), count == 0)
    assert {str(one.dtype) for one in expected.data_vars.values()} == {"float32", "int32"}


def test_an_object_is_where_the_sky_says(folder: Path, lazy: xr.Dataset) -> None:
    """The brightest TESS pixel and the brightest pixel of the projection round it are the same star."""
    with xr.open_datatree(folder / "ps1.zarr", engine="zarr", consolidated=False) as tree:
        node = tree.children["2246"].to_dataset(inherit=False).load()
    made = lazy.compute(scheduler="sync")
    wcs = WCS(fits.Header(made.attrs["wcs"]))
    inner = np.nan_to_num(made.FLUX_SUM.values[:, 12:-12, 12:-12])
    brightest = np.array(np.unravel_index(inner[0].argmax(), inner[0].shape)) + 12
    ra, dec = wcs.all_pix2world(*brightest[::-1], 0)
    x, y = WCS(fits.Header(node.attrs["wcs"])).wcs_world2pix(ra, dec, 0)
    yy, xx = np.mgrid[0 : node.sizes["y"], 0 : node.sizes["x"]]
    near = np.hypot(yy - y, xx - x) < 8
    peak = np.unravel_index(np.nanargmax(np.where(near, node.flux.values, np.nan)), near.shape)
    place = wcs.all_world2pix(*WCS(fits.Header(node.attrs["wcs"])).wcs_pix2world(peak[1], peak[0], 0), 0)
    assert np.hypot(place[0] - brightest[1], place[1] - brightest[0]) < 1.5


def test_building_is_lazy_and_every_block_is_a_chunk(lazy: xr.Dataset, folder: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        made = GRAPH(folder / "ps1.zarr", tess_of(folder), offsets=("0/0", "0.3/-0.4"), rows_per_block=32)
    assert made.attrs["offset"] == lazy.attrs["offset"]
    for values in made.data_vars.values():
        assert values.chunks == ((2,), (32, 32, 26), (100,))
        assert values.encoding["chunks"] == (1, 32, 100)


def test_the_command_line_exports_a_run(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(store), str(tmp_path / "fits"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out.splitlines()[-1])["written"]
    assert [one.rsplit("/", 1)[1] for one in written] == [
        "syndiff_template_s0020_3_3_dx0.000_dy0.000.fits.gz",
        "syndiff_template_s0020_3_3_dx0.300_dy-0.400.fits.gz",
    ]


def test_divided_pixels_are_exported_under_their_own_name(folder: Path, tmp_path: Path) -> None:
    words = GRAPH.parameters.from_words(["a", "b", "--offsets", "0/0,-0.25/0.5", "--oversample", "2"])
    made = GRAPH(folder / "ps1.zarr", tess_of(folder), **{key: words[key] for key in ("offsets", "oversample")})
    with dask.config.set(scheduler="sync"):
        made.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    [_, path] = export(tmp_path / "a.zarr", tmp_path)
    assert path.name == "syndiff_template_s0020_3_3_os2_dx-0.250_dy0.500.fits.gz"
    with fits.open(path) as hdus:
        assert hdus["FLUX_SUM"].shape == (180, 200)
        found = WCS(hdus["COUNT"].header).all_pix2world((30 - 0.25 + 0.5) * 2 - 0.5, (20 + 0.5 + 0.5) * 2 - 0.5, 0)
    np.testing.assert_allclose(found, WCS(fits.getheader(tess_of(folder), 1)).all_pix2world(30, 20, 0), atol=1e-9)


def test_files_say_what_the_store_holds(store: Path, lazy: xr.Dataset, folder: Path, tmp_path: Path) -> None:
    paths = export(store, tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(one.name for one in paths)
    expected = lazy.compute(scheduler="sync")
    image = WCS(fits.getheader(tess_of(folder), 1))
    for place, (path, (dx, dy)) in enumerate(zip(paths, OFFSETS, strict=True)):
        assert path.name == f"syndiff_template_s0020_3_3_dx{dx:.3f}_dy{dy:.3f}.fits.gz"
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert [one.name for one in hdus] == ["PRIMARY", "FLUX_SUM", "COUNT", "MASK", "USED"]
            for name in ("FLUX_SUM", "COUNT", "MASK", "USED"):
                np.testing.assert_array_equal(hdus[name].data, expected[name].values[place])
                header = hdus[name].header
                assert (header["DX_SHIFT"], header["DY_SHIFT"]) == (dx, dy)
                assert (header["SECTOR"], header["CAMERA"], header["CCD"]) == (20, 3, 3)
                assert (header["CTYPE1"], header["A_ORDER"], header["B_ORDER"]) == ("RA---TAN-SIP", 3, 3)
            assert (hdus[0].header["DX_SHIFT"], hdus[0].header["NAXIS"]) == (dx, 0)
            assert "CRVAL1" not in hdus[0].header
            found = WCS(hdus["FLUX_SUM"].header).all_pix2world([30 + dx, 70 + dx], [20 + dy, 60 + dy], 0)
        np.testing.assert_allclose(found, image.all_pix2world([30, 70], [20, 60], 0), atol=1e-9)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in export(store, tmp_path)] == before


def test_export_needs_to_know_the_ccd(store: Path, lazy: xr.Dataset, tmp_path: Path) -> None:
    unknown = lazy.drop_attrs().assign_attrs(
        {key: lazy.attrs[key] for key in ("schema", "wcs", "offset", "oversample")}
    )
    unknown.attrs |= {"assign": "centre", "ignore_bits": 0, "zero_point": 25.0}
    unknown.compute(scheduler="sync").to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(BadOption, match=r"sector: .* give --sector"):
        export(tmp_path / "a.zarr", tmp_path / "fits")
    assert not (tmp_path / "fits").exists()
    [first, _] = export(tmp_path / "a.zarr", tmp_path / "fits", sector=5, camera=1, ccd=2)
    assert first.name.startswith("syndiff_template_s0005_1_2_dx0.000")
    with pytest.raises(BadInput, match="found no Zarr store"):
        export(tmp_path, tmp_path / "fits")
    with pytest.raises(BadInput, match="expected tess_templates/1"):
        export(store.parent / "ps1.zarr", tmp_path / "fits")


def test_names_of_files() -> None:
    place = {"sector": 20, "camera": 3, "ccd": 4}
    assert file_name(place, -0.0001, 12.3456, 1) == "syndiff_template_s0020_3_4_dx0.000_dy12.346.fits.gz"


def test_a_picture_of_a_store_and_of_a_lazy_result(store: Path, lazy: xr.Dataset, tmp_path: Path) -> None:
    draw = GRAPH.verb("picture")
    with xr.open_datatree(store, engine="zarr", chunks=None, consolidated=False) as tree:
        figure = draw(tree)
    figure.savefig(tmp_path / "a.png")
    assert [one.get_title() for one in figure.axes[:3]] == ["FLUX_SUM, dx 0, dy 0", "COUNT", "MASK / COUNT"]
    shown = figure.axes[0].wcs.all_pix2world(10, 20, 0)
    np.testing.assert_allclose(shown, WCS(fits.Header(lazy.attrs["wcs"])).all_pix2world(10, 20, 0), atol=1e-9)
    draw(lazy.isel(y=slice(0, 20)))


def test_inputs_and_help() -> None:
    assert GRAPH.inputs(GRAPH.bind("a.zarr", "b.fits", offsets=("1/2",))) == [
        Path("a.zarr").absolute(),
        Path("b.fits").absolute(),
    ]
    assert all(one.help for one in GRAPH.parameters.entries)
    assert set(inspect.signature(GRAPH.verb("simulate")).parameters) >= {"out", "scale", "shape", "rotation"}


def test_wrong_input_is_one_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "tess_templates", str(folder / "ps1.zarr"), str(folder / "none.fits"), "--out"]
    assert main([*words, str(tmp_path / "a.zarr")]) == 1
    assert "none.fits: no such file" in capsys.readouterr().err
    words[3] = str(tess_of(folder))
    assert main([*words, str(tmp_path / "a.zarr"), "--offsets", "0.3"]) == 2
    assert "offsets: found '0.3', expected dx/dy" in capsys.readouterr().err
    assert not (tmp_path / "a.zarr").exists()
