"""The graph of patch statistics: its output, its bits whatever the grouping, and what failure leaves behind."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import healpy
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import lensflow as lf
from lensflow.arrays.healpix_fits import write_healpix
from lensflow.engine.tasks import lower
from lensflow.engine.work import Work
from lensflow.errors import BadInput
from lensflow.lensing.patches.fourier import modes
from lensflow.lensing.patches.noise import NoiseName, add_noise
from lensflow.lensing.patches.patch_statistics import APPROXIMATE, FAILED, GOOD, NO_COUNT, TOO_FEW, Recipe, measure
from lensflow.lensing.patches.patches import Patch, centres
from lensflow.lensing.patches.pixel_statistics import pixel_statistics
from lensflow.lensing.patches.pixelisation import nearest
from lensflow.lensing.patches.readers import zarr_reader
from lensflow.lensing.patches.sampling import sample
from lensflow.lensing.patches.statistics_options import STATISTICS, Options

GRAPH = lf.graph("kappa_statistics")
NSIDE = 64
REDSHIFTS = (0.5, 1.0)
WORDS: dict[str, Any] = {
    "patch_size_deg": 30.0,
    "xsize": 48,
    "l_edges": (20.0, 60.0, 140.0, 280.0),
    "smoothing_lengths": (40.0, 90.0),
    "ngal": (0.0, 7.0, 30.0),
    "n_points": 31,
}


def sky(seed: int, nside: int = NSIDE) -> NDArray[np.float32]:
    """Return a NESTED map of convergence."""
    rng = np.random.default_rng(seed)
    lmax = 2 * nside
    count = healpy.Alm.getsize(lmax)
    waves = healpy.almxfl(rng.standard_normal(count) + 1j * rng.standard_normal(count), 1e-3 / np.arange(1, lmax + 2))
    return healpy.reorder(healpy.alm2map(waves, nside), r2n=True).astype(np.float32)  # type: ignore[no-any-return]


MAPS = np.stack([sky(seed) for seed in range(len(REDSHIFTS))])


def stored(folder: Path, maps: NDArray[np.float32] = MAPS, **attrs: Any) -> Path:
    """Write maps as kappa_maps does."""
    path = folder / "kappa.zarr"
    group = zarr.open_group(path, mode="w", attributes={"nside": NSIDE, "ordering": "NESTED", "seed": 100, **attrs})
    group.create_array("kappa", data=maps, chunks=(1, 4**6), fill_value=np.nan, compressors=None)
    group.create_array("zs", data=np.array(REDSHIFTS[: len(maps)]))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("kappa"))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with lf.cluster("local", n_workers=2, memory_limit="1GiB", dashboard_address="127.0.0.1:0") as one:
        yield one


def lazy(source: Path, **words: Any) -> xr.Dataset:
    """Return what the graph makes of a source."""
    made = GRAPH(source, **words)
    assert isinstance(made, xr.Dataset)
    return made


@pytest.fixture(scope="module")
def measured(store: Path) -> xr.Dataset:
    return lazy(store, **WORDS, statistics=[*STATISTICS[:7], "starlet"]).compute(scheduler="sync")


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    """Check that two results agree to the bit."""
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        if a[name].dtype.kind in "OT":  # names
            assert a[name].values.tolist() == b[name].values.tolist(), name
            continue
        assert a[name].dtype == b[name].dtype, name
        assert a[name].values.tobytes() == b[name].values.tobytes(), name


def test_dimensions_types_and_coordinates(measured: xr.Dataset) -> None:
    level, nu = ("zs", "ngal", "smoothing", "patch"), ("nu_bin",)
    dims = {
        "power_spectrum": ("zs", "ngal", "patch", "ell_bin"),
        "bispectrum": ("zs", "ngal", "config", "patch", "ell_bin"),
        "moments": (*level, "moment"),
        "mean": ("zs", "ngal", "patch"),
        "f_valid": ("patch",),
        "status": ("patch",),
        **dict.fromkeys(("pdf", "peaks", "minima", "v0", "v1", "v2"), level + nu),
        **dict.fromkeys(("pdf_counts", "peaks_counts", "minima_counts"), level + nu),
        **dict.fromkeys(("sigma0", "sigma1", "n_pix"), level),
        **dict.fromkeys(("starlet_l1", "starlet_peaks"), ("zs", "ngal", "scale", "patch", "nu_bin")),
    }
    assert {name: one.dims for name, one in measured.data_vars.items()} == dims
    whole = {"pdf_counts", "peaks_counts", "minima_counts", "n_pix", "starlet_peaks"}
    kinds = {name: np.int32 if name in whole else np.uint8 if name == "status" else np.float64 for name in dims}
    assert {name: one.dtype for name, one in measured.data_vars.items()} == kinds
    coords = {"nu", "nu_edges", "ell", "l_edges", "n_modes", "n_triangles", "theta", "phi", "rip", "config", "moment"}
    assert coords | {"zs", "ngal", "smoothing", "patch"} == set(measured.coords)
    assert measured.sizes["patch"] == 23
    options = json.loads(measured.attrs["options"])
    assert (measured.attrs["schema"], measured.attrs["seed"]) == ("kappa_statistics/1", 100)
    assert (options["patch_size_deg"], options["xsize"], options["epsilon"]) == (30, 48, 0.26)
    assert (measured["status"] == GOOD).all()
    assert np.isfinite(measured["power_spectrum"]).all()


def test_nothing_is_computed_while_building(store: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        lazy(store, **WORDS)


@pytest.mark.parametrize("together", [1, 7, 30])
def test_c7_t1_results_do_not_depend_on_the_grouping(store: Path, measured: xr.Dataset, together: int) -> None:
    made = lazy(store, **WORDS, statistics=[*STATISTICS[:7], "starlet"], patches_per_block=together)
    found = made.compute(scheduler="threads", num_workers=4)
    found.attrs = measured.attrs
    same(found, measured)


def test_c7_t1_a_patch_is_the_same_alone_and_among_others(store: Path, measured: xr.Dataset) -> None:
    made = lazy(store, **{**WORDS, "ngal": (30.0,)}, zs=(1.0,), statistics=["power_spectrum", "pdf"])
    found = made.isel(patch=[17]).compute(scheduler="sync")
    for name in ("power_spectrum", "pdf", "mean"):
        expected = measured[name].sel(zs=[1.0], ngal=[30.0]).isel(patch=[17])
        assert found[name].values.tobytes() == expected.values.tobytes(), name


def test_one_patch_by_hand(store: Path, measured: xr.Dataset) -> None:
    theta, phi = centres(30.0)[5]
    patch = Patch(theta, phi, 30.0, 48, 45.0)
    with zarr_reader(store, "kappa", (1,)) as reader:
        image = sample(reader, patch)
    pixel = 60 * 30 / 48
    noise = NoiseName(seed=100, zs=1.0, patch=5, ngal=7)
    noisy = add_noise(image, noise, 0.26 / np.sqrt(7 * pixel**2))
    smoothed = gaussian_filter(noisy, 90 / pixel, mode="reflect")
    expected = pixel_statistics(smoothed, edges=np.linspace(-4, 4, 9), pixel_arcmin=pixel)
    found = measured.sel(zs=1.0, ngal=7.0, smoothing=90.0, patch=5)
    np.testing.assert_array_equal(found["peaks_counts"], expected.peaks_counts)
    np.testing.assert_allclose(found["v1"], expected.v1, rtol=1e-9)
    np.testing.assert_allclose(found["moments"], expected.moments, rtol=1e-6)
    assert found["mean"] == pytest.approx(noisy.mean())


def test_t10_bins_sum_to_counts(measured: xr.Dataset) -> None:
    assert (measured["pdf_counts"].sum("nu_bin") <= measured["n_pix"]).all()
    assert (measured["n_pix"] == 48**2).all()
    for name in ("pdf", "peaks", "minima"):
        counts = measured[f"{name}_counts"]
        np.testing.assert_allclose(measured[name] * counts.sum("nu_bin"), counts, rtol=1e-12)


def test_c7_a_run_stores_what_the_graph_gives_and_goes_on_where_it_ended(
    store: Path, tmp_path: Path, client: Client
) -> None:
    made = lazy(store, **WORDS, zs=(0.5,), statistics=["power_spectrum", "peak_counts"])
    expected = made.compute(scheduler="sync")
    journal = tmp_path / "out.zarr.run" / "journal.jsonl"
    for _ in range(2):
        run = lf.run(made, tmp_path / "out.zarr", client=client, progress=False)
        assert len(run.failed) == 0
        found = xr.open_zarr(tmp_path / "out.zarr", consolidated=False).compute()
        found.attrs = expected.attrs
        same(found, expected)
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[: len(lines) // 2]))  # as if it had been killed there


@pytest.mark.parametrize("wrong", ["RING", "n2r_twice"])
def test_t2_c6_maps_in_any_order_give_the_same_patches(tmp_path: Path, measured: xr.Dataset, wrong: str) -> None:
    for zs, values in zip(REDSHIFTS, MAPS, strict=True):
        ring = healpy.reorder(values, n2r=True)
        kept = ring if wrong == "RING" else healpy.reorder(ring, n2r=True)
        keys = {"ZS": zs, "SEED": 100}
        name = f"kappa_zs{zs}_s100.fits"
        write_healpix(tmp_path / name, [kept], column="KAPPA", nside=NSIDE, ordering="NESTED", keys=keys)
    with pytest.raises(BadInput, match=wrong):
        lazy(tmp_path, **WORDS)
    words = {**WORDS, "statistics": [*STATISTICS[:7], "starlet"], "ordering": wrong}
    found = lazy(tmp_path, **words).compute(scheduler="sync")
    found.attrs = measured.attrs
    same(found, measured)


def test_c10_t7_missing_pixels_are_never_zeros(tmp_path: Path, measured: xr.Dataset) -> None:
    maps = MAPS.copy()
    maps[1, : 4**6 * 3] = np.nan  # three quarters of a face
    found = lazy(stored(tmp_path, maps), **WORDS).compute(scheduler="sync")
    status = found["status"].values
    assert {GOOD, APPROXIMATE, TOO_FEW} == set(status.tolist())
    lost, good = status == TOO_FEW, status == GOOD
    assert (found["f_valid"].values[lost] < 0.5).all()
    for name in ("power_spectrum", "v0", "moments", "peaks", "mean"):
        values = found[name].transpose("patch", "zs", ...).values
        assert np.isnan(values[lost, 1]).all()
        assert values[good].tobytes() == measured[name].transpose("patch", "zs", ...).values[good].tobytes()
    assert (found["peaks_counts"].isel(zs=1, patch=lost) == NO_COUNT).all()


def test_c10_t7_an_unreadable_chunk_is_quarantined(tmp_path: Path, client: Client) -> None:
    store = stored(tmp_path, MAPS[:1])
    chunks = sorted((store / "kappa" / "c").rglob("*"))
    damaged = next(one for one in chunks if one.is_file())
    damaged.write_bytes(damaged.read_bytes()[:1000])
    words = {**WORDS, "patches_per_block": 1, "statistics": ["power_spectrum", "peak_counts"]}
    run = lf.run(lazy(store, **words), tmp_path / "out.zarr", client=client, progress=False)
    assert len(run.failed) > 0
    found = xr.open_zarr(tmp_path / "out.zarr", consolidated=False).compute()
    lost = (found["status"] == FAILED).values
    assert 0 < lost.sum() < found.sizes["patch"] / 2
    assert np.isnan(found["power_spectrum"].isel(patch=lost)).all()
    assert (found["peaks_counts"].isel(patch=lost) == NO_COUNT).all()
    assert np.isfinite(found["power_spectrum"].isel(patch=~lost)).all()


def test_masks_are_sampled_with_the_maps(store: Path, measured: xr.Dataset, tmp_path: Path) -> None:
    mask = np.ones(12 * NSIDE**2, np.float32)
    south = healpy.pix2vec(NSIDE, np.arange(mask.size), nest=True)[2] < 0
    mask[south] = 0
    path = tmp_path / "mask.fits"
    write_healpix(path, [mask], column="MASK", nside=NSIDE, ordering="NESTED", keys={})
    found = lazy(store, **WORDS, mask=path).compute(scheduler="sync")
    assert (found["status"].sel(patch=found["theta"] > 105) == TOO_FEW).all()
    north = np.flatnonzero(found["theta"].values < 90 - 30 / np.sqrt(2) - 1)
    same(
        found[["power_spectrum", "v1"]].isel(patch=north).drop_vars("theta"),
        measured[["power_spectrum", "v1"]].isel(patch=north).drop_vars("theta"),
    )
    assert APPROXIMATE in found["status"]


def test_an_apron_takes_the_sky_around(store: Path) -> None:
    words = {**WORDS, "ngal": (0.0,), "boundary": "apron", "statistics": ["moments", "power_spectrum"]}
    found = lazy(store, **words).isel(patch=slice(0, 1), zs=[0]).compute(scheduler="sync")
    pixel, apron = 60 * 30 / 48, int(4 * 90 * 48 / (60 * 30) + 0.5)
    theta, phi = centres(30.0)[0]
    with zarr_reader(store, "kappa", (0,)) as reader:
        wide = sample(reader, Patch(theta, phi, 30.0, 48, 45.0, apron=apron))
    smoothed = gaussian_filter(wide, 90 / pixel)[apron:-apron, apron:-apron]
    assert found["sigma0"].values[0, 0, 1, 0] == pytest.approx(smoothed.std(), rel=1e-9)
    plain = lazy(store, **{**words, "boundary": "reflect"}).isel(patch=slice(0, 1), zs=[0]).compute(scheduler="sync")
    np.testing.assert_allclose(found["power_spectrum"], plain["power_spectrum"], rtol=1e-6)
    assert str(NoiseName(1, 1.0, 2, 3, apron=4)).endswith("|real=0|apron=4")


def test_flat_images_are_patches(real_data: Path, tmp_path: Path) -> None:
    for plane in (59, 103):
        name = f"convergence_z{plane}.fit"
        (tmp_path / name).write_bytes((real_data / "lensing" / "lenstools" / name).read_bytes())
    words: dict[str, Any] = {"zs": (1.0,), "seed": 7, "ngal": (0.0, 30.0), "edge": "wrap", "triangles": "trunc"}
    found = lazy(tmp_path, **words).compute(scheduler="sync")
    assert found["file"].values.tolist() == ["convergence_z103.fit", "convergence_z59.fit"]
    first = found.sel(patch=1, ngal=0, zs=1.0)
    assert first["power_spectrum"][0] == pytest.approx(7.3613033e-11, rel=1e-7)
    assert first["peaks_counts"].sel(smoothing=2).values.tolist() == [0, 0, 1, 49, 111, 63, 38, 18]
    with pytest.raises(BadInput, match="give --seed"):
        lazy(tmp_path, **{**words, "seed": None})


@pytest.fixture(scope="module")
def noise_alone() -> NDArray[np.float64]:
    """Return the power of noise (patch, ngal, bin) of 265 patches without convergence."""
    recipe = Recipe(
        size_deg=10.0,
        pixels=128,
        statistics=("power_spectrum",),
        smoothing_lengths=(),
        ngal=(7.0, 50.0),
        epsilon=0.26,
        nu_edges=(-4.0, 4.0),
        l_edges=(300.0, 800.0, 1400.0, 2200.0),
    )
    nothing = np.zeros((128, 128))
    found = [measure(nothing, recipe, noise=NoiseName(100, 1.0, patch, 0)) for patch in range(265)]
    return np.stack([one["power_spectrum"] for one in found])


def test_c8_t1_noise_of_neighbouring_patches_is_independent(noise_alone: NDArray[np.float64]) -> None:
    deviation = noise_alone[:, :, -1] - noise_alone[:, :, -1].mean(axis=0)
    for lag in range(1, 7):
        for one in deviation.T:
            assert abs(np.corrcoef(one[:-lag], one[lag:])[0, 1]) < 0.31
    assert abs(np.corrcoef(deviation.T)[0, 1]) < 0.31  # nor do densities share a field


def test_c8_noise_has_the_power_and_the_scatter_that_it_must(noise_alone: NDArray[np.float64]) -> None:
    radians = np.deg2rad(10) / 128
    edges = (300.0, 800.0, 1400.0, 2200.0)
    for k, ngal in enumerate((7, 50)):
        expected = 0.26**2 / (ngal * (600 / 128) ** 2) * radians**2
        powers = noise_alone[:, k]
        error = powers.std(axis=0, ddof=1) / np.sqrt(len(powers))
        assert (np.abs(powers.mean(axis=0) - expected) < 4 * error).all()
        for b, (lo, hi) in enumerate(pairwise(edges)):
            across, down = np.meshgrid(np.fft.fftfreq(128, 1 / 128), np.fft.fftfreq(128, 1 / 128))
            full = ((np.hypot(across, down) * 36 > lo) & (np.hypot(across, down) * 36 <= hi)).sum()
            assert powers[:, b].var(ddof=1) == pytest.approx(2 * expected**2 / full, rel=0.3)


def test_reading_all_patches_of_a_large_sky_reads_few_chunks_twice() -> None:
    chunks = 0
    for theta, phi in centres(10.0).tolist():
        there = Patch(theta, phi, 10.0, 64, 45.0).directions(0, 64).reshape(-1, 3)
        chunks += np.unique(nearest(there, 8192) // 4**11).size
    assert chunks <= 5 * 192


def test_a_large_graph_is_small(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "k.zarr", mode="w", attributes={"nside": 8192, "ordering": "NESTED", "seed": 1})
    group.create_array("kappa", shape=(5, 12 * 8192**2), chunks=(1, 4**11), dtype="f4", fill_value=np.nan)
    group.create_array("zs", data=np.array([0.5, 1.0, 1.5, 2.0, 2.5]))
    made = lazy(tmp_path / "k.zarr")
    assert "at measure_patch" in str(lf.plan(made))  # which holds the images, and not what puts records together
    work = Work.of(made)
    assert len(lower(work.tree, work.grids, tmp_path / "o.zarr", "0" * 16).tasks) < 20_000


def test_full_sky_spectra_stand_beside_those_of_patches(store: Path) -> None:
    pytest.importorskip("lensflow.lensing.spherical")
    found = lazy(store, **WORDS, statistics=["full_sky_cl"])["cl_full_sky"].compute(scheduler="sync")
    assert found.dims == ("zs", "multipole")
    assert found.shape == (2, 2 * NSIDE + 1)
    expected = healpy.anafast(healpy.reorder(MAPS[0], n2r=True).astype(float), lmax=2 * NSIDE, iter=6)
    np.testing.assert_allclose(found[0, 2:100], expected[2:100], rtol=1e-3)


def test_default_options_resolve_their_own_bins() -> None:
    chosen = Options()
    assert (modes(chosen.xsize, chosen.patch_size_deg, chosen.l_edges).counts > 0).all()
