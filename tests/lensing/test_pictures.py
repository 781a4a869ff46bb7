"""Pictures: the right pixels in the right places, little memory, and nothing that fails on odd input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dask.array as da
import healpy
import numpy as np
import pytest
import xarray as xr
from healpy.projector import MollweideProj

from lensflow.errors import BadOption
from lensflow.lensing.patches.patches import centres, replicated
from lensflow.lensing.pictures import picture_sky
from lensflow.lensing.pictures.picture_covariance import correlation_figure, ratio_figure
from lensflow.lensing.pictures.picture_maps import picture_kappa, picture_sheets, sheet_quality
from lensflow.lensing.pictures.picture_patches import patch_map, patch_pair
from lensflow.lensing.pictures.picture_sky import mollweide, mollweide_image, thin_map
from lensflow.lensing.pictures.picture_statistics import picture_statistics, statistics_figure
from lensflow.lensing.skies.aggregate import aggregate

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

NSIDE = 16
PIXELS = 12 * NSIDE**2


def sheets(count: int = 5) -> xr.Dataset:
    rng = np.random.default_rng(0)
    delta = rng.lognormal(size=(count, PIXELS)).astype("f4") - 1
    delta[1] = np.nan
    status = np.arange(count) == 1
    chi = np.linspace(3000, 0, count + 1)
    per_sheet = {"n_rows": 1000, "n_duplicate": 0, "offset_error": 7, "n_bad": 0, "delta_mean": 0.01, "delta_std": 1.0}
    data: dict[str, Any] = {"delta": (("sheet", "pixel"), delta), "status": ("sheet", status.astype("u1"))}
    data |= {name: ("sheet", np.full(count, value)) for name, value in per_sheet.items()}
    coords = {
        "sheet": np.arange(20, 20 + count),
        "z": ("sheet", chi[:-1] / 3000),
        "chi_min": ("sheet", chi[1:]),
        "chi_max": ("sheet", chi[:-1]),
    }
    return xr.Dataset(data, coords)


def kappa() -> xr.Dataset:
    values = np.random.default_rng(1).normal(0, 0.01, (5, PIXELS)).astype("f4")
    weights = np.abs(np.random.default_rng(2).normal(size=(5, 4)))
    coords = {"zs": [0.5, 1, 1.5, 2, 2.5], "sheet": [20, 40, 60, 80]}
    data = {"kappa": (("zs", "pixel"), values), "weights": (("zs", "sheet"), weights)}
    return xr.Dataset(data, coords, {"nslices": 100})


def statistics(*, seed: int = 1, box: str = "bigbox") -> xr.Dataset:
    rng = np.random.default_rng(seed)
    positions = centres(10)
    count = len(positions)
    cell, bins = (1, 2, 2, count), ("zs", "ngal", "smoothing", "patch", "nu_bin")
    power = rng.lognormal(size=(1, 2, count, 3))
    power[:, 1] += rng.normal(9, 0.1, power[:, 1].shape)
    data: dict[str, Any] = {
        "power_spectrum": (("zs", "ngal", "patch", "ell_bin"), power),
        "bispectrum": (("zs", "ngal", "config", "patch", "ell_bin"), rng.normal(size=(1, 2, 3, count, 3))),
        "mean": (("zs", "ngal", "patch"), rng.normal(size=(1, 2, count))),
        "peaks_counts": (bins, rng.poisson(5, (*cell, 4)).astype("i4")),
        "status": ("patch", np.zeros(count, "u1")),
    }
    data |= {name: (bins, rng.lognormal(size=(*cell, 4))) for name in ("pdf", "peaks", "minima", "v0", "v1", "v2")}
    coords = {
        "zs": [1.0],
        "ngal": [0.0, 30],
        "smoothing": [2.0, 10],
        "config": ["equilateral", "folded", "squeezed"],
        "ell": ("ell_bin", [350.0, 800, 2000]),
        "nu": ("nu_bin", [-1.5, -0.5, 0.5, 1.5]),
        "theta": ("patch", np.degrees(positions[:, 0]), {"units": "deg"}),
        "phi": ("patch", np.degrees(positions[:, 1]), {"units": "deg"}),
        "rip": ("patch", replicated(positions, 10)),
    }
    return xr.Dataset(data, coords, {"seed": seed, "box": box, "options": json.dumps({"patch_size_deg": 10})})


def saved(figure: Figure, path: Path) -> list[Any]:
    """Draw the figure for good, and return its axes with a title."""
    figure.savefig(path / "a.png", dpi=40)
    assert (path / "a.png").stat().st_size > 3000
    return [axes for axes in figure.axes if axes.get_title()]


def test_mollweide_is_healpys() -> None:
    rng = np.random.default_rng(3)
    theta, phi = np.arccos(rng.uniform(-1, 1, 500)), rng.uniform(0, 2 * np.pi, 500)
    x, y = mollweide(theta, phi)
    expected = MollweideProj().ang2xy(theta, phi)
    np.testing.assert_allclose(x, expected[0], atol=1e-3)  # healpy looks it up in a table
    np.testing.assert_allclose(y, expected[1], atol=1e-3)
    angle = np.arcsin(y)
    np.testing.assert_allclose(2 * angle + np.sin(2 * angle), np.pi * np.cos(theta), atol=1e-9)
    np.testing.assert_allclose(x, -2 / np.pi * ((phi + np.pi) % (2 * np.pi) - np.pi) * np.cos(angle), atol=1e-9)
    assert mollweide(np.array([0.0, np.pi]), np.zeros(2))[1].tolist() == [1.0, -1.0]


def test_an_image_of_the_sky_is_healpys() -> None:
    values = np.arange(PIXELS, dtype=float)
    image = mollweide_image(values, 400)
    projection = MollweideProj(xsize=400)
    expected = projection.projmap(values, lambda x, y, z: healpy.vec2pix(NSIDE, x, y, z, nest=True))
    assert image.shape == expected.shape
    inside = np.isfinite(image) & np.isfinite(expected)
    assert inside.mean() == pytest.approx(np.pi / 4, abs=0.01)
    # half an image pixel apart: the same HEALPix pixel nearly everywhere
    assert np.isclose(image[inside], expected[inside]).mean() > 0.75
    x = (np.arange(400) + 0.5) / 200 - 1
    assert image[100, 200] == values[healpy.ang2pix(NSIDE, np.pi / 2 - 0.003, 2 * np.pi - 0.01, nest=True)]
    west = np.pi * -x[60] / np.cos(np.arcsin(0.005))  # left of the middle is east: longitudes grow to the left
    assert image[100, 60] == values[healpy.ang2pix(NSIDE, np.pi / 2 - 0.006, west, nest=True)]


def test_a_map_is_thinned_by_means_of_children() -> None:
    values = np.random.default_rng(4).normal(size=PIXELS)
    thin = thin_map(xr.DataArray(values, dims="pixel"), 4)
    np.testing.assert_allclose(thin, healpy.ud_grade(values, 4, order_in="NESTED"), rtol=1e-12)
    np.testing.assert_array_equal(thin_map(xr.DataArray(values, dims="pixel"), 64), values)
    values[:20] = np.nan
    thin = thin_map(xr.DataArray(values, dims="pixel"), 4)
    assert np.isnan(thin[0])
    assert thin[1] == pytest.approx(values[20:32].mean())


def test_a_large_map_is_read_run_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def read(block: Any) -> Any:
        reads.append(block.size)
        return block

    monkeypatch.setattr(picture_sky, "RUN", 256)
    lazy = da.ones(PIXELS, chunks=256).map_blocks(read, meta=np.empty(0))
    thin = thin_map(xr.DataArray(lazy, dims="pixel"), 4)
    assert thin.tolist() == [1.0] * 192
    assert reads == [256] * (PIXELS // 256)


def test_sheets_near_middle_far_and_their_quality(tmp_path: Path) -> None:
    figure = picture_sheets(xr.DataTree(sheets()))
    titles = [axes.get_title() for axes in saved(figure, tmp_path)]
    # sheet 21 is quarantined; 24 is the nearest
    assert [title.split(":")[0] for title in titles] == [
        "sheet 24",
        "sheet 22",
        "sheet 20",
        "5 sheets, 1 quarantined (dotted)",
    ]
    assert "0-600 Mpc/h" in titles[0]


def test_the_quality_of_sheets_takes_no_pixels(tmp_path: Path) -> None:
    made = sheets()
    made["delta"] = made["delta"].copy(
        data=da.from_array(np.zeros((5, PIXELS))).map_blocks(lambda _: 1 / 0, meta=np.empty(0))
    )
    assert saved(sheet_quality(made), tmp_path)
    assert "all good" in saved(sheet_quality(made.drop_vars("status")), tmp_path)[0].get_title()


def test_sheets_that_are_all_quarantined(tmp_path: Path) -> None:
    made = sheets(2)
    made["delta"][:] = np.nan
    made["status"][:] = 1
    assert saved(picture_sheets(xr.DataTree(made)), tmp_path)


@pytest.mark.parametrize("chosen", [slice(None), [2]])
def test_convergence_of_three_redshifts_at_most(tmp_path: Path, chosen: Any) -> None:
    made = kappa().isel(zs=chosen)
    titles = [axes.get_title() for axes in saved(picture_kappa(xr.DataTree(made)), tmp_path)]
    wanted = [0.5, 1.5, 2.5] if made.sizes["zs"] > 1 else [1.5]
    assert titles == [f"sources at z {zs:g}" for zs in wanted]


def test_convergence_from_a_store(tmp_path: Path) -> None:
    kappa().drop_attrs().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False) as tree:
        assert saved(picture_kappa(tree), tmp_path)


def test_one_patch_with_and_without_noise(tmp_path: Path) -> None:
    clean = np.random.default_rng(5).normal(0, 0.01, (20, 20))
    noisy = clean + np.random.default_rng(6).normal(0, 0.03, (20, 20))
    noisy[:3] = np.nan
    axes = saved(patch_pair(clean, noisy, size_deg=10), tmp_path)
    assert [one.get_title().split("\n")[0] for one in axes] == ["without noise", "with shape noise"]
    np.testing.assert_array_equal(axes[0].images[0].get_array(), clean)
    assert axes[0].images[0].get_extent() == [-5, 5, -5, 5]
    assert axes[1].images[0].get_array().mask[:3].all()
    saved(patch_pair(clean, np.full((20, 20), np.nan), size_deg=10), tmp_path)


def test_the_map_of_patches(tmp_path: Path) -> None:
    made = statistics()
    made["status"][:] = np.arange(265) < 2
    made["status"][3] = 3
    figure = patch_map(made)
    (axes,) = saved(figure, tmp_path)
    assert axes.get_title() == "265 patches, 71 of them replication affected (red), 1 without values (grey)"
    plain, affected = axes.collections
    assert len(plain.get_paths()) >= 194
    assert len(affected.get_paths()) >= 71
    assert len(plain.get_paths()) + len(affected.get_paths()) < 300  # a few are cut by the border
    # patch 132 is the square around theta 90, phi 0: a diamond in the middle
    (middle,) = [path for path in affected.get_paths() if path.contains_point((0, 0))]
    # mollweide: 2/pi per rad of longitude times cos of the auxiliary angle, 1 at the equator
    assert np.abs(middle.vertices[:, 0]).max() == pytest.approx(
        2 * np.sqrt(2) / np.pi * np.arctan(np.radians(5)) * np.sqrt(2) / np.sqrt(2), rel=0.02
    )


def test_the_map_of_patches_whose_means_are_not_known(tmp_path: Path) -> None:
    assert saved(patch_map(statistics().drop_vars(["mean", "status"])), tmp_path)


def test_each_statistic_with_its_scatter(tmp_path: Path) -> None:
    made = statistics()
    made["power_spectrum"][0, 0, 5] = np.nan
    made["peaks_counts"][0, 0, 0, 5] = -1
    figure = picture_statistics(xr.DataTree(made))
    axes = saved(figure, tmp_path)
    assert len(axes) == 8
    assert "265 patches; smoothing 2 arcmin" in figure.get_suptitle()
    ell = made["ell"].values
    expected = np.nanmean(made["power_spectrum"].values[0, 0], axis=0) * ell * (ell + 1) / (2 * np.pi)
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), expected)
    counts = made["peaks_counts"].values[0, 0, 0].astype(float)
    counts[5] = np.nan
    (peaks,) = (one for one in axes if one.get_title() == "peaks per patch and bin")
    np.testing.assert_allclose(peaks.lines[0].get_ydata(), np.nanmean(counts, axis=0))


def test_statistics_of_which_some_were_not_asked_for(tmp_path: Path) -> None:
    whole = statistics()
    only = whole.drop_vars(set(whole.data_vars) - {"power_spectrum"}).drop_vars("smoothing").isel(zs=0)
    assert len(saved(statistics_figure(only), tmp_path)) == 1
    assert len(saved(statistics_figure(whole.isel(zs=0), smoothing=10), tmp_path)) == 8


def test_patches_that_failed_are_said(tmp_path: Path) -> None:
    made = statistics()
    for name in ("power_spectrum", "bispectrum", "pdf", "minima", "v0", "v1", "v2"):
        made[name][:] = np.nan
    made["peaks_counts"][:] = -1
    made["status"][:] = 3
    figure = picture_statistics(xr.DataTree(made))
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert "0 patches (265 without values)" in figure.get_suptitle()


@pytest.fixture(scope="module")
def compared() -> xr.DataTree:
    runs = [statistics(seed=seed, box=box) for box, seed in (("bigbox", 1), ("bigbox", 2), ("tiled", 3), ("tiled", 4))]
    return aggregate(runs)


@pytest.mark.parametrize("kind", ["variance", "mean"])
def test_ratios_with_their_errors(compared: xr.DataTree, tmp_path: Path, kind: str) -> None:
    figure = ratio_figure(compared, kind=kind, ngal=30)
    axes = saved(figure, tmp_path)
    assert len(axes) == 7
    assert f"{kind} of patches, bigbox / tiled" in figure.get_suptitle()
    shown = compared["ratio"].to_dataset()[f"power_spectrum_{kind}_ratio"].sel(zs=1, ngal=30)
    drawn = axes[0].containers[0].lines[0].get_ydata()
    assert set(drawn) <= set(shown.values)
    assert not figure.texts[1:]


def test_ratios_of_noise_that_repeats_say_so(compared: xr.DataTree) -> None:
    marked = compared.copy()
    marked["tiled"] = marked["tiled"].to_dataset().assign(noise_repeats=("sky", [True, False]))
    said = [text.get_text() for text in ratio_figure(marked, ngal=30).texts]
    assert "noise repeats from patch to patch" in said
    assert "noise repeats from patch to patch" not in [text.get_text() for text in ratio_figure(marked).texts]


def test_ratios_need_two_boxes(compared: xr.DataTree) -> None:
    with pytest.raises(BadOption, match="expected a node ratio"):
        ratio_figure(aggregate([statistics()]))
    with pytest.raises(BadOption, match="found 'median'"):
        ratio_figure(compared, kind="median")


def test_correlation_matrices(compared: xr.DataTree, tmp_path: Path) -> None:
    node = compared["bigbox"].to_dataset()
    (axes,) = saved(correlation_figure(node, ngal=30), tmp_path)
    assert axes.get_title() == "correlation of statistics, 528 patches of 2 skies"
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "P",
        "PDF",
        "peaks",
        "minima",
        "$V_0$",
        "$V_1$",
        "$V_2$",
    ]
    np.testing.assert_array_equal(axes.images[0].get_array(), node["joined_corr"].sel(zs=1, ngal=30))
    (axes,) = saved(correlation_figure(node, name="pdf"), tmp_path)
    np.testing.assert_array_equal(axes.images[0].get_array(), node["pdf_corr"].sel(zs=1, ngal=0, smoothing=2))
