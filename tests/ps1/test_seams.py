"""Where one skycell gives way to the next: no step that noise does not make, on real pixels and on simulated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits

import lensflow as lf
from lensflow.ps1.mosaic import projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import RINGS_V3, SPLIT, Geometry, Skycell

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

    Image = NDArray[np.floating[Any]]

GRAPH = lf.graph("ps1_convolution")
WIDTH = 4  # columns on either side of a seam
STAR = 260, 146  # row, column of a star on the real cutout
GRID = RINGS_V3.projection(1226)
BORDER = 9 * GRID.stride_x + SPLIT  # the first column that cell x = 9 owns
PAIR = Skycell(1226, 0, 8), Skycell(1226, 0, 9)
WORDS: dict[str, Any] = {"bands": ("i",), "weights": (1.0,), "fill": "none"}


def steps(image: Image) -> Image:
    """Return by how much an image rises at each column, from some columns before it to as many from it on.

    The median over rows: objects are on few of them, a seam is on all. NaN where the columns do not suffice.
    """
    found = np.full(image.shape[1], np.nan)
    for column in range(WIDTH, image.shape[1] - WIDTH + 1):
        before, after = image[:, column - WIDTH : column], image[:, column : column + WIDTH]
        found[column] = np.median(after.mean(axis=1) - before.mean(axis=1))
    return found


def significance(image: Image, seam: int) -> float:
    """Return the step at a column over the scatter of the steps at others, out of reach of that one."""
    found = steps(image)
    others = np.abs(np.arange(found.size) - seam) > 2 * WIDTH
    rest = found[others & np.isfinite(found)]
    return float(abs(found[seam] - np.median(rest)) / (1.4826 * np.median(np.abs(rest - np.median(rest)))))


def scatter(pixels: Image) -> float:
    """Return the noise of a pixel of an image with objects."""
    return float(1.4826 * np.median(np.abs(pixels - np.median(pixels))))


def write_pair(folder: Path, real: Path, *, noise: float, level: float = 0.0) -> Path:
    """Write the pixels of a real cutout into both of two skycells that overlap, the border of ownership on its star.

    The second has noise of its own besides, of so many times the noise of the real one, and another level.
    """
    with fits.open(real) as hdus:
        header, pixels = hdus[0].header.copy(), hdus[0].data.astype(np.float64)
    y0, x0 = 1540, BORDER - STAR[1]
    folder.mkdir()
    sigma = scatter(pixels)
    for place, cell in enumerate(PAIR):
        crpix = GRID.cell_crpix(cell.y, cell.x)
        origin = GRID.cell_origin(cell.y, cell.x)
        header["CRPIX1"], header["CRPIX2"] = crpix[0] - (x0 - origin[1]), crpix[1] - (y0 - origin[0])
        header["SKYCELL"] = str(cell)
        if place:
            pixels += np.random.default_rng(5).normal(level * sigma, noise * sigma, pixels.shape)
        fits.PrimaryHDU(pixels.astype(np.float32), header).writeto(folder / f"{cell}.fits")
    return folder


@pytest.fixture(scope="session")
def burst_i(real_data: Path) -> Path:
    return real_data / "ps1" / "frb190608" / "frb190608_panstarrs_iband.fits"


def stitched(source: Path, **words: Any) -> Image:
    _, (plan,) = Options.from_keywords(**words).plan(source)
    pad = plan.layout.pad
    image = projection_image(plan.layout).isel(y=slice(pad, -pad), x=slice(pad, -pad))
    flux: Image = image["flux"].compute(scheduler="sync").values
    return flux


def convolved(source: Path, number: int = 1226, **words: Any) -> xr.Dataset:
    tree = GRAPH(source, **words)
    return tree[f"{number:04d}"].to_dataset().compute(scheduler="sync")


def test_real_pixels_that_two_cells_share_are_stitched_as_if_they_were_one(tmp_path: Path, burst_i: Path) -> None:
    pair = write_pair(tmp_path / "pair", burst_i, noise=0.0)
    alone = write_pair(tmp_path / "alone", burst_i, noise=0.0)
    (alone / f"{PAIR[1]}.fits").unlink()
    np.testing.assert_array_equal(stitched(pair, **WORDS), stitched(alone, **WORDS))
    both, one = (convolved(source, sigma=4.0, **WORDS) for source in (pair, alone))
    np.testing.assert_array_equal(both.flux, one.flux)


def test_a_seam_of_real_pixels_with_noise_of_their_own_is_below_the_noise(tmp_path: Path, burst_i: Path) -> None:
    source = write_pair(tmp_path / "pair", burst_i, noise=1.0)
    for image in (stitched(source, **WORDS), convolved(source, sigma=4.0, **WORDS).flux.values):
        assert abs(steps(image)[STAR[1]]) < 0.2 * scatter(image)
        assert significance(image, STAR[1]) < 3


def test_a_seam_of_half_the_noise_would_be_seen(tmp_path: Path, burst_i: Path) -> None:
    source = write_pair(tmp_path / "pair", burst_i, noise=1.0, level=0.5)
    for image in (stitched(source, **WORDS), convolved(source, sigma=4.0, **WORDS).flux.values):
        assert significance(image, STAR[1]) > 4


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_real_star_on_a_seam_stays_round(tmp_path: Path, burst_i: Path, noise: float) -> None:
    flux = convolved(write_pair(tmp_path / "pair", burst_i, noise=noise), sigma=4.0, **WORDS).flux.values
    y, x = (np.arange(place - 15, place + 16) for place in STAR)
    stamp = flux[np.ix_(y, x)] - np.median(flux)
    row, column = np.mgrid[-15:16, -15:16]
    weight = stamp * np.exp(-(row**2 + column**2) / (2 * 6.0**2))  # the wings are the sky's
    total = weight.sum()
    dy, dx = row - (row * weight).sum() / total, column - (column * weight).sum() / total
    xx, yy, xy = ((one * other * weight).sum() / total for one, other in ((dx, dx), (dy, dy), (dx, dy)))
    ellipticity = float(np.hypot(xx - yy, 2 * xy) / (xx + yy))
    assert ellipticity < 0.05


SCALE = 20
SIMULATED = Geometry(SCALE).projection(2246)


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Four skycells of one sky: with noise, of each cell its own, and without."""
    words: dict[str, Any] = {"rows": (4, 6), "columns": (4, 6), "stars": 60, "galaxies": 20, "bands": ("r", "i")}
    words |= {"format": "zarr", "seed": 8, "scale": SCALE, "defects": False}
    return {noise: simulate(tmp_path_factory.mktemp("sky"), noise=noise, **words).source for noise in (True, False)}


