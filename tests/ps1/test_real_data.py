"""Real PS1 cutouts through the readers and the graph: the pinned numbers A3 and A5 to A10."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates

import lensflow as lf
from lensflow.arrays.fits import FitsImage, read_image_header
from lensflow.errors import BadInput
from lensflow.ps1.bands import A, Scaling
from lensflow.ps1.cells import Rect, check_header
from lensflow.ps1.encode import Scaling as Encoding
from lensflow.ps1.fits_cells import FitsBand, list_fits
from lensflow.ps1.mosaic import projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.tessellation import RINGS_V3, Skycell

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

QUANTUM = {"g": 0.50, "r": 1.09, "i": 6.43, "z": 2.21}  # counts, the largest error of the derived files


@pytest.fixture(scope="session")
def supernova(real_data: Path) -> Path:
    """Linear cutouts g, r, i, z of one field, among files of other surveys."""
    return real_data / "ps1" / "hostphot_SN2006bh"


@pytest.fixture(scope="session")
def burst(real_data: Path) -> Path:
    """Linear cutouts r, i of one field that cover different pixels."""
    return real_data / "ps1" / "frb190608"


def stitched(source: Path, **options: object) -> xr.DataArray:
    """Return the flux of the only projection before it is convolved."""
    _, (plan,) = Options.from_keywords(**options).plan(source)
    pad = plan.layout.pad
    image = projection_image(plan.layout).isel(y=slice(pad, -pad), x=slice(pad, -pad))
    return image.compute(scheduler="sync")["flux"]


def brightest(flux: NDArray[np.float32]) -> tuple[int, ...]:
    """Return (y, x) of the peak."""
    return tuple(int(i) for i in np.unravel_index(flux.argmax(), flux.shape))


def band_flux(folder: Path, band: str) -> NDArray[np.float32]:
    """Return the flux of one band as its reader gives it."""
    (cell,), _ = list_fits(folder, RINGS_V3)
    files = cell.band(band)
    assert files is not None
    reader = FitsBand(files, RINGS_V3.projection(cell.cell.projection), cell.cell, weight=False)
    try:
        return reader.flux(0, files.rect.shape[0])
    finally:
        reader.close()


def grid_origin(folder: Path, band: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (x, y) of the first pixel of a cutout, in its cell and on the grid of its projection."""
    (cell,), _ = list_fits(folder, RINGS_V3)
    files = cell.band(band)
    assert files is not None
    y, x = RINGS_V3.projection(cell.cell.projection).cell_origin(cell.cell.y, cell.cell.x)
    return (files.rect.x0, files.rect.y0), (files.rect.x0 + x, files.rect.y0 + y)


def test_a3_cutouts_lie_on_whole_pixels_of_their_cells(supernova: Path, burst: Path) -> None:
    for band in "griz":
        assert grid_origin(supernova, band) == ((811, 3923), (29611, 3923))
    assert grid_origin(burst, "i") == ((1270, 1540), (53569, 1540))
    assert grid_origin(burst, "r") == ((1290, 1560), (53589, 1560))


def test_a3_crpix_and_tangent_point_of_the_files_are_whole_to_1e_6(supernova: Path, burst: Path) -> None:
    for path in (*supernova.glob("PS1_*.fits"), *burst.glob("*.fits")):
        _, header = read_image_header(path)
        cell = Skycell.parse(header["SKYCELL"])
        full = RINGS_V3.projection(cell.projection).cell_crpix(cell.y, cell.x)
        for crpix, key in zip(full, ("CRPIX1", "CRPIX2"), strict=True):
            assert abs(crpix - header[key] - round(crpix - header[key])) < 1e-6


def test_a3_origin_of_a_header_of_a_southern_cell() -> None:
    cell, projection = Skycell.parse("skycell.0637.097"), RINGS_V3.projection(637)
    header = {
        "SKYCELL": "skycell.0637.097",
        "CRVAL1": projection.ra,
        "CRVAL2": projection.dec,
        "CRPIX1": -13531.5,
        "CRPIX2": -28105.5,
        "CDELT1": 6.94444461259988e-05,
        "CDELT2": 6.94444461259988e-05,
        "PC001001": -1.0,
        "PC002002": 1.0,
        "NAXIS1": 240,
        "NAXIS2": 240,
    }
    assert check_header(header, "cutout.fits", projection, cell) == Rect(5191, 2183, 5431, 2423)


@pytest.mark.parametrize(
    ("band", "mean", "peak", "corner"),
    [
        ("g", 0.190695099, 15.8220419, -0.0221148934),
        ("r", 0.409141805, 37.7330322, -0.000216859683),
        ("i", 0.565131813, 63.2741683, -0.061350927),
        ("z", 0.70648206, 80.7916992, 0.458255132),
    ],
)
def test_a5_flux_of_the_supernova_field(supernova: Path, band: str, mean: float, peak: float, corner: float) -> None:
    flux = band_flux(supernova, band)
    assert flux.mean(dtype="f8") == pytest.approx(mean, rel=1e-6)
    assert flux.max() == pytest.approx(peak, rel=1e-6)
    assert flux[0, 0] == pytest.approx(corner, rel=1e-6)
    assert brightest(flux) == (126, 119)


