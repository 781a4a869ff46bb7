"""What a user asks for: names, projections, lists of a CCD; order and duplicates have no effect."""

from __future__ import annotations

import csv
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import lensflow as lf
from lensflow.errors import BadInput, BadOption
from lensflow.ps1.selection import find_list, read_selection, select
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import RINGS_V3, Geometry, Skycell

if TYPE_CHECKING:
    from pathlib import Path

    from lensflow.ps1.truth import Truth

AVAILABLE = {Skycell(714, y, x) for y in (3, 4) for x in (5, 6)} | {Skycell(2246, 0, 0)}
NAMES = [str(cell) for cell in sorted(AVAILABLE)]


def chosen(tmp_path: Path, *items: str | int, projection: int | None = None) -> list[str]:
    cells = select(items, projection=projection, available=AVAILABLE, geometry=RINGS_V3, source=tmp_path)
    return [str(cell) for cell in cells]


def write(path: Path, rows: list[dict[str, Any]], *, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(name: str, **changes: object) -> dict[str, Any]:
    cell = Skycell.parse(name)
    projection = RINGS_V3.projection(cell.projection)
    crpix = projection.cell_crpix(cell.y, cell.x)
    return {
        "NAME": name,
        "projection": cell.projection,  # leading zeros vanish
        "y": cell.y,
        "x": cell.x,
        "NAXIS1": projection.width,
        "NAXIS2": projection.height,
        "CRPIX1": crpix[0],
        "CRPIX2": crpix[1],
        "CRVAL1": projection.ra,
        "CRVAL2": projection.dec,
        "pad_skycell_top": "skycell.0714.055",
    } | changes


def test_nothing_means_all(tmp_path: Path) -> None:
    assert chosen(tmp_path) == NAMES


@pytest.mark.parametrize("name", ["skycell.0714.035", "rings.v3.skycell.0714.035", "skycell.714.035"])
def test_names_with_and_without_prefix_and_zeros(tmp_path: Path, name: str) -> None:
    assert chosen(tmp_path, name) == ["skycell.0714.035"]


def test_names_need_not_be_available(tmp_path: Path) -> None:
    assert chosen(tmp_path, "skycell.0714.099") == ["skycell.0714.099"]


@pytest.mark.parametrize("number", ["714", "0714", 714])
def test_numbers_of_projections(tmp_path: Path, number: str | int) -> None:
    assert chosen(tmp_path, number) == NAMES[:4]


def test_a_projection_cuts_down_a_selection(tmp_path: Path) -> None:
    assert chosen(tmp_path, projection=2246) == NAMES[4:]
    assert chosen(tmp_path, *NAMES, projection=2246) == NAMES[4:]
    with pytest.raises(BadOption, match="selection: found no cell of projection 2246"):
        chosen(tmp_path, "skycell.0714.035", projection=2246)


@pytest.mark.parametrize("how", [{"items": ("1000",)}, {"items": (), "projection": 1000}])
def test_a_projection_that_is_not_there_is_an_error_that_names_those_present(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    with pytest.raises(BadInput, match=r"found no skycell of 1000, only of 714, 2246"):
        chosen(tmp_path, *how["items"], projection=how.get("projection"))


@pytest.mark.parametrize("item", ["486", "2644", "nonsense", "-714", "20/5/3", "20/3", "²", ""])
def test_items_that_are_nothing_are_refused(tmp_path: Path, item: str) -> None:
    with pytest.raises(BadOption):
        chosen(tmp_path, item)


def test_malformed_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"found 'skycell.0714.35'"):
        chosen(tmp_path, "skycell.0714.35")


def test_c12_order_and_duplicates_have_no_effect(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", [row(name) for name in NAMES])
    items: list[str | int] = [*NAMES, *NAMES[::2], "714", "0714", 2246, f"rings.v3.{NAMES[0]}", str(path)]
    for seed in range(5):
        random.Random(seed).shuffle(items)
        assert chosen(tmp_path, *items) == NAMES
    shuffled = write(tmp_path / "shuffled.csv", [row(name) for name in (*NAMES[::-1], *NAMES)])
    assert read_selection(shuffled, RINGS_V3) == read_selection(path, RINGS_V3) == tuple(sorted(AVAILABLE))


def test_c13_lists_give_projections_without_leading_zeros(tmp_path: Path) -> None:
    for value in (714, "0714", "714.0"):
        path = write(tmp_path / "list.csv", [row("skycell.0714.035", projection=value)])
        assert read_selection(path, RINGS_V3) == (Skycell(714, 3, 5),)


@pytest.mark.parametrize("columns", [("NAME",), ("NAME", "projection", "y", "x"), ("x", "NAME")])
def test_only_the_name_is_needed(tmp_path: Path, columns: tuple[str, ...]) -> None:
    rows = [{key: row(name)[key] for key in columns} for name in NAMES]
    assert len(read_selection(write(tmp_path / "list.csv", rows), RINGS_V3)) == len(NAMES)


def test_lists_of_spreadsheets_begin_with_a_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", [row(NAMES[0])], encoding="utf-8-sig")
    assert len(read_selection(path, RINGS_V3)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projection": 715}, "projection: found 715, expected 714 as in skycell.0714.035"),
        ({"y": 4}, "y: found 4, expected 3"),
        ({"x": 4}, "x: found 4, expected 5"),
        ({"x": "five"}, "x: found 'five', expected a number"),
        ({"NAXIS1": 6240}, "NAXIS1: found 6240, expected 6255 for skycell.0714.035"),
        ({"CRPIX2": 0.5}, "CRPIX2: found 0.5"),
        ({"CRVAL1": 0.001}, "CRVAL1: found 0.001"),
        ({"CRVAL2": "nan"}, "CRVAL2: found nan"),
        ({"NAME": "skycell.0714"}, "NAME: skycell: found 'skycell.0714'"),
        ({"NAME": ""}, "NAME: skycell: found ''"),
        ({"NAME": "skycell.0486.035"}, "NAME: skycell: found 'skycell.0486.035'"),
    ],
)
def test_a_contradiction_is_an_error_that_names_file_line_and_column(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "list.csv", [row("skycell.0714.034"), row("skycell.0714.035", **changes)])
    with pytest.raises(BadInput, match=f"^{path}: line 3: {message}"):
        read_selection(path, RINGS_V3)


@pytest.mark.parametrize("ra", [0.00001, 359.99999, 360.0])
def test_c15_ra_of_a_list_wraps(tmp_path: Path, ra: float) -> None:
    path = write(tmp_path / "list.csv", [row("skycell.0714.035", CRVAL1=ra)])
    assert len(read_selection(path, RINGS_V3)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found columns None, expected NAME"),
        (b"a,b\n1,2\n", r"found columns \['a', 'b'\], expected NAME"),
        (b"NAME\n", "found no skycell, expected a line for each"),
        (b"NAME\n\xff\xfe\n", "found no CSV"),
    ],
)
def test_files_that_are_no_lists_are_errors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"^{path}: {message}"):
        read_selection(path, RINGS_V3)


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.csv: no such list of skycells"):
        chosen(tmp_path, str(tmp_path / "absent.csv"))