def inner(source: Path, **words: Any) -> xr.DataArray:
    """Return the convolved flux where all of the kernel falls on skycells."""
    reach = SIMULATED.geometry.overlap
    flux: xr.DataArray = convolved(source, 2246, **words)["flux"].isel(y=slice(reach, -reach), x=slice(reach, -reach))
    return flux


def seams(image: xr.DataArray) -> tuple[int, int]:
    """Return the first row and column that the second cells own, in pixels of the image."""
    split = SIMULATED.geometry.split
    return 5 * SIMULATED.stride_y + split - int(image.y[0]), 5 * SIMULATED.stride_x + split - int(image.x[0])


def test_simulated_seams_are_below_the_noise(skies: dict[bool, Path]) -> None:
    words: dict[str, Any] = {"scale": SCALE, "bands": ("r", "i")}
    noisy, still = (inner(skies[noise], **words) for noise in (True, False))
    residual = (noisy - still).values  # no object is left: what remains is noise
    noise = scatter(residual)
    for image, seam in zip((residual.T, residual), seams(noisy), strict=True):
        assert abs(steps(image)[seam]) < 0.5 * noise
        assert significance(image, seam) < 3
        control = image + noise * (np.arange(image.shape[1]) >= seam)
        assert significance(control, seam) > 4


def test_seams_are_no_worse_where_the_background_was_taken_out(skies: dict[bool, Path]) -> None:
    """Each cell decides for itself what is a source: near a seam the two do not make more errors than one does."""
    words: dict[str, Any] = {"scale": SCALE, "bands": ("r", "i"), "background": "sep"}
    cleaned, truth = inner(skies[True], **words), inner(skies[False], **words)
    error = (cleaned - truth).values
    near = np.zeros(error.shape, bool)
    row, column = seams(cleaned)
    near[row - 6 : row + 6] = near[:, column - 6 : column + 6] = True
    assert near.mean() > 0.03
    typical = [float(np.percentile(np.abs(error[where]), 90)) for where in (near, ~near)]
    assert typical[0] < 1.3 * typical[1]
