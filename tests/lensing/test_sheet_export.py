"""Sheets and maps as FITS files: their cards, and when a file that is there is kept."""

import logging
import os
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import lensflow as lf
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.kappa.sheet_sources import open_sheets
from lensflow.lensing.mesh.simulate_usmesh import simulate_usmesh
from lensflow.lensing.sheets.sheet_export import export, export_kappa

RANGE = (50, 53)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mesh")
    simulate_usmesh(path, nside=32, slices=(40, 60), batches=2, NC=256, seed=7)
    return path


@pytest.fixture(scope="module")
def store(mesh: Path) -> Path:
    return stored(mesh, mesh.parent / "sheets.zarr", pixels_per_block=4**5)


def stored(mesh: Path, out: Path, **words: Any) -> Path:
    logging.disable(logging.WARNING)
    tree = lf.graph("mass_sheets")(mesh, **{"sheet_range": RANGE, **words})
    tree.to_zarr(out, consolidated=False)
    return out


@pytest.fixture
def files(store: Path, tmp_path: Path) -> list[Path]:
    return export(store, tmp_path / "fits")


def test_a7_files_hold_what_the_store_holds(store: Path, files: list[Path]) -> None:
    assert [path.name for path in files] == [f"delta-sheet-{k}.fits" for k in (50, 51, 52)]
    with xr.open_zarr(store, consolidated=False) as sheets:
        for path, delta in zip(files, sheets.delta.values, strict=True):
            np.testing.assert_array_equal(healpy.read_map(path, nest=True), delta)
            np.testing.assert_array_equal(healpy.read_map(path, nest=False), healpy.reorder(delta, n2r=True))
    assert not list(files[0].parent.glob("*.partial"))


def test_a7_the_cards(store: Path, files: list[Path]) -> None:
    header = fits.getheader(files[1], 1)
    with xr.open_zarr(store, consolidated=False) as sheets:
        one = sheets.isel(sheet=1)
        for key, name in {
            "A_MIN": "a_min",
            "A_MAX": "a_max",
            "Z": "z",
            "CHI_MIN": "chi_min",
            "CHI_MAX": "chi_max",
        }.items():
            assert header[key] == float(one[name])
        assert header["MASSSUM"] == float(one.mass_sum)
        assert header["NROWS"] == int(one.n_rows)
        assert header["SRCHASH"] == sheets.attrs["source_digest"]
    expected = {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NESTED",
        "NSIDE": 32,
        "FIRSTPIX": 0,
        "LASTPIX": 12287,
        "INDXSCHM": "IMPLICIT",
        "OBJECT": "FULLSKY",
        "TTYPE1": "DELTA",
        "SHEET": 51,
        "NSLICES": 100,
        "OMEGA_M": 0.309,
        "OMEGA_L": 0.691,
        "H": 0.6774,
        "BOXSIZE": 3750.0,
        "NC": 256,
        "SEED": 7,
    }
    assert {key: header[key] for key in expected} == expected
    assert header["RHOBAR"] == pytest.approx(27.7455 * 0.309)
    assert {"CFGHASH", "CREATOR", "DATASUM"} <= set(header)


def test_a7_t9_sound_files_are_kept(store: Path, files: list[Path]) -> None:
    before = [path.stat().st_mtime_ns for path in files]
    assert export(store, files[0].parent) == files
    assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize("harm", ["stub", "empty", "flipped", "headless", "longer", "other"])
def test_a7_t9_files_that_are_not_sound_are_written_again(store: Path, files: list[Path], harm: str) -> None:
    path, content = files[0], files[0].read_bytes()
    flipped = bytearray(content)
    flipped[9000] ^= 1
    harmed = {
        "stub": content[:9000],
        "empty": b"",
        "flipped": bytes(flipped),
        "headless": content[2880:],
        "longer": content + bytes(2880),
        "other": b"x" * 9,
    }
    path.write_bytes(harmed[harm])
    export(store, path.parent)
    assert path.read_bytes() == content