def test_the_list_of_a_ccd_lies_in_the_source_or_beside_it(tmp_path: Path) -> None:
    inside = "skycell_pixel_mapping/sector_0020/camera_3/ccd_1/tess_s0020_3_1_master_skycells_list.csv"
    source = tmp_path / "skycells.zarr"
    beside = write(tmp_path / inside, [row(NAMES[0])])
    assert find_list(source, 20, 3, 1) == beside
    assert chosen(source, "20/3/1") == chosen(source, "0020/3/1") == NAMES[:1]
    within = write(source / inside, [row(NAMES[1])])
    assert find_list(source, 20, 3, 1) == within
    assert chosen(source, "20/3/1", NAMES[2]) == NAMES[1:3]


def test_c13_a_missing_list_is_an_error_that_names_the_paths_tried(tmp_path: Path) -> None:
    name = "skycell_pixel_mapping/sector_0020/camera_3/ccd_1/tess_s0020_3_1_master_skycells_list.csv"
    with pytest.raises(BadInput) as error:
        chosen(tmp_path / "cells", "20/3/1")
    assert str(tmp_path / "cells" / name) in str(error.value)
    assert str(tmp_path / name) in str(error.value)


# end to end, from one root with a projection below 1000

SCALE = 40
CELLS = ("skycell.0714.033", "skycell.0714.034", "skycell.0714.043")


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Truth]:
    folder = tmp_path_factory.mktemp("skies")
    return {
        kind: simulate(folder / kind, CELLS, scale=SCALE, format=kind, sector=7, camera=2, ccd=4, bands=("r", "i"))
        for kind in ("fits", "zarr")
    }


@pytest.mark.parametrize("kind", ["fits", "zarr"])
def test_c13_end_to_end_from_one_root(skies: dict[str, Truth], kind: str) -> None:
    truth = skies[kind]

    def result(*selection: str) -> xr.DataTree:
        tree = lf.graph("ps1_convolution")(truth.source, selection=selection, scale=SCALE)
        assert isinstance(tree, xr.DataTree)
        del tree.attrs["lensflow"]  # the words of the call, shuffled or not
        return tree

    expected = result()
    assert list(expected.children) == ["0714"]
    assert expected["0714"].attrs["cells"] == list(CELLS)
    values = expected["0714"].to_dataset().compute(scheduler="sync")
    assert np.isfinite(values.flux).any()
    for selection in (("7/2/4",), (str(truth.selection),), ("714",), ("0714",), CELLS[::-1]):
        tree = result(*selection)
        assert tree.attrs == expected.attrs
        assert tree["0714"].attrs == expected["0714"].attrs
    lines = truth.selection.read_text().splitlines()
    shuffled = truth.root / "shuffled.csv"
    shuffled.write_text("\n".join([lines[0], *lines[:0:-1], *lines[1:]]) + "\n")
    for selection in (("7/2/4",), (str(shuffled),)):
        again = result(*selection)["0714"].to_dataset().compute(scheduler="sync")
        assert again.identical(values)  # C12: to the bit


def test_c13_the_list_of_another_scale_is_refused(skies: dict[str, Truth]) -> None:
    with pytest.raises(BadInput, match="NAXIS1: found"):
        read_selection(skies["fits"].selection, RINGS_V3)
    assert read_selection(skies["fits"].selection, Geometry(SCALE)) == tuple(map(Skycell.parse, CELLS))
