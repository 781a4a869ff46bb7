"""All that happens before a pixel is read: what is listed, what is opened, what is laid out; and what is read then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits

import lensflow as lf
from lensflow import events
from lensflow.arrays.fits import FitsImage, read_image_header
from lensflow.errors import BadInput
from lensflow.ps1 import fits_cells, inventory
from lensflow.ps1.bands import BANDS
from lensflow.ps1.inventory import Inventory, Plan, input_files
from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.options import Options
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, Skycell

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from lensflow.ps1.truth import Truth

SCALE = 40
CELLS = tuple(f"skycell.2246.0{y}{x}" for y in (3, 4, 5) for x in (3, 4))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Three rows of two cells."""
    return simulate(tmp_path_factory.mktemp("sky"), CELLS, scale=SCALE, seed=2, stars=20, galaxies=5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("store"), CELLS[:1], scale=SCALE, format="zarr", stars=0, galaxies=0).source


@pytest.fixture
def folder(truth: Truth, tmp_path: Path) -> Path:
    """Return a copy to spoil."""
    return shutil.copytree(truth.source, tmp_path / "sky")


def planned(source: Path, **options: Any) -> tuple[Inventory, list[Plan]]:
    return Options.from_keywords(**{"scale": SCALE, **options}).plan(source)


def tree(source: Path, **options: Any) -> xr.DataTree:
    result: Any = lf.graph("ps1_convolution")(source, **{"scale": SCALE, **options})
    return result  # type: ignore[no-any-return]


def path_of(folder: Path, cell: str, band: str, kind: str = "") -> Path:
    return folder / f"rings.v3.{cell}.stk.{band}.unconv{kind}.fits"


def names(cells: Sequence[Skycell]) -> list[str]:
    return [str(cell) for cell in cells]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"^{tmp_path / 'absent'}: no such folder"):
        planned(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="no such folder"):
        planned(tmp_path / "file")


def test_a_folder_without_skycells_is_an_error(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="found no skycell in the bands r i z y"):
        planned(tmp_path / "empty")
    with pytest.raises(BadInput, match="found no skycell in the bands g"):
        planned(folder, bands=("g",), weights=(1.0,))


def test_only_the_bands_asked_for_are_listed(truth: Truth) -> None:
    listed, (plan,) = planned(truth.source, bands=("z", "r"))
    assert {one.band for files in listed.cells for one in files.bands} == {"r", "z"}
    assert plan.missing == ()


def test_unselected_neighbours_serve_as_halo(truth: Truth) -> None:
    chosen = CELLS[:1]
    _, (plan,) = planned(truth.source, selection=chosen)
    assert names(plan.layout.selected) == list(chosen)
    assert names([files.cell for files in plan.layout.cells]) == list(CELLS[:4])  # not the row beyond
    _, (plan,) = planned(truth.source, selection=chosen, halo_cells=False)
    assert names([files.cell for files in plan.layout.cells]) == list(chosen)


# what is missing


def test_c14_an_absent_cell_is_recorded_or_an_error_before_computing(truth: Truth) -> None:
    absent = "skycell.2246.099"
    _, (plan,) = planned(truth.source, selection=(*CELLS, absent))
    assert names(plan.missing) == [absent]
    assert tree(truth.source, selection=(*CELLS, absent))["2246"].attrs["missing_cells"] == [absent]
    with pytest.raises(BadInput, match=rf"found no {absent} \(1 of 7 selected\); add them"):
        tree(truth.source, selection=(*CELLS, absent), on_missing="fail")


def test_a_selection_of_which_nothing_is_there_is_an_error(truth: Truth) -> None:
    with pytest.raises(BadInput, match=r"found no skycell\.2246\.000, .*\(6 of 6 selected\)"):
        planned(truth.source, selection=tuple(f"skycell.2246.00{x}" for x in range(6)))


def test_cells_of_projections_that_are_wholly_absent_are_not_forgotten(truth: Truth) -> None:
    there, (plan,) = planned(truth.source, selection=("skycell.0714.000", "skycell.2246.099", *CELLS))
    assert names(plan.missing) == ["skycell.2246.099"]
    assert names(there.absent) == ["skycell.0714.000"]


def test_an_absent_band_is_an_error_only_if_told_so(folder: Path) -> None:
    path_of(folder, CELLS[1], "z").unlink()
    _, (plan,) = planned(folder)
    assert plan.layout.cells[1].band("z") is None
    with pytest.raises(BadInput, match=rf"^{CELLS[1]}: found no band z, expected r i z y; add its file"):
        planned(folder, missing="fail")
    planned(folder, missing="fail", bands=("r", "i", "y"))


def test_an_absent_weight_is_an_error_only_if_it_is_needed(folder: Path) -> None:
    path_of(folder, CELLS[1], "z", ".wt").unlink()
    planned(folder)
    with pytest.raises(BadInput, match=rf"{path_of(folder, CELLS[1], 'z')}: found no weight image \(wt\) of band z"):
        planned(folder, uncertainty=True)