def test_a7_t9_a_killed_writer_leaves_no_file_of_that_name(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            export(store, tmp_path / "fits")
    assert not list((tmp_path / "fits").glob("*.fits"))
    assert len(export(store, tmp_path / "fits")) == 3
    assert not list((tmp_path / "fits").glob("*.partial"))


def test_a7_t9_other_options_write_again(mesh: Path, files: list[Path], tmp_path: Path) -> None:
    other = stored(mesh, tmp_path / "other.zarr", chunk_size=1000)
    old = fits.getheader(files[0], 1)["CFGHASH"]
    export(other, files[0].parent)
    assert fits.getheader(files[0], 1)["CFGHASH"] != old


def test_quarantined_sheets_are_not_exported(tmp_path: Path) -> None:
    truth = simulate_usmesh(tmp_path / "mesh", nside=16, slices=RANGE, batches=1, NC=256, faults=("nan",))
    bad = truth.attrs["fault_sheet"]
    store = stored(tmp_path / "mesh", tmp_path / "a.zarr", validation_level="lenient")
    assert [path.name for path in export(store, tmp_path)] == [
        f"delta-sheet-{k}.fits" for k in range(*RANGE) if k != bad
    ]
    with pytest.raises(BadInput, match=f"found no good sheet {bad}"):
        export(store, tmp_path, sheets=(bad,))


@pytest.fixture(scope="module")
def deep(mesh: Path) -> Path:
    return stored(mesh, mesh.parent / "deep.zarr", sheet_range=(40, 60))


def kappa(source: Path, **words: Any) -> xr.Dataset:
    return lf.graph("kappa_maps")(source, **{"zs": (1.0, 1.25), "allow_missing": True, **words})  # type: ignore[return-value]


def test_maps_of_convergence(deep: Path, tmp_path: Path) -> None:
    lazy = kappa(deep)
    lazy.to_zarr(tmp_path / "k.zarr", consolidated=False)
    paths = export_kappa(tmp_path / "k.zarr", tmp_path)
    assert [path.name for path in paths] == ["kappa_zs1.0_s7.fits", "kappa_zs1.25_s7.fits"]
    for path, values in zip(paths, lazy.kappa.values, strict=True):
        np.testing.assert_array_equal(healpy.read_map(path, nest=True), values)
    header = fits.getheader(paths[0], 1)
    assert (header["ZS"], header["WEIGHT"], header["BORN"], header["TTYPE1"]) == (1.0, "integral", True, "KAPPA")
    assert (header["SHEET0"], header["SHEET1"]) == (50, 59)
    assert header["CHI_S"] == pytest.approx(2300.458914, rel=1e-8)
    assert header["ORDERING"] == "NESTED"
    with pytest.raises(BadInput, match="found no map of zs 3"):
        export_kappa(tmp_path / "k.zarr", tmp_path, zs=(3.0,))


def test_maps_of_files_are_those_of_the_store(deep: Path, tmp_path: Path) -> None:
    export(deep, tmp_path)
    np.testing.assert_array_equal(kappa(tmp_path).kappa, kappa(deep).kappa)
    assert kappa(tmp_path).attrs["seed"] == 7


def test_files_that_do_not_say_what_they_are_need_options(deep: Path, tmp_path: Path) -> None:
    """Files of LensingSSC have no cards but healpy's."""
    with xr.open_zarr(deep, consolidated=False) as sheets:
        for number, delta in zip(sheets.sheet.values, sheets.delta.values, strict=True):
            healpy.write_map(tmp_path / f"delta-sheet-{number:02d}.fits", delta, nest=True, dtype=np.float32)
    with pytest.raises(BadOption, match="give both options"):
        kappa(tmp_path)
    found = kappa(tmp_path, cosmology=(0.309, 0.691, 0.6774), nslices=100)
    np.testing.assert_allclose(found.kappa, kappa(deep).kappa, rtol=1e-6)


def test_sheets_of_two_simulations_are_kept_apart(deep: Path, files: list[Path]) -> None:
    export(deep, files[0].parent / "mixed")
    victim = files[0].parent / "mixed" / "delta-sheet-55.fits"
    fits.setval(victim, "SEED", value=8, ext=1)
    with pytest.raises(BadInput, match=r"delta-sheet-55.fits: SEED: found 8"):
        kappa(victim.parent)


def test_a_store_whose_parts_were_not_verified_is_not_trusted(deep: Path, mesh: Path, tmp_path: Path) -> None:
    store = stored(mesh, tmp_path / "a.zarr", sheet_range=(40, 60))
    parts = xr.open_dataset(store, group="parts", engine="zarr", consolidated=False).load()
    assert parts.verified.all()
    parts["verified"][(parts.first_sheet <= 52) & (parts.last_sheet >= 52)] = 0
    parts[["verified"]].to_zarr(store, group="parts", mode="r+", consolidated=False)
    found = open_sheets(store)
    assert 52 in found.quarantined
    assert not set(found.quarantined) & set(found.readers)
    assert not open_sheets(deep).quarantined


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected the output of a run of mass_sheets"):
        export(tmp_path, tmp_path)
    with pytest.raises(BadInput, match="neither a Zarr store nor files"):
        kappa(tmp_path)


def test_the_store_of_another_graph(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="schema: found 'mass_sheets/1', expected kappa_maps/1"):
        export_kappa(store, tmp_path)
