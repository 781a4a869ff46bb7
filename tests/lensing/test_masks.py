"""Masked patches: which pixels count, and that what is masked has no say."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.lensing.patches.masks import STENCIL, UNSEEN, Edge, blank_unseen, eroded, valid_pixels
from lensflow.lensing.patches.noise import NoiseName
from lensflow.lensing.patches.patch_statistics import ALWAYS_MADE, APPROXIMATE, GOOD, NO_COUNT, TOO_FEW, Recipe, measure
from lensflow.lensing.patches.statistics_options import STATISTICS

RECIPE = Recipe(
    size_deg=5.0,
    pixels=64,
    statistics=tuple(one for one in STATISTICS if one != "full_sky_cl"),
    smoothing_lengths=(6.0, 12.0),
    ngal=(0.0, 20.0),
    epsilon=0.26,
    nu_edges=(-4.0, -1.0, 0.0, 1.0, 4.0),
    l_edges=(100.0, 500.0, 2000.0),
)
NAME = NoiseName(seed=1, zs=1.0, patch=3, ngal=0)


def test_the_stencil_has_thirteen_pixels() -> None:
    assert len({*STENCIL, (0, 0)}) == 13


@settings(deadline=None)
@given(seed=st.integers(0, 99), edge=st.sampled_from(["crop", "wrap"]))
def test_erosion_looks_at_each_neighbour(seed: int, edge: Edge) -> None:
    n = 12
    valid = np.random.default_rng(seed).random((n, n)) > 0.05
    found = eroded(valid, edge)
    for i, j in product(range(n), range(n)):
        around = [(i + down, j + across) for down, across in (*STENCIL, (0, 0))]
        if edge == "crop":
            around = [(a, b) for a, b in around if 0 <= a < n and 0 <= b < n]
        assert found[i, j] == all(valid[a % n, b % n] for a, b in around)


def test_unseen_and_nan_and_masked_pixels_do_not_count() -> None:
    image = np.array([[0.01, np.float32(UNSEEN), np.nan, -3.0]], np.float64)
    assert valid_pixels(blank_unseen(image)).tolist() == [[True, False, False, True]]
    assert valid_pixels(image, np.array([[0.5, 1, 1, 0.51]])).tolist() == [[False, False, False, True]]


def patch(seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).standard_normal((64, 64)) * 0.02


def test_what_is_masked_has_no_say() -> None:
    mask = np.ones((64, 64))
    mask[20:30, 25:40] = 0
    image, other = patch(), patch()
    other[20:30, 25:40] = 1e6
    missing = patch()
    missing[20:30, 25:40] = np.nan
    found = [measure(image, RECIPE, noise=NAME, mask=mask), measure(other, RECIPE, noise=NAME, mask=mask)]
    found.append(measure(missing, RECIPE, noise=NAME))
    assert found[0]["status"] == APPROXIMATE
    assert found[0]["f_valid"] == pytest.approx(1 - 150 / 64**2)
    assert (found[0]["n_pix"] == 64**2 - 150).all()
    for one in found[1:]:
        assert one.tobytes() == found[0].tobytes()
    assert measure(image, RECIPE, noise=NAME)["status"] == GOOD


def test_masked_spectra_are_scaled_by_what_is_left() -> None:
    mask = np.zeros((64, 64))
    mask[:, :40] = 1
    whole, part = (
        np.mean([measure(patch(k), RECIPE, noise=NAME, mask=one)["power_spectrum"][0] for k in range(20)], axis=0)
        for one in (None, mask)
    )
    np.testing.assert_allclose(part, whole, rtol=0.1)


def test_t7_a_patch_with_too_few_pixels_is_nan_and_never_zero() -> None:
    mask = np.zeros((64, 64))
    mask[:20] = 1
    found = measure(patch(), RECIPE, noise=NAME, mask=mask)
    assert found["status"] == TOO_FEW
    assert found["f_valid"] == pytest.approx(20 / 64)
    for name, dtype in RECIPE.dtype().fields.items():  # type: ignore[union-attr]
        if name not in ALWAYS_MADE:
            values = found[name]
            assert np.isnan(values).all() if dtype[0].base.kind == "f" else (values == NO_COUNT).all(), name


def test_a_patch_without_any_pixel_is_nan_whatever_is_asked_for() -> None:
    found = measure(np.full((64, 64), np.nan), replace(RECIPE, min_valid=0.0), noise=NAME)
    assert found["status"] == TOO_FEW
    assert np.isnan(found["power_spectrum"]).all()


def test_smoothing_of_a_constant_is_the_constant_up_to_the_border_of_the_mask() -> None:
    mask = np.ones((64, 64))
    mask[:, :11] = 0
    found = measure(patch() * 1e-9 + 1.0, RECIPE, noise=NAME, mask=mask)
    assert found["mean"][0] == pytest.approx(1)
    assert (found["sigma0"][0] < 1e-9).all()
