"""Convergence maps: weights against reference numbers, sums against brute force, what is refused."""

from typing import Any

import dask
import healpy
import numpy as np
import pytest
import xarray as xr

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.cosmology import Cosmology
from lensflow.lensing.kappa.born import born_weights
from lensflow.lensing.kappa.kappa_outputs import KappaOptions, add_sheets, kappa_maps
from lensflow.lensing.kappa.sheet_sources import Sheets
from lensflow.lensing.kappa.theory_ratio import check_cl
from lensflow.lensing.mesh.simulate_usmesh import Universe
from lensflow.lensing.random_fields import draw_field, gaussian_spectrum

COSMOLOGY = Cosmology(0.309, 0.691, 0.6774)
ZS = (0.5, 1.0, 2.0)


def weights(zs: tuple[float, ...] = ZS, **words: object) -> np.ndarray:
    """Return the weights of slices 1 to 99 of 100, at index 1 to 99."""
    chi = COSMOLOGY.chi(np.linspace(0, 1, 101))
    found, _ = born_weights(chi[2:], chi[1:-1], zs, COSMOLOGY, **words)  # type: ignore[arg-type]
    return np.pad(found, ((0, 0), (1, 0)))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, (0.0184560844, 0.0655940150, 0.1978690467)),
        ({"weight": "midpoint", "truncate": False}, (0.0184805960, 0.0656429432, 0.1978753855)),
    ],
)
def test_b1_an_overdensity_of_one_everywhere(words: dict[str, Any], expected: Any) -> None:
    np.testing.assert_allclose(weights(**words).sum(axis=1), expected, rtol=1e-8)


def test_b1_the_integral_is_the_analytic_one() -> None:
    """int W dchi to 1e-8 by a fine rule that knows nothing of shells."""
    nodes, rule = np.polynomial.legendre.leggauss(400)
    for zs, found in zip(ZS, weights().sum(axis=1), strict=True):
        chi_s = float(COSMOLOGY.chi(1 / (1 + zs)))
        chi = chi_s * (nodes + 1) / 2
        efficiency = 5.1571330098e-8 / COSMOLOGY.scale_factor(chi) * chi * (1 - chi / chi_s)
        assert found == pytest.approx((efficiency * rule).sum() * chi_s / 2, rel=1e-8)


def test_b2_single_sheets() -> None:
    integral, midpoint = weights(), weights(weight="midpoint")
    np.testing.assert_allclose(integral[1, [60, 80, 99]], [0.00225328342, 0.00125747608, 2.34855292e-5], rtol=1e-8)
    np.testing.assert_allclose(midpoint[1, [60, 80, 99]], [0.00225351537, 0.00125816961, 3.52190654e-5], rtol=1e-8)
    for found in (integral, midpoint):  # zs .5 lies in sheet 66, which is cut there
        assert found[0, 65] == 0
        assert 0 < found[0, 66] < 0.2 * found[0, 67]
        assert (found >= 0).all()


