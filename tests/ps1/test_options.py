"""Options of the graph: refused while building, and turned into pixels of the scale at hand."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

import lensflow as lf
from lensflow.errors import BadOption
from lensflow.ps1.options import Options

if TYPE_CHECKING:
    from pathlib import Path


def test_defaults_are_those_of_the_graph() -> None:
    signature = inspect.signature(lf.graph("ps1_convolution"))
    defaults = {name: one.default for name, one in signature.parameters.items() if name != "source"}
    assert defaults == {one.name: one.default for one in fields(Options)}


def test_lengths_at_the_true_scale() -> None:
    options = Options()
    assert (options.sigma_px, options.radius_px, options.edge_px, options.split_px) == (60, 470, 10, 240)


@pytest.mark.parametrize(
    ("scale", "expected"), [(20, (3.0, 23, 1, 12)), (40, (1.5, 11, 1, 6)), (2, (30.0, 235, 5, 120))]
)
def test_lengths_of_scaled_copies(scale: int, expected: tuple[float, int, int, int]) -> None:
    options = Options(scale=scale)
    assert (options.sigma_px, options.radius_px, options.edge_px, options.split_px) == expected


@pytest.mark.parametrize("scale", [1, 2, 20, 40])
def test_the_default_edge_and_split_are_the_same_if_given(scale: int) -> None:
    given, default = Options(scale=scale, edge=10, split=240), Options(scale=scale)
    assert (given.edge_px, given.split_px) == (default.edge_px, default.split_px)


def test_lengths_may_be_given() -> None:
    options = Options(scale=2, sigma=40, radius=100, edge=0, split=470)
    assert (options.sigma_px, options.radius_px, options.edge_px, options.split_px) == (20, 50, 0, 235)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"sigma": 0}, "sigma: found 0"),
        ({"sigma": -60}, "sigma: found -60"),
        ({"sigma": 0.9}, r"sigma: found 0\.9 px .*expected 1\.\.200 px"),
        ({"sigma": 200.1}, r"sigma: found 200\.1"),
        ({"sigma": 201, "scale": 20}, "sigma: found 201"),
        ({"sigma": 5, "scale": 20}, "sigma: found 5"),
        ({"sigma": float("nan")}, "sigma: found nan"),
        ({"sigma": float("inf")}, "sigma: found inf"),
        ({"radius": 0}, r"radius: found 0 px, expected 1\.\.480"),
        ({"radius": 481}, "radius: found 481"),
        ({"radius": -1}, "radius: found -1"),
        ({"edge": -1}, "edge: found -1"),
        ({"edge": 480}, "edge: found 480"),
        ({"split": 0}, "split: found 0"),
        ({"split": 480}, "split: found 480"),
        ({"scale": 7}, "scale"),
        ({"scale": 0}, "scale"),
        ({"scale": -1}, "scale"),
        ({"weights": (1.0,)}, "weights: found 1 of them"),
        ({"bands": ("g", "r")}, "weights: found none for band g"),
        ({"bands": ()}, "bands: found"),
        ({"missing": "ignore"}, "missing: found 'ignore'"),
        ({"nan": "ignore"}, "nan: found 'ignore', expected normalise or zero"),
        ({"on_missing": "ignore"}, "on_missing: found 'ignore', expected record or fail"),
        ({"on_corrupt": "ignore"}, "on_corrupt: found 'ignore', expected mask or fail"),
        ({"min_coverage": 0}, "min_coverage: found 0"),
        ({"min_coverage": 1.1}, r"min_coverage: found 1\.1"),
        ({"min_coverage": float("nan")}, "min_coverage: found nan"),
        ({"columns_per_block": 0}, "columns_per_block: found 0"),
        ({"columns_per_block": 11}, "columns_per_block: found 11"),
        ({"invalid_bits": 1 << 16}, "invalid_bits: found 65536"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_read(
    tmp_path: Path, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadOption, match=message):
        Options.from_keywords(**words).plan(tmp_path / "absent")


def test_a_number_that_is_no_projection_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rings.v3.skycell.2246.033.stk.r.unconv.fits").touch()
    with pytest.raises(BadOption, match="486"):
        Options(projection=486).plan(tmp_path)


def test_names_that_are_no_option_are_left_alone() -> None:
    assert Options.from_keywords(sigma=40, workers=3) == Options(sigma=40)


def test_the_record_is_json_with_weights_and_without_the_selection() -> None:
    record = Options(selection=("714",), bands=("r", "i")).record()
    assert "selection" not in record
    again = json.loads(json.dumps(record))
    assert again["weights"] == [0.238, 0.344]
    assert set(again) == {one.name for one in fields(Options)} - {"selection"}
