"""Where patches lie and what is sampled there (check C5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import healpy
import numpy as np
import pytest
from scipy.ndimage import rotate

from lensflow.errors import BadOption
from lensflow.lensing.patches.patches import POINTS, Patch, centres, replicated
from lensflow.lensing.patches.pixelisation import nearest
from lensflow.lensing.patches.sampling import sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

NSIDE = 256


class MapInMemory:
    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values, self.nside = values, int(np.sqrt(values.size // 12))

    def take(self, stored: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.values[stored].astype(np.float64)


@pytest.fixture(scope="module")
def smooth_sky() -> NDArray[np.float64]:
    """Return a NESTED map without structure as small as pixels."""
    rng = np.random.default_rng(4)
    lmax = 60
    count = healpy.Alm.getsize(lmax)
    waves = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    return healpy.reorder(healpy.alm2map(waves, NSIDE), r2n=True)  # type: ignore[no-any-return]


def test_t16_c5_centres_of_ten_degrees() -> None:
    found = np.rad2deg(centres(10.0))
    expected = [(14.752919, 151.024855), (89.580247, 137.507764), (90, 0), (165.247081, 208.975145)]
    np.testing.assert_allclose(found[[0, 131, 132, 264]], expected, rtol=0, atol=1e-6)


def test_c5_how_many_patches_there_are() -> None:
    assert {size: len(centres(size)) for size in POINTS} == {5: 1075, 10: 265, 15: 113, 20: 59, 25: 35, 30: 23}
    assert len(centres(12.0, 201)) < 201


@pytest.mark.parametrize(("size", "points"), [(12.0, None), (10.0, 272), (10.0, -1)])
def test_numbers_of_points_that_cannot_be(size: float, points: int | None) -> None:
    with pytest.raises(BadOption, match="n_points: found"):
        centres(size, points)


def test_replicated_patches_as_published() -> None:
    found = np.flatnonzero(replicated(centres(10.0), 10.0))
    assert (len(found), found.sum(), found[:5].tolist()) == (71, 9372, [5, 7, 9, 22, 24])


def all_patches(rotation: float, pixels: int) -> list[Patch]:
    return [Patch(theta, phi, 10.0, pixels, rotation) for theta, phi in centres(10.0).tolist()]


def test_c5_no_point_is_in_two_patches_if_they_are_turned() -> None:
    seen = {rotation: np.zeros(12 * 128**2, int) for rotation in (0.0, 45.0)}
    for rotation, count in seen.items():
        for patch in all_patches(rotation, 60):  # a pixel of HEALPix has several pixels of a patch
            count[np.unique(nearest(patch.directions(2, 58)[:, 2:58].reshape(-1, 3), 128))] += 1
    assert seen[45.0].max() == 1
    assert seen[0.0].max() > 1


def test_patches_cover_their_share_of_the_sky() -> None:
    (patch,) = all_patches(45.0, 200)[:1]
    there = patch.directions(0, 200)
    # the solid angle of each pixel: the triple product of its sides, seen from the centre of the sphere
    corners = np.cross(there[1:, :-1] - there[:-1, :-1], there[:-1, 1:] - there[:-1, :-1])
    area = np.abs((corners * there[:-1, :-1]).sum(axis=-1)).sum() * (200 / 199) ** 2
    assert 265 * area / (4 * np.pi) == pytest.approx(0.6375, abs=0.001)


@pytest.mark.parametrize("number", [0, 77, 132, 264])
def test_c5_upright_and_nearest_is_gnomview(smooth_sky: NDArray[np.float64], number: int) -> None:
    patch = all_patches(0.0, 256)[number]
    found = sample(MapInMemory(smooth_sky), patch, interpolation="nearest")
    assert (found == gnomonic(smooth_sky, patch, 256)).mean() >= 0.999


def gnomonic(values: NDArray[np.float64], patch: Patch, pixels: int) -> NDArray[np.float64]:
    """Return what healpy makes of it."""
    projector = healpy.projector.GnomonicProj(
        rot=(np.rad2deg(patch.phi), 90 - np.rad2deg(patch.theta)), xsize=pixels, ysize=pixels, reso=600 / 256
    )
    return projector.projmap(values, lambda x, y, z: healpy.vec2pix(NSIDE, x, y, z, nest=True))  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", [3, 132])
def test_c5_turned_and_bilinear_is_a_turned_gnomview(smooth_sky: NDArray[np.float64], number: int) -> None:
    patch = all_patches(45.0, 256)[number]
    found = sample(MapInMemory(smooth_sky), patch)
    larger = gnomonic(smooth_sky, patch, 384)
    turned = rotate(larger, 45, reshape=False, order=1)[64:-64, 64:-64]
    assert np.corrcoef(found.ravel(), turned.ravel())[0, 1] >= 0.998


def test_rows_may_be_taken_apart(smooth_sky: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch) -> None:
    patch = all_patches(45.0, 100)[50]
    whole = sample(MapInMemory(smooth_sky), patch)
    monkeypatch.setattr("lensflow.lensing.patches.sampling.BAND", 1)
    np.testing.assert_array_equal(whole, sample(MapInMemory(smooth_sky), patch))


def test_an_apron_surrounds_the_same_pixels(smooth_sky: NDArray[np.float64]) -> None:
    patch = all_patches(45.0, 100)[50]
    wide = Patch(patch.theta, patch.phi, 10.0, 100, 45.0, apron=7)
    np.testing.assert_allclose(
        sample(MapInMemory(smooth_sky), wide)[7:-7, 7:-7], sample(MapInMemory(smooth_sky), patch), rtol=0, atol=1e-9
    )


def test_pixels_that_are_missing_are_nan() -> None:
    values = np.zeros(12 * NSIDE**2)
    patch = all_patches(45.0, 64)[100]
    middle = nearest(patch.directions(31, 32)[:, 31], NSIDE)[0]
    values[middle] = np.nan
    found = sample(MapInMemory(values), patch)
    assert np.isnan(found[31, 31])
    assert 0 < np.isnan(found).mean() < 0.01


def test_no_patch_reaches_a_pole() -> None:
    for size in POINTS:
        theta = centres(size)[:, 0]
        reach = Patch(theta[0], 0.0, size, 64).reach()
        assert theta.min() > reach
        assert theta.max() < np.pi - reach
