"""The blur against scipy in float64 (B1 to B4), its windows, invalid pixels and memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from lensflow.arrays.gaussian import gaussian_blur, gaussian_blur_masked, gaussian_blur_variance
from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RADIUS = 470
SIGMAS = [1, 2.5, 8, 11.9, 12, 20, 40, 60, 75, 78, 79, 100, 150, 200]


def weights(sigma: float, radius: int) -> NDArray[np.float64]:
    k = np.arange(-radius, radius + 1)
    w = np.exp(-0.5 * (k / sigma) ** 2)
    normalised: NDArray[np.float64] = w / w.sum()
    return normalised


def toeplitz(n: int, w: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = len(w) // 2
    padded = np.concatenate([np.zeros(n), w, np.zeros(n)])
    offset = np.arange(n)[:, None] - np.arange(n)
    matrix: NDArray[np.float64] = padded[offset + radius + n]
    return matrix


def reference(image: NDArray[Any], sigma: float, radius: int) -> NDArray[np.float64]:
    """Convolve in float64 with dense matrices: much faster than scipy, equal to it (tested below)."""
    w = weights(sigma, radius)
    blurred: NDArray[np.float64] = toeplitz(image.shape[0], w) @ image.astype(np.float64) @ toeplitz(image.shape[1], w)
    return blurred


def error(found: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def images() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(11)
    shape = 1200, 1200
    noise = rng.normal(size=shape).astype(np.float32)
    delta = np.zeros(shape, np.float32)
    delta[611, 333] = 1.0
    stars = np.minimum(rng.pareto(1.0, shape) * (rng.random(shape) < 0.01), 1e6).astype(np.float32)
    return {"noise": noise, "noise + 1": noise + np.float32(1.0), "delta": delta, "stars": stars}


@pytest.mark.parametrize(("sigma", "radius"), [(3.0, 23), (60.0, 470), (200.0, 470)])
def test_reference_is_scipy(sigma: float, radius: int) -> None:
    image = np.random.default_rng(5).normal(size=(130, 170))
    assert int(radius / sigma * sigma + 0.5) == radius
    scipy = gaussian_filter(image, sigma, mode="constant", truncate=radius / sigma)
    np.testing.assert_allclose(reference(image, sigma, radius), scipy, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_b1_equals_the_reference(images: dict[str, NDArray[np.float32]], sigma: float) -> None:
    for name, image in images.items():
        found = gaussian_blur(image, sigma=sigma, radius=RADIUS)
        assert found.dtype == np.float32
        assert error(found, reference(image, sigma, RADIUS)) < 1e-6, name


@pytest.mark.parametrize("sigma", [8, 12, 20, 60, 78, 79, 200])
def test_b1_delta_at_every_phase_of_a_block(sigma: float) -> None:
    n, w = 1100, weights(sigma, RADIUS)
    strip = np.zeros((n, 1), np.float32)
    for phase in range(100):  # blocks are at most 1.2 * 78 px
        strip[500 + phase] = 1.0
        found = gaussian_blur(strip, sigma=sigma, radius=RADIUS)[:, 0]
        strip[500 + phase] = 0.0
        k = np.arange(n) - 500 - phase
        expected = np.where(np.abs(k) <= RADIUS, w[np.clip(k + RADIUS, 0, 2 * RADIUS)], 0.0) * w[RADIUS]
        assert np.abs(found - expected).max() < 1e-6 * w[RADIUS] ** 2


@pytest.mark.parametrize("sigma", [79.0, 120.0, 200.0])
def test_b2_the_kernel_ends_at_the_radius(sigma: float) -> None:
    image = np.zeros((1000, 31), np.float32)
    image[500, 15] = 1.0
    found, expected = gaussian_blur(image, sigma=sigma, radius=RADIUS), reference(image, sigma, RADIUS)
    peak = expected.max()
    assert abs(found[970, 15] - expected[970, 15]) < 1e-6 * peak
    assert expected[970, 15] > 1e-9 * peak
    assert not found[971:].any()
    assert not found[:30].any()


def test_b2_small_image() -> None:
    image = np.random.default_rng(2).normal(size=(100, 80)).astype(np.float32)
    scipy = gaussian_filter(image.astype(np.float64), 60.0, mode="constant", truncate=RADIUS / 60)
    assert error(gaussian_blur(image, sigma=60.0, radius=RADIUS), scipy) < 1e-6


def holes(shape: tuple[int, int], *, seed: int = 3) -> NDArray[np.bool_]:
    lost = np.random.default_rng(seed).random(shape) < 0.02
    lost[60:100, 90:150] = True
    return lost


@pytest.mark.parametrize("sigma", [3.0, 10.0, 13.0, 30.0, 90.0])
def test_b3_constant_with_holes(sigma: float) -> None:
    image = np.full((260, 310), 3.0, np.float32)
    image[holes(image.shape)] = np.nan
    flux, coverage = gaussian_blur_masked(image, sigma=sigma, radius=RADIUS)
    seen = coverage >= 0.2
    assert np.allclose(flux[seen] / coverage[seen], 3.0, rtol=2e-6, atol=0)
    filled = np.nan_to_num(image, nan=0.0)
    assert error(flux, reference(filled, sigma, RADIUS)) < 1e-6
    assert error(coverage, reference(np.isfinite(image), sigma, RADIUS)) < 1e-6
    assert 0.0 <= coverage.min() <= coverage.max() <= 1.0


@pytest.mark.parametrize(("sigma", "edge", "corner"), [(40, 0.504987, 0.255012), (60, 0.503325, 0.253336)])
@pytest.mark.parametrize("damaged", [False, True])
def test_b3_coverage_at_edges(sigma: float, edge: float, corner: float, *, damaged: bool) -> None:
    image = np.ones((1000, 1000), np.float32)
    if damaged:  # far from where it is looked at: the general way instead of the closed form
        image[999, 999] = np.nan
    coverage = gaussian_blur_masked(image, sigma=sigma, radius=RADIUS)[1]
    assert coverage[0, 0] == pytest.approx(corner, abs=1.5e-6)
    assert coverage[0, 490] == pytest.approx(edge, abs=1.5e-6)
    assert coverage[490, 0] == pytest.approx(edge, abs=1.5e-6)


def test_b4_variance() -> None:
    variance = np.ones((200, 200), np.float32)
    out = gaussian_blur_variance(variance, sigma=10.0, radius=78)
    assert np.sqrt(out[100, 100]) == pytest.approx(0.0282094792, rel=1e-5)
    noise = np.random.default_rng(4).normal(size=(1500, 1500)).astype(np.float32)
    blurred = gaussian_blur(noise, sigma=10.0, radius=78)[80:-80, 80:-80]
    assert blurred.std() == pytest.approx(0.0282094792, rel=0.05)


@pytest.mark.parametrize("sigma", [1.5, 20.0, 150.0])
def test_variance_is_the_sum_of_squared_weights(sigma: float) -> None:
    variance = np.random.default_rng(8).random((170, 140)).astype(np.float32)
    squared = weights(sigma, RADIUS) ** 2
    lost = holes(variance.shape)
    kept = np.where(lost, 0.0, variance)
    expected = toeplitz(170, squared) @ kept @ toeplitz(140, squared)
    variance[lost] = np.nan
    assert error(gaussian_blur_variance(variance, sigma=sigma, radius=RADIUS), expected) < 1e-6


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int], float, int, tuple[tuple[int, int], tuple[int, int]]]:
    shape = draw(st.integers(1, 330)), draw(st.integers(1, 330))
    sides = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n - 1)))) for n in shape]
    (y0, y1), (x0, x1) = ((a, max(b, a + 1)) for a, b in sides)
    return shape, draw(st.floats(0.5, 200.0)), draw(st.integers(1, 500)), ((y0, y1), (x0, x1))


@given(cases(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=150)
def test_any_window_of_any_image(
    case: tuple[tuple[int, int], float, int, tuple[tuple[int, int], tuple[int, int]]], seed: int
) -> None:
    shape, sigma, radius, window = case
    rng = np.random.default_rng(seed)
    image = (rng.random(shape) + 0.1).astype(np.float32)
    part = tuple(slice(*side) for side in window)
    whole = reference(image, sigma, radius)
    scale = whole.max()
    assert np.abs(gaussian_blur(image, sigma=sigma, radius=radius, window=window) - whole[part]).max() < 1e-6 * scale
    lost = rng.random(shape) < rng.choice([0.0, 0.002, 0.3, 1.0])
    expected = reference(np.where(lost, 0.0, image), sigma, radius)[part]
    covered = reference(~lost, sigma, radius)[part]
    image[lost] = np.nan
    flux, coverage = gaussian_blur_masked(image, sigma=sigma, radius=radius, window=window)
    assert np.abs(flux - expected).max() < 1e-6 * scale
    assert np.abs(coverage - covered).max() < 1e-6


@pytest.mark.parametrize("sigma", [4.0, 20.0, 120.0])
def test_infinities_are_invalid(sigma: float) -> None:
    image = np.random.default_rng(6).random((150, 150)).astype(np.float32)
    image[7, 9], image[100, 20], image[101, 20] = np.nan, np.inf, -np.inf
    flux, coverage = gaussian_blur_masked(image, sigma=sigma, radius=RADIUS)
    assert error(flux, reference(np.where(np.isfinite(image), image, 0), sigma, RADIUS)) < 1e-6
    assert error(coverage, reference(np.isfinite(image), sigma, RADIUS)) < 1e-6
    with pytest.raises(BadInput, match="gaussian_blur_masked"):
        gaussian_blur(image, sigma=sigma, radius=RADIUS)


@pytest.mark.parametrize("sigma", [3.0, 20.0, 120.0])
def test_invalid_pixels_out_of_reach_do_not_matter(sigma: float) -> None:
    image = np.random.default_rng(6).random((400, 390)).astype(np.float32)
    reach = min(100, int(np.ceil(6 * sigma)))
    lo, hi = 150, 251
    image[: lo - reach], image[hi + reach :], image[:, : lo - reach], image[:, hi + reach :] = (np.nan,) * 4
    options: dict[str, Any] = {"sigma": sigma, "radius": 100, "window": ((lo, hi), (lo, hi))}
    expected = gaussian_blur(np.nan_to_num(image), **options)
    np.testing.assert_array_equal(gaussian_blur(image, **options), expected)
    flux, coverage = gaussian_blur_masked(image, **options)
    np.testing.assert_array_equal(flux, expected)
    np.testing.assert_allclose(coverage, 1.0, rtol=0, atol=1e-6)


def clumps(kind: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Invalid pixels in places where blocks, tiles and the image end."""
    lost = np.zeros(shape, np.bool_)
    if kind == "corners of blocks":
        for at in (24, 64, 72, 192):
            lost[at - 2 : at + 2, at - 2 : at + 2] = True
            lost[at, -at] = True
    elif kind == "edges of the image":
        lost[0, :40], lost[-3:, -5:], lost[200:210, 0], lost[50, -1] = (True,) * 4
    elif kind == "whole blocks":
        lost[128:320, 64:256] = True
    elif kind == "one half":
        lost[:, 900:], lost[600:] = True, True
    return lost