class Counted:
    """A sheet in memory that notes what is read of it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> np.ndarray:
        self.reads.append((start, stop))
        return self.values[start:stop]


def sheets(nside: int = 16, chunk: int = 512, absent: tuple[int, ...] = (), **words: object) -> Sheets:
    rng = np.random.default_rng(1)
    readers = {k: Counted(rng.standard_normal(12 * nside**2).astype(np.float32)) for k in range(5, 20)}
    attrs = {"nslices": 20, "OmegaM": 0.309, "OmegaLambda": 0.691, "HubbleParam": 0.6774, "source_digest": "d"}
    known: dict[str, object] = {
        "path": "somewhere",
        "readers": {k: one for k, one in readers.items() if k not in absent},
        "quarantined": (),
        "edges": np.linspace(0, 1, 21),
        "nside": nside,
        "chunk": chunk,
        "cosmology": COSMOLOGY,
        "attrs": attrs,
    }
    return Sheets(**known | words)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk", [256, 700, 3072])
def test_maps_are_weighted_sums(chunk: int) -> None:
    found = kappa_maps(sheets(chunk=chunk), KappaOptions(zs=ZS))
    pixels = np.array([one.values for one in sheets().readers.values()])  # type: ignore[union-attr]
    np.testing.assert_allclose(found.kappa, found.weights.values @ pixels, rtol=0, atol=1e-7)
    assert found.kappa.dtype == np.float32
    assert found.kappa.encoding["chunks"] == (1, chunk)
    assert not found.missing_weight.any()
    whole = kappa_maps(sheets(chunk=3072), KappaOptions(zs=ZS)).kappa
    assert found.kappa.values.tobytes() == whole.values.tobytes()


def test_one_redshift_does_not_depend_on_the_others() -> None:
    both = kappa_maps(sheets(), KappaOptions(zs=ZS)).kappa
    alone = kappa_maps(sheets(), KappaOptions(zs=(1.0,))).kappa
    assert both.sel(zs=1.0).values.tobytes() == alone.sel(zs=1.0).values.tobytes()


def test_b4_t13_every_chunk_of_a_sheet_is_read_once_for_all_redshifts() -> None:
    some = sheets(chunk=512)
    lazy = kappa_maps(some, KappaOptions(zs=(0.5, 1.0, 1.2, 1.5, 2.0)))
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed while building")):
        kappa_maps(some, KappaOptions(zs=(0.5, 1.0)))
    lazy.kappa.compute(scheduler="threads", num_workers=2)
    used = lazy.weights.sel(sheet=lazy.weights.any("zs")).sheet.values
    for number, one in some.readers.items():
        expected = [(k, k + 512) for k in range(0, 3072, 512)] if number in used else []
        assert sorted(one.reads) == expected  # type: ignore[union-attr]


def test_b4_sheets_that_are_missing_or_too_near() -> None:
    with pytest.raises(BadInput, match=r"sheet 12 missing \(1 such\)"):
        kappa_maps(sheets(absent=(12,)), KappaOptions(zs=ZS))
    with pytest.raises(BadInput, match=r"sheet 12 quarantined \(1 such\)"):
        kappa_maps(sheets(absent=(12,), quarantined=(12,)), KappaOptions(zs=ZS))
    with pytest.raises(BadInput, match="sources of zs 5"):
        kappa_maps(sheets(), KappaOptions(zs=(0.5, 5.0)))
    kappa_maps(sheets(absent=(5, 6)), KappaOptions(zs=(0.5,)))  # sheets behind the sources are not missed


def test_what_is_missing_may_be_allowed_and_is_recorded() -> None:
    with events.collect() as notes:
        found = kappa_maps(sheets(absent=(12,)), KappaOptions(zs=ZS, allow_missing=True))
    full = kappa_maps(sheets(), KappaOptions(zs=ZS))
    np.testing.assert_array_equal(found.missing_weight, full.weights.sel(sheet=12))
    assert [one.kind for one in notes] == ["missing-sheet"]


@pytest.mark.parametrize(
    "words", [{"zs": ()}, {"zs": (0.0,)}, {"zs": (1.0, 1.0)}, {"weight": "x"}, {"truncate": False}], ids=str
)
def test_options_out_of_range(words: dict[str, object]) -> None:
    with pytest.raises(BadOption, match=next(iter(words))):
        KappaOptions(**words)  # type: ignore[arg-type]


def test_nan_in_a_sheet_that_counts_nothing_does_not_spread() -> None:
    class Spoilt(Counted):
        pass

    readers = (Counted(np.ones(8, np.float32)), Spoilt(np.full(8, np.nan, np.float32)))
    found = add_sheets(readers=readers, weights=np.array([[2.0, 0.0]]), chunk=8, npix=8, block_id=(0, 0))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, 2)


def test_the_spectrum_of_lognormal_fields_is_exact() -> None:
    ell = np.arange(129)
    cl = 2e-3 / (1 + ell / 20.0) ** 2
    gaussian = gaussian_spectrum(cl)
    # back: C_l of exp(g - s^2/2) - 1 by xi = exp(xi_G) - 1
    nodes, rule = np.polynomial.legendre.leggauss(400)
    xi = np.expm1(np.polynomial.legendre.legval(nodes, (2 * ell + 1) / (4 * np.pi) * gaussian))
    back = [2 * np.pi * (rule * xi * np.polynomial.legendre.legval(nodes, np.eye(129)[k])).sum() for k in (0, 10, 60)]
    np.testing.assert_allclose(back, cl[[0, 10, 60]], rtol=1e-3)


def test_b3_spectra_of_convergence_are_those_of_the_shells() -> None:
    """C_l = sum w_i^2 (C_l^i + 4 pi/N_i) for independent shells of Poisson particles, half of them lognormal."""
    nside, count, lmax = 256, 12, 400
    universe = Universe(COSMOLOGY, 3750.0, 256)
    edges = np.linspace(0, 1, count + 1)
    ell = np.arange(lmax + 21)
    rng = np.random.default_rng(5)
    volumes = universe.volumes(edges)
    readers, spectra = {}, {}
    for sheet in range(4, count):
        cl = 4e-5 * edges[sheet + 1] ** 2 / (1 + ell / 50.0) ** 2
        field = draw_field(cl, nside, field="lognormal" if sheet % 2 else "gaussian", rng=rng)
        mean = universe.density * volumes[sheet] / (12 * nside**2)
        readers[sheet] = Counted((rng.poisson(mean * (1 + field)) / mean - 1).astype(np.float32))
        spectra[sheet] = cl[: lmax + 1] + 4 * np.pi / (universe.density * volumes[sheet])
    some = sheets(nside, 4**9, readers=readers, edges=edges)
    lazy = kappa_maps(some, KappaOptions(zs=ZS))
    expected = np.array(
        [sum(lazy.weights.sel(zs=zs, sheet=k).item() ** 2 * cl for k, cl in spectra.items()) for zs in ZS]
    )
    centres = np.arange(20, lmax, 20)
    for k, kappa in enumerate(lazy.kappa.values):
        found = healpy.anafast(healpy.reorder(kappa, n2r=True), lmax=lmax, iter=0, use_pixel_weights=False)
        ratio = found / expected[k]
        bins = np.array([np.average(ratio[b : b + 20], weights=2 * np.arange(b, b + 20) + 1) for b in centres])
        modes = np.array([(2 * np.arange(b, b + 20) + 1).sum() for b in centres])
        error = np.sqrt(2 / modes)
        assert np.average(bins, weights=modes) == pytest.approx(1, abs=0.02)
        chi_squared = (((bins - 1) / error) ** 2).sum()
        assert abs(chi_squared - len(bins)) < 4 * np.sqrt(2 * len(bins))


def test_attributes_say_what_was_summed() -> None:
    attrs = kappa_maps(sheets(), KappaOptions(zs=ZS)).attrs
    assert (attrs["schema"], attrs["ordering"], attrs["nside"]) == ("kappa_maps/1", "NESTED", 16)
    assert (attrs["weight"], attrs["truncate"], attrs["OmegaM"]) == ("integral", True, 0.309)


def test_a_dataset_is_what_comes_out() -> None:
    found = kappa_maps(sheets(), KappaOptions(zs=ZS))
    assert isinstance(found, xr.Dataset)
    assert found.kappa.dims == ("zs", "pixel")
    np.testing.assert_allclose(found.chi_s, COSMOLOGY.chi(1 / (1 + np.array(ZS))))


def test_spectra_beside_a_theory() -> None:
    ell = np.arange(301)
    known = np.arange(1, 401)
    cl = 1e-9 / (1.0 + ell) ** 1.5 * 1.03
    found = check_cl(cl, (known, 1e-9 / (1.0 + known) ** 1.5), l_edges=(20, 50, 300))
    np.testing.assert_allclose(found.ratio, 1.03, rtol=1e-12)
    np.testing.assert_allclose(found.error, [np.sqrt(2 / (50**2 - 20**2)), np.sqrt(2 / (300**2 - 50**2))])
    for edges in ((20, 50, 500), (0, 20), (50, 20)):
        with pytest.raises(BadInput, match="l_edges"):
            check_cl(cl, (known, known * 1.0), l_edges=edges)
