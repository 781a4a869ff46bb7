"""HDF5 files of statistics: published ones are read, ours have their layout and come back as they went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.patches.patches import centres, replicated
from lensflow.lensing.skies.stats_read import read_stats_hdf5
from lensflow.lensing.skies.stats_write import export, export_hdf5

if TYPE_CHECKING:
    from pathlib import Path

PIXEL = 60 * 10 / 2048  # arcmin
VALUES = ("pdf", "peaks", "minima", "v0", "v1", "v2")
COUNTS = ("pdf_counts", "peaks_counts", "minima_counts")


@pytest.fixture(scope="session")
def published(real_data: Path) -> Path:
    return real_data / "lensing" / "lensingssc" / "bigbox" / "stats_zs1.0_s100_oa10.h5"


def statistics(*, seed: int = 7, zs: tuple[float, ...] = (1.0,), patches: int | None = None) -> xr.Dataset:
    """Return random numbers with the names and dims of kappa_statistics."""
    rng = np.random.default_rng(seed)
    positions = centres(10)[:patches]
    theta, phi = np.degrees(positions.T)
    sizes = {"zs": len(zs), "ngal": 5, "smoothing": 4, "config": 3, "patch": theta.size, "ell_bin": 8, "nu_bin": 8}
    sizes["moment"] = 9

    def drawn(*dims: str) -> tuple[tuple[str, ...], Any]:
        return dims, rng.lognormal(size=tuple(sizes[dim] for dim in dims))

    cell = ("zs", "ngal", "smoothing", "patch")
    edges = np.logspace(np.log10(300), np.log10(3000), 9)
    data: dict[str, Any] = {name: drawn(*cell, "nu_bin") for name in VALUES}
    for name in COUNTS:
        dims, values = drawn(*cell, "nu_bin")
        data[name] = dims, (100 * values).astype("i4")
    data |= {name: drawn(*cell) for name in ("sigma0", "sigma1")}
    data["moments"] = drawn(*cell, "moment")
    data["power_spectrum"] = drawn("zs", "ngal", "patch", "ell_bin")
    data["mean"] = drawn("zs", "ngal", "patch")
    data["bispectrum"] = drawn("zs", "ngal", "config", "patch", "ell_bin")
    data["cl_full_sky"] = (("zs", "multipole"), rng.lognormal(size=(len(zs), 30)))
    coords = {
        "zs": list(zs),
        "ngal": [0.0, 7, 15, 30, 50],
        "smoothing": [2.0, 5, 8, 10],
        "config": ["equilateral", "folded", "squeezed"],
        "ell": ("ell_bin", (edges[1:] + edges[:-1]) / 2),
        "l_edges": ("ell_edge", edges),
        "nu": ("nu_bin", np.arange(-3.5, 4)),
        "nu_edges": ("nu_edge", np.arange(-4.0, 5)),
        "theta": ("patch", theta, {"units": "deg"}),
        "phi": ("patch", phi, {"units": "deg"}),
        "rip": ("patch", replicated(positions, 10)),
    }
    options = json.dumps({"patch_size_deg": 10.0, "xsize": 2048, "epsilon": 0.26})
    attrs = {"schema": "kappa_statistics/1", "seed": seed, "box": "tiled", "epsilon": 0.26, "options": options}
    return xr.Dataset(data, coords, attrs)


def datasets(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (item.shape, item.dtype)}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def test_every_published_path_shape_and_type_is_written(published: Path, tmp_path: Path) -> None:
    (path,) = export_hdf5(statistics(), tmp_path)
    assert path.name == "stats_zs1.0_s7_oa10.h5"
    wanted, written = datasets(published), datasets(path)
    assert len(wanted) == 186
    assert {name: written.get(name) for name in wanted} == wanted
    with h5py.File(published) as theirs, h5py.File(path) as ours:
        for name, value in theirs["metadata/parameters"].attrs.items():
            assert type(ours["metadata/parameters"].attrs[name]) is type(value), name
            if name != "creation_date":
                assert ours["metadata/parameters"].attrs[name] == value
        for name in ("bins", "ell", "l_edges", "ngal_list", "nu", "sl_list"):
            np.testing.assert_allclose(ours[f"metadata/parameters/{name}"], theirs[f"metadata/parameters/{name}"])


def test_what_is_added_to_the_published_layout(tmp_path: Path) -> None:
    (path,) = export_hdf5(statistics(), tmp_path)
    with h5py.File(path) as file:
        assert file["bispectra/ngal_0/isosceles"].attrs["signed"] == 1
        smoothed = file["smoothed_statistics/ngal_7/sl_10"]
        assert smoothed["peaks_counts"].dtype == smoothed["minima_counts"].dtype == np.dtype("<i4")
        assert smoothed["moments"].shape == (265, 9)
        assert smoothed["minkowski/v2"].attrs["units"] == "1/arcmin^2"
        assert smoothed["sigma/1"].attrs["units"] == "1/arcmin"
        assert file["metadata/patches/theta"].attrs["units"] == "deg"
        assert file["metadata/patches/rip"][:].sum() == 71
        assert file["metadata/parameters"].attrs["seed"] == 7


def test_a_dataset_comes_back_as_it_went(tmp_path: Path) -> None:
    sent = statistics(zs=(0.5, 1.0), patches=9)
    paths = export_hdf5(sent, tmp_path)
    assert [path.name for path in paths] == ["stats_zs0.5_s7_oa10.h5", "stats_zs1.0_s7_oa10.h5"]
    back = xr.concat([read_stats_hdf5(path) for path in paths], "zs", data_vars="all", coords="minimal")
    assert set(back.data_vars) == set(sent.data_vars)
    for name, variable in sent.data_vars.items():
        assert back[name].dims == variable.dims, name
        np.testing.assert_allclose(back[name], variable, rtol=1e-6, err_msg=str(name))
    for name, coordinate in sent.coords.items():
        np.testing.assert_array_equal(back[name], coordinate, err_msg=str(name))
    assert {"seed": 7, "box": "tiled", "epsilon": 0.26}.items() <= back.attrs.items()
    assert json.loads(back.attrs["options"]) == json.loads(sent.attrs["options"])


def test_a_finished_store_is_exported(tmp_path: Path) -> None:
    sent = statistics(zs=(0.5, 1.0), patches=3).drop_vars("config").drop_vars("bispectrum")
    sent.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    assert len(export(tmp_path / "a.zarr", tmp_path / "out")) == 2
    (path,) = export(tmp_path / "a.zarr", tmp_path / "out", zs=1.0)
    xr.testing.assert_allclose(read_stats_hdf5(path)["pdf"], sent["pdf"].sel(zs=[1.0]), rtol=1e-6)
    sent.assign_attrs(schema="kappa_maps/1").to_zarr(tmp_path / "b.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(BadInput, match="found 'kappa_maps/1', expected kappa_statistics/1"):
        export(tmp_path / "b.zarr", tmp_path / "out")
    with pytest.raises(BadInput, match="found no Zarr store"):
        export(tmp_path, tmp_path / "out")


def test_what_has_no_place_in_the_layout_is_said(tmp_path: Path) -> None:
    sent = statistics(patches=3)
    sent["starlet_l1"] = sent["pdf"]
    with events.collect() as notes:
        export_hdf5(sent, tmp_path)
    assert [(note.kind, note.fields["variables"]) for note in notes] == [("not-exported", ["starlet_l1"])]


def test_one_redshift_of_several(tmp_path: Path) -> None:
    sent = statistics(zs=(0.5, 1.0), patches=3)
    assert [path.name for path in export_hdf5(sent, tmp_path, zs=0.5)] == ["stats_zs0.5_s7_oa10.h5"]
    with pytest.raises(BadOption, match=r"zs: found 2\.0, expected one of 0\.5, 1\.0"):
        export_hdf5(sent, tmp_path, zs=2.0)


def test_some_statistics_only(tmp_path: Path) -> None:
    whole = statistics(patches=3)
    sent = whole.drop_vars(set(whole.data_vars) - {"power_spectrum", "pdf"})
    (path,) = export_hdf5(sent, tmp_path)
    assert set(read_stats_hdf5(path).data_vars) == {"power_spectrum", "pdf"}


def test_numbers_in_names_have_no_needless_zeros(tmp_path: Path) -> None:
    """T11: 10.0 v 10 in names; densities that are no whole numbers."""
    sent = statistics(patches=3).assign_coords(ngal=[0.0, 7.5, 15, 30, 50])
    (path,) = export_hdf5(sent, tmp_path)
    assert "power_spectra/ngal_7.5/cl" in datasets(path)
    assert "smoothed_statistics/ngal_0/sl_10/pdf" in datasets(path)
    assert list(read_stats_hdf5(path)["ngal"].values) == [0, 7.5, 15, 30, 50]


def test_an_earlier_file_is_replaced_and_a_partial_one_is_not_left(tmp_path: Path) -> None:
    """T9: a file that is there is no reason to keep it, nor to die."""
    target = tmp_path / "stats_zs1.0_s7_oa10.h5"
    target.write_bytes(b"killed half-way")
    export_hdf5(statistics(patches=3), tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [target.name]
    assert read_stats_hdf5(target).sizes["patch"] == 3


def test_a_published_file_in_our_units(published: Path) -> None:
    found = read_stats_hdf5(published)
    assert found.attrs["seed"] == 100
    assert found.attrs["box"] == "bigbox"
    assert float(found["zs"][0]) == 1.0
    assert int(found["rip"].sum()) == 71
    assert found["bispectrum"].attrs["signed"] == 0  # T5
    assert found["v0"].attrs["threshold"] == "lower edge"  # T15
    assert list(found["bispectrum"]["config"].values) == ["equilateral", "folded", "squeezed"]
    with h5py.File(published) as file:
        at = {"zs": 0, "ngal": 2, "smoothing": 3}
        theirs = file["smoothed_statistics/ngal_15/sl_10"]
        np.testing.assert_allclose(found["v1"].isel(at), theirs["minkowski/v1"][:] / PIXEL, rtol=1e-6)
        np.testing.assert_allclose(found["v2"].isel(at), theirs["minkowski/v2"][:] / PIXEL**2, rtol=1e-6)
        slope = theirs["sigma/1"][:].astype(float) * theirs["sigma/0"][:] / PIXEL
        np.testing.assert_allclose(found["sigma1"].isel(at), slope, rtol=1e-6)
        ell = found["ell"].values
        cl = found["power_spectrum"].isel(zs=0, ngal=1) * ell * (ell + 1) / (2 * np.pi)
        np.testing.assert_allclose(cl, file["power_spectra/ngal_7/cl"], rtol=1e-6)


def test_what_was_published_stays_said_when_it_is_written_again(published: Path, tmp_path: Path) -> None:
    (path,) = export_hdf5(read_stats_hdf5(published), tmp_path)
    again = read_stats_hdf5(path)
    assert again["bispectrum"].attrs["signed"] == 0
    assert again["v0"].attrs["threshold"] == "lower edge"
    xr.testing.assert_allclose(again, read_stats_hdf5(published), rtol=1e-6)


def damaged(path: Path, *, drop: str | None = None, name: str = "stats_zs1.0_s7_oa10.h5") -> Path:
    target = path.with_name("damaged") / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(path.read_bytes())
    if drop:
        with h5py.File(target, "a") as file:
            del file[drop]
    return target


def test_files_that_are_none(tmp_path: Path) -> None:
    text = tmp_path / "stats_zs1.0_s7_oa10.h5"
    text.write_text("no HDF5")
    with pytest.raises(BadInput, match="no readable HDF5 file"):
        read_stats_hdf5(text)
    (path,) = export_hdf5(statistics(patches=3), tmp_path)
    with pytest.raises(BadInput, match="found no metadata/parameters"):
        read_stats_hdf5(damaged(path, drop="metadata"))
    with pytest.raises(BadInput, match="found no ell; expected"):
        read_stats_hdf5(damaged(path, drop="metadata/parameters/ell"))
    with pytest.raises(BadInput, match="found no power_spectra/ngal_30/cl"):
        read_stats_hdf5(damaged(path, drop="power_spectra/ngal_30/cl"))
    with h5py.File(path, "a") as file:
        del file["power_spectra/ngal_30/cl"]
        file["power_spectra/ngal_30/cl"] = np.zeros((2, 8))
    with pytest.raises(BadInput, match="found shapes"):
        read_stats_hdf5(path)


def test_a_published_file_under_another_name(published: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "statistics.h5"
    renamed.symlink_to(published)
    with pytest.raises(BadInput, match=r"found no zs, neither inside nor in its name"):
        read_stats_hdf5(renamed)


def test_a_dataset_that_is_not_ours(tmp_path: Path) -> None:
    sent = statistics(patches=3)
    del sent.attrs["seed"], sent.attrs["options"]
    with pytest.raises(BadInput, match="found no seed, patch_size_deg, xsize"):
        export_hdf5(sent, tmp_path)
