"""Simulated skycells: files as the archive's, of a sky that is known."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.bands import WEIGHTS
from lensflow.ps1.encode import A
from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.observe import GAIN, SKY_NOISE
from lensflow.ps1.render import render_flux
from lensflow.ps1.simulate import simulate
from lensflow.ps1.skymodel import Scene
from lensflow.ps1.tessellation import RINGS_V3, Geometry, Skycell, grid_to_sky, sky_to_grid
from lensflow.ps1.truth import EXPTIME, SATURATION, Truth, grid_of, window_of

SCALE = 40
HERE, EAST = "skycell.2246.033", "skycell.2246.032"  # neighbours: x falls towards the east
PAIR = (HERE, EAST)


@dataclass(frozen=True)
class Band:
    """A file as read by astropy, and undone by the law."""

    header: fits.Header
    disk: NDArray[np.int16]
    linear: NDArray[np.float64]

    @property
    def quantum(self) -> NDArray[np.float64]:
        """Counts from a stored number to the next."""
        slope = np.hypot(self.linear - self.header["BOFFSET"], 2 * self.header["BSOFTEN"]) / A
        return np.asarray(self.header["BSCALE"] * slope)


def read(truth: Truth, cell: str, band: str, kind: str = "") -> Band:
    with fits.open(file(truth, cell, band, kind), do_not_scale_image_data=True) as hdus:
        header, disk = hdus[1].header, hdus[1].data
        v = header.get("BZERO", 0.0) + header["BSCALE"] * disk.astype(np.float64)
        linear = header["BOFFSET"] + 2 * header["BSOFTEN"] * np.sinh(v / A)
        return Band(header, disk, np.where(disk == 32767, np.nan, linear))


def read_mask(truth: Truth, cell: str, band: str) -> NDArray[np.uint16]:
    with fits.open(file(truth, cell, band, ".mask")) as hdus:
        return np.asarray(hdus[1].data)


def file(truth: Truth, cell: str, band: str, kind: str = "") -> Path:
    return truth.root / f"rings.v3.{cell}.stk.{band}.unconv{kind}.fits"


def overlap(here: NDArray[Any], east: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the columns that HERE and EAST share: the first of HERE, the last of EAST."""
    shared = Geometry(SCALE).overlap
    return here[:, :shared], east[:, -shared:]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return simulate(tmp_path_factory.mktemp("sky"), PAIR, scale=SCALE, seed=1)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return simulate(tmp_path_factory.mktemp("still"), PAIR, scale=SCALE, seed=1, noise=False)


# files as the archive's


def test_files_have_the_archives_names(sky: Truth) -> None:
    names = {path.name for path in sky.root.glob("*.fits")}
    kinds = ("", ".mask", ".wt")
    assert names == {f"rings.v3.{cell}.stk.{b}.unconv{kind}.fits" for cell in PAIR for b in "rizy" for kind in kinds}
    assert sky.source == sky.root


@pytest.mark.parametrize(("kind", "bits"), [("", 16), (".wt", 16), (".mask", 16)])
def test_pixels_are_compressed_row_by_row(sky: Truth, kind: str, bits: int) -> None:
    grid = Geometry(SCALE).projection(2246)
    with fits.open(file(sky, HERE, "r", kind), disable_image_compression=True) as hdus:
        assert len(hdus) == 2
        assert hdus[0].header["NAXIS"] == 0
        header = hdus[1].header
    assert (header["ZIMAGE"], header["ZCMPTYPE"], header["ZBITPIX"]) == (True, "RICE_1", bits)
    assert (header["ZTILE1"], header["ZTILE2"]) == (grid.width, 1)
    assert (header["ZNAXIS1"], header["ZNAXIS2"]) == (grid.width, grid.height)
    if kind == ".mask":
        assert (header["BZERO"], header["BSCALE"]) == (32768, 1)


