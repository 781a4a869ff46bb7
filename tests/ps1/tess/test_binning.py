"""Runs and pieces of pixels, against the coordinates of every single pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.ps1.cells import Rect
from lensflow.ps1.tess.binning import Pixels, runs_of, sum_runs
from lensflow.ps1.tess.knots import Knots
from lensflow.ps1.tess.splitting import Coordinate, pieces_of, shared_area, sum_pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@st.composite
def tiles(draw: st.DrawFn) -> Knots:
    """Draw a tile of any orientation, bent a little, its knots less than a TESS pixel apart."""
    spacing = draw(st.sampled_from([1, 2, 8, 16]))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    turn, bend = draw(st.floats(0, 6.3)), draw(st.floats(-0.003, 0.003))
    size = draw(st.floats(0.05, 0.6)) / spacing
    u0, v0 = draw(st.floats(-3, 3)), draw(st.floats(-3, 3))
    y, x = np.meshgrid(*(np.arange(-(-n // spacing) + 1) * spacing * size for n in shape), indexing="ij")
    u = u0 + np.cos(turn) * x - np.sin(turn) * y + bend * x * y
    v = v0 + np.sin(turn) * x + np.cos(turn) * y - bend * x * x
    return Knots(u, v, spacing, shape)


def bilinear(knots: Knots, values: Floats) -> Floats:
    """Return the coordinate of every pixel, one by one."""
    k = knots.spacing
    found = np.zeros(knots.shape)
    for y in range(knots.shape[0]):
        for x in range(knots.shape[1]):
            j, i, t, s = y // k, x // k, y % k / k, x % k / k
            upper = (1 - s) * values[j, i] + s * values[j, i + 1]
            lower = (1 - s) * values[j + 1, i] + s * values[j + 1, i + 1]
            found[y, x] = (1 - t) * upper + t * lower
    return found


@settings(deadline=None, max_examples=120)
@given(knots=tiles())
def test_runs_cover_the_tile_and_name_the_pixel_of_each(knots: Knots) -> None:
    runs = runs_of(knots)
    assert runs.known.all()
    assert runs.start[0] == 0
    np.testing.assert_array_equal(np.cumsum(runs.length)[:-1], runs.start[1:])
    assert runs.length.sum() == knots.shape[0] * knots.shape[1]
    for found, values in ((runs.u, knots.u), (runs.v, knots.v)):
        exact = bilinear(knots, values).ravel() + 0.5
        each = np.repeat(found, runs.length)
        sure = np.abs(exact - np.rint(exact)) > 1e-9
        np.testing.assert_array_equal(each[sure], np.floor(exact)[sure])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_border_belongs_to_the_pixel_above_it(sign: int) -> None:
    x = np.arange(0, 17, 8) * 0.125 * sign
    knots = Knots(np.tile(x, (2, 1)), np.zeros((2, 3)), 8, (1, 16))
    runs = runs_of(knots)
    expected = np.floor(np.arange(16) * 0.125 * sign + 0.5)
    np.testing.assert_array_equal(np.repeat(runs.u, runs.length), expected)


@settings(deadline=None, max_examples=60)
@given(knots=tiles(), seed=st.integers(0, 1000), ignore=st.sampled_from([0, 1, 3]))
def test_sums_of_runs_are_sums_of_pixels(knots: Knots, seed: int, ignore: int) -> None:
    rng = np.random.default_rng(seed)
    flux = rng.normal(size=knots.shape).astype(np.float32)
    flux[rng.random(knots.shape) < 0.1] = np.nan
    mask = rng.integers(0, 3, knots.shape).astype(np.uint16)
    runs = runs_of(knots)
    window = sum_runs(runs, Pixels.of(flux, mask, ignore))
    assert window is not None
    u, v = (np.repeat(values, runs.length) for values in (runs.u, runs.v))
    used = (np.isfinite(flux) & ((mask & ignore) == 0)).ravel()
    expected = np.zeros((4, *window.sums[0].shape))
    place = v - window.v0, u - window.u0
    values = (np.where(used, flux.ravel(), 0).astype(float), np.ones(u.size), (mask != 0).ravel(), used)
    for total, one in zip(expected, values, strict=True):
        np.add.at(total, place, one)
    for found, one in zip(window.sums, expected, strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-12, atol=1e-12)


def test_pixels_without_coordinates_are_left_out() -> None:
    u, v = np.meshgrid(np.arange(4) * 0.5, np.arange(4) * 0.5)
    u[0, 0] = np.nan
    knots = Knots(u, v, 4, (12, 12))
    runs = runs_of(knots)
    assert runs.length[~runs.known].sum() == 16  # the one piece whose knot is missing
    pixels = Pixels.of(np.ones((12, 12), np.float32), np.zeros((12, 12), np.uint16), 0)
    window, split = sum_runs(runs, pixels), sum_pieces(knots, pixels)
    assert window is not None
    assert split is not None
    assert window.sums[1].sum() == 144 - 16
    assert split.sums[1].sum() == pytest.approx(144 - 16)
    lost = Knots(np.full_like(u, np.nan), v, 4, (12, 12))
    assert sum_runs(runs_of(lost), pixels) is None
    assert sum_pieces(lost, pixels) is None


def test_a_part_has_the_knots_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    whole = Knots(rng.random((6, 8)), rng.random((6, 8)), 4, (19, 26))
    part = whole.part(Rect(8, 4, 19, 14))
    np.testing.assert_array_equal(part.u, whole.u[2:6, 1:5])
    assert part.shape == (11, 10)
    np.testing.assert_allclose(bilinear(part, part.v), bilinear(whole, whole.v)[8:19, 4:14], rtol=1e-14)


@settings(deadline=None, max_examples=60)
@given(knots=tiles())
def test_the_pieces_of_a_pixel_sum_to_one(knots: Knots) -> None:
    every = np.arange(knots.shape[0] * knots.shape[1])
    pieces = pieces_of(knots, Coordinate.of(knots, knots.u), Coordinate.of(knots, knots.v), every)
    total = np.bincount(pieces.pixel, pieces.part, minlength=knots.shape[0] * knots.shape[1])
    np.testing.assert_allclose(total, 1, atol=3e-6)
    assert pieces.part.min() > -1e-7


@settings(deadline=None, max_examples=60)
@given(knots=tiles(), seed=st.integers(0, 1000))
def test_only_pixels_at_a_border_need_to_be_split(knots: Knots, seed: int) -> None:
    """What is summed by runs and in pieces is what is summed if every pixel is split."""
    rng = np.random.default_rng(seed)
    flux, mask = rng.normal(size=knots.shape).astype(np.float32), rng.integers(0, 3, knots.shape).astype(np.uint16)
    pixels = Pixels.of(flux, mask, 1)
    window = sum_pieces(knots, pixels)
    assert window is not None
    every = np.arange(flux.size)
    pieces = pieces_of(knots, Coordinate.of(knots, knots.u), Coordinate.of(knots, knots.v), every)
    values = (flux.ravel() * (mask.ravel() != 1), np.ones(flux.size), mask.ravel() != 0, mask.ravel() != 1)
    for found, one in zip(window.sums, values, strict=True):
        expected = np.zeros(found.shape)
        there = pieces.part > 1e-6
        u, v = pieces.u[there] - window.u0, pieces.v[there] - window.v0
        np.add.at(expected, (v, u), (one[pieces.pixel] * pieces.part)[there])
        np.testing.assert_allclose(found, expected, atol=1e-5 * flux.size**0.5 + 1e-4)


@settings(deadline=None, max_examples=60)
@given(
    x=st.floats(-1, 2),
    y=st.floats(-1, 2),
    a=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    b=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
)
def test_shared_area_is_the_part_of_points_inside(
    x: float, y: float, a: tuple[float, float], b: tuple[float, float]
) -> None:
    side = (np.arange(300) + 0.5) / 300 - 0.5
    s, t = np.meshgrid(side, side)
    px, py = x + s * a[0] + t * b[0], y + s * a[1] + t * b[1]
    expected = ((px > 0) & (px < 1) & (py > 0) & (py < 1)).mean() * abs(a[0] * b[1] - a[1] * b[0])
    one: Any = tuple((np.array([p]), np.array([q])) for p, q in (a, b))
    assert shared_area(np.array([x]), np.array([y]), one)[0] == pytest.approx(expected, abs=0.02)


def test_shared_area_of_known_shapes() -> None:
    def area(x: float, y: float, a: tuple[float, float], b: tuple[float, float]) -> float:
        sides: Any = tuple((np.array([p]), np.array([q])) for p, q in (a, b))
        return float(shared_area(np.array([x]), np.array([y]), sides)[0])

    assert area(0.5, 0.5, (0.2, 0), (0, 0.2)) == pytest.approx(0.04)
    assert area(1, 0.5, (0.2, 0), (0, 0.2)) == pytest.approx(0.02)
    assert area(0, 0, (0.2, 0), (0, 0.2)) == pytest.approx(0.01)
    assert area(0, 0.5, (0.5, 0.5), (-0.5, 0.5)) == pytest.approx(0.25)  # a diamond, half inside
    assert area(0.5, 0.5, (4, 0), (0, 4)) == pytest.approx(1)  # larger than the square
    assert area(2, 0.5, (0.2, 0), (0, 0.2)) == 0
