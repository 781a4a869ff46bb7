"""The convolution with NaN in it: analytic answers, scipy in float64, white noise."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lensflow.ps1.blur import Nan, blur_block


def convolve(
    *images: NDArray[np.float32], sigma: float, radius: int, nan: Nan, min_coverage: float = 0.2
) -> xr.Dataset:
    """Convolve flux, and variance if it is given, with nothing around."""
    around = [np.pad(image, radius, constant_values=np.nan) for image in images]
    made = blur_block(*around, sigma=sigma, radius=radius, nan=nan, min_coverage=min_coverage)
    names = ("flux", "coverage", "uncertainty")[: len(made)]
    return xr.Dataset({name: (("y", "x"), one) for name, one in zip(names, made, strict=True)})


def reference(image: NDArray[np.float64], sigma: float, radius: int) -> NDArray[np.float64]:
    blurred: NDArray[np.float64] = gaussian_filter(image, sigma, mode="constant", radius=radius)
    return blurred


@pytest.fixture(scope="module")
def holed() -> NDArray[np.float32]:
    """Constant 3 with 2 % scattered NaN and a hole of 40 x 60."""
    image = np.full((260, 300), 3, np.float32)
    image[np.random.default_rng(1).random(image.shape) < 0.02] = np.nan
    image[100:140, 120:180] = np.nan
    return image


def test_b3_a_constant_stays_constant_where_it_is_covered(holed: NDArray[np.float32]) -> None:
    out = convolve(holed, sigma=10, radius=78, nan="normalise")
    covered = out.coverage.values >= 0.2
    assert 0.9 < covered.mean() < 1
    # both convolutions are good to 1e-6 of their peak, which shows where little is covered
    np.testing.assert_allclose(out.flux.values[out.coverage.values >= 0.5], 3, rtol=1e-6)
    np.testing.assert_allclose(out.flux.values[covered], 3, rtol=2e-6)
    assert np.isnan(out.flux.values[~covered]).all()


def test_b3_flux_times_coverage_is_the_zero_filled_convolution(holed: NDArray[np.float32]) -> None:
    image = holed * np.linspace(0.5, 2, 300, dtype=np.float32)
    normalised, zero = (
        convolve(image, sigma=10, radius=78, nan=nan, min_coverage=1e-6) for nan in ("normalise", "zero")
    )
    expected = reference(np.nan_to_num(image.astype(np.float64)), 10, 78)
    finite = np.isfinite(image)
    np.testing.assert_array_equal(np.isfinite(zero.flux), finite)
    np.testing.assert_allclose(zero.flux.values[finite], expected[finite], rtol=0, atol=1e-6 * expected.max())
    product = (normalised.flux * normalised.coverage).values
    np.testing.assert_allclose(product, expected, rtol=0, atol=2e-6 * expected.max())


@pytest.mark.parametrize(("sigma", "side", "corner"), [(40, 0.504987, 0.255012), (60, 0.503325, 0.253336)])
def test_b3_coverage_at_a_straight_edge_and_a_corner(sigma: float, side: float, corner: float) -> None:
    out = convolve(np.ones((1000, 1000), np.float32), sigma=sigma, radius=470, nan="zero")
    assert float(out.coverage[500, 0]) == pytest.approx(side, abs=2e-6)
    assert float(out.coverage[-1, -1]) == pytest.approx(corner, abs=2e-6)


def test_min_coverage_is_where_flux_ends() -> None:
    image = np.ones((60, 60), np.float32)
    image[:, 30:] = np.nan
    for least in (0.1, 0.5, 0.9):
        out = convolve(image, sigma=5, radius=30, nan="normalise", min_coverage=least)
        np.testing.assert_array_equal(np.isfinite(out.flux), out.coverage >= least)
        assert 0 < float(np.isfinite(out.flux).mean()) < 1


def test_b4_uncertainty_of_unit_variance_is_the_rms_of_convolved_white_noise() -> None:
    noise = np.random.default_rng(2).standard_normal((600, 600)).astype(np.float32)
    out = convolve(noise, np.ones_like(noise), sigma=10, radius=78, nan="normalise")
    inside = (slice(80, -80), slice(80, -80))
    np.testing.assert_allclose(out.uncertainty.values[inside], 0.0282094792, rtol=1e-5)
    assert float(out.flux.values[inside].std()) == pytest.approx(0.0282094792, rel=0.05)
    edge = float(out.uncertainty[0, 300])  # sqrt(half the sum of squares) over half the coverage
    assert edge == pytest.approx(0.0282094792 * np.sqrt(0.5) / 0.5, rel=0.05)


def test_without_a_value_there_is_no_uncertainty_either() -> None:
    flux = np.full((40, 40), np.nan, np.float32)
    flux[:, :10] = 1
    variance = np.where(np.isfinite(flux), np.float32(4), np.float32(0))
    for nan in ("normalise", "zero"):
        out = convolve(flux, variance, sigma=2, radius=12, nan=nan)
        np.testing.assert_array_equal(np.isnan(out.uncertainty), np.isnan(out.flux))
        assert np.isfinite(out.uncertainty).any()
        assert float(out.coverage[20, 39]) == 0


def test_a_block_is_not_changed_and_loses_its_halo() -> None:
    flux = np.random.default_rng(3).random((50, 44)).astype(np.float32)
    before = flux.copy()
    out, coverage = blur_block(flux, sigma=3, radius=10, nan="normalise", min_coverage=0.2)
    np.testing.assert_array_equal(flux, before)
    assert out.shape == coverage.shape == (30, 24)
    assert coverage.max() <= 1