@pytest.mark.parametrize("kind", ["", ".wt", ".mask"])
@pytest.mark.parametrize("band", ["r", "y"])
def test_headers_say_what_the_archives_say(sky: Truth, band: str, kind: str) -> None:
    with fits.open(file(sky, HERE, band, kind), do_not_scale_image_data=True) as hdus:
        header = hdus[1].header
    grid = Geometry(SCALE).projection(2246)
    expected = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": float(np.float32(grid.ra)),  # the survey's own table is rounded
        "CRVAL2": 46.0,
        "CRPIX1": grid.cell_crpix(3, 3)[0],
        "CRPIX2": grid.cell_crpix(3, 3)[1],
        "CDELT1": grid.geometry.pixel_scale,
        "CDELT2": grid.geometry.pixel_scale,
        "PC001001": -1.0,
        "PC001002": 0.0,
        "PC002001": 0.0,
        "PC002002": 1.0,
        "SKYCELL": HERE,
        "TESS_ID": "RINGS.V3",
        "FPA.FILTERID": f"{band}.00000",
        "FPA.ZP": 25.0,
        "CELL.TRIMSEC": f"[1:{grid.width},1:{grid.height}]",
        "EXPTIME": {"r": 720.0, "y": 500.0}[band],
    }
    for key, value in expected.items():
        assert header[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-15)), key
    assert header["NINPUTS"] > 0
    assert header["CELL.SATURATION"] > 1e6
    for key in ("RADESYS", "RADECSYS", "EQUINOX", "CD1_1", "PC1_1", "LONPOLE"):
        assert key not in header, key
    text = header.tostring(sep="\n")
    for key in ("FPA.FILTERID", "FPA.ZP", "CELL.TRIMSEC", "CELL.SATURATION"):
        assert re.search(rf"^HIERARCH {re.escape(key)} ", text, re.MULTILINE), key
    scaled = {"BSOFTEN", "BOFFSET", "BLANK"}
    assert scaled.isdisjoint(header) if kind == ".mask" else scaled.issubset(header)


@pytest.mark.filterwarnings("ignore:PC0:astropy.wcs.FITSFixedWarning")  # the obsolete spelling
def test_images_are_not_mirrored(sky: Truth) -> None:
    header = read(sky, HERE, "r").header
    grid = grid_of(sky.geometry, 2246)
    y0, x0 = grid.cell_origin(3, 3)
    wcs = WCS(header)
    ra, dec = wcs.wcs_pix2world([[10, 20], [100, 20]], 0).T
    assert ra[0] > ra[1]
    x, y = sky_to_grid(grid, ra, dec)
    np.testing.assert_allclose([x - x0, y - y0], [[10, 100], [20, 20]], atol=1e-8)


def test_crval_is_that_of_a_real_header_of_the_same_declination(tmp_path: Path) -> None:
    truth = simulate(tmp_path, ("skycell.2559.028",), scale=240, mode="constant", bands=("r",))
    assert read(truth, "skycell.2559.028", "r").header["CRVAL1"] == pytest.approx(229.0909118652344, rel=1e-15)


def test_int16_survives_decoding_and_encoding(sky: Truth) -> None:
    image = read(sky, HERE, "i")
    v = A * np.arcsinh((image.linear - image.header["BOFFSET"]) / (2 * image.header["BSOFTEN"]))
    again = np.rint((v - image.header["BZERO"]) / image.header["BSCALE"])
    np.testing.assert_array_equal(np.where(np.isnan(again), 32767, again), image.disk)
    assert (image.disk == 32767).any()


# the sky


@pytest.mark.parametrize("band", ["r", "i", "z", "y"])
def test_without_noise_overlaps_are_the_same_sky(still: Truth, band: str) -> None:
    here, east = read(still, HERE, band), read(still, EAST, band)
    a, b = overlap(here.linear, east.linear)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    half = 0.5 * np.add(*overlap(here.quantum, east.quantum)) * (1 + 1e-6)
    assert (np.abs(a - b) <= half)[np.isfinite(a)].all()
    np.testing.assert_array_equal(*overlap(read_mask(still, HERE, band), read_mask(still, EAST, band)))
    assert np.nanmax(a) > 50 * np.nanmedian(np.abs(a))  # there is something to see


def test_without_noise_and_rounding_overlaps_are_the_same_to_the_last_bit(still: Truth) -> None:
    grid = grid_of(still.geometry, 2246)
    images = [still.sky.flux(grid, window_of(grid, cell), "r") for cell in still.cells]
    np.testing.assert_array_equal(*overlap(*images))


