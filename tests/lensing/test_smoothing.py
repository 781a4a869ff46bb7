"""Smoothing by transforms against the direct sums of scipy (check C4)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from lensflow.lensing.patches.smoothing import Smoother, smooth
from lensflow.lensing.patches.starlet import SCALES, local_maxima, starlet, starlet_statistics

PIXEL = 60 * 10 / 2048  # arcmin


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(2, 90),
    sigma=st.floats(0.3, 40),
    boundary=st.sampled_from(["reflect", "wrap"]),
    seed=st.integers(0, 99),
)
def test_smoothing_equals_direct_sums(n: int, sigma: float, boundary: Literal["reflect", "wrap"], seed: int) -> None:
    image = np.random.default_rng(seed).standard_normal((n, n))
    expected = gaussian_filter(image, sigma, mode=boundary)
    np.testing.assert_allclose(smooth(image, sigma, boundary), expected, rtol=0, atol=1e-12)


def test_c4_a_full_patch_at_the_default_lengths() -> None:
    image = np.random.default_rng(3).standard_normal((2048, 2048))
    smoother = Smoother(image)
    for arcmin in (2, 10):
        found = smoother.smoothed(arcmin / PIXEL)
        strip = gaussian_filter(image[:700], arcmin / PIXEL, mode="reflect")[:64]  # its lower border is far away
        np.testing.assert_allclose(found[:64], strip, rtol=0, atol=1e-12)


def test_a_constant_stays() -> None:
    np.testing.assert_allclose(smooth(np.full((33, 33), 2.5), 7.0), 2.5, rtol=1e-13)


def test_c4_starlet_scales_add_up_to_the_image() -> None:
    image = np.random.default_rng(0).standard_normal((200, 200))
    scales = starlet(image)
    assert len(scales) == SCALES + 1
    np.testing.assert_allclose(scales.sum(axis=0), image, rtol=0, atol=1e-12)


def test_starlet_taps_are_those_of_the_spline() -> None:
    image = np.zeros((65, 65))
    image[32, 32] = 1
    scales = starlet(image, 2)
    assert scales[0][32, 32] == pytest.approx(1 - (6 / 16) ** 2)
    assert (image - scales[0])[32, 30] == pytest.approx(6 / 256)
    assert (image - scales[0] - scales[1])[32, 38] == pytest.approx(_two_steps(6) * _two_steps(0))


def _two_steps(place: int) -> float:
    """Return a tap of the spline smoothed by itself at double spacing."""
    spline = np.array([1, 4, 6, 4, 1]) / 16
    wide = np.zeros(9)
    wide[::2] = spline
    return float(np.convolve(spline, wide)[place + 6])


def test_starlet_statistics_count_every_peak_and_sum_every_coefficient() -> None:
    image = np.random.default_rng(1).standard_normal((64, 64))
    edges = np.array([-1e3, 0.0, 1e3])
    l1, peaks = starlet_statistics(image, edges=edges, edge="crop")
    for j, scale in enumerate(starlet(image)[:SCALES]):
        assert l1[j].sum() == pytest.approx(np.abs(scale).sum())
        assert peaks[j].sum() == local_maxima(scale, "crop").sum()
    constant = starlet_statistics(np.ones((16, 16)), edges=edges, edge="wrap")
    assert not constant[1].any()


def test_peaks_at_the_border() -> None:
    image = np.zeros((5, 5))
    image[0, 0] = 1
    assert local_maxima(image, "wrap").sum() == 1
    assert local_maxima(image, "crop").sum() == 0
