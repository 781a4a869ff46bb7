"""The simulated TESS image: objects where the WCS says, their flux kept, and the template of it the same image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS

import lensflow as lf
from lensflow.ps1.skymodel import Scene
from lensflow.ps1.tess.image import tan_sip
from lensflow.ps1.tess.scene import MARGIN, READ_NOISE, tess_pixels
from lensflow.ps1.tess.simulate import SimulatedTess, simulate, tess_header

if TYPE_CHECKING:
    from pathlib import Path

SCALE = 40
STEP = 10.0  # arcsec, pixels of the survey at this scale
MEETING = (120.9, 46.1)  # RA, Dec where projections 2246 and 2247 meet


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimulatedTess:
    out = tmp_path_factory.mktemp("sky")
    return simulate(out, centre=MEETING, shape=(50, 60), scale=SCALE, seed=2, stars=30, galaxies=20, noise=False)


def test_the_skycells_are_those_under_the_image_of_all_projections(made: SimulatedTess) -> None:
    assert {cell.projection for cell in made.truth.cells} == {2246, 2247}
    lazy = lf.graph("ps1_convolution")(made.source, selection=(str(made.tess),), scale=SCALE)
    assert sorted(lazy.attrs["selection"]) == sorted(map(str, made.truth.cells))


def test_an_object_is_where_the_wcs_has_it_with_all_its_flux(made: SimulatedTess) -> None:
    header = tess_header(MEETING, shape=(50, 60))
    scene = made.truth.sky.scene
    x, y = WCS(header).all_world2pix(scene.stars["ra"], scene.stars["dec"], 0, quiet=True)
    inside = np.flatnonzero((x > 12) & (x < 47) & (y > 12) & (y < 37))
    assert inside.size > 5
    for at in inside[:5].tolist():
        one = Scene(scene.stars.iloc[[at]], scene.galaxies.iloc[:0], ())
        pixels = tess_pixels(one, tan_sip(header, "test"), step=STEP, seed=None).astype(float)
        row, column = np.indices(pixels.shape)
        total = pixels.sum()
        weights = {"r": 0.238, "i": 0.344, "z": 0.283, "y": 0.135}
        assert total == pytest.approx(sum(weights[b] * float(scene.stars[f"flux_{b}"].iloc[at]) for b in weights))
        centre = (column * pixels).sum() / total, (row * pixels).sum() / total
        np.testing.assert_allclose(centre, (x[at], y[at]), rtol=0, atol=1e-4)


def test_what_is_far_from_the_image_sheds_no_light_on_it(made: SimulatedTess) -> None:
    header = tess_header(MEETING, shape=(50, 60))
    stars = made.truth.sky.scene.stars.iloc[:1]
    none = made.truth.sky.scene.galaxies.iloc[:0]
    away = (60 + 2 * MARGIN) * 20.4 / 3600
    for ra, dec in ((MEETING[0], MEETING[1] + away), (MEETING[0] + 180, -MEETING[1]), (MEETING[0] + 90, 0.0)):
        scene = Scene(stars.assign(ra=ra, dec=dec), none, ())
        assert not tess_pixels(scene, tan_sip(header, "test"), step=STEP, seed=None).any()


def test_noise_is_that_of_a_seed(made: SimulatedTess) -> None:
    image = tan_sip(tess_header(MEETING, shape=(50, 60)), "test")
    scene = replace(made.truth.sky.scene)
    still, one, same, other = (tess_pixels(scene, image, step=STEP, seed=seed) for seed in (None, 1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()
    assert float((one - still).std()) == pytest.approx(READ_NOISE, rel=0.05)


def test_the_template_is_what_tess_sees(made: SimulatedTess, tmp_path: Path) -> None:
    """The whole chain against an image that no part of it had a hand in: two projections, SIP, blur, binning."""
    lazy = lf.graph("ps1_convolution")(made.source, selection=(str(made.tess),), scale=SCALE)
    lazy.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    found = lf.graph("tess_templates")(tmp_path / "a.zarr", made.tess, assign="area")
    assert isinstance(found, xr.Dataset)
    found = found.isel(offset=0).compute(scheduler="sync")
    image = fits.getdata(made.tess)
    flux = found["FLUX_SUM"].values
    clean = (found["MASK"].values == 0) & np.isfinite(flux)
    # a star over a hole is dimmed or spread: what lies within its light of a mark is left out
    near = np.pad(~clean, 3, mode="edge")
    rows, columns = clean.shape
    clean = ~np.any([near[y : y + rows, x : x + columns] for y in range(7) for x in range(7)], axis=0)
    assert clean.mean() > 0.3
    assert np.corrcoef(flux[clean], image[clean])[0, 1] > 0.98  # seeing of 30" is no Gaussian
    for axis in (0, 1):
        assert np.corrcoef(flux[clean], np.roll(image, 1, axis)[clean])[0, 1] < 0.85
    assert float(flux[clean].sum() / image[clean].sum()) == pytest.approx(1, abs=0.03)
