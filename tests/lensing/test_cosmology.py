"""Distances against the reference numbers and an independent library."""

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM

from lensflow.errors import BadInput
from lensflow.lensing.cosmology import Cosmology


@pytest.mark.parametrize("h", [0.5, 0.6774])
def test_a4_edges_of_shells(h: float) -> None:
    expected = {
        20: (4854.456210, 4972.448069),
        50: (2233.587110, 2300.458914),
        66: (1300.910418, 1352.278251),
        99: (0.0, 30.211035),
    }
    for sheet, distances in expected.items():
        found = Cosmology(0.309, 0.691, h).chi(np.array([sheet + 1, sheet]) / 100)
        np.testing.assert_allclose(found, distances, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("omega_m", [0.1, 0.309, 1.0])
def test_distances_agree_with_astropy(omega_m: float) -> None:
    z = np.array([0.01, 0.5, 1, 5, 50, 1000])
    expected = FlatLambdaCDM(100, omega_m, Tcmb0=0).comoving_distance(z).value
    found = Cosmology(omega_m, 1 - omega_m, 0.7).chi(1 / (1 + z))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_radiation_counts() -> None:
    with_radiation = FlatLambdaCDM(100, 0.31, Tcmb0=2.7255, Neff=0)
    radiation = float(with_radiation.Ogamma0)
    found = Cosmology(0.31, 1 - 0.31 - radiation, 0.7)
    assert found.omega_r == pytest.approx(radiation)
    z = np.array([0.5, 5, 1000])
    np.testing.assert_allclose(found.chi(1 / (1 + z)), with_radiation.comoving_distance(z).value, rtol=1e-8)
    assert np.isfinite(found.chi(0.0))


def test_what_rounding_leaves_is_no_radiation() -> None:
    assert Cosmology(0.309, 0.691 + 1e-9, 0.7).omega_r == 0
    assert Cosmology(0.309, 0.691 - 1e-9, 0.7).omega_r == 0


@pytest.mark.parametrize("values", [(0.3, 0.6, 0.7), (0.3, 0.71, 0.7), (0.0, 1.0, 0.7), (0.3, 0.7, float("nan"))])
def test_universes_that_are_not_flat_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(BadInput, match="option cosmology"):
        Cosmology(*values)


def test_scale_factor_is_the_inverse() -> None:
    cosmology = Cosmology(0.309, 0.691, 0.7)
    a = np.array([0.02, 0.2, 0.5, 0.999, 1.0])
    np.testing.assert_allclose(cosmology.scale_factor(cosmology.chi(a)), a, rtol=1e-12)
