"""Pixels and weights against healpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.lensing.patches.pixelisation import bilinear, nearest, ring_pixel, rings

if TYPE_CHECKING:
    from numpy.typing import NDArray

NSIDES = [1, 2, 4, 32, 1024, 8192]


def directions(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return unit vectors everywhere, at the poles, and at the borders of the faces."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((count, 3))
    found[: count // 10] = found[: count // 10] * 1e-3 + [0, 0, 1]
    found[count // 10 : count // 5] = found[count // 10 : count // 5] * 1e-3 - [0, 0, 1]
    found /= np.linalg.norm(found, axis=1)[:, None]
    return found


@pytest.mark.parametrize("nside", NSIDES)
def test_nearest_pixel(nside: int) -> None:
    there = directions(20_000)
    np.testing.assert_array_equal(nearest(there, nside)[0], healpy.vec2pix(nside, *there.T, nest=True))


@pytest.mark.parametrize("nside", NSIDES)
def test_the_middle_of_a_pixel_is_in_it(nside: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 12 * nside**2, 5000)
    there = np.stack(healpy.pix2vec(nside, pixels, nest=True), axis=1)
    np.testing.assert_array_equal(nearest(there, nside)[0], pixels)


@pytest.mark.parametrize("nside", [1, 2, 4, 8])
def test_every_pixel_of_every_ring(nside: int) -> None:
    found = [ring_pixel(nside, ring, j) for ring in range(1, 4 * nside) for j in range(rings(nside).length[ring])]
    np.testing.assert_array_equal(found, healpy.ring2nest(nside, np.arange(12 * nside**2)))


@pytest.mark.parametrize("nside", NSIDES)
def test_bilinear_weights(nside: int) -> None:
    there = directions(20_000)
    pixels, weights = bilinear(there, nside, *rings(nside))
    theta = np.arctan2(np.hypot(there[:, 0], there[:, 1]), there[:, 2])  # vec2ang loses digits at the poles
    theirs = healpy.get_interp_weights(nside, theta, np.arctan2(there[:, 1], there[:, 0]), nest=True)
    (pixels, weights), theirs = _ordered(pixels, weights), _ordered(*theirs)
    np.testing.assert_array_equal(pixels, theirs[0])
    np.testing.assert_allclose(weights, theirs[1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-13)


def _ordered(pixels: Any, weights: Any) -> tuple[Any, Any]:
    order = np.argsort(pixels, axis=0)
    return np.take_along_axis(pixels, order, 0), np.take_along_axis(weights, order, 0)


@settings(deadline=None)
@given(nside=st.sampled_from(NSIDES), seed=st.integers(0, 10**6))
def test_between_pixels_of_a_ring_values_are_linear(nside: int, seed: int) -> None:
    """The colatitude of rings comes back between the first and the last of them."""
    there = directions(50, seed)
    theta = np.arccos(np.clip(there[:, 2], -1, 1))
    first, last = rings(nside).theta[[1, -2]]
    pixels, weights = bilinear(there, nside, *rings(nside))
    values = healpy.pix2ang(nside, pixels, nest=True)[0]
    inside = (theta > first) & (theta < last)
    np.testing.assert_allclose((values * weights).sum(axis=0)[inside], theta[inside], rtol=0, atol=1e-7)
