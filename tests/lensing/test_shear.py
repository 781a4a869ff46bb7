"""Shear to convergence: known fields, and the published map of the COSMOS field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from lensflow.errors import BadInput
from lensflow.lensing.shear import kaiser_squires

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def cosmos(real_data: Path) -> tuple[NDArray[np.float64], ...]:
    """Return both shear components and the convergence that was published for them."""
    names = ("cosmos_full_e1_0.29arcmin360", "cosmos_full_e2_0.29arcmin360", "ks_e_0.29arcmin360")
    folder = real_data / "lensing" / "cosmostat"
    return tuple(np.asarray(fits.getdata(folder / f"{name}.fits"), np.float64) for name in names)


def test_the_published_map_of_cosmos(cosmos: tuple[NDArray[np.float64], ...]) -> None:
    e1, e2, published = cosmos
    assert published.std() == pytest.approx(0.0174065, abs=1e-7)
    found = gaussian_filter(kaiser_squires(e1, e2), 2, mode="reflect")[:, ::-1]
    np.testing.assert_allclose(found, published, rtol=0, atol=1e-6 * published.std())


@pytest.mark.parametrize("shape", [(32, 32), (31, 45)])
def test_the_shear_of_a_known_convergence(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    kappa = gaussian_filter(rng.standard_normal(shape), 2, mode="wrap")
    kappa -= kappa.mean()
    f1, f2 = np.fft.fftfreq(shape[1])[None, :], np.fft.fftfreq(shape[0])[:, None]
    square = f1**2 + f2**2
    square[0, 0] = 1
    modes = np.fft.fft2(kappa)
    g1, g2 = (np.fft.ifft2(factor / square * modes).real for factor in (f1**2 - f2**2, 2 * f1 * f2))
    np.testing.assert_allclose(kaiser_squires(g1, g2), kappa, atol=1e-4 * kappa.std())  # but for the Nyquist row
    np.testing.assert_allclose(kaiser_squires(-g2, g1), 0, atol=1e-4 * kappa.std())  # turned by 45 deg: B mode alone


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(BadInput, match=r"found shapes \(3, 3\) and \(3, 4\)"):
        kaiser_squires(np.zeros((3, 3)), np.zeros((3, 4)))
    with pytest.raises(BadInput, match="2 pixels that are not finite"):
        kaiser_squires(np.array([[np.nan, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, np.inf]]))