# headers


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which the name of every file goes whose header is read; nothing may be opened for pixels."""
    read: list[str] = []

    def counting(path: str | Path) -> tuple[int, fits.Header]:
        read.append(Path(path).name)
        return read_image_header(path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened for its pixels")

    monkeypatch.setattr(inventory, "read_image_header", counting)
    monkeypatch.setattr(fits_cells, "read_image_header", counting)
    monkeypatch.setattr(fits, "open", refuse)
    return read


def test_building_reads_names_and_one_header_a_projection(tmp_path: Path, headers: list[str]) -> None:
    """A hundred cells of two projections: all but the first of each are empty files."""
    for number in (2246, 714):
        first = f"skycell.{number:04d}.000"
        simulate(tmp_path, (first,), scale=SCALE, bands=("i",), stars=0, galaxies=0)
        for y in range(5):
            for x in range(10):
                for band in BANDS:
                    for kind in ("", ".mask", ".wt"):
                        path_of(tmp_path, f"skycell.{number:04d}.0{y}{x}", band, kind).touch()
    result = tree(tmp_path)
    assert list(result.children) == ["0714", "2246"]
    assert len(result["2246"].attrs["cells"]) == 50
    assert headers == [f"rings.v3.skycell.{number}.000.stk.i.unconv.fits" for number in ("0714", "2246")]


def test_the_tangent_point_is_that_of_the_first_header(folder: Path) -> None:
    first = path_of(folder, CELLS[0], "i")
    with fits.open(first, disable_image_compression=True, memmap=False) as hdus:
        hdus[1].header["CRVAL1"] += 1e-5  # the survey's own rounding is of this size
        crval = hdus[1].header["CRVAL1"], hdus[1].header["CRVAL2"]
        hdus.writeto(first, overwrite=True)
    _, (plan,) = planned(folder)
    assert plan.layout.crval == crval
    nominal = Geometry(SCALE).projection(2246)
    assert crval != (nominal.ra, nominal.dec)
    assert tree(folder)["2246"].attrs["wcs"]["CRVAL1"] == crval[0]


def test_an_unreadable_first_header_makes_way_for_the_next(folder: Path, headers: list[str]) -> None:
    expected = planned(folder)[1][0].layout
    headers.clear()
    for band in BANDS:
        path_of(folder, CELLS[0], band).write_bytes(b"")
    found = planned(folder)[1][0].layout
    assert found == expected
    assert headers == [f"rings.v3.{CELLS[0]}.stk.{b}.unconv.fits" for b in "iryz"] + [
        f"rings.v3.{CELLS[1]}.stk.i.unconv.fits"
    ]
    with pytest.raises(BadInput, match=f"^{path_of(folder, CELLS[0], 'i')}: "):
        planned(folder, on_corrupt="fail")


def test_if_no_header_is_sound_the_first_is_named(folder: Path) -> None:
    for path in folder.glob("*.fits"):
        path.write_bytes(b"")
    with pytest.raises(
        BadInput, match=f"^{path_of(folder, CELLS[0], 'i')}: .*nor is any other file of projection 2246"
    ):
        planned(folder)


def test_the_wrong_scale_is_an_error_that_says_what_was_found(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"CDELT1, PC001001: found -0\.00277\d*, expected -1\.388889e-03 deg/px"):
        planned(folder, scale=20)


def test_a_tangent_point_far_from_the_formula_is_an_error(folder: Path) -> None:
    for path in folder.glob("*.unconv.fits"):
        with fits.open(path, disable_image_compression=True, memmap=False) as hdus:
            hdus[1].header["CRVAL2"] += 3e-5
            hdus.writeto(path, overwrite=True)
    with pytest.raises(BadInput, match=r"CRVAL2: found .*, expected 46\.000000 of projection 2246"):
        planned(folder)


# what is read


def test_inputs_are_the_files_that_will_be_read(truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[Path] = set()
    original = FitsImage.__init__

    def recording(image: FitsImage, path: str | Path) -> None:
        read.add(Path(path))
        original(image, path)

    monkeypatch.setattr(FitsImage, "__init__", recording)
    chosen: dict[str, Any] = {"selection": CELLS[:1], "bands": ("r", "z")}
    for uncertainty, count in ((False, 4 * 2 * 2), (True, 4 * 2 * 3)):  # the cell and its three neighbours
        read.clear()
        listed = input_files(planned(truth.source, uncertainty=uncertainty, **chosen)[1])
        assert len(listed) == count
        assert listed == sorted(listed)
        tree(truth.source, uncertainty=uncertainty, **chosen)["2246"].to_dataset().compute(scheduler="sync")
        assert set(listed) == read


def test_inputs_of_a_store_are_the_metadata_of_its_arrays(store: Path) -> None:
    listed = input_files(planned(store)[1])
    assert len(listed) == 8  # an image and a mask a band
    assert all(path.name == "zarr.json" and path.is_file() for path in listed)
    assert len(input_files(planned(store, uncertainty=True)[1])) == 12


def rows_read(source: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Compute everything in one go and return how often each row of each file was decompressed."""
    counts: dict[str, np.ndarray[Any, Any]] = {}
    original = FitsImage.rows

    def counting(image: FitsImage, start: int, stop: int) -> Any:
        assert 0 <= start < stop <= image.shape[0]
        counts.setdefault(image.path.name, np.zeros(image.shape[0], int))[start:stop] += 1
        return original(image, start, stop)

    monkeypatch.setattr(FitsImage, "rows", counting)
    tree(source, **options)["2246"].to_dataset().compute(scheduler="sync")
    monkeypatch.undo()
    return counts