@pytest.mark.parametrize(
    ("band", "mean", "peak", "where"),
    [("i", 0.0224296707, 16.4827892, (131, 133)), ("r", 0.014321857, 7.99032485, (111, 113))],
)
def test_a5_flux_of_the_burst_field(burst: Path, band: str, mean: float, peak: float, where: tuple[int, int]) -> None:
    flux = band_flux(burst, band)
    assert flux.mean(dtype="f8") == pytest.approx(mean, rel=1e-6)
    assert flux.max() == pytest.approx(peak, rel=1e-6)
    assert brightest(flux) == where


def test_a6_y_absent_renormalise(supernova: Path) -> None:
    flux = stitched(supernova)
    assert flux.shape == (240, 240)
    assert (int(flux.x[0]), int(flux.y[0])) == (29611, 3923)
    assert float(flux.mean(dtype="f8")) == pytest.approx(0.568457244, rel=1e-6)
    assert float(flux.max()) == pytest.approx(61.9778341, rel=1e-6)
    assert float(flux.min()) == pytest.approx(-0.530005242, rel=1e-6)
    assert float(flux[0, 0]) == pytest.approx(0.125468059, rel=1e-6)
    assert float(flux[120, 120]) == pytest.approx(13.7564571, rel=1e-6)
    assert float(flux[239, 239]) == pytest.approx(-0.0380679431, rel=1e-6)


def test_a6_y_absent_skip(supernova: Path) -> None:
    flux = stitched(supernova, missing="skip")
    assert float(flux.mean(dtype="f8")) == pytest.approx(0.491715516, rel=1e-6)
    assert float(flux.max()) == pytest.approx(53.6108265, rel=1e-6)
    assert float(flux[0, 0]) == pytest.approx(0.108529871, rel=1e-6)


def test_a6_y_absent_fail_names_y(supernova: Path) -> None:
    with pytest.raises(BadInput, match=r"skycell\.1329\.005: found no band y"):
        lf.graph("ps1_convolution")(supernova, missing="fail")


def test_a6_files_of_other_surveys_are_listed_and_left_alone(supernova: Path) -> None:
    tree = lf.graph("ps1_convolution")(supernova)
    expected = [f"{survey}_{band}.fits" for survey in ("DES", "SDSS") for band in "girz"]
    assert tree.attrs["ignored_files"] == expected
    assert tree["1329"].attrs["bands_used"] == {"skycell.1329.005": "riz"}


def test_a7_bands_of_different_rectangles(burst: Path) -> None:
    flux = stitched(burst)  # r, i of the default r, i, z, y
    assert flux.shape == (280, 280)
    assert float(flux.mean(dtype="f8")) == pytest.approx(0.0179264724, rel=1e-6)
    assert float(flux.max()) == pytest.approx(13.0099258, rel=1e-6)
    assert brightest(flux.values) == (131, 133)
    assert float(flux[0, 0]) == pytest.approx(-0.08084161, rel=1e-6)  # i alone
    assert float(flux[140, 140]) == pytest.approx(0.767313115, rel=1e-6)


def test_a7_order_of_bands_has_no_effect_beyond_rounding(burst: Path) -> None:
    one, other = stitched(burst, bands=("i", "r")), stitched(burst, bands=("r", "i"))
    assert float(abs(one - other).max()) <= 1e-6 * float(one.max())
    # the weights of the two configured bands alone: w_tot = .582
    assert float(one.max()) == pytest.approx(13.0099258 * 0.582, rel=1e-6)


def test_a7_bands_correlate_only_where_they_are_placed(burst: Path) -> None:
    red = stitched(burst, bands=("r",))
    infrared = stitched(burst, bands=("i",))

    def correlation(dy: int, dx: int) -> float:
        moved = red.assign_coords(y=red.y + dy, x=red.x + dx)
        one, other = xr.align(moved, infrared, join="inner")
        return float(np.corrcoef(one.values.ravel(), other.values.ravel())[0, 1])

    assert correlation(0, 0) == pytest.approx(0.8356, abs=1e-3)
    shifts = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]
    assert max(correlation(*shift) for shift in shifts) <= 0.824
    assert correlation(-20, -20) == pytest.approx(0.016, abs=1e-3)  # unplaced


@pytest.mark.parametrize("band", "griz")
def test_a8_asinh_scaled_files_give_back_the_linear_pixels(real_data: Path, supernova: Path, band: str) -> None:
    path = real_data / "ps1" / "derived_asinh" / f"derived.SN2006bh.skycell.1329.005.stk.{band}.unconv.cutout.fits"
    with FitsImage(path) as image, FitsImage(supernova / f"PS1_{band}.fits") as linear:
        disk, expected = image.rows(0, 240), linear.rows(0, 240).astype("f8")
        scaling = Scaling.from_header(image.header, str(path))
    assert disk.dtype == np.int16
    assert scaling.bsoften is not None
    counts = scaling.flux(disk).astype("f8") * scaling.exptime
    error = np.abs(counts - expected)
    softened = np.sqrt((expected - scaling.boffset) ** 2 + 4 * scaling.bsoften**2)
    assert (error <= 1.02 * scaling.bscale / (2 * A) * softened).all()
    assert error.max() == pytest.approx(QUANTUM[band], abs=0.006)
    relative = error / np.abs(expected)
    assert relative[np.abs(expected) > 0.4 * scaling.bsoften].max() < 4e-4
    assert relative[np.abs(expected) > 2 * scaling.bsoften].max() < 1e-4