def test_noise_differs_between_overlapping_cells_bands_and_seeds(sky: Truth, still: Truth, tmp_path: Path) -> None:
    a, b = overlap(read(sky, HERE, "r").linear, read(sky, EAST, "r").linear)
    difference = (a - b)[np.isfinite(a)]
    assert np.median(np.abs(difference)) == pytest.approx(
        0.6745 * 2**0.5 * SKY_NOISE["r"] * EXPTIME["r"], rel=0.15
    )  # of two draws, mostly empty sky
    noise = {band: (read(sky, HERE, band).linear - read(still, HERE, band).linear) for band in "ri"}
    seen = np.isfinite(noise["r"]) & np.isfinite(noise["i"]) & (read(still, HERE, "i").linear < 100)
    assert abs(np.corrcoef(noise["r"][seen], noise["i"][seen])[0, 1]) < 0.1
    east = read(sky, EAST, "r").linear - read(still, EAST, "r").linear
    seen = np.isfinite(noise["r"]) & np.isfinite(east)
    assert abs(np.corrcoef(noise["r"][seen], east[seen])[0, 1]) < 0.1  # pixel by pixel of the cells
    other = simulate(tmp_path, (HERE,), scale=SCALE, seed=2, bands=("r",))
    assert not np.array_equal(read(other, HERE, "r").disk, read(sky, HERE, "r").disk)
    assert not other.stars["ra"].isin(sky.stars["ra"]).any()


def test_noise_has_the_variance_that_the_weights_state(sky: Truth, still: Truth) -> None:
    for band in "rizy":
        noisy, calm = read(sky, HERE, band), read(still, HERE, band)
        pulls = (noisy.linear - calm.linear) / np.sqrt(read(sky, HERE, band, ".wt").linear)
        pulls = pulls[np.isfinite(pulls)]
        assert pulls.mean() == pytest.approx(0, abs=0.03)
        assert pulls.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("band", ["r", "i", "z", "y"])
def test_weights_are_the_variance_of_the_counts(still: Truth, band: str) -> None:
    image, weight = read(still, HERE, band), read(still, HERE, band, ".wt")
    expected = (SKY_NOISE[band] * EXPTIME[band]) ** 2 + image.linear / GAIN
    np.testing.assert_array_equal(np.isnan(weight.linear), np.isnan(image.linear))
    error = 0.5 * weight.quantum + 0.5 * image.quantum / GAIN + 1e-6 * expected
    assert (np.abs(weight.linear - expected) <= error)[np.isfinite(error)].all()
    assert weight.header["BSOFTEN"] != image.header["BSOFTEN"]  # the law with its own constants


