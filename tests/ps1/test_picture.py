"""Quick looks: the right pixels, on the right sky."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.io.fits import Header
from astropy.wcs import WCS
from matplotlib.figure import Figure
from numpy.typing import NDArray

import lensflow as lf
from lensflow.ps1.picture import before_after, coarse, picture
from lensflow.ps1.picture_panels import Stretch, mask_kinds, thinned_wcs
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, grid_to_sky


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.DataTree, Path]:
    out = tmp_path_factory.mktemp("two")
    cells = ("skycell.2246.033", "skycell.2246.034", "skycell.2247.033")
    words = {"scale": 40, "stars": 5, "galaxies": 0, "weights": False, "bands": ("r",)}
    source = simulate(out, cells, format="zarr", **words).source  # type: ignore[arg-type]
    tree = lf.graph("ps1_convolution")(source, scale=40, bands=("r",))
    assert isinstance(tree, xr.DataTree)
    return tree, source


def shown(figure: Figure) -> list[NDArray[np.float32]]:
    arrays = [axes.images[0].get_array() for axes in figure.axes if hasattr(axes, "wcs")]
    return [np.ma.filled(array, np.nan) for array in arrays if array is not None]


def test_a_row_of_panels_a_projection(made: tuple[xr.DataTree, Path], tmp_path: Path) -> None:
    figure = picture(made[0])
    panels = [axes for axes in figure.axes if hasattr(axes, "wcs")]
    assert len(panels) == 6
    assert [panel.get_title() for panel in panels[::3]] == [f'{n}: flux, sigma 1.5 px = 15"' for n in (2246, 2247)]
    np.testing.assert_array_equal(panels[2].images[0].get_array(), made[0]["2246"].coverage.values)
    figure.savefig(tmp_path / "a.png")


def test_before_and_after_share_their_stretch_and_their_place(made: tuple[xr.DataTree, Path], tmp_path: Path) -> None:
    tree, source = made
    figure = before_after(tree, source, scale=40, bands=("r",))
    left, right = (axes for axes in figure.axes if hasattr(axes, "wcs"))
    assert left.images[0].get_clim() == right.images[0].get_clim()
    before, after = shown(figure)
    assert before.shape == after.shape == tree["2246"].flux.shape
    assert np.nanmax(before) > np.nanmax(after)  # the blur lowers peaks
    np.testing.assert_array_equal(np.isnan(after), np.isnan(tree["2246"].flux.values))
    figure.savefig(tmp_path / "a.png")


def test_before_and_after_of_a_store_that_is_not_chunked(made: tuple[xr.DataTree, Path], tmp_path: Path) -> None:
    tree, source = made
    tree.to_zarr(tmp_path / "a.zarr", consolidated=False)
    with xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False, chunks=None) as stored:
        figure = before_after(stored, source, scale=40, bands=("r",))
    expected = before_after(tree, source, scale=40, bands=("r",))
    for found, image in zip(shown(figure), shown(expected), strict=True):
        np.testing.assert_array_equal(found, image)


def borders(axes: Any) -> dict[str, NDArray[np.float64]]:
    """Return the corners of what is there, by the names in them."""
    there = [line.get_xydata() for line in axes.lines if not line.is_dashed()]
    return {text.get_text(): corners for text, corners in zip(axes.texts, there, strict=True)}


def test_borders_of_skycells_are_where_the_sky_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: dict[str, Any] = {"scale": 40, "mode": "constant", "weights": False, "bands": ("r",)}
    cells = ("skycell.2246.033", "skycell.2246.034", "skycell.2246.043")
    simulate(tmp_path, cells, drop=cells[1:2], **words)
    made = lf.graph("ps1_convolution")(tmp_path, selection=cells, scale=40, bands=("r",))
    assert isinstance(made, xr.DataTree)
    monkeypatch.setattr("lensflow.ps1.picture.PIXELS", 90)  # so that it is thinned
    figure = picture(made)
    flux, mask, coverage = (axes for axes in figure.axes if hasattr(axes, "wcs"))
    assert set(borders(flux)) == set(borders(mask)) == set(borders(coverage)) == {"2246.033", "2246.043"}
    grid = Geometry(40).projection(2246)
    y0, x0 = grid.cell_origin(4, 3)
    edges = np.array([[x0, y0], [x0 + grid.width, y0 + grid.height]]) - 0.5  # of the pixels of the cell
    sky = np.stack(grid_to_sky(grid, *edges.T), axis=1)
    found = flux.wcs.wcs_pix2world(borders(flux)["2246.043"][[0, 2]], 0)
    np.testing.assert_allclose(found, sky, rtol=0, atol=2e-5)  # the survey rounds tangent points
    figure.savefig(tmp_path / "a.png")


def test_the_place_of_a_missing_skycell_is_dashed(tmp_path: Path) -> None:
    words: dict[str, Any] = {"scale": 40, "mode": "constant", "weights": False, "bands": ("r",)}
    cells = tuple(f"skycell.2246.03{x}" for x in (3, 4, 5))
    simulate(tmp_path, cells, drop=cells[1:2], **words)
    made = lf.graph("ps1_convolution")(tmp_path, selection=cells, scale=40, bands=("r",))
    assert isinstance(made, xr.DataTree)
    flux = picture(made).axes[0]
    dashed = {text.get_text(): line.is_dashed() for text, line in zip(flux.texts, flux.lines, strict=True)}
    assert dashed == {"2246.033": False, "2246.034": True, "2246.035": False}


@pytest.mark.parametrize("step", [2, 3, 7])
def test_coarse_pixels_are_means_of_finite_ones(step: int) -> None:
    image = np.random.default_rng(0).random((40, 53)).astype(np.float32)
    image[:14, :14] = np.nan
    image[20, 30] = np.nan
    found = coarse(da.from_array(image, chunks=(11, 17)), step).compute(scheduler="sync")
    height, width = (length // step for length in image.shape)
    pieces = image[: height * step, : width * step].reshape(height, step, width, step)
    for y in range(height):
        for x in range(width):
            piece = pieces[y, :, x]
            expected = piece[np.isfinite(piece)].mean() if np.isfinite(piece).any() else np.nan
            assert found[y, x] == pytest.approx(expected, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("mean", [False, True])
def test_thinned_wcs_points_at_the_same_sky(mean: bool) -> None:  # noqa: FBT001 - a parameter
    keys = Geometry(40).projection(2246).wcs_keys(origin=(700, 500))
    full, thin = WCS(Header(keys)), WCS(Header(thinned_wcs(keys, 5, mean=mean)))
    offset = 2 if mean else 0  # the centre of 5 pixels, or the first of them
    np.testing.assert_allclose(
        thin.wcs_pix2world(7, 9, 0), full.wcs_pix2world(7 * 5 + offset, 9 * 5 + offset, 0), rtol=0, atol=1e-10
    )


def test_the_worst_trouble_of_a_pixel_is_shown() -> None:
    mask = np.array([0, 128, 512, 32 | 512, 8 | 32, 0], np.uint16)
    empty = np.array([False, False, False, False, True, True])
    np.testing.assert_array_equal(mask_kinds(mask, empty=empty), [0, 1, 2, 3, 4, 5])


def test_a_stretch_of_an_empty_or_flat_image_works() -> None:
    for image in (np.full((4, 4), np.nan, np.float32), np.full((4, 4), 3, np.float32), np.zeros((4, 4), np.float32)):
        stretch = Stretch.of(image)
        places, labels = stretch.ticks()
        assert len(places) == len(labels)
        assert all(-1 <= place <= stretch.top for place in places)
