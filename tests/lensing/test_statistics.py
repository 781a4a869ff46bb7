"""Statistics of real maps against LensTools 1.2 (checks C1, C2), of Gaussian fields against theory (C3)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, maximum_filter, minimum_filter
from scipy.special import erfc

from lensflow.lensing.patches.bispectrum import CONFIGURATIONS, bispectrum
from lensflow.lensing.patches.flat_maps import read_flat
from lensflow.lensing.patches.fourier import fourier, power_spectrum
from lensflow.lensing.patches.masks import Edge, eroded
from lensflow.lensing.patches.pixel_statistics import MARGINS, PixelStatistics, density, pixel_statistics
from lensflow.lensing.patches.smoothing import smooth
from lensflow.lensing.patches.statistics_options import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGES = np.linspace(-4, 4, 9)
L_EDGES = Options().l_edges
SIZE, PIXEL = 3.5, 0.41015625  # deg, arcmin


def _reference() -> dict[int, dict[str, NDArray[np.float64]]]:
    """Return what LensTools 1.2 gives, by plane and row."""
    found: dict[int, dict[str, NDArray[np.float64]]] = {59: {}, 103: {}}
    for line in Path(__file__).with_name("lenstools_1.2.txt").read_text().splitlines():
        if not line.startswith("#"):
            plane, row, *values = line.split()
            found[int(plane)][row] = np.array(values, float)
    return found


REFERENCE = _reference()


@pytest.fixture(params=[59, 103])
def plane(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def convergence(real_data: Path, plane: int) -> NDArray[np.float64]:
    return read_flat(real_data / "lensing" / "lenstools" / f"convergence_z{plane}.fit")


def pixels(image: NDArray[np.float64], edge: Edge = "wrap", **words: Any) -> PixelStatistics:
    return pixel_statistics(image, edges=EDGES, pixel_arcmin=words.pop("pixel_arcmin", 1.0), edge=edge, **words)


def test_c1_t14_spectra_of_lenstools(plane: int, convergence: NDArray[np.float64]) -> None:
    waves, expected = fourier(convergence), REFERENCE[plane]
    power = power_spectrum(waves, size_deg=SIZE, l_edges=L_EDGES)
    np.testing.assert_allclose(power, expected["power"], rtol=1e-7)
    for name in CONFIGURATIONS:
        found = bispectrum(waves, configuration=name, size_deg=SIZE, l_edges=L_EDGES, rounding="trunc")
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-7 * largest)


def test_c1_t14_pixels_of_lenstools(plane: int, convergence: NDArray[np.float64]) -> None:
    expected = REFERENCE[plane]
    assert convergence.std() == pytest.approx(expected["spread"][0], rel=1e-9)
    image = smooth(convergence, 2 / PIXEL)
    found = pixels(image)
    np.testing.assert_allclose(density(found.pdf_counts, EDGES), expected["pdf"], rtol=1e-7)
    np.testing.assert_allclose(found.v0, expected["v0"], rtol=1e-7)
    # LensTools divides by the width of bins of nu, but not by sigma0
    np.testing.assert_allclose(found.v1 * found.sigma0, expected["v1"], rtol=1e-7)
    np.testing.assert_allclose(found.v2 * found.sigma0, expected["v2"], rtol=1e-7)
    np.testing.assert_allclose(found.moments, expected["moments"], rtol=1e-6)
    for edge in ("wrap", "crop"):
        cut = pixels(image, edge)
        assert cut.peaks_counts.tolist() == expected[f"peaks_{edge}"].tolist()
        assert cut.minima_counts.tolist() == expected[f"minima_{edge}"].tolist()


def test_c1_a_wider_smoothing(plane: int, convergence: NDArray[np.float64]) -> None:
    found = pixels(smooth(convergence, 5 / PIXEL))
    assert found.sigma0 == pytest.approx(REFERENCE[plane]["spread"][1], rel=1e-8)
    assert found.peaks_counts.tolist() == REFERENCE[plane]["wide_peaks"].tolist()
    assert found.minima_counts.tolist() == REFERENCE[plane]["wide_minima"].tolist()


def test_c2_t14_a_masked_map(real_data: Path) -> None:
    folder = real_data / "lensing" / "lenstools"
    image, valid = read_flat(folder / "unmasked.fit"), read_flat(folder / "mask.fit") > 0.5
    assert (valid.sum(), eroded(valid, "wrap").sum()) == (209_969, 176_629)
    found = pixels(np.where(valid, image, 0.0), valid=valid, subtract_mean=False)
    assert found.n_pix == 209_969
    assert found.sigma0 == pytest.approx(0.060222277085688, rel=1e-12)
    assert found.peaks_counts.tolist() == [0, 0, 7, 253, 1401, 1992, 737, 106]
    assert found.minima_counts.tolist() == [92, 727, 1986, 1463, 252, 9, 0, 0]
    expected = [
        0.9996772897,
        0.9932117602,
        0.9349087636,
        0.6963748875,
        0.3058557768,
        0.0669765441,
        0.0075412305,
        0.0004359420,
    ]
    np.testing.assert_allclose(found.v0, expected, rtol=1e-7)
    np.testing.assert_allclose(found.v2[3:5] * found.sigma0, [-3.4287721e-4, 3.4100902e-4], rtol=1e-7)
    named = [0.04032535338, 6.999000913e-6, 2.144204762e-6, 1.981627072e-7]
    np.testing.assert_allclose(found.moments[[1, 2, 5, 8]], named, rtol=1e-6)


def test_c3_t15_gaussian_fields_follow_theory() -> None:
    n, pixel, edges = 2048, 60 * 10 / 2048, np.linspace(-4, 4, 33)
    rng = np.random.default_rng(11)
    made = []
    for _ in range(8):
        image = smooth(rng.standard_normal((n, n)), 2 / pixel, "wrap")
        made.append(pixel_statistics(image - image.mean(), edges=edges, pixel_arcmin=pixel, edge="wrap"))
    s = np.mean([one.sigma1 / one.sigma0 for one in made])
    fine = np.linspace(-4, 4, 3201)
    nu, step = (fine[1:] + fine[:-1]) / 2, 100

    def binned(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values.reshape(-1, step).mean(axis=1)  # type: ignore[no-any-return]

    middles = (edges[1:] + edges[:-1]) / 2
    v1 = binned(s / (8 * np.sqrt(2)) * np.exp(-(nu**2) / 2))
    v2 = binned(s**2 * nu * np.exp(-(nu**2) / 2) / (2 * (2 * np.pi) ** 1.5))
    assert np.abs(np.mean([one.v0 for one in made], axis=0) - erfc(middles / np.sqrt(2)) / 2).max() < 0.002
    assert np.abs(np.mean([one.v1 for one in made], axis=0) - v1).max() < 0.01 * v1.max()
    assert np.abs(np.mean([one.v2 for one in made], axis=0) - v2).max() < 0.03 * v2.max()


def _by_numpy(image: NDArray[np.float64], edges: NDArray[np.float64], edge: Edge) -> dict[str, Any]:
    """The same by whole-array operations."""
    mode = "wrap" if edge == "wrap" else "nearest"

    def shifted(kernel: list[list[float]]) -> NDArray[np.float64]:
        return correlate(image, np.array(kernel), mode=mode)  # type: ignore[no-any-return]

    gx, gy = shifted([[-0.5, 0, 0.5]]), shifted([[-0.5], [0], [0.5]])
    fxx, fyy = shifted([[0.25, 0, -0.5, 0, 0.25]]), shifted([[0.25], [0], [-0.5], [0], [0.25]])
    fxy = shifted([[0.25, 0, -0.25], [0, 0, 0], [-0.25, 0, 0.25]])
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    peak, inner = MARGINS[edge]
    whole, cut = (slice(None),) * 2, (slice(inner, image.shape[0] - inner),) * 2
    tips = (slice(peak, image.shape[0] - peak),) * 2
    nu = image / image.std()
    g2 = gx**2 + gy**2
    curl = (2 * gx * gy * fxy - gx**2 * fyy - gy**2 * fxx) / g2

    def counted(where: Any, weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        place = np.searchsorted(edges, nu[where].ravel(), side="right") - 1
        good = (place >= 0) & (place < edges.size - 1)
        chosen = None if weights is None else weights[where].ravel()[good]
        return np.bincount(place[good], weights=chosen, minlength=edges.size - 1)

    above = image > maximum_filter(image, footprint=ring, mode=mode)
    below = image < minimum_filter(image, footprint=ring, mode=mode)
    norm = g2[cut].size * np.diff(edges) * image.std()
    return {
        "pdf_counts": counted(whole),
        "peaks_counts": counted(tips, above.astype(float)),
        "minima_counts": counted(tips, below.astype(float)),
        "v0": np.array([(nu >= middle).mean() for middle in (edges[1:] + edges[:-1]) / 2]),
        "v1": counted(cut, np.sqrt(g2)) / 4 / norm,
        "v2": counted(cut, curl) / (2 * np.pi) / norm,
        "sigma1": np.sqrt(g2[cut].mean()),
    }


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(8, 40),
    seed=st.integers(0, 99),
    edge=st.sampled_from(["crop", "wrap"]),
    edges=st.lists(st.floats(-5, 5), min_size=2, max_size=9, unique=True).map(sorted),
)
def test_one_pass_equals_whole_array_operations(n: int, seed: int, edge: Edge, edges: list[float]) -> None:
    if np.diff(edges).min() < 1e-3:
        edges = [-4.0, -1.0, 0.0, 0.5, 4.0]
    image = np.random.default_rng(seed).standard_normal((n, n))
    found = asdict(pixel_statistics(image, edges=np.array(edges), pixel_arcmin=1.0, edge=edge))
    for name, expected in _by_numpy(image, np.array(edges), edge).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_mask_of_ones_changes_nothing() -> None:
    image = np.random.default_rng(1).standard_normal((50, 50))
    for edge in ("crop", "wrap"):
        plain, masked = (asdict(pixels(image, edge, valid=valid)) for valid in (None, np.ones((50, 50), bool)))
        for name, value in plain.items():
            np.testing.assert_array_equal(value, masked[name], err_msg=name)


def test_t15_derivatives_are_in_arcmin() -> None:
    image = np.random.default_rng(2).standard_normal((64, 64))
    coarse, fine = pixels(image, pixel_arcmin=2.0), pixels(image)
    np.testing.assert_allclose(coarse.v1, fine.v1 / 2)
    np.testing.assert_allclose(coarse.v2, fine.v2 / 4)
    powers = np.array([0, 1, 0, 2, 4, 0, 2, 4, 4])
    np.testing.assert_allclose(coarse.moments, fine.moments / 2.0**powers)


def test_t10_counts_are_kept_and_a_patch_without_peaks_is_nan() -> None:
    ramp = np.add.outer(np.arange(20.0), np.arange(20.0))
    found = pixels(ramp, "crop")
    assert found.peaks_counts.sum() == 0
    assert np.isnan(density(found.peaks_counts, EDGES)).all()
    constant = pixels(np.ones((20, 20)), "crop")
    for values in (constant.v0, constant.v1, constant.v2):
        assert np.isnan(values).all()
    assert constant.pdf_counts.sum() + constant.peaks_counts.sum() == 0


def test_t10_the_histogram_says_what_it_leaves_out() -> None:
    image = np.random.default_rng(3).standard_normal((100, 100))
    image[0, 0] = 1e3
    found = pixels(image)
    assert found.pdf_counts.sum() == found.n_pix - 1
    assert (density(found.pdf_counts, EDGES) * np.diff(EDGES)).sum() == pytest.approx(1)


def test_bins_hold_their_lower_edge_and_not_their_upper() -> None:
    image = np.zeros((9, 9))
    image[4, 4] = 1.0
    found = pixel_statistics(image, edges=np.array([-1.0, 0.0, 1.0, 2.0]), pixel_arcmin=1.0, snr_sigma=1.0)
    assert found.pdf_counts.tolist() == [0, 80, 1]
    assert found.peaks_counts.tolist() == [0, 0, 1]