def combined(truth: Truth, cell: str, error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sum w f / sum w over the bands with a value; add up half quanta into the error."""
    total, weight = np.zeros_like(error), np.zeros_like(error)
    for band, w in WEIGHTS.items():
        image = read(truth, cell, band)
        seen = np.isfinite(image.linear)
        total += np.where(seen, w * image.linear / EXPTIME[band], 0)
        error += np.where(seen, w * image.quantum / EXPTIME[band] / 2, 0)
        weight += w * seen
    weight[weight == 0] = np.nan
    error /= weight
    return np.asarray(total / weight)


@pytest.mark.parametrize("cell", PAIR)
def test_truth_is_what_the_cells_hold(still: Truth, cell: str) -> None:
    (y0, y1), (x0, x1) = window_of(grid_of(still.geometry, 2246), Skycell.parse(cell))
    image = still.image().sel(y=slice(y0, y1 - 1), x=slice(x0, x1 - 1)).to_numpy()
    error = np.zeros_like(image)
    found = combined(still, cell, error)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(image))
    seen = np.isfinite(image)
    assert (np.abs(found - image) <= error * (1 + 1e-6) + 1e-6 * np.abs(image))[seen].all()
    mask = still.mask().sel(y=slice(y0, y1 - 1), x=slice(x0, x1 - 1)).to_numpy()
    bits = np.bitwise_or.reduce([read_mask(still, cell, band) for band in "rizy"])
    np.testing.assert_array_equal(bits, mask)


def test_truth_covers_the_box_of_the_cells(still: Truth) -> None:
    image = still.image()
    grid = still.geometry.projection(2246)
    assert image.dims == ("y", "x")
    assert (image.y[0], image.x[0]) == grid.cell_origin(3, 2)
    assert image.shape == (grid.height, grid.width + grid.stride_x)
    assert np.isfinite(still.image(holes=False)).all()
    whole, holed = xr.align(still.image(holes=False), image, join="exact")
    one_value = float(abs(whole - holed).quantile(0.9))
    assert one_value < 1e-6  # bands are missing at few pixels only
    with pytest.raises(BadOption, match="projection: found 2247, expected one of which cells were simulated"):
        still.image(2247)


def test_stars_are_where_the_list_says(still: Truth) -> None:
    grid = grid_of(still.geometry, 2246)
    image = still.image(holes=False)
    bright = still.stars[still.stars["flux_r"] > 600]
    x, y = (np.rint(value) for value in sky_to_grid(grid, bright["ra"], bright["dec"]))
    (top, bottom), (left, right) = (image[dim].to_numpy()[[0, -1]] for dim in "yx")
    inside = (x >= left + 5) & (x <= right - 5) & (y >= top + 5) & (y <= bottom - 5)
    assert inside.sum() > 15
    for at_x, at_y in zip(x[inside], y[inside], strict=True):
        near = image.sel(x=slice(at_x - 5, at_x + 5), y=slice(at_y - 5, at_y + 5))
        assert float(image.sel(x=at_x, y=at_y)) > 3 * float(near.min())


@pytest.mark.parametrize(("number", "y", "x"), [(1322, 5, 5), (2246, 9, 0), (2634, 9, 9), (2643, 2, 1)])
def test_galaxies_keep_their_angle_to_the_north(number: int, y: int, x: int) -> None:
    """Far from the tangent point north is not along the columns."""
    grid = RINGS_V3.projection(number)
    y0, x0 = (start + 100 for start in grid.cell_origin(y, x))
    ra, dec = (float(value) for value in grid_to_sky(grid, x0, y0))
    angle = 0.5  # rad, north through east
    galaxy = {"ra": ra, "dec": dec, "flux_r": 1e4, "r_e": 8.0, "axis_ratio": 0.4, "angle": angle}
    scene = Scene(pd.DataFrame({"ra": [], "dec": [], "flux_r": []}), pd.DataFrame([galaxy]), ())
    image = render_flux(scene, grid, ((y0 - 99, y0 + 100), (x0 - 99, x0 + 100)), band="r").astype(float)
    assert image.sum() == pytest.approx(1e4, rel=0.1)
    dy, dx = np.mgrid[-99:100, -99:100]
    turn = 0.5 * np.arctan2(2 * (image * dx * dy).sum(), (image * (dx**2 - dy**2)).sum())  # of the major axis
    ends = np.array([-30, 30])
    tip_ra, tip_dec = grid_to_sky(grid, x0 + ends * np.cos(turn), y0 + ends * np.sin(turn))
    east, north = np.diff(tip_ra) * np.cos(np.deg2rad(dec)), np.diff(tip_dec)
    assert np.arctan(east / north) == pytest.approx(angle, abs=0.01)


def test_the_sky_does_not_depend_on_the_cells_asked_for(still: Truth, tmp_path: Path) -> None:
    alone = simulate(tmp_path, (EAST,), scale=SCALE, seed=1, noise=False, bands=("i",))
    assert file(alone, EAST, "i").read_bytes() == file(still, EAST, "i").read_bytes()
    assert file(alone, EAST, "i", ".mask").read_bytes() == file(still, EAST, "i", ".mask").read_bytes()


def test_far_reaching_objects_are_seen_where_cells_are_tiny(tmp_path: Path) -> None:
    words: dict[str, Any] = {"scale": 240, "seed": 2, "noise": False, "bands": ("i",), "stars": 100, "weights": False}
    alone = simulate(tmp_path / "alone", ("skycell.2246.044",), **words)
    among = simulate(tmp_path / "among", rows=(3, 6), columns=(3, 6), **words)
    assert file(alone, "skycell.2246.044", "i").read_bytes() == file(among, "skycell.2246.044", "i").read_bytes()


@pytest.mark.parametrize("pair", [("skycell.2246.050", "skycell.2247.059"), ("skycell.2224.050", "skycell.2157.059")])
def test_projections_show_the_same_stars(pair: tuple[str, str], tmp_path: Path) -> None:
    """The cells at the ends of two neighbouring projections see one sky, at RA 0 too."""
    truth = simulate(tmp_path, pair, scale=SCALE, seed=3, noise=False, bands=("r",), defects=False, galaxies=0)
    both = np.full(len(truth.stars), fill_value=True)
    places = []
    for cell in truth.cells:
        grid = grid_of(truth.geometry, cell.projection)
        (y0, y1), (x0, x1) = window_of(grid, cell)
        x, y = sky_to_grid(grid, truth.stars["ra"], truth.stars["dec"])
        both &= (x > x0 + 3) & (x < x1 - 4) & (y > y0 + 3) & (y < y1 - 4)
        places.append((cell.projection, x, y))
    assert both.sum() > 20
    star = int(np.flatnonzero(both)[np.argmax(truth.stars["flux_r"][both])])
    sums = []
    for number, x, y in places:
        near = {dim: slice(at[star] - 3, at[star] + 3) for dim, at in (("y", y), ("x", x))}
        sums.append(float(truth.image(number).sel(near).sum()))
    assert sums[0] == pytest.approx(sums[1], rel=0.1)
    assert min(sums) > 0.5 * WEIGHTS["r"] * truth.stars["flux_r"][star]


def test_defects_mark_what_they_spoil(tmp_path: Path) -> None:
    truth = simulate(tmp_path, projection=2246, rows=(3, 5), columns=(3, 5), scale=20, seed=2, bands=("r",))
    linear = np.concatenate([read(truth, str(cell), "r").linear.ravel() for cell in truth.cells])
    bits = np.concatenate([read_mask(truth, str(cell), "r").ravel() for cell in truth.cells])
    for name in ("DETECTOR", "BLANK", "SAT", "STARCORE", "SPIKE", "GHOST", "STREAK"):
        assert (bits & MaskBit[name]).any(), name
    np.testing.assert_array_equal(np.isnan(linear), (bits & MaskBit.BLANK) != 0)
    saturated = (bits & MaskBit.SAT) != 0
    np.testing.assert_array_equal(saturated, (bits & MaskBit.STARCORE) != 0)
    assert (linear[saturated & np.isfinite(linear)] > 0.95 * SATURATION).all()
    assert (linear[~saturated & np.isfinite(linear)] < 1.05 * SATURATION).all()
    assert 0.9 < np.mean(bits == 0) < 1


# modes


def test_labels_are_ten_times_row_plus_column(tmp_path: Path) -> None:
    truth = simulate(tmp_path, rows=(3, 5), columns=(8, 10), scale=SCALE, mode="label", seed=1)
    for cell in truth.cells:
        for band in "rizy":
            flux = read(truth, str(cell), band).linear / EXPTIME[band]
            np.testing.assert_allclose(flux, 10 * cell.y + cell.x, rtol=1e-12)
            np.testing.assert_array_equal(read_mask(truth, str(cell), band), 10 * cell.y + cell.x)
    with pytest.raises(BadOption, match="mode: found 'label', expected another"):
        truth.image()


def test_constant_is_constant(tmp_path: Path) -> None:
    truth = simulate(tmp_path, PAIR, scale=SCALE, mode="constant", value=3.0)
    for band in "rizy":
        np.testing.assert_allclose(read(truth, HERE, band).linear / EXPTIME[band], 3.0, rtol=1e-12)
        assert not read_mask(truth, HERE, band).any()
    np.testing.assert_allclose(truth.image(), 3.0, rtol=1e-7)


def test_delta_is_one_pixel_of_the_grid(tmp_path: Path) -> None:
    grid = Geometry(SCALE).projection(2246)
    y0, x0 = grid.cell_origin(3, 3)
    truth = simulate(tmp_path, PAIR, scale=SCALE, mode="delta", value=50.0, delta=(y0 + 40, x0 + 2))  # in the overlap
    for cell, column in ((HERE, 2), (EAST, grid.stride_x + 2)):
        flux = read(truth, cell, "z").linear / EXPTIME["z"]
        assert flux[40, column] == pytest.approx(50, rel=1e-9)
        flux[40, column] = 0
        np.testing.assert_allclose(flux, 0, atol=1e-12)
    assert float(truth.image().sel(y=y0 + 40, x=x0 + 2)) == pytest.approx(50)
    assert float(truth.image().sum()) == pytest.approx(50)


# formats


def test_zarr_holds_what_fits_holds(sky: Truth, tmp_path: Path) -> None:
    store = simulate(tmp_path, PAIR, scale=SCALE, seed=1, format="zarr")
    root = zarr.open_group(store.source, mode="r")
    for band in "rizy":
        for kind in ("", "wt"):
            image, array = read(sky, HERE, band, kind and f".{kind}"), array_of(root, HERE, band, kind)
            header = fits.Header.fromstring(str(array.attrs["header"]))
            for key in ("BOFFSET", "BSOFTEN", "BZERO", "BSCALE", "EXPTIME", "CRPIX1", "SKYCELL", "FPA.FILTERID"):
                assert header[key] == image.header[key], key
            v = np.asarray(array[:])  # BZERO and BSCALE are applied already
            assert v.dtype == np.float32
            linear = header["BOFFSET"] + 2 * header["BSOFTEN"] * np.sinh(v.astype(np.float64) / A)
            np.testing.assert_array_equal(np.isnan(linear), np.isnan(image.linear))
            assert (np.abs(linear - image.linear) <= 0.1 * image.quantum)[np.isfinite(linear)].all()
        bits = array_of(root, HERE, band, "mask")
        assert bits.dtype == np.uint16
        np.testing.assert_array_equal(bits[:], read_mask(sky, HERE, band))


def array_of(root: zarr.Group, cell: str, band: str, kind: str) -> zarr.Array[Any]:
    found = root[f"2246/{cell}/{band}{kind and '_'}{kind}"]
    assert isinstance(found, zarr.Array)
    return found


def test_zarr_may_keep_what_int16_rounds(sky: Truth, tmp_path: Path) -> None:
    store = simulate(tmp_path, (HERE,), scale=SCALE, seed=1, format="zarr", quantise=False, bands=("r",))
    array = array_of(zarr.open_group(store.source, mode="r"), HERE, "r", "")
    image = read(sky, HERE, "r")
    steps = (np.asarray(array[:], np.float64) - image.header["BZERO"]) / image.header["BSCALE"]
    seen = np.isfinite(steps)
    assert 0.2 < np.abs(steps - image.disk)[seen].max() <= 0.51
    with pytest.raises(BadOption, match="quantise: found False for FITS"):
        simulate(tmp_path, (HERE,), scale=SCALE, quantise=False)


@pytest.mark.parametrize("form", ["fits", "zarr"])
def test_the_same_seed_writes_the_same_bytes(form: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        simulate(tmp_path / name, (HERE,), scale=SCALE, seed=5, format=form)
    first, second = (contents(tmp_path / name) for name in ("a", "b"))
    assert first == second
    assert len(first) > 12


@pytest.mark.parametrize("form", ["fits", "zarr"])
def test_reuse_repeats_pixels_under_right_headers(form: Any, tmp_path: Path) -> None:
    truth = simulate(tmp_path, PAIR, scale=SCALE, seed=1, format=form, reuse=True, bands=("r",))
    grid = truth.geometry.projection(2246)
    found: list[tuple[NDArray[Any], fits.Header]] = []
    for cell in PAIR:
        if form == "fits":
            image = read(truth, cell, "r")
            found.append((image.disk, image.header))
        else:
            array = array_of(zarr.open_group(truth.source, mode="r"), cell, "r", "")
            found.append((np.asarray(array[:]), fits.Header.fromstring(str(array.attrs["header"]))))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert [header["SKYCELL"] for _, header in found] == list(PAIR)
    assert [header["CRPIX1"] for _, header in found] == [grid.cell_crpix(3, 3)[0], grid.cell_crpix(3, 2)[0]]
    assert found[0][1]["BSOFTEN"] == found[1][1]["BSOFTEN"]


# lists, and what is left out


def test_lists_lie_where_a_ccd_has_them(tmp_path: Path) -> None:
    truth = simulate(tmp_path, ("skycell.0714.074", HERE), scale=SCALE, seed=1, bands=("r",), sector=7, camera=1, ccd=4)
    place = "sector_0007/camera_1/ccd_4"
    assert truth.selection == tmp_path / f"skycell_pixel_mapping/{place}/tess_s0007_1_4_master_skycells_list.csv"
    assert truth.catalogue == tmp_path / f"catalogs/{place}/gaia_catalog_s0007_1_4.csv"
    table = pd.read_csv(truth.selection)
    assert table[["NAME", "projection", "y", "x"]].to_numpy().tolist() == [
        ["skycell.0714.074", 714, 7, 4],
        [HERE, 2246, 3, 3],
    ]
    for row, cell in zip(table.to_dict("records"), truth.cells, strict=True):
        grid = truth.geometry.projection(cell.projection)
        assert (row["NAXIS1"], row["NAXIS2"]) == (grid.width, grid.height)
        assert (row["CRPIX1"], row["CRPIX2"]) == pytest.approx(grid.cell_crpix(cell.y, cell.x), rel=1e-12)
        assert (row["CRVAL1"], row["CRVAL2"]) == pytest.approx((grid.ra, grid.dec), abs=2e-5)


def test_gaia_sees_the_stars(sky: Truth) -> None:
    gaia = pd.read_csv(sky.catalogue)
    assert list(gaia) == ["source_id", "ra", "dec", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag"]
    assert gaia["source_id"].is_unique
    assert gaia["phot_g_mean_mag"].max() < 20.7
    assert 0 < gaia["phot_bp_mean_mag"].isna().mean() < 0.1  # some colours are unmeasured
    joined = gaia.merge(sky.stars, on="source_id", suffixes=("", "_true"), validate="one_to_one")
    assert len(joined) == len(gaia) > 100
    np.testing.assert_allclose(joined[["ra", "dec"]], joined[["ra_true", "dec_true"]], rtol=0, atol=1e-11)


def test_stars_grow_in_number_as_ten_to_the_0_3_m(tmp_path: Path) -> None:
    truth = simulate(tmp_path, (HERE,), scale=240, seed=8, stars=3000, galaxies=0, bands=("r",))
    magnitude = 25 - 2.5 * np.log10(truth.stars["flux_r"])
    assert 12 <= magnitude.min() < magnitude.max() <= 22
    counts, edges = np.histogram(magnitude, np.arange(15, 22.5))
    slope = np.polyfit(edges[:-1], np.log10(counts), 1)[0]
    assert slope == pytest.approx(0.3, abs=0.02)


def test_what_is_dropped_is_not_written_but_listed(tmp_path: Path) -> None:
    drop = (EAST, f"{HERE}.i", f"{HERE}.z.mask", f"{HERE}.y.wt")
    truth = simulate(tmp_path, PAIR, scale=SCALE, mode="constant", drop=drop)
    found = {path.name.removeprefix(f"rings.v3.{HERE}.stk.") for path in tmp_path.glob("*.fits")}
    assert found == {
        f"{name}.fits"
        for name in (
            "r.unconv",
            "r.unconv.mask",
            "r.unconv.wt",
            "z.unconv",
            "z.unconv.wt",
            "y.unconv",
            "y.unconv.mask",
        )
    }
    assert truth.files == len(found)
    assert list(pd.read_csv(truth.selection)["NAME"]) == list(PAIR)


def test_weights_and_masks_are_optional(tmp_path: Path) -> None:
    truth = simulate(tmp_path, (HERE,), scale=SCALE, mode="constant", weights=False, masks=False, bands=("r", "y"))
    assert {path.name for path in tmp_path.glob("*.fits")} == {file(truth, HERE, band).name for band in "ry"}


def test_truth_says_in_one_sentence_what_was_made(sky: Truth, tmp_path: Path) -> None:
    text = str(sky)
    assert re.fullmatch(
        r"2 skycells in 24 files with \d+ stars and \d+ galaxies on and round them, written to .+", text
    )
    assert text.endswith(str(sky.root))
    assert repr(sky) == text
    store = simulate(tmp_path, (HERE,), scale=SCALE, mode="label", format="zarr", bands=("r",))
    assert str(store).startswith("1 skycell in 3 arrays with 0 stars and 0 galaxies")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"scale": 7}, "scale: found 7"),
        ({"rows": (3, 3)}, "rows: found 3 3, expected first < stop within 0 and 10"),
        ({"columns": (8, 11)}, "columns: found 8 11"),
        ({"projection": 3000}, "projection: found 3000"),
        ({"bands": ("r", "g")}, "bands: found r, g, expected some of r, i, z, y"),
        ({"bands": ()}, "bands: found none"),
        ({"drop": ("skycell.2246.099",)}, "drop: found 'skycell.2246.099'"),
        ({"drop": ("skycell.2246.033.g",)}, r"drop: found 'skycell.2246.033.g'"),
        ({"seed": -1}, "seed: found -1, expected 0 or more"),
        ({"stars": -5}, "stars: found -5"),
        ({"format": "jpeg"}, "format: found 'jpeg', expected one of fits, zarr"),
        ({"mode": "moon"}, "mode: found 'moon', expected one of sky, label, constant, delta"),
    ],
)
def test_options_out_of_range(words: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=message):
        simulate(tmp_path / "none", **words)
    assert not (tmp_path / "none").exists()


def test_names_that_are_no_cells(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"skycell: found 'skycell\.2246\.133'"):
        simulate(tmp_path, ("skycell.2246.133",))
