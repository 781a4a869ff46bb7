"""T2, check C6: maps stored in another order than their label says are found out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.errors import BadInput
from lensflow.lensing.patches.ordering import ORDERINGS, Ordering, check_ordering, likeness, nested_index, stored_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NSIDE = 128


def sky(nside: int = NSIDE) -> NDArray[np.float64]:
    """Return a NESTED map with structure on all scales."""
    rng = np.random.default_rng(4)
    lmax = 2 * nside
    m = np.arange(healpy.Alm.getsize(lmax))
    waves = rng.standard_normal(m.size) + 1j * rng.standard_normal(m.size)
    ring = healpy.alm2map(healpy.almxfl(waves, 1 / (1 + np.arange(lmax + 1) / 30)), nside)
    return healpy.reorder(ring, r2n=True)  # type: ignore[no-any-return]


def stored(nested: NDArray[np.float64], ordering: Ordering) -> NDArray[np.float64]:
    """Return the map as somebody's program would have stored it."""
    if ordering == "NESTED":
        return nested
    ring: NDArray[np.float64] = healpy.reorder(nested, n2r=True)
    if ordering == "RING":
        return ring
    if ordering == "n2r_twice":
        return healpy.reorder(ring, n2r=True)  # type: ignore[no-any-return]
    return healpy.reorder(nested, r2n=True)  # type: ignore[no-any-return]


def taken_from(values: NDArray[np.float64]) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    return lambda places: values[places]


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_pixels_are_found_in_any_order(ordering: Ordering) -> None:
    nested = np.arange(12.0 * NSIDE**2)
    there = stored_index(np.arange(12 * NSIDE**2), NSIDE, ordering)
    np.testing.assert_array_equal(stored(nested, ordering)[there], nested)


@settings(deadline=None)
@given(ordering=st.sampled_from(ORDERINGS), seed=st.integers(0, 99))
def test_there_and_back(ordering: Ordering, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 12 * NSIDE**2, 100)
    np.testing.assert_array_equal(nested_index(stored_index(pixels, NSIDE, ordering), NSIDE, ordering), pixels)


@pytest.mark.parametrize("truth", ORDERINGS)
def test_c6_the_truth_wins_clearly(truth: Ordering) -> None:
    found, pairs = likeness(taken_from(stored(sky(), truth)), NSIDE)
    assert max(found, key=found.__getitem__) == truth
    assert found[truth] > 2 * max(value for name, value in found.items() if name != truth)
    assert pairs > 1_500_000


@pytest.mark.parametrize("truth", ORDERINGS)
@pytest.mark.parametrize("label", ["RING", "NESTED"])
def test_c6_t2_wrong_labels_are_errors_that_name_the_truth(truth: Ordering, label: Ordering) -> None:
    take = taken_from(stored(sky(), truth))
    if truth == label:
        check_ordering(take, NSIDE, label, name="kappa.fits")
        return
    with pytest.raises(BadInput, match=rf"kappa\.fits: ordering: found {label}, .* if it is {truth}; give"):
        check_ordering(take, NSIDE, label, name="kappa.fits")


def test_maps_without_structure_or_with_holes_pass() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(12 * 32**2)
    check_ordering(taken_from(noise), 32, "RING", name="noise")
    check_ordering(taken_from(np.zeros(12 * 32**2)), 32, "RING", name="zero")
    holes = stored(sky(), "RING")
    holes[rng.random(holes.size) < 0.3] = np.nan
    check_ordering(taken_from(holes), NSIDE, "RING", name="holes")
    with pytest.raises(BadInput, match="RING"):
        check_ordering(taken_from(holes), NSIDE, "NESTED", name="holes")