@pytest.mark.parametrize("uncertainty", [False, True])
def test_every_row_of_every_file_is_decompressed_once(
    truth: Truth, monkeypatch: pytest.MonkeyPatch, *, uncertainty: bool
) -> None:
    """Blocks overlap by the halo and cells overlap each other, yet no tile is read for two blocks."""
    counts = rows_read(truth.source, monkeypatch, uncertainty=uncertainty, origin=True)
    assert len(counts) == len(CELLS) * len(BANDS) * (3 if uncertainty else 2)
    geometry = Geometry(SCALE)
    half = geometry.split  # rows on the other side of the border of ownership belong to the neighbour
    for name, count in counts.items():
        row = int(name.split(".")[4][1])
        used = slice(geometry.edge if row == 3 else half, len(count) - (geometry.edge if row == 5 else half))
        assert (count[used] == 1).all(), name
        assert count.sum() == count[used].size, name


def test_halo_cells_are_read_no_further_than_the_kernel_reaches(truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = rows_read(truth.source, monkeypatch, selection=CELLS[:2])
    geometry = Geometry(SCALE)
    halo = [count for name, count in counts.items() if name.split(".")[4][1] == "4"]
    assert len(halo) == 2 * len(BANDS) * 2
    for count in halo:
        assert count.max() == 1
        # rows of the projection up to the radius beyond the selected cell, which reaches over the overlap
        assert count.sum() == geometry.overlap - geometry.split + geometry.radius


def test_columns_of_blocks_read_border_cells_twice_and_no_more(truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = rows_read(truth.source, monkeypatch, columns_per_block=1)
    assert {int(count.max()) for count in counts.values()} <= {1, 2}


def test_c14_one_truncated_file_is_masked_and_noted_once(folder: Path) -> None:
    """Two rows of blocks meet the file: what they say is the same, and the run records it once."""
    damaged = path_of(folder, CELLS[2], "i")
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with events.collect() as notes:
        node = tree(folder)["2246"].to_dataset().compute(scheduler="sync")
    assert {(note.kind, note.message) for note in notes} == {("corrupt-file", notes[0].message)}
    assert notes[0].fields["file"] == str(damaged)
    marked = (node.mask.values & MaskBit.SUSPECT) != 0
    assert marked.any()
    rows, columns = (axis[marked] for axis in np.meshgrid(node.y.values, node.x.values, indexing="ij"))
    projection = Geometry(SCALE).projection(2246)
    y, x = projection.cell_origin(4, 3)
    assert y <= rows.min()
    assert rows.max() < y + projection.height
    assert x <= columns.min()
    assert columns.max() < x + projection.width
    whole = tree(folder, bands=("r", "z", "y"))["2246"].to_dataset().compute(scheduler="sync")
    assert np.isfinite(node.flux).sum() == np.isfinite(whole.flux).sum()


def test_c14_on_corrupt_fail_stops_with_the_name_of_the_file(folder: Path) -> None:
    damaged = path_of(folder, CELLS[2], "i")
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(BadInput, match=f"^{damaged}: the file is truncated"):
        tree(folder, on_corrupt="fail")["2246"].to_dataset().compute(scheduler="sync")


def test_c10_a_deleted_exposure_is_an_error_that_names_the_file(folder: Path) -> None:
    damaged = path_of(folder, CELLS[3], "y")
    with fits.open(damaged, disable_image_compression=True, memmap=False) as hdus:
        del hdus[1].header["EXPTIME"]
        hdus.writeto(damaged, overwrite=True)
    with pytest.raises(BadInput, match=f"^{damaged}: EXPTIME: found nothing"):
        tree(folder, on_corrupt="fail")["2246"].to_dataset().compute(scheduler="sync")


def test_c19_one_file_with_radesys_changes_nothing(truth: Truth, folder: Path) -> None:
    path = path_of(folder, CELLS[0], "i")
    with fits.open(path, disable_image_compression=True, memmap=False) as hdus:
        hdus[1].header["RADESYS"] = "FK5"
        hdus.writeto(path, overwrite=True)
    one, other = (tree(source)["2246"].to_dataset().compute(scheduler="sync") for source in (truth.source, folder))
    assert one.identical(other)