@pytest.mark.parametrize("sigma", [1.0, 5.0, 9.0, 21.0, 60.0, 90.0])
@pytest.mark.parametrize("kind", ["corners of blocks", "edges of the image", "whole blocks", "one half"])
def test_clumps_of_invalid_pixels(kind: str, sigma: float) -> None:
    image = np.random.default_rng(12).random((800, 1500), dtype=np.float32)
    lost = clumps(kind, image.shape)
    kept = np.where(lost, np.float32(0), image)
    image[lost] = np.nan
    flux, coverage = gaussian_blur_masked(image, sigma=sigma, radius=RADIUS)
    assert error(flux, reference(kept, sigma, RADIUS)) < 1e-6
    assert np.abs(coverage - reference(~lost, sigma, RADIUS)).max() < 1e-6
    assert 0.0 <= coverage.min() <= coverage.max() <= 1.0
    window = (150, 420), (200, 1100)
    parts = gaussian_blur_masked(image, sigma=sigma, radius=RADIUS, window=window)
    for part, whole in zip(parts, (flux, coverage), strict=True):
        np.testing.assert_allclose(part, whole[150:420, 200:1100], rtol=0, atol=1.5e-6)


@pytest.mark.parametrize("sigma", [4.0, 20.0, 120.0])
def test_nothing_valid_gives_zeros(sigma: float) -> None:
    image = np.full((150, 150), np.nan, np.float32)
    flux, coverage = gaussian_blur_masked(image, sigma=sigma, radius=RADIUS)
    assert not flux.any()
    assert not coverage.any()


