"""Skycells in a Zarr store: found by folders, never scaled twice, the same as FITS."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import lensflow as lf
from lensflow import events
from lensflow.errors import BadInput
from lensflow.ps1.encode import Scaling as Encoding
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, Skycell
from lensflow.ps1.zarr_cells import ZarrBand, is_zarr, list_zarr, read_zarr_header

if TYPE_CHECKING:
    import xarray as xr

    from lensflow.ps1.truth import Truth

SCALE = 40
GEOMETRY = Geometry(SCALE)
CELL = Skycell(714, 3, 3)
PROJECTION = GEOMETRY.projection(714)
CELLS = ("skycell.0714.033", "skycell.0714.034")
GROUP = Path("0714", str(CELL))


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Truth]:
    """Return the same sky in both formats."""
    folder = tmp_path_factory.mktemp("skies")
    return {kind: simulate(folder / kind, CELLS, scale=SCALE, seed=9, format=kind) for kind in ("fits", "zarr")}


@pytest.fixture
def store(skies: dict[str, Truth], tmp_path: Path) -> Path:
    """Return a copy to spoil."""
    return shutil.copytree(skies["zarr"].source, tmp_path / "skycells.zarr")


def result(source: Path, **options: Any) -> xr.Dataset:
    tree = lf.graph("ps1_convolution")(source, scale=SCALE, **options)
    return tree["0714"].to_dataset().compute(scheduler="sync")


def opened(store: Path, band: str = "r", *, weight: bool = True) -> ZarrBand:
    files = list_zarr(store, GEOMETRY)[0].band(band)
    assert files is not None
    return ZarrBand(files, PROJECTION, CELL, weight=weight)


def read_all(store: Path) -> None:
    band = opened(store)
    band.flux(0, PROJECTION.height)
    band.mask(0, PROJECTION.height)
    band.variance(0, PROJECTION.height)


def rewrite_header(path: Path, old: str, new: str) -> None:
    array = zarr.open_array(path, mode="r+")
    text = str(array.attrs["header"])
    assert old in text
    array.attrs["header"] = text.replace(old, new.ljust(len(old)))


def test_cells_are_listed_by_folders_without_opening_an_array(
    skies: dict[str, Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an array was opened")

    monkeypatch.setattr(zarr, "open_array", refuse)
    source = skies["zarr"].source
    assert is_zarr(source)
    assert not is_zarr(skies["fits"].source)
    found = list_zarr(source, GEOMETRY)
    assert [str(files.cell) for files in found] == list(CELLS)
    for files in found:
        assert [one.band for one in files.bands] == ["i", "r", "y", "z"]
        for one in files.bands:
            names = [Path(path).name for path in one.read(weight=True)]
            assert names == [one.band, f"{one.band}_mask", f"{one.band}_wt"]
            assert one.format == "zarr"


def test_c13_groups_without_the_leading_zero_are_found_too(store: Path) -> None:
    expected = result(store)
    (store / "0714").rename(store / "714")
    assert [str(files.cell) for files in list_zarr(store, GEOMETRY)] == list(CELLS)
    np.testing.assert_array_equal(result(store).flux, expected.flux)


def test_c13_a_cell_in_both_spellings_is_an_error(store: Path) -> None:
    shutil.copytree(store / GROUP, store / "714" / str(CELL))
    with pytest.raises(BadInput, match=rf"714/{CELL}: {CELL} is also in .*0714/{CELL}; keep one"):
        list_zarr(store, GEOMETRY)


def test_a_cell_in_the_group_of_another_projection_is_an_error(store: Path) -> None:
    (store / "0714").rename(store / "0715")
    with pytest.raises(BadInput, match="found it in group 0715, expected 0714"):
        list_zarr(store, GEOMETRY)


def test_what_is_read_is_what_was_written(skies: dict[str, Truth]) -> None:
    source = skies["zarr"].source
    band = opened(source)
    header = read_zarr_header(str(source / GROUP / "r"))
    law = Encoding(0, 1, header["BSOFTEN"], header["BOFFSET"])
    v = np.asarray(zarr.open_array(source / GROUP / "r", mode="r")[:], "f8")
    expected = law.boffset + 2 * law.bsoften * np.sinh(v / (2.5 / np.log(10)))
    softened = np.hypot(expected - law.boffset, 2 * law.bsoften)
    error = np.abs(band.flux(0, PROJECTION.height) * header["EXPTIME"] - expected)
    assert np.nanmax(error / softened) <= 2e-6
    mask = band.mask(0, PROJECTION.height)
    assert mask is not None
    assert mask.dtype == np.uint16
    np.testing.assert_array_equal(mask, zarr.open_array(source / GROUP / "r_mask", mode="r")[:])
    assert band.tangent == (header["CRVAL1"], header["CRVAL2"])
    np.testing.assert_array_equal(band.flux(30, 50), band.flux(0, 158)[30:50])


def test_c18_fits_and_zarr_give_the_same_result(skies: dict[str, Truth]) -> None:
    one, other = (result(skies[kind].source, uncertainty=True) for kind in ("fits", "zarr"))
    for name in ("flux", "uncertainty"):
        peak = float(np.nanmax(np.abs(one[name])))
        assert peak > 0
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=2e-6 * peak)
    np.testing.assert_array_equal(one.coverage, other.coverage)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert one.attrs["wcs"] == other.attrs["wcs"]


def test_masks_and_weights_may_be_absent(store: Path) -> None:
    expected = result(store)
    for name in ("r_mask", "r_wt"):
        shutil.rmtree(store / GROUP / name)
    band = opened(store)
    assert band.mask(0, 1) is None
    with pytest.raises(BadInput, match="found no r_wt beside it"):
        band.variance(0, 1)
    np.testing.assert_array_equal(result(store).flux, expected.flux)
    with pytest.raises(BadInput, match=rf"{CELL}/r: found no weight image \(wt\) of band r"):
        result(store, uncertainty=True)


def test_chunks_that_are_not_there_are_pixels_without_a_value(store: Path) -> None:
    shutil.rmtree(store / GROUP / "r" / "c")
    assert np.isnan(opened(store).flux(0, 158)).all()


def no_metadata(path: Path) -> None:
    (path / "zarr.json").unlink()


def bad_metadata(path: Path) -> None:
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"')


def truncated_chunk(path: Path) -> None:
    chunk = next(file for file in (path / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])


def empty_chunk(path: Path) -> None:
    next(file for file in (path / "c").rglob("*") if file.is_file()).write_bytes(b"")


def junk_chunk(path: Path) -> None:
    chunk = next(file for file in (path / "c").rglob("*") if file.is_file())
    chunk.write_bytes(np.random.default_rng(0).bytes(500))


def other_shape(path: Path) -> None:
    zarr.create_array(path, shape=(10, 10), dtype="f4", overwrite=True)


@pytest.mark.parametrize("spoil", [no_metadata, bad_metadata, truncated_chunk, empty_chunk, junk_chunk, other_shape])
@pytest.mark.parametrize("name", ["r", "r_mask", "r_wt"])
def test_c14_a_damaged_array_is_an_error_that_names_it(store: Path, spoil: Any, name: str) -> None:
    spoil(store / GROUP / name)
    with pytest.raises(BadInput, match=f"^{store / GROUP / name}: "):
        read_all(store)


@pytest.mark.parametrize("spoil", [no_metadata, truncated_chunk])
def test_c14_a_damaged_array_is_masked_and_noted(store: Path, spoil: Any) -> None:
    spoil(store / GROUP / "i")
    with events.collect() as notes:
        flux = result(store).flux
    assert {note.fields["file"] for note in notes} == {str(store / GROUP / "i")}
    assert len({note.message for note in notes}) == 1  # rows of cells above each other say the same
    shutil.rmtree(store / GROUP / "i")
    np.testing.assert_array_equal(flux, result(store).flux)


@pytest.mark.parametrize("name", ["r", "r_wt"])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("EXPTIME =", "EXPTIMX =", "EXPTIME: found nothing"),
        ("BOFFSET =", "BOFFSEX =", "BOFFSET: found nothing"),
        ("skycell.0714.033", "skycell.0714.034", "SKYCELL: found 'skycell.0714.034'"),
        ("r.00000", "z.00000", "FPA.FILTERID: found 'z.00000'"),
        ("FPA.ZP =                 25.0", "FPA.ZP =                 24.0", "FPA.ZP: found 24.0"),
        ("CRVAL2  =", "CRVAL3  =", "CRVAL2: found None"),
    ],
)
def test_c10_a_contradictory_header_is_an_error(store: Path, name: str, old: str, new: str, message: str) -> None:
    rewrite_header(store / GROUP / name, old, new)
    with pytest.raises(BadInput, match=f"^{store / GROUP / name}: {message}"):
        opened(store)


def test_an_array_without_a_header_is_an_error(store: Path) -> None:
    del zarr.open_array(store / GROUP / "r", mode="r+").attrs["header"]
    with pytest.raises(BadInput, match=r"attribute header: found NoneType, expected FITS cards"):
        opened(store)
    with pytest.raises(BadInput, match="attribute header"):
        read_zarr_header(str(store / GROUP / "r"))


def test_a_card_that_is_not_fits_is_missed_by_who_needs_it(store: Path) -> None:
    text = str(zarr.open_array(store / GROUP / "r", mode="r").attrs["header"])
    card = text[text.index("EXPTIME =") :][:30]
    rewrite_header(store / GROUP / "r", card, "EXPTIME = " + "NaN".rjust(20))
    with pytest.raises(BadInput, match="EXPTIME: found nothing"):
        opened(store)
