"""Spectra and bispectra against modes counted one by one, and numbers of modes and triangles."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.lensing.patches.bispectrum import CONFIGURATIONS, SHARE, Rounding, bispectrum, triangles
from lensflow.lensing.patches.fourier import fourier, modes, power_spectrum
from lensflow.lensing.patches.statistics_options import Options

EDGES = Options().l_edges


def test_modes_and_triangles_at_ten_degrees() -> None:
    assert modes(2048, 10.0, EDGES).counts.tolist() == [85, 151, 277, 487, 859, 1515, 2710, 4791]
    found = {name: triangles(name, 2048, 10.0, EDGES).counts.tolist() for name in CONFIGURATIONS}
    assert found["equilateral"] == [56, 100, 184, 323, 572, 1007, 1804, 3192]
    assert found["folded"] == found["squeezed"] == modes(2048, 10.0, EDGES).counts.tolist()


def test_t6_truncated_squeezed_triangles_hold_the_mean_of_the_patch() -> None:
    listed = triangles("squeezed", 2048, 10.0, EDGES, "trunc")
    sides = listed.q.any(axis=0)
    assert np.bincount(listed.bin[sides], minlength=8)[:2].tolist() == [26, 139]
    assert triangles("squeezed", 2048, 10.0, EDGES).q.any(axis=0).all()


def _one_by_one(n: int, size: float, edges: tuple[float, ...]) -> list[tuple[int, int, int]]:
    """List (k1, k2, bin) of the half plane as the definition says."""
    found = []
    for k1, k2 in product(np.fft.fftfreq(n, 1 / n).astype(int).tolist(), range(n // 2 + 1)):
        multipole = 360 / size * np.hypot(k1, k2)
        for b, (lo, hi) in enumerate(pairwise(edges)):
            if lo < multipole <= hi:
                found.append((k1, k2, b))
    return found


grids = {
    "n": st.integers(8, 25),
    "edges": st.lists(st.floats(0, 1300), min_size=2, max_size=5, unique=True).map(lambda e: tuple(sorted(e))),
    "seed": st.integers(0, 9),
}


@settings(deadline=None, max_examples=40)
@given(**grids)
def test_power_is_the_mean_over_modes_listed_once(n: int, edges: tuple[float, ...], seed: int) -> None:
    size = 5.0
    image = np.random.default_rng(seed).standard_normal((n, n))
    full = np.fft.fft2(image)
    expected = [
        [abs(full[k1, k2]) ** 2 for k1, k2, one in _one_by_one(n, size, edges) if one == b]
        for b in range(len(edges) - 1)
    ]
    found = power_spectrum(fourier(image), size_deg=size, l_edges=edges)
    for value, powers in zip(found, expected, strict=True):
        if powers:
            assert value == pytest.approx(np.mean(powers) * (np.deg2rad(size) / n**2) ** 2)
        else:
            assert np.isnan(value)


@settings(deadline=None, max_examples=40)
@given(**grids, rounding=st.sampled_from(["round", "trunc"]), configuration=st.sampled_from(CONFIGURATIONS))
def test_bispectrum_is_the_mean_over_triangles(
    n: int, edges: tuple[float, ...], seed: int, rounding: Rounding, configuration: str
) -> None:
    size = 5.0
    image = np.random.default_rng(seed).standard_normal((n, n))
    full = np.fft.fft2(image)
    products: list[list[float]] = [[] for _ in edges[1:]]
    for k1, k2, b in _one_by_one(n, size, edges):
        k = np.array([k1, k2])
        half = np.array([[-0.5, -np.sqrt(0.75)], [np.sqrt(0.75), -0.5]])
        exact = half @ k if configuration == "equilateral" else SHARE[configuration] * k
        q = (np.rint if rounding == "round" else np.trunc)(exact).astype(int)
        r = -k - q
        skipped = max(*np.abs(q), *np.abs(r)) > n // 2
        skipped |= configuration == "equilateral" and k1 < 0 and k2 < -np.sqrt(3) * k1
        skipped |= not (q.any() and r.any()) if rounding == "round" else 360 / size * np.hypot(k1, k2) >= edges[-1]
        if not skipped:
            products[b].append((full[k1, k2] * full[q[0], q[1]] * full[r[0], r[1]]).real)
    found = bispectrum(fourier(image), configuration=configuration, size_deg=size, l_edges=edges, rounding=rounding)
    scale = np.deg2rad(size) ** 4 / n**6
    for value, listed in zip(found, products, strict=True):
        if listed:
            assert value == pytest.approx(np.mean(listed) * scale, rel=1e-9, abs=1e-9 * scale * n**3)
        else:
            assert np.isnan(value)


def _all_bispectra(image: Any) -> np.ndarray[Any, Any]:
    waves = fourier(image)
    return np.stack([bispectrum(waves, configuration=c, size_deg=10.0, l_edges=EDGES) for c in CONFIGURATIONS])


def test_c9_t5_the_bispectrum_of_gaussian_maps_is_signed_and_zero() -> None:
    rng = np.random.default_rng(5)
    found = np.stack([_all_bispectra(rng.standard_normal((256, 256))) for _ in range(100)])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0)) < 4 * error).all()
    assert (np.abs(found).mean(axis=0) > 4 * error).all()  # what absolute values would have been


def test_c9_t6_a_constant_leaves_the_bispectrum_alone() -> None:
    image = np.random.default_rng(6).standard_normal((256, 256)) * 0.02
    before, after = _all_bispectra(image), _all_bispectra(image + 0.01)
    largest = np.abs(before).max(axis=1, keepdims=True)
    assert (np.abs(after - before) < 1e-6 * largest).all()
