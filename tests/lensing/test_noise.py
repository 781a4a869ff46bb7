"""Shape noise: T1, patches that share noise fields because a generator was forked or started again."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.lensing.patches.noise import NoiseName, add_noise, noise_sigma

EXAMPLE = NoiseName(seed=100, zs=1.0, patch=132, ngal=30)
names = st.builds(
    NoiseName,
    seed=st.integers(0, 10**6),
    zs=st.sampled_from([0.5, 1.0, 1.5, 2.5]),
    patch=st.integers(0, 2000),
    ngal=st.sampled_from([7.0, 15.0, 30.0, 50.0]),
    realisation=st.integers(0, 100),
    apron=st.sampled_from([0, 10]),
)


def test_c7_the_example_of_the_specification_to_the_bit() -> None:
    assert str(EXAMPLE) == "lensflow/noise/1|seed=100|zs=1|patch=132|ngal=30|real=0"
    assert EXAMPLE.key().tolist() == [10226771339439557014, 3086575873573520367]
    raw = np.random.Philox(key=EXAMPLE.key()).random_raw(3).tolist()
    assert raw == [2411629438582385336, 17229183667660322642, 3115378407198368325]


def test_c7_the_first_deviates() -> None:
    found = EXAMPLE.generator().standard_normal(3)
    np.testing.assert_allclose(found, [0.08963417, -0.57819053, 0.3977418], rtol=1e-7)


@settings(deadline=None)
@given(a=names, b=names)
def test_t1_noise_is_equal_only_if_names_are(a: NoiseName, b: NoiseName) -> None:
    same = np.array_equal(a.generator().standard_normal(4), b.generator().standard_normal(4))
    assert same == (a == b)


def test_t1_the_global_generator_is_neither_used_nor_moved() -> None:
    flat = np.zeros((16, 16))
    np.random.seed(1)  # noqa: NPY002 - that this does not matter is what is tested
    first = add_noise(flat, EXAMPLE, 0.1)
    state = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002 - the same
    np.random.seed(2)  # noqa: NPY002 - the same
    np.testing.assert_array_equal(first, add_noise(flat, EXAMPLE, 0.1))
    np.random.seed(1)  # noqa: NPY002 - the same
    add_noise(flat, EXAMPLE, 0.1)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # type: ignore[index] # noqa: NPY002 - the same


def test_the_spread_of_a_pixel() -> None:
    pixel = 60 * 10 / 2048
    assert pixel**2 == pytest.approx(0.0858306885, rel=1e-9)
    assert noise_sigma(ngal=30, epsilon=0.26, pixel_arcmin=pixel) == pytest.approx(0.26 / sqrt(30 * 0.0858306885))
    noisy = add_noise(np.full((256, 256), 5.0), EXAMPLE, 0.1)
    assert noisy.mean() == pytest.approx(5, abs=4 * 0.1 / 256)
    assert noisy.std() == pytest.approx(0.1, rel=4 / sqrt(2 * 256**2))


def test_no_galaxies_is_no_noise_and_no_division() -> None:  # T11
    assert noise_sigma(ngal=0, epsilon=0.26, pixel_arcmin=1.0) == 0
    image = np.ones((4, 4))
    assert add_noise(image, replace(EXAMPLE, ngal=0), 0.0) is image