@pytest.mark.parametrize("band", "griz")
def test_a8_encoding_what_was_decoded_gives_the_same_integers(real_data: Path, band: str) -> None:
    path = next((real_data / "ps1" / "derived_asinh").glob(f"*.stk.{band}.*"))
    with FitsImage(path) as image:
        disk = image.rows(0, 240)
        one = Scaling.from_header(image.header, str(path))
    assert one.bsoften is not None
    encoding = Encoding(one.bzero, one.bscale, one.bsoften, one.boffset)
    np.testing.assert_array_equal(encoding.encode(one.linear(disk)), disk)


def test_a8_asinh_files_through_the_graph(real_data: Path, supernova: Path) -> None:
    raw, linear = stitched(real_data / "ps1" / "derived_asinh"), stitched(supernova)
    # half a quantum of r, i, z in counts/s, weighted
    bound = sum(w * QUANTUM[b] / t for b, w, t in (("r", 0.238, 720), ("i", 0.344, 1860), ("z", 0.283, 720))) / 0.865
    error = abs(raw.astype("f8") - linear)
    assert 0 < float(error.max()) <= bound + 1e-5


def convolved(source: Path, **options: object) -> xr.Dataset:
    tree = lf.graph("ps1_convolution")(source, **options)
    return tree["1329"].to_dataset().compute(scheduler="sync")


@pytest.mark.parametrize(
    ("sigma", "radius", "at", "expected"),
    [
        (40, 470, 120, (1.8727945, 0.99460493, 1.8829531)),  # zero-filled, coverage, normalised
        (40, 470, 0, (0.014359751, 0.25501165, 0.056310177)),
        (60, 470, 120, (1.0655542, 0.9110602, 1.169576)),
        (10, 78, 0, (0.00045776798, 0.270345, 0.0016932733)),
    ],
)
def test_a9_convolved_values(
    supernova: Path, sigma: float, radius: int, at: int, expected: tuple[float, float, float]
) -> None:
    zero, coverage, normalised = expected
    plain = convolved(supernova, sigma=sigma, radius=radius, nan="zero")
    result = convolved(supernova, sigma=sigma, radius=radius)
    peak = float(result.flux.max())
    assert float(plain.flux[at, at]) == pytest.approx(zero, abs=2e-6 * peak)
    assert float(result.flux[at, at]) == pytest.approx(normalised, abs=2e-6 * peak)
    for one in (plain, result):
        assert float(one.coverage[at, at]) == pytest.approx(coverage, abs=2e-6)


def test_a9_peak_of_the_narrow_kernel(supernova: Path) -> None:
    flux = convolved(supernova, sigma=10, radius=78, nan="zero").flux
    assert float(flux.max()) == pytest.approx(9.7204802, rel=2e-6)
    assert brightest(flux.values) == (126, 119)


@pytest.mark.parametrize("band", "riz")
def test_a10_nucleus_lies_where_another_camera_sees_it(supernova: Path, band: str) -> None:
    tree = lf.graph("ps1_convolution")(supernova, bands=(band,), sigma=1)
    wcs = WCS(fits.Header(tree["1329"].attrs["wcs"]))
    rows, columns = np.mgrid[0:240, 0:240]
    with fits.open(supernova / f"DES_{band}.fits") as hdus:
        hdus[0].header.remove("MJD-OBS")  # astropy would derive DATE-OBS from it, with a warning
        # the labels of the two frames differ by some mas, 1 % of the tolerance
        x, y = WCS(hdus[0].header).wcs_world2pix(*wcs.wcs_pix2world(columns, rows, 0), 0)
        other = map_coordinates(hdus[0].data.astype("f8"), [y, x], order=1, mode="nearest")
    pixels = stitched(supernova, bands=(band,)).values.astype("f8")
    round_it = slice(122, 131), slice(115, 124)  # 9 x 9 px round x 119, y 126
    for image, tolerance in ((other, 0.5), (pixels, 0.03)):
        weight = image[round_it]
        assert (weight * columns[round_it]).sum() / weight.sum() == pytest.approx(118.91, abs=tolerance)
        assert (weight * rows[round_it]).sum() / weight.sum() == pytest.approx(126.02, abs=tolerance)

    # the nucleus is near the middle, so a mirrored image would pass by its centroid: look at the sources far from it
    far = np.hypot(rows - 126, columns - 119) > 45

    def correlation(one: NDArray[np.float64]) -> float:
        return float(np.corrcoef(one[far], pixels[far])[0, 1])

    assert correlation(other) > 0.2 + max(correlation(other[:, ::-1]), correlation(other[::-1]))
