"""Tangent-plane grids mapped to each other, against astropy, scipy and the numbers of the specification."""

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from astropy.io.fits import Header
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from lensflow.arrays.reproject import Bilinear, Homography, TanGrid
from lensflow.ps1.tessellation import RINGS_V3

SCALE = 0.01  # deg/px

grids = st.builds(
    TanGrid,
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    scale=st.just(SCALE),
)


def wcs(grid: TanGrid) -> WCS:
    keys = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "LONPOLE": 180.0}
    numbers = {"CRVAL1": grid.ra, "CRVAL2": grid.dec, "CRPIX1": grid.x + 1, "CRPIX2": grid.y + 1}
    return WCS(Header({**keys, **numbers, "CD1_1": -grid.scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": grid.scale}))


def skycells(number: int) -> TanGrid:
    one = RINGS_V3.projection(number)
    return TanGrid(one.ra, one.dec, one.crpix[0] - 1, one.crpix[1] - 1, RINGS_V3.pixel_scale)


@pytest.mark.parametrize(
    ("here", "pixel", "there", "expected", "ratio"),
    [
        (2180, (59080, 29260), 2179, (2383.2453, 29180.0910), 0.999677),
        (2180, (29440, 58820), 2247, (49934.0668, 1471.4294), 1.000710),
        (2157, (59080, 29260), 2224, (2383.2453, 29180.0910), 0.999677),  # across RA 0
        (1322, (-100, 5000), 1323, (57546.9455, 4999.8732), 0.999920),
        (2556, (59430, 58000), 2555, (10548.4564, 57033.2260), 0.998737),
        (2643, (-200, 30000), 2636, (24319.2937, 58929.4819), None),  # from the pole
    ],
)
def test_c6_c15_fixed_points(
    here: int, pixel: tuple[int, int], there: int, expected: tuple[float, float], ratio: float | None
) -> None:
    found = Homography.between(skycells(here), skycells(there))(*pixel)
    np.testing.assert_allclose((found.x, found.y), expected, rtol=0, atol=1e-4)
    if ratio is not None:
        assert float(found.nearness) ** -3 == pytest.approx(ratio, abs=5e-7)


@given(grids, grids, st.floats(-500, 500), st.floats(-500, 500))
@settings(max_examples=150, deadline=None)
def test_the_map_is_that_of_two_world_coordinate_systems(here: TanGrid, there: TanGrid, x: float, y: float) -> None:
    ra, dec = wcs(here).wcs_pix2world(x, y, 0)
    distance = np.rad2deg(angular_separation(*np.deg2rad([ra, dec, there.ra, there.dec])))
    found = Homography.between(here, there)(x, y)
    assert (found.nearness > 0) == (distance < 90) or abs(distance - 90) < 1e-6
    if distance < 80:
        expected = wcs(there).wcs_world2pix(ra, dec, 0)
        np.testing.assert_allclose((found.x, found.y), expected, rtol=1e-9, atol=1e-6)


@given(grids, grids, grids, st.floats(-500, 500), st.floats(-500, 500))
@settings(max_examples=100, deadline=None)
def test_nearness_orders_grids_by_the_distance_of_their_tangent_points(
    here: TanGrid, one: TanGrid, other: TanGrid, x: float, y: float
) -> None:
    position = np.deg2rad(wcs(here).wcs_pix2world(x, y, 0))
    near = [float(Homography.between(here, grid)(x, y).nearness) for grid in (one, other)]
    away = [angular_separation(*position, *np.deg2rad([grid.ra, grid.dec])) for grid in (one, other)]
    if abs(away[0] - away[1]) > 1e-7:
        assert (near[0] > near[1]) == (away[0] < away[1])


def test_nearness_gives_the_ratio_of_solid_angles() -> None:
    here, there = TanGrid(10, 50, 0, 0, SCALE), TanGrid(16, 52, 0, 0, SCALE)
    x, y = np.array([-300.0, -200, 100]), np.array([200.0, -100, 50])

    def solid_angle(mapped: Homography) -> np.ndarray:
        """Area on the other grid of a pixel of this one, by its corners."""
        corners = [mapped(x + dx, y + dy) for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))]
        u, v = np.array([c.x for c in corners]), np.array([c.y for c in corners])
        return np.asarray(abs((u * np.roll(v, -1, 0) - v * np.roll(u, -1, 0)).sum(axis=0)) / 2)

    between = Homography.between(here, there)
    np.testing.assert_allclose(between(x, y).nearness ** -3, solid_angle(between), rtol=1e-5)


def test_windows_of_a_grid_agree_to_the_last_bit() -> None:
    between = Homography.between(skycells(2619), skycells(2620))
    whole = between(np.arange(60000, 60300)[None, :], np.arange(100, 260)[:, None])
    part = between(np.arange(60017, 60200)[None, :], np.arange(131, 250)[:, None])
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[31:150, 17:200], other)


@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(2, 20))
@settings(max_examples=60, deadline=None)
def test_bilinear_is_that_of_scipy_and_nan_where_one_of_four_is(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(height, width)).astype(np.float32)
    x, y = rng.uniform(0, width - 1, (5, 7)), rng.uniform(0, height - 1, (5, 7))
    x[0], y[0] = np.floor(x[0]), np.floor(y[0])  # on a pixel
    x, y = np.minimum(x, np.nextafter(width - 1, 0)), np.minimum(y, np.nextafter(height - 1, 0))
    origin = 1000, -40
    between = Bilinear.at(x + origin[1], y + origin[0], origin=origin, width=width)
    np.testing.assert_allclose(between.of(image), map_coordinates(image, [y, x], order=1), atol=1e-5)
    bits = rng.integers(0, 65536, (height, width), np.uint16)
    on = np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)
    clear = (np.abs(x % 1 - 0.5) > 1e-6) & (np.abs(y % 1 - 0.5) > 1e-6)
    np.testing.assert_array_equal(between.nearest(bits)[clear], bits[on][clear])
    hole = int(rng.integers(height)), int(rng.integers(width))
    image[hole] = np.nan
    touched = (np.floor(y) <= hole[0]) & (hole[0] <= np.floor(y) + 1) & (np.floor(x) <= hole[1])
    touched &= hole[1] <= np.floor(x) + 1
    np.testing.assert_array_equal(np.isnan(between.of(image)), touched)


def test_a_constant_stays_what_it_is() -> None:
    image = np.full((30, 40), np.float32(1 / 3))
    rng = np.random.default_rng(0)
    between = Bilinear.at(rng.uniform(0, 38, 500), rng.uniform(0, 28, 500), origin=(0, 0), width=40)
    assert (between.of(image) == np.float32(1 / 3)).all()
