"""Noise that repeats from patch to patch is found; independent noise is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

from lensflow.errors import BadInput
from lensflow.lensing.skies.noise_audit import noise_audit
from lensflow.lensing.skies.stats_read import read_stats_hdf5

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def spectra(noise: NDArray[np.float64]) -> xr.Dataset:
    """Return power spectra of one bin in which noise (ngal, patch) stands above a signal."""
    signal = np.random.default_rng(0).lognormal(size=noise.shape[1])
    power = np.stack([signal, *(signal + one for one in noise)])[None, :, :, None]
    ngal = [0.0, 7, 15, 30, 50][: len(power[0])]
    return xr.Dataset({"power_spectrum": (("zs", "ngal", "patch", "ell_bin"), power)}, {"zs": [1.0], "ngal": ngal})


def test_independent_noise_passes() -> None:
    noise = np.random.default_rng(1).normal(5, 0.1, (2, 265))
    found = noise_audit(spectra(noise))
    assert not found["noise_repeats"].any()
    assert list(found["ngal"].values) == [7, 15]
    assert found["lag_correlation"].sizes == {"zs": 1, "ngal": 2, "lag": 6}
    np.testing.assert_allclose(found["threshold"], 5 / np.sqrt(265))


@pytest.mark.parametrize("every", [2, 4, 6])
def test_repeating_noise_is_found_where_it_repeats(every: int) -> None:
    """T1: workers that start from one state of a generator."""
    rng = np.random.default_rng(2)
    repeating = rng.normal(5, 0.1, every)[np.arange(265) % every] + rng.normal(0, 0.02, 265)
    found = noise_audit(spectra(np.stack([repeating, rng.normal(5, 0.1, 265)])))
    assert list(found["noise_repeats"].values[0]) == [True, False]
    assert int(found["lag_correlation"].values[0, 0].argmax()) + 1 == every


def test_the_estimator() -> None:
    noise = np.random.default_rng(3).normal(size=(1, 40))
    found = noise_audit(spectra(noise), lags=3)["lag_correlation"].values[0, 0]
    d = noise[0] - noise[0].mean()
    expected = [(d[:-k] * d[k:]).sum() / (d**2).sum() for k in (1, 2, 3)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_patches_without_values_are_left_out() -> None:
    rng = np.random.default_rng(4)
    noise = np.repeat(rng.normal(size=133), 2)[:265] + rng.normal(0, 0.1, 265)
    whole = noise_audit(spectra(noise[None]))["lag_correlation"].values
    noise[rng.permutation(265)[:60]] = np.nan
    found = noise_audit(spectra(noise[None]))
    np.testing.assert_allclose(found["lag_correlation"], whole, atol=0.2)
    assert found["noise_repeats"].all()
    np.testing.assert_allclose(found["threshold"], 5 / np.sqrt(205))


def test_no_patch_with_a_value_repeats_nothing() -> None:
    found = noise_audit(spectra(np.full((1, 20), np.nan)))
    assert not found["noise_repeats"].any()
    assert np.isfinite(found["lag_correlation"]).all()


def test_without_a_noiseless_spectrum_nothing_can_be_told() -> None:
    whole = spectra(np.ones((1, 20)))
    with pytest.raises(BadInput, match="add 0 to ngal"):
        noise_audit(whole.isel(ngal=[1]))
    with pytest.raises(BadInput, match="add 0 to ngal"):
        noise_audit(whole.isel(ngal=[0]))
    with pytest.raises(BadInput, match="found 20 patches, expected 22"):
        noise_audit(whole, lags=11)


def test_every_published_file_repeats_its_noise(real_data: Path) -> None:
    """T1: r_1 and r_2 of all 31 files at 7 galaxies per square arcmin."""
    files = sorted((real_data / "lensing" / "lensingssc").glob("*/*.h5"))
    assert len(files) == 31
    audits = [noise_audit(read_stats_hdf5(path)) for path in files]
    assert all(bool(one["noise_repeats"].sel(ngal=7).all()) for one in audits)
    r1, r2 = np.array([one["lag_correlation"].sel(ngal=7, zs=1.0).values[:2] for one in audits]).T
    np.testing.assert_allclose([r2.min(), r2.max(), np.median(r2)], [0.45, 0.84, 0.59], atol=0.01)
    np.testing.assert_allclose([r1.max(), r1.min()], [-0.26, -0.60], atol=0.01)
