"""Full-sky spectra and smoothing: known harmonics, the Fortran HEALPix programs on a WMAP map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import healpy
import numpy as np
import pytest
from astropy.io import fits

from lensflow.errors import BadInput, BadOption
from lensflow.lensing.spherical import UNSEEN, full_sky_cl, smooth_sphere

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

WMAP = "wmap_band_iqumap_r9_7yr_W_v4_udgraded32"


def synthetic(nside: int, lmax: int, *, seed: int) -> tuple[Values, Values]:
    """Return a RING map of random harmonics, and their spectrum."""
    rng = np.random.default_rng(seed)
    ell, m = healpy.Alm.getlm(lmax)
    alm = (rng.standard_normal(ell.size) + 1j * rng.standard_normal(ell.size)) / (1 + ell / 50)
    alm[m == 0] = alm[m == 0].real * np.sqrt(2)
    return healpy.alm2map(alm, nside, lmax=lmax, pol=False), healpy.alm2cl(alm)


def read(folder: Path, name: str) -> Values:
    with fits.open(folder / "healpix" / f"{name}.fits") as file:
        return np.asarray(file[1].data.field(0), np.float64).ravel()


def largest(found: Values, truth: Values) -> float:
    return float(np.abs(found / truth - 1)[2:].max())


def test_known_harmonics_at_nside_256() -> None:
    values, truth = synthetic(256, 512, seed=4)
    found = full_sky_cl(values)
    assert found.f_sky == 1
    assert found.cl.size == 513
    assert found.cl[0] < 1e-8 * found.cl[1]  # the monopole is taken off
    assert largest(found.cl, truth) < 1e-5


def test_two_steps_beat_three_corrections() -> None:
    values, truth = synthetic(64, 128, seed=1)
    lsmr, jacobi = full_sky_cl(values).cl, full_sky_cl(values, iterations="jacobi3").cl
    assert jacobi.size == 3 * 64
    assert 30 * largest(lsmr, truth) < largest(jacobi[:129], truth)


def test_jacobi_is_what_healpy_does() -> None:
    values, _ = synthetic(32, 64, seed=2)
    found = full_sky_cl(values, iterations="jacobi3", lmax=80).cl
    expected = healpy.anafast(values - values.mean(), lmax=80, iter=3)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-9)


@pytest.mark.parametrize(("iterations", "tolerance"), [("jacobi3", 1e-6), ("lsmr2", 2e-4)])
def test_masked_wmap_against_fortran_anafast(real_data: Path, iterations: Any, tolerance: float) -> None:
    mask = read(real_data, "wmap_temperature_analysis_mask_r9_7yr_v4_udgraded32")
    reference = read(real_data, f"cl_{WMAP}_II_lmax64_rmmono_3iter")
    found = full_sky_cl(read(real_data, WMAP), mask=mask, lmax=64, iterations=iterations)
    assert found.f_sky == pytest.approx(mask.mean())
    assert largest(found.cl, reference) < tolerance


def test_smoothed_wmap_against_fortran_smoothing(real_data: Path) -> None:
    values, reference = read(real_data, WMAP), read(real_data, f"{WMAP}_smoothed10deg_fortran")
    assert reference.std() == pytest.approx(0.136, abs=1e-3)
    np.testing.assert_allclose(smooth_sphere(values, fwhm_deg=10, lmax=64), reference, rtol=0, atol=1e-7)


def test_the_order_of_pixels_makes_no_difference() -> None:
    ring, _ = synthetic(16, 32, seed=3)
    nested = healpy.reorder(ring, r2n=True)
    mask = np.arange(ring.size) % 7 > 1
    plain = full_sky_cl(ring, mask=mask)
    turned = full_sky_cl(nested, mask=healpy.reorder(mask, r2n=True), ordering="NESTED")
    np.testing.assert_array_equal(plain.cl, turned.cl)
    assert plain.f_sky == turned.f_sky == mask.mean()
    smooth = smooth_sphere(nested, fwhm_deg=8, ordering="NESTED")
    np.testing.assert_array_equal(healpy.reorder(smooth, n2r=True), smooth_sphere(ring, fwhm_deg=8))


def test_invalid_pixels_are_masked() -> None:
    values, _ = synthetic(16, 32, seed=5)
    mask = np.ones(values.size)
    mask[[3, 500, 2000]] = 0
    holes = values.astype(np.float32).astype(np.float64)
    expected = full_sky_cl(holes, mask=mask)
    holes[[3, 500]] = np.nan, np.inf
    holes[2000] = np.float32(UNSEEN)
    found = full_sky_cl(holes)
    np.testing.assert_array_equal(found.cl, expected.cl)
    assert found.f_sky == expected.f_sky
    with pytest.raises(BadInput, match="3 invalid pixels"):
        smooth_sphere(holes, fwhm_deg=1)


def test_the_input_is_left_alone() -> None:
    values, _ = synthetic(8, 16, seed=6)
    before = values.copy()
    full_sky_cl(values, mask=np.arange(values.size) > 9)
    np.testing.assert_array_equal(values, before)


def test_smoothing_by_nothing_gives_the_band_limited_map_back() -> None:
    values, _ = synthetic(32, 40, seed=7)
    np.testing.assert_allclose(smooth_sphere(values, fwhm_deg=0, lmax=40), values, atol=1e-3 * values.std())


def test_one_multipole_is_damped_as_the_formula_says() -> None:
    alm = np.zeros(healpy.Alm.getsize(20), complex)
    alm[healpy.Alm.getidx(20, 10, 4)] = 1 + 2j
    values = healpy.alm2map(alm, 16, lmax=20, pol=False)
    sigma = np.radians(5) / np.sqrt(8 * np.log(2))
    found = smooth_sphere(values, fwhm_deg=5, lmax=20, iterations="lsmr2")
    np.testing.assert_allclose(found, values * np.exp(-10 * 11 * sigma**2 / 2), atol=1e-4 * values.std())


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"values": np.zeros(11)}, BadInput, r"found shape \(11,\)"),
        ({"values": np.zeros((12, 1))}, BadInput, "expected"),
        ({"mask": np.ones(48)}, BadInput, "found 48 pixels, expected 12"),
        ({"mask": np.zeros(12)}, BadInput, "no valid pixel"),
        ({"values": np.zeros(12 * 9), "ordering": "NESTED"}, BadInput, "nside 3"),
        ({"ordering": "ring"}, BadOption, "'ring', expected RING or NESTED"),
        ({"iterations": "jacobi"}, BadOption, "lsmr2 or jacobi3"),
        ({"lmax": -1}, BadOption, "lmax: found -1"),
    ],
)
def test_what_is_wrong_is_said(words: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        full_sky_cl(**({"values": np.arange(12.0)} | words))


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(BadOption, match="fwhm_deg: found -1"):
        smooth_sphere(np.arange(12.0), fwhm_deg=-1)
