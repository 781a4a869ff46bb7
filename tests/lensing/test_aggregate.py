"""Covariances and ratios: numbers of the published skies, and what can be worked out by hand."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.skies.aggregate import aggregate
from lensflow.lensing.skies.covariance import hartlap
from lensflow.lensing.skies.jackknife import jackknife_errors
from lensflow.lensing.skies.stats_read import read_stats_hdf5

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PATCHES = 40


def sky(seed: int, *, box: str = "bigbox", zs: float = 1.0, patches: int = PATCHES, **options: Any) -> xr.Dataset:
    """Return statistics of a sky as kappa_statistics has them: three bins, two densities, one smoothing."""
    rng = np.random.default_rng(seed)
    power = rng.lognormal(size=(1, 2, patches, 3))
    power[:, 1] = power[:, 0] + rng.normal(3, 0.1, power[:, 1].shape)
    peaks = rng.poisson([0.0, 5.0, 9.0], (1, 2, 1, patches, 3)).astype(float)
    data = {
        "power_spectrum": (("zs", "ngal", "patch", "ell_bin"), power),
        "peaks": (("zs", "ngal", "smoothing", "patch", "nu_bin"), peaks, {"units": "1"}),
        "sigma0": (("zs", "ngal", "smoothing", "patch"), rng.lognormal(size=(1, 2, 1, patches))),
        "status": ("patch", np.zeros(patches, "u1")),
    }
    coords = {
        "zs": [zs],
        "ngal": [0.0, 7],
        "smoothing": [2.0],
        "ell": ("ell_bin", [350.0, 450, 600]),
        "nu": ("nu_bin", [-1.0, 0, 1]),
        "rip": ("patch", np.arange(patches) % 4 == 0),
    }
    words = json.dumps({"patch_size_deg": 10, "seed": seed} | options)
    return xr.Dataset(data, coords, {"seed": seed, "box": box, "options": words})


@pytest.fixture(scope="module")
def published(real_data: Path) -> list[xr.Dataset]:
    return [read_stats_hdf5(path) for path in sorted((real_data / "lensing" / "lensingssc").glob("*/*.h5"))]


@pytest.fixture(scope="module")
def compared(published: list[xr.Dataset]) -> xr.DataTree:
    with events.collect() as notes:
        tree = aggregate(published, patches="rmp")
    assert {(note.fields["box"], len(note.fields["seeds"])) for note in notes} == {("bigbox", 11), ("tiled", 20)}  # T1
    return tree


def noiseless(tree: xr.DataTree, node: str) -> xr.Dataset:
    return tree[node].to_dataset().sel(zs=1.0, ngal=0)


def test_published_power_spectra(compared: xr.DataTree) -> None:
    found = noiseless(compared, "ratio")
    variance = [1.0434, 1.0763, 1.0263, 1.0280, 1.0731, 1.1119, 1.0931, 1.1518]
    errors = [0.0414, 0.0422, 0.0456, 0.0368, 0.0452, 0.0443, 0.0440, 0.0434]
    mean = [0.9958, 0.9990, 0.9959, 1.0004, 0.9992, 1.0004, 1.0006, 1.0005]
    np.testing.assert_allclose(found["power_spectrum_variance_ratio"], variance, atol=2e-4)
    np.testing.assert_allclose(found["power_spectrum_variance_ratio_error"], errors, atol=2e-4)
    np.testing.assert_allclose(found["power_spectrum_mean_ratio"], mean, atol=2e-4)
    assert compared["ratio"].attrs == {"numerator": "bigbox", "denominator": "tiled"}


def test_published_pdf(compared: xr.DataTree) -> None:
    found = noiseless(compared, "ratio")
    narrow = [1.1617, 1.1052, 1.0985, 1.0721, 1.1258, 1.0941, 1.0695, 1.0820]
    errors = [0.0733, 0.0327, 0.0454, 0.0328, 0.0339, 0.0358, 0.0301]
    wide = [1.2074, 1.0664, 1.0846, 1.0931, 1.0827, 1.0985, 1.1139, 1.0582]
    np.testing.assert_allclose(found["pdf_variance_ratio"].sel(smoothing=2), narrow, atol=2e-4)
    np.testing.assert_allclose(found["pdf_variance_ratio_error"].sel(smoothing=2)[1:], errors, atol=2e-4)
    assert found["pdf_variance_ratio_error"].sel(smoothing=2)[0] > 1  # undetermined
    np.testing.assert_allclose(found["pdf_variance_ratio"].sel(smoothing=10), wide, atol=2e-4)


def test_published_peaks_and_minima(compared: xr.DataTree) -> None:
    found = noiseless(compared, "ratio").sel(smoothing=2)
    peaks = [np.nan, 0.8648, 1.1153, 1.1062, 1.0105, 1.1038, 1.0499, 1.0139]  # the first bin is empty: 0/0
    minima = [1.0712, 1.0958, 1.0637, 1.1305, 1.0451, 0.9972]
    np.testing.assert_allclose(found["peaks_variance_ratio"], peaks, atol=2e-4)
    np.testing.assert_allclose(found["minima_variance_ratio"][1:7], minima, atol=2e-4)


def test_published_correlations_and_hartlap_factors(compared: xr.DataTree) -> None:
    box, tiled = noiseless(compared, "bigbox"), noiseless(compared, "tiled")
    assert float(box["power_spectrum_corr"][0, 1]) == pytest.approx(0.43459, abs=1e-5)
    assert float(box["power_spectrum_corr"][6, 7]) == pytest.approx(0.88924, abs=1e-5)
    assert int(box["power_spectrum_n_samples"]) == 11 * 194
    assert float(box["power_spectrum_hartlap_samples"]) == pytest.approx(0.995781, abs=1e-6)
    assert float(tiled["power_spectrum_hartlap_samples"]) == pytest.approx(0.997680, abs=1e-6)
    assert float(box["power_spectrum_hartlap_skies"]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("box", "first", "last"), [("bigbox", 2.93470e-5, 1.01168e-4), ("tiled", 2.92557e-5, 1.01148e-4)]
)
def test_one_published_sky(published: list[xr.Dataset], box: str, first: float, last: float) -> None:
    (one,) = (run for run in published if (run.attrs["box"], run.attrs["seed"]) == (box, 100))
    node = noiseless(aggregate([one.sel(ngal=[0])], patches="rmp"), box)
    ell = node["ell"]
    means = (node["power_spectrum_mean"] * ell * (ell + 1) / (2 * np.pi)).values
    np.testing.assert_allclose(means[[0, -1]], [first, last], rtol=1e-5)
    assert np.isnan(node["power_spectrum_variance_error"]).all()  # one sky: no jackknife


def test_published_means_against_halofit(published: list[xr.Dataset], real_data: Path) -> None:
    with np.load(real_data / "lensing" / "lensingssc" / "halofit_Clkk_zs1.0.npz") as theory:
        ell, cl = theory["ell"], theory["clkk"]
    tree = aggregate([run.sel(ngal=[0])[["power_spectrum"]] for run in published], blacklist=())
    expected = {
        "bigbox": [0.9614, 0.9606, 0.9433, 0.9316, 0.9235, 0.9284, 0.9535, 1.0243],
        "tiled": [0.9644, 0.9625, 0.9482, 0.9333, 0.9252, 0.9299, 0.9545, 1.0265],
    }
    for box, ratio in expected.items():
        node = noiseless(tree, box)
        mine = node["ell"].values
        band = np.interp(mine, ell, ell * (ell + 1) * cl)
        np.testing.assert_allclose(node["power_spectrum_mean"] * mine * (mine + 1) / band, ratio, atol=2e-4)


def test_covariance_and_correlation_are_numpys() -> None:
    runs = [sky(seed) for seed in (1, 2, 3)]
    node = aggregate(runs, blacklist=())["bigbox"].to_dataset().isel(zs=0, ngal=1)
    values = np.concatenate([run["power_spectrum"].values[0, 1] for run in runs])
    np.testing.assert_allclose(node["power_spectrum_cov"], np.cov(values.T))
    np.testing.assert_allclose(node["power_spectrum_corr"], np.corrcoef(values.T))
    np.testing.assert_allclose(node["power_spectrum_mean"], values.mean(axis=0))
    np.testing.assert_allclose(node["power_spectrum_std"], values.std(axis=0, ddof=1))
    assert node["sigma0_std"].dims == ("smoothing",)
    assert node["peaks_mean"].attrs == {"units": "1"}
    assert np.isnan(node["peaks_corr"].values[0, 0]).all()  # a bin that never varies


def test_joint_covariance_of_several_statistics() -> None:
    runs = [sky(seed) for seed in (1, 2)]
    node = aggregate(runs, blacklist=(), join=("peaks", "power_spectrum", "bispectrum"))["bigbox"].to_dataset()
    assert node.sizes["entry"] == 6
    assert list(node["entry_statistic"].values) == ["peaks"] * 3 + ["power_spectrum"] * 3
    assert list(node["entry_bin"].values) == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(node["entry_smoothing"], [2, 2, 2, np.nan, np.nan, np.nan])
    parts = [
        np.concatenate([run[name].values[0, 1].reshape(PATCHES, 3) for run in runs])
        for name in ("peaks", "power_spectrum")
    ]
    np.testing.assert_allclose(node["joined_cov"][0, 1], np.cov(np.hstack(parts).T), atol=1e-12)
    assert float(node["joined_hartlap_samples"][0, 0]) == pytest.approx((80 - 6 - 2) / 79)


def test_patches_are_chosen_by_replication_and_blacklist() -> None:
    used = {
        which: aggregate([sky(1)], patches=which, blacklist=(1, 4, 500))["bigbox"].attrs["patches_used"]
        for which in ("all", "rmp", "rip")
    }
    assert used["all"] == [index for index in range(PATCHES) if index not in {1, 4}]
    assert used["rmp"] == [index for index in used["all"] if index % 4]
    assert used["rip"] == [index for index in used["all"] if index % 4 == 0]


def test_the_blacklist_is_the_patch_along_the_axis_by_default() -> None:
    """T16: the index counts after the polar cut."""
    tree = aggregate([sky(1, patches=140)])
    assert 132 not in tree["bigbox"].attrs["patches_used"]
    assert tree["bigbox"].attrs["n_patches"] == 139


def test_patches_without_values_are_left_out_and_counted() -> None:
    """T7, T10: a failed patch is NaN, so are normalised peaks of a patch without any."""
    runs = [sky(seed) for seed in (1, 2)]
    runs[0]["power_spectrum"][0, 1, [3, 7]] = np.nan
    runs[1]["power_spectrum"][0, 1, 5, 2] = np.nan
    node = aggregate(runs, blacklist=())["bigbox"].to_dataset().isel(zs=0)
    assert list(node["power_spectrum_n_dropped"].values) == [0, 3]
    assert list(node["power_spectrum_n_samples"].values) == [80, 77]
    values = np.concatenate([run["power_spectrum"].values[0, 1] for run in runs])
    kept = values[np.isfinite(values).all(axis=1)]
    np.testing.assert_allclose(node["power_spectrum_cov"][1], np.cov(kept.T))


def test_a_bin_that_no_patch_has_stays_empty() -> None:
    runs = [sky(seed) for seed in (1, 2)]
    for run in runs:
        run["power_spectrum"][..., 0] = np.nan
    node = aggregate(runs, blacklist=())["bigbox"].to_dataset().isel(zs=0, ngal=0)
    assert np.isnan(node["power_spectrum_mean"][0])
    assert np.isfinite(node["power_spectrum_mean"][1:]).all()
    assert int(node["power_spectrum_n_dropped"]) == 0
    assert float(node["power_spectrum_hartlap_samples"]) == hartlap(80, 2)


def test_redshifts_of_one_sky_in_several_files() -> None:
    parts = [sky(seed, zs=zs) for seed in (1, 2) for zs in (1.5, 0.5)]
    node = aggregate(parts, blacklist=())["bigbox"].to_dataset()
    assert list(node["zs"].values) == [0.5, 1.5]
    assert node.attrs["seeds"] == [1, 2]
    expected = np.mean([run["power_spectrum"].mean("patch").values[0, 0] for run in parts[1::2]], axis=0)
    np.testing.assert_allclose(node["power_spectrum_mean"].sel(zs=0.5, ngal=0), expected)


def test_stores_and_datasets_alike(tmp_path: Path) -> None:
    runs = [sky(1), sky(2)]
    for run in runs:
        run.to_zarr(tmp_path / f"{run.attrs['seed']}.zarr", zarr_format=3, consolidated=False)
    stored = aggregate([tmp_path / "1.zarr", str(tmp_path / "2.zarr")])
    xr.testing.assert_identical(stored["bigbox"].to_dataset(), aggregate(runs)["bigbox"].to_dataset())


def test_an_aggregate_can_be_stored(tmp_path: Path) -> None:
    tree = aggregate([sky(1), sky(2), sky(1, box="tiled"), sky(3, box="tiled")])
    tree.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False) as back:
        xr.testing.assert_allclose(back["ratio"].to_dataset(), tree["ratio"].to_dataset())
        assert back.attrs["patches"] == "all"


def test_repeated_noise_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = sky(1), sky(2)
    bad["power_spectrum"][0, 1] = bad["power_spectrum"][0, 0] + np.tile([1.0, 2.0], PATCHES // 2)[:, None]
    with caplog.at_level(logging.WARNING):
        node = aggregate([good, bad])["bigbox"].to_dataset()
    assert node["noise_repeats"].to_numpy().tolist() == [False, True]
    assert "the noise of 1 of 2 skies repeats" in caplog.text
    assert "not made" in aggregate([good.isel(ngal=[0])])["bigbox"].attrs["noise_audit"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (sky(2, patch_size_deg=5), "option patch_size_deg: found 5, expected 10"),
        (sky(2, extra=1), "option extra: found 1, expected None"),
        (sky(2).assign_coords(nu=("nu_bin", [-1.0, 0, 2])), "nu: found"),
        (sky(2).isel(ngal=[0]), "ngal: found"),
        (sky(2).drop_vars("peaks"), "statistics: found"),
        (sky(2, zs=1.5), "zs: found"),
        (sky(1), "one sky at one redshift more than once"),
    ],
)
def test_runs_of_another_kind_are_refused(other: xr.Dataset, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        aggregate([sky(1), other])


def test_runs_with_another_definition_are_refused() -> None:
    other = sky(2)
    other["peaks"].attrs["units"] = "counts"
    with pytest.raises(BadInput, match="peaks: units: found counts, expected 1"):
        aggregate([sky(1), other])


def test_free_options_may_differ() -> None:
    aggregate([sky(1, ordering="RING"), sky(2, ordering="NESTED")])


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(BadInput, match="runs: found none"):
        aggregate([])
    with pytest.raises(BadOption, match="expected all, rmp, rip"):
        aggregate([sky(1)], patches="some")  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="leaves none of 40"):
        aggregate([sky(1)], blacklist=range(40))
    with pytest.raises(BadInput, match="no attribute seed"):
        aggregate([sky(1).assign_attrs({"seed": 1}).drop_attrs()])


def deleted(values: NDArray[np.float64], used: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """Return jackknife errors by the definition: everything again without one sky."""
    kept = [k for k in range(len(values)) if used[k].any()]
    rest = [np.concatenate([values[j][used[j]] for j in kept if j != k]) for k in kept]
    found = []
    for estimates in (
        np.array([one.mean(axis=0) for one in rest]),
        np.array([one.var(axis=0, ddof=1) for one in rest]),
    ):
        n = len(kept)
        found.append(np.sqrt((n - 1) / n * ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0)))
    return tuple(found)


@settings(deadline=None, max_examples=40)
@given(
    skies=st.integers(2, 6), patches=st.integers(3, 8), seed=st.integers(0, 2**32), offset=st.sampled_from([0.0, 1e4])
)
def test_jackknife_by_sums_is_the_jackknife(skies: int, patches: int, seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(offset, 1, (skies, patches, 2))
    used = rng.random((skies, patches)) < 0.8
    used[:2, :2] = True
    for mine, expected in zip(jackknife_errors(values, used), deleted(values, used), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-6)


def test_hartlap_needs_more_samples_than_bins() -> None:
    assert hartlap(2134, 8) == pytest.approx(0.995781, abs=1e-6)
    assert np.isnan(hartlap(10, 8))
    assert hartlap(11, 8) == pytest.approx(0.1)
