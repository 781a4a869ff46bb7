"""Outlines that a graph sets on its output, drawn on looks at it; flags drawn as classes by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from lensflow.engine.report.classes import MOST, classes
from lensflow.engine.report.looks import looks
from lensflow.engine.report.outlines import draw_outlines, outlines
from lensflow.engine.rundir import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

SQUARE = {"name": "A", "y": [10, 10, 14, 14], "x": [20, 28, 28, 20]}


def image(values: Any = None, **attrs: object) -> xr.DataArray:
    data = np.zeros((8, 12)) if values is None else values
    coords = {"y": np.arange(8) + 8, "x": np.arange(12) + 18}
    return xr.DataArray(data, dims=("y", "x"), coords=coords, attrs=attrs)


def test_outlines_are_in_the_coordinates_of_the_image() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.imshow(image().values, extent=(17.5, 29.5, 7.5, 15.5), origin="lower")
    found = outlines({"outlines": [SQUARE, {**SQUARE, "name": "$B", "dashed": True}]}, image())
    assert [(one.name, one.dashed) for one in found] == [("A", False), ("$B", True)]
    draw_outlines(axes, found, colour="white")
    assert axes.lines[0].get_xydata().tolist() == [[20, 10], [28, 10], [28, 14], [20, 14], [20, 10]]  # type: ignore[union-attr]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    assert [text.get_text() for text in axes.texts] == ["A", "$B"]
    assert axes.texts[0].get_position() == (24, 12)
    assert (axes.get_xlim(), axes.get_ylim()) == ((17.5, 29.5), (7.5, 15.5))
    figure.canvas.draw()  # a dollar is no mathematics


def test_names_that_do_not_fit_are_left_out_and_their_lines_stay() -> None:
    axes = Figure().add_subplot()
    axes.set_xlim(0, 1e4)
    draw_outlines(axes, outlines({"outlines": [{**SQUARE, "name": "skycell.2246.033"}]}, image()), colour="k")
    assert (len(axes.lines), len(axes.texts)) == (1, 0)


@pytest.mark.parametrize(
    "found",
    [
        "outlines of something else",
        [1, "a", None, {}],
        [{"name": "A", "y": [1, 2, 3]}],
        [{**SQUARE, "x": [1, 2, 3]}],
        [{**SQUARE, "x": "1234"}],
        [{**SQUARE, "x": [1, 2, 3, float("nan")]}],
        [{**SQUARE, "x": [[1], [2], [3], [4]]}],
    ],
)
def test_an_attribute_of_another_form_is_left_alone(found: object) -> None:
    assert outlines({"outlines": found}, image()) == []


def test_without_coordinates_there_is_no_place_for_them() -> None:
    assert outlines({"outlines": [SQUARE]}, image().drop_vars("x")) == []


def test_a_report_shows_the_outlines_of_a_group(tmp_path: Path) -> None:
    pngs = []
    for name, attrs in (("plain", {}), ("lined", {"outlines": [SQUARE]})):
        out = tmp_path / f"{name}.zarr"
        data = image(np.arange(96.0).reshape(8, 12)).to_dataset(name="a").assign_attrs(attrs)
        data.to_zarr(out, zarr_format=3, consolidated=False)
        [look] = looks(RunDirectory.of(out))["each"]
        pngs.append(look["png"])
    assert pngs[0] != pngs[1]


FLAGS = {"flag_masks": [1, 4, 32], "flag_meanings": "BAD CLOUD SAT"}


def test_classes_are_named_by_their_flags() -> None:
    found = classes(image(np.resize([0, 1, 4, 37], (8, 12)), **FLAGS))
    assert found is not None
    assert found.names == ["no flag", "BAD", "CLOUD", "BAD CLOUD SAT"]
    np.testing.assert_array_equal(found.place[0, :5], [0, 1, 2, 3, 0])
    kinds = {"flag_values": [0, 1, 2], "flag_meanings": "none star galaxy"}
    named = classes(image(np.resize(np.array([2, 0, 7], np.uint8), (8, 12)), **kinds))
    assert named is not None
    assert named.names == ["none", "galaxy", "7"]


def test_of_many_combinations_of_flags_the_commonest_are_classes() -> None:
    many = {"flag_masks": [2**bit for bit in range(8)], "flag_meanings": " ".join("ABCDEFGH")}
    values = np.zeros((8, 12), np.uint16)
    values[0] = np.arange(12) + 1
    values[1] = np.arange(12) + 13
    values[2:4] = 128
    found = classes(image(values, **many))
    assert found is not None
    assert len(found.names) == MOST
    assert (found.names[0], found.names[-1]) == ("no flag", "other")
    assert found.names[int(found.place[2, 0])] == "H"
    assert found.place.max() == MOST - 1
    assert classes(image(values)) is None  # numbers that mean nothing: an image
    assert classes(image()) is None