@pytest.mark.parametrize("sigma", [4.0, 20.0, 120.0])
@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f4"),
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
        lambda a: a.astype(np.int16),
    ],
    ids=["float64", "big-endian", "fortran", "strided", "reversed twice", "integer"],
)
def test_any_layout_and_type(sigma: float, convert: Callable[[NDArray[np.float32]], NDArray[Any]]) -> None:
    image = np.random.default_rng(9).integers(0, 1000, (190, 150)).astype(np.float32)
    before = gaussian_blur(image, sigma=sigma, radius=RADIUS)
    other = convert(image)
    kept = other.copy()
    np.testing.assert_array_equal(gaussian_blur(other, sigma=sigma, radius=RADIUS), before)
    np.testing.assert_array_equal(gaussian_blur_masked(other, sigma=sigma, radius=RADIUS)[0], before)
    np.testing.assert_array_equal(other, kept)


@pytest.mark.parametrize("sigma", [1.0, 8.0, 12.0, 20.0, 60.0, 100.0])
@pytest.mark.parametrize("damaged", [False, True])
def test_no_temporary_of_the_size_of_the_image(sigma: float, *, damaged: bool) -> None:
    image = np.random.default_rng(1).random((2000, 2000), dtype=np.float32)
    if damaged:
        image[::7, ::3] = np.nan
    tracemalloc.start()
    try:
        gaussian_blur_masked(image, sigma=sigma, radius=RADIUS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    outputs = 2 * image.nbytes
    work = 0.45 if sigma > RADIUS / 6 else 0.3  # long kernels hold moments of values and validity
    assert peak - outputs < work * image.nbytes + 8e6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0.0}, "sigma is 0.0 px"),
        ({"sigma": -1.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"sigma": 201.0}, "0.5 to 200"),
        ({"radius": 0}, "radius is 0 px"),
        ({"radius": 2.5}, "integer"),
        ({"radius": float("nan")}, "radius"),
        ({"window": ((0, 0), (0, 5))}, "window"),
        ({"window": ((0, 5), (3, 99))}, "window"),
        ({"image": np.zeros(5, np.float32)}, "two axes"),
        ({"image": np.zeros((0, 5), np.float32)}, "empty"),
        ({"image": np.zeros((5, 5), np.complex64)}, "complex64"),
    ],
)
@pytest.mark.parametrize("blur", [gaussian_blur, gaussian_blur_masked, gaussian_blur_variance])
def test_bad_options_are_named(blur: Callable[..., Any], options: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {"image": np.zeros((9, 9), np.float32), "sigma": 2.0, "radius": 5}
    given_options = good | options
    with pytest.raises(BadOption, match=words):
        blur(given_options.pop("image"), **given_options)
