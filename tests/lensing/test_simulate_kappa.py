"""Simulated convergence: the spectrum that was asked for, and files that are wrong in the way they were told to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lensflow as lf
from lensflow.arrays.healpix_fits import open_healpix
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.harmonics import gaussian_map
from lensflow.lensing.patches.ordering import ORDERINGS
from lensflow.lensing.simulate_kappa import kappa_spectrum, simulate_kappa
from lensflow.lensing.spherical import full_sky_cl

if TYPE_CHECKING:
    from pathlib import Path


def test_the_file_is_the_map_and_the_map_has_the_spectrum(tmp_path: Path) -> None:
    made = simulate_kappa(tmp_path, nside=32, seed=100, zs=0.5)
    assert made.path.name == "kappa_zs0.5_s100.fits"
    assert str(made) == str(made.path)
    found = open_healpix(made.path, column="KAPPA")
    assert (found.nside, found.ordering, found.header["ZS"], found.header["SEED"]) == (32, "NESTED", 0.5, 100)
    np.testing.assert_array_equal(np.asarray(found.values), made.kappa)
    measured = full_sky_cl(made.kappa, ordering="NESTED").cl
    np.testing.assert_allclose(measured[2:], made.cl[2:], rtol=1e-3)
    np.testing.assert_array_equal(healpy.read_map(made.path, nest=True), made.kappa)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        simulate_kappa(tmp_path / name, nside=8, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.path.read_bytes() == again.path.read_bytes()
    assert not np.array_equal(first.kappa, other.kappa)


# how healpy would make each of them of the true NESTED map
MAKE = {
    "NESTED": lambda values: values,
    "RING": lambda values: healpy.reorder(values, n2r=True),
    "n2r_twice": lambda values: healpy.reorder(healpy.reorder(values, n2r=True), n2r=True),
    "r2n_twice": lambda values: healpy.reorder(values, r2n=True),
}


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_the_ordering_of_the_pixels(tmp_path: Path, ordering: Any) -> None:
    """T2: convergence that is NESTED, RING, or was turned twice."""
    made = simulate_kappa(tmp_path, nside=16, seed=3, ordering=ordering)
    found = open_healpix(made.path)
    np.testing.assert_array_equal(np.asarray(found.values), MAKE[ordering](made.kappa))
    assert found.ordering == {"n2r_twice": "RING", "r2n_twice": "NESTED"}.get(ordering, ordering)
    np.testing.assert_array_equal(made.kappa, simulate_kappa(tmp_path / "true", nside=16, seed=3).kappa)


def test_a_wrong_label(tmp_path: Path) -> None:
    """T2: NESTED pixels under a RING label."""
    made = simulate_kappa(tmp_path, nside=8, ordering="NESTED", label="RING")
    found = open_healpix(made.path)
    assert found.ordering == "RING"
    np.testing.assert_array_equal(np.asarray(found.values), made.kappa)


def test_a_map_turned_twice_has_another_spectrum(tmp_path: Path) -> None:
    made = simulate_kappa(tmp_path, nside=128, seed=5, ordering="n2r_twice")
    cl = full_sky_cl(np.asarray(open_healpix(made.path).values)).cl
    assert (cl[8:13] / made.cl[8:13]).mean() < 0.3  # large scales are scattered over the sky
    true = full_sky_cl(made.kappa, ordering="NESTED").cl
    assert (true[8:13] / made.cl[8:13]).mean() == pytest.approx(1, abs=1e-4)


CASES = {  # how it is stored, what its label says, what the graph finds
    "right, NESTED": ("NESTED", "NESTED", None),
    "right, RING": ("RING", "RING", None),
    "mislabelled": ("NESTED", "RING", "NESTED"),
    "turned twice": ("n2r_twice", "RING", "n2r_twice"),
}


@pytest.mark.parametrize("case", CASES)
def test_statistics_of_mislabelled_maps(tmp_path: Path, case: str) -> None:
    """T2: the label is held against the pixels, and can be overruled; then the spectrum is right again."""
    ordering, label, winner = CASES[case]
    made = simulate_kappa(tmp_path, nside=256, seed=9, ordering=ordering, label=label)  # type: ignore[arg-type]
    graph = lf.graph("kappa_statistics")
    words: dict[str, Any] = {"statistics": ("full_sky_cl",), "patch_size_deg": 20, "xsize": 64}
    words |= {"l_edges": (100, 200), "smoothing_lengths": (20,)}
    if winner is not None:
        with pytest.raises(BadInput, match=rf"if it is {winner}"):
            graph(made.path, **words)
        words["ordering"] = winner
    found = graph(made.path, **words)
    cl = found["cl_full_sky"].isel(zs=0).to_numpy()
    np.testing.assert_allclose(cl[2:], made.cl[2:], rtol=0.01)


def test_the_default_spectrum_is_near_that_of_convergence() -> None:
    ell = np.arange(3001)
    power = kappa_spectrum(3000) * ell * (ell + 1) / (2 * np.pi)
    assert power[350] == pytest.approx(3e-5, rel=0.2)
    assert power[2600] < 1e-4


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), lmax=st.integers(0, 24))
def test_harmonics_have_the_power_that_was_drawn(seed: int, lmax: int) -> None:
    values, drawn = gaussian_map(np.ones(lmax + 1), nside=16, rng=np.random.default_rng(seed))
    # Parseval: the mean square of a band-limited map
    square = ((2 * np.arange(lmax + 1) + 1) * drawn).sum() / (4 * np.pi)
    assert float((values**2).mean()) == pytest.approx(square, rel=0.02)


def test_many_skies_have_the_spectrum_that_was_wanted() -> None:
    wanted = 1 / (1 + np.arange(9.0))
    rng = np.random.default_rng(1)
    drawn = np.mean([gaussian_map(wanted, nside=2, rng=rng)[1] for _ in range(400)], axis=0)
    errors = np.sqrt(2 / (2 * np.arange(9) + 1) / 400)
    assert (np.abs(drawn / wanted - 1) < 4 * errors).all()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"nside": 12}, "nside: found 12, expected a power of two"),
        ({"ordering": "ring"}, "ordering: found 'ring', expected NESTED"),
        ({"label": "NEST"}, "label: found 'NEST'"),
        ({"cl": (1.0, -1.0)}, "without negative values"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, words: dict[str, Any], says: str) -> None:
    with pytest.raises(BadOption, match=says):
        simulate_kappa(tmp_path, **({"nside": 4} | words))
